//! Durable inserts: so many threads, each writing one row per call and waiting until it is synced.

use super::{
    Common,
    engines::{self, Kind, Mode},
    rows::Rows,
};
use crate::{Result, median};
use clap::Args;
use serde_json::json;
use std::{
    path::Path,
    sync::atomic::{AtomicU64, Ordering},
    thread,
    time::{Duration, Instant},
};

#[derive(Debug, Args)]
pub struct WriteArgs {
    /// Threads that write at the same time.
    #[arg(long, default_value_t = 64)]
    writers: usize,

    /// The longest that one engine writes in one round: the slow ones need not write all rows for
    /// their speed to be known.
    #[arg(long, default_value_t = 10.0)]
    seconds: f64,

    #[command(flatten)]
    common: Common,
}

/// Rows per second of each round of one engine.
struct Series {
    kind: Kind,
    rates: Vec<f64>,
}

pub fn run(args: &WriteArgs) -> Result<()> {
    let common = &args.common;
    let rows = Rows::new(common.dim);
    let mut series: Vec<_> =
        common.engines.iter().map(|&kind| Series { kind, rates: Vec::new() }).collect();
    for round in 0..common.rounds {
        for one in &mut series {
            let scratch = common.scratch()?;
            let rate = measure(one.kind, args, &rows, scratch.path())?;
            println!("round {round}: {:8} {rate:9.0} rows/s", one.kind.name());
            one.rates.push(rate);
        }
    }
    report(args, &series)
}

fn measure(kind: Kind, args: &WriteArgs, rows: &Rows, dir: &Path) -> Result<f64> {
    let engine = engines::open(kind, Mode::Bounded, &dir.join("db"), args.common.dim)?;
    let next = AtomicU64::new(0);
    let limit = Duration::from_secs_f64(args.seconds);
    let start = Instant::now();
    let written: Vec<Result<u64>> = thread::scope(|scope| {
        let write = || {
            let mut written = 0;
            while start.elapsed() < limit {
                let n = next.fetch_add(1, Ordering::Relaxed);
                if n >= args.common.rows {
                    break;
                }
                engine.put(rows, n)?;
                written += 1;
            }
            Ok(written)
        };
        let threads: Vec<_> = (0..args.writers).map(|_| scope.spawn(write)).collect();
        threads.into_iter().map(|t| t.join().expect("a writer panicked")).collect()
    });
    let elapsed = start.elapsed().as_secs_f64();
    let written = written.into_iter().sum::<Result<u64>>()?;
    Ok(written as f64 / elapsed)
}

fn report(args: &WriteArgs, series: &[Series]) -> Result<()> {
    let akidb = series.iter().find(|one| one.kind == Kind::Akidb);
    let mut figures = Vec::new();
    for one in series {
        let (mid, low, high) = median(one.rates.clone());
        // Round by round, because the machine's speed drifts: both sides of a ratio saw the same.
        let ratios = akidb.map(|akidb| {
            median(akidb.rates.iter().zip(&one.rates).map(|(ours, its)| ours / its).collect()).0
        });
        let name = one.kind.name();
        let ratio = ratios.map_or_else(String::new, |r| format!("akidb is {r:.2} x as fast"));
        println!("{name:8} {mid:9.0} rows/s ({low:.0} to {high:.0})  {ratio}");
        figures.push(json!({
            "engine": name, "rows_per_s": mid, "rounds": one.rates, "akidb_ratio": ratios,
        }));
    }
    args.common.report(&json!({
        "command": "write", "writers": args.writers, "rows": args.common.rows,
        "dim": args.common.dim, "seconds_max": args.seconds, "engines": figures,
    }))
}
