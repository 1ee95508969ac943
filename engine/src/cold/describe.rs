//! What `inspect` says of a cold object on local disk: its footer, read without a manifest.

#![deny(clippy::indexing_slicing)]

use super::footer::Footer;
use crate::error::Result;
use akidb_vfs::{Fs, read_file};
use bytes::Bytes;
use serde_json::{Value, json};
use std::path::Path;

/// The facts in the footer of a cold object.
///
/// # Errors
/// Corruption if it is not a whole Parquet file or not an object of ours; a failed read.
pub(crate) fn describe(fs: &dyn Fs, path: &Path) -> Result<Value> {
    let bytes = Bytes::from(read_file(fs, path)?);
    let (metadata, footer) = Footer::read(&bytes, &path.to_string_lossy())?;
    let file = metadata.metadata().file_metadata();
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
