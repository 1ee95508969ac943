//! Cold objects: rows as one plain Parquet file, for the object store.
//!
//! Owns the format of `docs/format/cold.md`, both ways. Must never touch a store or a file: it
//! turns rows into bytes and bytes into rows; `maintenance` puts, gets and verifies the objects.
//!
//! # Invariants
//! - An ordinary Parquet reader sees a plain table: `id`, `id_kind`, `vector`, `lsn`, one typed
//!   column per indexed field, `metadata`.
//! - What is decoded equals what was encoded, exactly: ids with their kind, vectors to the bit,
//!   metadata to the JSON value ([`values`]).
//! - Whatever the bytes are, decoding gives an error or the exact rows: each row group is covered
//!   by a checksum of its *decoded* values ([`checksum`]), the key-values by one of their own
//!   ([`footer`]), and a panic of the Parquet reader is turned into an error ([`guard`]).

mod checksum;
mod chunks;
mod columns;
mod decode;
mod describe;
mod encode;
mod footer;
pub(crate) mod guard;
mod ranged;
#[cfg(feature = "testing")]
pub(crate) mod reseal;
mod salvage;
mod values;

#[cfg(test)]
mod tests;

pub(crate) use chunks::{EncodedChunks, Totals};
pub(crate) use decode::{ColdReader, RowGroups};
pub(crate) use describe::describe;
pub(crate) use encode::encode;
pub(crate) use ranged::{ColdRanges, Window, footer_bytes};
pub(crate) use salvage::Stated;
pub(crate) use values::timestamp_text;

use crate::{Metadata, PointId, Schema};
use uuid::Uuid;

/// The version of the format that is written, and the newest that is read.
const FORMAT_VERSION: u32 = 1;
/// A row group ends at this many rows: small enough to decode at once, large enough to scan fast.
const GROUP_ROWS_MAX: usize = 8192;
/// A row group also ends at about this many bytes, which keeps every Arrow offset within 32 bits.
const GROUP_BYTES_MAX: usize = 64 << 20;

/// A row to encode.
#[derive(Clone, Debug)]
pub(crate) struct ColdRow {
    pub(crate) id: PointId,
    pub(crate) lsn: u64,
    /// Of the schema's dimension.
    pub(crate) vector: Vec<f32>,
    pub(crate) metadata: Metadata,
}

/// What an object says about where it comes from.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ColdContext<'a> {
    pub(crate) database: Uuid,
    /// The collection's number.
    pub(crate) collection: u32,
    pub(crate) schema: &'a Schema,
    /// How many rows come: with few, not every column is compressed.
    pub(crate) rows: u64,
}
