//! The index that grows: of a memtable, and of a segment while it is built.

#![deny(clippy::indexing_slicing)]

use super::{
    Query,
    query::below,
    rows::RowSet,
    value::{Extracted, elements, extract},
};
use crate::{FieldDef, FieldType, Metadata};
use roaring::RoaringBitmap;
use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Bound,
};

/// Keys and the rows that hold them.
pub(super) type Dictionary = BTreeMap<Box<[u8]>, RoaringBitmap>;

/// What a new key costs beside its bytes: the map's entry, the bitmap and its first container.
const KEY_OVERHEAD_BYTES: usize = 112;
/// What one more row costs under a key: two bytes in the bitmap, and room to grow.
const KEY_ROW_BYTES: usize = 4;
/// What one entry of a column costs in a tree whose nodes are three quarters full.
const COLUMN_ENTRY_BYTES: usize = 24;

/// An index of one field over rows 0 to n, in memory.
///
/// Rows are added once each, usually in ascending order; there is no removal, since the caller
/// masks dead rows.
#[derive(Clone, Debug)]
pub(crate) struct MemFieldIndex {
    def: FieldDef,
    pub(super) rows: u32,
    pub(super) exists: RoaringBitmap,
    pub(super) values: MemValues,
    bytes: usize,
}

/// The values, in the structure that suits the type.
#[derive(Clone, Debug)]
pub(super) enum MemValues {
    /// Keywords and booleans. Elements of lists stand apart, since `eq` must not see them and
    /// `contains` must see nothing else.
    Keys { scalars: Dictionary, elements: Dictionary },
    /// Numbers and instants. A set of pairs takes a sixth of the memory of a bitmap per value
    /// when most values are distinct, as times and prices are.
    Numbers(BTreeSet<(i64, u32)>),
}

impl MemFieldIndex {
    /// An empty index.
    pub(crate) fn new(def: FieldDef) -> Self {
        let values = match def.field_type {
            FieldType::Keyword | FieldType::Bool => {
                MemValues::Keys { scalars: Dictionary::new(), elements: Dictionary::new() }
            }
            FieldType::Integer | FieldType::Float | FieldType::Timestamp => {
                MemValues::Numbers(BTreeSet::new())
            }
        };
        Self { def, rows: 0, exists: RoaringBitmap::new(), values, bytes: size_of::<Self>() }
    }

    /// The field that is indexed.
    pub(crate) fn def(&self) -> &FieldDef {
        &self.def
    }

    /// The type of the values that are indexed.
    pub(crate) fn field_type(&self) -> FieldType {
        self.def.field_type
    }

    /// An estimate of the memory taken, in bytes.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Adds a row below `u32::MAX`. Rows without the field need not be added.
    pub(crate) fn insert(&mut self, row: u32, metadata: &Metadata) {
        self.rows = self.rows.max(row.saturating_add(1));
        let value = metadata.get(&self.def.name);
        let Some(value) = value.filter(|value| !value.is_null()) else {
            return;
        };
        self.exists.insert(row);
        let mut bytes = KEY_ROW_BYTES;
        match (&mut self.values, extract(self.def.field_type, value)) {
            (MemValues::Keys { scalars, .. }, Extracted::Key(key)) => {
                bytes += add(scalars, key, row);
            }
            (MemValues::Keys { elements: keys, .. }, Extracted::List(list)) => {
                for element in elements(list) {
                    bytes += add(keys, element, row);
                }
            }
            (MemValues::Numbers(column), Extracted::Number(number)) => {
                column.insert((number, row));
                bytes += COLUMN_ENTRY_BYTES;
            }
            _ => {}
        }
        self.bytes = self.bytes.saturating_add(bytes);
    }

    /// The rows that match.
    pub(crate) fn query(&self, query: &Query) -> RoaringBitmap {
        let mut found = RowSet::default();
        match (&self.values, query) {
            (_, Query::Exists) => return self.exists.clone(),
            (MemValues::Keys { scalars, .. }, Query::Keys(keys)) => {
                let rows = keys.iter().filter_map(|key| scalars.get(key));
                rows.for_each(|rows| found.union(rows));
            }
            (MemValues::Keys { scalars, .. }, Query::KeyRange(lower, upper)) => {
                // Only the lower bound goes to the map: with both, it panics if they cross.
                let start = (lower.as_ref().map(|key| &**key), Bound::Unbounded);
                let range = scalars.range::<[u8], _>(start);
                range
                    .take_while(|(key, _)| below(upper, key))
                    .for_each(|(_, rows)| found.union(rows));
            }
            (MemValues::Keys { elements, .. }, Query::Element(key)) => {
                return elements.get(key).cloned().unwrap_or_default();
            }
            (MemValues::Numbers(column), Query::Numbers(numbers)) => {
                for number in numbers {
                    push_range(&mut found, column, *number, *number);
                }
            }
            (MemValues::Numbers(column), Query::NumberRange(low, high)) => {
                push_range(&mut found, column, *low, *high);
            }
            _ => {}
        }
        found.into_bitmap(self.rows)
    }
}

fn add(keys: &mut Dictionary, key: &[u8], row: u32) -> usize {
    if let Some(rows) = keys.get_mut(key) {
        rows.insert(row);
        return KEY_ROW_BYTES;
    }
    keys.insert(key.into(), RoaringBitmap::from_iter([row]));
    key.len() + KEY_OVERHEAD_BYTES
}

fn push_range(found: &mut RowSet, column: &BTreeSet<(i64, u32)>, low: i64, high: i64) {
    // The set panics on a range whose ends cross, and a filter may well say gt 5 and lt 3.
    if low <= high {
        let range = column.range((low, 0)..=(high, u32::MAX));
        range.for_each(|(_, row)| found.push(*row));
    }
}
