//! What the fuzzer needs to make a changed cold object pass its checksums again, so that what lies
//! behind them is reached: the sums that the object should have stated. Only with feature
//! `testing`; must never be part of a read.

#![deny(clippy::indexing_slicing)]

use super::{GROUP_ROWS_MAX, checksum, footer::Footer, guard};
use crate::{Result, Schema};
use bytes::Bytes;
use parquet::{
    arrow::{
        ArrowWriter,
        arrow_reader::{ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReaderBuilder},
        arrow_writer::ArrowWriterOptions,
    },
    basic::Compression,
    errors::ParquetError,
    file::properties::WriterProperties,
};

/// The schema that an object states.
///
/// # Errors
/// Those of opening it.
pub(crate) fn stated_schema(bytes: &Bytes, name: &str) -> Result<Schema> {
    Footer::read(bytes, name).map(|(_, footer)| footer.schema)
}

/// The same table and key-values in a file without compression.
pub(crate) fn uncompressed(bytes: &Bytes) -> Result<Vec<u8>, String> {
    guard::contain(|| {
        let reader = ParquetRecordBatchReaderBuilder::try_new(bytes.clone())?;
        let pairs = reader.metadata().file_metadata().key_value_metadata().cloned();
        let properties = WriterProperties::builder()
            .set_compression(Compression::UNCOMPRESSED)
            .set_key_value_metadata(pairs);
        let options = ArrowWriterOptions::new()
            .with_properties(properties.build())
            .with_skip_arrow_metadata(true);
        let schema = reader.schema().clone();
        let mut writer = ArrowWriter::try_new_with_options(Vec::new(), schema, options)?;
        for batch in reader.with_batch_size(GROUP_ROWS_MAX).build()? {
            writer.write(&batch?)?;
        }
        writer.into_inner()
    })
}

/// The checksum of each row group's values, up to the first group that does not decode.
pub(crate) fn group_checksums(bytes: &Bytes) -> Vec<u32> {
    let tail = bytes.get(bytes.len().saturating_sub(guard::TAIL_BYTES)..).unwrap_or_default();
    if guard::check_tail(tail, bytes.len() as u64).is_err() {
        return Vec::new();
    }
    let options = ArrowReaderOptions::new().with_skip_arrow_metadata(true);
    let Ok(metadata) = guard::contain(|| ArrowReaderMetadata::load(bytes, options)) else {
        return Vec::new();
    };
    let groups = 0..metadata.metadata().num_row_groups().min(guard::ROW_GROUPS_MAX);
    groups.map_while(|index| group_checksum(bytes, &metadata, index)).collect()
}

fn group_checksum(bytes: &Bytes, metadata: &ArrowReaderMetadata, index: usize) -> Option<u32> {
    let rows = usize::try_from(metadata.metadata().row_groups().get(index)?.num_rows()).ok()?;
    let len = bytes.len() as u64;
    let within = metadata.metadata().row_groups().get(index)?.columns().iter().all(|column| {
        guard::contain(|| Ok::<_, ParquetError>(column.byte_range()))
            .is_ok_and(|(start, length)| start.checked_add(length).is_some_and(|end| end <= len))
    });
    if !within {
        return None;
    }
    let batch = guard::contain(|| {
        let reader =
            ParquetRecordBatchReaderBuilder::new_with_metadata(bytes.clone(), metadata.clone())
                .with_row_groups(vec![index])
                .with_batch_size(rows.min(GROUP_ROWS_MAX));
        reader.build()?.next().transpose().map_err(ParquetError::from)
    });
    checksum::row_group(&batch.ok()??)
}
