//! What `inspect` says of a segment file, read without a manifest and without trust: structure
//! that does not check out is an error, damaged data is part of the answer.

#![deny(clippy::indexing_slicing)]

use super::{
    ReadMode,
    block::Block,
    directory::BlockKind,
    format::EXTENT,
    open::{fields_of, read_structure},
    source::Source,
};
use crate::{FieldDef, Metric, Result};
use akidb_vfs::Fs;
use serde::Serialize;
use std::path::{Path, PathBuf};

/// A segment file in words and numbers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct SegmentDescription {
    /// The file.
    pub file: PathBuf,
    /// Its length in bytes.
    pub bytes: u64,
    /// The format version.
    pub version: u32,
    /// The file number.
    pub number: u64,
    /// The number of the collection that it belongs to.
    pub collection: u32,
    /// Numbers in a vector.
    pub dim: u32,
    /// The collection's metric.
    pub metric: Metric,
    /// The salt of the checksums, as 16 hexadecimal digits.
    pub salt: String,
    /// Rows, deleted ones included.
    pub rows: u32,
    /// Deletes of ids that may lie in cold objects.
    pub deletes: u32,
    /// The lowest LSN in the file; 0 if it is empty.
    pub min_lsn: u64,
    /// The highest LSN in the file; 0 if it is empty.
    pub max_lsn: u64,
    /// The fields that have an index here.
    pub fields: Vec<FieldDef>,
    /// The blocks in the order in which they lie.
    pub blocks: Vec<BlockDescription>,
}

/// One block of a segment file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct BlockDescription {
    /// What it holds, or `unknown (N)` for an optional kind of a newer writer.
    pub kind: String,
    /// The field of a field index, else empty.
    pub name: String,
    /// Where it starts.
    pub offset: u64,
    /// Its length in bytes.
    pub bytes: u64,
    /// Rows, deletes or table slots.
    pub items: u64,
    /// Parts of 64 KiB with a checksum each.
    pub extents: u64,
    /// Where the first damage was found; `None` if every checksum is right.
    pub damaged_at: Option<u64>,
}

/// Describes a segment file and checks every extent of it.
///
/// # Errors
/// Corruption if header, footer or tail are damaged or the file is not a segment; `Newer`; a
/// failed call.
pub(crate) fn describe(fs: &dyn Fs, path: &Path) -> Result<SegmentDescription> {
    let bytes = fs.metadata(path)?.len;
    let source = Source::open(fs, path.to_owned(), bytes, ReadMode::Pread)?;
    let structure = read_structure(&source)?;
    let (header, footer) = (structure.header, structure.footer);
    let fields = fields_of(&footer).flatten().collect();
    let mut blocks = Vec::with_capacity(footer.blocks.len());
    for entry in footer.blocks {
        let kind = BlockKind::from_code(entry.kind);
        let unknown = || format!("unknown ({})", entry.kind);
        let mut description = BlockDescription {
            kind: kind.map_or_else(unknown, |kind| kind.name().to_owned()),
            name: entry.name.clone(),
            offset: entry.offset,
            bytes: entry.len,
            items: entry.items,
            extents: entry.len.div_ceil(EXTENT),
            damaged_at: None,
        };
        description.damaged_at = Block::new(entry, header.salt).first_damage(&source)?;
        blocks.push(description);
    }
    Ok(SegmentDescription {
        file: path.to_owned(),
        bytes,
        version: header.version,
        number: header.number,
        collection: header.params.collection,
        dim: header.params.dim,
        metric: header.params.metric,
        salt: format!("{:016x}", header.salt),
        rows: footer.rows,
        deletes: footer.deletes,
        min_lsn: footer.min_lsn,
        max_lsn: footer.max_lsn,
        fields,
        blocks,
    })
}
