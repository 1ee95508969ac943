//! A cold object of which only some bytes are at hand: its footer, and then one row group after the
//! other, each from its own bytes.
//!
//! Owns where row groups lie, and the view of a few pieces as a file. Never fetches anything: what is
//! not there is damage to the decoder. Called by `maintenance::reading`.

#![deny(clippy::indexing_slicing)]

use super::{decode::ColdTable, guard};
use crate::{
    Record, Schema,
    error::{Error, Result},
};
use bytes::{Buf, Bytes};
use parquet::{
    errors::ParquetError,
    file::{
        metadata::{ColumnChunkMetaData, RowGroupMetaData},
        reader::{ChunkReader, Length},
    },
};
use std::{
    io::{self, Read},
    ops::Range,
    sync::Arc,
};

/// Some bytes of an object, which the Parquet reader takes for the whole.
#[derive(Clone, Debug)]
pub(crate) struct Window {
    /// Of the object.
    len: u64,
    pieces: Arc<[(u64, Bytes)]>,
}

impl Window {
    /// Of an object of `len` bytes these pieces, each with its offset, in their order.
    pub(crate) fn new(len: u64, pieces: Vec<(u64, Bytes)>) -> Self {
        Self { len, pieces: pieces.into() }
    }

    /// What is there without a break from `at` on; empty if nothing is.
    fn from(&self, at: u64) -> Bytes {
        let found = self.pieces.iter().find_map(|(start, bytes)| {
            let skipped = usize::try_from(at.checked_sub(*start)?).ok()?;
            (skipped < bytes.len()).then(|| bytes.slice(skipped..))
        });
        found.unwrap_or_default()
    }
}

impl Length for Window {
    fn len(&self) -> u64 {
        self.len
    }
}

impl ChunkReader for Window {
    type T = WindowReader;

    fn get_read(&self, start: u64) -> Result<WindowReader, ParquetError> {
        Ok(WindowReader { window: self.clone(), at: start, rest: Bytes::new() })
    }

    fn get_bytes(&self, start: u64, length: usize) -> Result<Bytes, ParquetError> {
        let first = self.from(start);
        if first.len() >= length {
            return Ok(first.slice(..length));
        }
        // Across a seam. No more is allocated than is there.
        let mut joined = first.to_vec();
        while joined.len() < length {
            let next = self.from(start.saturating_add(joined.len() as u64));
            if next.is_empty() {
                let detail = format!("{} of {length} bytes at {start}", joined.len());
                return Err(ParquetError::EOF(detail));
            }
            let wanted = next.len().min(length - joined.len());
            joined.extend_from_slice(next.get(..wanted).unwrap_or_default());
        }
        Ok(joined.into())
    }
}

/// Reads on from a place of a window.
#[derive(Debug)]
pub(crate) struct WindowReader {
    window: Window,
    /// Where the bytes after `rest` begin.
    at: u64,
    rest: Bytes,
}

impl Read for WindowReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.rest.is_empty() {
            self.rest = self.window.from(self.at);
            self.at = self.at.saturating_add(self.rest.len() as u64);
        }
        let count = self.rest.len().min(buffer.len());
        if let Some(part) = buffer.get_mut(..count) {
            self.rest.copy_to_slice(part);
        }
        Ok(count)
    }
}

/// How long the footer of an object of `len` bytes is that ends like this: at least the last eight bytes.
pub(crate) fn footer_bytes(end: &[u8], len: u64) -> Result<u64, String> {
    let tail = end.last_chunk::<{ guard::TAIL_BYTES }>();
    guard::check_tail(tail.map_or(&[], |tail| tail.as_slice()), len)
}

/// The row groups of an object whose bytes come by and by.
#[derive(Debug)]
pub(crate) struct ColdRanges {
    table: ColdTable,
    extents: Vec<Range<u64>>,
}

impl ColdRanges {
    /// Opens the object `key` by its footer. Its row groups must lie one after the other, or those that
    /// were read could not be let go of.
    pub(crate) fn open(end: &Window, key: &str, schema: Option<&Schema>) -> Result<Self> {
        let table = ColdTable::open(end, key, schema)?;
        // `open` has seen each range and that it lies in the file.
        let extent = |group: &RowGroupMetaData| {
            let columns = group.columns().iter().map(ColumnChunkMetaData::byte_range);
            let (mut begins, mut ends) = (u64::MAX, 0);
            for (start, length) in columns {
                begins = begins.min(start);
                ends = ends.max(start.saturating_add(length));
            }
            begins..ends
        };
        let groups = table.metadata.metadata().row_groups();
        let extents: Vec<Range<u64>> = groups.iter().map(extent).collect();
        let mut before = 0;
        for extent in &extents {
            if extent.start < before || extent.end < extent.start {
                let detail = "its row groups do not lie one after the other";
                return Err(Error::corruption(key, extent.start, detail));
            }
            before = extent.end;
        }
        Ok(Self { table, extents })
    }

    /// The schema that the rows were encoded under.
    pub(crate) fn schema(&self) -> &Schema {
        &self.table.footer.schema
    }

    /// How many rows it says it has.
    pub(crate) fn rows(&self) -> u64 {
        self.table.footer.rows
    }

    /// Where each row group lies.
    pub(crate) fn extents(&self) -> &[Range<u64>] {
        &self.extents
    }

    /// The rows of a row group, from its bytes.
    pub(crate) fn group(&self, index: usize, window: Window) -> Result<Vec<Record>> {
        self.table.group(index, window)
    }
}
