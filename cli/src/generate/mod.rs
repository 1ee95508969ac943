//! `akidb gen`: a Parquet file of rows that look like embeddings, from a seed.
//!
//! `model` says what the rows are, `random` where their numbers come from, `file` how they are
//! written. Must never depend on the machine: `docs/guides/generated-rows.md` promises the same
//! bytes of vectors everywhere. `bench search --generate` uses it too.

mod file;
mod model;
mod random;

use crate::{
    args::GenArgs,
    error::Result,
    output::{Output, Report},
    progress::Progress,
    units,
};
use akidb::vfs::{Clock, Fs, RealFs, SystemClock};
use file::RowFile;
pub(crate) use model::{BUCKETS, normalise};
use model::{Model, Row};
use serde::Serialize;
use std::path::{Path, PathBuf};

/// What was made.
#[derive(Debug, Serialize)]
struct Made {
    command: &'static str,
    rows: usize,
    dim: u32,
    seed: u64,
    file: PathBuf,
    queries: Option<usize>,
    queries_file: Option<PathBuf>,
    bytes: u64,
    elapsed_s: f64,
    rows_per_s: f64,
}

impl Report for Made {
    fn text(&self) -> String {
        let queries = self.queries_file.as_ref().zip(self.queries).map(|(file, queries)| {
            let queries = units::count(queries as u64);
            format!("\n{}: {queries} queries of the same kind", file.display())
        });
        format!(
            "{}: {} rows of dimension {} in {} ({}, {}){}",
            self.file.display(),
            units::count(self.rows as u64),
            self.dim,
            units::micros(self.elapsed_s * 1e6),
            units::rows_per_s(self.rows_per_s),
            units::bytes(self.bytes),
            queries.unwrap_or_default(),
        )
    }
}

pub(crate) fn run(args: &GenArgs, output: Output) -> Result<()> {
    let clock = SystemClock::new();
    let queries = args.queries.map(|count| (count, queries_path(&args.out)));
    make(&args.out, args.rows, args.dim, args.seed, queries.as_ref(), output)?;
    let elapsed = clock.monotonic();
    let bytes = RealFs.metadata(&args.out)?.len;
    output.report(&Made {
        command: "gen",
        rows: args.rows,
        dim: args.dim,
        seed: args.seed,
        file: args.out.clone(),
        queries: args.queries,
        queries_file: queries.map(|(_, path)| path),
        bytes,
        elapsed_s: elapsed.as_secs_f64(),
        rows_per_s: units::per_second(args.rows as u64, elapsed),
    })
}

/// Makes rows, and so many queries in a file of their own.
pub(crate) fn make(
    path: &Path,
    rows: usize,
    dim: u32,
    seed: u64,
    queries: Option<&(usize, PathBuf)>,
    output: Output,
) -> Result<()> {
    let model = Model::new(dim, seed);
    if let Some((count, path)) = queries {
        write(path, dim, *count, output, |n| model.query(n))?;
    }
    write(path, dim, rows, output, |n| model.row(n))
}

fn write(
    path: &Path,
    dim: u32,
    count: usize,
    output: Output,
    row: impl Fn(u64) -> Row,
) -> Result<()> {
    let progress = Progress::new(output, "making", count as u64);
    let mut file = RowFile::create(path, dim)?;
    let written = (0..count as u64).try_for_each(|n| {
        progress.add(1);
        file.push(n, row(n))
    });
    let written = written.and_then(|()| file.finish());
    if written.is_err() {
        // What failed matters; that the rest of it may still lie there does not.
        drop(RealFs.remove_file(path));
    }
    written
}

/// `rows.parquet` becomes `rows-queries.parquet`.
fn queries_path(rows: &Path) -> PathBuf {
    let stem = rows.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    let ending = rows.extension().map(|ending| format!(".{}", ending.to_string_lossy()));
    rows.with_file_name(format!("{stem}-queries{}", ending.unwrap_or_default()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queries_lie_beside_their_rows() {
        let path = |rows: &str| queries_path(Path::new(rows)).to_string_lossy().into_owned();
        assert_eq!(path("a/rows.parquet"), "a/rows-queries.parquet");
        assert_eq!(path("rows"), "rows-queries");
    }
}
