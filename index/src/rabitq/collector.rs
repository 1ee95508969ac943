//! A search of cells: one-bit codes are scanned, eight-bit codes decide, and what these leave open
//! is scored exactly by the caller.
//!
//! The few rows that a scan finds near lie scattered over memory. So their eight-bit codes are asked
//! for when they are found, and looked at one cell later. The first cells, while nothing is known
//! yet of what is near, are scanned as a whole: then the best of their rows are decided first, and
//! most of the others are ruled out by these without a look at their codes.
//!
//! # Invariants
//! - A row is left out only if `k` others are better as far as bounds tell: see [`Shortlist`].
//! - Nothing stays undecided: [`Collector::finish`] decides what is on its way.

use super::{
    Bits, Blocks, Estimate, FACTORS_LEN, Factors, FineCodes, Probe, Query, Shortlist, block::Found,
};

/// Rows that are looked at before the first are decided, as long as there is no threshold.
const WARM_ROWS: usize = 256;
/// Of those, this many times `k` are decided first.
const WARM_SHARE: usize = 2;

/// A row on its way: its codes were asked of memory.
#[derive(Clone, Copy, Debug)]
struct Pending<'a, T> {
    item: T,
    /// What its one-bit code tells.
    estimate: Estimate,
    probe: Probe,
    code: &'a [u8],
    factors: &'a [u8; FACTORS_LEN],
}

impl<T> Pending<'_, T> {
    /// An upper bound that is not known (NaN) rules nothing out.
    fn is_ruled_out(&self, threshold: f32) -> bool {
        self.estimate.score + self.estimate.margin < threshold
    }
}

/// Codes of the rows of one cell.
#[derive(Clone, Copy, Debug)]
pub struct CellCodes<'a> {
    /// One-bit codes.
    pub blocks: Blocks<'a>,
    /// Eight-bit codes of the same rows.
    pub fine: FineCodes<'a>,
    /// A bit for each row that may be found, 32 to a word; `None` if all may.
    pub mask: Option<&'a [u32]>,
}

/// The rows that may be among the `k` best of the cells that were scanned, nearest cells first.
///
/// ```
/// use akidb_index::{Metric, rabitq::*};
/// let codec = Codec::new(Metric::Dot, 2, 1);
/// let (mut blocks, mut codes, mut factors) = (Vec::new(), vec![0; 2 * 64], Vec::new());
/// let mut ones = Vec::new();
/// let mut encoder = codec.encoder();
/// for (row, code) in [[3.0, 4.0], [-3.0, 1.0]].iter().zip(codes.chunks_mut(64)) {
///     encoder.set_row(row, 1.0);
///     encoder.set_centre(&codec.origin_centre());
///     factors.extend(encoder.encode(Bits::Eight, code).to_bytes());
///     let mut one = vec![0; 8];
///     let of_one = encoder.encode(Bits::One, &mut one);
///     ones.push((one, of_one));
/// }
/// let ones: Vec<_> = ones.iter().map(|(code, factors)| (&**code, *factors)).collect();
/// pack_block(64, &ones, &mut blocks);
///
/// let query = codec.query(&[1.0, 1.0], CONFIDENCE);
/// let cell = CellCodes {
///     blocks: Blocks::new(&blocks, 64, 2)?,
///     fine: FineCodes::new(&codes, &factors, 64)?,
///     mask: None,
/// };
/// let mut found = Collector::new(&query, 1);
/// found.scan(&cell, &query.probe(&codec.origin_centre()), Some);
/// assert_eq!(found.finish(), [0]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct Collector<'a, T> {
    query: &'a Query,
    k: usize,
    list: Shortlist<T>,
    pending: Vec<Pending<'a, T>>,
    found: Found,
    scanned: usize,
    decided: usize,
}

impl<'a, T: Ord + Copy> Collector<'a, T> {
    /// Nothing yet of the `k` best for a query.
    pub fn new(query: &'a Query, k: usize) -> Self {
        let (list, pending) = (Shortlist::new(k), Vec::with_capacity(2 * WARM_ROWS));
        Self { query, k, list, pending, found: Found::default(), scanned: 0, decided: 0 }
    }

    /// Leaves out rows below `floor`, too: the `k`-th best score that was found elsewhere.
    #[must_use]
    pub fn above(mut self, floor: f32) -> Self {
        self.list = self.list.above(floor);
        self
    }

    /// A row whose upper bound is below this is not among the best.
    pub fn threshold(&self) -> f32 {
        self.list.threshold()
    }

    /// Rows whose one-bit codes were looked at.
    pub fn scanned(&self) -> usize {
        self.scanned
    }

    /// Rows whose eight-bit codes were looked at.
    pub fn decided(&self) -> usize {
        self.decided
    }

    /// Offers a row that was estimated elsewhere, such as one that has no codes in a list.
    pub fn offer(&mut self, item: T, estimate: Estimate) {
        self.list.offer(item, estimate);
    }

    /// Scans the rows of a cell. `name` turns the number of a row within the cell into what it is
    /// called in the end; `None` for a row that is not to be found, which is asked only of those that
    /// the scan leaves.
    ///
    /// # Panics
    /// If query and codes are of different dimensions, or the codes of different numbers of rows:
    /// bugs of the caller.
    pub fn scan(&mut self, cell: &CellCodes<'a>, probe: &Probe, name: impl Fn(usize) -> Option<T>) {
        assert_eq!(cell.blocks.rows(), cell.fine.rows(), "a row has codes of both kinds");
        let (threshold, before) = (self.list.threshold(), self.pending.len());
        let (query, pending, found) = (self.query, &mut self.pending, &mut self.found);
        cell.blocks.scan_with(found, query, probe, cell.mask, threshold, |row, estimate| {
            if let (Some((code, factors)), Some(item)) = (cell.fine.bytes(row), name(row)) {
                if threshold > f32::NEG_INFINITY {
                    query.kernels().prefetch(code);
                    query.kernels().prefetch(factors);
                }
                pending.push(Pending { item, estimate, probe: *probe, code, factors });
            }
            threshold
        });
        self.scanned += cell.blocks.rows();
        if threshold > f32::NEG_INFINITY {
            self.decide(before);
        } else if self.pending.len() >= WARM_ROWS.max(self.k.saturating_mul(2 * WARM_SHARE)) {
            self.decide_all();
        }
    }

    /// Decides the best of the rows that are on their way, then what these leave.
    fn decide_all(&mut self) {
        let first = WARM_SHARE.saturating_mul(self.k);
        if self.pending.len() > first {
            let by_score = |pending: &Pending<'_, T>| -pending.estimate.score;
            self.pending.select_nth_unstable_by(first, |a, b| by_score(a).total_cmp(&by_score(b)));
            for pending in self.pending.iter().take(first) {
                self.query.kernels().prefetch(pending.code);
                self.query.kernels().prefetch(pending.factors);
            }
            self.decide(first);
            let (threshold, kernels) = (self.list.threshold(), self.query.kernels());
            self.pending.retain(|pending| {
                let open = !pending.is_ruled_out(threshold);
                if open {
                    kernels.prefetch(pending.code);
                    kernels.prefetch(pending.factors);
                }
                open
            });
        }
        self.decide(self.pending.len());
    }

    /// Decides the first rows that are on their way.
    fn decide(&mut self, count: usize) {
        for pending in self.pending.drain(..count) {
            if pending.is_ruled_out(self.list.threshold()) {
                continue;
            }
            self.decided += 1;
            let factors = Factors::from_bytes(pending.factors);
            let fine = self.query.estimate(Bits::Eight, pending.code, factors, &pending.probe);
            self.list.offer(pending.item, fine);
        }
    }

    /// Decides what is on its way, so that [`Self::decided`] is final.
    pub fn settle(&mut self) {
        self.decide_all();
    }

    /// The rows that bounds cannot rule out, among which are the `k` best as far as bounds hold:
    /// score them exactly.
    pub fn finish(mut self) -> Vec<T> {
        self.decide_all();
        self.list.into_undecided()
    }
}
