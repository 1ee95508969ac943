//! Memtables alone: so many rows that were just written, searched before any flush. Then what their
//! flush costs, and merging the segment with another one of as many rows.

use super::{
    curve::Wanted,
    effort::Effort,
    measure::{self, Case, Point, Task},
    truth::Truth,
};
use crate::{
    error::Result,
    generate::normalise,
    machine,
    source::{Query, Source},
    tiers, units,
};
use akidb::{
    DbBuilder, Durability, Metric, Point as Row, Schema, Settings,
    blocking::Collection,
    vfs::{Clock, SystemClock},
};
use serde::Serialize;
use std::{path::Path, time::Duration};

/// Rows per batch.
const BATCH: usize = 1000;
/// More than any memtable here takes: nothing is flushed.
const NEVER: u64 = 1 << 40;

/// A memtable, measured.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Memtable {
    pub(super) rows: usize,
    /// In batches of 1,000, without waiting for the disk.
    pub(super) insert_rows_per_s: f64,
    pub(super) bytes_per_row_memory: f64,
    pub(super) flush_s: f64,
    pub(super) flush_rows_per_s: f64,
    /// Of both segments together.
    pub(super) merge_rows_per_s: Option<f64>,
    /// At each recall target, then exact.
    pub(super) points: Vec<Point>,
}

/// Fills a memtable of `count` rows in a fresh database in `dir`, and searches it.
pub(super) fn measure(
    dir: &Path,
    source: &Source,
    queries: &[Query],
    k: usize,
    count: usize,
    wanted: &Wanted<'_>,
) -> Result<Memtable> {
    let rows = rows(source, count)?;
    let batches = || Ok([Ok(rows.clone())].into_iter());
    let truth = Truth::computed(queries, k, machine::cores(), batches)?;
    let others: Vec<Row> = (0..).zip(&rows).map(other).collect();
    let settings = Settings {
        durability: Durability::Memory,
        memtable_bytes: NEVER,
        memtable_pool_bytes: NEVER,
        memtable_age_ms: NEVER,
        wal_bytes_max: NEVER,
        compaction_auto: false,
        ..Settings::default()
    };
    let db = DbBuilder::new(dir).settings(settings).open_blocking()?;
    let collection = db.create_collection("bench", Schema::new(source.dim(), Metric::Cosine))?;
    let time = write(&collection, rows)?;
    let bytes = collection.stats().memtable_bytes;
    let task = Task { collection: &collection, queries, truth: &truth, filter: None, k };
    let targets = wanted.recall_target.iter().map(|target| Effort::RecallTarget(*target as f32));
    let cases = targets.chain([Effort::Exact]).map(|effort| Case { task, effort, threads: 1 });
    let points = measure::in_rounds(&cases.collect::<Vec<_>>(), wanted.rounds)?;
    let flush = tiers::flush(&collection)?;
    write(&collection, others)?;
    tiers::flush(&collection)?;
    let merge = tiers::compact(&db, &collection)?;
    db.close()?;
    Ok(Memtable {
        rows: count,
        insert_rows_per_s: units::per_second(count as u64, time),
        bytes_per_row_memory: bytes as f64 / count as f64,
        flush_s: flush.time.as_secs_f64(),
        flush_rows_per_s: units::per_second(flush.rows, flush.time),
        merge_rows_per_s: merge.rows_per_s(),
        points,
    })
}

/// Writes the rows; returns how long that took.
fn write(collection: &Collection, rows: Vec<Row>) -> Result<Duration> {
    let clock = SystemClock::new();
    let mut rows = rows.into_iter().peekable();
    while rows.peek().is_some() {
        collection.upsert(rows.by_ref().take(BATCH).collect::<Vec<_>>()).run()?;
    }
    Ok(clock.monotonic())
}

/// The same vector under an id that no input has: row `n` of the segment to merge with.
fn other((n, row): (u64, &Row)) -> Row {
    Row::new(u64::MAX - n, row.vector.clone())
}

/// The first rows of the source; if it has fewer, mixtures of two of its rows each, which lie where
/// rows lie and are none of them.
fn rows(source: &Source, count: usize) -> Result<Vec<Row>> {
    let mut rows = source.head(count)?;
    let given = rows.len();
    let mut distance = 0;
    while rows.len() < count && given > 0 {
        let at = rows.len() % given;
        if at == 0 {
            distance += 1;
        }
        let vector = match (rows.get(at), rows.get((at + distance) % given)) {
            (Some(a), Some(b)) => mixed(&a.vector, &b.vector),
            _ => Vec::new(),
        };
        rows.push(Row::new(format!("mixed-{}", rows.len()), vector));
    }
    Ok(rows)
}

fn mixed(a: &[f32], b: &[f32]) -> Vec<f32> {
    // Nearer to one of them, so that rows that point in opposite directions do not cancel out.
    let mut vector: Vec<f32> = a.iter().zip(b).map(|(a, b)| 0.6 * a + 0.4 * b).collect();
    normalise(&mut vector);
    vector
}
