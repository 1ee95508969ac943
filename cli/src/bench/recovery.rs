//! `akidb bench recovery`: how fast a log that was never flushed becomes a database again.
//!
//! The rows are written by a child process that is killed, not by this one: a database that was
//! closed, or dropped, may leave a log that is easier to read than that of a crash.

use super::{Measured, rows::Rows};
use crate::{
    args::{BenchRecoveryArgs, RecoveryWriterArgs},
    child::Writer,
    database::Workplace,
    error::{CliError, Result},
    machine,
    output::{Output, Report},
    units,
};
use akidb::{
    DbBuilder, Durability, Metric, Schema, Settings,
    blocking::Db,
    vfs::{Clock, SystemClock},
};
use serde::Serialize;
use std::{ffi::OsString, path::Path, thread, time::Duration};

const COLLECTION: &str = "bench";
/// More than any benchmark writes: nothing is flushed for its size or age.
const NEVER: u64 = 1 << 40;

#[derive(Debug, Serialize)]
struct RecoveryResult {
    rows: usize,
    dim: u32,
    batch: usize,
    wal_bytes: u64,
    wal_files: u64,
    batches: u64,
    open_s: f64,
    /// Bytes of log, in millions.
    mb_per_s: f64,
    rows_per_s: f64,
    peak_rss_bytes: Option<u64>,
}

impl Report for RecoveryResult {
    fn text(&self) -> String {
        format!(
            "recovered {} rows of dimension {} ({} of log in {}, {} batches) in {}\n\
             {:.0} MB/s, {}",
            units::count(self.rows as u64),
            self.dim,
            units::bytes(self.wal_bytes),
            units::things(self.wal_files, "file"),
            units::count(self.batches),
            units::micros(self.open_s * 1e6),
            self.mb_per_s,
            units::rows_per_s(self.rows_per_s),
        )
    }
}

pub(super) fn run(args: &BenchRecoveryArgs, output: Output) -> Result<()> {
    let place = Workplace::new(args.dir.as_deref())?;
    output.say(format_args!("writing {} rows in a child process", args.rows))?;
    let option = |name: &str, value: usize| [OsString::from(name), value.to_string().into()];
    let mut command = vec!["recovery-writer".into(), "--dir".into(), place.path().into()];
    command.extend(option("--rows", args.rows));
    command.extend(option("--dim", args.dim as usize));
    command.extend(option("--batch", args.batch));
    let mut writer = Writer::start(command)?;
    let written = writer.next_number()?;
    if !writer.kill()? || written != Some(args.rows as u64) {
        let detail = "the child process ended before it had written all rows".to_owned();
        return Err(CliError::Check { detail });
    }

    let clock = SystemClock::new();
    let db = open(place.path())?;
    let time = clock.monotonic();
    let report = db.recovery_report().clone();
    let found = db.collection(COLLECTION)?.count(None)?;
    if found != args.rows as u64 {
        let detail = format!("{found} of {} synced rows were recovered", args.rows);
        return Err(CliError::Check { detail });
    }
    let result = RecoveryResult {
        rows: args.rows,
        dim: args.dim,
        batch: args.batch,
        wal_bytes: report.wal_bytes,
        wal_files: report.wal_files,
        batches: report.batches,
        open_s: time.as_secs_f64(),
        mb_per_s: units::per_second(report.wal_bytes, time) / 1e6,
        rows_per_s: units::per_second(args.rows as u64, time),
        peak_rss_bytes: machine::peak_rss_bytes(),
    };
    db.close()?;
    output.report(&Measured::new("bench recovery", place.path(), result))
}

/// The child: writes all rows, says so, and waits for its end.
pub(crate) fn write_until_killed(args: &RecoveryWriterArgs, output: Output) -> Result<()> {
    let db = open(&args.dir)?;
    let collection = db.create_collection(COLLECTION, Schema::new(args.dim, Metric::Cosine))?;
    let rows = Rows::new(args.dim, args.rows);
    for first in (0..args.rows).step_by(args.batch) {
        let last = first.saturating_add(args.batch).min(args.rows);
        let points: Vec<_> = (first..last).map(|n| rows.row(n)).collect();
        // Only the last batch is synced, which covers all before it: the time to write is not
        // measured.
        let durability = if last == args.rows { Durability::Sync } else { Durability::Memory };
        collection.upsert(points).durability(durability).run()?;
    }
    output.say(args.rows)?;
    loop {
        thread::park_timeout(Duration::from_secs(60));
    }
}

fn open(dir: &Path) -> Result<Db> {
    let settings = Settings {
        memtable_bytes: NEVER,
        memtable_pool_bytes: NEVER,
        memtable_age_ms: NEVER,
        wal_bytes_max: NEVER,
        ..Settings::default()
    };
    Ok(DbBuilder::new(dir).settings(settings).open_blocking()?)
}
