//! Which rows of a segment count, as searches of its cells ask: how many in a range, and a mask of
//! them in the order of the blocks.

use akidb_index::BLOCK_ROWS;
use roaring::RoaringBitmap;
use std::{cell::OnceCell, ops::Range};

/// Filters that leave more than one row in so many are masks and nothing else.
const SPARSE: u64 = 4;

/// Which rows of a segment count.
#[derive(Clone, Copy, Debug)]
pub(super) enum Rows<'a> {
    /// All but these.
    Without(&'a RoaringBitmap),
    /// These.
    Only(&'a RoaringBitmap),
}

/// Rows that count, ready to be asked about cell by cell.
#[derive(Debug)]
pub(super) struct Counted<'a> {
    rows: Rows<'a>,
    all: u64,
    /// A bit for each row of the segment that a sparse filter left. A compressed bitmap takes a
    /// search for each cell; this one takes a pass over the matches, once.
    bits: OnceCell<Bits>,
    segment_rows: u32,
}

/// A bit per row, and how many are set before each word.
#[derive(Debug)]
struct Bits {
    words: Vec<u64>,
    before: Vec<u32>,
}

impl Bits {
    fn new(words: Vec<u64>) -> Self {
        let mut sum = 0;
        let before = words
            .iter()
            .map(|word| {
                let before = sum;
                sum += word.count_ones();
                before
            })
            .collect();
        Self { words, before }
    }

    /// How many rows before this one count.
    fn before(&self, row: u32) -> u64 {
        let at = row as usize / 64;
        let (Some(word), Some(before)) = (self.words.get(at), self.before.get(at)) else {
            return 0;
        };
        let below = word & ((1_u64 << (row % 64)) - 1);
        u64::from(before + below.count_ones())
    }
}

impl<'a> Counted<'a> {
    pub(super) fn new(rows: Rows<'a>, segment_rows: u32) -> Self {
        let all = match rows {
            Rows::Without(dead) => u64::from(segment_rows) - dead.len(),
            Rows::Only(allowed) => allowed.len(),
        };
        Self { rows, all, bits: OnceCell::new(), segment_rows }
    }

    /// True for a filter that leaves few rows: each is looked at, to choose cells by where they lie.
    pub(super) fn is_sparse(&self) -> bool {
        matches!(self.rows, Rows::Only(_)) && self.all * SPARSE <= u64::from(self.segment_rows)
    }

    /// How many rows count.
    pub(super) fn all(&self) -> u64 {
        self.all
    }

    /// Which rows count.
    pub(super) fn which(&self) -> Rows<'a> {
        self.rows
    }

    fn bits(&self, allowed: &RoaringBitmap) -> &Bits {
        self.bits.get_or_init(|| {
            // One word more, so that the bits behind any row can be read.
            let mut bits = vec![0; self.segment_rows as usize / 64 + 2];
            // Not a loop: the bitmap's own walk is twice as fast as asking it for each next row.
            allowed.iter().for_each(|row| {
                if let Some(word) = bits.get_mut(row as usize / 64) {
                    *word |= 1_u64 << (row % 64);
                }
            });
            Bits::new(bits)
        })
    }

    /// How many rows of a range count.
    pub(super) fn count_in(&self, rows: &Range<u32>) -> u64 {
        match self.rows {
            Rows::Without(dead) => rows.len() as u64 - dead.range_cardinality(rows.clone()),
            Rows::Only(allowed) if self.is_sparse() => {
                let bits = self.bits(allowed);
                bits.before(rows.end) - bits.before(rows.start)
            }
            Rows::Only(allowed) => allowed.range_cardinality(rows.clone()),
        }
    }

    /// Appends a bit per row of the range, in the order of the blocks; false if every row counts.
    pub(super) fn mask(&self, rows: &Range<u32>, words: &mut Vec<u32>) -> bool {
        match self.rows {
            Rows::Without(dead) if dead.is_empty() => return false,
            Rows::Without(dead) => {
                let first = words.len();
                words.extend(rows.clone().step_by(BLOCK_ROWS).map(|row| present(rows.end - row)));
                for row in dead.range(rows.clone()) {
                    let at = (row - rows.start) as usize;
                    words[first + at / BLOCK_ROWS] ^= 1 << (at % BLOCK_ROWS);
                }
            }
            Rows::Only(allowed) if self.is_sparse() => {
                words.extend(words_of(&self.bits(allowed).words, rows));
            }
            Rows::Only(allowed) => {
                let first = words.len();
                words.resize(first + rows.len().div_ceil(BLOCK_ROWS), 0);
                for row in allowed.range(rows.clone()) {
                    let at = (row - rows.start) as usize;
                    words[first + at / BLOCK_ROWS] |= 1 << (at % BLOCK_ROWS);
                }
            }
        }
        true
    }
}

/// The bits of a range, 32 rows to a word.
fn words_of(bits: &[u64], rows: &Range<u32>) -> impl Iterator<Item = u32> {
    rows.clone().step_by(BLOCK_ROWS).map(move |row| {
        let (word, shift) = (row as usize / 64, row % 64);
        let at = |word: usize| bits.get(word).copied().unwrap_or(0);
        // Two shifts: one by 64 would be none.
        let both = at(word) >> shift | at(word + 1) << 1 << (63 - shift);
        both as u32 & present(rows.end - row)
    })
}

/// A bit for each of the rows that are left, as far as a block goes.
fn present(left: u32) -> u32 {
    if left >= BLOCK_ROWS as u32 { u32::MAX } else { (1 << left) - 1 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn masks_and_counts_are_those_of_the_bitmap(
            marked in prop::collection::btree_set(0_u32..500, 0..300),
            a in 0_u32..=500, b in 0_u32..=500,
            only in any::<bool>(),
        ) {
            let bitmap: RoaringBitmap = marked.iter().copied().collect();
            let rows = if only { Rows::Only(&bitmap) } else { Rows::Without(&bitmap) };
            let counted = Counted::new(rows, 500);
            let counts = |row: u32| marked.contains(&row) == only;
            let range = a.min(b)..a.max(b);
            let wanted: Vec<u32> = range.clone().filter(|row| counts(*row)).collect();
            prop_assert_eq!(counted.count_in(&range), wanted.len() as u64);
            prop_assert_eq!(counted.all(), (0..500).filter(|row| counts(*row)).count() as u64);
            let mut words = vec![7];
            if counted.mask(&range, &mut words) {
                prop_assert_eq!(words.len(), 1 + range.len().div_ceil(BLOCK_ROWS));
                let bit = |at: usize| words[1 + at / BLOCK_ROWS] >> (at % BLOCK_ROWS) & 1 == 1;
                let places = 0..range.len().next_multiple_of(BLOCK_ROWS);
                let found: Vec<u32> =
                    places.filter(|at| bit(*at)).map(|at| range.start + at as u32).collect();
                prop_assert_eq!(found, wanted);
            } else {
                prop_assert!(!only && marked.is_empty());
            }
        }
    }
}
