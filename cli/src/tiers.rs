//! A collection's way through the tiers, measured: what each step takes, what each tier costs in
//! bytes, how fast it answers. Used by the demo and by `bench search`.

use crate::{bench::Latency, error::Result, source::Query, units};
use akidb::{
    Hit,
    blocking::{Collection, Db},
    vfs::{Clock, SystemClock},
};
use serde::Serialize;
use std::{thread, time::Duration};

/// How long a step waits for flushes that the engine began by itself.
const SETTLE_MAX: Duration = Duration::from_secs(60);
const SETTLE_POLL: Duration = Duration::from_millis(5);

/// Work on rows, timed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Step {
    pub(crate) rows: u64,
    pub(crate) time: Duration,
}

impl Step {
    /// `None` if there was nothing to do.
    pub(crate) fn rows_per_s(self) -> Option<f64> {
        (self.rows > 0).then(|| units::per_second(self.rows, self.time))
    }

    fn of(work: impl FnOnce() -> Result<u64>) -> Result<Self> {
        let clock = SystemClock::new();
        let rows = work()?;
        Ok(Self { rows, time: clock.monotonic() })
    }
}

/// Flushes what is in memory. Flushes under way are waited for first: their rows would be counted
/// and their time not.
pub(crate) fn flush(collection: &Collection) -> Result<Step> {
    let clock = SystemClock::new();
    while collection.stats().frozen_memtables > 0 && clock.monotonic() < SETTLE_MAX {
        thread::park_timeout(SETTLE_POLL);
    }
    let rows = collection.stats().memtable_rows;
    Step::of(|| {
        collection.flush()?;
        Ok(rows)
    })
}

/// Merges all segments into one.
pub(crate) fn compact(db: &Db, collection: &Collection) -> Result<Step> {
    let before = db.stats().compacted_rows;
    Step::of(|| {
        collection.compact()?;
        Ok(db.stats().compacted_rows - before)
    })
}

/// Moves the collection to the object store.
pub(crate) fn demote(collection: &Collection) -> Result<Step> {
    let rows = collection.count(None)?;
    Step::of(|| Ok(if collection.demote()? { rows } else { 0 }))
}

/// Moves it back.
pub(crate) fn promote(collection: &Collection) -> Result<Step> {
    let rows = collection.stats().cold.iter().map(|cold| cold.rows).sum();
    Step::of(|| Ok(if collection.promote()? { rows } else { 0 }))
}

/// What rows cost in one tier.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Tier {
    /// "log", "warm" or "cold".
    pub(crate) tier: &'static str,
    /// What it is made of, in words.
    pub(crate) what: String,
    pub(crate) rows: u64,
    pub(crate) files: usize,
    pub(crate) bytes: u64,
    pub(crate) bytes_per_row_disk: f64,
    /// Of the step that led here.
    pub(crate) rows_per_s: Option<f64>,
    /// Of searches that found the rows here.
    pub(crate) search_p50_us: Option<f64>,
    /// Of the same searches: the share of the true nearest rows that they found.
    pub(crate) search_recall: Option<f64>,
}

impl Tier {
    /// Rows as they are right after writing: in the log and in memory, some already in segments.
    pub(crate) fn log(db: &Db, collection: &Collection) -> Result<Self> {
        let (stats, segments) = (db.stats(), collection.stats().segments);
        let what = match segments.len() {
            0 => "log and memtable".to_owned(),
            n => format!("log, memtables, {n} segments"),
        };
        let bytes = stats.wal_bytes + segments.iter().map(|segment| segment.bytes).sum::<u64>();
        let files = stats.wal_files + segments.len();
        Ok(Self::new("log", what, collection.count(None)?, files, bytes))
    }

    /// The collection's segments.
    pub(crate) fn warm(collection: &Collection) -> Self {
        let segments = collection.stats().segments;
        let what = match segments.len() {
            1 => "1 segment".to_owned(),
            n => format!("{n} segments"),
        };
        let rows = segments.iter().map(|segment| segment.rows - segment.dead_rows).sum();
        let bytes = segments.iter().map(|segment| segment.bytes).sum();
        Self::new("warm", what, rows, segments.len(), bytes)
    }

    /// The collection's cold objects.
    pub(crate) fn cold(collection: &Collection) -> Self {
        let cold = collection.stats().cold;
        let rows = cold.iter().map(|cold| cold.rows).sum();
        let bytes = cold.iter().map(|cold| cold.bytes).sum();
        Self::new("cold", "Parquet object".to_owned(), rows, cold.len(), bytes)
    }

    fn new(tier: &'static str, what: String, rows: u64, files: usize, bytes: u64) -> Self {
        let bytes_per_row_disk = if rows > 0 { bytes as f64 / rows as f64 } else { 0.0 };
        Self {
            tier,
            what,
            rows,
            files,
            bytes,
            bytes_per_row_disk,
            rows_per_s: None,
            search_p50_us: None,
            search_recall: None,
        }
    }

    /// The same tier, reached by this step: "flushed", "compacted", ...
    pub(crate) fn after(mut self, how: &str, step: Step) -> Self {
        self.what = format!("{}, {how}", self.what);
        self.rows_per_s = step.rows_per_s();
        self
    }

    /// The same tier, answering this fast and this well.
    pub(crate) fn searched(mut self, latency: &Latency, recall: f64) -> Self {
        self.search_p50_us = Some(latency.percentiles().p50_us);
        self.search_recall = Some(recall);
        self
    }
}

/// Answers the queries one by one.
pub(crate) fn search_all(
    collection: &Collection,
    queries: &[Query],
    k: usize,
) -> Result<(Vec<Vec<Hit>>, Latency)> {
    let clock = SystemClock::new();
    let mut latency = Latency::new();
    let mut answers = Vec::with_capacity(queries.len());
    for query in queries {
        let start = clock.monotonic();
        answers.push(collection.search(&query.vector).k(k).run()?);
        latency.record(clock.monotonic().saturating_sub(start));
    }
    Ok((answers, latency))
}

/// Answers the queries by scoring every row.
pub(crate) fn search_exactly(
    collection: &Collection,
    queries: &[Query],
    k: usize,
) -> Result<Vec<Vec<Hit>>> {
    let exact = |query: &Query| Ok(collection.search(&query.vector).k(k).exact(true).run()?);
    queries.iter().map(exact).collect()
}
