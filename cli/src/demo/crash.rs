//! The part of the demo that nobody should have to take on trust: a child process is killed in
//! the middle of ingesting, and every row that it had acknowledged is looked up again.

use crate::{
    args::{ColumnArgs, DemoWriterArgs},
    child::Writer,
    error::{CliError, Result},
    output::Output,
    source::Source,
    units,
};
use akidb::{
    Metric, Point, Record, Schema, TornTail,
    blocking::{Collection, Db},
};
use serde::Serialize;
use std::{ffi::OsString, path::Path};

const COLLECTION: &str = "demo";
/// Small batches, so that the kill falls between the first row and the last.
const BATCH: usize = 10;
/// The most rows the child writes.
const ROWS_MAX: u64 = 5000;
/// The child is killed when it has acknowledged this share of its rows.
const KILL_AT: f64 = 0.4;

/// What the crash took and what it left.
#[derive(Debug, Serialize)]
pub(super) struct Crash {
    /// Rows that the child was to write.
    rows: u64,
    /// Rows whose acknowledgement was seen.
    acknowledged_rows: u64,
    /// Acknowledged rows that came back, with the same vector and metadata.
    recovered_rows: u64,
    /// Rows that were not acknowledged yet and came back all the same.
    further_rows: u64,
    recovery_ms: f64,
    wal_bytes: u64,
    torn_tail: Option<TornTail>,
}

impl Crash {
    pub(super) fn text(&self) -> String {
        let count = units::count;
        let further = match self.further_rows {
            0 => String::new(),
            n => format!("; {} more, written but not yet acknowledged, came back too", count(n)),
        };
        let tail = match &self.torn_tail {
            Some(tail) => format!(", cut {} of a half-written frame", units::bytes(tail.bytes)),
            None => String::new(),
        };
        format!(
            "killed (SIGKILL) after it had acknowledged {} of {} rows\n\
             reopened in {}: read {} of log{tail}\n\
             {} of {} acknowledged rows are there, byte for byte{further}",
            count(self.acknowledged_rows),
            count(self.rows),
            units::micros(self.recovery_ms * 1e3),
            units::bytes(self.wal_bytes),
            count(self.recovered_rows),
            count(self.acknowledged_rows),
        )
    }
}

/// Starts the child on `dir`, kills it, reopens and compares.
pub(super) fn run(dir: &Path, source: &Source, columns: &ColumnArgs) -> Result<Crash> {
    let rows = source.rows().min(ROWS_MAX);
    let mut writer = Writer::start(arguments(dir, source, columns, rows))?;
    let kill_at = (rows as f64 * KILL_AT) as u64;
    let mut acknowledged = 0;
    while acknowledged < kill_at {
        match writer.next_number()? {
            Some(number) => acknowledged = number,
            None => break,
        }
    }
    if !writer.kill()? {
        let detail = "the child process ended before it was killed".to_owned();
        return Err(CliError::Check { detail });
    }
    // What it had said before the kill and we had not read yet was acknowledged too.
    while let Some(number) = writer.next_number()? {
        acknowledged = number;
    }

    let db = Db::open(dir)?;
    let report = db.recovery_report().clone();
    let collection = db.collection(COLLECTION)?;
    let recovered = compare(&collection, source, acknowledged)?;
    if recovered != acknowledged {
        let detail = format!("{recovered} of {acknowledged} acknowledged rows came back");
        return Err(CliError::Check { detail });
    }
    let further = collection.count(None)?.saturating_sub(recovered);
    db.close()?;
    Ok(Crash {
        rows,
        acknowledged_rows: acknowledged,
        recovered_rows: recovered,
        further_rows: further,
        recovery_ms: report.elapsed_ms,
        wal_bytes: report.wal_bytes,
        torn_tail: report.torn_tail,
    })
}

fn arguments(dir: &Path, source: &Source, columns: &ColumnArgs, rows: u64) -> Vec<OsString> {
    let mut arguments: Vec<OsString> = vec![
        "demo-writer".into(),
        "--dir".into(),
        dir.into(),
        "--data".into(),
        source.path().into(),
        "--batch".into(),
        BATCH.to_string().into(),
        "--rows".into(),
        rows.to_string().into(),
    ];
    for (option, column) in
        [("--id-column", &columns.id_column), ("--vector-column", &columns.vector_column)]
    {
        if let Some(column) = column {
            arguments.extend([option.into(), column.into()]);
        }
    }
    arguments
}

/// How many of the first `rows` rows of the file are in the collection, exactly as in the file.
fn compare(collection: &Collection, source: &Source, rows: u64) -> Result<u64> {
    let mut left = usize::try_from(rows).unwrap_or(usize::MAX);
    let mut same = 0;
    for batch in source.batches(BATCH * 50)? {
        let mut batch = batch?;
        batch.truncate(left);
        if batch.is_empty() {
            break;
        }
        left -= batch.len();
        let found = collection.get(batch.iter().map(|point| &point.id))?;
        same += batch.iter().zip(&found).filter(|(point, found)| is_same(point, found)).count();
    }
    Ok(same as u64)
}

fn is_same(point: &Point, found: &Option<Record>) -> bool {
    let Some(record) = found else { return false };
    let bits = |vector: &[f32]| vector.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
    point.metadata.as_object() == Some(&record.metadata)
        && bits(&point.vector) == bits(&record.vector)
}

/// The child: ingests batch by batch and says, after each acknowledgement, how many rows it has.
pub(crate) fn write_until_killed(args: &DemoWriterArgs, output: Output) -> Result<()> {
    let source = Source::open(&args.data, &args.columns)?;
    let db = Db::open(&args.dir)?;
    let schema = Schema::new(source.dim(), Metric::Cosine);
    let collection = db.create_collection(COLLECTION, schema)?;
    let mut left = args.rows;
    let mut acknowledged = 0;
    for batch in source.batches(args.batch)? {
        let mut batch = batch?;
        batch.truncate(left);
        if batch.is_empty() {
            break;
        }
        left -= batch.len();
        acknowledged += batch.len();
        collection.upsert(batch).run()?;
        output.say(acknowledged)?;
    }
    Ok(db.close()?)
}
