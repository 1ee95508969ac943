//! `akidb-rivals`: AkiDB beside RocksDB, fjall and redb, on the same rows, in the same run, in turn.
//! A bench, not a product: it may unwrap what the product may not, and it uses the standard
//! library's files where it only copies directories. README.md says what it measures and what not.

mod engines;
mod recovery;
mod rows;
mod write;

use clap::{Args, Parser, Subcommand};
use engines::{Kind, Result};
use std::path::PathBuf;

#[derive(Debug, Parser)]
#[command(about = "Measures AkiDB beside other embedded engines")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Durable inserts, one row per call, from several threads.
    Write(write::WriteArgs),
    /// Opening what a killed writer left.
    Recovery(recovery::RecoveryArgs),
    /// The child that is killed.
    #[command(hide = true)]
    Writer(recovery::WriterArgs),
    /// The child that opens.
    #[command(hide = true)]
    Opener(recovery::OpenerArgs),
}

/// What all measurements share.
#[derive(Debug, Args)]
struct Common {
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
        let mut builder = tempfile::Builder::new();
        builder.prefix("akidb-rivals-");
        Ok(match &self.dir {
            Some(dir) => builder.tempdir_in(dir)?,
            None => builder.tempdir()?,
        })
    }

    fn report(&self, figures: &serde_json::Value) -> Result<()> {
        if let Some(path) = &self.json {
            std::fs::write(path, serde_json::to_string_pretty(figures)?)?;
        }
        Ok(())
    }
}

/// The middle one, and the least and the greatest.
fn median(mut values: Vec<f64>) -> (f64, f64, f64) {
    values.sort_by(f64::total_cmp);
    let at = |at: usize| values.get(at).copied().unwrap_or(f64::NAN);
    (at(values.len() / 2), at(0), at(values.len().saturating_sub(1)))
}

fn main() -> Result<()> {
    match Cli::parse().command {
        Command::Write(args) => write::run(&args),
        Command::Recovery(args) => recovery::run(&args),
        Command::Writer(args) => recovery::write_until_killed(&args),
        Command::Opener(args) => recovery::open_once(&args),
    }
}
