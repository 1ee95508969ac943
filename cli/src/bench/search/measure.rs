//! One way of searching, measured: queries answered over and over, one per call, by so many threads.
//! Several ways are measured in turn, in rounds, so that a machine that drifts drifts for all.

use super::{
    effort::Effort,
    stages::{self, Stages},
    truth::Truth,
};
use crate::{
    bench::{Latency, latency::Percentiles, start::in_parallel_timed},
    error::Result,
    source::Query,
    units,
};
use akidb::{
    Explain, Filter, Hit,
    blocking::Collection,
    vfs::{Clock, SystemClock},
};
use serde::Serialize;
use std::time::Duration;

/// What is searched for, and where.
#[derive(Clone, Copy, Debug)]
pub(super) struct Task<'a> {
    pub(super) collection: &'a Collection,
    pub(super) queries: &'a [Query],
    pub(super) truth: &'a Truth,
    pub(super) filter: Option<&'a Filter>,
    pub(super) k: usize,
}

/// How much is measured.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rounds {
    pub(super) rounds: usize,
    /// Of one point in one round, at least.
    pub(super) time: Duration,
}

/// A task, and a way to do it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Case<'a> {
    pub(super) task: Task<'a>,
    pub(super) effort: Effort,
    pub(super) threads: usize,
}

/// One way of searching, measured.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Point {
    pub(super) params: Params,
    /// The share of the exact k nearest that were found: the mean over all queries, the 5th
    /// percentile, and the worst.
    pub(super) recall: f64,
    pub(super) recall_p5: f64,
    pub(super) recall_min: f64,
    /// The median of the rounds.
    pub(super) qps: f64,
    pub(super) qps_rounds: Vec<f64>,
    #[serde(flatten)]
    pub(super) latency: Percentiles,
    #[serde(flatten)]
    pub(super) stages: Stages,
    /// Queries that got fewer hits than there are true neighbours.
    pub(super) short_answers: usize,
    #[serde(skip)]
    pub(super) times: Latency,
}

#[derive(Clone, Debug, Serialize)]
pub(super) struct Params {
    /// What the engine said it did: the plans of its parts.
    pub(super) plan: String,
    pub(super) k: usize,
    pub(super) threads: usize,
    pub(super) nprobe: Option<usize>,
    pub(super) recall_target: Option<f32>,
}

/// Measures all cases in turn, as often as there are rounds, but exact searches in the first one
/// only: over many rows they would take most of the time. Points come in the order of the cases.
pub(super) fn in_rounds(cases: &[Case<'_>], how: Rounds) -> Result<Vec<Point>> {
    let mut points: Vec<Point> = Vec::with_capacity(cases.len());
    // Untimed: the first pass finds pages that are not mapped and rows whose codes are not made yet.
    if let Some(first) = cases.first() {
        Pass::run(first, Duration::ZERO)?;
    }
    for round in 0..how.rounds {
        for (at, case) in cases.iter().enumerate() {
            if round > 0 && case.effort == Effort::Exact {
                continue;
            }
            let pass = Pass::run(case, how.time)?;
            match points.get_mut(at) {
                Some(point) if round > 0 => {
                    point.qps_rounds.push(pass.qps);
                    point.times.merge(&pass.times);
                }
                _ => points.push(pass.point(case)),
            }
        }
    }
    for point in &mut points {
        let mut rates = point.qps_rounds.clone();
        rates.sort_by(f64::total_cmp);
        point.qps = rates.get(rates.len() / 2).copied().unwrap_or_default();
        point.latency = point.times.percentiles();
    }
    Ok(points)
}

/// The mean recall over all queries.
pub(super) fn recall(case: &Case<'_>) -> Result<f64> {
    let pass = Pass::run(case, Duration::ZERO)?;
    Ok(mean(&case.task.truth.recalls(&pass.answers)))
}

/// Answers all queries once and exactly: the point, and the truth for other ways.
pub(super) fn exact(task: Task<'_>) -> Result<(Point, Truth)> {
    let case = Case { task, effort: Effort::Exact, threads: 1 };
    let pass = Pass::run(&case, Duration::ZERO)?;
    let truth = Truth::answered(&pass.answers);
    let task = Task { truth: &truth, ..task };
    Ok((pass.point(&Case { task, ..case }), truth))
}

/// All queries, at least once.
struct Pass {
    answers: Vec<Vec<Hit>>,
    explains: Vec<Explain>,
    qps: f64,
    times: Latency,
}

/// What one thread did: the first answer to each of its queries, with the query's position, and how
/// long every answer took.
struct Share {
    answers: Vec<(usize, Vec<Hit>, Explain)>,
    times: Latency,
    count: u64,
}

impl Pass {
    fn run(case: &Case<'_>, at_least: Duration) -> Result<Self> {
        let work = |thread| Share::run(case, thread, at_least);
        let (time, shares) =
            in_parallel_timed("bench-search", case.threads, |thread| thread, work)?;
        let mut times = Latency::new();
        let (mut all, mut count) = (Vec::with_capacity(case.task.queries.len()), 0);
        for share in shares {
            all.extend(share.answers);
            times.merge(&share.times);
            count += share.count;
        }
        all.sort_by_key(|(at, ..)| *at);
        let (answers, explains) = all.into_iter().map(|(_, hits, how)| (hits, how)).unzip();
        Ok(Self { answers, explains, qps: units::per_second(count, time), times })
    }

    fn point(self, case: &Case<'_>) -> Point {
        let mut recalls = case.task.truth.recalls(&self.answers);
        recalls.sort_by(f64::total_cmp);
        let at = |at: usize| recalls.get(at).copied().unwrap_or_default();
        let params = Params {
            plan: stages::plans(&self.explains),
            k: case.task.k,
            threads: case.threads,
            nprobe: case.effort.nprobe(),
            recall_target: case.effort.recall_target(),
        };
        Point {
            params,
            recall: mean(&recalls),
            recall_p5: at(recalls.len() / 20),
            recall_min: at(0),
            qps: self.qps,
            qps_rounds: vec![self.qps],
            latency: self.times.percentiles(),
            stages: Stages::mean(&self.explains),
            short_answers: case.task.truth.short_answers(&self.answers),
            times: self.times,
        }
    }
}

impl Share {
    fn run(case: &Case<'_>, thread: usize, at_least: Duration) -> Result<Self> {
        let Task { collection, queries, filter, k, .. } = case.task;
        let clock = SystemClock::new();
        let mut share = Self { answers: Vec::new(), times: Latency::new(), count: 0 };
        let mut first = true;
        while first || clock.monotonic() < at_least {
            for (at, query) in queries.iter().enumerate().skip(thread).step_by(case.threads) {
                let search = case.effort.ask(collection.search(&query.vector).k(k));
                let search = match filter {
                    Some(filter) => search.filter(filter.clone()),
                    None => search,
                };
                let start = clock.monotonic();
                let (hits, explain) = search.explain()?;
                share.times.record(clock.monotonic().saturating_sub(start));
                share.count += 1;
                if first {
                    share.answers.push((at, hits, explain));
                }
            }
            first = false;
        }
        Ok(share)
    }
}

fn mean(values: &[f64]) -> f64 {
    if values.is_empty() { 0.0 } else { values.iter().sum::<f64>() / values.len() as f64 }
}
