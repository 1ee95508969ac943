//! Reading a segment: rows by number, ids by hash, whole runs of vectors.
//!
//! Every byte that leaves here was checked against its checksum (see [`super::block`]), and every
//! number read from the file was checked against the file's own limits before it was used. A row
//! number at or above [`Segment::rows`] is the caller's bug and answered as one. All methods take
//! `&self` and may be called from any number of threads.

#![deny(clippy::indexing_slicing)]

use super::{
    CellTable, ReadMode, SegmentMeta, SegmentParams,
    block::Block,
    hot::HotCodes,
    id_index, items,
    meta::segment_path,
    open::{Blocks, compare, read_structure},
    source::{Bytes, Source},
};
use crate::{Error, Metadata, PointId, Result};
use akidb_vfs::Fs;
use parking_lot::RwLock;
use std::{
    borrow::Cow,
    fmt,
    ops::Deref,
    path::Path,
    sync::{Arc, OnceLock},
};

/// What a scrub reads at a time.
const SCRUB_CHUNK: u64 = 1 << 20;

/// An open, immutable segment.
pub(crate) struct Segment {
    meta: SegmentMeta,
    params: SegmentParams,
    source: Source,
    blocks: Blocks,
    /// In `Pread` mode the id index stays in memory: a lookup must not read 64 KiB.
    resident_index: Option<Bytes<'static>>,
    /// What the blocks of cells say, once somebody asked; see [`super::cells`].
    pub(super) cell_table: OnceLock<CellTable>,
    /// The codes in memory, while the segment is hot; see [`super::hot`].
    pub(super) hot: RwLock<Option<Arc<HotCodes>>>,
}

impl fmt::Debug for Segment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Segment")
            .field("path", &self.source.path())
            .field("rows", &self.meta.rows)
            .finish_non_exhaustive()
    }
}

/// Consecutive `f32`s of a segment: in the map, or in own memory.
#[derive(Debug)]
pub(crate) struct VectorSlab<'a>(Bytes<'a>);

impl<'a> VectorSlab<'a> {
    fn new(bytes: Bytes<'a>) -> Result<Self> {
        match bytemuck::try_cast_slice::<u8, f32>(&bytes) {
            Ok(_) => Ok(Self(bytes)),
            Err(_) => Err(Error::bug("a segment's numbers are not aligned in memory")),
        }
    }
}

impl Deref for VectorSlab<'_> {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        // Cannot panic: `new` has done the same cast of the same bytes.
        bytemuck::cast_slice(&self.0)
    }
}

impl Segment {
    /// Opens the file that `meta` describes, for the collection that `params` describes.
    ///
    /// # Errors
    /// Corruption if the file is gone, has another length, another number, another collection, or
    /// any of its structure is damaged; `Newer` if a newer binary wrote it; a failed call.
    pub(crate) fn open(
        fs: &dyn Fs,
        dir: &Path,
        meta: &SegmentMeta,
        params: SegmentParams,
        mode: ReadMode,
    ) -> Result<Self> {
        let source = Source::open(fs, segment_path(dir, meta.number), meta.len, mode)?;
        let structure = read_structure(&source)?;
        compare(&source, &structure, meta, params)?;
        let blocks = Blocks::resolve(&source, structure)?;
        let resident_index = match blocks.id_index.all(&source)? {
            Bytes::Owned { buffer, .. } => Some(Bytes::whole(buffer)),
            Bytes::Mapped(_) => None,
        };
        let (cell_table, hot) = (OnceLock::new(), RwLock::default());
        Ok(Self { meta: meta.clone(), params, source, blocks, resident_index, cell_table, hot })
    }

    /// A segment of blocks that nobody checked; see [`super::salvage`].
    pub(super) fn unchecked(
        meta: SegmentMeta,
        params: SegmentParams,
        source: Source,
        blocks: Blocks,
    ) -> Self {
        let (cell_table, hot) = (OnceLock::new(), RwLock::default());
        Self { meta, params, source, blocks, resident_index: None, cell_table, hot }
    }

    /// The blocks and where they are read from.
    pub(super) fn parts(&self) -> (&Blocks, &Source) {
        (&self.blocks, &self.source)
    }

    /// What all segments of the collection have in common.
    pub(crate) fn params(&self) -> SegmentParams {
        self.params
    }

    /// What the manifest says of this file.
    pub(crate) fn meta(&self) -> &SegmentMeta {
        &self.meta
    }

    /// The file.
    pub(crate) fn path(&self) -> &Path {
        self.source.path()
    }

    /// Rows, deleted ones included.
    pub(crate) fn rows(&self) -> u32 {
        self.meta.rows
    }

    /// The id of a row.
    pub(crate) fn id(&self, row: u32) -> Result<PointId> {
        self.check_rows(row, 1)?;
        let bytes = self.blocks.ids.item(&self.source, u64::from(row))?;
        PointId::decode(&bytes).ok_or_else(|| {
            let at = u64::from(row) * items::OFFSET_LEN;
            self.blocks.ids.damage(&self.source, at, "a row's id is not an id")
        })
    }

    /// The LSN of the write that made a row.
    pub(crate) fn lsn(&self, row: u32) -> Result<u64> {
        self.check_rows(row, 1)?;
        let at = u64::from(row) * 8;
        let bytes = self.blocks.lsns.bytes(&self.source, at..at + 8)?;
        let bytes = bytes.as_array().ok_or_else(|| Error::bug("8 bytes are not 8 bytes"))?;
        Ok(u64::from_le_bytes(*bytes))
    }

    /// The vectors of `count` rows from `first`, one after the other.
    pub(crate) fn vectors(&self, first: u32, count: u32) -> Result<VectorSlab<'_>> {
        self.numbers(&self.blocks.vectors, first, count, u64::from(self.params.dim))
    }

    /// The vector of one row: borrowed where the file is mapped.
    pub(crate) fn vector(&self, row: u32) -> Result<Cow<'_, [f32]>> {
        let slab = self.vectors(row, 1)?;
        Ok(match slab.0 {
            Bytes::Mapped(bytes) => Cow::Borrowed(bytemuck::cast_slice(bytes)),
            Bytes::Owned { .. } => Cow::Owned(slab.to_vec()),
        })
    }

    /// The inverse lengths of the vectors of `count` rows from `first`; 0 for a zero vector.
    pub(crate) fn inv_norms(&self, first: u32, count: u32) -> Result<VectorSlab<'_>> {
        self.numbers(&self.blocks.inv_norms, first, count, 1)
    }

    fn numbers(&self, block: &Block, first: u32, count: u32, width: u64) -> Result<VectorSlab<'_>> {
        self.check_rows(first, count)?;
        let (start, len) = (u64::from(first) * width * 4, u64::from(count) * width * 4);
        VectorSlab::new(block.bytes(&self.source, start..start + len)?)
    }

    /// The metadata of a row, as the canonical JSON that was written.
    pub(crate) fn metadata_json(&self, row: u32) -> Result<Cow<'_, [u8]>> {
        self.check_rows(row, 1)?;
        Ok(cow(self.blocks.metadata.item(&self.source, u64::from(row))?))
    }

    /// The metadata of a row.
    pub(crate) fn metadata(&self, row: u32) -> Result<Metadata> {
        let json = self.metadata_json(row)?;
        serde_json::from_slice(&json).map_err(|error| {
            let at = u64::from(row) * items::OFFSET_LEN;
            let detail = format!("the metadata of row {row} is not a JSON object: {error}");
            self.blocks.metadata.damage(&self.source, at, &detail)
        })
    }

    /// The row that has this id, deleted or not.
    pub(crate) fn find(&self, id: &PointId) -> Result<Option<u32>> {
        let encoded = id.encode();
        let table = match &self.resident_index {
            Some(resident) => Bytes::Mapped(resident),
            None => self.blocks.id_index.all(&self.source)?,
        };
        for row in id_index::candidates(&table, PointId::hash64(&encoded)) {
            if *self.blocks.ids.item(&self.source, u64::from(row))? == *encoded {
                return Ok(Some(row));
            }
        }
        Ok(None)
    }

    /// The deletes with their LSNs, in the order in which they were pushed.
    pub(crate) fn deletes(&self) -> Result<Vec<(PointId, u64)>> {
        let block = &self.blocks.deletes;
        let bytes = block.all(&self.source)?;
        let damage = || block.damage(&self.source, 0, "the list of deletes is impossible");
        let lsns_len = block.items().checked_mul(8).and_then(|len| usize::try_from(len).ok());
        let (lsns, list) =
            lsns_len.and_then(|len| bytes.split_at_checked(len)).ok_or_else(damage)?;
        let ids = items::split(list, block.items()).ok_or_else(damage)?;
        ids.into_iter()
            .zip(lsns.as_chunks().0)
            .map(|(id, lsn)| Some((PointId::decode(id)?, u64::from_le_bytes(*lsn))))
            .collect::<Option<_>>()
            .ok_or_else(damage)
    }

    /// The encoded index of a field; `None` if the field has no index in this segment.
    pub(crate) fn field_block(&self, name: &str) -> Result<Option<Cow<'_, [u8]>>> {
        match self.blocks.fields.iter().find(|(field, _)| field == name) {
            Some((_, block)) => Ok(Some(cow(block.all(&self.source)?))),
            None => Ok(None),
        }
    }

    /// Damage at a byte of a field's index.
    pub(crate) fn field_damage(&self, name: &str, at: u64, detail: &str) -> Error {
        match self.blocks.fields.iter().find(|(field, _)| field == name) {
            Some((_, block)) => block.damage(&self.source, at, detail),
            None => Error::bug("a field without an index has a damaged one"),
        }
    }

    /// Reads every byte of the file: each extent against its checksum, so that damage is located,
    /// then the whole file against the manifest's, which covers the bytes between the blocks.
    pub(crate) fn verify(&self) -> Result<()> {
        for block in self.blocks.all() {
            block.verify(&self.source)?;
        }
        if whole_crc32(&self.source)? == self.meta.crc32 {
            Ok(())
        } else {
            let detail = "the file as a whole does not match the manifest's checksum";
            Err(Error::corruption(self.path(), 0, detail))
        }
    }

    fn check_rows(&self, first: u32, count: u32) -> Result<()> {
        match first.checked_add(count) {
            Some(end) if end <= self.meta.rows => Ok(()),
            _ => Err(Error::bug("a row number leaves its segment")),
        }
    }
}

/// The checksum of the whole file.
pub(super) fn whole_crc32(source: &Source) -> Result<u32> {
    let mut hasher = crc32fast::Hasher::new();
    let mut at = 0;
    while at < source.len() {
        let len = SCRUB_CHUNK.min(source.len() - at);
        hasher.update(&source.read(at, len)?);
        at += len;
    }
    Ok(hasher.finalize())
}

fn cow(bytes: Bytes<'_>) -> Cow<'_, [u8]> {
    match bytes {
        Bytes::Mapped(bytes) => Cow::Borrowed(bytes),
        owned @ Bytes::Owned { .. } => Cow::Owned(owned.to_vec()),
    }
}
