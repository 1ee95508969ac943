//! Approximate search of a segment that has cells.
//!
//! The query is prepared once per clustering. One-bit codes of the chosen cells are scanned in blocks
//! of 32; a row whose upper bound reaches the best lower bounds is decided by its eight-bit code;
//! what that leaves undecided, a few more rows than k, is scored by its vector. So an answer holds
//! true scores, and what is approximate is only whether a row was looked at.
//!
//! # Plans
//! - *cells*: the nearest cells, as many as the recall takes ([`super::choice`]). Tombstones and
//!   filters are masks of the scan.
//! - *matches*: if few rows match, the cells in which those lie.
//! - If very few match, their vectors: nothing is prepared for them.

use super::{
    choice::Choice,
    counted::{Counted, Rows},
    explain::PartExplain,
    place::Place,
    search::{Candidate, Effort, Search, micros},
};
use crate::{
    collection::SegmentView,
    error::{Error, Result},
    ivf::calibrate::rank_units,
    segment::{CellTable, Codes, FineCodes},
};
use akidb_index::{
    BLOCK_ROWS,
    rabitq::{self, CONFIDENCE, Collector, Estimate, Probe, Query},
};
use roaring::RoaringBitmap;
use std::ops::Range;

/// Up to so many matching rows are scored by their vectors: preparing the query for codes costs as much.
const FEWEST_MATCHES: u64 = 400;
/// Up to so many, all of them are looked at, wherever they lie.
const FEW_MATCHES: u64 = 2_000;
/// Beyond so many matches, the centroids of all cells are looked at in one pass.
const MANY_PROBES: u64 = 200;
/// Up to so many rows per block, their eight-bit codes are read at once: scanning a block costs about
/// as much as reading two of those, which lie anywhere.
const SCATTERED: u64 = 1;

/// Queries as the clusterings of the segments see them.
#[derive(Debug, Default)]
pub(super) struct Queries(Vec<(u64, Query)>);

impl Queries {
    fn of(&mut self, table: &CellTable, query: &[f32]) -> &Query {
        let id = table.clustering().id();
        let at = match self.0.iter().position(|(known, _)| *known == id) {
            Some(at) => at,
            None => {
                self.0.push((id, table.clustering().codec().query(query, CONFIDENCE)));
                self.0.len() - 1
            }
        };
        &self.0[at].1
    }
}

/// One segment being searched.
struct Hunt<'a> {
    codes: Codes<'a>,
    table: &'a CellTable,
    query: &'a Query,
    rows: &'a Counted<'a>,
    k: usize,
    /// What parts before this one found rules out rows here too.
    floor: f32,
    counts: PartExplain,
}

impl Search<'_> {
    /// How many cells to look through; `None` if the search is to be exact.
    fn nprobe(&self, table: &CellTable, rows: u32, counting: u64) -> Option<usize> {
        let cells = table.clustering().cells();
        match self.scene.spec.effort {
            Effort::Exact => None,
            Effort::Cells(nprobe) => Some(nprobe.min(cells as usize)),
            Effort::Recall(target) => {
                let depth = self.scene.spec.k as f32 * rows as f32 / counting.max(1) as f32;
                Some(table.calibration().nprobe(target, depth, cells) as usize)
            }
        }
    }

    /// Searches a segment by its cells. `None` if it is to be searched exactly.
    pub(super) fn by_cells(
        &mut self,
        at: usize,
        view: &SegmentView,
        rows: Rows<'_>,
    ) -> Result<Option<PartExplain>> {
        if self.scene.spec.effort.is_exact() {
            return Ok(None);
        }
        let segment = &view.part.segment;
        let Some(table) = segment.cells(&self.scene.view.clusterings)? else { return Ok(None) };
        let rows = &Counted::new(rows, segment.rows());
        let counting = rows.all();
        if matches!(rows.which(), Rows::Only(_)) && counting <= FEWEST_MATCHES {
            return Ok(None);
        }
        let Some(nprobe) = self.nprobe(table, segment.rows(), counting) else { return Ok(None) };
        let start = self.scene.clock.monotonic();
        let floor = rank_units(self.scene.view.schema.metric, self.best.threshold());
        let query = self.queries.of(table, &self.scene.spec.query);
        let counts = PartExplain::default();
        let codes = segment.codes(table);
        let k = self.scene.spec.k;
        let mut hunt = Hunt { codes, table, query, rows, k, floor, counts };
        let order = match rows.which() {
            Rows::Only(answer) if counting <= FEW_MATCHES => {
                hunt.counts.plan = "matches";
                hunt.cells_of(answer.rows())?
            }
            _ => {
                hunt.counts.plan = "cells";
                Choice { table, query, rows, wanted: counting.min(k as u64) }.cells(nprobe)
            }
        };
        let routed = self.scene.clock.monotonic();
        let mut left = hunt.cells(&order)?;
        let mut counts = hunt.counts;
        let scanned = self.scene.clock.monotonic();
        left.sort_unstable();
        counts.scored = left.len() as u64;
        for row in left {
            self.score_row(at, view, row)?;
        }
        let scored = self.scene.clock.monotonic();
        counts.route_us = micros(routed.saturating_sub(start));
        counts.scan_us = micros(scanned.saturating_sub(routed));
        counts.score_us = micros(scored.saturating_sub(scanned));
        Ok(Some(counts))
    }

    fn score_row(&mut self, at: usize, view: &SegmentView, row: u32) -> Result<()> {
        let segment = &view.part.segment;
        let inv_norm = segment.inv_norms(row, 1)?.first().copied().unwrap_or(0.0);
        let score = self.scorer.score(&segment.vectors(row, 1)?, inv_norm);
        if self.admits(score) {
            let place = Place::Segment { part: at, row };
            self.best.push(score, Candidate { id: segment.id(row)?, place });
        }
        Ok(())
    }
}

/// A cell that is looked through row by row: its rows, and their codes.
struct Scattered<'a> {
    rows: Range<u32>,
    probe: Probe,
    fine: FineCodes<'a>,
}

impl Hunt<'_> {
    /// Looks through cells, the most promising first; the rows that are to be scored. Where few rows of a
    /// cell count, their eight-bit codes are read at once; else its blocks are scanned.
    fn cells(&mut self, order: &[(u32, Probe)]) -> Result<Vec<u32>> {
        let mut words = Vec::new();
        let (mut found, mut scattered) = (Vec::with_capacity(order.len()), Vec::new());
        for (cell, probe) in order {
            let rows = self.table.rows(*cell);
            self.counts.cells += 1;
            let counting = self.rows.count_in(&rows);
            if counting == 0 {
                continue;
            }
            let fine = self.codes.fine(rows.clone())?;
            if counting <= SCATTERED * rows.len().div_ceil(BLOCK_ROWS) as u64 {
                self.counts.decided += counting;
                scattered.push(Scattered { rows, probe: *probe, fine });
                continue;
            }
            self.counts.scanned += counting;
            let first = words.len();
            let masked = counting < rows.len() as u64;
            if masked {
                self.rows.mask(&rows, &mut words);
            }
            let mask = masked.then_some(first..words.len());
            found.push((rows.start, *probe, self.codes.cell(*cell)?, fine, mask));
        }
        let mut collector = Collector::new(self.query, self.k).above(self.floor);
        for (at, (first, probe, codes, fine, mask)) in found.iter().enumerate() {
            if let Some((_, _, next, ..)) = found.get(at + 1) {
                next.blocks()?.prefetch(self.query);
            }
            let cell = rabitq::CellCodes {
                blocks: codes.blocks()?,
                fine: fine.view()?,
                mask: mask.clone().and_then(|mask| words.get(mask)),
            };
            collector.scan(&cell, probe, |at| Some(first + at as u32));
        }
        collector.settle();
        self.counts.decided += collector.decided() as u64;
        self.decide(&scattered, |row, estimate| collector.offer(row, estimate))?;
        Ok(collector.finish())
    }

    /// Estimates what counts of some cells by the eight-bit codes.
    fn decide(&self, cells: &[Scattered<'_>], mut offer: impl FnMut(u32, Estimate)) -> Result<()> {
        let (mut names, mut rows) = (Vec::new(), Vec::new());
        for cell in cells {
            let fine = cell.fine.view()?;
            self.rows.each_in(&cell.rows, |at| {
                if let Some(row) = fine.row(at as usize) {
                    names.push(cell.rows.start + at);
                    rows.push((row, cell.probe));
                }
            });
        }
        let mut estimates = Vec::with_capacity(rows.len());
        self.query.estimate_rows(&rows, &mut estimates);
        names.into_iter().zip(estimates).for_each(|(row, estimate)| offer(row, estimate));
        Ok(())
    }

    /// The cells in which rows of a bitmap lie.
    fn cells_of(&self, allowed: &RoaringBitmap) -> Result<Vec<(u32, Probe)>> {
        let router = self.table.clustering().router();
        if allowed.len() > MANY_PROBES {
            // In one pass over all centroids.
            let cells = (0..).zip(router.probes(self.query));
            let holds = |cell: u32| self.rows.count_in(&self.table.rows(cell)) > 0;
            return Ok(cells.filter(|(cell, _)| holds(*cell)).collect());
        }
        let mut cells: Vec<u32> = allowed.iter().map(|row| self.table.cell_of(row)).collect();
        cells.dedup();
        let probe = |cell: u32| {
            let centre = router.centre(cell).ok_or_else(|| Error::bug("a row lies in no cell"))?;
            Ok((cell, self.query.probe(centre)))
        };
        cells.into_iter().map(probe).collect()
    }
}
