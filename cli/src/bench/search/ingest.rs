//! Ingest with the whole path on: durable batches, flushes and compactions, and a thread that
//! searches meanwhile.

use crate::{
    bench::{Latency, latency::Percentiles},
    error::{CliError, Result},
    source::{Query, Source},
    units,
};
use akidb::{
    DbBuilder, Durability, FieldDef, Metric, Point as Row, Schema,
    blocking::Collection,
    vfs::{Clock, SystemClock, thread::spawn_scoped},
};
use serde::Serialize;
use std::{
    panic::resume_unwind,
    path::Path,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Duration,
};

/// Rows per durable batch.
const BATCH: usize = 1000;

/// An ingest and the searches beside it, measured.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Ingest {
    pub(super) rows: u64,
    pub(super) batch: usize,
    pub(super) durability: Durability,
    pub(super) rows_per_s: f64,
    /// Of a batch, from the call to its acknowledgement.
    pub(super) batch_latency: Percentiles,
    pub(super) searches: u64,
    pub(super) searches_per_s: f64,
    /// Of a search, with the default recall target.
    pub(super) search_latency: Percentiles,
    /// What had been flushed when the last row was acknowledged.
    pub(super) flushes: u64,
    pub(super) compactions: u64,
}

/// What a thread measured.
struct Done {
    count: u64,
    time: Duration,
    latency: Latency,
}

/// Ingests all rows of the source into a fresh database in `dir`. `per_s` bounds the searches; without
/// it one follows the other.
pub(super) fn measure(
    dir: &Path,
    source: &Source,
    fields: &[FieldDef],
    queries: &[Query],
    k: usize,
    per_s: Option<usize>,
) -> Result<Ingest> {
    // Read before the clock starts: decoding the input is not what is measured.
    let batches = source.batches(BATCH)?.collect::<Result<Vec<_>>>()?;
    let db = DbBuilder::new(dir).open_blocking()?;
    let mut schema = Schema::new(source.dim(), Metric::Cosine);
    schema.fields = fields.to_vec();
    let collection = &db.create_collection("bench", schema)?;
    let finished = &AtomicBool::new(false);
    let (written, searched) = thread::scope(|scope| {
        let searching = spawn_scoped(scope, "bench-search", move || {
            search(collection, queries, k, per_s, finished)
        });
        let searching = searching.map_err(CliError::Thread)?;
        let written = write(collection, batches);
        finished.store(true, Ordering::Release);
        let searched = searching.join().unwrap_or_else(|panic| resume_unwind(panic));
        Ok::<_, CliError>((written?, searched?))
    })?;
    let stats = db.stats();
    db.close()?;
    Ok(Ingest {
        rows: written.count,
        batch: BATCH,
        durability: Durability::Sync,
        rows_per_s: units::per_second(written.count, written.time),
        batch_latency: written.latency.percentiles(),
        searches: searched.count,
        searches_per_s: units::per_second(searched.count, searched.time),
        search_latency: searched.latency.percentiles(),
        flushes: stats.flushes,
        compactions: stats.compactions,
    })
}

fn write(collection: &Collection, batches: Vec<Vec<Row>>) -> Result<Done> {
    let clock = SystemClock::new();
    let mut done = Done { count: 0, time: Duration::ZERO, latency: Latency::new() };
    for batch in batches {
        done.count += batch.len() as u64;
        let start = clock.monotonic();
        collection.upsert(batch).durability(Durability::Sync).run()?;
        done.latency.record(clock.monotonic().saturating_sub(start));
    }
    done.time = clock.monotonic();
    Ok(done)
}

/// Searches until the writer has finished. Searches of an empty collection are not counted.
fn search(
    collection: &Collection,
    queries: &[Query],
    k: usize,
    per_s: Option<usize>,
    finished: &AtomicBool,
) -> Result<Done> {
    let clock = SystemClock::new();
    let mut done = Done { count: 0, time: Duration::ZERO, latency: Latency::new() };
    let pause = per_s.map(|per_s| Duration::from_secs_f64(1.0 / per_s as f64));
    let mut queries = queries.iter().cycle();
    while !finished.load(Ordering::Acquire) {
        let Some(query) = queries.next() else { break };
        let start = clock.monotonic();
        let hits = collection.search(&query.vector).k(k).run()?;
        let took = clock.monotonic().saturating_sub(start);
        if !hits.is_empty() {
            done.latency.record(took);
            done.count += 1;
        }
        if let Some(pause) = pause {
            thread::park_timeout(pause.saturating_sub(took));
        }
    }
    done.time = clock.monotonic();
    Ok(done)
}
