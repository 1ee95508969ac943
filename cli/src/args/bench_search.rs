//! The options of `akidb bench search`.

use super::{ColumnArgs, values};
use akidb::{FieldDef, Filter};
use clap::Args;
use std::{ffi::OsString, path::PathBuf};

const EXAMPLES: &str = "\
Examples:
  akidb bench search --input rows.parquet --queries queries.parquet --threads 1,2 --svg curve.svg
  akidb bench search --input rows.parquet --queries queries.parquet --index pos:keyword \\
        --filter '{\"field\":\"pos\",\"eq\":\"verb\"}' --random-filter 0.5,0.1,0.01,0.001
  akidb bench search --generate 1000000 --dim 384 --no-tiers --json
  akidb bench search --input rows.parquet --queries queries.parquet --no-tiers \\
        --memtable-rows 10000,50000,128000 --ingest";

/// Build a collection and search it: recall against queries per second, latency, stages.
///
/// Ingests durably, flushes, compacts to one segment (together `build_s`), then answers every query
/// with one call each, at growing numbers of probed cells and at each recall target: the curve. All
/// points are measured in turn, in rounds, so that a machine that drifts drifts for all of them.
/// Without a `neighbours` column the exact neighbours are computed first, by comparing every query
/// with every row. Then filters, memtables alone, and ingest with a search beside it, where asked
/// for; last the collection is moved to the cold tier and back.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct BenchSearchArgs {
    /// Parquet file of rows [default: the built-in sample].
    #[arg(long, visible_alias = "input", value_name = "FILE", requires = "queries")]
    pub(crate) data: Option<PathBuf>,

    /// Parquet file of queries with a vector column and, if known, a `neighbours` column: ids of
    /// the exact nearest rows, nearest first.
    #[arg(long, value_name = "FILE", requires = "data")]
    pub(crate) queries: Option<PathBuf>,

    /// Instead of files: this many rows, and 1,000 queries, as `akidb gen` makes them.
    #[arg(long, value_name = "ROWS", conflicts_with = "data", value_parser = values::at_least_one)]
    pub(crate) generate: Option<usize>,

    /// Numbers in a generated vector.
    #[arg(long, default_value_t = 384, value_parser = values::dimension)]
    pub(crate) dim: u32,

    /// The seed of generated rows.
    #[arg(long, default_value_t = 1)]
    pub(crate) seed: u64,

    /// Hits per query; recall is recall at this k.
    #[arg(short, long = "k", default_value_t = 10, value_parser = values::at_least_one)]
    pub(crate) k: usize,

    /// Threads that search at the same time; several numbers, with commas, are measured in turn.
    #[arg(long, value_delimiter = ',', default_value = "1", value_parser = values::at_least_one)]
    pub(crate) threads: Vec<usize>,

    /// Cells probed per segment, with commas [default: growing until nothing more is found, and the
    /// least that reaches recall 0.90, 0.95, 0.98 and 0.99].
    #[arg(long, value_delimiter = ',', value_parser = values::at_least_one)]
    pub(crate) nprobe: Vec<usize>,

    /// Recall targets to ask for, with commas.
    #[arg(long, value_delimiter = ',', default_value = "0.9,0.95,0.98,0.99",
          value_parser = values::share)]
    pub(crate) recall_target: Vec<f64>,

    /// Rounds; in each one every point of the curve has its turn.
    #[arg(long, default_value_t = 3, value_parser = values::at_least_one)]
    pub(crate) rounds: usize,

    /// How long a point is measured in each round, at least; all queries are answered at least
    /// once.
    #[arg(long, value_name = "MS", default_value_t = 200)]
    pub(crate) point_ms: u64,

    /// Use only the first so many queries [default: all].
    #[arg(long, value_name = "N", value_parser = values::at_least_one)]
    pub(crate) query_count: Option<usize>,

    /// Index a metadata field for filters; can be repeated, as in `akidb ingest`.
    #[arg(long = "index", value_name = "FIELD:TYPE", value_parser = values::field)]
    pub(crate) fields: Vec<FieldDef>,

    /// Search with this filter too, as in `akidb search`; can be repeated.
    #[arg(long = "filter", value_name = "JSON", value_parser = values::filter)]
    pub(crate) filters: Vec<Filter>,

    /// Search with filters that let a random share of the rows pass, by an integer field `bucket`
    /// that each row gets at ingest: the shares, with commas.
    #[arg(long, value_delimiter = ',', value_name = "SHARE", value_parser = values::share)]
    pub(crate) random_filter: Vec<f64>,

    /// Search memtables of so many rows, with commas, each alone in a database of its own; rows
    /// that the input lacks are made by mixing its own.
    #[arg(long, value_delimiter = ',', value_name = "ROWS", value_parser = values::at_least_one)]
    pub(crate) memtable_rows: Vec<usize>,

    /// Also ingest into a fresh database, in durable batches of 1,000 rows, with another thread
    /// searching meanwhile.
    #[arg(long)]
    pub(crate) ingest: bool,

    /// Searches per second beside the ingest [default: one after the other].
    #[arg(long, value_name = "N", requires = "ingest", value_parser = values::at_least_one)]
    pub(crate) ingest_qps: Option<usize>,

    /// Leave the cold tier out: no demotion, no promotion.
    #[arg(long)]
    pub(crate) no_tiers: bool,

    /// Plot recall against queries per second, and each stage's share of a query, into this file.
    #[arg(long, value_name = "FILE")]
    pub(crate) svg: Option<PathBuf>,

    #[command(flatten)]
    pub(crate) columns: ColumnArgs,

    /// Where the database is made, which must be new or empty; it is kept [default: a temporary
    /// directory, removed at the end].
    #[arg(long, value_name = "DIR")]
    pub(crate) dir: Option<PathBuf>,
}

/// Arguments of the child process of `bench search` that measures memory.
#[derive(Debug, Args)]
pub(crate) struct SearchReaderArgs {
    /// The database directory.
    #[arg(long)]
    pub(crate) dir: PathBuf,

    /// The Parquet file of queries.
    #[arg(long)]
    pub(crate) queries: PathBuf,

    /// Numbers in a vector.
    #[arg(long, value_parser = values::dimension)]
    pub(crate) dim: u32,

    /// Hits per query.
    #[arg(long = "k")]
    pub(crate) k: usize,

    #[command(flatten)]
    pub(crate) columns: ColumnArgs,
}

impl SearchReaderArgs {
    /// The command line that gives these.
    pub(crate) fn to_words(&self) -> Vec<OsString> {
        let mut words: Vec<OsString> = vec!["search-reader".into(), "--dir".into()];
        words.extend([self.dir.clone().into(), "--queries".into(), self.queries.clone().into()]);
        words.extend(["--dim".into(), self.dim.to_string().into()]);
        words.extend(["--k".into(), self.k.to_string().into()]);
        if let Some(column) = &self.columns.vector_column {
            words.extend(["--vector-column".into(), column.into()]);
        }
        words
    }
}
