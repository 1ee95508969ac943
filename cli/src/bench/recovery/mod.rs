//! `akidb bench recovery`: how fast a log that was never flushed becomes a database again.
//!
//! The rows are written by a child process that is killed, not by this one: a database that was
//! closed, or dropped, may leave a log that is easier to read than that of a crash. Each round opens
//! a copy of what it left, and reads the same files bare beside it, each in a process of its own:
//! memory that an earlier round gave back must not make a later one faster.

mod children;
mod copy;

pub(crate) use children::{read_once, write_until_killed};

use super::Measured;
use crate::{
    args::{BenchRecoveryArgs, RecoveryReaderArgs, RecoveryWriterArgs},
    child::Writer,
    database::Workplace,
    error::{CliError, Result},
    output::{Output, Report},
    units,
};
use children::{Opened, Read};
use serde::Serialize;
use std::path::Path;

#[derive(Debug, Serialize)]
struct RecoveryResult {
    rows: usize,
    dim: u32,
    batch: usize,
    rounds: usize,
    cold: bool,
    /// What the memtables were held to; `None`: to nothing.
    memtable_pool_bytes: Option<u64>,
    wal_bytes: u64,
    wal_files: u64,
    batches: u64,
    /// Segments that the recovery wrote, for lack of memory.
    segments_flushed: u64,
    /// The median of the rounds, as all times here.
    open_s: f64,
    /// Bytes of log, in millions.
    mb_per_s: f64,
    rows_per_s: f64,
    /// From the start of the open to the answer of the first search.
    first_search_ms: f64,
    /// Of the open, the greatest of the rounds.
    peak_rss_bytes: Option<u64>,
    /// The same files read and checked, and their bytes copied into a map, by one thread that does
    /// nothing else.
    bare_s: f64,
    bare_mb_per_s: f64,
    /// The median of each round's `bare_s` over its `open_s`: 1 is as fast as the bare read.
    ratio_to_bare: f64,
    ratio_to_bare_rounds: Vec<f64>,
}

impl Report for RecoveryResult {
    fn text(&self) -> String {
        let flushed = match self.segments_flushed {
            0 => String::new(),
            n => format!(", {} flushed on the way", units::things(n, "segment")),
        };
        format!(
            "recovered {} rows of dimension {} ({} of log in {}, {} batches) in {}{flushed}\n\
             {:.0} MB/s, {}, first search answered after {}\n\
             bare read of the same files {:.0} MB/s: recovery runs at {:.2} of it",
            units::count(self.rows as u64),
            self.dim,
            units::bytes(self.wal_bytes),
            units::things(self.wal_files, "file"),
            units::count(self.batches),
            units::micros(self.open_s * 1e6),
            self.mb_per_s,
            units::rows_per_s(self.rows_per_s),
            units::micros(self.first_search_ms * 1e3),
            self.bare_mb_per_s,
            self.ratio_to_bare,
        )
    }
}

/// One round: an open, and a bare read of the same files.
struct Round {
    opened: Opened,
    read: Read,
}

pub(super) fn run(args: &BenchRecoveryArgs, output: Output) -> Result<()> {
    let place = Workplace::new(args.dir.as_deref())?;
    let killed = place.path().join("killed");
    output.say(format_args!("writing {} rows in a child process", args.rows))?;
    write_and_kill(args, &killed)?;
    let mut rounds = Vec::new();
    for _ in 0..args.rounds {
        rounds.push(round(args, place.path(), &killed)?);
    }
    let Some(last) = rounds.last() else {
        return Err(CliError::Check { detail: "there was no round".to_owned() });
    };
    let open_s = median(rounds.iter().map(|round| round.opened.open_s));
    let bare_s = median(rounds.iter().map(|round| round.read.seconds));
    let ratios: Vec<_> = rounds.iter().map(|r| r.read.seconds / r.opened.open_s).collect();
    let mb_per_s = |seconds: f64| last.opened.wal_bytes as f64 / seconds / 1e6;
    let result = RecoveryResult {
        rows: args.rows,
        dim: args.dim,
        batch: args.batch,
        rounds: args.rounds,
        cold: args.cold,
        memtable_pool_bytes: args.memtable_pool_bytes,
        wal_bytes: last.opened.wal_bytes,
        wal_files: last.opened.wal_files,
        batches: last.opened.batches,
        segments_flushed: last.opened.segments_flushed,
        open_s,
        mb_per_s: mb_per_s(open_s),
        rows_per_s: args.rows as f64 / open_s,
        first_search_ms: median(rounds.iter().map(|round| round.opened.first_search_ms)),
        peak_rss_bytes: rounds.iter().filter_map(|round| round.opened.peak_rss_bytes).max(),
        bare_s,
        bare_mb_per_s: mb_per_s(bare_s),
        ratio_to_bare: median(ratios.iter().copied()),
        ratio_to_bare_rounds: ratios,
    };
    output.report(&Measured::new("bench recovery", place.path(), result))
}

fn write_and_kill(args: &BenchRecoveryArgs, dir: &Path) -> Result<()> {
    let BenchRecoveryArgs { rows, dim, batch, .. } = *args;
    let child = RecoveryWriterArgs { dir: dir.to_owned(), rows, dim, batch };
    let mut writer = Writer::start(child.to_words())?;
    let written = writer.next_number()?;
    if !writer.kill()? || written != Some(rows as u64) {
        let detail = "the child process ended before it had written all rows".to_owned();
        return Err(CliError::Check { detail });
    }
    Ok(())
}

fn round(args: &BenchRecoveryArgs, place: &Path, killed: &Path) -> Result<Round> {
    let copy = tempfile::Builder::new().prefix("copy-").tempdir_in(place);
    let copy = copy.map_err(CliError::TempDir)?;
    copy::copy_dir(killed, copy.path())?;
    let read = |dir: &Path, bare: bool| {
        if args.cold {
            copy::forget_cached()?;
        }
        let BenchRecoveryArgs { rows, dim, memtable_pool_bytes, .. } = *args;
        let child =
            RecoveryReaderArgs { dir: dir.to_owned(), rows, dim, memtable_pool_bytes, bare };
        children::answer_of(&child)
    };
    // The bare read does not change what it reads, so it gets the original.
    let bare = read(killed, true)?;
    let opened = read(copy.path(), false)?;
    Ok(Round { opened: children::parse(&opened)?, read: children::parse(&bare)? })
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<_> = values.collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}
