//! The options of `akidb gen`.

use super::values;
use clap::Args;
use std::path::PathBuf;

const EXAMPLES: &str = "\
Examples:
  akidb gen --rows 1000000 --dim 384 --seed 1 rows.parquet
  akidb gen --rows 200000 --dim 1024 --queries 1000 rows.parquet    makes rows-queries.parquet too
  akidb bench search --input rows.parquet --queries rows-queries.parquet

The same options make the same file on every machine. Row n does not depend on how many there are: a
longer file of the same seed begins with the same rows. docs/guides/generated-rows.md has the
formulas.";

/// Make a Parquet file of rows that look like embeddings.
///
/// Unit vectors in clusters of uneven size, around a common direction, with a decaying spectrum: what
/// indexes meet in real data, and uniform random numbers lack. Columns: `id`, `vector`, `topic`
/// (the cluster) and `bucket` (uniform, 0 to 9,999), for filters.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct GenArgs {
    /// The Parquet file to make; it must not exist.
    #[arg(value_name = "OUT.parquet")]
    pub(crate) out: PathBuf,

    /// Rows.
    #[arg(long, value_parser = values::at_least_one)]
    pub(crate) rows: usize,

    /// Numbers in a vector.
    #[arg(long, default_value_t = 384, value_parser = values::dimension)]
    pub(crate) dim: u32,

    /// Everything follows from it.
    #[arg(long, default_value_t = 1)]
    pub(crate) seed: u64,

    /// Also make so many queries, in a file beside it whose name ends in `-queries`.
    #[arg(long, value_name = "N", value_parser = values::at_least_one)]
    pub(crate) queries: Option<usize>,
}
