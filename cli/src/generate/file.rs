//! Generated rows as a Parquet file, written a row group at a time: memory is bounded whatever the
//! number of rows. An interrupted file has no footer, so nobody takes it for a whole one.

use super::model::Row;
use crate::error::{CliError, Result};
use akidb::vfs::{Fs, FsFile, RealFs};
use arrow_array::{
    ArrayRef, FixedSizeListArray, Float32Array, RecordBatch, UInt32Array, UInt64Array,
};
use arrow_schema::{DataType, Field, Schema, SchemaRef};
use parquet::{
    arrow::ArrowWriter, errors::ParquetError, file::properties::WriterProperties,
    schema::types::ColumnPath,
};
use std::{
    io::{self, Write},
    path::{Path, PathBuf},
    sync::Arc,
};

/// Bytes of vectors in a row group, about, and the most rows of one.
const GROUP_BYTES: usize = 32 << 20;
const GROUP_ROWS: usize = 16_384;

/// A file being made.
pub(super) struct RowFile {
    path: PathBuf,
    schema: SchemaRef,
    dim: u32,
    /// Rows that wait for their group to be full.
    pending: Vec<(u64, Row)>,
    group: usize,
    writer: ArrowWriter<Sink>,
    file: Arc<dyn FsFile>,
}

impl RowFile {
    /// Makes the file, which must not exist.
    pub(super) fn create(path: &Path, dim: u32) -> Result<Self> {
        let file = RealFs.create_new(path)?;
        let item = Arc::new(Field::new("item", DataType::Float32, false));
        // A dimension has 16 bits.
        let vector = DataType::FixedSizeList(item, dim.cast_signed());
        let schema = Arc::new(Schema::new(vec![
            Field::new("id", DataType::UInt64, false),
            Field::new("vector", vector, false),
            Field::new("topic", DataType::UInt32, false),
            Field::new("bucket", DataType::UInt32, false),
        ]));
        // Vectors neither compress nor repeat; the attempt would cost time.
        let plain = WriterProperties::builder()
            .set_column_dictionary_enabled(ColumnPath::from("vector.list.element"), false)
            .set_dictionary_enabled(false)
            .set_max_row_group_row_count(Some(GROUP_ROWS))
            .build();
        let sink = Sink { file: Arc::clone(&file), offset: 0 };
        let writer = ArrowWriter::try_new(sink, Arc::clone(&schema), Some(plain))
            .map_err(|error| failed(path, &error))?;
        let group = (GROUP_BYTES / (dim as usize * 4)).clamp(1, GROUP_ROWS);
        Ok(Self { path: path.to_owned(), schema, dim, pending: Vec::new(), group, writer, file })
    }

    /// Appends a row.
    pub(super) fn push(&mut self, id: u64, row: Row) -> Result<()> {
        self.pending.push((id, row));
        if self.pending.len() >= self.group { self.write_group() } else { Ok(()) }
    }

    /// Writes what is left and the footer, and syncs.
    pub(super) fn finish(mut self) -> Result<()> {
        self.write_group()?;
        self.writer.close().map_err(|error| failed(&self.path, &error))?;
        Ok(self.file.sync_all()?)
    }

    fn write_group(&mut self) -> Result<()> {
        let rows = std::mem::take(&mut self.pending);
        if rows.is_empty() {
            return Ok(());
        }
        let batch = self.batch(&rows).map_err(|error| failed(&self.path, &error))?;
        self.writer
            .write(&batch)
            .and_then(|()| self.writer.flush())
            .map_err(|error| failed(&self.path, &error))
    }

    fn batch(&self, rows: &[(u64, Row)]) -> Result<RecordBatch, ParquetError> {
        let numbers: Float32Array =
            rows.iter().flat_map(|(_, row)| &row.vector).copied().collect::<Vec<_>>().into();
        let item = Arc::new(Field::new("item", DataType::Float32, false));
        let dim = self.dim.cast_signed();
        let vectors = FixedSizeListArray::try_new(item, dim, Arc::new(numbers), None)?;
        let column = |of: fn(&Row) -> u32| -> ArrayRef {
            Arc::new(UInt32Array::from_iter_values(rows.iter().map(|(_, row)| of(row))))
        };
        let ids = UInt64Array::from_iter_values(rows.iter().map(|(id, _)| *id));
        let columns: Vec<ArrayRef> = vec![
            Arc::new(ids),
            Arc::new(vectors),
            column(|row| row.topic),
            column(|row| row.bucket),
        ];
        Ok(RecordBatch::try_new(Arc::clone(&self.schema), columns)?)
    }
}

fn failed(path: &Path, error: &ParquetError) -> CliError {
    CliError::WriteFile { file: path.to_owned(), detail: error.to_string() }
}

/// The file as the Parquet writer wants it.
struct Sink {
    file: Arc<dyn FsFile>,
    offset: u64,
}

impl Write for Sink {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.file.write_all_at(buf, self.offset).map_err(io::Error::other)?;
        self.offset += buf.len() as u64;
        Ok(buf.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
