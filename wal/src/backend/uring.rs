//! The backend on io_uring itself: a write and the sync after it go to the kernel linked, in one
//! call, and nobody is woken in between.
//!
//! Owns the retry rules over `ring`: a short write breaks the link, so what is left is written and
//! the sync asked for again. Must never count a sync that began before the last byte was written.

use super::{LogIo, ring::Ring};
use akidb_vfs::{FsError, FsFile, FsOp};
use parking_lot::Mutex;
use std::{
    io::{self, ErrorKind, IoSlice},
    os::fd::BorrowedFd,
};

/// The most slices of one write: Linux's `IOV_MAX`.
const SLICES_MAX: usize = 1024;

/// Writes and syncs through one ring.
#[derive(Debug)]
pub(super) struct UringIo {
    /// The log's thread uses it alone, but for the moment of opening.
    ring: Mutex<Ring>,
}

impl UringIo {
    /// # Errors
    /// What the kernel says where it gives no ring.
    pub(super) fn start() -> io::Result<Self> {
        Ok(Self { ring: Mutex::new(Ring::new()?) })
    }
}

impl LogIo for UringIo {
    fn write_group(
        &self,
        file: &dyn FsFile,
        slices: &mut [IoSlice<'_>],
        offset: u64,
    ) -> Result<(), FsError> {
        write_all(&mut self.ring.lock(), file, slices, offset, false).map(|_| ())
    }

    fn sync(&self, file: &dyn FsFile) -> Result<(), FsError> {
        sync(&mut self.ring.lock(), file)
    }

    fn write_and_sync(
        &self,
        file: &dyn FsFile,
        slices: &mut [IoSlice<'_>],
        offset: u64,
    ) -> Result<(), FsError> {
        let mut ring = self.ring.lock();
        if write_all(&mut ring, file, slices, offset, true)? {
            return Ok(());
        }
        sync(&mut ring, file)
    }
}

/// Writes all slices, the last of them with a linked sync if `link`; true if that sync covers
/// them.
fn write_all(
    ring: &mut Ring,
    file: &dyn FsFile,
    mut slices: &mut [IoSlice<'_>],
    mut offset: u64,
    link: bool,
) -> Result<bool, FsError> {
    let fd = os_file(file, FsOp::Write)?;
    let mut synced = false;
    // Drops leading empty slices, so that a write of nothing always means no progress.
    IoSlice::advance_slices(&mut slices, 0);
    while !slices.is_empty() {
        let failed = |source| FsError::new(FsOp::Write, file.path(), source).at(offset);
        let (part, rest) = slices.split_at(slices.len().min(SLICES_MAX));
        let written = if link && rest.is_empty() {
            let linked = ring.write_then_sync(fd, part, offset).map_err(failed)?;
            // A failed sync counts even beside a write that is tried again: the next one would
            // say nothing about the bytes that this one lost.
            synced = linked
                .synced
                .map_err(|source| FsError::new(FsOp::SyncData, file.path(), source))?;
            linked.written
        } else {
            ring.write(fd, part, offset)
        };
        match written {
            Ok(0) => {
                return Err(failed(io::Error::new(ErrorKind::WriteZero, "the file took no bytes")));
            }
            Ok(count) => {
                IoSlice::advance_slices(&mut slices, count);
                offset += count as u64;
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(failed(error)),
        }
        synced &= slices.is_empty();
    }
    Ok(synced)
}

fn sync(ring: &mut Ring, file: &dyn FsFile) -> Result<(), FsError> {
    let fd = os_file(file, FsOp::SyncData)?;
    ring.sync(fd).map_err(|source| FsError::new(FsOp::SyncData, file.path(), source))
}

/// The file as the kernel knows it.
pub(super) fn os_file(file: &dyn FsFile, op: FsOp) -> Result<BorrowedFd<'_>, FsError> {
    file.os_file().ok_or_else(|| {
        let why = "its file system is not the system's own, and only std can write to it";
        FsError::new(op, file.path(), io::Error::new(ErrorKind::Unsupported, why))
    })
}
