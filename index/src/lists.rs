//! Lists: the rows of a segment in the order of their cells, and the one-bit codes of each cell.
//!
//! A cell's rows have consecutive numbers, and its codes are blocks of their own (see
//! [`crate::rabitq::Blocks`]), so that parts which share a codebook are merged by putting the
//! blocks of each cell behind one another where they are full, and packing the rest again.
//!
//! # Invariants
//! - [`Lists::new`] checks all that later reads rely on: where cells begin never goes back, and the
//!   bytes are exactly those of all blocks. Content of codes and factors cannot do harm.
//! - Nothing is copied: a list in a mapped file is read where it lies.

#![deny(clippy::indexing_slicing)]

use crate::{
    BLOCK_ROWS,
    codebook::Assignment,
    rabitq::{BadBlocks, Blocks, block_len},
};
use std::ops::Range;

/// Rows in the order of their cells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CellOrder {
    /// The old number of each row, in the new order: by cell, and within a cell as they were.
    pub rows: Vec<u32>,
    /// Where each cell begins in `rows`, and at last their number: one more than there are cells.
    pub starts: Vec<u32>,
}

impl CellOrder {
    /// Orders rows by the cells they were assigned to, in time proportional to rows and cells.
    ///
    /// # Panics
    /// If a row is assigned to a cell of `cells` or above, which is a bug of the caller.
    pub fn new(assigned: &[Assignment], cells: usize) -> Self {
        let mut rows_of = vec![Vec::new(); cells];
        for (row, assignment) in (0_u32..).zip(assigned) {
            let list: Option<&mut Vec<u32>> = rows_of.get_mut(assignment.cell as usize);
            list.expect("rows are assigned to cells of the codebook").push(row);
        }
        let mut starts = Vec::with_capacity(cells + 1);
        let mut rows = Vec::with_capacity(assigned.len());
        for list in rows_of {
            starts.push(rows.len() as u32);
            rows.extend(list);
        }
        starts.push(rows.len() as u32);
        Self { rows, starts }
    }
}

/// Lists that cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadLists {
    /// There is no place where the first cell begins, or it is not row 0.
    #[error("the first cell does not begin at row 0")]
    NoBegin,
    /// A cell begins before the one in front of it.
    #[error("cell {cell} begins at row {start}, before the cell in front of it")]
    Backwards {
        /// The cell.
        cell: usize,
        /// Where it begins.
        start: u32,
    },
    /// The codes are too many or too few.
    #[error(transparent)]
    Codes(#[from] BadBlocks),
}

/// The codes of all cells, in memory that somebody else owns.
#[derive(Clone, Debug)]
pub struct Lists<'a> {
    starts: &'a [u32],
    /// The codes of cell `i` begin `offsets[i]` blocks into the bytes.
    offsets: Vec<u64>,
    bytes: &'a [u8],
    padded: usize,
}

impl<'a> Lists<'a> {
    /// A view of the lists of the cells that begin at `starts` (see [`CellOrder::starts`]), with
    /// codes of `padded` components in `bytes`: the blocks of one cell behind those of the other.
    ///
    /// # Errors
    /// If the cells do not follow each other, or the bytes are not as many as their rows need.
    pub fn new(starts: &'a [u32], bytes: &'a [u8], padded: usize) -> Result<Self, BadLists> {
        if starts.first() != Some(&0) {
            return Err(BadLists::NoBegin);
        }
        let mut offsets = Vec::with_capacity(starts.len());
        let mut blocks = 0_u64;
        offsets.push(blocks);
        for (cell, pair) in starts.windows(2).enumerate() {
            let [start, end] = *pair else { continue };
            let Some(rows) = end.checked_sub(start) else {
                return Err(BadLists::Backwards { cell: cell + 1, start: end });
            };
            blocks += u64::from(rows.div_ceil(BLOCK_ROWS as u32));
            offsets.push(blocks);
        }
        let want = usize::try_from(blocks).unwrap_or(usize::MAX).saturating_mul(block_len(padded));
        if bytes.len() != want || padded == 0 || !padded.is_multiple_of(crate::PAD) {
            let rows = starts.last().map_or(0, |rows| *rows as usize);
            return Err(BadBlocks { rows, padded, want, got: bytes.len() }.into());
        }
        Ok(Self { starts, offsets, bytes, padded })
    }

    /// How many cells there are.
    pub fn cells(&self) -> usize {
        self.starts.len() - 1
    }

    /// The rows of a cell and their codes: row `i` of the blocks is row `rows.start + i`. `None` if
    /// there is no such cell.
    pub fn cell(&self, cell: u32) -> Option<(Range<u32>, Blocks<'a>)> {
        let cell = cell as usize;
        let rows = *self.starts.get(cell)?..*self.starts.get(cell + 1)?;
        let byte = |block: &u64| usize::try_from(*block).ok()?.checked_mul(block_len(self.padded));
        let bytes = byte(self.offsets.get(cell)?)?..byte(self.offsets.get(cell + 1)?)?;
        let blocks = Blocks::new(self.bytes.get(bytes)?, self.padded, rows.len()).ok()?;
        Some((rows, blocks))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        Metric, Scorer, TopK,
        codebook::{Codebook, Router},
        inv_norm,
        rabitq::{Bits, CONFIDENCE, Codec, Factors, Shortlist, pack_block},
        rotation::SplitMix64,
    };
    use proptest::prelude::*;

    const DIM: usize = 40;

    /// Rows in the order of their cells, with all that a search needs.
    struct Part {
        rows: Vec<f32>,
        router: Router,
        codec: Codec,
        starts: Vec<u32>,
        blocks: Vec<u8>,
        eights: Vec<(Vec<u8>, Factors)>,
    }

    fn part(metric: Metric, rows: &[f32], cells: usize) -> Part {
        let book = Codebook::train(rows, DIM, cells, 1);
        let codec = Codec::new(metric, DIM, 2);
        let router = Router::new(&book, &codec);
        let order = CellOrder::new(&book.assign(rows), book.cells());
        let row = |old: &u32| &rows[*old as usize * DIM..][..DIM];
        let (mut blocks, mut eights) = (Vec::new(), Vec::new());
        let mut encoder = codec.encoder();
        for (cell, pair) in (0_u32..).zip(order.starts.windows(2)) {
            let mut ones = Vec::new();
            for old in &order.rows[pair[0] as usize..pair[1] as usize] {
                encoder.set_row(row(old), inv_norm(row(old)));
                encoder.set_centre(router.centre(cell).unwrap());
                let mut one = vec![0; Bits::One.code_len(codec.padded())];
                let factors = encoder.encode(Bits::One, &mut one);
                ones.push((one, factors));
                let mut eight = vec![0; Bits::Eight.code_len(codec.padded())];
                let factors = encoder.encode(Bits::Eight, &mut eight);
                eights.push((eight, factors));
            }
            for block in ones.chunks(BLOCK_ROWS) {
                let block: Vec<_> = block.iter().map(|(code, f)| (&**code, *f)).collect();
                pack_block(codec.padded(), &block, &mut blocks);
            }
        }
        let rows = order.rows.iter().flat_map(row).copied().collect();
        Part { rows, router, codec, starts: order.starts, blocks, eights }
    }

    impl Part {
        /// Scans the nearest cells, decides by eight bits, and scores what is left exactly.
        fn search(&self, query: &[f32], k: usize, cells: usize) -> Vec<(u32, u32)> {
            let lists = Lists::new(&self.starts, &self.blocks, self.codec.padded()).unwrap();
            let prepared = self.codec.query(query, CONFIDENCE);
            let mut list = Shortlist::new(k);
            for (cell, probe) in self.router.route(&prepared, cells) {
                let (rows, blocks) = lists.cell(cell).unwrap();
                blocks.scan(&prepared, &probe, None, list.threshold(), |at, _| {
                    let row = rows.start + at as u32;
                    let (code, factors) = &self.eights[row as usize];
                    list.offer(row, prepared.estimate(Bits::Eight, code, *factors, &probe));
                    list.threshold()
                });
            }
            self.exact(query, k, list.into_undecided().into_iter())
        }

        fn exact(&self, query: &[f32], k: usize, of: impl Iterator<Item = u32>) -> Vec<(u32, u32)> {
            let scorer = Scorer::new(self.codec.metric(), query);
            let mut best = TopK::new(k);
            for row in of {
                let vector = &self.rows[row as usize * DIM..][..DIM];
                best.push(scorer.score(vector, inv_norm(vector)), row);
            }
            best.into_sorted_vec().into_iter().map(|hit| (hit.item, hit.score.to_bits())).collect()
        }
    }

    fn vectors(seed: u64, count: usize) -> Vec<f32> {
        let random = &mut SplitMix64(seed);
        let mut number = || random.below(2_001) as f32 / 1_000.0 - 1.0;
        let shared: Vec<f32> = (0..20 * DIM).map(|_| number()).collect();
        (0..count)
            .flat_map(|row| (0..DIM).map(move |d| (row % 20 * DIM) + d).collect::<Vec<_>>())
            .map(|at| shared[at] + 0.6 * number())
            .collect()
    }

    #[test]
    fn a_search_of_every_cell_finds_nearly_all_and_of_some_most() {
        for metric in [Metric::Cosine, Metric::Dot, Metric::L2] {
            let mut rows = vectors(3, 3_050);
            if metric == Metric::Cosine {
                for row in rows.chunks_exact_mut(DIM) {
                    let scale = inv_norm(row);
                    row.iter_mut().for_each(|x| *x *= scale);
                }
            }
            let queries = rows.split_off(3_000 * DIM);
            let part = part(metric, &rows, 40);
            let (mut all, mut some) = (0, 0);
            for query in queries.chunks_exact(DIM) {
                let truth = part.exact(query, 10, 0..3_000);
                let held =
                    |found: Vec<(u32, u32)>| truth.iter().filter(|hit| found.contains(hit)).count();
                all += held(part.search(query, 10, usize::MAX));
                some += held(part.search(query, 10, 20));
            }
            assert!(all >= 485, "{metric:?}: {all} of 500 in all cells");
            assert!(some >= 400, "{metric:?}: {some} of 500 in half of the cells");
        }
    }

    proptest! {
        #[test]
        fn rows_are_ordered_by_cell_and_stay_in_order_within_it(
            cells in prop::collection::vec(0_u32..7, 0..200),
        ) {
            let assigned: Vec<_> =
                cells.iter().map(|c| Assignment { cell: *c, squared_distance: 0.0 }).collect();
            let order = CellOrder::new(&assigned, 7);
            let mut want: Vec<u32> = (0..cells.len() as u32).collect();
            want.sort_by_key(|row| cells[*row as usize]);
            prop_assert_eq!(&order.rows, &want);
            prop_assert_eq!(order.starts.len(), 8);
            for (cell, pair) in order.starts.windows(2).enumerate() {
                let rows = &order.rows[pair[0] as usize..pair[1] as usize];
                prop_assert!(rows.iter().all(|row| cells[*row as usize] as usize == cell));
            }
        }

        /// Any places and any number of bytes: an error, or lists whose every cell can be read.
        #[test]
        fn hostile_lists_are_refused_or_safe(
            starts in prop::collection::vec(0_u32..100, 0..6),
            sorted in any::<bool>(),
            blocks in 0_usize..8,
            spare in 0_usize..2,
        ) {
            let mut starts = starts;
            if sorted {
                starts.sort_unstable();
                starts.insert(0, 0);
            }
            let bytes = vec![0xA5; blocks * block_len(64) + spare];
            if let Ok(lists) = Lists::new(&starts, &bytes, 64) {
                let mut rows = 0;
                for cell in 0..lists.cells() as u32 {
                    let (range, blocks) = lists.cell(cell).expect("the cell is there");
                    prop_assert_eq!(range.len(), blocks.rows());
                    rows += range.len();
                }
                prop_assert_eq!(rows, starts.last().map_or(0, |rows| *rows as usize));
                prop_assert!(lists.cell(lists.cells() as u32).is_none());
            }
        }
    }

    #[test]
    fn what_is_wrong_with_lists_is_said() {
        assert_eq!(Lists::new(&[], &[], 64).err(), Some(BadLists::NoBegin));
        assert_eq!(Lists::new(&[1], &[], 64).err(), Some(BadLists::NoBegin));
        let backwards = BadLists::Backwards { cell: 2, start: 3 };
        assert_eq!(Lists::new(&[0, 5, 3], &[], 64).err(), Some(backwards));
        assert!(matches!(Lists::new(&[0, 1], &[0; 7], 64), Err(BadLists::Codes(_))));
        assert!(Lists::new(&[0, u32::MAX], &[], 64).is_err());
        assert_eq!(Lists::new(&[0], &[], 64).map(|lists| lists.cells()).ok(), Some(0));
    }
}
