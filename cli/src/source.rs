//! Rows and queries that come from Parquet files: the user's, or the sample that is built into
//! this program (so that the demo works from any directory).

use crate::{
    args::ColumnArgs,
    database,
    error::{CliError, Result},
};
use akidb::{
    Point,
    import::{Batches, ImportOptions, ParquetImport},
    vfs::{RealFs, write_file_durably},
};
use serde_json::Value;
use std::{
    collections::VecDeque,
    path::{Path, PathBuf},
};

static SAMPLE_ROWS: &[u8] = include_bytes!("../../data/wordnet-5k.parquet");
static SAMPLE_QUERIES: &[u8] = include_bytes!("../../data/wordnet-queries-100.parquet");

/// What the sample is called in reports.
pub(crate) const SAMPLE_NAME: &str = "the built-in WordNet sample";

/// Writes the sample into `dir`, because import reads files; returns the rows and the queries.
pub(crate) fn write_sample(dir: &Path) -> Result<(PathBuf, PathBuf)> {
    let rows = dir.join("wordnet-5k.parquet");
    let queries = dir.join("wordnet-queries-100.parquet");
    write_file_durably(&RealFs, &rows, SAMPLE_ROWS)?;
    write_file_durably(&RealFs, &queries, SAMPLE_QUERIES)?;
    Ok((rows, queries))
}

/// A file of rows.
#[derive(Debug)]
pub(crate) struct Source {
    path: PathBuf,
    import: ParquetImport,
}

impl Source {
    pub(crate) fn open(path: &Path, columns: &ColumnArgs) -> Result<Self> {
        let options = ImportOptions {
            id_column: columns.id_column.clone(),
            vector_column: columns.vector_column.clone(),
            ..ImportOptions::default()
        };
        Self::with_options(path, &options)
    }

    fn with_options(path: &Path, options: &ImportOptions) -> Result<Self> {
        let import = ParquetImport::open(&RealFs, path, options)?;
        Ok(Self { path: path.to_owned(), import })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn rows(&self) -> u64 {
        self.import.rows()
    }

    pub(crate) fn dim(&self) -> u32 {
        self.import.dim()
    }

    /// Columns that could not become metadata, as `name (type)`.
    pub(crate) fn skipped(&self) -> Vec<String> {
        let skipped = self.import.skipped_columns().iter();
        skipped.map(|column| format!("{} ({})", column.name, column.data_type)).collect()
    }

    /// The rows in file order, `batch` at a time; the last batch may be smaller.
    pub(crate) fn batches(&self, batch: usize) -> Result<Rebatched<'_>> {
        Ok(Rebatched { batches: self.import.batches()?, pending: VecDeque::new(), batch })
    }

    /// The first rows, at most `max`.
    pub(crate) fn head(&self, max: usize) -> Result<Vec<Point>> {
        self.batches(max)?.next().unwrap_or_else(|| Ok(Vec::new()))
    }
}

/// Batches of the size that the user asked for, out of those of the file.
#[derive(Debug)]
pub(crate) struct Rebatched<'a> {
    batches: Batches<'a>,
    pending: VecDeque<Point>,
    batch: usize,
}

impl Iterator for Rebatched<'_> {
    type Item = Result<Vec<Point>>;

    fn next(&mut self) -> Option<Self::Item> {
        while self.pending.len() < self.batch {
            match self.batches.next() {
                Some(Ok(points)) => self.pending.extend(points),
                Some(Err(error)) => return Some(Err(error.into())),
                None => break,
            }
        }
        let take = self.batch.min(self.pending.len());
        (take > 0).then(|| Ok(self.pending.drain(..take).collect()))
    }
}

/// A query.
#[derive(Clone, Debug)]
pub(crate) struct Query {
    /// What to show to people.
    pub(crate) text: String,
    pub(crate) vector: Vec<f32>,
    /// The ids of the exact nearest rows, nearest first, if the file says.
    pub(crate) neighbours: Option<Vec<String>>,
}

/// Reads a file of queries; it needs no ids.
pub(crate) fn read_queries(
    path: &Path,
    vector_column: Option<&str>,
    dim: u32,
) -> Result<Vec<Query>> {
    let options = ImportOptions {
        vector_column: vector_column.map(str::to_owned),
        number_rows: true,
        ..ImportOptions::default()
    };
    let source = Source::with_options(path, &options)?;
    if source.dim() != dim {
        let file = path.to_owned();
        return Err(CliError::QueryDimension { file, expected: dim, found: source.dim() });
    }
    let mut queries = Vec::new();
    for batch in source.import.batches()? {
        queries.extend(batch?.into_iter().map(query));
    }
    if queries.is_empty() {
        return Err(CliError::NoRows { file: path.to_owned() });
    }
    Ok(queries)
}

fn query(mut point: Point) -> Query {
    let text = match point.metadata.get("text").and_then(Value::as_str) {
        Some(text) => text.to_owned(),
        None => format!("query {}", point.id),
    };
    let neighbours = match point.metadata.get_mut("neighbours").map(Value::take) {
        Some(Value::Array(ids)) => Some(ids.iter().map(database::id_text).collect()),
        _ => None,
    };
    Query { text, vector: point.vector, neighbours }
}
