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
//! # Meaning
//!
//! - A field is a top-level key of the metadata object.
//! - A comparison with an absent field, with `null`, or with a value of another type is false.
//! - `ne` is "not `eq`": it is true of rows without the field.
//! - `exists` is true if the key is there with a value that is not `null`, of whatever type.
//! - `eq`, `ne`, `in` and ranges look at single values and never into a list; `contains` looks
//!   only at the strings in a list.
//! - Strings order by their bytes. Booleans have no order: a range never matches one.
//! - An empty `and` matches every row, an empty `or` and an empty `in` none.
//!
//! On a field that the schema indexes, the declared type decides; a value of another type
//! matches no comparison, only `exists`:
//!
//! - *integer*: whole numbers that fit 64 signed bits, also when written `3.0`. Literals are
//!   compared exactly: `eq 2.5` matches nothing, `gt 2.5` begins at 3.
//! - *float*: value and literal are taken as the nearest 64-bit float, so two whole numbers
//!   beyond 2^53 can be equal there. `-0.0` equals `0.0`.
//! - *timestamp*: RFC 3339 strings as instants in microseconds; further digits are dropped on
//!   both sides. `2026-01-01T00:00:00Z` equals `2026-01-01T01:00:00+01:00`.
//! - *keyword* and *bool*: as above.
//!
//! On any other field the literal decides the type, and numbers compare by their exact value:
//! 2^53 + 1 is not 2^53 even if one of them is written as a float.

mod builder;
mod compare;
mod compile;
mod evaluate;
mod json;
mod literal;
mod tree;

pub use builder::{FieldRef, field};
pub(crate) use compile::CompiledFilter;
pub(crate) use evaluate::{Evaluated, RowSource, evaluate};
pub use evaluate::{FilterStep, FilterStrategy};
pub use tree::{FILTER_CONDITIONS_MAX, FILTER_DEPTH_MAX, Filter, FilterValue};
