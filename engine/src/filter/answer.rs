//! The answer of a filter in one segment, in the two forms that searches ask: as a bitmap, and as a bit
//! per row with running counts, in which counting the rows of a cell takes nanoseconds.

use super::{Evaluated, FilterStep, FilterStrategy};
use roaring::RoaringBitmap;
use std::sync::OnceLock;

/// The rows of a segment that are live and match.
#[derive(Debug)]
pub(crate) struct Answer {
    rows: RoaringBitmap,
    plan: Vec<FilterStep>,
    segment_rows: u32,
    bits: OnceLock<Bits>,
}

impl Answer {
    pub(crate) fn new(found: Evaluated, segment_rows: u32) -> Self {
        let Evaluated { rows, plan } = found;
        Self { rows, plan, segment_rows, bits: OnceLock::new() }
    }

    /// The rows.
    pub(crate) fn rows(&self) -> &RoaringBitmap {
        &self.rows
    }

    /// How each condition was answered.
    pub(crate) fn plan(&self) -> &[FilterStep] {
        &self.plan
    }

    /// The plan of a search that asks again.
    pub(super) fn remembered_plan(&self) -> Vec<FilterStep> {
        let remembered =
            |step: &FilterStep| FilterStep { strategy: FilterStrategy::Remembered, ..step.clone() };
        self.plan.iter().map(remembered).collect()
    }

    /// Bytes of memory that the answer takes, its bits included.
    pub(super) fn bytes(&self) -> u64 {
        let words = u64::from(self.segment_rows) / 64 + 2;
        self.rows.serialized_size() as u64 + words * 12 + size_of::<Self>() as u64
    }

    /// A bit for each row of the segment, made when first asked for.
    pub(crate) fn bits(&self) -> &Bits {
        self.bits.get_or_init(|| {
            // One word more, so that the bits behind any row can be read.
            let mut words = vec![0; self.segment_rows as usize / 64 + 2];
            // Not a loop: the bitmap's own walk is twice as fast as asking it for each next row.
            self.rows.iter().for_each(|row| {
                if let Some(word) = words.get_mut(row as usize / 64) {
                    *word |= 1_u64 << (row % 64);
                }
            });
            Bits::new(words)
        })
    }
}

/// A bit per row, and how many are set before each word.
#[derive(Debug)]
pub(crate) struct Bits {
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

    /// The bits, from the lowest of the first word on; more words than rows need.
    pub(crate) fn words(&self) -> &[u64] {
        &self.words
    }

    /// How many rows before this one count.
    pub(crate) fn before(&self, row: u32) -> u64 {
        let at = row as usize / 64;
        let (Some(word), Some(before)) = (self.words.get(at), self.before.get(at)) else {
            return 0;
        };
        let below = word & ((1_u64 << (row % 64)) - 1);
        u64::from(before + below.count_ones())
    }
}
