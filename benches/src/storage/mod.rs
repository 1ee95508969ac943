//! AkiDB beside storage engines: durable writes, and what opening costs after a kill.

pub mod engines;
pub mod recovery;
pub mod rows;
pub mod write;

use crate::Result;
use clap::Args;
use engines::Kind;
use std::path::PathBuf;

/// What both measurements share.
#[derive(Debug, Args)]
pub struct Common {
    /// Rows in all, for each engine and round.
    #[arg(long, default_value_t = 100_000)]
    rows: u64,

    /// Numbers in a vector.
    #[arg(long, default_value_t = 384)]
    dim: usize,

    /// The engines, with commas between them.
    #[arg(long, value_delimiter = ',', default_value = "akidb,rocksdb,fjall,redb")]
    engines: Vec<Kind>,

    /// Rounds; in each one every engine has its turn.
    #[arg(long, default_value_t = 3)]
    rounds: usize,

    /// Where the databases are made [default: the system's temporary directory].
    #[arg(long)]
    dir: Option<PathBuf>,

    /// Also writes the figures here.
    #[arg(long)]
    json: Option<PathBuf>,
}

impl Common {
    fn scratch(&self) -> Result<tempfile::TempDir> {
        crate::scratch(self.dir.as_ref())
    }

    fn report(&self, figures: &serde_json::Value) -> Result<()> {
        crate::write_json(self.json.as_ref(), figures)
    }
}
