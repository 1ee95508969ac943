//! `akidb bench ship`: how many small collections a second reach a store that answers late, one at a
//! time, in parallel, in batches, and in both. The S3 server is in this process; what is measured runs
//! in a child of its own (`worker`), so that the memory it reports is not that of the server.

use super::{Measured, client::BUCKET};
use crate::{
    args::{BenchShipArgs, Level, ShipWorkerArgs},
    child::Writer,
    database::Workplace,
    error::{CliError, Result},
    output::{self, Output, Report},
    progress::Progress,
    units,
};
use akidb_s3server::{Fault, S3Server, Strike};
use serde::Serialize;
use std::{path::Path, time::Duration};
use worker::Told;
pub(crate) use worker::ship_and_tell;

mod engine;
mod plot;
mod store;
mod worker;

/// Of a thousand requests, with `--throttle`.
const THROTTLED_PER_MILLE: u64 = 50;

#[derive(Debug, Serialize)]
struct ShipResult {
    collections: usize,
    rows: usize,
    dim: u32,
    latency_ms: u64,
    fail_percent: u64,
    throttle: bool,
    /// Whether the rows of level `engine` lay in segments.
    flushed: bool,
    points: Vec<Point>,
}

#[derive(Debug, Serialize)]
struct Point {
    /// "store" or "engine".
    level: &'static str,
    /// "one", "parallel", "batched" or "both".
    mode: &'static str,
    concurrency: usize,
    batch: usize,
    collections_per_s: f64,
    #[serde(flatten)]
    told: Told,
    /// Requests that the server saw.
    requests: u64,
}

impl Report for ShipResult {
    fn text(&self) -> String {
        let header = [
            "level",
            "mode",
            "concurrency",
            "batch",
            "collections/s",
            "MB/s",
            "failed",
            "retries",
            "memory before",
            "peak memory",
        ];
        let mut table = output::table(header);
        for point in &self.points {
            let told = &point.told;
            let memory = |bytes: Option<u64>| bytes.map_or("-".to_owned(), units::bytes);
            table.add_row([
                point.level.to_owned(),
                point.mode.to_owned(),
                point.concurrency.to_string(),
                point.batch.to_string(),
                units::count(point.collections_per_s.round() as u64),
                format!("{:.0}", told.bytes as f64 / told.elapsed_s / 1e6),
                units::count(told.failed),
                units::count(told.retries),
                memory(told.rss_before_bytes),
                memory(told.peak_rss_bytes),
            ]);
        }
        output::align_right(&mut table, 2..10);
        format!(
            "{} collections of {} rows of dimension {}, {} ms per request, {} % of them failing{}\n{table}",
            units::count(self.collections as u64),
            self.rows,
            self.dim,
            self.latency_ms,
            self.fail_percent,
            if self.throttle { ", throttled" } else { "" },
        )
    }
}

/// What one point is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Plan {
    level: Level,
    mode: &'static str,
    concurrency: usize,
    batch: usize,
}

/// Every combination once.
fn plans(args: &BenchShipArgs) -> Vec<Plan> {
    let mode = |concurrency, batch| match (concurrency > 1, batch > 1) {
        (false, false) => "one",
        (true, false) => "parallel",
        (false, true) => "batched",
        (true, true) => "both",
    };
    let mut plans = Vec::new();
    for &level in &args.level {
        for &batch in [1].iter().chain(args.batch.iter().filter(|batch| **batch > 1)) {
            for &concurrency in &args.concurrency {
                plans.push(Plan { level, mode: mode(concurrency, batch), concurrency, batch });
            }
        }
    }
    plans
}

pub(super) fn run(args: &BenchShipArgs, output: Output) -> Result<()> {
    let place = Workplace::new(args.dir.as_deref())?;
    let plans = plans(args);
    let progress = Progress::things(output, "shipping", "points", plans.len() as u64);
    let mut points = Vec::with_capacity(plans.len());
    for plan in plans {
        points.push(measure(args, plan, place.path())?);
        progress.add(1);
    }
    drop(progress);
    if let Some(file) = &args.svg {
        plot::write(file, &points)?;
    }
    let result = ShipResult {
        collections: args.collections,
        rows: args.rows,
        dim: args.dim,
        latency_ms: args.latency_ms,
        fail_percent: args.fail_percent,
        throttle: args.throttle,
        flushed: args.flushed,
        points,
    };
    output.report(&Measured::new("bench ship", place.path(), result))
}

/// One point, on a server of its own: what is stored there stays in memory until it ends.
fn measure(args: &BenchShipArgs, plan: Plan, dir: &Path) -> Result<Point> {
    let server = S3Server::start(BUCKET).map_err(CliError::Thread)?;
    server.stop_recording();
    server.set_latency(Duration::from_millis(args.latency_ms));
    break_down(&server, args);
    let child = ShipWorkerArgs {
        server: server.endpoint(),
        dir: dir.to_owned(),
        level: plan.level,
        collections: args.collections,
        rows: args.rows,
        dim: args.dim,
        concurrency: plan.concurrency,
        batch: plan.batch,
        seconds: args.point_seconds,
        flushed: args.flushed,
    };
    let line = Writer::start(child.to_words())?.next_line()?;
    let told: Told = serde_json::from_str(&line).map_err(|_| CliError::Check {
        detail: "the child process failed; its message is above".to_owned(),
    })?;
    let objects = told.collections.div_ceil(plan.batch as u64);
    if (server.objects() as u64) < objects {
        let detail = format!("{objects} objects were reported, {} are there", server.objects());
        return Err(CliError::Check { detail });
    }
    Ok(Point {
        level: if plan.level == Level::Store { "store" } else { "engine" },
        mode: plan.mode,
        concurrency: plan.concurrency,
        batch: plan.batch,
        collections_per_s: told.collections as f64 / told.elapsed_s,
        told,
        requests: server.requests(),
    })
}

/// Lets requests fail as was asked for.
fn break_down(server: &S3Server, args: &BenchShipArgs) {
    let faults = [
        (args.fail_percent * 5, Fault::status(500, "InternalError")),
        (args.fail_percent * 3, Fault::reset_before()),
        (args.fail_percent * 2, Fault::reset_after()),
        (if args.throttle { THROTTLED_PER_MILLE } else { 0 }, Fault::status(503, "SlowDown")),
    ];
    for (per_mille, fault) in faults.into_iter().filter(|(per_mille, _)| *per_mille > 0) {
        server.fail(Strike::by_chance(per_mille), fault);
    }
}
