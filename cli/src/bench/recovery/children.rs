//! The child processes of `bench recovery`: one writes and is killed, one opens, one reads the same
//! files bare. The readers answer with one line of JSON. Called by `recovery` through the hidden
//! commands of this program.

use super::super::rows::Rows;
use crate::{
    args::{RecoveryReaderArgs, RecoveryWriterArgs},
    child::Writer,
    error::{CliError, Result},
    machine,
    output::Output,
};
use akidb::{
    DbBuilder, Durability, Metric, Schema, Settings,
    blocking::Db,
    vfs::{Clock, Fs, OpenMode, RealFs, SystemClock},
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use std::{
    collections::HashMap,
    hint::black_box,
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

const COLLECTION: &str = "bench";
/// More than any benchmark writes: nothing is flushed for its size or age.
const NEVER: u64 = 1 << 40;
/// How much the bare read reads at a time.
const CHUNK_BYTES: usize = 1 << 20;

/// What an open took and found.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Opened {
    pub(super) open_s: f64,
    pub(super) first_search_ms: f64,
    pub(super) wal_bytes: u64,
    pub(super) wal_files: u64,
    pub(super) batches: u64,
    pub(super) segments_flushed: u64,
    pub(super) peak_rss_bytes: Option<u64>,
}

/// What a bare read took.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Read {
    pub(super) seconds: f64,
}

/// Runs a reader and returns the line that it prints.
pub(super) fn answer_of(args: &RecoveryReaderArgs) -> Result<String> {
    Writer::start(args.to_words())?.next_line()
}

/// Reads a reader's line.
pub(super) fn parse<T: DeserializeOwned>(line: &str) -> Result<T> {
    serde_json::from_str(line).map_err(|_| {
        let detail = "the child process failed; its message is above".to_owned();
        CliError::Check { detail }
    })
}

/// The child that is killed: writes all rows, says so, and waits for its end.
pub(crate) fn write_until_killed(args: &RecoveryWriterArgs, output: Output) -> Result<()> {
    let db = open(&args.dir, None)?;
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

/// A child that reads what was left, once, and says how long that took.
pub(crate) fn read_once(args: &RecoveryReaderArgs, output: Output) -> Result<()> {
    let line = if args.bare {
        let seconds = read_bare(&args.dir.join("wal"), args.rows)?;
        serde_json::to_string(&Read { seconds })
    } else {
        serde_json::to_string(&open_once(args)?)
    };
    output.say(line.unwrap_or_default())
}

fn open_once(args: &RecoveryReaderArgs) -> Result<Opened> {
    let rows = Rows::new(args.dim, args.rows);
    let query = rows.row(args.rows / 2).vector;
    let clock = SystemClock::new();
    let start = clock.monotonic();
    let db = open(&args.dir, args.memtable_pool_bytes)?;
    let opened = clock.monotonic().saturating_sub(start);
    // Before the search, which maps segments: their pages are the system's to take back.
    let peak_rss_bytes = machine::peak_rss_bytes();
    let collection = db.collection(COLLECTION)?;
    let hits = collection.search(&query).k(10).run()?;
    let searched = clock.monotonic().saturating_sub(start);
    let found = collection.count(None)?;
    if found != args.rows as u64 || hits.is_empty() {
        let detail = format!("{found} of {} synced rows were recovered", args.rows);
        return Err(CliError::Check { detail });
    }
    let report = db.recovery_report().clone();
    db.close()?;
    Ok(Opened {
        open_s: opened.as_secs_f64(),
        first_search_ms: searched.as_secs_f64() * 1e3,
        wal_bytes: report.wal_bytes,
        wal_files: report.wal_files,
        batches: report.batches,
        segments_flushed: report.segments_flushed,
        peak_rss_bytes,
    })
}

/// `pool`: what the memtables may hold; all of the log if `None`.
fn open(dir: &Path, pool: Option<u64>) -> Result<Db> {
    let defaults = Settings::default();
    let pool_bytes = pool.unwrap_or(NEVER);
    let settings = Settings {
        memtable_bytes: pool.map_or(NEVER, |pool| defaults.memtable_bytes.min(pool)),
        memtable_pool_bytes: pool_bytes,
        memtable_age_ms: NEVER,
        wal_bytes_max: NEVER,
        ..defaults
    };
    Ok(DbBuilder::new(dir).settings(settings).open_blocking()?)
}

/// Reads every file of a log from its beginning to its end, with the checksum of all of it, and
/// copies it into a map, in as many pieces as there are rows. No frame is looked at: that is what
/// the database does more. Returns the seconds.
fn read_bare(wal: &Path, rows: usize) -> Result<f64> {
    let clock = SystemClock::new();
    let start = clock.monotonic();
    let mut files: Vec<PathBuf> =
        RealFs.list_dir(wal)?.into_iter().map(|entry| wal.join(entry.name)).collect();
    files.sort_unstable();
    let mut bytes = 0;
    for file in &files {
        bytes += RealFs.open(file, OpenMode::Read)?.len()?;
    }
    let row_bytes = usize::try_from(bytes).unwrap_or(usize::MAX).div_ceil(rows.max(1)).max(1);
    let mut map: HashMap<u64, Box<[u8]>> = HashMap::new();
    let mut chunk = vec![0; CHUNK_BYTES];
    let mut sum = crc32fast::Hasher::new();
    for file in &files {
        let file = RealFs.open(file, OpenMode::Read)?;
        let mut offset = 0;
        loop {
            let read = file.read_at(&mut chunk, offset)?;
            let held = chunk.get(..read).unwrap_or_default();
            if held.is_empty() {
                break;
            }
            sum.update(held);
            for row in held.chunks(row_bytes) {
                map.insert(map.len() as u64, row.into());
            }
            offset += read as u64;
        }
    }
    black_box((sum.finalize(), &map));
    Ok(clock.monotonic().saturating_sub(start).as_secs_f64())
}
