//! Lists of byte strings inside a block: `n + 1` offsets as `u64`, then the bytes. The offsets
//! count from the end of the table; the first is 0, each item ends where the next begins.
//!
//! Called by the writer (ids, metadata, deletes) and the reader. Offsets read back are hostile
//! until [`range`] has accepted them.

#![deny(clippy::indexing_slicing)]

use std::ops::Range;

/// Bytes of one offset.
pub(super) const OFFSET_LEN: u64 = 8;

/// Collects items in memory.
#[derive(Debug)]
pub(super) struct ItemsBuilder {
    offsets: Vec<u64>,
    bytes: Vec<u8>,
}

impl Default for ItemsBuilder {
    fn default() -> Self {
        Self { offsets: vec![0], bytes: Vec::new() }
    }
}

impl ItemsBuilder {
    /// Forgets all items, and keeps the memory.
    pub(super) fn clear(&mut self) {
        self.offsets.truncate(1);
        self.bytes.clear();
    }

    /// Appends all items of another list.
    pub(super) fn extend(&mut self, other: &Self) {
        let before = self.bytes.len() as u64;
        self.offsets.extend(other.offsets.iter().skip(1).map(|offset| before + offset));
        self.bytes.extend_from_slice(&other.bytes);
    }

    /// Appends the item that `write` appends to the bytes.
    pub(super) fn push_with(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        write(&mut self.bytes);
        self.offsets.push(self.bytes.len() as u64);
    }

    /// The items in order.
    pub(super) fn iter(&self) -> impl Iterator<Item = &[u8]> {
        self.offsets.windows(2).filter_map(|pair| {
            let (start, end) = (pair.first()?, pair.last()?);
            self.bytes.get(usize::try_from(*start).ok()?..usize::try_from(*end).ok()?)
        })
    }

    /// One item; `None` past the last.
    pub(super) fn get(&self, index: usize) -> Option<&[u8]> {
        let start = usize::try_from(*self.offsets.get(index)?).ok()?;
        let end = usize::try_from(*self.offsets.get(index.checked_add(1)?)?).ok()?;
        self.bytes.get(start..end)
    }

    /// The two parts of the block, to be written one after the other.
    pub(super) fn parts(&self) -> [&[u8]; 2] {
        [bytemuck::cast_slice(&self.offsets), &self.bytes]
    }
}

/// Bytes of the offset table of `items` items; `None` if no file could hold it.
pub(super) fn table_len(items: u64) -> Option<u64> {
    items.checked_add(1)?.checked_mul(OFFSET_LEN)
}

/// The place of item `index` in a list of `list_len` bytes and `items` items, from its two offsets
/// as they were read; `None` if they lie.
pub(super) fn range(pair: [u64; 2], items: u64, list_len: u64) -> Option<Range<u64>> {
    let [start, end] = pair;
    let base = table_len(items)?;
    let (start, end) = (base.checked_add(start)?, base.checked_add(end)?);
    (start <= end && end <= list_len).then_some(start..end)
}

/// Decodes a whole list; `None` if it lies anywhere.
pub(super) fn split(list: &[u8], items: u64) -> Option<Vec<&[u8]>> {
    let table = list.get(..usize::try_from(table_len(items)?).ok()?)?;
    let offsets = table.as_chunks::<8>().0;
    offsets
        .windows(2)
        .map(|pair| {
            let (start, end) =
                (u64::from_le_bytes(*pair.first()?), u64::from_le_bytes(*pair.last()?));
            let place = range([start, end], items, list.len() as u64)?;
            list.get(usize::try_from(place.start).ok()?..usize::try_from(place.end).ok()?)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Built in two halves, one of them over other items.
    fn encode(items: &[Vec<u8>]) -> Vec<u8> {
        let (first, second) = items.split_at(items.len() / 2);
        let (mut builder, mut rest) = (ItemsBuilder::default(), ItemsBuilder::default());
        rest.push_with(|out| out.extend_from_slice(b"forgotten"));
        rest.clear();
        for item in first {
            builder.push_with(|out| out.extend_from_slice(item));
        }
        for item in second {
            rest.push_with(|out| out.extend_from_slice(item));
        }
        builder.extend(&rest);
        assert!(builder.iter().eq(items.iter().map(Vec::as_slice)));
        builder.parts().concat()
    }

    proptest! {
        #[test]
        fn items_survive_their_block(items in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..9), 0..9)) {
            let block = encode(&items);
            let split = split(&block, items.len() as u64).unwrap();
            prop_assert_eq!(split, items);
        }

        #[test]
        fn hostile_lists_are_refused_or_split(list in prop::collection::vec(any::<u8>(), 0..64), items in any::<u64>()) {
            for items in [items, items % 9] {
                if let Some(split) = split(&list, items) {
                    prop_assert_eq!(split.len() as u64, items);
                }
            }
        }
    }

    #[test]
    fn offsets_that_lie_are_refused() {
        assert_eq!(range([0, 3], 1, 19), Some(16..19));
        for (pair, items, len) in
            [([3, 0], 1, 99), ([0, 4], 1, 19), ([0, u64::MAX], 1, 99), ([0, 0], u64::MAX, 99)]
        {
            assert_eq!(range(pair, items, len), None, "{pair:?} {items} {len}");
        }
    }
}
