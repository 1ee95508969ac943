//! Conditions over metadata: the tree a caller builds, its JSON form, and how it is answered.
//!
//! [`Filter`] is plain data, built with [`field`] or read from JSON. Before it is used it is
//! checked against the collection's schema and compiled ([`CompiledFilter`]); a compiled filter
//! answers for one row ([`CompiledFilter::matches`]) or for all rows of a part of the collection
//! at once ([`evaluate`]), by field indexes where they exist and by reading metadata where not.
//! Both give the same rows. Search, count, scan and delete-by-filter call it.
//!
//! This module never does I/O (a [`RowSource`] reads for it), never knows where rows live, and
//! never logs a filter: verbs that write resolve it to row ids first.
//!
//! What each condition means is documented on [`Filter`], for its users.

mod answer;
mod builder;
mod compare;
mod compile;
mod evaluate;
mod json;
mod literal;
mod remembered;
mod tree;

#[cfg(test)]
mod tests;

pub(crate) use answer::Answer;
pub use builder::{FieldRef, field};
pub(crate) use compile::CompiledFilter;
pub(crate) use evaluate::{Evaluated, RowSource, evaluate};
pub use evaluate::{FilterStep, FilterStrategy};
pub(crate) use remembered::Remembered;
pub use tree::{FILTER_CONDITIONS_MAX, FILTER_DEPTH_MAX, Filter, FilterValue};
