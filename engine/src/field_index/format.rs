//! The block of a field index, as `docs/format/field-index.md` specifies it: header and encoder.
//!
//! The counterpart that reads is `view`. Integers are little-endian. The block has no checksum
//! of its own: the segment that carries it checks every byte.

#![deny(clippy::indexing_slicing)]

use super::{
    FieldIndexError, MemFieldIndex,
    mem::{Dictionary, MemValues},
};
use crate::FieldType;
use roaring::RoaringBitmap;
use std::{collections::BTreeSet, ops::Range};

/// The first four bytes of a block.
pub(super) const MAGIC: [u8; 4] = *b"AKFX";
/// The version this code writes and the only one it reads.
pub(super) const VERSION: u16 = 1;
/// Bytes before the first section.
pub(super) const HEADER_BYTES: usize = 64;
/// Bytes of one entry in a dictionary's offset table: where key and rows begin.
pub(super) const OFFSET_BYTES: usize = 16;
/// Bytes of one entry of a column: value and row.
pub(super) const COLUMN_ENTRY_BYTES: usize = 12;
/// A list of rows of this length is one row number; a bitmap takes 8 bytes or more.
pub(super) const SINGLE_ROW_BYTES: usize = 4;

/// The header of a block.
///
/// | offset | size | field |
/// |---|---|---|
/// | 0 | 4 | magic `AKFX` |
/// | 4 | 2 | version |
/// | 6 | 1 | field type: 1 keyword, 2 integer, 3 float, 4 bool, 5 timestamp |
/// | 7 | 1 | zero |
/// | 8 | 4 | rows of the segment |
/// | 12 | 4 | zero |
/// | 16 | 8 | entries of the scalar section |
/// | 24 | 8 | bytes of the scalar section |
/// | 32 | 8 | entries of the element section (keyword only, else 0) |
/// | 40 | 8 | bytes of the element section |
/// | 48 | 8 | bytes of the exists bitmap |
/// | 56 | 8 | zero |
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Header {
    pub(super) field_type: FieldType,
    pub(super) rows: u32,
    pub(super) scalars: Section,
    pub(super) elements: Section,
    pub(super) exists: Section,
}

/// A stretch of the block.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Section {
    pub(super) entries: usize,
    pub(super) range: Range<usize>,
}

impl Header {
    /// Reads the header of a block and checks that its sections fill the block exactly.
    pub(super) fn decode(block: &[u8]) -> Result<Self, FieldIndexError> {
        let header = block
            .first_chunk::<HEADER_BYTES>()
            .ok_or_else(|| damage(block.len(), "the block is shorter than its header"))?;
        if !header.starts_with(&MAGIC) {
            return Err(damage(0, "this is no field index"));
        }
        if read_u16(header, 4)? != VERSION {
            return Err(damage(4, "unknown version of a field index"));
        }
        let field_type = read_array::<1>(header, 6)?;
        let field_type = type_of(field_type).ok_or_else(|| damage(6, "unknown field type"))?;
        for (at, zero) in [
            (7, read_array::<1>(header, 7)? == [0]),
            (12, read_u32(header, 12)? == 0),
            (56, read_u64(header, 56)? == 0),
        ] {
            if !zero {
                return Err(damage(at, "reserved bytes are not zero"));
            }
        }
        let mut next = HEADER_BYTES;
        let mut section = |entries: Option<usize>, len_at: usize| {
            let entries = entries.map_or(Ok(0), |at| read_usize(header, at))?;
            let end = next.checked_add(read_usize(header, len_at)?);
            let end = end.filter(|end| *end <= block.len());
            let end = end.ok_or_else(|| damage(len_at, "a section ends beyond the block"))?;
            let range = next..end;
            next = end;
            Ok(Section { entries, range })
        };
        let scalars = section(Some(16), 24)?;
        let elements = section(Some(32), 40)?;
        let exists = section(None, 48)?;
        if next != block.len() {
            return Err(damage(next, "bytes after the last section"));
        }
        let header = Self { field_type, rows: read_u32(header, 8)?, scalars, elements, exists };
        header.check_sections()?;
        Ok(header)
    }

    /// Checks that each section has room for its fixed-size entries, so that a count from disk
    /// never leads beyond the section or into a long loop.
    fn check_sections(&self) -> Result<(), FieldIndexError> {
        let at = self.scalars.range.start;
        if is_column(self.field_type) {
            let bytes = self.scalars.entries.checked_mul(COLUMN_ENTRY_BYTES);
            if bytes != Some(self.scalars.range.len()) {
                return Err(damage(at, "the column does not fill its section"));
            }
        } else {
            self.scalars.check_table()?;
        }
        if self.field_type == FieldType::Keyword {
            return self.elements.check_table();
        }
        if self.elements.entries != 0 || !self.elements.range.is_empty() {
            return Err(damage(32, "only keywords stand in lists"));
        }
        Ok(())
    }
}

impl Section {
    /// Bytes of the offset table: one entry per key and one for the end.
    pub(super) fn table_bytes(&self) -> Option<usize> {
        self.entries.checked_add(1)?.checked_mul(OFFSET_BYTES)
    }

    fn check_table(&self) -> Result<(), FieldIndexError> {
        let fits = self.table_bytes().is_some_and(|bytes| bytes <= self.range.len());
        fits.then_some(())
            .ok_or_else(|| damage(self.range.start, "the dictionary is longer than its section"))
    }
}

/// Whether values of the type are numbers in a sorted column, not keys in a dictionary.
pub(super) fn is_column(field_type: FieldType) -> bool {
    match field_type {
        FieldType::Integer | FieldType::Float | FieldType::Timestamp => true,
        FieldType::Keyword | FieldType::Bool => false,
    }
}

fn type_code(field_type: FieldType) -> u8 {
    match field_type {
        FieldType::Keyword => 1,
        FieldType::Integer => 2,
        FieldType::Float => 3,
        FieldType::Bool => 4,
        FieldType::Timestamp => 5,
    }
}

fn type_of([code]: [u8; 1]) -> Option<FieldType> {
    match code {
        1 => Some(FieldType::Keyword),
        2 => Some(FieldType::Integer),
        3 => Some(FieldType::Float),
        4 => Some(FieldType::Bool),
        5 => Some(FieldType::Timestamp),
        _ => None,
    }
}

impl MemFieldIndex {
    /// The block for a segment of `rows` rows. The same rows give the same bytes.
    pub(crate) fn encode(&self, rows: u32) -> Vec<u8> {
        debug_assert!(self.rows <= rows, "the index holds a row that the segment has not");
        let (scalars, elements) = match &self.values {
            MemValues::Keys { scalars, elements } if self.field_type() == FieldType::Keyword => {
                (encode_dictionary(scalars), encode_dictionary(elements))
            }
            MemValues::Keys { scalars, .. } => (encode_dictionary(scalars), Vec::new()),
            MemValues::Numbers(column) => (encode_column(column), Vec::new()),
        };
        let (scalar_entries, element_entries) = match &self.values {
            MemValues::Keys { scalars, elements } => (scalars.len(), elements.len()),
            MemValues::Numbers(column) => (column.len(), 0),
        };
        let exists = encode_rows(&self.exists);
        let mut block =
            Vec::with_capacity(HEADER_BYTES + scalars.len() + elements.len() + exists.len());
        block.extend_from_slice(&MAGIC);
        block.extend_from_slice(&VERSION.to_le_bytes());
        block.extend_from_slice(&[type_code(self.field_type()), 0]);
        block.extend_from_slice(&rows.to_le_bytes());
        block.extend_from_slice(&[0; 4]);
        for number in
            [scalar_entries, scalars.len(), element_entries, elements.len(), exists.len(), 0]
        {
            push_u64(&mut block, number);
        }
        debug_assert_eq!(block.len(), HEADER_BYTES);
        block.extend_from_slice(&scalars);
        block.extend_from_slice(&elements);
        block.extend_from_slice(&exists);
        block
    }
}

/// Offset table, then all keys, then all lists of rows.
fn encode_dictionary(dictionary: &Dictionary) -> Vec<u8> {
    let mut table = Vec::with_capacity((dictionary.len() + 1) * OFFSET_BYTES);
    let (mut keys, mut lists) = (Vec::new(), Vec::new());
    for (key, rows) in dictionary {
        push_u64(&mut table, keys.len());
        push_u64(&mut table, lists.len());
        keys.extend_from_slice(key);
        lists.extend(encode_rows(rows));
    }
    push_u64(&mut table, keys.len());
    push_u64(&mut table, lists.len());
    table.extend(keys);
    table.extend(lists);
    table
}

/// All values, then all rows, so that a search for a value touches only values.
fn encode_column(column: &BTreeSet<(i64, u32)>) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(column.len() * COLUMN_ENTRY_BYTES);
    for (value, _) in column {
        bytes.extend_from_slice(&value.to_le_bytes());
    }
    for (_, row) in column {
        bytes.extend_from_slice(&row.to_le_bytes());
    }
    bytes
}

/// One row as its number, otherwise the portable form of a roaring bitmap.
fn encode_rows(rows: &RoaringBitmap) -> Vec<u8> {
    if rows.len() == 1 {
        return rows.iter().flat_map(u32::to_le_bytes).collect();
    }
    let mut rows = rows.clone();
    rows.optimize();
    let mut bytes = Vec::with_capacity(rows.serialized_size());
    rows.serialize_into(&mut bytes).expect("a Vec takes every byte");
    bytes
}

fn push_u64(out: &mut Vec<u8>, number: usize) {
    // No supported machine has addresses of more than 64 bits.
    out.extend_from_slice(&(number as u64).to_le_bytes());
}

/// Damage at a byte of the block.
pub(super) fn damage(offset: usize, detail: &'static str) -> FieldIndexError {
    FieldIndexError { offset: offset as u64, detail }
}

/// `N` bytes at an offset of the block.
pub(super) fn read_array<const N: usize>(
    block: &[u8],
    at: usize,
) -> Result<[u8; N], FieldIndexError> {
    block
        .get(at..)
        .and_then(|rest| rest.first_chunk::<N>())
        .copied()
        .ok_or_else(|| damage(at, "the block ends here"))
}

fn read_u16(block: &[u8], at: usize) -> Result<u16, FieldIndexError> {
    read_array(block, at).map(u16::from_le_bytes)
}

pub(super) fn read_u32(block: &[u8], at: usize) -> Result<u32, FieldIndexError> {
    read_array(block, at).map(u32::from_le_bytes)
}

pub(super) fn read_u64(block: &[u8], at: usize) -> Result<u64, FieldIndexError> {
    read_array(block, at).map(u64::from_le_bytes)
}

pub(super) fn read_i64(block: &[u8], at: usize) -> Result<i64, FieldIndexError> {
    read_array(block, at).map(i64::from_le_bytes)
}

/// A length or count, which must fit this machine.
pub(super) fn read_usize(block: &[u8], at: usize) -> Result<usize, FieldIndexError> {
    usize::try_from(read_u64(block, at)?)
        .map_err(|_| damage(at, "longer than this machine can map"))
}
