//! Which rows of a segment count, as searches of its cells ask: how many in a range, and a mask of
//! them in the order of the blocks.

use crate::filter::Answer;
use akidb_index::BLOCK_ROWS;
use roaring::RoaringBitmap;
use std::ops::Range;

/// Filters that leave more than one row in so many are masks and nothing else.
const SPARSE: u64 = 4;

/// Which rows of a segment count.
#[derive(Clone, Copy, Debug)]
pub(super) enum Rows<'a> {
    /// All but these.
    Without(&'a RoaringBitmap),
    /// Those of an answer.
    Only(&'a Answer),
}

/// Rows that count, ready to be asked about cell by cell.
#[derive(Debug)]
pub(super) struct Counted<'a> {
    rows: Rows<'a>,
    all: u64,
    segment_rows: u32,
}

impl<'a> Counted<'a> {
    pub(super) fn new(rows: Rows<'a>, segment_rows: u32) -> Self {
        let all = match rows {
            Rows::Without(dead) => u64::from(segment_rows) - dead.len(),
            Rows::Only(answer) => answer.rows().len(),
        };
        Self { rows, all, segment_rows }
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

    /// How many rows of a range count.
    pub(super) fn count_in(&self, rows: &Range<u32>) -> u64 {
        match self.rows {
            Rows::Without(dead) => rows.len() as u64 - dead.range_cardinality(rows.clone()),
            // A compressed bitmap would take a search for each cell.
            Rows::Only(answer) => {
                let bits = answer.bits();
                bits.before(rows.end) - bits.before(rows.start)
            }
        }
    }

    /// Calls with the place of each row that counts, from the start of the range.
    pub(super) fn each_in(&self, rows: &Range<u32>, mut each: impl FnMut(u32)) {
        match self.rows {
            Rows::Without(dead) => rows
                .clone()
                .filter(|row| !dead.contains(*row))
                .for_each(|row| each(row - rows.start)),
            Rows::Only(answer) => {
                for (block, mut word) in (0..).zip(words_of(answer.bits().words(), rows)) {
                    while word != 0 {
                        each(block * BLOCK_ROWS as u32 + word.trailing_zeros());
                        word &= word - 1;
                    }
                }
            }
        }
    }

    /// Appends a bit per row of the range, in the order of the blocks.
    pub(super) fn mask(&self, rows: &Range<u32>, words: &mut Vec<u32>) {
        match self.rows {
            Rows::Without(dead) => {
                let first = words.len();
                words.extend(rows.clone().step_by(BLOCK_ROWS).map(|row| present(rows.end - row)));
                for row in dead.range(rows.clone()) {
                    let at = (row - rows.start) as usize;
                    words[first + at / BLOCK_ROWS] ^= 1 << (at % BLOCK_ROWS);
                }
            }
            Rows::Only(answer) => words.extend(words_of(answer.bits().words(), rows)),
        }
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
    use crate::filter::Evaluated;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn masks_and_counts_are_those_of_the_bitmap(
            marked in prop::collection::btree_set(0_u32..500, 0..300),
            a in 0_u32..=500, b in 0_u32..=500,
            only in any::<bool>(),
        ) {
            let bitmap: RoaringBitmap = marked.iter().copied().collect();
            let found = Evaluated { rows: bitmap.clone(), plan: Vec::new() };
            let answer = Answer::new(found, 500);
            let rows = if only { Rows::Only(&answer) } else { Rows::Without(&bitmap) };
            let counted = Counted::new(rows, 500);
            let counts = |row: u32| marked.contains(&row) == only;
            let range = a.min(b)..a.max(b);
            let wanted: Vec<u32> = range.clone().filter(|row| counts(*row)).collect();
            prop_assert_eq!(counted.count_in(&range), wanted.len() as u64);
            prop_assert_eq!(counted.all(), (0..500).filter(|row| counts(*row)).count() as u64);
            let mut each = Vec::new();
            counted.each_in(&range, |at| each.push(range.start + at));
            prop_assert_eq!(&each, &wanted);
            let mut words = vec![7];
            counted.mask(&range, &mut words);
            prop_assert_eq!(words.len(), 1 + range.len().div_ceil(BLOCK_ROWS));
            let bit = |at: usize| words[1 + at / BLOCK_ROWS] >> (at % BLOCK_ROWS) & 1 == 1;
            let places = 0..range.len().next_multiple_of(BLOCK_ROWS);
            let found: Vec<u32> =
                places.filter(|at| bit(*at)).map(|at| range.start + at as u32).collect();
            prop_assert_eq!(found, wanted);
        }
    }
}
