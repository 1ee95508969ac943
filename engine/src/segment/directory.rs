//! The block directory of a segment, which is the body of its footer: what blocks there are, where
//! they lie, and the checksum of each 64 KiB of them.
//!
//! Decoding takes bytes that may lie, though their checksum matched: places and lengths are checked
//! before anything is computed or allocated from them. Called by the writer, the reader and
//! `describe`.
//!
//! # Invariants
//! - Blocks lie in order, apart, aligned, between header and footer ([`Footer::decode`]).

#![deny(clippy::indexing_slicing)]

use super::format::{ALIGN, ALIGN_VECTORS, EXTENT, Flaw, HEADER_LEN, ROWS_MAX, VERSION};
use crate::{FieldType, cursor::Cursor};

const FLAG_OPTIONAL: u16 = 1;

/// The `detail` of a field index block.
pub(super) fn field_type_code(field_type: FieldType) -> u16 {
    match field_type {
        FieldType::Keyword => 1,
        FieldType::Integer => 2,
        FieldType::Float => 3,
        FieldType::Bool => 4,
        FieldType::Timestamp => 5,
    }
}

/// The field type of a `detail`.
pub(super) fn field_type_of(code: u16) -> Option<FieldType> {
    use FieldType::{Bool, Float, Integer, Keyword, Timestamp};
    [Keyword, Integer, Float, Bool, Timestamp].into_iter().find(|t| field_type_code(*t) == code)
}

/// What a block holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BlockKind {
    /// `f32`, row after row.
    Vectors,
    /// One `f32` per row.
    InvNorms,
    /// Items: the byte form of each row's id.
    Ids,
    /// Hash table from id to row.
    IdIndex,
    /// One `u64` per row.
    Lsns,
    /// Items: canonical JSON of each row's metadata.
    Metadata,
    /// Opaque here; named for its field.
    FieldIndex,
    /// One `u64` LSN per delete, then items: the ids.
    Deletes,
    /// What the rows are ordered by; see `ivf`.
    Codebook,
    /// Where each cell begins.
    Cells,
    /// One-bit codes in blocks of 32 rows.
    Codes,
    /// Eight-bit codes, row after row.
    FineCodes,
    /// Three `f32` per row: the factors of its eight-bit code.
    FineFactors,
    /// How many cells a recall takes.
    Calibration,
}

impl BlockKind {
    const ALL: [Self; 14] = [
        Self::Vectors,
        Self::InvNorms,
        Self::Ids,
        Self::IdIndex,
        Self::Lsns,
        Self::Metadata,
        Self::FieldIndex,
        Self::Deletes,
        Self::Codebook,
        Self::Cells,
        Self::Codes,
        Self::FineCodes,
        Self::FineFactors,
        Self::Calibration,
    ];

    pub(super) const fn code(self) -> u16 {
        match self {
            Self::Vectors => 1,
            Self::InvNorms => 2,
            Self::Ids => 3,
            Self::IdIndex => 4,
            Self::Lsns => 5,
            Self::Metadata => 6,
            Self::FieldIndex => 7,
            Self::Deletes => 8,
            Self::Codebook => 9,
            Self::Cells => 10,
            Self::Codes => 11,
            Self::FineCodes => 12,
            Self::FineFactors => 13,
            Self::Calibration => 14,
        }
    }

    pub(super) fn from_code(code: u16) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.code() == code)
    }

    /// The name in messages and in `inspect`.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Vectors => "vectors",
            Self::InvNorms => "inverse norms",
            Self::Ids => "ids",
            Self::IdIndex => "id index",
            Self::Lsns => "lsns",
            Self::Metadata => "metadata",
            Self::FieldIndex => "field index",
            Self::Deletes => "deletes",
            Self::Codebook => "codebook",
            Self::Cells => "cells",
            Self::Codes => "codes",
            Self::FineCodes => "fine codes",
            Self::FineFactors => "fine factors",
            Self::Calibration => "calibration",
        }
    }

    /// The format version that brought the kind.
    pub(super) const fn since(self) -> u16 {
        match self {
            Self::Vectors
            | Self::InvNorms
            | Self::Ids
            | Self::IdIndex
            | Self::Lsns
            | Self::Metadata
            | Self::FieldIndex
            | Self::Deletes => 1,
            Self::Codebook
            | Self::Cells
            | Self::Codes
            | Self::FineCodes
            | Self::FineFactors
            | Self::Calibration => 2,
        }
    }

    /// True if what a block of this kind holds follows from the rows.
    pub(super) const fn derivable(self) -> bool {
        matches!(self, Self::IdIndex | Self::InvNorms | Self::FieldIndex) || self.since() == 2
    }

    pub(super) const fn align(self) -> u64 {
        match self {
            Self::Vectors => ALIGN_VECTORS,
            _ => ALIGN,
        }
    }
}

/// One line of the block directory. The kind stays a number: an optional kind of a newer writer
/// is passed over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct BlockEntry {
    pub(super) kind: u16,
    /// A reader that does not know the kind may pass over the block.
    pub(super) optional: bool,
    /// The format version that brought the kind.
    pub(super) since: u16,
    /// What the kind makes of it: the type code of a field index, else 0.
    pub(super) detail: u16,
    /// The field of a field index, else empty.
    pub(super) name: String,
    pub(super) offset: u64,
    pub(super) len: u64,
    /// Rows, deletes or table slots; 0 where the kind counts nothing.
    pub(super) items: u64,
    /// One checksum per extent.
    pub(super) crcs: Vec<u32>,
}

impl BlockEntry {
    fn encode_into(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.kind.to_le_bytes());
        out.extend_from_slice(&(if self.optional { FLAG_OPTIONAL } else { 0 }).to_le_bytes());
        out.extend_from_slice(&self.since.to_le_bytes());
        out.extend_from_slice(&self.detail.to_le_bytes());
        out.extend_from_slice(&self.offset.to_le_bytes());
        out.extend_from_slice(&self.len.to_le_bytes());
        out.extend_from_slice(&self.items.to_le_bytes());
        let name_len = u16::try_from(self.name.len()).expect("the writer checked the field name");
        out.extend_from_slice(&name_len.to_le_bytes());
        out.extend_from_slice(&[0, 0]);
        out.extend_from_slice(self.name.as_bytes());
        for crc in &self.crcs {
            out.extend_from_slice(&crc.to_le_bytes());
        }
    }

    /// `None` where the footer ends inside the entry.
    fn decode(fields: &mut Cursor<'_>) -> Option<Result<Self, &'static str>> {
        let (kind, flags, since, detail) =
            (fields.u16()?, fields.u16()?, fields.u16()?, fields.u16()?);
        let (offset, len, items) = (fields.u64()?, fields.u64()?, fields.u64()?);
        let (name_len, _reserved) = (fields.u16()?, fields.u16()?);
        let name = fields.take(usize::from(name_len))?;
        let crc_bytes = usize::try_from(len.div_ceil(EXTENT)).ok()?.checked_mul(4)?;
        // Bounded by the footer's own bytes before anything is allocated.
        let crcs = fields.take(crc_bytes)?;
        if flags & !FLAG_OPTIONAL != 0 {
            return Some(Err("a block has unknown flags"));
        }
        let Ok(name) = std::str::from_utf8(name) else {
            return Some(Err("a block's name is not UTF-8"));
        };
        Some(Ok(Self {
            kind,
            optional: flags & FLAG_OPTIONAL != 0,
            since,
            detail,
            name: name.to_owned(),
            offset,
            len,
            items,
            crcs: crcs.as_chunks().0.iter().map(|crc| u32::from_le_bytes(*crc)).collect(),
        }))
    }

    /// The first byte after the block; checked by [`Footer::decode`].
    pub(super) fn end(&self) -> u64 {
        self.offset.saturating_add(self.len)
    }
}

/// The block directory and what the file says of its rows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Footer {
    pub(super) rows: u32,
    pub(super) deletes: u32,
    pub(super) min_lsn: u64,
    pub(super) max_lsn: u64,
    pub(super) blocks: Vec<BlockEntry>,
}

impl Footer {
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        out.extend_from_slice(&self.rows.to_le_bytes());
        out.extend_from_slice(&self.deletes.to_le_bytes());
        out.extend_from_slice(&self.min_lsn.to_le_bytes());
        out.extend_from_slice(&self.max_lsn.to_le_bytes());
        let count = u32::try_from(self.blocks.len()).expect("a writer makes few blocks");
        out.extend_from_slice(&count.to_le_bytes());
        out.extend_from_slice(&u32::try_from(EXTENT).expect("64 KiB").to_le_bytes());
        for block in &self.blocks {
            block.encode_into(&mut out);
        }
        out
    }

    /// Decodes a footer whose checksum the caller has checked, and checks that the blocks lie in
    /// order, apart and aligned between header and footer. `offset` is the footer's own.
    pub(super) fn decode(bytes: &[u8], offset: u64) -> Result<Self, Flaw> {
        let mut fields = Cursor::new(bytes, offset);
        let cut = |fields: &Cursor<'_>| Flaw::at(fields.position(), "the footer is cut off");
        let mut fixed = || {
            let (rows, deletes) = (fields.u32()?, fields.u32()?);
            let (min_lsn, max_lsn) = (fields.u64()?, fields.u64()?);
            Some((rows, deletes, min_lsn, max_lsn, fields.u32()?, fields.u32()?))
        };
        let (rows, deletes, min_lsn, max_lsn, count, extent) =
            fixed().ok_or_else(|| Flaw::at(offset, "the footer is cut off"))?;
        if u64::from(extent) != EXTENT || rows > ROWS_MAX {
            return Err(Flaw::at(offset, "the footer's row count or extent size is not possible"));
        }
        let mut blocks: Vec<BlockEntry> = Vec::new();
        let mut free = HEADER_LEN as u64;
        for _ in 0..count {
            let at = fields.position();
            let block = BlockEntry::decode(&mut fields)
                .ok_or_else(|| cut(&fields))?
                .map_err(|detail| Flaw::at(at, detail))?;
            check_entry(&block, at)?;
            check_place(&block, at, free, offset)?;
            free = block.end();
            blocks.push(block);
        }
        if fields.remaining() != 0 {
            return Err(Flaw::at(fields.position(), "the footer has bytes after its last block"));
        }
        Ok(Self { rows, deletes, min_lsn, max_lsn, blocks })
    }
}

/// An unknown kind is fine if it may be passed over. Otherwise the entry says which version brought
/// it: a newer one needs a newer binary, an older one cannot have brought an unknown kind.
fn check_entry(block: &BlockEntry, at: u64) -> Result<(), Flaw> {
    let known = BlockKind::from_code(block.kind).is_some();
    let since = u32::from(block.since);
    if known || block.optional {
        Ok(())
    } else if since > VERSION {
        Err(Flaw::Newer { found: since })
    } else {
        Err(Flaw::at(at, format!("format version {since} has no block kind {}", block.kind)))
    }
}

fn check_place(block: &BlockEntry, at: u64, free: u64, limit: u64) -> Result<(), Flaw> {
    let align = BlockKind::from_code(block.kind).map_or(ALIGN, BlockKind::align);
    let end = block.offset.checked_add(block.len);
    if block.offset < free
        || !block.offset.is_multiple_of(align)
        || end.is_none_or(|end| end > limit)
    {
        let detail = format!(
            "a block of kind {} is said to lie at {} with {} bytes, which is not possible",
            block.kind, block.offset, block.len
        );
        return Err(Flaw::at(at, detail));
    }
    Ok(())
}
