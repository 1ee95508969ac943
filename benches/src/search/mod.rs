//! AkiDB beside libraries for approximate nearest neighbours, at the same recall: each is built once,
//! swept for the least effort that reaches each recall, and these points are then measured in turn,
//! one thread, one query per call.

mod data;
mod libraries;

use crate::{Result, median};
use clap::Args;
use data::Data;
use libraries::{Graph, Kind, Library};
use serde_json::{Value, json};
use std::{
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

/// The recalls that are compared.
const MARKS: [f64; 4] = [0.90, 0.95, 0.98, 0.99];
/// Each effort of the sweep is this much larger than the one before.
const GROWTH: f64 = 1.4;
/// The sweep ends early when this many steps in a row found nothing more; not before this effort,
/// because a graph takes an `ef` below `k` for `k`.
const FLAT: usize = 4;
const FLAT_FROM: usize = 100;
/// Nothing tries harder.
const EFFORT_MAX: usize = 20_000;

#[derive(Debug, Args)]
pub struct SearchArgs {
    /// Parquet file of rows, as `akidb ingest` reads it.
    #[arg(long)]
    input: PathBuf,

    /// Parquet file of queries; neighbours are computed if it has none.
    #[arg(long)]
    queries: PathBuf,

    /// The libraries, with commas between them.
    #[arg(long, value_delimiter = ',', default_value = "akidb,usearch,hnsw-rs,instant-distance")]
    engines: Vec<Kind>,

    /// Hits per query.
    #[arg(short, default_value_t = 10)]
    k: usize,

    /// Neighbours per node of the graphs that have a choice.
    #[arg(long, default_value_t = 16)]
    m: usize,

    /// How hard the graphs are built.
    #[arg(long, default_value_t = 200)]
    ef_construction: usize,

    /// Threads that build usearch; the others take one per core.
    #[arg(long, default_value_t = 2)]
    threads: usize,

    /// Rounds; in each one every library has its turn at every recall.
    #[arg(long, default_value_t = 5)]
    rounds: usize,

    /// Milliseconds of each turn, at least; all queries are answered at least once.
    #[arg(long, default_value_t = 300)]
    point_ms: u64,

    /// Where the database is made [default: the system's temporary directory].
    #[arg(long)]
    dir: Option<PathBuf>,

    /// Also writes the figures here.
    #[arg(long)]
    json: Option<PathBuf>,
}

/// A library, and what was measured of it.
struct Series {
    kind: Kind,
    library: Box<dyn Library>,
    build_s: f64,
    index_s: f64,
    points: Vec<Point>,
}

/// The least effort that reaches a recall.
struct Point {
    mark: f64,
    effort: usize,
    recall: f64,
    qps: Vec<f64>,
}

pub fn run(args: &SearchArgs) -> Result<()> {
    let data = Arc::new(Data::read(&args.input, &args.queries, args.k, args.threads)?);
    let count = data.truth.len();
    println!("{} rows of dimension {}, {count} queries", data.count(), data.dim);
    let scratch = crate::scratch(args.dir.as_ref())?;
    let graph = Graph { m: args.m, ef_construction: args.ef_construction, threads: args.threads };
    let mut series = Vec::new();
    for kind in &args.engines {
        let built = libraries::build(*kind, &data, graph, scratch.path())?;
        println!("{:16} built in {:.2} s", kind.name(), built.seconds);
        let mut one = Series {
            kind: *kind,
            library: built.library,
            build_s: built.seconds,
            index_s: built.index_seconds,
            points: Vec::new(),
        };
        one.points = sweep(one.library.as_mut(), &data, args.k)?;
        for Point { mark, effort, recall, .. } in &one.points {
            println!("{:16} recall {mark}: effort {effort} ({recall:.4})", kind.name());
        }
        series.push(one);
    }
    measure(args, &data, &mut series)?;
    report(args, &data, &series)
}

/// The least effort that reaches each mark: growing until all are reached or more effort finds
/// nothing more, then by halving.
fn sweep(library: &mut dyn Library, data: &Data, k: usize) -> Result<Vec<Point>> {
    let mut recall = |effort| {
        library.set_effort(effort)?;
        let answers = answers(library, data, k)?;
        Ok::<_, Box<dyn std::error::Error + Send + Sync>>(data.recall(&answers))
    };
    let mut grid: Vec<(usize, f64)> = Vec::new();
    let (mut next, mut flat) = (1, 0);
    while next <= EFFORT_MAX && flat < FLAT {
        let found = recall(next)?;
        let last = grid.last().map_or(0.0, |(_, found)| *found);
        flat = if found <= last && next > FLAT_FROM { flat + 1 } else { 0 };
        grid.push((next, found));
        if MARKS.iter().all(|mark| found >= *mark) {
            break;
        }
        next = ((next as f64 * GROWTH) as usize).max(next + 1);
    }
    let mut points = Vec::new();
    for mark in MARKS {
        let Some(at) = grid.iter().position(|(_, found)| *found >= mark) else { continue };
        let mut below = at.checked_sub(1).map_or(0, |at| grid[at].0);
        let (mut effort, mut found) = grid[at];
        // To within three per cent: recall moves less than between two runs of a build.
        while effort - below > 1 + effort / 33 {
            let middle = below + (effort - below) / 2;
            let of_middle = recall(middle)?;
            if of_middle >= mark { (effort, found) = (middle, of_middle) } else { below = middle }
        }
        points.push(Point { mark, effort, recall: found, qps: Vec::new() });
    }
    Ok(points)
}

fn answers(library: &mut dyn Library, data: &Data, k: usize) -> Result<Vec<Vec<u32>>> {
    (0..data.truth.len()).map(|query| library.search(query, k)).collect()
}

fn measure(args: &SearchArgs, data: &Data, series: &mut [Series]) -> Result<()> {
    let at_least = Duration::from_millis(args.point_ms);
    for round in 0..args.rounds {
        for at in 0..MARKS.len() {
            for Series { kind, library, points, .. } in &mut *series {
                let Some(point) = points.iter_mut().find(|point| point.mark == MARKS[at]) else {
                    continue;
                };
                library.set_effort(point.effort)?;
                // What setting the effort moved out of the cache comes back untimed.
                answers(library.as_mut(), data, args.k)?;
                let (start, mut count) = (Instant::now(), 0);
                while count == 0 || start.elapsed() < at_least {
                    for query in 0..data.truth.len() {
                        std::hint::black_box(library.search(query, args.k)?);
                    }
                    count += data.truth.len();
                }
                let qps = count as f64 / start.elapsed().as_secs_f64();
                println!("round {round}: {:16} recall {} {qps:8.0} q/s", kind.name(), point.mark);
                point.qps.push(qps);
            }
        }
    }
    Ok(())
}

fn report(args: &SearchArgs, data: &Data, series: &[Series]) -> Result<()> {
    let akidb = series.iter().find(|one| one.kind == Kind::Akidb);
    println!(
        "\n{:16} {:>8}  {:>20} x 4: queries/s (akidb is so many times as fast)",
        "", "build", "recall"
    );
    let mut engines = Vec::new();
    for one in series {
        let build_ratio = akidb.map(|akidb| one.build_s / akidb.build_s);
        let mut line = format!("{:16} {:6.2} s", one.kind.name(), one.build_s);
        if let Some(ratio) = build_ratio {
            line += &format!(" ({ratio:.1})");
        }
        let mut points = Vec::new();
        for mark in MARKS {
            let (text, figures) = figures(one, akidb, mark);
            line += &text;
            points.extend(figures);
        }
        println!("{line}");
        engines.push(json!({
            "engine": one.kind.name(), "build_s": one.build_s, "index_s": one.index_s,
            "akidb_build_ratio": build_ratio, "at_recall": points,
        }));
    }
    let figures = json!({
        "command": "search", "rows": data.count(), "dim": data.dim, "queries": data.truth.len(),
        "k": args.k, "m": args.m, "ef_construction": args.ef_construction,
        "build_threads": args.threads, "rounds": args.rounds, "engines": engines,
    });
    crate::write_json(args.json.as_ref(), &figures)
}

/// One library at one recall, as text and JSON. The ratio is made round by round, because the
/// machine's speed drifts: both sides of it then saw the same minute.
fn figures(one: &Series, akidb: Option<&Series>, mark: f64) -> (String, Option<Value>) {
    let at = |series: &Series| series.points.iter().position(|point| point.mark == mark);
    let Some(point) = at(one).map(|at| &one.points[at]) else {
        return (format!("  {mark:.2}: -"), None);
    };
    let (qps, low, high) = median(point.qps.clone());
    let ours = akidb.and_then(|akidb| at(akidb).map(|at| &akidb.points[at]));
    let ratio = ours.map(|ours| {
        median(ours.qps.iter().zip(&point.qps).map(|(ours, its)| ours / its).collect()).0
    });
    let text = ratio.map_or_else(String::new, |ratio| format!(" ({ratio:.2})"));
    let figures = json!({
        "mark": mark, "effort": point.effort, "recall": point.recall, "qps": qps,
        "qps_min": low, "qps_max": high, "qps_rounds": point.qps, "akidb_ratio": ratio,
    });
    (format!("  {mark:.2}: {qps:.0}{text}"), Some(figures))
}
