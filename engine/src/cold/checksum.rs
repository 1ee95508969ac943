//! A checksum of a row group's values, as they are after decoding.
//!
//! The Parquet writer puts no checksum on its pages, and page checksums would not cover the footer
//! anyway. This one covers everything on the way from bytes to values: a flip in a page, a level,
//! an offset or a statistic that changes any value shows, whatever the reader made of it. It is
//! specified in `docs/format/cold.md` ("Row group checksum").

#![deny(clippy::indexing_slicing)]

use arrow_array::{Array, RecordBatch, cast::AsArray, types};
use arrow_schema::{DataType, TimeUnit};

/// Bytes of numbers are hashed in pieces of this size.
const PIECE_BYTES: usize = 4096;

/// CRC-32 over all columns in order. `None` if a column is of a type that no cold object has.
pub(super) fn row_group(batch: &RecordBatch) -> Option<u32> {
    let mut hasher = crc32fast::Hasher::new();
    for column in batch.columns() {
        hash_column(&mut hasher, column.as_ref())?;
    }
    Some(hasher.finalize())
}

fn hash_column(hasher: &mut crc32fast::Hasher, column: &dyn Array) -> Option<()> {
    hash_nulls(hasher, column);
    match column.data_type() {
        DataType::Utf8 => {
            for text in column.as_string::<i32>().iter().flatten() {
                hasher.update(&(text.len() as u64).to_le_bytes());
                hasher.update(text.as_bytes());
            }
        }
        DataType::Boolean => {
            let bytes = column.as_boolean().iter().flatten().map(u8::from);
            hash_numbers(hasher, bytes.map(|byte| [byte]));
        }
        DataType::Int64 => {
            let values = column.as_primitive::<types::Int64Type>().iter().flatten();
            hash_numbers(hasher, values.map(i64::to_le_bytes));
        }
        DataType::UInt64 => {
            let values = column.as_primitive::<types::UInt64Type>().iter().flatten();
            hash_numbers(hasher, values.map(u64::to_le_bytes));
        }
        DataType::Float64 => {
            let values = column.as_primitive::<types::Float64Type>().iter().flatten();
            hash_numbers(hasher, values.map(f64::to_le_bytes));
        }
        DataType::Timestamp(TimeUnit::Microsecond, _) => {
            let values = column.as_primitive::<types::TimestampMicrosecondType>();
            hash_numbers(hasher, values.iter().flatten().map(i64::to_le_bytes));
        }
        DataType::List(_) => {
            let lists = column.as_list::<i32>();
            hash_numbers(hasher, lists.value_offsets().iter().map(|offset| offset.to_le_bytes()));
            let items = lists.values().as_primitive_opt::<types::Float32Type>()?;
            // Most of an object: as they lie in memory, which is little-endian on all that we run on.
            hasher.update(bytemuck::cast_slice::<f32, u8>(items.values()));
        }
        _ => return None,
    }
    Some(())
}

/// One byte a row, 1 for a value and 0 for none, so that a moved null shows.
fn hash_nulls(hasher: &mut crc32fast::Hasher, column: &dyn Array) {
    hash_numbers(hasher, (0..column.len()).map(|row| [u8::from(column.is_valid(row))]));
}

/// Hashes fixed-width values through a buffer: one call a value would cost more than the CRC.
fn hash_numbers<const WIDTH: usize>(
    hasher: &mut crc32fast::Hasher,
    values: impl Iterator<Item = [u8; WIDTH]>,
) {
    let mut piece = [0_u8; PIECE_BYTES];
    let mut values = values.peekable();
    while values.peek().is_some() {
        let mut filled = 0;
        for (slot, value) in piece.chunks_exact_mut(WIDTH).zip(&mut values) {
            slot.copy_from_slice(&value);
            filled += WIDTH;
        }
        hasher.update(piece.get(..filled).unwrap_or_default());
    }
}
