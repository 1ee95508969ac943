//! What is searched: rows and queries from files, the built-in sample or the generator, and the
//! collection that is built from them.

use super::{filters, truth::Truth};
use crate::{
    args::BenchSearchArgs,
    error::Result,
    generate, machine,
    output::Output,
    progress::Progress,
    source::{self, Query, Source},
    tiers::{self, Step, Tier},
};
use akidb::{
    DbBuilder, FieldDef, Metric, Schema, Settings,
    blocking::{Collection, Db},
    vfs::{Clock, SystemClock},
};
use std::{
    path::{Path, PathBuf},
    time::Duration,
};

/// Rows per batch while building.
const BATCH: usize = 1000;
/// Queries that are generated.
const GENERATED_QUERIES: usize = 1000;

/// Rows and queries.
#[derive(Debug)]
pub(super) struct Input {
    pub(super) source: Source,
    pub(super) queries: Vec<Query>,
    pub(super) queries_file: PathBuf,
}

impl Input {
    /// Finds or makes the files; those that are made lie in `scratch`.
    pub(super) fn open(args: &BenchSearchArgs, scratch: &Path, output: Output) -> Result<Self> {
        let (data, queries_file) = files(args, scratch, output)?;
        let source = Source::open(&data, &args.columns)?;
        let vector_column = args.columns.vector_column.as_deref();
        let mut queries = source::read_queries(&queries_file, vector_column, source.dim())?;
        queries.truncate(args.query_count.unwrap_or(usize::MAX));
        Ok(Self { source, queries, queries_file })
    }

    /// The true neighbours: those of the file, or computed.
    pub(super) fn truth(&self, k: usize) -> Result<Truth> {
        match Truth::given(&self.queries, k) {
            Some(truth) => Ok(truth),
            None => {
                Truth::computed(&self.queries, k, machine::cores(), || self.source.batches(BATCH))
            }
        }
    }
}

fn files(args: &BenchSearchArgs, scratch: &Path, output: Output) -> Result<(PathBuf, PathBuf)> {
    match (&args.data, &args.queries, args.generate) {
        (Some(data), Some(queries), _) => Ok((data.clone(), queries.clone())),
        (_, _, Some(rows)) => {
            let (data, queries) = (scratch.join("rows.parquet"), scratch.join("queries.parquet"));
            let asked = (GENERATED_QUERIES, queries);
            generate::make(&data, rows, args.dim, args.seed, Some(&asked), output)?;
            Ok((data, asked.1))
        }
        _ => source::write_sample(scratch),
    }
}

/// How the building went.
#[derive(Debug)]
pub(super) struct Built {
    /// From the first row read to the last acknowledgement.
    pub(super) ingest: Step,
    pub(super) flush: Step,
    pub(super) compact: Step,
    /// All of it, and what was waited for in between.
    pub(super) time: Duration,
    /// The rows as they were after the ingest.
    pub(super) log: Tier,
}

/// Opens a database in which a search is one thread's work.
pub(super) fn open(dir: &Path) -> Result<Db> {
    let settings = Settings { search_threads: 1, ..Settings::default() };
    Ok(DbBuilder::new(dir).settings(settings).open_blocking()?)
}

/// The fields that are indexed.
pub(super) fn fields(args: &BenchSearchArgs) -> Vec<FieldDef> {
    let mut fields = args.fields.clone();
    let bucket = filters::bucket_field();
    if !args.random_filter.is_empty() && fields.iter().all(|field| field.name != bucket.name) {
        fields.push(bucket);
    }
    fields
}

/// Ingests durably, flushes, and merges to one segment.
pub(super) fn build(
    db: &Db,
    input: &Input,
    args: &BenchSearchArgs,
    output: Output,
) -> Result<(Collection, Built)> {
    let mut schema = Schema::new(input.source.dim(), Metric::Cosine);
    schema.fields = fields(args);
    let collection = db.create_collection(super::COLLECTION, schema)?;
    let clock = SystemClock::new();
    let ingest = ingest(&collection, &input.source, !args.random_filter.is_empty(), output)?;
    let log = Tier::log(db, &collection)?.after("written", ingest);
    let flush = tiers::flush(&collection)?;
    let compact = tiers::compact(db, &collection)?;
    let time = clock.monotonic();
    Ok((collection, Built { ingest, flush, compact, time, log }))
}

fn ingest(collection: &Collection, source: &Source, buckets: bool, output: Output) -> Result<Step> {
    let progress = Progress::new(output, "ingesting", source.rows());
    let clock = SystemClock::new();
    let mut rows = 0;
    for points in source.batches(BATCH)? {
        let mut points = points?;
        let count = points.len();
        if buckets {
            (rows..).zip(&mut points).for_each(|(n, point)| filters::put_bucket(point, n));
        }
        collection.upsert(points).run()?;
        rows += count as u64;
        progress.add(count);
    }
    Ok(Step { rows, time: clock.monotonic() })
}
