//! The rules of the house, as tests: what may depend on what, what the embedded default may pull
//! in, how long a file may grow, and that every name in the documents still exists.
//!
//! They read the checkout and nothing else. A failure names the file and line and what to do.

mod docs;
mod manifests;
mod planted;
mod sources;
mod stack;
mod tree;
