//! Lists: the rows of a segment in the order of their cells, and the one-bit codes of each cell.
//!
//! A cell's rows have consecutive numbers, and its codes are blocks of their own (see
//! [`crate::rabitq::Blocks`]), so that parts which share a codebook are merged by putting the
//! blocks of each cell behind one another where they are full, and packing the rest again.
//!
//! # Invariants
//! - [`Places::new`] and [`Lists::new`] check all that later reads rely on: where cells begin never
//!   goes back, and the bytes are exactly those of all blocks. Content of codes cannot do harm.
//! - Nothing is copied: a list in a mapped file is read where it lies.

#![deny(clippy::indexing_slicing)]

use crate::{
    BLOCK_ROWS,
    rabitq::{BadBlocks, Blocks, block_len},
};
use std::ops::Range;

/// Rows in the order of their cells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CellOrder {
    /// The old number of each row, in the new order: by cell, and within a cell as they were.
    pub rows: Vec<u32>,
    /// Where each cell begins in `rows`.
    pub places: Places,
}

impl CellOrder {
    /// Orders rows by their cells, of which there are `count`, in time proportional to both.
    ///
    /// # Panics
    /// If a row is in cell `count` or above, which is a bug of the caller.
    pub fn new(cells: &[u32], count: usize) -> Self {
        let mut sizes = vec![0_u32; count];
        for cell in cells {
            let size = sizes.get_mut(*cell as usize);
            *size.expect("rows are assigned to cells of the codebook") += 1;
        }
        let places = Places::of_sizes(&sizes);
        let mut next = places.starts.to_vec();
        let mut rows = vec![0; cells.len()];
        for (row, cell) in (0_u32..).zip(cells) {
            let Some(next) = next.get_mut(*cell as usize) else { continue };
            if let Some(place) = rows.get_mut(*next as usize) {
                *place = row;
            }
            *next += 1;
        }
        Self { rows, places }
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
}

/// Where the cells of a part begin, in rows and in blocks of codes.
///
/// ```
/// use akidb_index::lists::Places;
/// let places = Places::new(vec![0, 40, 40, 41])?;
/// assert_eq!((places.cells(), places.row_count(), places.block_count()), (3, 41, 3));
/// assert_eq!((places.rows(0), places.blocks(0)), (0..40, 0..2));
/// assert_eq!(places.cell_of(40), 2);
/// # Ok::<(), akidb_index::lists::BadLists>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Places {
    starts: Box<[u32]>,
    /// Blocks before each cell, and in all.
    blocks: Box<[u64]>,
}

impl Places {
    /// Cells that begin at these rows; at last the number of rows, so one more than there are cells.
    ///
    /// # Errors
    /// If the first does not begin at row 0, or one begins before the one in front of it.
    pub fn new(starts: Vec<u32>) -> Result<Self, BadLists> {
        if starts.first() != Some(&0) {
            return Err(BadLists::NoBegin);
        }
        let mut blocks = Vec::with_capacity(starts.len());
        let mut before = 0_u64;
        blocks.push(before);
        for (cell, pair) in starts.windows(2).enumerate() {
            let [start, end] = *pair else { continue };
            let Some(rows) = end.checked_sub(start) else {
                return Err(BadLists::Backwards { cell: cell + 1, start: end });
            };
            before += u64::from(rows.div_ceil(BLOCK_ROWS as u32));
            blocks.push(before);
        }
        Ok(Self { starts: starts.into(), blocks: blocks.into() })
    }

    /// Cells of so many rows each.
    fn of_sizes(sizes: &[u32]) -> Self {
        let mut end = 0_u32;
        let ends = sizes.iter().map(|size| {
            end += size;
            end
        });
        Self::new(std::iter::once(0).chain(ends).collect()).expect("ends of sizes never go back")
    }

    /// Where each cell begins, and at last the number of rows.
    pub fn starts(&self) -> &[u32] {
        &self.starts
    }

    /// How many cells there are.
    pub fn cells(&self) -> usize {
        self.starts.len() - 1
    }

    /// Rows in all cells.
    pub fn row_count(&self) -> u32 {
        self.starts.last().copied().unwrap_or(0)
    }

    /// Blocks in all cells.
    pub fn block_count(&self) -> u64 {
        self.blocks.last().copied().unwrap_or(0)
    }

    /// The rows of a cell; none if there is no such cell.
    pub fn rows(&self, cell: u32) -> Range<u32> {
        between(&self.starts, cell)
    }

    /// The blocks of a cell's codes; none if there is no such cell.
    pub fn blocks(&self, cell: u32) -> Range<u64> {
        between(&self.blocks, cell)
    }

    /// The cell that holds a row; of a row that is not there, some number.
    pub fn cell_of(&self, row: u32) -> u32 {
        let after = self.starts.partition_point(|start| *start <= row);
        u32::try_from(after.saturating_sub(1)).unwrap_or(u32::MAX)
    }
}

/// From where a cell begins to where the next one does.
fn between<T: Copy + Default>(starts: &[T], cell: u32) -> Range<T> {
    let cell = cell as usize;
    let bounds = starts.get(cell).zip(starts.get(cell.saturating_add(1)));
    bounds.map_or(T::default()..T::default(), |(start, end)| *start..*end)
}

/// The codes of all cells, in memory that somebody else owns.
#[derive(Clone, Copy, Debug)]
pub struct Lists<'a> {
    places: &'a Places,
    bytes: &'a [u8],
    padded: usize,
}

impl<'a> Lists<'a> {
    /// A view of the lists of these cells, with codes of `padded` components in `bytes`: the blocks
    /// of one cell behind those of the other.
    ///
    /// # Errors
    /// If the bytes are not as many as the rows need.
    pub fn new(places: &'a Places, bytes: &'a [u8], padded: usize) -> Result<Self, BadBlocks> {
        let blocks = usize::try_from(places.block_count()).unwrap_or(usize::MAX);
        let want = blocks.saturating_mul(block_len(padded));
        if bytes.len() != want || padded == 0 || !padded.is_multiple_of(crate::PAD) {
            let rows = places.row_count() as usize;
            return Err(BadBlocks { rows, padded, want, got: bytes.len() });
        }
        Ok(Self { places, bytes, padded })
    }

    /// How many cells there are.
    pub fn cells(&self) -> usize {
        self.places.cells()
    }

    /// The rows of a cell and their codes: row `i` of the blocks is row `rows.start + i`. `None` if
    /// there is no such cell.
    pub fn cell(&self, cell: u32) -> Option<(Range<u32>, Blocks<'a>)> {
        if cell as usize >= self.cells() {
            return None;
        }
        let (rows, blocks) = (self.places.rows(cell), self.places.blocks(cell));
        let byte = |block: u64| usize::try_from(block).ok()?.checked_mul(block_len(self.padded));
        let bytes = self.bytes.get(byte(blocks.start)?..byte(blocks.end)?)?;
        let blocks = Blocks::new(bytes, self.padded, rows.len()).ok()?;
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
        places: Places,
        blocks: Vec<u8>,
        eights: Vec<(Vec<u8>, Factors)>,
    }

    fn part(metric: Metric, rows: &[f32], cells: usize) -> Part {
        let book = Codebook::train(rows, DIM, cells, 1);
        let codec = Codec::new(metric, DIM, 2);
        let router = Router::new(&book, &codec);
        let cells: Vec<u32> = book.assign(rows).iter().map(|found| found.cell).collect();
        let order = CellOrder::new(&cells, book.cells());
        let row = |old: &u32| &rows[*old as usize * DIM..][..DIM];
        let (mut blocks, mut eights) = (Vec::new(), Vec::new());
        let mut encoder = codec.encoder();
        for cell in 0..order.places.cells() as u32 {
            let mut ones = Vec::new();
            let places = order.places.rows(cell);
            for old in &order.rows[places.start as usize..places.end as usize] {
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
        Part { rows, router, codec, places: order.places, blocks, eights }
    }

    impl Part {
        /// Scans the nearest cells, decides by eight bits, and scores what is left exactly.
        fn search(&self, query: &[f32], k: usize, cells: usize) -> Vec<(u32, u32)> {
            let lists = Lists::new(&self.places, &self.blocks, self.codec.padded()).unwrap();
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
            let order = CellOrder::new(&cells, 7);
            let mut want: Vec<u32> = (0..cells.len() as u32).collect();
            want.sort_by_key(|row| cells[*row as usize]);
            prop_assert_eq!(&order.rows, &want);
            prop_assert_eq!(order.places.cells(), 7);
            for cell in 0..7 {
                for place in order.places.rows(cell) {
                    prop_assert_eq!(cells[order.rows[place as usize] as usize], cell);
                    prop_assert_eq!(order.places.cell_of(place), cell);
                }
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
            if let Ok(places) = Places::new(starts.clone())
                && let Ok(lists) = Lists::new(&places, &bytes, 64)
            {
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
        let places = |starts: &[u32]| Places::new(starts.to_vec());
        assert_eq!(places(&[]), Err(BadLists::NoBegin));
        assert_eq!(places(&[1]), Err(BadLists::NoBegin));
        assert_eq!(places(&[0, 5, 3]), Err(BadLists::Backwards { cell: 2, start: 3 }));
        assert!(Lists::new(&places(&[0, 1]).unwrap(), &[0; 7], 64).is_err());
        assert!(Lists::new(&places(&[0, u32::MAX]).unwrap(), &[], 64).is_err());
        let none = places(&[0]).unwrap();
        assert_eq!(Lists::new(&none, &[], 64).map(|lists| lists.cells()), Ok(0));
        assert_eq!((none.rows(0), none.blocks(u32::MAX), none.cell_of(9)), (0..0, 0..0, 0));
    }
}
