//! What the manifest remembers of a segment, and what a caller hands to the writer.

#![deny(clippy::indexing_slicing)]

use crate::{FieldDef, Metric, PointId};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// How segment files are read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ReadMode {
    /// Files are mapped into memory: no copies, and the page cache decides what stays. If the disk
    /// fails under a mapped page, or somebody truncates the file, the process gets a SIGBUS.
    #[default]
    Mmap,
    /// Positional reads into own memory, checked each time: slower, and every failure of the disk
    /// is an error value.
    Pread,
}

/// What all segments of a collection have in common; stands in each header, so that a file of
/// another collection is never taken for ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SegmentParams {
    /// The collection's number.
    pub(crate) collection: u32,
    /// Numbers in a vector.
    pub(crate) dim: u32,
    /// The collection's metric.
    pub(crate) metric: Metric,
}

/// One row on its way into a segment.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RowRef<'a> {
    /// The id; at most one row of a segment has it.
    pub(crate) id: &'a PointId,
    /// The LSN of the write that made this version.
    pub(crate) lsn: u64,
    /// As many numbers as the collection's dimension.
    pub(crate) vector: &'a [f32],
    /// [`akidb_index::inv_norm`] of it, which whoever has stored it need not compute again.
    pub(crate) inv_norm: f32,
    /// The metadata object as canonical JSON.
    pub(crate) metadata: &'a [u8],
}

/// What the manifest says of a segment file. The file must agree in every point.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SegmentMeta {
    /// The file number, which gives the name.
    pub(crate) number: u64,
    /// Bytes of the file.
    pub(crate) len: u64,
    /// CRC-32 of the whole file.
    pub(crate) crc32: u32,
    /// Rows.
    pub(crate) rows: u32,
    /// Deletes of ids whose older versions may lie in cold objects.
    pub(crate) deletes: u32,
    /// The lowest LSN of a row or delete; 0 if there is neither.
    pub(crate) min_lsn: u64,
    /// The highest LSN of a row or delete; 0 if there is neither.
    pub(crate) max_lsn: u64,
    /// The fields that have an index block in this file.
    pub(crate) fields: Vec<FieldDef>,
}

/// The final path of a segment.
pub(crate) fn segment_path(dir: &Path, number: u64) -> PathBuf {
    dir.join(format!("{number:012}.seg"))
}
