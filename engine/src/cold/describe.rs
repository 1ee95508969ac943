//! What `inspect` says of a cold object on local disk: its footer, read without a manifest.

#![deny(clippy::indexing_slicing)]

use super::{footer::Footer, guard};
use crate::error::{Error, Result};
use akidb_vfs::{Fs, read_file};
use bytes::Bytes;
use parquet::arrow::arrow_reader::{ArrowReaderMetadata, ArrowReaderOptions};
use serde_json::{Value, json};
use std::path::Path;

/// The facts in the footer of a cold object.
///
/// # Errors
/// Corruption if it is not a whole Parquet file or not an object of ours; a failed read.
pub(crate) fn describe(fs: &dyn Fs, path: &Path) -> Result<Value> {
    let bytes = Bytes::from(read_file(fs, path)?);
    let damaged = |detail: String| Error::corruption(path, 0, detail);
    let tail = bytes.len().saturating_sub(guard::TAIL_BYTES);
    guard::check_tail(bytes.get(tail..).unwrap_or_default(), bytes.len() as u64)
        .map_err(damaged)?;
    let options = ArrowReaderOptions::new().with_skip_arrow_metadata(true);
    let metadata =
        guard::contain(|| ArrowReaderMetadata::load(&bytes, options)).map_err(damaged)?;
    let file = metadata.metadata().file_metadata();
    let pairs = file.key_value_metadata().map_or(&[][..], Vec::as_slice);
    let footer = Footer::from_key_values(&path.to_string_lossy(), pairs)?;
    Ok(json!({
        "database": footer.database,
        "collection": footer.collection,
        "schema": footer.schema,
        "rows": footer.rows,
        "lsn_min": footer.lsn_min,
        "lsn_max": footer.lsn_max,
        "row_groups": footer.row_groups.len(),
        "created_by": file.created_by(),
        "columns": metadata.schema().fields().iter().map(|f| f.name().as_str()).collect::<Vec<_>>(),
    }))
}
