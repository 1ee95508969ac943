//! What the log needs from the outside: a file system, salts, and the way a group reaches the
//! disk. The last sits behind [`LogIo`] so that another way of writing and syncing slots in
//! without a change to the formats or to recovery; a backend never changes in mid-file.

use akidb_vfs::{Fs, FsError, FsFile, Random};
use std::{fmt::Debug, io::IoSlice, sync::Arc};

/// Writes and syncs one group. Both calls return only when the work is done, and a failure of
/// either poisons the file's writer: a backend never retries a failed sync.
pub trait LogIo: Send + Sync + Debug {
    /// Writes all slices, in order, at `offset`. A short write goes on at the right offset, an
    /// interrupted call is retried.
    ///
    /// # Errors
    /// The failed call. Any part of the slices may have been written.
    fn write_group(
        &self,
        file: &dyn FsFile,
        slices: &mut [IoSlice<'_>],
        offset: u64,
    ) -> Result<(), FsError>;

    /// Makes everything written so far durable.
    ///
    /// # Errors
    /// The failed call. Nothing unsynced in the file may be trusted afterwards.
    fn sync(&self, file: &dyn FsFile) -> Result<(), FsError>;

    /// Writes all slices, in order, at `offset`, and makes everything written so far durable: the
    /// two calls above, for a backend that can hand both to the system at once.
    ///
    /// # Errors
    /// The failed call, its `op` saying which of the two it was. Any part of the slices may have
    /// been written, and nothing unsynced in the file may be trusted afterwards.
    fn write_and_sync(
        &self,
        file: &dyn FsFile,
        slices: &mut [IoSlice<'_>],
        offset: u64,
    ) -> Result<(), FsError> {
        self.write_group(file, slices, offset)?;
        self.sync(file)
    }
}

/// Standard calls: positional vectored write, then `fdatasync`.
#[derive(Clone, Copy, Debug, Default)]
pub struct StdIo;

impl LogIo for StdIo {
    fn write_group(
        &self,
        file: &dyn FsFile,
        slices: &mut [IoSlice<'_>],
        offset: u64,
    ) -> Result<(), FsError> {
        file.write_all_vectored_at(slices, offset)
    }

    fn sync(&self, file: &dyn FsFile) -> Result<(), FsError> {
        file.sync_data()
    }
}

/// The components that framed files are made with.
#[derive(Clone, Debug)]
pub struct Env {
    /// All file work.
    pub fs: Arc<dyn Fs>,
    /// Salts.
    pub random: Arc<dyn Random>,
    /// How groups are written and synced.
    pub io: Arc<dyn LogIo>,
}

impl Env {
    /// These components with standard calls for the writes.
    pub fn new(fs: Arc<dyn Fs>, random: Arc<dyn Random>) -> Self {
        Self { fs, random, io: Arc::new(StdIo) }
    }
}
