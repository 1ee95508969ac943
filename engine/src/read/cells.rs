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
//! - *matches*: if few rows match, the eight-bit codes of those, wherever they lie.

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
    segment::{CellTable, Codes},
};
use akidb_index::rabitq::{self, CONFIDENCE, Collector, Probe, Query, Shortlist};
use roaring::RoaringBitmap;

/// Up to so many matching rows, their fine codes are read one by one: reading one costs what some
/// ten rows of a scan cost.
const FEW_MATCHES: u64 = 2_000;

/// Beyond so many matches, the centroids of all cells are looked at in one pass.
const MANY_PROBES: u64 = 200;

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
        let Some(nprobe) = self.nprobe(table, segment.rows(), counting) else { return Ok(None) };
        let start = self.scene.clock.monotonic();
        let floor = rank_units(self.scene.view.schema.metric, self.best.threshold());
        let query = self.queries.of(table, &self.scene.spec.query);
        let counts = PartExplain::default();
        let codes = segment.codes(table);
        let k = self.scene.spec.k;
        let mut hunt = Hunt { codes, table, query, rows, k, floor, counts };
        let mut routed = start;
        let mut left = match rows.which() {
            Rows::Only(allowed) if counting <= FEW_MATCHES => {
                hunt.counts.plan = "matches";
                hunt.matches(allowed)?
            }
            _ => {
                hunt.counts.plan = "cells";
                let wanted = counting.min(k as u64);
                let order = Choice { table, query, rows, wanted }.cells(nprobe);
                routed = self.scene.clock.monotonic();
                hunt.cells(&order)?
            }
        };
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

impl Hunt<'_> {
    /// Scans cells, the most promising first; the rows that are to be scored.
    fn cells(&mut self, order: &[(u32, Probe)]) -> Result<Vec<u32>> {
        let mut words = Vec::new();
        let mut found = Vec::with_capacity(order.len());
        for (cell, probe) in order {
            let rows = self.table.rows(*cell);
            self.counts.cells += 1;
            if rows.is_empty() {
                continue;
            }
            let first = words.len();
            let masked = self.rows.mask(&rows, &mut words);
            let mask = first..words.len();
            let bits = words[mask.clone()].iter().map(|word| u64::from(word.count_ones()));
            let counting = if masked { bits.sum() } else { rows.len() as u64 };
            if counting == 0 {
                continue;
            }
            self.counts.scanned += counting;
            let codes = self.codes.cell(*cell)?;
            let fine = self.codes.fine(rows.clone())?;
            found.push((rows.start, *probe, codes, fine, masked.then_some(mask)));
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
            collector.scan(&cell, probe, |at| first + at as u32);
        }
        collector.settle();
        self.counts.decided += collector.decided() as u64;
        Ok(collector.finish())
    }

    /// Decides the rows of a bitmap by their fine codes; those that are to be scored.
    fn matches(&mut self, allowed: &RoaringBitmap) -> Result<Vec<u32>> {
        let mut list = Shortlist::new(self.k).above(self.floor);
        let mut rows = allowed.iter().peekable();
        let (mut of_cell, mut estimates) = (Vec::new(), Vec::new());
        let router = self.table.clustering().router();
        // In one pass over all centroids where many of them are needed.
        let probes = (allowed.len() > MANY_PROBES).then(|| router.probes(self.query));
        while let Some(first) = rows.peek().copied() {
            let cell = self.table.cell_of(first);
            let range = self.table.rows(cell);
            let known = probes.as_ref().and_then(|probes| probes.get(cell as usize).copied());
            let probe = known.or_else(|| Some(self.query.probe(router.centre(cell)?)));
            let probe = probe.ok_or_else(|| Error::bug("a row lies in no cell"))?;
            let fine = self.codes.fine(range.clone())?;
            of_cell.clear();
            of_cell.extend(std::iter::from_fn(|| rows.next_if(|row| *row < range.end)));
            of_cell.iter_mut().for_each(|row| *row -= range.start);
            estimates.clear();
            self.query.estimate_rows(&fine.view()?, &of_cell, |_| probe, &mut estimates);
            for (row, estimate) in of_cell.iter().zip(&estimates) {
                list.offer(range.start + row, *estimate);
            }
            self.counts.cells += 1;
            self.counts.decided += of_cell.len() as u64;
        }
        Ok(list.into_undecided())
    }
}
