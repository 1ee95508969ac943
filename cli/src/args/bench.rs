//! The options of `akidb bench` and of its child process.

#[cfg(feature = "bench-s3")]
use super::bench_tiers::BenchShipArgs;
use super::{bench_search::BenchSearchArgs, bench_tiers::BenchTierArgs, values};
use akidb::{Durability, WalBackend};
use clap::{Args, Subcommand};
use std::{ffi::OsString, path::PathBuf};

const EXAMPLES: &str = "\
Examples:
  akidb bench write --writers 64 --rows 100000 --json
  akidb bench search --input rows.parquet --queries queries.parquet --threads 1,2 --json
  akidb bench recovery --rows 100000 --json

Build with --release before believing a number. The JSON is one object: `version`, `command`,
`machine`, then the figures, each named with its unit last.";

/// Measure this machine; the JSON is meant to be kept and compared.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct BenchArgs {
    #[command(subcommand)]
    pub(crate) command: BenchCommand,
}

#[derive(Debug, Subcommand)]
pub(crate) enum BenchCommand {
    /// Durable inserts from several threads: rows per second and time to acknowledgement.
    Write(BenchWriteArgs),
    /// Build a collection and search it: recall against queries per second, latency, stages.
    Search(Box<BenchSearchArgs>),
    /// Kill a writer and time how fast the log is recovered.
    Recovery(BenchRecoveryArgs),
    /// Move a collection from tier to tier: how long each move takes.
    Tier(BenchTierArgs),
    /// Ship small collections to an S3 server that answers late: collections per second.
    #[cfg(feature = "bench-s3")]
    Ship(BenchShipArgs),
}

/// Durable inserts from several threads: rows per second and time to acknowledgement.
///
/// Rows are made from a seed: a random unit vector and about 130 bytes of metadata each.
#[derive(Debug, Args)]
pub(crate) struct BenchWriteArgs {
    /// Threads that write at the same time.
    #[arg(long, default_value_t = 1, value_parser = values::at_least_one)]
    pub(crate) writers: usize,

    /// Rows per write call.
    #[arg(long, default_value_t = 1, value_parser = values::at_least_one)]
    pub(crate) batch: usize,

    /// Rows in all.
    #[arg(long, default_value_t = 10_000, value_parser = values::at_least_one)]
    pub(crate) rows: usize,

    /// Numbers in a vector.
    #[arg(long, default_value_t = 384, value_parser = values::dimension)]
    pub(crate) dim: u32,

    /// sync, interval, interval:MS or memory.
    #[arg(long, default_value = "sync", value_parser = values::durability)]
    pub(crate) durability: Durability,

    /// How the log writes: std, auto (io_uring where it works), uring or tokio-uring.
    #[arg(long, default_value = "std", value_parser = values::wal_backend)]
    pub(crate) wal_backend: WalBackend,

    /// Where the database is made, which must be new or empty; it is kept [default: a temporary
    /// directory, removed at the end].
    #[arg(long, value_name = "DIR")]
    pub(crate) dir: Option<PathBuf>,
}

/// Kill a writer and time how fast the log is recovered.
///
/// A child process writes the rows without ever flushing, syncs, and is killed with SIGKILL. What is
/// measured is opening copies of what it left, each in a fresh process, in turn with a bare read of
/// the same files: every byte read, checked and copied into a map, and nothing else.
#[derive(Debug, Args)]
pub(crate) struct BenchRecoveryArgs {
    /// Rows in the log.
    #[arg(long, default_value_t = 100_000, value_parser = values::at_least_one)]
    pub(crate) rows: usize,

    /// Numbers in a vector.
    #[arg(long, default_value_t = 384, value_parser = values::dimension)]
    pub(crate) dim: u32,

    /// Rows per batch in the log.
    #[arg(long, default_value_t = 100, value_parser = values::at_least_one)]
    pub(crate) batch: usize,

    /// Rounds: in each, a copy is opened and the files are read bare.
    #[arg(long, default_value_t = 3, value_parser = values::at_least_one)]
    pub(crate) rounds: usize,

    /// What memtables may hold: what does not fit is flushed by the recovery [default: all fits].
    #[arg(long, value_name = "BYTES", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) memtable_pool_bytes: Option<u64>,

    /// Empty the page cache before each read, for which one must be root.
    #[arg(long)]
    pub(crate) cold: bool,

    /// Where the database and its copies are made, which must be new or empty; the database is kept
    /// [default: a temporary directory, removed at the end].
    #[arg(long, value_name = "DIR")]
    pub(crate) dir: Option<PathBuf>,
}

/// Arguments of the child process of `bench recovery` that is killed.
#[derive(Debug, Args)]
pub(crate) struct RecoveryWriterArgs {
    /// The database directory.
    #[arg(long)]
    pub(crate) dir: PathBuf,

    /// Rows to write.
    #[arg(long, value_parser = values::at_least_one)]
    pub(crate) rows: usize,

    /// Numbers in a vector.
    #[arg(long, value_parser = values::dimension)]
    pub(crate) dim: u32,

    /// Rows per batch.
    #[arg(long, value_parser = values::at_least_one)]
    pub(crate) batch: usize,
}

impl RecoveryWriterArgs {
    /// The command line that gives these.
    pub(crate) fn to_words(&self) -> Vec<OsString> {
        let mut words = vec!["recovery-writer".into(), "--dir".into(), self.dir.clone().into()];
        words.extend(option("--rows", &self.rows));
        words.extend(option("--dim", &self.dim));
        words.extend(option("--batch", &self.batch));
        words
    }
}

/// Arguments of the child processes of `bench recovery` that read what was left.
#[derive(Debug, Args)]
pub(crate) struct RecoveryReaderArgs {
    /// The database directory.
    #[arg(long)]
    pub(crate) dir: PathBuf,

    /// Rows that must be there.
    #[arg(long, value_parser = values::at_least_one)]
    pub(crate) rows: usize,

    /// Numbers in a vector.
    #[arg(long, value_parser = values::dimension)]
    pub(crate) dim: u32,

    /// What memtables may hold.
    #[arg(long)]
    pub(crate) memtable_pool_bytes: Option<u64>,

    /// Read the files of the log, and open nothing.
    #[arg(long)]
    pub(crate) bare: bool,
}

impl RecoveryReaderArgs {
    /// The command line that gives these.
    pub(crate) fn to_words(&self) -> Vec<OsString> {
        let mut words = vec!["recovery-reader".into(), "--dir".into(), self.dir.clone().into()];
        words.extend(option("--rows", &self.rows));
        words.extend(option("--dim", &self.dim));
        words.extend(
            self.memtable_pool_bytes.into_iter().flat_map(|n| option("--memtable-pool-bytes", &n)),
        );
        words.extend(self.bare.then(|| "--bare".into()));
        words
    }
}

fn option(name: &str, value: &impl ToString) -> [OsString; 2] {
    [name.into(), value.to_string().into()]
}
