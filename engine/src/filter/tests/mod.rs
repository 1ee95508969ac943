//! Filters as their users meet them: JSON and limits, types, meaning against an oracle, and what
//! evaluation reads.

mod limits;
mod meaning;
mod oracle;
mod reads;
mod source;
mod syntax;
