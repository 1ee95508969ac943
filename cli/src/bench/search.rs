//! `akidb bench search`: builds a collection, searches it from several threads, measures recall
//! against the exact neighbours, and the cost of each tier.

use super::{Latency, Measured, in_parallel};
use crate::{
    args::BenchSearchArgs,
    database::Workplace,
    error::Result,
    ingest, machine,
    output::{self, Output, Report},
    progress::Progress,
    source::{self, Query, Source},
    tiers::{self, Step, Tier},
    units,
};
use akidb::{
    Hit, Metric, Schema,
    blocking::{Collection, Db},
    vfs::{Clock, SystemClock},
};
use serde::Serialize;
use std::{collections::HashSet, time::Duration};

/// Rows per batch while building.
const BATCH: usize = 1000;
/// Queries that are answered once before the clock starts, so that pages are mapped and caches
/// filled: the first pass over a fresh file measures the disk.
const WARM_UP: usize = 20;

#[derive(Debug, Serialize)]
struct SearchResult {
    rows: u64,
    dim: u32,
    queries: usize,
    /// Ingest, flush and compaction to one segment.
    build_s: f64,
    ingest_rows_per_s: f64,
    flush_rows_per_s: Option<f64>,
    compact_rows_per_s: Option<f64>,
    demote_rows_per_s: Option<f64>,
    promote_rows_per_s: Option<f64>,
    /// Of the one segment that was searched.
    bytes_per_row_disk: f64,
    tiers: Vec<Tier>,
    peak_rss_bytes: Option<u64>,
    points: Vec<Point>,
}

/// One way of searching, measured.
#[derive(Debug, Serialize)]
struct Point {
    params: Params,
    /// The share of the exact k nearest that were found; `null` without a `neighbours` column.
    recall: Option<f64>,
    qps: f64,
    #[serde(flatten)]
    latency: super::latency::Percentiles,
}

#[derive(Debug, Serialize)]
struct Params {
    plan: &'static str,
    k: usize,
    threads: usize,
}

impl Report for SearchResult {
    fn text(&self) -> String {
        let rate = |rate: Option<f64>| rate.map_or_else(|| "-".to_owned(), units::rows_per_s);
        let mut points =
            output::table(["plan", "k", "threads", "recall", "queries/s", "p50", "p95", "p99"]);
        for point in &self.points {
            points.add_row([
                point.params.plan.to_owned(),
                point.params.k.to_string(),
                point.params.threads.to_string(),
                point.recall.map_or_else(|| "-".to_owned(), |recall| format!("{recall:.4}")),
                format!("{:.0}", point.qps),
                units::micros(point.latency.p50_us),
                units::micros(point.latency.p95_us),
                units::micros(point.latency.p99_us),
            ]);
        }
        output::align_right(&mut points, 1..8);
        format!(
            "built {} rows of dimension {} in {}: ingest {}, flush {}, compaction {}\n\
             demotion {}, promotion {}; {:.0} bytes a row in the segment\n{points}",
            units::count(self.rows),
            self.dim,
            units::micros(self.build_s * 1e6),
            units::rows_per_s(self.ingest_rows_per_s),
            rate(self.flush_rows_per_s),
            rate(self.compact_rows_per_s),
            rate(self.demote_rows_per_s),
            rate(self.promote_rows_per_s),
            self.bytes_per_row_disk,
        )
    }
}

pub(super) fn run(args: &BenchSearchArgs, output: Output) -> Result<()> {
    let scratch = Workplace::new(None)?;
    let place = Workplace::new(args.dir.as_deref())?;
    let (data, queries) = match (&args.data, &args.queries) {
        (Some(data), Some(queries)) => (data.clone(), queries.clone()),
        _ => source::write_sample(scratch.path())?,
    };
    let source = Source::open(&data, &args.columns)?;
    let vector_column = args.columns.vector_column.as_deref();
    let queries = source::read_queries(&queries, vector_column, source.dim())?;
    let db = Db::open(place.path())?;
    let collection = db.create_collection("bench", Schema::new(source.dim(), Metric::Cosine))?;
    let result = measure(args, output, &db, &collection, &source, &queries)?;
    db.close()?;
    output.report(&Measured::new("bench search", place.path(), result))
}

fn measure(
    args: &BenchSearchArgs,
    output: Output,
    db: &Db,
    collection: &Collection,
    source: &Source,
    queries: &[Query],
) -> Result<SearchResult> {
    let progress = Progress::new(output, "ingesting", source.rows());
    let loaded = ingest::load(collection, source, BATCH, None, &progress)?;
    drop(progress);
    let ingest = Step { rows: loaded.rows, time: loaded.time };
    let log = Tier::log(db, collection)?.after("written", ingest);
    let settle = SystemClock::new();
    let flush = tiers::flush(collection)?;
    let compact = tiers::compact(db, collection)?;
    let build = loaded.time + settle.monotonic();
    let warm = Tier::warm(collection).after("built", compact);

    output.say(format_args!("answering {} queries", queries.len()))?;
    tiers::search_all(
        collection,
        queries.get(..WARM_UP.min(queries.len())).unwrap_or_default(),
        args.k,
    )?;
    let (answers, time, latency) = search_parallel(collection, queries, args)?;
    let point = Point {
        params: Params { plan: "exact", k: args.k, threads: args.threads },
        recall: recall(queries, &answers, args.k),
        qps: units::per_second(queries.len() as u64, time),
        latency: latency.percentiles(),
    };
    let demote = tiers::demote(collection)?;
    let cold = Tier::cold(collection).after("demoted", demote);
    let promote = tiers::promote(collection)?;
    Ok(SearchResult {
        rows: warm.rows,
        dim: source.dim(),
        queries: queries.len(),
        build_s: build.as_secs_f64(),
        ingest_rows_per_s: units::per_second(ingest.rows, ingest.time),
        flush_rows_per_s: flush.rows_per_s(),
        compact_rows_per_s: compact.rows_per_s(),
        demote_rows_per_s: demote.rows_per_s(),
        promote_rows_per_s: promote.rows_per_s(),
        bytes_per_row_disk: warm.bytes_per_row_disk,
        tiers: vec![log, warm.searched(&latency), cold],
        peak_rss_bytes: machine::peak_rss_bytes(),
        points: vec![point],
    })
}

/// Answers with the position of their query, and how long each took.
type Share = (Vec<(usize, Vec<Hit>)>, Latency);

/// Deals the queries out to the threads and waits for all.
fn search_parallel(
    collection: &Collection,
    queries: &[Query],
    args: &BenchSearchArgs,
) -> Result<(Vec<Vec<Hit>>, Duration, Latency)> {
    let clock = SystemClock::new();
    let shares = in_parallel("bench-search", args.threads, |thread| {
        let share = queries.iter().enumerate().skip(thread).step_by(args.threads);
        search_share(collection, share, args.k, &clock)
    })?;
    let time = clock.monotonic();
    let mut latency = Latency::new();
    let mut answers = Vec::with_capacity(queries.len());
    for (hits, times) in shares {
        answers.extend(hits);
        latency.merge(&times);
    }
    answers.sort_by_key(|(at, _)| *at);
    Ok((answers.into_iter().map(|(_, hits)| hits).collect(), time, latency))
}

fn search_share<'a>(
    collection: &Collection,
    share: impl Iterator<Item = (usize, &'a Query)>,
    k: usize,
    clock: &SystemClock,
) -> Result<Share> {
    let mut latency = Latency::new();
    let mut answers = Vec::new();
    for (at, query) in share {
        let start = clock.monotonic();
        let hits = collection.search(&query.vector).k(k).run()?;
        latency.record(clock.monotonic().saturating_sub(start));
        answers.push((at, hits));
    }
    Ok((answers, latency))
}

/// The mean share of the first `k` true neighbours that are among the hits.
fn recall(queries: &[Query], answers: &[Vec<Hit>], k: usize) -> Option<f64> {
    let mut found = 0_usize;
    let mut wanted = 0_usize;
    for (query, hits) in queries.iter().zip(answers) {
        let truth = query.neighbours.as_ref()?;
        let truth: HashSet<&str> = truth.iter().take(k).map(String::as_str).collect();
        wanted += truth.len();
        found += hits.iter().filter(|hit| truth.contains(hit.id.to_string().as_str())).count();
    }
    (wanted > 0).then(|| found as f64 / wanted as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hit(id: &str) -> Hit {
        Hit { id: id.into(), score: 0.0, vector: None, metadata: None }
    }

    fn query(neighbours: Option<&[&str]>) -> Query {
        let neighbours = neighbours.map(|ids| ids.iter().map(|id| (*id).to_owned()).collect());
        Query { text: String::new(), vector: Vec::new(), neighbours }
    }

    #[test]
    fn recall_counts_the_first_k_neighbours_in_any_order() {
        let queries = [query(Some(&["a", "b", "c"])), query(Some(&["d", "e", "f"]))];
        let answers = [vec![hit("b"), hit("a")], vec![hit("f"), hit("d")]];
        assert_eq!(recall(&queries, &answers, 2), Some(0.75));
    }

    #[test]
    fn without_ground_truth_there_is_no_recall() {
        assert_eq!(recall(&[query(None)], &[vec![hit("a")]], 1), None);
    }
}
