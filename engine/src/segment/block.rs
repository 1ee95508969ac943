//! One block of an open segment, whose bytes come out checked.
//!
//! A mapped extent is checked when it is first touched, and remembered; a mapped page that the
//! system drops and reads again from a disk gone bad is noticed only by [`Block::verify`]. An
//! extent that was read into own memory is checked each time it is read; the last one is kept, so
//! that going row by row does not read each extent a thousand times.
//!
//! # Invariants
//! - No byte leaves [`Block::bytes`] before its extent's checksum was compared.

#![deny(clippy::indexing_slicing)]

use super::{
    directory::{BlockEntry, BlockKind},
    format::{EXTENT, extent_crc},
    items,
    source::{AlignedBuf, Bytes, Source},
};
use crate::{Error, Result};
use akidb_vfs::planted;
use parking_lot::Mutex;
use std::{
    ops::Range,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

const MISMATCH: &str = "these 64 KiB do not match their checksum";

/// A block of a segment; the reader passes the source to each call.
pub(super) struct Block {
    kind: u16,
    salt: u64,
    offset: u64,
    len: u64,
    items: u64,
    crcs: Box<[u32]>,
    /// One bit per extent that was found good in the map.
    checked: Box<[AtomicU64]>,
    last_read: Mutex<Option<(u64, Arc<AlignedBuf>)>>,
}

impl Block {
    pub(super) fn new(entry: BlockEntry, salt: u64) -> Self {
        let words = entry.crcs.len().div_ceil(64);
        Self {
            kind: entry.kind,
            salt,
            offset: entry.offset,
            len: entry.len,
            items: entry.items,
            crcs: entry.crcs.into_boxed_slice(),
            checked: (0..words).map(|_| AtomicU64::new(0)).collect(),
            last_read: Mutex::new(None),
        }
    }

    /// Bytes of the block.
    pub(super) fn len(&self) -> u64 {
        self.len
    }

    pub(super) fn items(&self) -> u64 {
        self.items
    }

    /// Damage at a place of this block.
    pub(super) fn damage(&self, source: &Source, at: u64, detail: &str) -> Error {
        let offset = self.offset.saturating_add(at);
        let name = BlockKind::from_code(self.kind).map_or("unknown", BlockKind::name);
        Error::corruption(source.path(), offset, format!("{name} block: {detail}"))
    }

    /// Checked bytes of the block, counted from its start.
    ///
    /// # Errors
    /// Corruption if an extent under the range is damaged; a bug if the range leaves the block.
    pub(super) fn bytes<'a>(&self, source: &'a Source, range: Range<u64>) -> Result<Bytes<'a>> {
        let outside = || Error::bug("a range leaves its segment block");
        if range.start > range.end || range.end > self.len {
            return Err(outside());
        }
        if range.is_empty() {
            // Even no numbers must be aligned to be cast, which an empty byte array is not.
            return Ok(Bytes::Mapped(bytemuck::cast_slice::<u64, u8>(&[])));
        }
        let extents = range.start / EXTENT..range.end.div_ceil(EXTENT);
        let base = extents.start * EXTENT;
        let bytes = if source.is_mapped() {
            self.mapped(source, extents)?
        } else {
            self.read(source, extents)?
        };
        let start = usize::try_from(range.start - base).map_err(|_| outside())?;
        let end = usize::try_from(range.end - base).map_err(|_| outside())?;
        bytes.slice(start..end).ok_or_else(outside)
    }

    /// The whole block, checked.
    pub(super) fn all<'a>(&self, source: &'a Source) -> Result<Bytes<'a>> {
        self.bytes(source, 0..self.len)
    }

    /// Copies the whole block, checked, an extent at a time: a block that is read, not mapped, is
    /// never in memory twice.
    ///
    /// # Errors
    /// As [`Self::bytes`]; a bug if `into` has another length.
    pub(super) fn copy_to(&self, source: &Source, into: &mut [u8]) -> Result<()> {
        if into.len() as u64 != self.len {
            return Err(Error::bug("a copy of a block has another length"));
        }
        let extent = usize::try_from(EXTENT).expect("an extent fits memory");
        for (chunk, start) in into.chunks_mut(extent).zip((0..).step_by(extent)) {
            chunk.copy_from_slice(&self.bytes(source, start..start + chunk.len() as u64)?);
        }
        Ok(())
    }

    /// One byte string of a block that is a list of them.
    pub(super) fn item<'a>(&self, source: &'a Source, index: u64) -> Result<Bytes<'a>> {
        let at = index * items::OFFSET_LEN;
        let pair = self.bytes(source, at..at + 2 * items::OFFSET_LEN)?;
        let place = match pair.as_chunks().0 {
            [start, end] => {
                let pair = [u64::from_le_bytes(*start), u64::from_le_bytes(*end)];
                items::range(pair, self.items, self.len)
            }
            _ => None,
        };
        let place =
            place.ok_or_else(|| self.damage(source, at, "an item's place is impossible"))?;
        self.bytes(source, place)
    }

    /// Checks every extent again, whatever was checked before.
    pub(super) fn verify(&self, source: &Source) -> Result<()> {
        match self.first_damage(source)? {
            None => Ok(()),
            Some(offset) => Err(self.damage(source, offset - self.offset, MISMATCH)),
        }
    }

    /// The file offset of the first extent that does not match its checksum.
    pub(super) fn first_damage(&self, source: &Source) -> Result<Option<u64>> {
        for extent in 0..self.crcs.len() as u64 {
            let bytes = self.unchecked(source, extent..extent + 1)?;
            if !self.matches(extent, &bytes) {
                return Ok(Some(self.offset + extent * EXTENT));
            }
        }
        Ok(None)
    }

    /// What the block holds.
    pub(super) fn kind(&self) -> Option<BlockKind> {
        BlockKind::from_code(self.kind)
    }

    /// Offset and length in the file of every extent that does not match its checksum.
    pub(super) fn damaged_extents(&self, source: &Source) -> Result<Vec<(u64, u64)>> {
        let mut damaged = Vec::new();
        for extent in 0..self.crcs.len() as u64 {
            let bytes = self.unchecked(source, extent..extent + 1)?;
            if !self.matches(extent, &bytes) {
                damaged.push((self.offset + extent * EXTENT, bytes.len() as u64));
            }
        }
        Ok(damaged)
    }

    fn unchecked<'a>(&self, source: &'a Source, extents: Range<u64>) -> Result<Bytes<'a>> {
        let start = extents.start * EXTENT;
        let end = (extents.end * EXTENT).min(self.len);
        source.read(self.offset + start, end - start)
    }

    fn matches(&self, extent: u64, bytes: &[u8]) -> bool {
        let crc = usize::try_from(extent).ok().and_then(|extent| self.crcs.get(extent));
        crc == Some(&extent_crc(self.salt, self.offset + extent * EXTENT, bytes))
            || planted("segment.block-checksum-ignored")
    }

    fn check(&self, source: &Source, extent: u64, bytes: &[u8]) -> Result<()> {
        if self.matches(extent, bytes) {
            Ok(())
        } else {
            Err(self.damage(source, extent * EXTENT, MISMATCH))
        }
    }

    fn mapped<'a>(&self, source: &'a Source, extents: Range<u64>) -> Result<Bytes<'a>> {
        for extent in extents.clone() {
            let (word, bit) = (usize::try_from(extent / 64).ok(), 1_u64 << (extent % 64));
            let word = word.and_then(|word| self.checked.get(word));
            let word = word.ok_or_else(|| Error::bug("an extent without a checksum"))?;
            // Relaxed: the bit says something of immutable bytes, and guards no other memory.
            if word.load(Ordering::Relaxed) & bit == 0 {
                let bytes = self.unchecked(source, extent..extent + 1)?;
                self.check(source, extent, &bytes)?;
                word.fetch_or(bit, Ordering::Relaxed);
            }
        }
        self.unchecked(source, extents)
    }

    fn read(&self, source: &Source, extents: Range<u64>) -> Result<Bytes<'static>> {
        let single = extents.end - extents.start == 1;
        if single
            && let Some((extent, buffer)) = &*self.last_read.lock()
            && *extent == extents.start
        {
            return Ok(Bytes::whole(buffer.clone()));
        }
        let first = extents.start;
        let Bytes::Owned { buffer, .. } = self.unchecked(source, extents.clone())? else {
            return Err(Error::bug("a segment in pread mode was mapped"));
        };
        let size = usize::try_from(EXTENT).expect("an extent fits memory");
        for (extent, part) in extents.zip(buffer.chunks(size)) {
            self.check(source, extent, part)?;
        }
        if single {
            *self.last_read.lock() = Some((first, buffer.clone()));
        }
        Ok(Bytes::whole(buffer))
    }
}
