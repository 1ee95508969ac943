//! Handles on the simulated disk: open files and held locks.
//!
//! A handle belongs to the boot in which it was opened; after a crash every call on it fails with
//! [`super::PowerLost`], as those of a dead process would.

use super::{
    PowerMoment,
    disk::{Disk, NodeId},
    state::{Call, State, Twist, eio},
};
use crate::{FsError, FsFile, FsLock, FsOp};
use parking_lot::Mutex;
use std::{
    io::{self, ErrorKind, IoSlice},
    path::{Path, PathBuf},
    sync::Arc,
};

/// The largest simulated file. A wild offset must be an error, not an allocation.
const FILE_MAX: usize = 1 << 32;

/// An open simulated file.
pub(super) struct SimFile {
    pub(super) state: Arc<Mutex<State>>,
    pub(super) boot: u64,
    pub(super) node: NodeId,
    pub(super) path: Arc<Path>,
    pub(super) writable: bool,
}

impl SimFile {
    fn call(&self, op: FsOp, offset: Option<u64>, len: u64) -> Call<'_> {
        Call { op, path: &self.path, offset, len, boot: Some(self.boot) }
    }

    fn sync(&self, op: FsOp) -> Result<(), FsError> {
        self.state.lock().perform(&self.call(op, None, 0), |state, twist| {
            let file = state.disk.file_mut(self.node)?;
            match twist {
                Twist::SyncKeepsCache => file.fail_sync_keeping_cache(),
                Twist::SyncDropsCache => file.fail_sync_dropping_cache(),
                Twist::None | Twist::Short | Twist::FlipBit => {
                    file.sync();
                    return Ok(());
                }
            }
            Err(eio())
        })
    }
}

impl std::fmt::Debug for SimFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SimFile")
            .field("path", &self.path)
            .field("boot", &self.boot)
            .finish_non_exhaustive()
    }
}

impl Drop for SimFile {
    fn drop(&mut self) {
        let mut state = self.state.lock();
        if state.boot == self.boot
            && let Ok(file) = state.disk.file_mut(self.node)
        {
            file.handles -= 1;
        }
    }
}

impl FsFile for SimFile {
    fn path(&self) -> &Path {
        &self.path
    }

    fn len(&self) -> Result<u64, FsError> {
        self.state.lock().perform(&self.call(FsOp::Metadata, None, 0), |state, _| {
            Ok(state.disk.file(self.node)?.len() as u64)
        })
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> Result<usize, FsError> {
        let mut state = self.state.lock();
        let start = usize::try_from(offset).unwrap_or(usize::MAX);
        let rest = state.disk.file(self.node).map_or(0, |file| file.len().saturating_sub(start));
        let len = rest.min(buf.len());
        state.perform(&self.call(FsOp::Read, Some(offset), len as u64), |state, twist| {
            let read = state.disk.file(self.node)?.read(buf, start);
            if twist == Twist::FlipBit {
                flip_bit(&mut buf[..read], &mut state.rng);
            }
            Ok(read)
        })
    }

    fn write_vectored_at(&self, bufs: &[IoSlice<'_>], offset: u64) -> Result<usize, FsError> {
        let len: usize = bufs.iter().map(|buf| buf.len()).sum();
        let call = self.call(FsOp::Write, Some(offset), len as u64);
        self.state.lock().perform(&call, |state, twist| {
            if !self.writable {
                return Err(ErrorKind::PermissionDenied.into());
            }
            let start = checked_end(offset, 0)?;
            let end = checked_end(offset, len)?;
            let mut count = len;
            if twist == Twist::Short {
                count = state.rng.usize(0..len.max(1)).max(usize::from(len > 1));
            }
            let have = state.disk.file(self.node)?.len();
            count = count.min(state.room(have, end).saturating_sub(start));
            if count == 0 && len > 0 && twist == Twist::None {
                return Err(ErrorKind::StorageFull.into());
            }
            if let Some(part) = state.record_middle(count) {
                let mut disk = state.disk.clone();
                write_slices(&mut disk, self.node, bufs, start, part, |_| {})?;
                state.keep(disk, &call, PowerMoment::Middle);
            }
            let State { disk, trace, .. } = state;
            write_slices(disk, self.node, bufs, start, count, |part| trace.hash_bytes(part))?;
            Ok(count)
        })
    }

    fn sync_data(&self) -> Result<(), FsError> {
        self.sync(FsOp::SyncData)
    }

    fn sync_all(&self) -> Result<(), FsError> {
        self.sync(FsOp::SyncAll)
    }

    fn allocate(&self, len: u64) -> Result<(), FsError> {
        self.state.lock().perform(&self.call(FsOp::Allocate, None, len), |state, _| {
            if !self.writable {
                return Err(ErrorKind::PermissionDenied.into());
            }
            let end = checked_end(len, 0)?;
            let have = state.disk.file(self.node)?.len();
            if state.room(have, end) < end {
                return Err(ErrorKind::StorageFull.into());
            }
            state.disk.file_mut(self.node)?.extend(end);
            Ok(())
        })
    }
}

fn checked_end(offset: u64, len: usize) -> io::Result<usize> {
    let end = usize::try_from(offset).ok().and_then(|start| start.checked_add(len));
    end.filter(|&end| end <= FILE_MAX).ok_or_else(|| ErrorKind::FileTooLarge.into())
}

/// Writes the first `count` bytes of the slices; `told` of every part.
fn write_slices(
    disk: &mut Disk,
    node: NodeId,
    bufs: &[IoSlice<'_>],
    start: usize,
    count: usize,
    mut told: impl FnMut(&[u8]),
) -> io::Result<()> {
    let mut done = 0;
    for buf in bufs {
        let part = &buf[..buf.len().min(count - done)];
        told(part);
        disk.file_mut(node)?.write(part, start + done);
        done += part.len();
    }
    Ok(())
}

/// Flips one bit of `bytes`, if there are any.
pub(super) fn flip_bit(bytes: &mut [u8], rng: &mut fastrand::Rng) {
    if !bytes.is_empty() {
        let at = rng.usize(..bytes.len());
        bytes[at] ^= 1 << rng.u8(0..8);
    }
}

/// A held lock on the simulated disk.
pub(super) struct SimLock {
    pub(super) state: Arc<Mutex<State>>,
    pub(super) boot: u64,
    pub(super) node: NodeId,
    pub(super) path: Arc<Path>,
}

impl FsLock for SimLock {
    fn path(&self) -> PathBuf {
        self.path.to_path_buf()
    }
}

impl std::fmt::Debug for SimLock {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SimLock").field("path", &self.path).finish_non_exhaustive()
    }
}

impl Drop for SimLock {
    fn drop(&mut self) {
        let mut state = self.state.lock();
        if state.boot == self.boot {
            state.locks.remove(&self.node);
        }
    }
}
