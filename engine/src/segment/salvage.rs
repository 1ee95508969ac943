//! What a damaged segment still holds: for verification, which names the bad places, and for
//! repair, which carries the whole rows over to a new file. Never used to answer a query.
//!
//! Header, tail and footer must be whole: they hold the salt of every checksum and say where the
//! blocks lie. Of the rest, each 64 KiB stands or falls alone. The id index is not read, nor are
//! field indexes, inverse norms and all that belongs to cells: it follows from the rows.

#![deny(clippy::indexing_slicing)]

use super::{
    ReadMode, Segment, SegmentMeta, SegmentParams,
    directory::BlockKind,
    open::{Blocks, fields_of, read_structure},
    reader::whole_crc32,
    source::Source,
};
use crate::{ErrorKind, PointId, Result};
use akidb_vfs::Fs;
use std::path::Path;

/// 64 KiB (or the end of a block) that do not match their checksum.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct BadExtent {
    pub(crate) block: &'static str,
    pub(crate) offset: u64,
    pub(crate) bytes: u64,
    /// True if what it held follows from other blocks.
    pub(crate) derivable: bool,
}

/// A row that is whole.
#[derive(Clone, Debug)]
pub(crate) struct SalvagedRow {
    pub(crate) id: PointId,
    pub(crate) lsn: u64,
    pub(crate) vector: Vec<f32>,
    /// Canonical JSON.
    pub(crate) metadata: Vec<u8>,
}

/// A segment file whose structure is whole, and nothing else is trusted.
#[derive(Debug)]
pub(crate) struct SalvagedSegment {
    segment: Segment,
    params: SegmentParams,
}

impl SalvagedSegment {
    /// Opens a file by what it says of itself.
    ///
    /// # Errors
    /// Corruption if header, tail or footer are damaged; `Newer`; a failed call.
    pub(crate) fn open(fs: &dyn Fs, path: &Path) -> Result<Self> {
        let len = fs.metadata(path)?.len;
        // Never mapped: the file may be cut while it is read.
        let source = Source::open(fs, path.to_owned(), len, ReadMode::Pread)?;
        let structure = read_structure(&source)?;
        let (header, footer) = (&structure.header, &structure.footer);
        let params = header.params;
        let meta = SegmentMeta {
            number: header.number,
            len,
            crc32: whole_crc32(&source)?,
            rows: footer.rows,
            deletes: footer.deletes,
            min_lsn: footer.min_lsn,
            max_lsn: footer.max_lsn,
            fields: fields_of(footer).flatten().collect(),
        };
        let blocks = Blocks::find(&source, structure)?;
        Ok(Self { segment: Segment::unchecked(meta, params, source, blocks), params })
    }

    /// What the file says of itself, with its length and checksum as they are.
    pub(crate) fn meta(&self) -> &SegmentMeta {
        self.segment.meta()
    }

    /// The collection that the file says it belongs to.
    pub(crate) fn params(&self) -> SegmentParams {
        self.params
    }

    /// Every extent that does not match its checksum.
    pub(crate) fn bad_extents(&self) -> Result<Vec<BadExtent>> {
        let (blocks, source) = self.segment.parts();
        let mut found = Vec::new();
        for block in blocks.all() {
            let kind = block.kind();
            let derivable = kind.is_some_and(BlockKind::derivable);
            let name = kind.map_or("unknown", BlockKind::name);
            let bad = block.damaged_extents(source)?.into_iter();
            found.extend(bad.map(|(offset, bytes)| BadExtent {
                block: name,
                offset,
                bytes,
                derivable,
            }));
        }
        Ok(found)
    }

    /// The id of a row; `None` if it lies in damaged bytes.
    pub(crate) fn id(&self, row: u32) -> Result<Option<PointId>> {
        readable(self.segment.id(row))
    }

    /// The LSN of a row; `None` if it lies in damaged bytes.
    pub(crate) fn lsn(&self, row: u32) -> Result<Option<u64>> {
        readable(self.segment.lsn(row))
    }

    /// A whole row; `None` if any part of it lies in damaged bytes.
    pub(crate) fn row(&self, row: u32) -> Result<Option<SalvagedRow>> {
        let whole = || {
            let segment = &self.segment;
            // Parsed too: what cannot be read back must not be written again.
            segment.metadata(row)?;
            Ok(SalvagedRow {
                id: segment.id(row)?,
                lsn: segment.lsn(row)?,
                vector: segment.vectors(row, 1)?.to_vec(),
                metadata: segment.metadata_json(row)?.into_owned(),
            })
        };
        readable(whole())
    }

    /// The deletes with their LSNs; `None` if the list is damaged.
    pub(crate) fn deletes(&self) -> Result<Option<Vec<(PointId, u64)>>> {
        readable(self.segment.deletes())
    }
}

/// Damage is an answer here; a failed call is not.
fn readable<T>(result: Result<T>) -> Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.kind() == ErrorKind::Corruption => Ok(None),
        Err(error) => Err(error),
    }
}
