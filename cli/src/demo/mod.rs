//! `akidb demo`: the whole data path on real rows, told as it happens. Every claim it prints is
//! checked first: acknowledged rows are compared one by one after the crash, and exact answers must
//! be the same in every tier; what approximate ones find of them is counted. It uses nothing but the public API.

mod answers;
mod crash;
mod profile;

use crate::{
    args::DemoArgs,
    bench::Measured,
    database::Workplace,
    error::{CliError, Result},
    ingest::{self, Load},
    output::{self, Output, Report},
    progress::Progress,
    source::{self, Query, SAMPLE_NAME, Source},
    tiers::{self, Step, Tier},
    units,
};
use akidb::{
    Hit, Metric, Schema,
    blocking::{Collection, Db},
    vfs::{Clock, SystemClock},
};
use answers::Answer;
use crash::Crash;
pub(crate) use crash::write_until_killed;
use profile::Profile;
use serde::Serialize;
use std::path::{Path, PathBuf};

const COLLECTION: &str = "demo";
const BATCH: usize = 500;
/// How they are written.
const LOAD: Load = Load { batch: BATCH, durability: None, flush_when_full: false };
/// Rows that the profile is made of.
const PROFILED: usize = 1000;
/// Queries that are timed in each tier.
const QUERIES_MAX: usize = 100;
const K: usize = 10;

#[derive(Debug, Serialize)]
struct DemoResult {
    data: String,
    rows: u64,
    dim: u32,
    /// The filter of `filtered_answers`, as JSON.
    filter: Option<serde_json::Value>,
    answers: Vec<Answer>,
    filtered_answers: Vec<Answer>,
    crash: Crash,
    /// The first search of the cold collection, which brought it back.
    cold_first_search_us: u64,
    tiers: Vec<Tier>,
    kept_in: Option<PathBuf>,
}

impl Report for DemoResult {
    fn text(&self) -> String {
        let mut table = output::table([
            "tier",
            "made of",
            "rows",
            "files",
            "bytes",
            "bytes/row",
            "written at",
            "search p50",
            "recall",
        ]);
        for tier in &self.tiers {
            table.add_row([
                tier.tier.to_owned(),
                tier.what.clone(),
                units::count(tier.rows),
                tier.files.to_string(),
                units::bytes(tier.bytes),
                format!("{:.0}", tier.bytes_per_row_disk),
                tier.rows_per_s.map_or_else(|| "-".to_owned(), units::rows_per_s),
                match tier.search_p50_us {
                    Some(p50_us) => units::micros(p50_us),
                    None => format!("{} once", units::micros(self.cold_first_search_us as f64)),
                },
                tier.search_recall.map_or_else(|| "-".to_owned(), |recall| format!("{recall:.3}")),
            ]);
        }
        output::align_right(&mut table, 2..9);
        let mut text = table.to_string();
        if let Some(dir) = &self.kept_in {
            let dir = dir.display();
            text.push_str(&format!(
                "\n\nkept in {dir}, cold: what lies under {dir}/objects is plain Parquet. Go on with:\n  \
                 akidb stats --dir {dir}"
            ));
        }
        text
    }
}

/// The demo's state between its steps.
struct Demo<'a> {
    output: Output,
    db: &'a Db,
    collection: Collection,
    source: &'a Source,
    profile: Profile,
    queries: Vec<Query>,
    tiers: Vec<Tier>,
}

pub(crate) fn run(args: &DemoArgs, output: Output) -> Result<()> {
    let place = Workplace::new(args.dir.as_deref())?;
    let scratch = Workplace::new(None)?;
    let (data, queries, name) = match &args.data {
        Some(data) => (data.clone(), args.queries.clone(), data.display().to_string()),
        None => {
            let (rows, queries) = source::write_sample(scratch.path())?;
            (rows, Some(queries), SAMPLE_NAME.to_owned())
        }
    };
    let source = Source::open(&data, &args.columns)?;
    let head = source.head(PROFILED)?;
    let profile = Profile::of(&head);
    let queries = match &queries {
        Some(file) => {
            let vector_column = args.columns.vector_column.as_deref();
            let mut queries = source::read_queries(file, vector_column, source.dim())?;
            queries.truncate(QUERIES_MAX);
            queries
        }
        None => head.into_iter().take(QUERIES_MAX).map(|row| row_query(row, &profile)).collect(),
    };
    let db = Db::open(place.path())?;
    let mut schema = Schema::new(source.dim(), Metric::Cosine);
    schema.fields.clone_from(&profile.fields);
    let collection = db.create_collection(COLLECTION, schema)?;
    let demo =
        Demo { output, db: &db, collection, source: &source, profile, queries, tiers: Vec::new() };
    let result = demo.tell(args, &name, scratch.path(), place.kept())?;
    db.close()?;
    output.say("\nWhat it came to")?;
    output.report(&Measured::new("demo", place.path(), result))
}

/// A row of the data as a query.
fn row_query(row: akidb::Point, profile: &Profile) -> Query {
    let text = row.metadata.as_object().map(|object| profile.text(object)).unwrap_or_default();
    let text = if text.is_empty() { format!("row {}", row.id) } else { text.to_owned() };
    Query { text, vector: row.vector, neighbours: None }
}

impl Demo<'_> {
    fn tell(
        mut self,
        args: &DemoArgs,
        name: &str,
        scratch: &Path,
        kept: Option<&Path>,
    ) -> Result<DemoResult> {
        self.ingest(name)?;
        let before = self.time_searches()?;
        let shown = answers::clearest(&self.queries, &before);
        let answers = answers::answer(&self.collection, &shown, None)?;
        self.output.say("\n2. Search: by cosine similarity (1 is the same direction)")?;
        self.output.say(answers::table(&answers, &self.profile))?;
        let filtered_answers = self.filtered(&shown)?;
        let crash = self.crash(args, scratch)?;
        self.descend(&before)?;
        let cold_first_search_us = self.search_cold(&before)?;
        // Before the last demotion: counting would bring the rows back.
        let rows = self.collection.count(None)?;
        if kept.is_some() {
            tiers::demote(&self.collection)?;
        }
        Ok(DemoResult {
            data: name.to_owned(),
            rows,
            dim: self.source.dim(),
            filter: self.profile.filter().map(|filter| filter.to_json()),
            answers,
            filtered_answers,
            crash,
            cold_first_search_us,
            tiers: self.tiers,
            kept_in: kept.map(Path::to_owned),
        })
    }

    fn ingest(&mut self, name: &str) -> Result<()> {
        let rows = self.source.rows();
        self.output.say(format_args!(
            "1. Ingest: {} rows of {} numbers from {name}, {BATCH} at a time, each batch synced \
             to disk before the next",
            units::count(rows),
            self.source.dim(),
        ))?;
        let progress = Progress::new(self.output, "ingesting", rows);
        let loaded = ingest::load(&self.collection, self.source, LOAD, &progress)?;
        drop(progress);
        let step = Step { rows: loaded.rows, time: loaded.time };
        self.say_step("durable and searchable", step)?;
        self.tiers.push(Tier::log(self.db, &self.collection)?.after("written", step));
        Ok(())
    }

    /// Answers all queries where the rows are now: for the clock, as users do, and exactly. Returns
    /// the exact answers.
    fn time_searches(&mut self) -> Result<Vec<Vec<Hit>>> {
        let exact = tiers::search_exactly(&self.collection, &self.queries, K)?;
        let (found, latency) = tiers::search_all(&self.collection, &self.queries, K)?;
        if let Some(tier) = self.tiers.pop() {
            self.tiers.push(tier.searched(&latency, answers::recall(&exact, &found)));
        }
        Ok(exact)
    }

    fn filtered(&self, shown: &[Query]) -> Result<Vec<Answer>> {
        let Some(filter) = self.profile.filter() else {
            self.output
                .say("\n3. Search with a filter: these rows have no categories to filter by")?;
            return Ok(Vec::new());
        };
        let matching = self.collection.count(Some(&filter))?;
        let (name, value) = self.profile.filter.clone().unwrap_or_default();
        self.output.say(format_args!(
            "\n3. The same with a filter: {name} = {value} ({} rows match)",
            units::count(matching)
        ))?;
        let answers = answers::answer(&self.collection, shown, Some(&filter))?;
        self.output.say(answers::table(&answers, &self.profile))?;
        Ok(answers)
    }

    fn crash(&self, args: &DemoArgs, scratch: &Path) -> Result<Crash> {
        self.output.say("\n4. Crash: a child process ingests into a database of its own")?;
        let crash = crash::run(&scratch.join("crash"), self.source, &args.columns)?;
        for line in crash.text().lines() {
            self.output.say(format_args!("   {line}"))?;
        }
        Ok(crash)
    }

    fn descend(&mut self, before: &[Vec<Hit>]) -> Result<()> {
        self.output.say("\n5. Down the tiers: flush, compact, move to a Parquet object")?;
        let flush = tiers::flush(&self.collection)?;
        self.say_step("flushed from memory to mapped segments", flush)?;
        self.tiers.push(Tier::warm(&self.collection).after("flushed", flush));
        answers::check_same("segments", before, &self.time_searches()?)?;

        self.rewrite_some()?;
        let compact = tiers::compact(self.db, &self.collection)?;
        self.say_step("compacted into one segment, old versions dropped", compact)?;
        self.tiers.push(Tier::warm(&self.collection).after("compacted", compact));
        answers::check_same("the compacted segment", before, &self.time_searches()?)?;

        let demote = tiers::demote(&self.collection)?;
        self.say_step("moved to the object store, verified, local files removed", demote)?;
        self.tiers.push(Tier::cold(&self.collection).after("demoted", demote));
        Ok(())
    }

    /// Writes the first rows again, so that compaction has several segments and dead rows.
    fn rewrite_some(&self) -> Result<()> {
        let rows = self.source.head(PROFILED)?;
        let count = rows.len() as u64;
        self.collection.upsert(rows).run()?;
        self.collection.flush()?;
        self.output.say(format_args!(
            "   {} rows written again: a new segment, and the old versions hidden at once",
            units::count(count)
        ))
    }

    /// Searches the cold collection; returns how long the first search took, in microseconds.
    fn search_cold(&mut self, before: &[Vec<Hit>]) -> Result<u64> {
        self.output.say("\n6. Search the cold collection")?;
        let Some(query) = self.queries.first() else {
            return Err(CliError::NoRows { file: self.source.path().to_owned() });
        };
        let rows = self.collection.stats().cold.iter().map(|cold| cold.rows).sum();
        let clock = SystemClock::new();
        let (_, explain) = self.collection.search(&query.vector).k(K).explain()?;
        let time = clock.monotonic();
        if !explain.promoted {
            let detail = "a search of the cold collection did not promote it".to_owned();
            return Err(CliError::Check { detail });
        }
        self.output.say(format_args!(
            "   the first search took {}: it brought the rows back to local disk",
            units::time(time)
        ))?;
        self.tiers.push(Tier::warm(&self.collection).after("promoted", Step { rows, time }));
        answers::check_same("the promoted segment", before, &self.time_searches()?)?;
        self.output.say(format_args!(
            "   asked exactly, all {} queries got the same answers, bit for bit, in every tier",
            self.queries.len()
        ))?;
        Ok(u64::try_from(time.as_micros()).unwrap_or(u64::MAX))
    }

    fn say_step(&self, what: &str, step: Step) -> Result<()> {
        self.output.say(format_args!(
            "   {} rows {what} in {} ({})",
            units::count(step.rows),
            units::time(step.time),
            units::rows_per_s(step.rows_per_s().unwrap_or_default()),
        ))
    }
}
