//! What the log needs from the outside: a file system, salts, and the way a group reaches the
//! disk. The last sits behind [`LogIo`], so that another way of writing and syncing slots in
//! without a change to the formats or to recovery.
//!
//! | module | owns |
//! |---|---|
//! | `standard` | positional writes and `fdatasync`: works everywhere, the default |
//! | `uring`, `ring` | a write linked with its sync, in one call (Linux, feature `uring`) |
//! | `tokio_uring` | the same kernel interface through tokio-uring (feature `tokio-uring`) |
//! | `probe` | trying a backend in the directory it is to work in; falling back |
//!
//! A backend is chosen once, by [`Backend::choose`], before the log is opened. It never changes in
//! mid-file: a failure after that poisons the log like any other failure of the disk.

mod probe;
#[cfg(all(target_os = "linux", feature = "uring"))]
mod ring;
mod standard;
#[cfg(all(target_os = "linux", feature = "tokio-uring"))]
mod tokio_uring;
#[cfg(all(target_os = "linux", feature = "uring"))]
mod uring;

pub use probe::{Backend, BackendChoice, BackendError, Chosen};
pub use standard::StdIo;

use akidb_vfs::{Fs, FsError, FsFile, Random};
use std::{fmt::Debug, io::IoSlice, sync::Arc};

/// Writes and syncs one group. Every call returns only when the work is done, and a failure
/// poisons the file's writer: a backend never retries a failed sync.
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
