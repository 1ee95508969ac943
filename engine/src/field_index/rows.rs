//! Gathering matching rows, which come in the order of their values, into a bitmap.

#![deny(clippy::indexing_slicing)]

use roaring::RoaringBitmap;

/// How many rows one hit may cost in a flat bit set: at 32 rows a hit it takes no more memory
/// than the list of the hits itself.
const ROWS_PER_HIT_DENSE: u64 = 32;
/// Above this a flat bit set is not tried: its byte count times eight must fit 32 bits.
const ROWS_DENSE_MAX: u32 = 1 << 31;

/// Rows found, in any order.
#[derive(Default)]
pub(super) struct RowSet {
    singles: Vec<u32>,
    union: RoaringBitmap,
}

impl RowSet {
    /// Adds one row.
    pub(super) fn push(&mut self, row: u32) {
        self.singles.push(row);
    }

    /// Adds rows.
    pub(super) fn union(&mut self, rows: &RoaringBitmap) {
        self.union |= rows;
    }

    /// All rows, of a part of `rows` rows in all; those beyond it are left out.
    ///
    /// Setting bits in a flat array and converting once is linear, where inserting rows into
    /// the bitmap in the order of their values would search and shift for each of them.
    pub(super) fn into_bitmap(mut self, rows: u32) -> RoaringBitmap {
        let hits = self.singles.len() as u64;
        let dense =
            rows <= ROWS_DENSE_MAX && hits.saturating_mul(ROWS_PER_HIT_DENSE) >= u64::from(rows);
        let singles = if dense {
            let mut bits = vec![0_u8; rows.div_ceil(8) as usize];
            for row in self.singles.into_iter().filter(|row| *row < rows) {
                if let Some(byte) = bits.get_mut((row / 8) as usize) {
                    *byte |= 1 << (row % 8);
                }
            }
            RoaringBitmap::from_lsb0_bytes(0, &bits)
        } else {
            self.singles.retain(|row| *row < rows);
            self.singles.sort_unstable();
            self.singles.into_iter().collect()
        };
        self.union |= singles;
        self.union
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn the_set_is_what_was_pushed(
            pushed in prop::collection::vec(0_u32..5_000, 0..400),
            rows in prop::sample::select(vec![0_u32, 1, 7, 4_999, 5_000, 70_000, u32::MAX]),
        ) {
            let mut set = RowSet::default();
            pushed.iter().for_each(|row| set.push(*row));
            let expected: RoaringBitmap = pushed.into_iter().filter(|row| *row < rows).collect();
            prop_assert_eq!(set.into_bitmap(rows), expected);
        }
    }
}
