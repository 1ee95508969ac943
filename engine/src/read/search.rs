//! Exact search: every live row that matches is scored, part by part, and the best k are kept.
//!
//! Ties go to the smaller id, so that an answer does not depend on where rows lie. Segments are
//! read in runs of rows; when few rows of a run match, they are read one by one.

use super::{
    explain::{Explain, PartExplain},
    filtering::{self, compile},
    place::{Columns, Fetched, Place, fetch},
};
use crate::{
    FilterStep, Hit, PointId,
    collection::{MemView, SegmentView, View},
    error::{InputError, Result},
    filter::{CompiledFilter, Filter},
    schema::Metric,
};
use akidb_index::{Scorer, TopK};
use akidb_vfs::Clock;
use roaring::RoaringBitmap;
use std::time::Duration;

/// Rows of a segment that are fetched at once.
const RUN_ROWS: u32 = 1024;
/// Below this many matches in a run its rows are fetched one by one.
const SPARSE: u64 = 32;

/// How hard a search tries.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Effort {
    /// As many cells as find this share of the true nearest rows.
    Recall(f32),
    /// So many cells of each segment.
    Cells(usize),
    /// Every row is scored.
    Exact,
}

impl Default for Effort {
    fn default() -> Self {
        Self::Recall(0.95)
    }
}

impl Effort {
    pub(crate) fn validate(self) -> Result<(), InputError> {
        match self {
            Self::Recall(target) if !(target > 0.0 && target <= 1.0) => {
                Err(InputError::BadRecall { target })
            }
            Self::Cells(0) => Err(InputError::BadNprobe),
            _ => Ok(()),
        }
    }
}

/// A validated search.
#[derive(Clone, Debug)]
pub(crate) struct SearchSpec {
    pub(crate) query: Vec<f32>,
    pub(crate) k: usize,
    pub(crate) filter: Option<Filter>,
    pub(crate) effort: Effort,
    pub(crate) with_vectors: bool,
    pub(crate) with_metadata: bool,
}

/// A candidate; ordered by id alone, which breaks ties of the score.
#[derive(Clone, Debug)]
struct Candidate {
    id: PointId,
    place: Place,
}

impl PartialEq for Candidate {
    fn eq(&self, other: &Self) -> bool {
        self.id == other.id
    }
}

impl Eq for Candidate {}

impl PartialOrd for Candidate {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Candidate {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.id.cmp(&other.id)
    }
}

struct Search<'a> {
    view: &'a View,
    filter: Option<CompiledFilter>,
    clock: &'a dyn Clock,
    scorer: Scorer,
    best: TopK<Candidate>,
    parts: Vec<PartExplain>,
}

/// Searches a view; returns the hits, nearest first, and what was done.
pub(crate) fn search(
    view: &View,
    spec: &SearchSpec,
    clock: &dyn Clock,
) -> Result<(Vec<Hit>, Explain)> {
    let start = clock.monotonic();
    let metric = match view.schema.metric {
        Metric::Cosine => akidb_index::Metric::Cosine,
        Metric::Dot => akidb_index::Metric::Dot,
        Metric::L2 => akidb_index::Metric::L2,
    };
    let mut search = Search {
        view,
        filter: compile(spec.filter.as_ref(), &view.schema)?,
        clock,
        scorer: Scorer::new(metric, &spec.query),
        best: TopK::new(spec.k),
        parts: Vec::new(),
    };
    for (at, part) in view.memtables.iter().enumerate() {
        search.memtable(at, part)?;
    }
    for (at, part) in view.segments.iter().enumerate() {
        search.segment(at, part)?;
    }
    let Search { best, parts, .. } = search;
    let hits = best
        .into_sorted_vec()
        .into_iter()
        .map(|best| hit(view, spec, best.score, best.item))
        .collect::<Result<_>>()?;
    let explain = Explain {
        lsn: view.lsn.get(),
        plan: "exact",
        parts,
        promoted: false,
        total_us: micros(clock.monotonic().saturating_sub(start)),
    };
    Ok((hits, explain))
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

impl Search<'_> {
    fn memtable(&mut self, at: usize, part: &MemView) -> Result<()> {
        let start = self.clock.monotonic();
        let allowed = match &self.filter {
            Some(filter) => Some(filtering::matching_slots(part, self.view.lsn, filter)?),
            None => None,
        };
        let filtered = self.clock.monotonic();
        let mut scored = 0;
        let rows = part.rows.iter().filter(|(slot, row)| match &allowed {
            Some(allowed) => allowed.rows.contains(*slot),
            None => row.live_at(self.view.lsn),
        });
        for (slot, row) in rows {
            let score = self.scorer.score(&row.vector, row.inv_norm);
            scored += 1;
            if self.admits(score) {
                let place = Place::Mem { part: at, slot };
                self.best.push(score, Candidate { id: row.id.clone(), place });
            }
        }
        let plan = allowed.map(|allowed| allowed.plan).unwrap_or_default();
        let times = (start, filtered);
        self.explain("memtable".to_owned(), part.rows.len() as u64, plan, scored, times);
        Ok(())
    }

    fn segment(&mut self, at: usize, part: &SegmentView) -> Result<()> {
        let start = self.clock.monotonic();
        let segment = &part.part.segment;
        let mut plan = Vec::new();
        let allowed = match &self.filter {
            Some(filter) => {
                let matching = filtering::matching_rows(part, filter)?;
                plan = matching.plan;
                Some(matching.rows)
            }
            None if part.dead.is_empty() => None,
            None => Some(part.live_bitmap()),
        };
        let filtered = self.clock.monotonic();
        let scored = match &allowed {
            None => {
                self.score_all(at, part)?;
                u64::from(segment.rows())
            }
            Some(allowed) => {
                self.score_allowed(at, part, allowed)?;
                allowed.len()
            }
        };
        let name = format!("segment {}", part.part.number());
        self.explain(name, u64::from(segment.rows()), plan, scored, (start, filtered));
        Ok(())
    }

    /// False for a score that cannot enter: spares looking up the id.
    fn admits(&self, score: f32) -> bool {
        self.best.threshold().is_none_or(|worst| score >= worst)
    }

    fn score_all(&mut self, at: usize, part: &SegmentView) -> Result<()> {
        let rows = part.part.segment.rows();
        for first in (0..rows).step_by(RUN_ROWS as usize) {
            self.score_run(at, part, first, RUN_ROWS.min(rows - first), |_| true)?;
        }
        Ok(())
    }

    fn score_allowed(
        &mut self,
        at: usize,
        part: &SegmentView,
        allowed: &RoaringBitmap,
    ) -> Result<()> {
        let rows = part.part.segment.rows();
        for first in (0..rows).step_by(RUN_ROWS as usize) {
            let count = RUN_ROWS.min(rows - first);
            let matches = allowed.range_cardinality(first..first + count);
            if matches == 0 {
                continue;
            }
            if matches < SPARSE {
                for row in allowed.range(first..first + count) {
                    self.score_run(at, part, row, 1, |_| true)?;
                }
            } else {
                self.score_run(at, part, first, count, |row| allowed.contains(row))?;
            }
        }
        Ok(())
    }

    fn score_run(
        &mut self,
        at: usize,
        part: &SegmentView,
        first: u32,
        count: u32,
        allowed: impl Fn(u32) -> bool,
    ) -> Result<()> {
        let segment = &part.part.segment;
        let vectors = segment.vectors(first, count)?;
        let inv_norms = segment.inv_norms(first, count)?;
        let dim = self.view.schema.dim as usize;
        for ((row, vector), inv_norm) in (first..).zip(vectors.chunks_exact(dim)).zip(&*inv_norms) {
            if !allowed(row) {
                continue;
            }
            let score = self.scorer.score(vector, *inv_norm);
            if self.admits(score) {
                let place = Place::Segment { part: at, row };
                self.best.push(score, Candidate { id: segment.id(row)?, place });
            }
        }
        Ok(())
    }

    fn explain(
        &mut self,
        part: String,
        rows: u64,
        filter: Vec<FilterStep>,
        scored: u64,
        (start, filtered): (Duration, Duration),
    ) {
        let end = self.clock.monotonic();
        self.parts.push(PartExplain {
            part,
            rows,
            plan: "exact",
            filter,
            scored,
            filter_us: micros(filtered.saturating_sub(start)),
            score_us: micros(end.saturating_sub(filtered)),
            ..PartExplain::default()
        });
    }
}

fn hit(view: &View, spec: &SearchSpec, score: f32, candidate: Candidate) -> Result<Hit> {
    let columns = Columns { vector: spec.with_vectors, metadata: spec.with_metadata };
    let Fetched { vector, metadata, .. } = fetch(view, candidate.place, columns)?;
    Ok(Hit { id: candidate.id, score, vector, metadata })
}
