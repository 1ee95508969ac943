//! The backend that works everywhere, through the file system's own calls.

use super::LogIo;
use akidb_vfs::{FsError, FsFile};
use std::io::IoSlice;

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
