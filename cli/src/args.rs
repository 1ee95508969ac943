//! What can be typed: the commands, their options and their help. Owns every word of `--help`.
//!
//! Must never open a database or print: it turns text into plain data, and text that cannot be
//! right (a filter that is not one, an unknown field type) is refused here, with exit code 2.
//! Called by `main`; the values are read by the module of each command.

mod bench;
mod bench_search;
mod bench_tiers;
mod generate;
mod limits;
mod store;
mod tiering;
mod tools;
mod values;

use akidb::{Durability, FieldDef, Filter, Metric, WalBackend};
pub(crate) use bench::{
    BenchArgs, BenchCommand, BenchRecoveryArgs, BenchWriteArgs, RecoveryReaderArgs,
    RecoveryWriterArgs,
};
pub(crate) use bench_search::{BenchSearchArgs, SearchReaderArgs};
pub(crate) use bench_tiers::BenchTierArgs;
#[cfg(feature = "bench-s3")]
pub(crate) use bench_tiers::{BenchShipArgs, Level, ShipWorkerArgs};
use clap::{ArgGroup, Args, Parser, Subcommand, ValueEnum};
pub(crate) use generate::GenArgs;
pub(crate) use limits::LimitArgs;
use std::path::PathBuf;
#[cfg(feature = "s3")]
pub(crate) use store::AddressingStyle;
pub(crate) use store::{StoreArgs, StoreCommand, StoreCommandArgs, StorePlace};
pub(crate) use tiering::{
    DlqArgs, DlqCommand, DlqLettersArgs, DlqListArgs, RestoreArgs, SnapshotArgs, SnapshotCommand,
    SnapshotCopyArgs, SnapshotCreateArgs, SnapshotDeleteArgs, SnapshotListArgs,
    SnapshotRestoreArgs, SnapshotVerifyArgs, TierArgs, TierCommand, TierListArgs, TierMoveArgs,
    TierName, TierOneArgs, TierPolicyArgs, TierRunArgs,
};
pub(crate) use tools::{
    InspectArgs, ReadOnlyArgs, RepairArgs, VerifyArgs, WalArgs, WalCommand, WalDumpArgs,
};

const EXAMPLES: &str = "\
Examples:
  akidb demo                                   see everything work, on real data
  akidb ingest --dir ./data -C docs --data rows.parquet --index pos:keyword
  akidb search --dir ./data -C docs --id n02084071 -k 5
  akidb stats  --dir ./data
  akidb inspect ./data/MANIFEST-000000000001
  akidb tier move --dir ./data -C docs cold --store s3://vectors/production
  akidb verify ./data

Exit codes: 0 done, 1 it failed (or an id was not found), 2 the command line is wrong, 5 a limit
refused it; store check, verify and repair have more.";

/// AkiDB: an embeddable vector storage engine.
///
/// A database is a directory: a checksummed log, memory-mapped segments, and, for cold
/// collections, plain Parquet objects. One process at a time has it open.
#[derive(Debug, Parser)]
#[command(name = "akidb", version, after_help = EXAMPLES, arg_required_else_help = true)]
pub(crate) struct Cli {
    /// Print one JSON object instead of text; errors go to standard error as JSON too.
    #[arg(long, global = true)]
    pub(crate) json: bool,

    #[command(flatten)]
    pub(crate) store: StoreArgs,

    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Show it all on real data: ingest, search, a crash, every tier.
    Demo(DemoArgs),
    /// Read a Parquet file into a collection.
    Ingest(IngestArgs),
    /// Find the rows nearest to a vector or to a row.
    Search(SearchArgs),
    /// Print rows by id.
    Get(GetArgs),
    /// Delete rows by id or by filter.
    Delete(DeleteArgs),
    /// Say what a database consists of.
    Stats(StatsArgs),
    /// Where collections are: hot, warm or cold; move them.
    Tier(TierArgs),
    /// Moves that the policy gave up: look at them, try them again, or drop them.
    Dlq(DlqArgs),
    /// Collections as they were at one moment.
    Snapshot(SnapshotArgs),
    /// Make a new directory of what an object store holds.
    Restore(RestoreArgs),
    /// Look at the object store.
    Store(StoreCommandArgs),
    /// Describe any AkiDB file in words.
    Inspect(InspectArgs),
    /// Say whether a database is sound, and what is wrong with it.
    Verify(VerifyArgs),
    /// Make a damaged database whole again, without what is lost.
    Repair(RepairArgs),
    /// Look into the log.
    Wal(WalArgs),
    /// Measure this machine; the JSON is meant to be kept and compared.
    Bench(BenchArgs),
    /// Make a Parquet file of rows that look like embeddings.
    Gen(GenArgs),
    /// The child process that the demo kills.
    #[command(hide = true)]
    DemoWriter(DemoWriterArgs),
    /// The child process that `bench recovery` kills.
    #[command(hide = true)]
    RecoveryWriter(RecoveryWriterArgs),
    /// The child processes that `bench recovery` times.
    #[command(hide = true)]
    RecoveryReader(RecoveryReaderArgs),
    /// The child process of `bench search` that measures memory.
    #[command(hide = true)]
    SearchReader(SearchReaderArgs),
    /// The child processes of `bench ship`.
    #[cfg(feature = "bench-s3")]
    #[command(hide = true)]
    ShipWorker(ShipWorkerArgs),
}

/// Which columns of a foreign Parquet file are the id and the vector.
#[derive(Clone, Debug, Default, Args)]
pub(crate) struct ColumnArgs {
    /// The column of ids: strings, integers or 16-byte UUIDs [default: a column named "id"].
    #[arg(long, value_name = "NAME")]
    pub(crate) id_column: Option<String>,

    /// The column of vectors: lists of 16-, 32- or 64-bit floats [default: "vector", or the only
    /// such column].
    #[arg(long, value_name = "NAME")]
    pub(crate) vector_column: Option<String>,
}

/// Where a collection is.
#[derive(Clone, Debug, Args)]
pub(crate) struct Place {
    /// The database directory.
    #[arg(long, value_name = "DIR")]
    pub(crate) dir: PathBuf,

    /// The collection.
    #[arg(long, short = 'C', value_name = "NAME")]
    pub(crate) collection: String,
}

/// How ids on the command line are read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum IdKind {
    /// Digits are a number, a hyphenated UUID is a UUID, anything else is a string; if no such
    /// row exists, the same characters as a string.
    #[default]
    Auto,
    /// Always a string.
    String,
}

const DEMO_EXAMPLES: &str = "\
Examples:
  akidb demo                          the built-in sample, in a directory that is removed
  akidb demo --dir ./demo             keep the database; then: akidb stats --dir ./demo
  akidb demo --data rows.parquet      your own vectors; queries are some of its rows
  akidb demo --data rows.parquet --queries questions.parquet";

/// Show it all on real data: ingest, search, a crash, every tier.
///
/// Ingests the sample (5,000 WordNet entries with sentence embeddings, built into this program),
/// answers text queries with and without a filter, kills a child process in the middle of
/// ingesting and checks that every acknowledged row came back, flushes, compacts, moves the
/// collection to a Parquet object and searches it there.
#[derive(Debug, Args)]
#[command(after_help = DEMO_EXAMPLES)]
pub(crate) struct DemoArgs {
    /// A Parquet file with an id and a vector column, instead of the sample.
    #[arg(long, value_name = "FILE")]
    pub(crate) data: Option<PathBuf>,

    /// A Parquet file of queries: a vector column, and a `text` column if there is one [default:
    /// the sample's queries, or rows of --data].
    #[arg(long, value_name = "FILE", requires = "data")]
    pub(crate) queries: Option<PathBuf>,

    /// Keep the database in this directory, which must be new or empty.
    #[arg(long, value_name = "DIR")]
    pub(crate) dir: Option<PathBuf>,

    #[command(flatten)]
    pub(crate) columns: ColumnArgs,
}

const INGEST_EXAMPLES: &str = "\
Examples:
  akidb ingest --dir ./data -C docs --data rows.parquet
  akidb ingest --dir ./data -C docs --data rows.parquet --metric l2 --id-column key \\
        --vector-column embedding --index year:integer --index tags:keyword
  akidb ingest --dir ./data -C docs --data rows.parquet --namespace team-a --storage-max 20GB

Rows whose id exists are replaced. Every batch is all or nothing, and durable before the next
one begins: after a crash, run the same command again.";

/// Read a Parquet file into a collection.
///
/// The collection is made if it does not exist, with the dimension of the file. All columns other
/// than id and vector become metadata.
#[derive(Debug, Args)]
#[command(after_help = INGEST_EXAMPLES)]
pub(crate) struct IngestArgs {
    #[command(flatten)]
    pub(crate) place: Place,

    /// The Parquet file.
    #[arg(long, value_name = "FILE")]
    pub(crate) data: PathBuf,

    /// How nearness is measured: cosine, dot or l2 [default: cosine, or what the collection has].
    #[arg(long, value_parser = values::metric)]
    pub(crate) metric: Option<Metric>,

    #[command(flatten)]
    pub(crate) columns: ColumnArgs,

    /// Rows per batch.
    #[arg(long, default_value_t = 1000, value_parser = values::at_least_one)]
    pub(crate) batch: usize,

    /// Index a metadata field for filters; can be repeated. Types: keyword, integer, float, bool,
    /// timestamp.
    #[arg(long = "index", value_name = "FIELD:TYPE", value_parser = values::field)]
    pub(crate) fields: Vec<FieldDef>,

    /// sync (survives power loss), interval:MS, or memory.
    #[arg(long, default_value = "sync", value_parser = values::durability)]
    pub(crate) durability: Durability,

    /// How the log writes: std, auto (io_uring where it works), uring or tokio-uring.
    #[arg(long, default_value = "std", value_parser = values::wal_backend)]
    pub(crate) wal_backend: WalBackend,

    /// The namespace that a new collection counts towards, for good.
    #[arg(long, value_name = "NAME")]
    pub(crate) namespace: Option<String>,

    #[command(flatten)]
    pub(crate) limits: LimitArgs,
}

const SEARCH_EXAMPLES: &str = "\
Examples:
  akidb search --dir ./data -C docs --id n02084071 -k 5
  akidb search --dir ./data -C docs --vector query.json --filter '{\"field\":\"pos\",\"eq\":\"verb\"}'
  akidb search --dir ./data -C docs --vector query.f32 --explain --json

A vector file is a JSON array of numbers, or, with the ending .f32, raw little-endian 32-bit
floats. Filters are JSON: {\"field\":F,\"eq\":V}, ne, in, gt, gte, lt, lte, exists, contains,
combined by {\"and\":[..]}, {\"or\":[..]}, {\"not\":..}.";

/// Find the rows nearest to a vector or to a row.
///
/// Scores: cosine similarity, inner product, or negated Euclidean distance; higher is nearer. A
/// cold collection is brought back to local disk first.
#[derive(Debug, Args)]
#[command(after_help = SEARCH_EXAMPLES)]
#[command(group = ArgGroup::new("query").required(true).args(["id", "vector"]))]
pub(crate) struct SearchArgs {
    #[command(flatten)]
    pub(crate) place: Place,

    #[command(flatten)]
    pub(crate) opening: ReadOnlyArgs,

    /// Search by the vector of this row.
    #[arg(long, value_name = "ROW")]
    pub(crate) id: Option<String>,

    /// Search by the vector in this file (.json or .f32).
    #[arg(long, value_name = "FILE")]
    pub(crate) vector: Option<PathBuf>,

    /// How many rows.
    #[arg(short, default_value_t = 10)]
    pub(crate) k: usize,

    /// Only rows that match this filter.
    #[arg(long, value_name = "JSON", value_parser = values::filter)]
    pub(crate) filter: Option<Filter>,

    /// The share of the true nearest rows to find, above 0 and at most 1 [default: 0.95].
    #[arg(long, value_name = "SHARE", value_parser = values::share)]
    pub(crate) recall: Option<f64>,

    /// Search so many cells of each segment, whatever recall that gives.
    #[arg(long, value_name = "CELLS", conflicts_with = "recall", value_parser = values::at_least_one)]
    pub(crate) nprobe: Option<usize>,

    /// Score every row: the true answer.
    #[arg(long, conflicts_with_all = ["recall", "nprobe"])]
    pub(crate) exact: bool,

    /// Also say what the search did.
    #[arg(long)]
    pub(crate) explain: bool,

    /// How --id is read.
    #[arg(long, value_enum, default_value_t)]
    pub(crate) id_kind: IdKind,
}

/// Print rows by id. Exit code 1 if one does not exist.
#[derive(Debug, Args)]
pub(crate) struct GetArgs {
    #[command(flatten)]
    pub(crate) place: Place,

    #[command(flatten)]
    pub(crate) opening: ReadOnlyArgs,

    /// The rows.
    #[arg(required = true, value_name = "ID")]
    pub(crate) ids: Vec<String>,

    /// Print the vectors too.
    #[arg(long)]
    pub(crate) vectors: bool,

    /// How ids are read.
    #[arg(long, value_enum, default_value_t)]
    pub(crate) id_kind: IdKind,
}

const DELETE_EXAMPLES: &str = "\
Examples:
  akidb delete --dir ./data -C docs n02084071 n02121620
  akidb delete --dir ./data -C docs --filter '{\"field\":\"pos\",\"eq\":\"adv\"}'";

/// Delete rows by id or by filter. Durable when it returns; ids that do not exist are fine.
#[derive(Debug, Args)]
#[command(after_help = DELETE_EXAMPLES)]
#[command(group = ArgGroup::new("rows").required(true).args(["ids", "filter"]))]
pub(crate) struct DeleteArgs {
    #[command(flatten)]
    pub(crate) place: Place,

    /// The rows.
    #[arg(value_name = "ID")]
    pub(crate) ids: Vec<String>,

    /// Every row that matches this filter.
    #[arg(long, value_name = "JSON", value_parser = values::filter)]
    pub(crate) filter: Option<Filter>,

    /// How ids are read.
    #[arg(long, value_enum, default_value_t)]
    pub(crate) id_kind: IdKind,
}

/// Say what a database consists of: collections, tiers, files, log, what it takes of its limits, and
/// what opening it found.
#[derive(Debug, Args)]
pub(crate) struct StatsArgs {
    /// The database directory.
    #[arg(long, value_name = "DIR")]
    pub(crate) dir: PathBuf,

    #[command(flatten)]
    pub(crate) opening: ReadOnlyArgs,

    /// Only this collection.
    #[arg(long, short = 'C', value_name = "NAME")]
    pub(crate) collection: Option<String>,

    #[command(flatten)]
    pub(crate) limits: LimitArgs,
}

/// Arguments of the demo's child process.
#[derive(Debug, Args)]
pub(crate) struct DemoWriterArgs {
    /// The database directory.
    #[arg(long)]
    pub(crate) dir: PathBuf,

    /// The Parquet file.
    #[arg(long)]
    pub(crate) data: PathBuf,

    #[command(flatten)]
    pub(crate) columns: ColumnArgs,

    /// Rows per batch.
    #[arg(long, value_parser = values::at_least_one)]
    pub(crate) batch: usize,

    /// How many rows of the file, from its start.
    #[arg(long)]
    pub(crate) rows: usize,
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn a_search_needs_exactly_one_query() {
        let place = ["akidb", "search", "--dir", "d", "-C", "c"];
        let parse = |more: &[&str]| Cli::try_parse_from(place.iter().chain(more)).is_ok();
        assert!(parse(&["--id", "a"]));
        assert!(parse(&["--vector", "q.json"]));
        assert!(!parse(&[]));
        assert!(!parse(&["--id", "a", "--vector", "q.json"]));
    }

    #[test]
    fn a_search_tries_hard_in_one_way() {
        let place = ["akidb", "search", "--dir", "d", "-C", "c", "--id", "a"];
        let parse = |more: &[&str]| Cli::try_parse_from(place.iter().chain(more)).is_ok();
        for fine in [["--recall", "0.9"].as_slice(), &["--nprobe", "3"], &["--exact"], &[]] {
            assert!(parse(fine), "{fine:?}");
        }
        assert!(!parse(&["--exact", "--nprobe", "3"]));
        assert!(!parse(&["--recall", "0.9", "--nprobe", "3"]));
        assert!(!parse(&["--recall", "1.1"]));
    }

    #[test]
    fn a_delete_takes_ids_or_a_filter() {
        let place = ["akidb", "delete", "--dir", "d", "-C", "c"];
        let parse = |more: &[&str]| Cli::try_parse_from(place.iter().chain(more)).is_ok();
        let filter = r#"{"field":"a","eq":1}"#;
        assert!(parse(&["1", "2"]));
        assert!(parse(&["--filter", filter]));
        assert!(!parse(&[]));
        assert!(!parse(&["1", "--filter", filter]));
    }
}
