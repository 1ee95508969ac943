//! `akidb bench write`: what a durable insert costs, alone and in company.

use super::{Latency, Measured, in_parallel, latency::Percentiles, rows::Rows};
use crate::{
    args::BenchWriteArgs,
    database::{self, Workplace},
    error::Result,
    machine,
    output::{Output, Report},
    progress::Progress,
    units,
};
use akidb::{
    Durability, Metric, Schema, WalBackend,
    blocking::Collection,
    vfs::{Clock, SystemClock},
};
use serde::Serialize;
use std::{
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

#[derive(Debug, Serialize)]
struct WriteResult {
    writers: usize,
    batch: usize,
    rows: usize,
    dim: u32,
    durability: Durability,
    wal_backend: WalBackend,
    /// Why it is not the one that `auto` prefers, if that was asked for.
    wal_backend_fallback: Option<String>,
    elapsed_s: f64,
    rows_per_s: f64,
    batches_per_s: f64,
    /// From the call to the acknowledgement of one batch.
    #[serde(flatten)]
    latency: Percentiles,
    wal_syncs: u64,
    wal_groups: u64,
    /// Rows that one sync made durable, on average.
    rows_per_sync: Option<f64>,
    /// Flushing what was still in memory afterwards; `null` if that was nothing.
    flush_rows_per_s: Option<f64>,
    /// Of the segments, after that flush.
    bytes_per_row_disk: f64,
    peak_rss_bytes: Option<u64>,
}

impl Report for WriteResult {
    fn text(&self) -> String {
        let Percentiles { p50_us, p95_us, p99_us } = self.latency;
        format!(
            "{} rows of dimension {} in batches of {} by {} writers, durability {}, log {}\n\
             {} ({} batches/s) in {}\n\
             acknowledged in {} (p50), {} (p95), {} (p99)\n\
             {} syncs; {:.0} bytes a row in segments",
            units::count(self.rows as u64),
            self.dim,
            self.batch,
            self.writers,
            durability_name(self.durability),
            self.wal_backend,
            units::rows_per_s(self.rows_per_s),
            units::count(self.batches_per_s.round() as u64),
            units::micros(self.elapsed_s * 1e6),
            units::micros(p50_us),
            units::micros(p95_us),
            units::micros(p99_us),
            units::count(self.wal_syncs),
            self.bytes_per_row_disk,
        )
    }
}

/// As `--durability` spells it.
fn durability_name(durability: Durability) -> String {
    match durability {
        Durability::Sync => "sync".to_owned(),
        Durability::Interval { ms } => format!("interval:{ms}"),
        Durability::Memory => "memory".to_owned(),
    }
}

pub(super) fn run(args: &BenchWriteArgs, output: Output) -> Result<()> {
    let place = Workplace::new(args.dir.as_deref())?;
    let db = database::open_or_create(place.path(), args.wal_backend)?;
    let collection = db.create_collection("bench", Schema::new(args.dim, Metric::Cosine))?;
    let rows = Rows::new(args.dim, args.rows);
    let before = db.stats();
    let progress = Progress::new(output, "writing", args.rows as u64);
    let (time, latency) = write_all(&collection, &rows, args, &progress)?;
    drop(progress);
    let stats = db.stats();

    let clock = SystemClock::new();
    let pending: u64 = stats.collections.iter().map(|stats| stats.memtable_rows).sum();
    db.flush()?;
    let flush_time = clock.monotonic();
    let segments: u64 = collection.stats().segments.iter().map(|segment| segment.bytes).sum();
    let syncs = stats.wal_syncs - before.wal_syncs;
    let result = WriteResult {
        writers: args.writers,
        batch: args.batch,
        rows: args.rows,
        dim: args.dim,
        durability: args.durability,
        wal_backend: stats.wal_backend,
        wal_backend_fallback: stats.wal_backend_fallback.clone(),
        elapsed_s: time.as_secs_f64(),
        rows_per_s: units::per_second(args.rows as u64, time),
        batches_per_s: units::per_second(args.rows.div_ceil(args.batch) as u64, time),
        latency: latency.percentiles(),
        wal_syncs: syncs,
        wal_groups: stats.wal_groups - before.wal_groups,
        rows_per_sync: (syncs > 0).then(|| args.rows as f64 / syncs as f64),
        flush_rows_per_s: (pending > 0).then(|| units::per_second(pending, flush_time)),
        bytes_per_row_disk: segments as f64 / args.rows as f64,
        peak_rss_bytes: machine::peak_rss_bytes(),
    };
    db.close()?;
    output.report(&Measured::new("bench write", place.path(), result))
}

/// Runs the writers; each takes the next batch until none is left.
fn write_all(
    collection: &Collection,
    rows: &Rows,
    args: &BenchWriteArgs,
    progress: &Progress,
) -> Result<(Duration, Latency)> {
    let next = AtomicUsize::new(0);
    let clock = SystemClock::new();
    let latencies = in_parallel("bench-writer", args.writers, |_| {
        write_some(collection, rows, args, &next, &clock, progress)
    })?;
    let time = clock.monotonic();
    let mut all = Latency::new();
    latencies.iter().for_each(|latency| all.merge(latency));
    Ok((time, all))
}

fn write_some(
    collection: &Collection,
    rows: &Rows,
    args: &BenchWriteArgs,
    next: &AtomicUsize,
    clock: &SystemClock,
    progress: &Progress,
) -> Result<Latency> {
    let mut latency = Latency::new();
    loop {
        let first = next.fetch_add(args.batch, Ordering::Relaxed);
        if first >= args.rows {
            return Ok(latency);
        }
        let last = first.saturating_add(args.batch).min(args.rows);
        let points: Vec<_> = (first..last).map(|n| rows.row(n)).collect();
        let start = clock.monotonic();
        collection.upsert(points).durability(args.durability).run()?;
        latency.record(clock.monotonic().saturating_sub(start));
        progress.add(last - first);
    }
}
