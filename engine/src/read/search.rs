//! Search: part by part, and the best k of all are kept. Here, every live row that matches is scored;
//! segments with cells are searched by those ([`super::cells`]) unless the request says otherwise.
//!
//! Ties go to the smaller id, so that an answer does not depend on where rows lie. Segments are
//! read in runs of rows; when few rows of a run match, they are read one by one.

use super::{
    beside,
    cells::Queries,
    counted::Rows,
    explain::{Explain, PartExplain},
    filtering::{self, compile},
    place::{Columns, Fetched, Place, fetch},
};
use crate::{
    Hit, PointId,
    budget::Budget,
    collection::{MemView, SegmentView, View},
    commit::MemoryPool,
    db::Searching,
    error::{InputError, Result},
    filter::{CompiledFilter, Filter},
    ivf::metric_of,
};
use akidb_index::{Scorer, TopK};
use akidb_vfs::Clock;
use roaring::RoaringBitmap;
use std::{sync::Arc, time::Duration};

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
    /// True if every row is to be scored.
    pub(super) fn is_exact(self) -> bool {
        match self {
            Self::Exact => true,
            Self::Recall(target) => target >= 1.0,
            Self::Cells(_) => false,
        }
    }

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
pub(super) struct Candidate {
    pub(super) id: PointId,
    pub(super) place: Place,
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

/// What memory a search may take.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Memory<'a> {
    /// For codes of memtables.
    pub(crate) pool: &'a MemoryPool,
    /// For answers of filters that are remembered.
    pub(crate) answers: &'a Arc<Budget>,
}

/// What is searched, for what: the same for all parts and threads.
pub(super) struct Scene<'a> {
    pub(super) view: &'a View,
    pub(super) spec: &'a SearchSpec,
    pub(super) filter: Option<CompiledFilter>,
    pub(super) pool: &'a MemoryPool,
    pub(super) answers: &'a Arc<Budget>,
    pub(super) clock: &'a dyn Clock,
}

/// A part of the collection, and its number among those of its kind.
pub(super) enum Part<'a> {
    Memtable(usize, &'a MemView),
    Segment(usize, &'a SegmentView),
}

impl Part<'_> {
    /// Row versions in it.
    pub(super) fn rows(&self) -> u64 {
        match self {
            Self::Memtable(_, part) => part.rows.len() as u64,
            Self::Segment(_, part) => u64::from(part.part.segment.rows()),
        }
    }
}

/// What one thread knows of the answer.
pub(super) struct Search<'a> {
    pub(super) scene: &'a Scene<'a>,
    pub(super) scorer: Scorer,
    pub(super) queries: Queries,
    pub(super) best: TopK<Candidate>,
}

/// Searches a view; returns the hits, nearest first, and what was done. Threads that nobody uses help.
pub(crate) fn search(
    view: &View,
    spec: &SearchSpec,
    clock: &dyn Clock,
    memory: Memory<'_>,
    mut searching: Searching<'_>,
) -> Result<(Vec<Hit>, Explain)> {
    let start = clock.monotonic();
    let filter = compile(spec.filter.as_ref(), &view.schema)?;
    let Memory { pool, answers } = memory;
    let scene = Scene { view, spec, filter, pool, answers, clock };
    let memtables = view.memtables.iter().enumerate();
    let segments = view.segments.iter().enumerate();
    let all: Vec<Part<'_>> = memtables
        .map(|(at, part)| Part::Memtable(at, part))
        .chain(segments.map(|(at, part)| Part::Segment(at, part)))
        .collect();
    let helpers = searching.take_helpers(beside::helpers_wanted(&all, spec.effort));
    let (best, parts) = if helpers == 0 {
        let mut search = Search::new(&scene);
        let parts = all.iter().map(|part| search.part(part)).collect::<Result<_>>()?;
        (search.best, parts)
    } else {
        beside::search(&scene, &all, helpers, searching.pool()?)?
    };
    drop(searching);
    let hits = best
        .into_sorted_vec()
        .into_iter()
        .map(|best| hit(view, spec, best.score, best.item))
        .collect::<Result<_>>()?;
    let explain = Explain {
        lsn: view.lsn.get(),
        plan: if parts.iter().all(|part| part.plan == "exact") { "exact" } else { "approximate" },
        parts,
        threads: helpers as u64 + 1,
        promoted: false,
        total_us: micros(clock.monotonic().saturating_sub(start)),
    };
    Ok((hits, explain))
}

pub(super) fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

impl<'a> Search<'a> {
    pub(super) fn new(scene: &'a Scene<'a>) -> Self {
        let Scene { view, spec, .. } = scene;
        Self {
            scene,
            scorer: Scorer::new(metric_of(view.schema.metric), &spec.query),
            queries: Queries::default(),
            best: TopK::new(spec.k),
        }
    }

    /// Searches one part.
    pub(super) fn part(&mut self, part: &Part<'_>) -> Result<PartExplain> {
        match part {
            Part::Memtable(at, part) => self.memtable(*at, part),
            Part::Segment(at, part) => self.segment(*at, part),
        }
    }

    fn segment(&mut self, at: usize, part: &SegmentView) -> Result<PartExplain> {
        let start = self.scene.clock.monotonic();
        let segment = &part.part.segment;
        let matching = match &self.scene.filter {
            Some(filter) => Some(filtering::answer(part, filter, self.scene.answers)?),
            None => None,
        };
        let filtered = self.scene.clock.monotonic();
        let rows = match &matching {
            Some((answer, _)) => Rows::Only(answer),
            None => Rows::Without(&part.dead),
        };
        let explain = match self.by_cells(at, part, rows)? {
            Some(explain) => explain,
            None => self.every_row(at, part, rows)?,
        };
        Ok(PartExplain {
            part: format!("segment {}", part.part.number()),
            rows: u64::from(segment.rows()),
            matched: matching.as_ref().map(|(answer, _)| answer.rows().len()),
            filter: matching.map(|(_, plan)| plan).unwrap_or_default(),
            filter_us: micros(filtered.saturating_sub(start)),
            ..explain
        })
    }

    /// Scores every row that counts.
    fn every_row(&mut self, at: usize, part: &SegmentView, rows: Rows<'_>) -> Result<PartExplain> {
        let start = self.scene.clock.monotonic();
        let scored = match rows {
            Rows::Without(dead) if dead.is_empty() => {
                self.score_all(at, part)?;
                u64::from(part.part.segment.rows())
            }
            Rows::Without(_) => {
                let live = part.live_bitmap();
                self.score_allowed(at, part, &live)?;
                live.len()
            }
            Rows::Only(answer) => {
                self.score_allowed(at, part, answer.rows())?;
                answer.rows().len()
            }
        };
        let score_us = micros(self.scene.clock.monotonic().saturating_sub(start));
        Ok(PartExplain { plan: "exact", scored, score_us, ..PartExplain::default() })
    }

    /// False for a score that cannot enter: spares looking up the id.
    pub(super) fn admits(&self, score: f32) -> bool {
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
        let dim = self.scene.view.schema.dim as usize;
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
}

fn hit(view: &View, spec: &SearchSpec, score: f32, candidate: Candidate) -> Result<Hit> {
    let columns = Columns { vector: spec.with_vectors, metadata: spec.with_metadata };
    let Fetched { vector, metadata, .. } = fetch(view, candidate.place, columns)?;
    Ok(Hit { id: candidate.id, score, vector, metadata })
}
