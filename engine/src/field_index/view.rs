//! Answering from the bytes of a block, where they lie.
//!
//! Opening reads the header only. A query reads what it needs: a binary search over the offset
//! table or the column, then the rows it names. Every number from the block is checked before it
//! is used; what a query cannot see at a reasonable price (that the whole block is in order) is
//! what [`FieldIndexView::verify`] is for, beside the segment's checksums.

#![deny(clippy::indexing_slicing)]

use super::{
    FieldIndexError, Query,
    format::{
        COLUMN_ENTRY_BYTES, Header, OFFSET_BYTES, SINGLE_ROW_BYTES, Section, damage, is_column,
        read_i64, read_u32, read_usize,
    },
    query::{above, below},
    rows::RowSet,
};
use crate::FieldType;
use roaring::RoaringBitmap;
use std::{borrow::Cow, ops::Range};

/// The index of one field of a segment.
#[derive(Clone, Debug)]
pub(crate) struct FieldIndexView<'a> {
    block: Cow<'a, [u8]>,
    header: Header,
}

impl<'a> FieldIndexView<'a> {
    /// Opens a block.
    ///
    /// # Errors
    ///
    /// If the header is damaged, of an unknown version, or does not fit the block.
    pub(crate) fn open(block: impl Into<Cow<'a, [u8]>>) -> Result<Self, FieldIndexError> {
        let block = block.into();
        let header = Header::decode(&block)?;
        Ok(Self { block, header })
    }

    /// The type of the values that are indexed.
    pub(crate) fn field_type(&self) -> FieldType {
        self.header.field_type
    }

    /// The rows of the segment.
    pub(crate) fn rows(&self) -> u32 {
        self.header.rows
    }

    /// The rows that match. A question of another type's kind matches none.
    ///
    /// # Errors
    ///
    /// If what the answer needs is damaged.
    pub(crate) fn query(&self, query: &Query) -> Result<RoaringBitmap, FieldIndexError> {
        let mut found = RowSet::default();
        match (query, is_column(self.header.field_type)) {
            (Query::Exists, _) => self.read_rows(self.header.exists.range.clone(), &mut found)?,
            (Query::Keys(keys), false) => {
                let dictionary = self.scalars();
                for key in keys {
                    dictionary.rows_of(key, &mut found)?;
                }
            }
            (Query::KeyRange(lower, upper), false) => {
                let dictionary = self.scalars();
                let first = dictionary.first(|key| above(lower, key))?;
                for i in first..dictionary.section.entries {
                    if !below(upper, dictionary.key(i)?) {
                        break;
                    }
                    self.read_rows(dictionary.list(i)?, &mut found)?;
                }
            }
            (Query::Element(key), false) if !self.header.elements.range.is_empty() => {
                self.elements().rows_of(key, &mut found)?;
            }
            (Query::Numbers(numbers), true) => {
                for number in numbers {
                    self.column_range(*number, *number, &mut found)?;
                }
            }
            (Query::NumberRange(low, high), true) => {
                self.column_range(*low, *high, &mut found)?;
            }
            _ => {}
        }
        Ok(found.into_bitmap(self.header.rows))
    }

    /// Checks the whole block: order, rows, and that no row has two single values.
    pub(crate) fn verify(&self) -> Result<(), FieldIndexError> {
        let mut valued = RoaringBitmap::new();
        let entries = if is_column(self.header.field_type) {
            self.verify_column(&mut valued)?
        } else {
            self.scalars().verify(&mut valued)?
        };
        let start = self.header.scalars.range.start;
        if entries != valued.len() {
            return Err(damage(start, "a row has two values"));
        }
        if self.header.field_type == FieldType::Keyword {
            self.elements().verify(&mut valued)?;
        }
        if !valued.is_subset(&self.query(&Query::Exists)?) {
            let at = self.header.exists.range.start;
            return Err(damage(at, "a row has a value and yet no field"));
        }
        Ok(())
    }

    fn scalars(&self) -> DictionaryView<'_> {
        DictionaryView {
            view: self,
            section: &self.header.scalars,
            is_bool: self.header.field_type == FieldType::Bool,
        }
    }

    fn elements(&self) -> DictionaryView<'_> {
        DictionaryView { view: self, section: &self.header.elements, is_bool: false }
    }

    /// Reads a list of rows: one row number or a bitmap.
    fn read_rows(&self, range: Range<usize>, found: &mut RowSet) -> Result<(), FieldIndexError> {
        let at = range.start;
        if range.len() == SINGLE_ROW_BYTES {
            found.push(self.check_row(read_u32(&self.block, at)?, at)?);
            return Ok(());
        }
        let bytes = self.block.get(range);
        let mut bytes = bytes.ok_or_else(|| damage(at, "rows beyond the block"))?;
        // This form checks order and counts, and reads no more than there is.
        let rows = RoaringBitmap::deserialize_from(&mut bytes)
            .map_err(|_| damage(at, "the bitmap of rows is damaged"))?;
        if !bytes.is_empty() {
            return Err(damage(at, "bytes after the bitmap of rows"));
        }
        if let Some(last) = rows.max() {
            self.check_row(last, at)?;
        }
        found.union(&rows);
        Ok(())
    }

    fn check_row(&self, row: u32, at: usize) -> Result<u32, FieldIndexError> {
        if row < self.header.rows { Ok(row) } else { Err(damage(at, "a row beyond the segment")) }
    }

    /// The value and the row of an entry of the column, whose length the header's check settled.
    fn entry_offsets(&self, i: usize) -> Result<(usize, usize), FieldIndexError> {
        let Section { entries, range } = &self.header.scalars;
        let value = i.checked_mul(8).and_then(|n| n.checked_add(range.start));
        let values_end = entries.checked_mul(8).and_then(|n| n.checked_add(range.start));
        let row = i.checked_mul(COLUMN_ENTRY_BYTES - 8).and_then(|n| n.checked_add(values_end?));
        value.zip(row).ok_or_else(|| damage(range.start, "a column beyond the block"))
    }

    fn value(&self, i: usize) -> Result<i64, FieldIndexError> {
        read_i64(&self.block, self.entry_offsets(i)?.0)
    }

    fn row(&self, i: usize) -> Result<u32, FieldIndexError> {
        let (_, at) = self.entry_offsets(i)?;
        self.check_row(read_u32(&self.block, at)?, at)
    }

    fn column_range(&self, low: i64, high: i64, found: &mut RowSet) -> Result<(), FieldIndexError> {
        let entries = self.header.scalars.entries;
        let first = partition_point(entries, |i| Ok(self.value(i)? < low))?;
        let end = partition_point(entries, |i| Ok(self.value(i)? <= high))?;
        for i in first..end {
            let value = self.value(i)?;
            if !(low..=high).contains(&value) {
                let (at, _) = self.entry_offsets(i)?;
                return Err(damage(at, "the column is out of order"));
            }
            found.push(self.row(i)?);
        }
        Ok(())
    }

    fn verify_column(&self, valued: &mut RoaringBitmap) -> Result<u64, FieldIndexError> {
        let entries = self.header.scalars.entries;
        let mut rows = RowSet::default();
        let mut last = None;
        for i in 0..entries {
            let entry = (self.value(i)?, self.row(i)?);
            if last.is_some_and(|last| last >= entry) {
                let (at, _) = self.entry_offsets(i)?;
                return Err(damage(at, "the column is out of order"));
            }
            last = Some(entry);
            rows.push(entry.1);
        }
        *valued |= rows.into_bitmap(self.header.rows);
        Ok(entries as u64)
    }
}

/// One dictionary of the block.
struct DictionaryView<'a> {
    view: &'a FieldIndexView<'a>,
    section: &'a Section,
    is_bool: bool,
}

impl<'a> DictionaryView<'a> {
    /// Where key and rows `i` begin, counted from the starts of the keys and of the rows.
    fn offsets(&self, i: usize) -> Result<(usize, usize), FieldIndexError> {
        let start = self.section.range.start;
        let at = i
            .checked_mul(OFFSET_BYTES)
            .and_then(|n| n.checked_add(start))
            .ok_or_else(|| damage(start, "a dictionary beyond the block"))?;
        let key = read_usize(&self.view.block, at)?;
        let list = read_usize(&self.view.block, at.saturating_add(OFFSET_BYTES / 2))?;
        Ok((key, list))
    }

    /// Where the keys begin, where the rows begin, and where the section ends.
    fn areas(&self) -> Result<(usize, usize, usize), FieldIndexError> {
        let Range { start, end } = self.section.range;
        let keys = self.section.table_bytes().and_then(|n| n.checked_add(start));
        let (key_bytes, _) = self.offsets(self.section.entries)?;
        let lists = keys.and_then(|keys| keys.checked_add(key_bytes));
        keys.zip(lists)
            .filter(|(_, lists)| *lists <= end)
            .map(|(keys, lists)| (keys, lists, end))
            .ok_or_else(|| damage(start, "the keys end beyond their section"))
    }

    fn key(&self, i: usize) -> Result<&'a [u8], FieldIndexError> {
        let (keys, lists, _) = self.areas()?;
        let (from, to) = (self.offsets(i)?.0, self.offsets(i.saturating_add(1))?.0);
        let range = within(keys..lists, from, to)?;
        let at = range.start;
        let key = self.view.block.get(range);
        key.ok_or_else(|| damage(at, "a key beyond the block"))
    }

    /// Where the rows of key `i` lie in the block.
    fn list(&self, i: usize) -> Result<Range<usize>, FieldIndexError> {
        let (_, lists, end) = self.areas()?;
        let (from, to) = (self.offsets(i)?.1, self.offsets(i.saturating_add(1))?.1);
        within(lists..end, from, to)
    }

    /// The first key that is not below the bound.
    fn first(&self, is_above: impl Fn(&[u8]) -> bool) -> Result<usize, FieldIndexError> {
        partition_point(self.section.entries, |i| Ok(!is_above(self.key(i)?)))
    }

    fn rows_of(&self, key: &[u8], found: &mut RowSet) -> Result<(), FieldIndexError> {
        let i = self.first(|probe| probe >= key)?;
        if i < self.section.entries && self.key(i)? == key {
            self.view.read_rows(self.list(i)?, found)?;
        }
        Ok(())
    }

    /// Checks every key and list; adds the rows to `all` and returns how many were listed.
    fn verify(&self, all: &mut RoaringBitmap) -> Result<u64, FieldIndexError> {
        let (keys, lists, end) = self.areas()?;
        let last = self.offsets(self.section.entries)?;
        if self.offsets(0)? != (0, 0) || lists.checked_add(last.1) != Some(end) {
            return Err(damage(keys, "keys and rows do not fill their section"));
        }
        let mut listed = 0_u64;
        let mut previous: Option<&[u8]> = None;
        for i in 0..self.section.entries {
            let key = self.key(i)?;
            let list = self.list(i)?;
            let at = list.start;
            let valid = if self.is_bool {
                matches!(key, [0 | 1])
            } else {
                std::str::from_utf8(key).is_ok()
            };
            if !valid || previous.is_some_and(|previous| previous >= key) {
                return Err(damage(at, "a key is malformed or out of order"));
            }
            previous = Some(key);
            let mut rows = RowSet::default();
            self.view.read_rows(list, &mut rows)?;
            let rows = rows.into_bitmap(self.view.header.rows);
            if rows.is_empty() {
                return Err(damage(at, "a key without rows"));
            }
            listed = listed.saturating_add(rows.len());
            *all |= rows;
        }
        Ok(listed)
    }
}

/// The stretch from `from` to `to` of an area, both counted from its start.
fn within(area: Range<usize>, from: usize, to: usize) -> Result<Range<usize>, FieldIndexError> {
    let start = area.start.checked_add(from);
    let end = area.start.checked_add(to);
    start
        .zip(end)
        .filter(|(start, end)| start <= end && *end <= area.end)
        .map(|(start, end)| start..end)
        .ok_or_else(|| damage(area.start, "an offset leads out of its section"))
}

/// The first index for which `before` is false, as `slice::partition_point`.
fn partition_point(
    len: usize,
    before: impl Fn(usize) -> Result<bool, FieldIndexError>,
) -> Result<usize, FieldIndexError> {
    let (mut low, mut high) = (0, len);
    while low < high {
        let middle = low.midpoint(high);
        if before(middle)? {
            low = middle.saturating_add(1);
        } else {
            high = middle;
        }
    }
    Ok(low)
}
