//! The bytes of a cold object to rows, one row group at a time.
//!
//! # Protocol
//! 1. The caller has compared length and CRC-32 of the whole object with the manifest, or does so
//!    before anything becomes of the rows.
//! 2. `open` checks the footer's size, parses it, and checks key-values, schema, row counts and
//!    column extents, before anything is allocated by them.
//! 3. Each row group is decoded, compared with its checksum, and only then turned into rows.

#![deny(clippy::indexing_slicing)]

use super::{
    GROUP_ROWS_MAX, checksum,
    columns::{self, FieldColumn},
    footer::{Footer, RowGroup},
    guard,
    values::Typed,
};
use crate::{
    FieldType, Metadata, PointId, Record, Schema,
    error::{Error, Result},
    id::ID_BYTES_MAX,
};
use akidb_vfs::planted;
use arrow_array::{Array, RecordBatch, StringArray, cast::AsArray, types};
use bytes::Bytes;
use parquet::{
    arrow::arrow_reader::{ArrowReaderMetadata, ParquetRecordBatchReaderBuilder},
    errors::ParquetError,
    file::{metadata::ParquetMetaData, reader::ChunkReader},
};

/// The most bytes that a row group may decode to. The encoder ends groups at a sixteenth of it.
const GROUP_DECODED_BYTES_MAX: i64 = 1 << 30;

/// The rows of an object by its row groups, wherever its bytes are.
pub(crate) trait RowGroups: Sync {
    /// The schema that the rows were encoded under.
    fn schema(&self) -> &Schema;

    /// How many rows it says it has.
    fn rows(&self) -> u64;

    /// How many row groups there are.
    fn groups(&self) -> usize;

    /// The rows of one of them. Several may be asked for at once, each once.
    fn group(&self, index: usize) -> Result<Vec<Record>>;
}

/// What the footer of an object says, checked: all that it takes to decode a row group from its bytes.
#[derive(Debug)]
pub(super) struct ColdTable {
    key: String,
    pub(super) metadata: ArrowReaderMetadata,
    pub(super) footer: Footer,
    fields: Vec<FieldColumn>,
}

impl ColdTable {
    /// Opens the object `key`, of which at least the footer is there. Its dimension and metric must be
    /// those of `schema`, if one is given; its fields may be others, for fields are added while
    /// objects stay as they are.
    pub(super) fn open(
        input: &impl ChunkReader,
        key: &str,
        schema: Option<&Schema>,
    ) -> Result<Self> {
        let damaged = |detail: String| Error::corruption(key, 0, detail);
        let (metadata, footer) = Footer::read(input, key)?;
        let own = (footer.schema.dim, footer.schema.metric);
        if schema.is_some_and(|schema| (schema.dim, schema.metric) != own) {
            return Err(damaged("it has another dimension or metric than its collection".into()));
        }
        check_table(&metadata, &footer.schema).map_err(damaged)?;
        guard::contain(|| {
            Ok::<_, ParquetError>(check_groups(metadata.metadata(), &footer, input.len()))
        })
        .and_then(|checked| checked)
        .map_err(damaged)?;
        let fields = columns::field_columns(&footer.schema.fields);
        Ok(Self { key: key.to_owned(), metadata, footer, fields })
    }

    /// The rows of a row group, whose bytes at least are in `input`.
    pub(super) fn group(
        &self,
        index: usize,
        input: impl ChunkReader + 'static,
    ) -> Result<Vec<Record>> {
        let group = self.footer.row_groups.get(index).copied();
        let group = group.ok_or_else(|| Error::bug("no such row group"))?;
        let damaged = |detail: String| {
            Error::corruption(&self.key, 0, format!("row group {index}: {detail}"))
        };
        let batch = guard::contain(|| self.decode(index, group, input)).map_err(damaged)?;
        if batch.num_rows() as u64 != group.rows {
            return Err(damaged(format!("{} of {} rows", batch.num_rows(), group.rows)));
        }
        if checksum::row_group(&batch) != Some(group.crc32) && !planted("cold.checksum-ignored") {
            return Err(damaged("its values do not match their checksum".to_owned()));
        }
        let rows = Rows::new(&batch, &self.fields, self.footer.schema.dim)
            .ok_or_else(|| damaged("its columns are not those of a cold object".to_owned()))?;
        (0..batch.num_rows())
            .map(|row| rows.record(row).map_err(|what| damaged(format!("row {row} has {what}"))))
            .collect()
    }

    /// Decodes a row group as one batch.
    fn decode(
        &self,
        index: usize,
        group: RowGroup,
        input: impl ChunkReader + 'static,
    ) -> Result<RecordBatch, ParquetError> {
        // At most `GROUP_ROWS_MAX`, checked when the object was opened.
        let batch_rows = usize::try_from(group.rows).unwrap_or(GROUP_ROWS_MAX);
        let mut reader =
            ParquetRecordBatchReaderBuilder::new_with_metadata(input, self.metadata.clone())
                .with_row_groups(vec![index])
                .with_batch_size(batch_rows)
                .build()?;
        let batch = reader.next().transpose()?;
        batch.ok_or_else(|| ParquetError::EOF("it has no rows".to_owned()))
    }
}

/// Reads a cold object: by its row groups, each a batch of whole rows in the order they were encoded. As an
/// iterator it yields nothing more after an error.
#[derive(Debug)]
pub(crate) struct ColdReader {
    bytes: Bytes,
    pub(super) table: ColdTable,
    next_group: usize,
}

impl ColdReader {
    /// Opens the object `key`. Its dimension and metric must be those of `schema`; its fields may
    /// be others.
    pub(crate) fn open(bytes: Bytes, key: &str, schema: &Schema) -> Result<Self> {
        Self::over(bytes, key, Some(schema))
    }

    /// Opens an object of which only its bytes are known.
    pub(crate) fn open_alone(bytes: Bytes, key: &str) -> Result<Self> {
        Self::over(bytes, key, None)
    }

    fn over(bytes: Bytes, key: &str, schema: Option<&Schema>) -> Result<Self> {
        let table = ColdTable::open(&bytes, key, schema)?;
        Ok(Self { bytes, table, next_group: 0 })
    }
}

impl RowGroups for ColdReader {
    fn schema(&self) -> &Schema {
        &self.table.footer.schema
    }

    fn rows(&self) -> u64 {
        self.table.footer.rows
    }

    fn groups(&self) -> usize {
        self.table.footer.row_groups.len()
    }

    fn group(&self, index: usize) -> Result<Vec<Record>> {
        self.table.group(index, self.bytes.clone())
    }
}

impl Iterator for ColdReader {
    type Item = Result<Vec<Record>>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.next_group >= self.groups() {
            return None;
        }
        let batch = self.group(self.next_group);
        self.next_group = match batch {
            Ok(_) => self.next_group + 1,
            Err(_) => self.groups(),
        };
        Some(batch)
    }
}

/// Compares the file's table with the one that its schema calls for.
fn check_table(metadata: &ArrowReaderMetadata, schema: &Schema) -> Result<(), String> {
    let expected = columns::table(schema);
    let found = metadata.schema();
    let alike = |(a, b): (&arrow_schema::FieldRef, &arrow_schema::FieldRef)| {
        a.name() == b.name() && a.data_type() == b.data_type() && a.is_nullable() == b.is_nullable()
    };
    if expected.fields().len() == found.fields().len()
        && expected.fields().iter().zip(found.fields()).all(alike)
    {
        return Ok(());
    }
    Err("its columns are not those that its schema calls for".to_owned())
}

/// Checks row groups and column chunks against the key-values and the file.
fn check_groups(metadata: &ParquetMetaData, footer: &Footer, len: u64) -> Result<(), String> {
    let groups = metadata.row_groups();
    if groups.len() != footer.row_groups.len() || groups.len() > guard::ROW_GROUPS_MAX {
        return Err(format!("{} row groups, not {}", groups.len(), footer.row_groups.len()));
    }
    let mut rows = 0_u64;
    for (index, (group, stated)) in groups.iter().zip(&footer.row_groups).enumerate() {
        let fits = (1..=GROUP_ROWS_MAX as u64).contains(&stated.rows);
        if !fits || u64::try_from(group.num_rows()) != Ok(stated.rows) {
            return Err(format!("row group {index} states {} rows", group.num_rows()));
        }
        rows += stated.rows; // at most 100,000 groups of 8,192
        let mut decoded = 0_i64;
        for column in group.columns() {
            let (start, length) = column.byte_range();
            if start.checked_add(length).is_none_or(|end| end > len) {
                return Err(format!("row group {index} lies outside the file"));
            }
            decoded = decoded.saturating_add(column.uncompressed_size().max(0));
        }
        if decoded > GROUP_DECODED_BYTES_MAX {
            return Err(format!("row group {index} would decode to {decoded} bytes"));
        }
    }
    if rows != footer.rows {
        return Err(format!("its row groups hold {rows} rows, not {}", footer.rows));
    }
    Ok(())
}

/// The columns of one verified row group, ready to be turned into rows.
struct Rows<'a> {
    dim: usize,
    ids: &'a StringArray,
    id_kinds: &'a StringArray,
    vectors: &'a [f32],
    lsns: &'a [u64],
    fields: Vec<(&'a FieldColumn, &'a dyn Array)>,
    metadata: &'a StringArray,
}

impl<'a> Rows<'a> {
    /// `None` if the batch does not have the columns of the table, which `check_table` excludes,
    /// or its vectors are not all of the dimension.
    fn new(batch: &'a RecordBatch, fields: &'a [FieldColumn], dim: u32) -> Option<Self> {
        let dim = dim as usize;
        let columns = batch.columns();
        let lists = columns.get(2)?.as_list_opt::<i32>()?;
        let even = lists.value_offsets().windows(2).all(|pair| match pair {
            [start, end] => usize::try_from(end - start) == Ok(dim),
            _ => false,
        });
        let numbers = lists.values().as_primitive_opt::<types::Float32Type>()?;
        if !even || numbers.len() != batch.num_rows().checked_mul(dim)? {
            return None;
        }
        let typed = columns.get(columns::FIRST_FIELD..)?;
        Some(Self {
            dim,
            ids: columns.first()?.as_string_opt()?,
            id_kinds: columns.get(1)?.as_string_opt()?,
            vectors: numbers.values(),
            lsns: columns.get(3)?.as_primitive_opt::<types::UInt64Type>()?.values(),
            fields: fields.iter().zip(typed.iter().map(AsRef::as_ref)).collect(),
            metadata: columns.last()?.as_string_opt()?,
        })
    }

    /// A row; the error says what is wrong with it.
    fn record(&self, row: usize) -> Result<Record, &'static str> {
        let id = parse_id(self.id_kinds.value(row), self.ids.value(row)).ok_or("a bad id")?;
        let vector = self.vectors.chunks_exact(self.dim).nth(row).ok_or("no vector")?;
        let lsn = self.lsns.get(row).ok_or("no lsn")?;
        let mut metadata: Metadata =
            serde_json::from_str(self.metadata.value(row)).map_err(|_| "bad metadata")?;
        for (field, column) in &self.fields {
            // What the JSON kept is the original; the column may be only close to it.
            if column.is_valid(row) && !metadata.contains_key(&field.key) {
                let value = typed_value(*column, field.field_type, row).and_then(Typed::to_json);
                metadata.insert(field.key.clone(), value.ok_or("a bad field")?);
            }
        }
        Ok(Record { id, vector: vector.to_vec(), metadata, lsn: *lsn })
    }
}

fn parse_id(kind: &str, text: &str) -> Option<PointId> {
    let id = match kind {
        "u64" => PointId::U64(text.parse().ok()?),
        "uuid" => PointId::Uuid(text.parse().ok()?),
        "str" if (1..=ID_BYTES_MAX).contains(&text.len()) => PointId::from(text),
        _ => return None,
    };
    Some(id)
}

fn typed_value(column: &dyn Array, field_type: FieldType, row: usize) -> Option<Typed<'_>> {
    Some(match field_type {
        FieldType::Keyword => Typed::Keyword(column.as_string_opt::<i32>()?.value(row)),
        FieldType::Integer => {
            Typed::Integer(column.as_primitive_opt::<types::Int64Type>()?.value(row))
        }
        FieldType::Float => {
            Typed::Float(column.as_primitive_opt::<types::Float64Type>()?.value(row))
        }
        FieldType::Bool => Typed::Bool(column.as_boolean_opt()?.value(row)),
        FieldType::Timestamp => Typed::Timestamp(
            column.as_primitive_opt::<types::TimestampMicrosecondType>()?.value(row),
        ),
    })
}
