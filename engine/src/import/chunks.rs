//! A file behind `akidb_vfs` as the Parquet reader wants it, so that only the pages in use are in
//! memory. Never loads the whole file; every range is checked against the length first.

#![deny(clippy::indexing_slicing)]

use akidb_vfs::{FsError, FsFile};
use bytes::Bytes;
use parking_lot::Mutex;
use parquet::{
    errors::ParquetError,
    file::reader::{ChunkReader, Length},
};
use std::{
    io::{self, BufReader, Read},
    sync::Arc,
};

/// The Parquet reader's view of an open file.
#[derive(Clone, Debug)]
pub(super) struct FileChunks {
    file: Arc<dyn FsFile>,
    len: u64,
    /// The last failed read: the Parquet reader hands errors on as mere text.
    failure: Arc<Mutex<Option<FsError>>>,
}

impl FileChunks {
    pub(super) fn new(file: Arc<dyn FsFile>) -> Result<Self, FsError> {
        let len = file.len()?;
        Ok(Self { file, len, failure: Arc::default() })
    }

    /// The last `count` bytes, or fewer in a shorter file.
    pub(super) fn tail(&self, count: usize) -> Result<Vec<u8>, FsError> {
        let start = self.len.saturating_sub(count as u64);
        let mut tail = vec![0; (self.len - start) as usize]; // at most `count`
        self.file.read_exact_at(&mut tail, start)?;
        Ok(tail)
    }

    /// The failed file call behind an error of the Parquet reader, if there is one.
    pub(super) fn take_failure(&self) -> Option<FsError> {
        self.failure.lock().take()
    }

    fn note(&self, error: FsError) -> io::Error {
        let text = io::Error::new(error.kind(), error.to_string());
        *self.failure.lock() = Some(error);
        text
    }
}

impl Length for FileChunks {
    fn len(&self) -> u64 {
        self.len
    }
}

impl ChunkReader for FileChunks {
    type T = BufReader<Cursor>;

    fn get_read(&self, start: u64) -> Result<Self::T, ParquetError> {
        Ok(BufReader::new(Cursor { chunks: self.clone(), offset: start }))
    }

    fn get_bytes(&self, start: u64, length: usize) -> Result<Bytes, ParquetError> {
        if start.checked_add(length as u64).is_none_or(|end| end > self.len) {
            let range = format!("{length} bytes at offset {start} of {}", self.len);
            return Err(ParquetError::EOF(range));
        }
        let mut bytes = vec![0; length];
        self.file.read_exact_at(&mut bytes, start).map_err(|error| self.note(error))?;
        Ok(bytes.into())
    }
}

/// Reads on from an offset.
#[derive(Debug)]
pub(super) struct Cursor {
    chunks: FileChunks,
    offset: u64,
}

impl Read for Cursor {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let read = self.chunks.file.read_at(buf, self.offset);
        let read = read.map_err(|error| self.chunks.note(error))?;
        self.offset = self.offset.saturating_add(read as u64);
        Ok(read)
    }
}
