//! Recovery: a child process writes rows without ever flushing, syncs, and is killed with SIGKILL;
//! then copies of what it left are opened, each by a fresh process, in turn.
//!
//! Two modes of opening: with bounded memory, where the log has more than fits and is flushed on the
//! way, and unflushed, where all of it stays in memory.

use super::{
    Common,
    engines::{self, Kind, Mode},
    rows::Rows,
};
use crate::{Result, median};
use clap::Args;
use serde_json::{Value, json};
use std::{
    fs,
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

/// Rows per write of the child. Not measured; each batch is one record of the log.
const BATCH: u64 = 100;

#[derive(Debug, Args)]
pub struct RecoveryArgs {
    /// Drop the page cache before each open (needs root).
    #[arg(long)]
    cold: bool,

    #[command(flatten)]
    common: Common,
}

#[derive(Debug, Args)]
pub struct WriterArgs {
    #[arg(long)]
    engine: Kind,
    #[arg(long)]
    dir: PathBuf,
    #[arg(long)]
    rows: u64,
    #[arg(long)]
    dim: usize,
}

#[derive(Debug, Args)]
pub struct OpenerArgs {
    #[arg(long)]
    engine: Kind,
    #[arg(long)]
    dir: PathBuf,
    #[arg(long)]
    rows: u64,
    #[arg(long)]
    dim: usize,
    #[arg(long)]
    unflushed: bool,
}

/// One engine in one mode.
struct Series {
    kind: Kind,
    mode: Mode,
    opens: Vec<Opened>,
}

impl Series {
    fn name(&self) -> String {
        let mode = if self.mode == Mode::Unflushed { "-unflushed" } else { "" };
        format!("{}{mode}", self.kind.name())
    }

    fn seconds(&self) -> Vec<f64> {
        self.opens.iter().map(|opened| opened.seconds).collect()
    }
}

/// What one open took.
struct Opened {
    seconds: f64,
    first_read_ms: f64,
    peak_rss_bytes: u64,
}

pub fn run(args: &RecoveryArgs) -> Result<()> {
    let common = &args.common;
    let scratch = common.scratch()?;
    let mut series = Vec::new();
    for &kind in &common.engines {
        let dir = scratch.path().join(kind.name());
        println!("{}: writing {} rows in a child process", kind.name(), common.rows);
        write_and_kill(kind, &dir, common)?;
        // redb has neither a log nor memtables.
        let modes: &[Mode] =
            if kind == Kind::Redb { &[Mode::Bounded] } else { &[Mode::Bounded, Mode::Unflushed] };
        series.extend(modes.iter().map(|&mode| Series { kind, mode, opens: Vec::new() }));
    }
    for round in 0..common.rounds {
        for one in &mut series {
            let opened = open_copy(one, args, scratch.path())?;
            println!("round {round}: {:18} {:7.2} s", one.name(), opened.seconds);
            one.opens.push(opened);
        }
    }
    report(args, &series)
}

fn child(command: &str, kind: Kind, dir: &Path, common: &Common) -> Result<Command> {
    let mut child = Command::new(std::env::current_exe()?);
    child.arg(command).args(["--engine", kind.name(), "--dir"]).arg(dir);
    child.args(["--rows", &common.rows.to_string(), "--dim", &common.dim.to_string()]);
    child.stdin(Stdio::null()).stdout(Stdio::piped());
    Ok(child)
}

fn write_and_kill(kind: Kind, dir: &Path, common: &Common) -> Result<()> {
    let mut writer = child("writer", kind, dir, common)?.spawn()?;
    let mut line = String::new();
    if let Some(stdout) = writer.stdout.take() {
        BufReader::new(stdout).read_line(&mut line)?;
    }
    writer.kill()?;
    writer.wait()?;
    if line.trim() == "written" { Ok(()) } else { Err("the writer ended too early".into()) }
}

/// The child that is killed: writes, syncs, says so, waits.
pub fn write_until_killed(args: &WriterArgs) -> Result<()> {
    let rows = Rows::new(args.dim);
    let engine = engines::open(args.engine, Mode::Unflushed, &args.dir, args.dim)?;
    for first in (0..args.rows).step_by(BATCH as usize) {
        let last = (first + BATCH).min(args.rows);
        engine.put_batch(&rows, first..last, last == args.rows)?;
    }
    println!("written");
    loop {
        thread::park_timeout(Duration::from_secs(60));
    }
}

fn open_copy(series: &Series, args: &RecoveryArgs, scratch: &Path) -> Result<Opened> {
    let (from, to) = (scratch.join(series.kind.name()), scratch.join("copy"));
    copy_dir(&from, &to)?;
    // What the copy left unwritten would be written during the measurement.
    Command::new("sync").status()?;
    if args.cold {
        fs::write("/proc/sys/vm/drop_caches", "3")?;
    }
    let mut opener = child("opener", series.kind, &to, &args.common)?;
    if series.mode == Mode::Unflushed {
        opener.arg("--unflushed");
    }
    let output = opener.output()?;
    fs::remove_dir_all(&to)?;
    let text = String::from_utf8_lossy(&output.stdout);
    let found: Value = serde_json::from_str(text.trim())
        .map_err(|_| format!("{}: {}", series.name(), String::from_utf8_lossy(&output.stderr)))?;
    let number = |name: &str| found.get(name).and_then(Value::as_f64).unwrap_or(f64::NAN);
    Ok(Opened {
        seconds: number("seconds"),
        first_read_ms: number("first_read_ms"),
        peak_rss_bytes: number("peak_rss_bytes") as u64,
    })
}

/// The child that opens, reads its first and its last row, and says how long that took.
pub fn open_once(args: &OpenerArgs) -> Result<()> {
    let rows = Rows::new(args.dim);
    let mode = if args.unflushed { Mode::Unflushed } else { Mode::Bounded };
    let start = Instant::now();
    let engine = engines::open(args.engine, mode, &args.dir, args.dim)?;
    let seconds = start.elapsed().as_secs_f64();
    let start = Instant::now();
    let last = args.rows.saturating_sub(1);
    let first_read_ms = {
        let found = engine.read(&rows, last)?;
        if !found {
            return Err("the last row is not there".into());
        }
        start.elapsed().as_secs_f64() * 1e3
    };
    let status = fs::read_to_string("/proc/self/status")?;
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap_or_default();
    let peak: u64 = peak.trim().trim_end_matches(" kB").parse().unwrap_or(0);
    let (rss, first) = (peak * 1024, first_read_ms);
    println!("{}", json!({"seconds": seconds, "first_read_ms": first, "peak_rss_bytes": rss}));
    Ok(())
}

/// By the system's own program: it knows the holes and the unwritten blocks of preallocated files.
fn copy_dir(from: &Path, to: &Path) -> Result<()> {
    let copied = Command::new("cp").arg("-R").args([from, to]).status()?;
    if copied.success() { Ok(()) } else { Err(format!("cp: {copied}").into()) }
}

fn report(args: &RecoveryArgs, series: &[Series]) -> Result<()> {
    let mut figures = Vec::new();
    for one in series {
        let (mid, low, high) = median(one.seconds());
        let akidb = series.iter().find(|akidb| akidb.kind == Kind::Akidb && akidb.mode == one.mode);
        let ratio = akidb.map(|akidb| {
            let pairs = one.opens.iter().zip(&akidb.opens);
            median(pairs.map(|(its, ours)| its.seconds / ours.seconds).collect()).0
        });
        let first_read_ms = median(one.opens.iter().map(|o| o.first_read_ms).collect()).0;
        let peak = one.opens.iter().map(|o| o.peak_rss_bytes).max().unwrap_or(0);
        println!(
            "{:18} {mid:7.2} s ({low:.2} to {high:.2})  first read {first_read_ms:.1} ms  peak {} MB  {}",
            one.name(),
            peak / 1_000_000,
            ratio.map_or_else(String::new, |r| format!("akidb is {r:.2} x as fast")),
        );
        figures.push(json!({
            "engine": one.name(), "seconds": mid, "rounds": one.seconds(),
            "first_read_ms": first_read_ms, "peak_rss_bytes": peak, "akidb_ratio": ratio,
        }));
    }
    args.common.report(&json!({
        "command": "recovery", "rows": args.common.rows, "dim": args.common.dim,
        "cold": args.cold, "engines": figures,
    }))
}
