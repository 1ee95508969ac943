//! Indexes over metadata fields: which rows hold which value.
//!
//! One index covers one field of one part of a collection. [`MemFieldIndex`] grows with a
//! memtable or while a segment is built; [`encode`](MemFieldIndex::encode) turns it into the
//! block that a segment carries, and [`FieldIndexView`] answers from those bytes where they lie.
//! [`FieldIndex`] is either of them. All answer a [`Query`] with the bitmap of matching rows, and
//! `filter` is their only caller.
//!
//! The module never reads metadata on its own, never knows which rows are alive (the caller
//! intersects), and never does I/O.
//!
//! # Invariants
//!
//! - What an index holds of a value is decided in one place, `value::extract`, which also
//!   decides the answer for a single row ([`Query::accepts`]). An index and a scan therefore
//!   agree on every row.
//! - Bytes of a block are never trusted: each offset, count and row is checked before it is
//!   used, and damage is a [`FieldIndexError`], not a panic.
//!
//! The bytes are specified in `docs/format/field-index.md`.

#![deny(clippy::indexing_slicing)]

mod format;
mod mem;
mod query;
mod rows;
mod value;
mod view;

#[cfg(test)]
mod tests;

pub(crate) use mem::MemFieldIndex;
pub(crate) use query::Query;
pub(crate) use value::{bool_key, float_key, timestamp_micros, whole_number};
pub(crate) use view::FieldIndexView;

use crate::FieldType;
use roaring::RoaringBitmap;

/// Damage in the block of a field index.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("field index damaged at byte {offset} of its block: {detail}")]
pub(crate) struct FieldIndexError {
    /// The first bad byte that is known, counted from the start of the block.
    pub(crate) offset: u64,
    /// What is wrong there.
    pub(crate) detail: &'static str,
}

/// The index of one field, in whichever form the part of the collection has it.
#[derive(Debug)]
pub(crate) enum FieldIndex<'a> {
    /// Of a memtable.
    Mem(&'a MemFieldIndex),
    /// Of a segment.
    Block(FieldIndexView<'a>),
}

impl FieldIndex<'_> {
    /// The type of the values that are indexed.
    pub(crate) fn field_type(&self) -> FieldType {
        match self {
            Self::Mem(index) => index.field_type(),
            Self::Block(view) => view.field_type(),
        }
    }

    /// The rows that match.
    ///
    /// # Errors
    ///
    /// Only a block can be damaged.
    pub(crate) fn query(&self, query: &Query) -> Result<RoaringBitmap, FieldIndexError> {
        match self {
            Self::Mem(index) => Ok(index.query(query)),
            Self::Block(view) => view.query(query),
        }
    }
}
