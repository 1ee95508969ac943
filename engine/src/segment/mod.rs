//! Segments: immutable sets of rows on local disk, one file each.
//!
//! Owns the file format (`docs/format/segment.md`), the writer that makes a file durable before
//! anybody can name it, and the reader that never trusts a byte it has not checked. Must never
//! change a file once it has its final name, and knows nothing of manifests, tombstones or what a
//! field index means: those blocks are opaque bytes here. Rows that lie in cells (`ivf`) are written with
//! their codes. Called by flush, compaction, promotion
//! and restore (writer), and by everything that reads a collection (reader).
//!
//! # Protocol
//! 1. [`SegmentWriter`] streams to `NNNNNNNNNNNN.seg.tmp`.
//! 2. `finish` writes footer and tail, syncs the file, renames it to `NNNNNNNNNNNN.seg`, syncs the
//!    directory, and returns the [`SegmentMeta`] that the caller puts into the manifest.
//! 3. [`Segment::open`] compares the file with that [`SegmentMeta`] before it maps anything.
//!
//! # Crash consistency
//! A crash before the rename leaves a temporary file; after it, a complete file that no manifest
//! names. Both are strays, which recovery reports. A name without `.tmp` is always a whole file.

mod block;
mod cells;
mod codes;
mod describe;
mod directory;
mod format;
mod hot;
mod id_index;
mod items;
mod meta;
mod open;
mod reader;
mod run;
mod salvage;
mod sink;
mod source;
mod writer;

#[cfg(test)]
pub(crate) mod tests;

pub(crate) use cells::{CellTable, FineCodes};
pub(crate) use codes::{CellPlan, Look, RowCodes, cell_blocks_len};
pub(crate) use describe::describe;
pub use describe::{BlockDescription, SegmentDescription};
pub(crate) use format::HEADER_MAGIC as MAGIC;
pub(crate) use hot::Codes;
pub use meta::ReadMode;
pub(crate) use meta::{RowRef, SegmentMeta, SegmentParams, segment_path};
pub(crate) use reader::Segment;
pub(crate) use run::Run;
pub(crate) use salvage::SalvagedSegment;
pub(crate) use writer::SegmentWriter;

// Blocks are reinterpreted in place as numbers, which is right only where memory is little-endian.
const _: () = assert!(cfg!(target_endian = "little"), "segments need a little-endian target");
