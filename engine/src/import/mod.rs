//! Import of foreign Parquet files: any table with an id column and a vector column, as points.
//!
//! Reads through `akidb_vfs`, a batch at a time, and never writes; the caller upserts what it
//! gets. The file is input, not data of ours: whatever is wrong with it is
//! [`ErrorKind::InvalidInput`](crate::ErrorKind::InvalidInput) and names the row or column. Limits
//! are checked before the Parquet reader allocates, and its panics become errors; hosts that take
//! files from strangers still run an import in a process of its own, with a memory limit, for
//! running out of memory cannot be caught.

#![deny(clippy::indexing_slicing)]

mod chunks;
mod columns;
mod json;
mod rows;

#[cfg(test)]
mod tests;

use crate::{
    DIM_MAX, Point,
    cold::guard,
    error::{Error, InputError, Result},
};
use akidb_vfs::{Fs, OpenMode};
use arrow_array::Array;
use chunks::FileChunks;
use columns::Roles;
use parquet::arrow::{
    ProjectionMask,
    arrow_reader::{
        ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReader,
        ParquetRecordBatchReaderBuilder,
    },
};
use std::path::{Path, PathBuf};

/// Rows of one batch.
const BATCH_ROWS: usize = 1024;

/// Which columns play which part.
///
/// ```
/// use akidb::import::ImportOptions;
/// let options = ImportOptions { id_column: Some("isbn".into()), ..ImportOptions::default() };
/// assert_eq!(options.vector_column, None);
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ImportOptions {
    /// The column of ids: text, whole numbers from 0, or 16-byte UUIDs. Default: `id`.
    pub id_column: Option<String>,
    /// The column of vectors: a list of 16, 32 or 64-bit floats, all of one length. Default:
    /// `vector`, `embedding`, `embeddings` or `emb`, or else the only column that is such a list.
    pub vector_column: Option<String>,
    /// Gives rows their number in the file, from 0, as ids, if `id_column` names none. Default:
    /// false.
    pub number_rows: bool,
}

/// A column that is left out, because its type has no place in metadata.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SkippedColumn {
    /// Its name.
    pub name: String,
    /// Its type, as Arrow calls it.
    pub data_type: String,
}

/// A Parquet file that can be imported.
///
/// Columns other than the id and the vector become metadata: text, booleans, whole numbers and
/// floats as they are (a NaN or infinity is left out), timestamps as RFC 3339 text in UTC, dates
/// as `2026-11-21`, and lists of those. Nulls are left out.
///
/// ```no_run
/// use akidb::import::{ImportOptions, ParquetImport};
/// use akidb_vfs::RealFs;
///
/// # fn main() -> akidb::Result<()> {
/// let file = std::path::Path::new("words.parquet");
/// let import = ParquetImport::open(&RealFs, file, &ImportOptions::default())?;
/// println!("{} rows of dimension {}", import.rows(), import.dim());
/// for batch in import.batches()? {
///     for point in batch? {
///         println!("{}", point.id);
///     }
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct ParquetImport {
    path: PathBuf,
    input: FileChunks,
    metadata: ArrowReaderMetadata,
    roles: Roles,
    rows: u64,
    dim: u32,
}

impl ParquetImport {
    /// Opens a file, settles which columns to use, and reads the first vector for its dimension.
    ///
    /// # Errors
    /// `NotFound` if there is no such file; `InvalidInput` that names it and what is wrong: not
    /// Parquet or cut short, no rows, no vector or id column (and which columns there are), a
    /// dimension that is not possible.
    pub fn open(fs: &dyn Fs, path: &Path, options: &ImportOptions) -> Result<Self> {
        let file = fs.open(path, OpenMode::Read).map_err(Error::opening)?;
        let input = FileChunks::new(file)?;
        let bad = |detail: String| refused(path, &input, detail);
        let tail = input.tail(guard::TAIL_BYTES)?;
        guard::check_tail(&tail, parquet::file::reader::Length::len(&input)).map_err(bad)?;
        // Without the writer's own Arrow schema every list, text and time comes as one Arrow type
        // instead of several, and an embedded schema need not be trusted.
        let reader_options = ArrowReaderOptions::new().with_skip_arrow_metadata(true);
        let metadata =
            guard::contain(|| ArrowReaderMetadata::load(&input, reader_options)).map_err(bad)?;
        let rows = row_count(&metadata).map_err(bad)?;
        let roles = columns::roles(metadata.schema().fields(), options).map_err(bad)?;
        let dim = first_dim(&input, &metadata, roles.vector).map_err(bad)?;
        Ok(Self { path: path.to_owned(), input, metadata, roles, rows, dim })
    }

    /// How many rows the file states.
    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// Numbers in a vector.
    pub fn dim(&self) -> u32 {
        self.dim
    }

    /// The column of ids; `None` if rows are numbered.
    pub fn id_column(&self) -> Option<&str> {
        self.roles.id.and_then(|at| self.column_name(at))
    }

    /// The column of vectors.
    pub fn vector_column(&self) -> &str {
        self.column_name(self.roles.vector).unwrap_or_default()
    }

    /// The columns that become metadata, in the file's order.
    pub fn metadata_columns(&self) -> impl Iterator<Item = &str> {
        self.roles.metadata.iter().map(|(_, name)| name.as_str())
    }

    /// The columns that are left out.
    pub fn skipped_columns(&self) -> &[SkippedColumn] {
        &self.roles.skipped
    }

    /// The rows from the first, in batches of up to 1,024, in the file's order.
    ///
    /// # Errors
    /// `InvalidInput` if the file cannot be read as Parquet.
    pub fn batches(&self) -> Result<Batches<'_>> {
        let reader = guard::contain(|| {
            ParquetRecordBatchReaderBuilder::new_with_metadata(
                self.input.clone(),
                self.metadata.clone(),
            )
            .with_batch_size(BATCH_ROWS)
            .build()
        });
        let reader = reader.map_err(|detail| refused(&self.path, &self.input, detail))?;
        Ok(Batches { import: self, reader: Some(reader), next_row: 0 })
    }

    fn column_name(&self, at: usize) -> Option<&str> {
        self.metadata.schema().fields().get(at).map(|field| field.name().as_str())
    }
}

/// The rows of a file, batch by batch. After an error it yields nothing more.
///
/// Made by [`ParquetImport::batches`]. An error is `InvalidInput` and names the row: a vector of
/// another length, a missing id or vector, a damaged page.
#[derive(Debug)]
pub struct Batches<'a> {
    import: &'a ParquetImport,
    /// `None` after the end or an error.
    reader: Option<ParquetRecordBatchReader>,
    next_row: u64,
}

impl Batches<'_> {
    fn read(&mut self) -> Result<Option<Vec<Point>>> {
        let import = self.import;
        let bad = |detail: String| refused(&import.path, &import.input, detail);
        let Some(reader) = &mut self.reader else {
            return Ok(None);
        };
        let batch = guard::contain(|| reader.next().transpose())
            .map_err(|detail| bad(format!("at row {}: {detail}", self.next_row)))?;
        let Some(batch) = batch else {
            return if self.next_row == import.rows {
                Ok(None)
            } else {
                Err(bad(format!("it ends after {} of {} rows", self.next_row, import.rows)))
            };
        };
        let points = rows::points(&batch, &import.roles, import.dim, self.next_row).map_err(bad)?;
        self.next_row = self.next_row.saturating_add(points.len() as u64);
        Ok(Some(points))
    }
}

impl Iterator for Batches<'_> {
    type Item = Result<Vec<Point>>;

    fn next(&mut self) -> Option<Self::Item> {
        let batch = self.read().transpose();
        if !matches!(batch, Some(Ok(_))) {
            self.reader = None;
        }
        batch
    }
}

/// The error for a bad file; or that of the failed file call, if one is behind it.
fn refused(path: &Path, input: &FileChunks, detail: String) -> Error {
    match input.take_failure() {
        Some(failure) => failure.into(),
        None => InputError::Import { file: path.to_owned(), detail }.into(),
    }
}

fn row_count(metadata: &ArrowReaderMetadata) -> Result<u64, String> {
    let groups = metadata.metadata().row_groups();
    if groups.len() > guard::ROW_GROUPS_MAX {
        return Err(format!("{} row groups are too many", groups.len()));
    }
    let mut rows = 0_u64;
    for group in groups {
        let count = u64::try_from(group.num_rows()).ok();
        let sum = count.and_then(|count| rows.checked_add(count));
        rows = sum.ok_or_else(|| format!("a row group of {} rows", group.num_rows()))?;
    }
    Ok(rows)
}

/// The length of the first vector, reading no other column.
fn first_dim(
    input: &FileChunks,
    metadata: &ArrowReaderMetadata,
    vector: usize,
) -> Result<u32, String> {
    let first = guard::contain(|| {
        let only_vectors = ProjectionMask::roots(metadata.parquet_schema(), [vector]);
        ParquetRecordBatchReaderBuilder::new_with_metadata(input.clone(), metadata.clone())
            .with_projection(only_vectors)
            .with_batch_size(1)
            .build()?
            .next()
            .transpose()
            .map_err(parquet::errors::ParquetError::from)
    })?;
    let batch = first.ok_or("it has no rows, so the dimension of its vectors is not known")?;
    let column = batch.columns().first().map(AsRef::as_ref);
    let len = column.and_then(|lists: &dyn Array| rows::vector(lists, 0)).map(|v| v.len());
    let len = len.ok_or("row 0 has no vector, or a null in it")?;
    let dim = u32::try_from(len).ok().filter(|dim| (1..=DIM_MAX).contains(dim));
    dim.ok_or_else(|| format!("vectors of {len} numbers are not possible; 1 to {DIM_MAX} are"))
}
