//! Approximate search of a segment that has cells.
//!
//! The query is prepared once per clustering. One-bit codes of the chosen cells are scanned in blocks
//! of 32; a row whose upper bound reaches the best lower bounds is decided by its eight-bit code;
//! what that leaves undecided, a few more rows than k, is scored by its vector. So an answer holds
//! true scores, and what is approximate is only whether a row was looked at.
//!
//! # Plans
//! - *cells*: the nearest cells, as many as the recall takes. Tombstones and filters are masks of the
//!   scan. With a filter the depth grows by its selectivity: the k nearest of the tenth that
//!   matches are about the 10k nearest of all. If fewer than k rows came out though k match, the
//!   other cells follow: k rows that match always give k hits.
//! - *matches*: if few rows match, the eight-bit codes of those, wherever they lie.

use super::{
    explain::PartExplain,
    place::Place,
    search::{Candidate, Effort, Search},
};
use crate::{
    collection::SegmentView,
    error::{Error, Result},
    ivf::calibrate::rank_units,
    segment::CellTable,
};
use akidb_index::{
    BLOCK_ROWS,
    rabitq::{Bits, CONFIDENCE, Probe, Query, Shortlist},
};
use roaring::RoaringBitmap;
use std::ops::Range;

/// Up to so many matching rows, their fine codes are read one by one: reading one costs what some
/// ten rows of a scan cost.
const FEW_MATCHES: u64 = 2_000;

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

/// Which rows of a segment count.
#[derive(Clone, Copy, Debug)]
pub(super) enum Rows<'a> {
    /// All but these.
    Without(&'a RoaringBitmap),
    /// These.
    Only(&'a RoaringBitmap),
}

impl Rows<'_> {
    fn count(self, all: u32) -> u64 {
        match self {
            Self::Without(dead) => u64::from(all) - dead.len(),
            Self::Only(allowed) => allowed.len(),
        }
    }

    /// A bit per row of the range, in the order of the blocks; false if every row counts.
    fn mask(self, rows: &Range<u32>, words: &mut Vec<u32>) -> bool {
        words.clear();
        let blocks = rows.len().div_ceil(BLOCK_ROWS);
        let (bitmap, filled) = match self {
            Self::Without(dead) if dead.is_empty() => return false,
            Self::Without(dead) => (dead, u32::MAX),
            Self::Only(allowed) => (allowed, 0),
        };
        words.resize(blocks, filled);
        if let (u32::MAX, Some(last)) = (filled, words.last_mut()) {
            let present = rows.len() - (blocks - 1) * BLOCK_ROWS;
            *last = u32::MAX >> (BLOCK_ROWS - present);
        }
        for row in bitmap.range(rows.clone()) {
            let at = (row - rows.start) as usize;
            words[at / BLOCK_ROWS] ^= 1 << (at % BLOCK_ROWS);
        }
        true
    }
}

/// One segment being searched.
struct Hunt<'a> {
    view: &'a SegmentView,
    table: &'a CellTable,
    query: &'a Query,
    rows: Rows<'a>,
    list: Shortlist<u32>,
    /// What parts before this one found rules out rows here too.
    floor: f32,
    words: Vec<u32>,
    visited: Vec<bool>,
    counts: PartExplain,
}

impl Search<'_> {
    /// How many cells to look through first; `None` if the search is to be exact.
    fn nprobe(&self, table: &CellTable, rows: u32, counting: u64) -> Option<usize> {
        let cells = table.clustering().cells();
        match self.spec.effort {
            Effort::Exact => None,
            Effort::Cells(nprobe) => Some(nprobe.min(cells as usize)),
            Effort::Recall(target) if target >= 1.0 => None,
            Effort::Recall(target) => {
                let depth = self.spec.k as f32 * rows as f32 / counting.max(1) as f32;
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
        if self.spec.effort == Effort::Exact {
            return Ok(None);
        }
        let segment = &view.part.segment;
        let Some(table) = segment.cells(&self.view.clusterings)? else { return Ok(None) };
        let counting = rows.count(segment.rows());
        let Some(nprobe) = self.nprobe(table, segment.rows(), counting) else { return Ok(None) };
        let wanted = counting.min(self.spec.k as u64);
        let start = self.clock.monotonic();
        let floor = rank_units(self.view.schema.metric, self.best.threshold());
        let mut hunt = Hunt {
            view,
            table,
            query: self.queries.of(table, &self.spec.query),
            rows,
            list: Shortlist::new(self.spec.k),
            floor,
            words: Vec::new(),
            visited: Vec::new(),
            counts: PartExplain::default(),
        };
        let mut routed = start;
        match rows {
            Rows::Only(allowed) if counting <= FEW_MATCHES => {
                hunt.counts.plan = "matches";
                hunt.matches(allowed)?;
            }
            _ => {
                hunt.counts.plan = "cells";
                let order = table.clustering().router().route(hunt.query, nprobe);
                routed = self.clock.monotonic();
                hunt.cells_until(&order, u64::MAX)?;
                if hunt.counts.scanned < wanted.max(hunt.enough(nprobe, counting)) {
                    let rest = table.clustering().router().route(hunt.query, usize::MAX);
                    hunt.cells_until(&rest, wanted.max(hunt.enough(nprobe, counting)))?;
                }
            }
        }
        let Hunt { list, mut counts, .. } = hunt;
        let scanned = self.clock.monotonic();
        let mut left = list.into_undecided();
        left.sort_unstable();
        counts.scored = left.len() as u64;
        for row in left {
            self.score_row(at, view, row)?;
        }
        let scored = self.clock.monotonic();
        counts.route_us = super::search::micros(routed.saturating_sub(start));
        counts.scan_us = super::search::micros(scanned.saturating_sub(routed));
        counts.score_us = super::search::micros(scored.saturating_sub(scanned));
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
    fn threshold(&self) -> f32 {
        self.list.threshold().max(self.floor)
    }

    /// With a filter: how many rows that match are to be scanned, however many cells that takes. The
    /// cells nearest to a query may hold few rows that match, and the nearest of those lie elsewhere
    /// then; so as large a share of them is looked at as without the filter, nearly.
    fn enough(&self, nprobe: usize, counting: u64) -> u64 {
        match self.rows {
            Rows::Without(_) => 0,
            Rows::Only(_) => {
                let cells = u64::from(self.table.clustering().cells()).max(1);
                counting * nprobe as u64 * 3 / (cells * 4)
            }
        }
    }

    /// Looks through cells that were not looked through before, until so many rows that count were
    /// scanned in all.
    fn cells_until(&mut self, order: &[(u32, Probe)], enough: u64) -> Result<()> {
        self.visited.resize(self.table.clustering().cells() as usize, false);
        for (cell, probe) in order {
            if self.counts.scanned >= enough {
                break;
            }
            if !std::mem::replace(&mut self.visited[*cell as usize], true) {
                self.cell(*cell, probe)?;
            }
        }
        Ok(())
    }

    fn cell(&mut self, cell: u32, probe: &Probe) -> Result<()> {
        let rows = self.table.rows(cell);
        self.counts.cells += 1;
        if rows.is_empty() {
            return Ok(());
        }
        let masked = self.rows.mask(&rows, &mut self.words);
        let counting = match masked {
            true => self.words.iter().map(|word| u64::from(word.count_ones())).sum(),
            false => rows.len() as u64,
        };
        if counting == 0 {
            return Ok(());
        }
        let segment = &self.view.part.segment;
        let codes = segment.cell_codes(self.table, cell)?;
        let fine = segment.fine_codes(self.table, rows.clone())?;
        let threshold = self.threshold();
        let Self { list, query, counts, floor, words, .. } = self;
        counts.scanned += counting;
        let mask = masked.then_some(&**words);
        codes.blocks()?.scan(query, probe, mask, threshold, |at, _| {
            if let Some((code, factors)) = fine.get(at) {
                let estimate = query.estimate(Bits::Eight, code, factors, probe);
                counts.decided += 1;
                list.offer(rows.start + at as u32, estimate);
            }
            list.threshold().max(*floor)
        });
        Ok(())
    }

    /// Decides the rows of a bitmap by their fine codes.
    fn matches(&mut self, allowed: &RoaringBitmap) -> Result<()> {
        let mut rows = allowed.iter().peekable();
        while let Some(first) = rows.peek().copied() {
            let cell = self.table.cell_of(first);
            let range = self.table.rows(cell);
            let centre = self.table.clustering().router().centre(cell);
            let centre = centre.ok_or_else(|| Error::bug("a row lies in no cell"))?;
            let probe = self.query.probe(centre);
            let fine = self.view.part.segment.fine_codes(self.table, range.clone())?;
            self.counts.cells += 1;
            while let Some(row) = rows.next_if(|row| *row < range.end) {
                if let Some((code, factors)) = fine.get((row - range.start) as usize) {
                    let estimate = self.query.estimate(Bits::Eight, code, factors, &probe);
                    self.counts.decided += 1;
                    self.list.offer(row, estimate);
                }
            }
        }
        Ok(())
    }
}
