//! Rows to the bytes of one Parquet file, one row group at a time; whole, or as they are ready
//! ([`chunks`](super::chunks)).
//!
//! Called by demotion and snapshots. A row group is built as an Arrow batch, whose values are
//! checksummed before they are encoded, so that the encoder itself is covered too.

#![deny(clippy::indexing_slicing)]

use super::{
    ColdContext, ColdRow, GROUP_BYTES_MAX, GROUP_ROWS_MAX, checksum,
    columns::{self, FieldColumn},
    footer::{Footer, RowGroup},
    values::Typed,
};
use crate::{
    FieldType, Metadata,
    error::{Error, Result},
};
use arrow_array::{
    ArrayRef, RecordBatch,
    builder::{
        BooleanBuilder, Float32Builder, Float64Builder, Int64Builder, ListBuilder, StringBuilder,
        TimestampMicrosecondBuilder, UInt64Builder,
    },
};
use arrow_schema::SchemaRef;
use bytes::Bytes;
use parquet::{
    arrow::{ArrowWriter, arrow_writer::ArrowWriterOptions},
    basic::{Compression, Encoding},
    errors::ParquetError,
    file::properties::{EnabledStatistics, WriterProperties},
    schema::types::ColumnPath,
};
use std::{fmt, mem, sync::Arc};

/// With fewer rows only metadata is compressed: for each column the encoder would make a context to compress and
/// one to expand, which is an eighth of the work for a hundred rows, and saves not one byte in a hundred.
const FEW_ROWS: u64 = 1024;
/// Numbers of vectors that the Parquet writer is handed at a time, in whole rows. For each it makes two levels
/// and an index, three times the size of the number: in pieces they stay in the cache, and in memory that was
/// touched before, which costs more to touch for the first time than the work.
const WRITE_NUMBERS: usize = 16 << 10;

/// Encodes rows in one piece, in their order: the joined [`super::EncodedChunks`].
pub(crate) fn encode(
    context: &ColdContext<'_>,
    rows: impl IntoIterator<Item = Result<ColdRow>>,
) -> Result<(Bytes, super::Totals)> {
    let chunks = super::EncodedChunks::start(context, rows.into_iter())?;
    let totals = chunks.totals();
    let mut chunks = chunks.collect::<Result<Vec<_>>>()?;
    let bytes = match chunks.as_mut_slice() {
        [only] => mem::take(only),
        several => several.concat().into(),
    };
    let totals = totals.get().ok_or_else(|| Error::bug("an object has ended without totals"))?;
    Ok((bytes, totals))
}

/// An object being encoded. The bytes of what is done are handed out on the way.
pub(super) struct Encoder {
    table: SchemaRef,
    writer: ArrowWriter<Vec<u8>>,
    group: Group,
    footer: Footer,
}

impl fmt::Debug for Encoder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Encoder").field("footer", &self.footer).finish_non_exhaustive()
    }
}

impl Encoder {
    pub(super) fn start(context: &ColdContext<'_>) -> Result<Self> {
        let table = Arc::new(columns::table(context.schema));
        let options = ArrowWriterOptions::new()
            .with_properties(properties(context))
            .with_skip_arrow_metadata(true);
        let writer = ArrowWriter::try_new_with_options(Vec::new(), Arc::clone(&table), options)
            .map_err(failed)?;
        let footer = Footer {
            schema: context.schema.clone(),
            database: context.database,
            collection: context.collection,
            rows: 0,
            lsn_min: u64::MAX,
            lsn_max: 0,
            row_groups: Vec::new(),
        };
        let group = Group::new(&footer.schema);
        Ok(Self { table, writer, group, footer })
    }

    /// Takes a row; returns the bytes that are ready because of it: none, unless it ends a row
    /// group. The last few of a group may come with the next one.
    pub(super) fn push(&mut self, row: ColdRow) -> Result<Bytes> {
        if row.vector.len() != self.footer.schema.dim as usize {
            return Err(Error::bug("a stored vector has another dimension than its collection"));
        }
        self.footer.rows += 1;
        self.footer.lsn_min = self.footer.lsn_min.min(row.lsn);
        self.footer.lsn_max = self.footer.lsn_max.max(row.lsn);
        self.group.push(row)?;
        if self.group.rows < GROUP_ROWS_MAX && self.group.bytes < GROUP_BYTES_MAX {
            return Ok(Bytes::new());
        }
        self.end_group()?;
        // What the writer has buffered stays there and is written next: nothing is out of order.
        Ok(mem::take(self.writer.inner_mut()).into())
    }

    fn end_group(&mut self) -> Result<()> {
        let rows = mem::take(&mut self.group.rows) as u64;
        // About what comes, so that it is not copied each time that it outgrows its place.
        self.writer.inner_mut().reserve(self.group.bytes);
        let batch = self.group.take_batch(&self.table)?;
        let crc32 = checksum::row_group(&batch)
            .ok_or_else(|| Error::bug("a column of a cold object has no checksum rule"))?;
        self.footer.row_groups.push(RowGroup { rows, crc32 });
        let step = (WRITE_NUMBERS / self.footer.schema.dim.max(1) as usize).max(1);
        for first in (0..batch.num_rows()).step_by(step) {
            let piece = batch.slice(first, step.min(batch.num_rows() - first));
            self.writer.write(&piece).map_err(failed)?;
        }
        self.writer.flush().map_err(failed)
    }

    /// The rest of the bytes, and what the footer says.
    pub(super) fn finish(mut self) -> Result<(Bytes, Footer)> {
        if self.group.rows > 0 {
            self.end_group()?;
        }
        self.footer.lsn_min = self.footer.lsn_min.min(self.footer.lsn_max);
        for pair in self.footer.to_key_values()? {
            self.writer.append_key_value_metadata(pair);
        }
        Ok((self.writer.into_inner().map_err(failed)?.into(), self.footer))
    }
}

/// Writing to memory fails only if we hand the writer something it cannot take.
fn failed(_: ParquetError) -> Error {
    Error::bug("the Parquet writer refused a cold object")
}

fn properties(context: &ColdContext<'_>) -> WriterProperties {
    let vector = ColumnPath::new(columns::vector_path());
    let plain = [columns::ID, columns::LSN, columns::METADATA];
    let zstd = Compression::ZSTD(Default::default());
    let all = if context.rows < FEW_ROWS { Compression::UNCOMPRESSED } else { zstd };
    let builder = WriterProperties::builder()
        .set_created_by(concat!("akidb ", env!("CARGO_PKG_VERSION")).to_owned())
        .set_compression(all)
        .set_column_compression(ColumnPath::from(columns::METADATA), zstd)
        .set_statistics_enabled(EnabledStatistics::Chunk)
        // Row groups end where the encoder says.
        .set_max_row_group_row_count(None)
        // Embeddings do not compress; plain pages can be read by range and used as they are.
        .set_column_compression(vector.clone(), Compression::UNCOMPRESSED)
        .set_column_encoding(vector.clone(), Encoding::PLAIN)
        .set_column_dictionary_enabled(vector.clone(), false)
        .set_column_statistics_enabled(vector, EnabledStatistics::None);
    plain
        .into_iter()
        .fold(builder, |builder, name| {
            // Every value differs, so a dictionary would be built only to be thrown away.
            builder.set_column_dictionary_enabled(ColumnPath::from(name), false)
        })
        .build()
}

/// The row group being built.
struct Group {
    rows: usize,
    /// About what the columns hold.
    bytes: usize,
    ids: StringBuilder,
    id_kinds: StringBuilder,
    vectors: ListBuilder<Float32Builder>,
    lsns: UInt64Builder,
    fields: Vec<(FieldColumn, FieldBuilder)>,
    metadata: StringBuilder,
}

impl Group {
    fn new(schema: &crate::Schema) -> Self {
        let with_builder = |field: FieldColumn| {
            let builder = FieldBuilder::new(field.field_type);
            (field, builder)
        };
        Self {
            rows: 0,
            bytes: 0,
            ids: StringBuilder::new(),
            id_kinds: StringBuilder::new(),
            vectors: ListBuilder::new(Float32Builder::new()).with_field(columns::vector_item()),
            lsns: UInt64Builder::new(),
            fields: columns::field_columns(&schema.fields).into_iter().map(with_builder).collect(),
            metadata: StringBuilder::new(),
        }
    }

    fn push(&mut self, row: ColdRow) -> Result<()> {
        let ColdRow { id, lsn, vector, mut metadata } = row;
        self.rows += 1;
        self.bytes += vector.len() * size_of::<f32>();
        self.ids.append_value(id.to_string());
        self.id_kinds.append_value(id.kind());
        self.vectors.values().append_slice(&vector);
        self.vectors.append(true);
        self.lsns.append_value(lsn);
        for (field, builder) in &mut self.fields {
            self.bytes += builder.append(field, &mut metadata);
        }
        let json = serde_json::to_string(&metadata)
            .map_err(|_| Error::bug("a JSON object did not serialise"))?;
        self.bytes += json.len();
        self.metadata.append_value(json);
        Ok(())
    }

    /// The rows so far as a batch; starts the next one empty.
    fn take_batch(&mut self, table: &SchemaRef) -> Result<RecordBatch> {
        self.bytes = 0;
        let mut columns: Vec<ArrayRef> = vec![
            Arc::new(self.ids.finish()),
            Arc::new(self.id_kinds.finish()),
            Arc::new(self.vectors.finish()),
            Arc::new(self.lsns.finish()),
        ];
        columns.extend(self.fields.iter_mut().map(|(_, builder)| builder.finish()));
        columns.push(Arc::new(self.metadata.finish()));
        RecordBatch::try_new(Arc::clone(table), columns)
            .map_err(|_| Error::bug("the columns of a cold object do not fit its schema"))
    }
}

/// A typed column being built.
enum FieldBuilder {
    Keyword(StringBuilder),
    Integer(Int64Builder),
    Float(Float64Builder),
    Bool(BooleanBuilder),
    Timestamp(TimestampMicrosecondBuilder),
}

impl FieldBuilder {
    fn new(field_type: FieldType) -> Self {
        match field_type {
            FieldType::Keyword => Self::Keyword(StringBuilder::new()),
            FieldType::Integer => Self::Integer(Int64Builder::new()),
            FieldType::Float => Self::Float(Float64Builder::new()),
            FieldType::Bool => Self::Bool(BooleanBuilder::new()),
            FieldType::Timestamp => {
                Self::Timestamp(TimestampMicrosecondBuilder::new().with_timezone("UTC"))
            }
        }
    }

    /// Appends the field's value or a null, takes the value out of `metadata` if the column
    /// reproduces it, and returns about how many bytes it took.
    fn append(&mut self, field: &FieldColumn, metadata: &mut Metadata) -> usize {
        let value = metadata.get(&field.key);
        let typed = value.and_then(|value| Typed::from_json(value, field.field_type));
        let bytes = match typed {
            Some(Typed::Keyword(text)) => text.len() + size_of::<u32>(),
            _ => size_of::<u64>(),
        };
        match (&mut *self, typed) {
            (Self::Keyword(builder), Some(Typed::Keyword(text))) => builder.append_value(text),
            (Self::Integer(builder), Some(Typed::Integer(x))) => builder.append_value(x),
            (Self::Float(builder), Some(Typed::Float(x))) => builder.append_value(x),
            (Self::Bool(builder), Some(Typed::Bool(x))) => builder.append_value(x),
            (Self::Timestamp(builder), Some(Typed::Timestamp(x))) => builder.append_value(x),
            (builder, _) => builder.append_null(),
        }
        if typed.zip(value).is_some_and(|(typed, value)| typed.reproduces(value)) {
            metadata.remove(&field.key);
        }
        bytes
    }

    fn append_null(&mut self) {
        match self {
            Self::Keyword(builder) => builder.append_null(),
            Self::Integer(builder) => builder.append_null(),
            Self::Float(builder) => builder.append_null(),
            Self::Bool(builder) => builder.append_null(),
            Self::Timestamp(builder) => builder.append_null(),
        }
    }

    fn finish(&mut self) -> ArrayRef {
        match self {
            Self::Keyword(builder) => Arc::new(builder.finish()),
            Self::Integer(builder) => Arc::new(builder.finish()),
            Self::Float(builder) => Arc::new(builder.finish()),
            Self::Bool(builder) => Arc::new(builder.finish()),
            Self::Timestamp(builder) => Arc::new(builder.finish()),
        }
    }
}
