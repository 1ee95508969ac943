//! `akidb bench write`: what a durable insert costs, alone and in company, and beside the least that
//! the same bytes cost on this disk (`bare`). The two take turns, round by round, because machines
//! drift: only their ratio is worth keeping.

use super::{
    Latency, Measured,
    bare::{self, Load, Preparation},
    in_parallel_timed,
    latency::Percentiles,
    rows::Rows,
};
use crate::{
    args::{BenchWriteArgs, StoreArgs},
    database::{self, Workplace},
    error::Result,
    machine,
    output::{Output, Report},
    progress::Progress,
    units,
};
use akidb::{
    Durability, Metric, Point, Schema, Settings, WalBackend,
    blocking::{Collection, Db},
    vfs::{Clock, SystemClock},
};
use serde::Serialize;
use std::{ops::Range, path::Path, thread, time::Duration};

/// Rows of one round, about. They are made before the clock starts, and kept in memory until then.
const ROUND_ROWS: usize = 20_000;
/// The least number of rounds, where there are that many batches.
const ROUNDS_MIN: usize = 3;
/// How often, and how many times at most, a round looks whether the database has come to rest.
const SETTLE_PAUSE: Duration = Duration::from_millis(2);
const SETTLE_LOOKS: usize = 10_000;

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
    batches: usize,
    /// Turns of the database and the bare loop.
    rounds: usize,
    /// The same appends by the same threads with nothing else, on a file prepared as the log's are.
    bare_rows_per_s: f64,
    /// `rows_per_s` over `bare_rows_per_s`.
    ratio_to_bare: f64,
    /// The same loop on a file that grows with each write.
    bare_append_rows_per_s: f64,
    /// The same loop on reserved blocks.
    bare_reserved_rows_per_s: f64,
    /// The same loop on a file of zeros.
    bare_zeroed_rows_per_s: f64,
    /// Bytes that the process handed to the system to write, flushes and compactions included, over those of
    /// the ids, vectors and metadata; `null` where the system does not count them.
    write_amplification: Option<f64>,
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
             {} syncs; {:.0} bytes a row in segments{}\n\
             bare loop: {}, of which that is {:.0}% (growing file {}, reserved {}, zeros {})",
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
            self.write_amplification
                .map_or_else(String::new, |times| format!("; {times:.2} bytes written per byte")),
            units::rows_per_s(self.bare_rows_per_s),
            self.ratio_to_bare * 100.0,
            units::rows_per_s(self.bare_append_rows_per_s),
            units::rows_per_s(self.bare_reserved_rows_per_s),
            units::rows_per_s(self.bare_zeroed_rows_per_s),
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
    let settings = Settings { wal_backend: args.wal_backend, ..Settings::default() };
    let db = database::open_or_create(place.path(), &StoreArgs::default(), settings)?;
    let collection = db.create_collection("bench", Schema::new(args.dim, Metric::Cosine))?;
    let rows = Rows::new(args.dim, args.rows);
    let bench = Bench { args, dir: place.path(), db: &db, collection, rows };
    let batches = args.rows.div_ceil(args.batch);
    let rounds = args.rows.div_ceil(ROUND_ROWS).max(ROUNDS_MIN).min(batches);
    let progress = Progress::new(output, "writing", args.rows as u64);
    let mut sums = Sums::default();
    for round in 0..rounds {
        let batches = batches * round / rounds..batches * (round + 1) / rounds;
        let rows = bench.round(batches, &mut sums)?;
        progress.add(rows);
    }
    drop(progress);
    let (pending, flush_time) = bench.flush(&mut sums)?;
    let end = bench.db.stats();
    let segments = bench.collection.stats().segments;
    let segment_bytes: u64 = segments.iter().map(|segment| segment.bytes).sum();
    let rate = |time| units::per_second(args.rows as u64, time);
    let result = WriteResult {
        writers: args.writers,
        batch: args.batch,
        rows: args.rows,
        dim: args.dim,
        durability: args.durability,
        wal_backend: end.wal_backend,
        wal_backend_fallback: end.wal_backend_fallback,
        elapsed_s: sums.time.as_secs_f64(),
        rows_per_s: rate(sums.time),
        batches_per_s: units::per_second(batches as u64, sums.time),
        latency: sums.latency.percentiles(),
        wal_syncs: sums.syncs,
        wal_groups: sums.groups,
        rows_per_sync: (sums.syncs > 0).then(|| args.rows as f64 / sums.syncs as f64),
        batches,
        rounds,
        bare_rows_per_s: rate(sums.bare),
        ratio_to_bare: sums.bare.as_secs_f64() / sums.time.as_secs_f64(),
        bare_append_rows_per_s: rate(sums.bare_append),
        bare_reserved_rows_per_s: rate(sums.bare_reserved),
        bare_zeroed_rows_per_s: rate(sums.bare_zeroed),
        // Writes through a ring are not counted.
        write_amplification: (end.wal_backend == WalBackend::Std)
            .then_some(sums.written)
            .flatten()
            .map(|written| written as f64 / bench.rows.bytes(0..args.rows) as f64),
        flush_rows_per_s: (pending > 0).then(|| units::per_second(pending, flush_time)),
        bytes_per_row_disk: segment_bytes as f64 / args.rows as f64,
        peak_rss_bytes: machine::peak_rss_bytes(),
    };
    db.close()?;
    output.report(&Measured::new("bench write", place.path(), result))
}

/// What the rounds add up to.
#[derive(Debug)]
struct Sums {
    time: Duration,
    latency: Latency,
    syncs: u64,
    groups: u64,
    /// Bytes that the database's rounds had the system write.
    written: Option<u64>,
    bare: Duration,
    bare_append: Duration,
    bare_reserved: Duration,
    bare_zeroed: Duration,
}

impl Default for Sums {
    fn default() -> Self {
        let zero = Duration::ZERO;
        Self {
            time: zero,
            latency: Latency::new(),
            syncs: 0,
            groups: 0,
            written: Some(0),
            bare: zero,
            bare_append: zero,
            bare_reserved: zero,
            bare_zeroed: zero,
        }
    }
}

struct Bench<'a> {
    args: &'a BenchWriteArgs,
    dir: &'a Path,
    db: &'a Db,
    collection: Collection,
    rows: Rows,
}

impl Bench<'_> {
    /// One turn of the database, then one of the bare loop on each kind of file. Returns how many
    /// rows were written.
    fn round(&self, batches: Range<usize>, sums: &mut Sums) -> Result<usize> {
        let before = self.db.stats();
        let written = machine::written_bytes();
        let (time, latencies) = in_parallel_timed(
            "bench-writer",
            self.args.writers,
            |writer| self.batches_of(writer, &batches),
            |batches| self.write(batches),
        )?;
        let after = self.db.stats();
        self.settle();
        sums.time += time;
        latencies.iter().for_each(|latency| sums.latency.merge(latency));
        sums.syncs += after.wal_syncs - before.wal_syncs;
        sums.groups += after.wal_groups - before.wal_groups;
        sums.add_written(written);

        let log_bytes = after.wal_bytes_written - before.wal_bytes_written;
        let load = Load {
            writers: self.args.writers,
            appends: batches.len(),
            bytes: usize::try_from(log_bytes).unwrap_or(usize::MAX) / batches.len(),
            sync: self.args.durability == Durability::Sync,
        };
        sums.bare += bare::run(self.dir, load, self.preparation())?;
        sums.bare_reserved += bare::run(self.dir, load, Preparation::Reserved)?;
        sums.bare_append += bare::run(self.dir, load, Preparation::None)?;
        sums.bare_zeroed += bare::run(self.dir, load, Preparation::Zeroed)?;
        Ok(self.rows_of(batches.start).start.abs_diff(self.rows_of(batches.end).start))
    }

    /// What the log does to its files under the settings that the database is opened with here.
    fn preparation(&self) -> Preparation {
        let ahead = Settings::default().wal_zero_ahead_bytes;
        match self.args.durability {
            Durability::Sync if ahead > 0 => Preparation::ZeroedAhead(ahead),
            _ => Preparation::Reserved,
        }
    }

    /// The rows of a batch.
    fn rows_of(&self, batch: usize) -> Range<usize> {
        let upto = |batch: usize| batch.saturating_mul(self.args.batch).min(self.args.rows);
        upto(batch)..upto(batch + 1)
    }

    /// What a writer is to write, made beforehand.
    fn batches_of(&self, writer: usize, batches: &Range<usize>) -> Vec<Vec<Point>> {
        let mine = batches.clone().skip(writer).step_by(self.args.writers);
        mine.map(|batch| self.rows_of(batch).map(|n| self.rows.row(n)).collect()).collect()
    }

    fn write(&self, batches: Vec<Vec<Point>>) -> Result<Latency> {
        let clock = SystemClock::new();
        let mut latency = Latency::new();
        for points in batches {
            let start = clock.monotonic();
            self.collection.upsert(points).durability(self.args.durability).run()?;
            latency.record(clock.monotonic().saturating_sub(start));
        }
        Ok(latency)
    }

    /// Waits for flushes and compactions that the round made due: they are not the bare loop's to
    /// bear. A database that does not come to rest is measured as it is.
    fn settle(&self) {
        for _ in 0..SETTLE_LOOKS {
            let stats = self.collection.stats();
            if stats.frozen_memtables == 0 && stats.compaction_debt_bytes == 0 {
                return;
            }
            thread::park_timeout(SETTLE_PAUSE);
        }
    }

    /// Flushes what is still in memory; returns the rows of that and the time.
    fn flush(&self, sums: &mut Sums) -> Result<(u64, Duration)> {
        let written = machine::written_bytes();
        let pending = self.collection.stats().memtable_rows;
        let clock = SystemClock::new();
        self.db.flush()?;
        let time = clock.monotonic();
        self.settle();
        sums.add_written(written);
        Ok((pending, time))
    }
}

impl Sums {
    /// Adds what the system was given to write since it had been given `before`.
    fn add_written(&mut self, before: Option<u64>) {
        let since = machine::written_bytes().zip(before).map(|(now, before)| now - before);
        self.written = self.written.zip(since).map(|(sum, since)| sum + since);
    }
}
