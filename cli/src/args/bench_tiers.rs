//! The options of `akidb bench tier` and `akidb bench ship`, and of the child process of the latter.

use super::values;
use clap::Args;
use std::path::PathBuf;
#[cfg(feature = "bench-s3")]
use {clap::ValueEnum, std::ffi::OsString};

/// How long a collection takes from tier to tier.
///
/// One collection, flushed and compacted, goes hot, warm, hot, warm, cold, warm, round by round: with a
/// local directory as object store, and, built with the feature `bench-s3`, with an S3 server in this
/// process too. Rows are made from a seed: a random unit vector and about 130 bytes of metadata each.
#[derive(Debug, Args)]
pub(crate) struct BenchTierArgs {
    /// Rows of the collection.
    #[arg(long, default_value_t = 10_000, value_parser = values::at_least_one)]
    pub(crate) rows: usize,

    /// Numbers in a vector.
    #[arg(long, default_value_t = 512, value_parser = values::dimension)]
    pub(crate) dim: u32,

    /// Rounds: each makes every move once, in every store.
    #[arg(long, default_value_t = 3, value_parser = values::at_least_one)]
    pub(crate) rounds: usize,

    /// How long the S3 server waits before it looks at a request.
    #[arg(long, default_value_t = 0, value_name = "MS")]
    pub(crate) latency_ms: u64,

    /// Objects longer than this are read in pieces of so many bytes, while they are decoded.
    #[arg(long, default_value_t = 8 << 20, value_name = "BYTES")]
    pub(crate) read_bytes: u64,

    /// Where the databases are made, which must be new or empty; they are kept [default: a temporary
    /// directory, removed at the end].
    #[arg(long, value_name = "DIR")]
    pub(crate) dir: Option<PathBuf>,
}

/// Collections shipped per second to an S3 server that answers late.
///
/// The server runs in this process, the shipping in a child process of its own, whose memory is what is
/// reported. Two levels: `store` sends objects that the engine has encoded through the batcher and the
/// uploader, each verified; `engine` demotes collections of a database, log, manifest and all. Modes:
/// one at a time, parallel, batched (several collections in one object, a pack), and both.
#[cfg(feature = "bench-s3")]
#[derive(Debug, Args)]
pub(crate) struct BenchShipArgs {
    /// Collections per point.
    #[arg(long, default_value_t = 1_000, value_parser = values::at_least_one)]
    pub(crate) collections: usize,

    /// Rows of a collection.
    #[arg(long, default_value_t = 100, value_parser = values::at_least_one)]
    pub(crate) rows: usize,

    /// Numbers in a vector.
    #[arg(long, default_value_t = 384, value_parser = values::dimension)]
    pub(crate) dim: u32,

    /// How long the server waits before it looks at a request.
    #[arg(long, default_value_t = 20, value_name = "MS")]
    pub(crate) latency_ms: u64,

    /// Uploads under way at once, point by point.
    #[arg(long, value_delimiter = ',', default_value = "1,5,10,20,50,100", value_parser = values::at_least_one)]
    pub(crate) concurrency: Vec<usize>,

    /// Collections per object, point by point.
    #[arg(long, value_delimiter = ',', default_value = "5,10,20,50", value_parser = values::at_least_one)]
    pub(crate) batch: Vec<usize>,

    /// Which levels to measure.
    #[arg(long, value_delimiter = ',', value_enum, default_value = "store,engine")]
    pub(crate) level: Vec<Level>,

    /// A point that takes longer ships fewer collections.
    #[arg(long, default_value_t = 10, value_name = "S", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) point_seconds: u64,

    /// So many of a hundred requests fail: half with status 500, half with a connection that is lost,
    /// some of these after the effect.
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u64).range(..=50))]
    pub(crate) fail_percent: u64,

    /// One request in twenty is answered with 503 SlowDown.
    #[arg(long)]
    pub(crate) throttle: bool,

    /// Flush the collections of level `engine` before: their rows then lie in segments, not in memory.
    #[arg(long)]
    pub(crate) flushed: bool,

    /// Draw collections per second against uploads at once into this file.
    #[arg(long, value_name = "FILE")]
    pub(crate) svg: Option<PathBuf>,

    /// Where the databases are made, which must be new or empty [default: a temporary directory].
    #[arg(long, value_name = "DIR")]
    pub(crate) dir: Option<PathBuf>,
}

/// What is measured.
#[cfg(feature = "bench-s3")]
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Level {
    /// Encoded objects through batcher and uploader.
    Store,
    /// Demotions of a database's collections.
    Engine,
}

/// Arguments of the child process of `bench ship`.
#[cfg(feature = "bench-s3")]
#[derive(Clone, Debug, Args)]
pub(crate) struct ShipWorkerArgs {
    /// The address of the server.
    #[arg(long)]
    pub(crate) server: String,

    /// Where databases are made.
    #[arg(long)]
    pub(crate) dir: PathBuf,

    /// What is measured.
    #[arg(long, value_enum)]
    pub(crate) level: Level,

    /// How many collections.
    #[arg(long)]
    pub(crate) collections: usize,

    /// Rows of each.
    #[arg(long)]
    pub(crate) rows: usize,

    /// Numbers in a vector.
    #[arg(long)]
    pub(crate) dim: u32,

    /// Uploads under way at once.
    #[arg(long)]
    pub(crate) concurrency: usize,

    /// Collections per object.
    #[arg(long)]
    pub(crate) batch: usize,

    /// When to stop.
    #[arg(long)]
    pub(crate) seconds: u64,

    /// Whether rows are flushed before.
    #[arg(long)]
    pub(crate) flushed: bool,
}

#[cfg(feature = "bench-s3")]
impl ShipWorkerArgs {
    /// The command line that gives these.
    pub(crate) fn to_words(&self) -> Vec<OsString> {
        let level = match self.level {
            Level::Store => "store",
            Level::Engine => "engine",
        };
        let mut words = vec!["ship-worker".into(), "--dir".into(), self.dir.clone().into()];
        let options = [
            ("--server", self.server.clone()),
            ("--level", level.to_owned()),
            ("--collections", self.collections.to_string()),
            ("--rows", self.rows.to_string()),
            ("--dim", self.dim.to_string()),
            ("--concurrency", self.concurrency.to_string()),
            ("--batch", self.batch.to_string()),
            ("--seconds", self.seconds.to_string()),
        ];
        words.extend(options.into_iter().flat_map(|(name, value)| [name.into(), value.into()]));
        words.extend(self.flushed.then(|| "--flushed".into()));
        words
    }
}
