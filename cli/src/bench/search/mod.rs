//! `akidb bench search`: builds a collection, searches it in every way that was asked for, and says
//! what that costs.
//!
//! `input` makes the collection, `truth` knows the right answers, `measure` times one way of
//! searching, `curve`, `filters`, `memtable` and `ingest` say which ways, `report` and `plot` show
//! it. Every figure of `docs/performance.md` about search comes from here.

mod curve;
mod effort;
mod filters;
mod ingest;
mod input;
mod measure;
mod memory;
mod memtable;
mod plot;
mod report;
mod stages;
mod truth;

use super::Measured;
use crate::{
    args::{BenchSearchArgs, SearchReaderArgs},
    database::Workplace,
    error::{CliError, Result},
    machine,
    output::Output,
    tiers::{self, Tier},
};
use akidb::blocking::Collection;
use curve::Wanted;
use input::Input;
use measure::{Point, Rounds, Task};
pub(crate) use memory::read_and_tell;
use report::SearchResult;
use std::{path::Path, time::Duration};
use tempfile::TempDir;

/// The collection that is built.
const COLLECTION: &str = "bench";

pub(super) fn run(args: &BenchSearchArgs, output: Output) -> Result<()> {
    let scratch = Workplace::new(None)?;
    let place = Workplace::new(args.dir.as_deref())?;
    let input = Input::open(args, scratch.path(), output)?;
    let db = input::open(place.path())?;
    let (collection, built) = input::build(&db, &input, args, output)?;
    let mut result = SearchResult::new(&input, &collection, built);
    let wanted = Wanted {
        nprobe: &args.nprobe,
        recall_target: &args.recall_target,
        threads: &args.threads,
        rounds: Rounds { rounds: args.rounds, time: Duration::from_millis(args.point_ms) },
    };
    search(args, output, &input, &collection, &wanted, &mut result)?;
    result.memory = memory::measure(&SearchReaderArgs {
        dir: place.path().to_owned(),
        queries: input.queries_file.clone(),
        dim: input.source.dim(),
        k: args.k,
        columns: args.columns.clone(),
    })?;
    tiers(args, output, &collection, &mut result)?;
    db.close()?;
    apart(args, output, &input, &wanted, place.path(), &mut result)?;
    result.peak_rss_bytes = machine::peak_rss_bytes();
    if let Some(file) = &args.svg {
        plot::write(file, &result)?;
    }
    output.report(&Measured::new("bench search", place.path(), result))
}

/// The curve and the filters.
fn search(
    args: &BenchSearchArgs,
    output: Output,
    input: &Input,
    collection: &Collection,
    wanted: &Wanted<'_>,
    result: &mut SearchResult,
) -> Result<()> {
    output.say(format_args!("finding the true neighbours of {} queries", input.queries.len()))?;
    let truth = &input.truth(args.k)?;
    let task = Task { collection, queries: &input.queries, truth, filter: None, k: args.k };
    output.say(format_args!("measuring the curve, {} rounds", args.rounds))?;
    result.points = curve::curve(task, wanted)?;
    result.at_recall = curve::marks(&result.points, wanted.threads);
    let random = args.random_filter.iter().map(|share| filters::random(*share));
    let filters: Vec<_> = args.filters.iter().cloned().chain(random).collect();
    if !filters.is_empty() {
        output.say(format_args!("measuring {} filters", filters.len()))?;
        result.filters = filters::measure(task, &filters, wanted)?;
    }
    Ok(())
}

/// What the rows cost in each tier, and the moves between them.
fn tiers(
    args: &BenchSearchArgs,
    output: Output,
    collection: &Collection,
    result: &mut SearchResult,
) -> Result<()> {
    let warm = Tier::warm(collection);
    result.bytes_per_row_disk = warm.bytes_per_row_disk;
    let step = tiers::Step { rows: result.rows, time: Duration::from_secs_f64(result.compact_s) };
    let warm = warm.after("built", step);
    result.tiers.push(match result.points.iter().find(|point| is_usual(point)) {
        Some(point) => warm.searched(&point.times, point.recall),
        None => warm,
    });
    if args.no_tiers {
        return Ok(());
    }
    output.say("moving to the cold tier and back")?;
    let demote = tiers::demote(collection)?;
    result.tiers.push(Tier::cold(collection).after("demoted", demote));
    result.demote_rows_per_s = demote.rows_per_s();
    result.promote_rows_per_s = tiers::promote(collection)?.rows_per_s();
    Ok(())
}

/// The point whose speed stands for the whole: what a search gets that asks for nothing.
fn is_usual(point: &Point) -> bool {
    point.params.recall_target == Some(0.95) || point.params.plan == "exact"
}

/// What needs databases of its own: memtables alone, and ingest. They lie beside the first one, on
/// the same disk.
fn apart(
    args: &BenchSearchArgs,
    output: Output,
    input: &Input,
    wanted: &Wanted<'_>,
    place: &Path,
    result: &mut SearchResult,
) -> Result<()> {
    for count in &args.memtable_rows {
        output.say(format_args!("measuring a memtable of {count} rows"))?;
        let dir = beside(place)?;
        let (source, queries) = (&input.source, &input.queries);
        let found = memtable::measure(dir.path(), source, queries, args.k, *count, wanted)?;
        result.memtables.push(found);
    }
    if args.ingest {
        output.say("ingesting with a search beside it")?;
        let dir = beside(place)?;
        let fields = input::fields(args);
        let (source, queries) = (&input.source, &input.queries);
        let rate = args.ingest_qps;
        result.ingest = Some(ingest::measure(dir.path(), source, &fields, queries, args.k, rate)?);
    }
    Ok(())
}

fn beside(place: &Path) -> Result<TempDir> {
    let parent = place.parent().filter(|parent| !parent.as_os_str().is_empty());
    let parent = parent.unwrap_or(Path::new("."));
    tempfile::Builder::new().prefix("akidb-").tempdir_in(parent).map_err(CliError::TempDir)
}
