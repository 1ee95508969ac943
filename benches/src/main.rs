//! `akidb-rivals`: AkiDB beside other engines and libraries, on the same rows, in the same run, in
//! turn. `storage` compares durable writes and recovery, `search` approximate nearest neighbours;
//! each is a feature, so that one can be built without what the other brings.
//!
//! A bench, not a product: it may unwrap what the product may not, and it uses the standard
//! library's files where it only copies directories. README.md says what it measures and what not.

#[cfg(feature = "search")]
mod search;
#[cfg(feature = "storage")]
mod storage;

use clap::{Parser, Subcommand};
use std::{error::Error, path::PathBuf};

/// Whatever went wrong, in the words of the engine.
type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

#[derive(Debug, Parser)]
#[command(about = "Measures AkiDB beside other embedded engines and search libraries")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Durable inserts, one row per call, from several threads.
    #[cfg(feature = "storage")]
    Write(storage::write::WriteArgs),
    /// Opening what a killed writer left.
    #[cfg(feature = "storage")]
    Recovery(storage::recovery::RecoveryArgs),
    /// The child that is killed.
    #[cfg(feature = "storage")]
    #[command(hide = true)]
    Writer(storage::recovery::WriterArgs),
    /// The child that opens.
    #[cfg(feature = "storage")]
    #[command(hide = true)]
    Opener(storage::recovery::OpenerArgs),
    /// Approximate nearest neighbours: build time, and queries per second at the same recall.
    #[cfg(feature = "search")]
    Search(search::SearchArgs),
}

fn scratch(dir: Option<&PathBuf>) -> Result<tempfile::TempDir> {
    let mut builder = tempfile::Builder::new();
    builder.prefix("akidb-rivals-");
    Ok(match dir {
        Some(dir) => builder.tempdir_in(dir)?,
        None => builder.tempdir()?,
    })
}

fn write_json(path: Option<&PathBuf>, figures: &serde_json::Value) -> Result<()> {
    if let Some(path) = path {
        std::fs::write(path, serde_json::to_string_pretty(figures)?)?;
    }
    Ok(())
}

/// The middle one, and the least and the greatest.
fn median(mut values: Vec<f64>) -> (f64, f64, f64) {
    values.sort_by(f64::total_cmp);
    let at = |at: usize| values.get(at).copied().unwrap_or(f64::NAN);
    (at(values.len() / 2), at(0), at(values.len().saturating_sub(1)))
}

fn main() -> Result<()> {
    match Cli::parse().command {
        #[cfg(feature = "storage")]
        Command::Write(args) => storage::write::run(&args),
        #[cfg(feature = "storage")]
        Command::Recovery(args) => storage::recovery::run(&args),
        #[cfg(feature = "storage")]
        Command::Writer(args) => storage::recovery::write_until_killed(&args),
        #[cfg(feature = "storage")]
        Command::Opener(args) => storage::recovery::open_once(&args),
        #[cfg(feature = "search")]
        Command::Search(args) => search::run(&args),
    }
}
