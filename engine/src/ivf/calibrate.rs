//! How many cells a recall takes, measured on rows of the segment itself when it is written.
//!
//! Rows are taken as queries, spread over the whole segment and left out of their own answers. For
//! each its nearest rows are found among all others, and how far down the order of cells each of
//! them lies. The number of cells that covers a share of them, and a part of the rest, is what a search
//! for that share looks through.
//!
//! Depths matter because of filters: if one row in ten matches, the ten nearest matches are about
//! the hundred nearest rows.

#![deny(clippy::indexing_slicing)]

use super::Clustering;
use crate::{cursor::Cursor, error::Result, schema::Metric};
use akidb_index::{
    Executor, Scorer, TopK,
    lists::{Lists, Places},
    map,
    rabitq::CONFIDENCE,
};
use std::borrow::Cow;

/// Shares of the nearest rows that are measured.
const TARGETS: [f32; 10] = [0.5, 0.7, 0.8, 0.9, 0.95, 0.97, 0.98, 0.99, 0.995, 0.999];
/// Numbers of nearest rows that are measured.
const DEPTHS: [u32; 2] = [10, 100];
/// Rows that are taken as queries, at least and at most. With a hundred, the cells for one target came
/// out between 47 and 132 from build to build of the same rows.
const QUERIES: [u32; 2] = [100, 400];
/// Between the two, as many as look at so many rows in all.
const LOOKED_AT: u32 = 32_000_000;
/// Of the misses that a target allows, the share that rows as queries may make. The rest is for what
/// the bounds of the codes lose, and for queries that resemble rows less than rows resemble each
/// other: sentences asked of 100,000 glosses had a recall of 0.91 where glosses had 0.95.
const MISSES: f32 = 0.7;

/// Cells that a share of the nearest rows takes, by depth and target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Calibration {
    nprobe: [[u32; TARGETS.len()]; DEPTHS.len()],
}

impl Calibration {
    /// Reads what [`Self::encode`] wrote; `None` if it cannot be of so many cells.
    pub(crate) fn decode(bytes: &[u8], cells: u32) -> Option<Self> {
        let mut fields = Cursor::new(bytes, 0);
        let mut nprobe = [[0; TARGETS.len()]; DEPTHS.len()];
        for slot in nprobe.as_flattened_mut() {
            *slot = fields.u32().filter(|nprobe| (1..=cells).contains(nprobe))?;
        }
        (fields.remaining() == 0).then_some(Self { nprobe })
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        self.nprobe.as_flattened().iter().flat_map(|nprobe| nprobe.to_le_bytes()).collect()
    }

    /// How many of the nearest cells hold the share `target` of the `depth` nearest rows.
    pub(crate) fn nprobe(&self, target: f32, depth: f32, cells: u32) -> u32 {
        let above = TARGETS.iter().position(|measured| *measured >= target);
        let Some(column) = above else { return cells };
        let at = |row: &[u32; TARGETS.len()]| row.get(column).map_or(1.0, |nprobe| *nprobe as f32);
        let [few, many] = &self.nprobe;
        let [shallow, deep] = DEPTHS.map(|depth| depth as f32);
        // A power of the depth between the two that were measured, and beyond.
        let power = (at(many) / at(few)).max(1.0).ln() / (deep / shallow).ln();
        let nprobe = at(few) * (depth.max(shallow) / shallow).powf(power);
        (nprobe.ceil() as u32).clamp(1, cells)
    }
}

/// The one-bit codes of a segment that is being written, and its rows.
pub(crate) struct Subject<'a, F> {
    pub(crate) clustering: &'a Clustering,
    pub(crate) metric: Metric,
    pub(crate) places: &'a Places,
    pub(crate) lists: Lists<'a>,
    /// The inverse lengths of all rows.
    pub(crate) inv_norms: &'a [f32],
    /// The vector of a row.
    pub(crate) vector: &'a F,
}

/// For each depth the ranks of the cells in which the nearest rows of a query lie.
type Ranks = [Vec<u32>; DEPTHS.len()];

impl<'v, F: Fn(u32) -> Result<Cow<'v, [f32]>> + Sync> Subject<'_, F> {
    /// Measures.
    pub(crate) fn calibrate(&self, executor: &dyn Executor) -> Result<Calibration> {
        let cells = self.clustering.cells();
        let rows = self.places.row_count();
        let [least, most] = QUERIES;
        let queries = (LOOKED_AT / rows.max(1)).clamp(least, most).min(rows);
        let mut all: Ranks = Default::default();
        for ranks in map(executor, queries as usize, |query| {
            let row = query as u64 * u64::from(rows) / u64::from(queries);
            self.ranks(u32::try_from(row).unwrap_or(0))
        }) {
            all.iter_mut().zip(ranks?).for_each(|(all, ranks)| all.extend(ranks));
        }
        let nprobe = all.map(|mut ranks| {
            ranks.sort_unstable();
            TARGETS.map(|target| covering(&ranks, 1.0 - MISSES * (1.0 - target)).clamp(1, cells))
        });
        Ok(Calibration { nprobe })
    }

    /// Those of one row as a query.
    fn ranks(&self, row: u32) -> Result<Ranks> {
        let (order, nearest) = self.nearest(row)?;
        let rank = |found: &u32| order.get(self.places.cell_of(*found) as usize).copied();
        let ranks = |depth: u32| nearest.iter().take(depth as usize).map(|f| rank(f).unwrap_or(0));
        Ok(DEPTHS.map(|depth| ranks(depth).collect()))
    }

    /// The rank of every cell for this row as a query, and its nearest rows, the nearest first.
    fn nearest(&self, row: u32) -> Result<(Vec<u32>, Vec<u32>)> {
        let vector = (self.vector)(row)?;
        let query = self.clustering.codec().query(&vector, CONFIDENCE);
        let scorer = Scorer::new(super::metric_of(self.metric), &vector);
        let deepest = DEPTHS.iter().max().map_or(0, |depth| *depth as usize);
        let mut best = TopK::new(deepest);
        let mut order = vec![0; self.clustering.cells() as usize];
        let mut failed = None;
        let cells = self.clustering.router().route(&query, usize::MAX);
        for (rank, (cell, probe)) in (0_u32..).zip(cells) {
            if let Some(slot) = order.get_mut(cell as usize) {
                *slot = rank;
            }
            let Some((rows, blocks)) = self.lists.cell(cell) else { continue };
            let threshold = rank_units(self.metric, best.threshold());
            blocks.scan(&query, &probe, None, threshold, |at, _| {
                let other = rows.start + at as u32;
                match (self.vector)(other) {
                    Ok(vector) if other != row => {
                        let inv_norm = self.inv_norms.get(other as usize).copied();
                        best.push(scorer.score(&vector, inv_norm.unwrap_or(0.0)), other);
                    }
                    Ok(_) => {}
                    Err(error) => failed = Some(error),
                }
                rank_units(self.metric, best.threshold())
            });
        }
        let nearest = best.into_sorted_vec().into_iter().map(|found| found.item).collect();
        failed.map_or(Ok((order, nearest)), Err)
    }
}

/// A score as codes estimate it (see [`akidb_index::rabitq`]); minus infinity for none.
pub(crate) fn rank_units(metric: Metric, score: Option<f32>) -> f32 {
    match (score, metric) {
        (None, _) => f32::NEG_INFINITY,
        (Some(score), Metric::L2) => -(score * score),
        (Some(score), Metric::Cosine | Metric::Dot) => score,
    }
}

/// How many of the first cells hold the share of the rows, whose ranks are sorted.
fn covering(ranks: &[u32], share: f32) -> u32 {
    let wanted = (ranks.len() as f32 * share).ceil() as usize;
    let last = ranks.get(wanted.min(ranks.len()).saturating_sub(1));
    last.map_or(1, |rank| rank + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    const CALIBRATION_LEN: usize = 4 * TARGETS.len() * DEPTHS.len();
    use proptest::prelude::*;

    #[test]
    fn a_table_is_read_back_and_one_that_cannot_be_is_refused() {
        let mut table = Calibration { nprobe: [[3; TARGETS.len()]; DEPTHS.len()] };
        table.nprobe[1][2] = 8;
        let bytes = table.encode();
        assert_eq!(bytes.len(), CALIBRATION_LEN);
        assert_eq!(Calibration::decode(&bytes, 8), Some(table));
        assert_eq!(Calibration::decode(&bytes, 7), None);
        assert_eq!(Calibration::decode(&bytes[1..], 8), None);
        assert_eq!(Calibration::decode(&[0; CALIBRATION_LEN], 8), None);
    }

    proptest! {
        #[test]
        fn more_recall_and_more_depth_never_take_fewer_cells(
            mut few in prop::array::uniform10(1_u32..500),
            mut more in prop::array::uniform10(0_u32..500),
            low in 0.1_f32..1.0, high in 0.1_f32..1.0,
            shallow in 1.0_f32..2_000.0, deep in 1.0_f32..2_000.0,
        ) {
            few.sort_unstable();
            more.sort_unstable();
            let many = std::array::from_fn(|i| few[i] + more[i]);
            let table = Calibration { nprobe: [few, many] };
            let (low, high) = (low.min(high), low.max(high));
            let (shallow, deep) = (shallow.min(deep), shallow.max(deep));
            let nprobe = table.nprobe(low, shallow, 1_000);
            prop_assert!((1..=1_000).contains(&nprobe));
            prop_assert!(nprobe <= table.nprobe(low, deep, 1_000));
            // The power may differ between targets, so that deeper ones may cross.
            prop_assert!(table.nprobe(low, 10.0, 1_000) <= table.nprobe(high, 10.0, 1_000));
        }

        #[test]
        fn what_covers_a_share_covers_it(
            mut ranks in prop::collection::vec(0_u32..50, 1..200),
            share in 0.0_f32..1.0,
        ) {
            ranks.sort_unstable();
            let cells = covering(&ranks, share);
            let covered = ranks.iter().filter(|rank| **rank < cells).count();
            prop_assert!(covered as f32 >= ranks.len() as f32 * share);
        }
    }
}
