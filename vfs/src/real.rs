//! The machine's file system.
//!
//! Owns the mapping of [`Fs`] onto system calls, and the in-process registry of held locks. Must
//! never retry a failed sync (after the first failure the kernel may have dropped the pages), nor
//! hide a short write (the callers' loop handles it). Called by everyone, through `dyn Fs`.
//!
//! Unix only: positional writes, directory syncs and the identity of a lock file (device and
//! inode) have no portable form.

#![expect(clippy::disallowed_methods, reason = "this is the module that wraps the file system")]

use crate::{
    DirEntry, EntryKind, FileMeta, Fs, FsError, FsFile, FsLock, FsOp, LockHeld, Mapping, OpenMode,
    helpers,
};
use parking_lot::Mutex;
use std::{
    collections::BTreeSet,
    fs::{self, File, FileType, OpenOptions, TryLockError},
    io::{self, ErrorKind, IoSlice},
    os::{
        fd::{AsFd, BorrowedFd},
        unix::fs::{FileExt, MetadataExt},
    },
    path::{Path, PathBuf},
    sync::Arc,
};

/// Lock files held by this process, by device and inode. Advisory locks of some systems (NFS,
/// anything emulated over `fcntl`) belong to the process, so a second open inside it would succeed.
static HELD: Mutex<BTreeSet<(u64, u64)>> = Mutex::new(BTreeSet::new());

/// How much of a lock file is read to name the holder.
const HOLDER_MAX: usize = 256;

/// How much is written at a time where blocks are reserved by writing zeros.
const ZERO_CHUNK: usize = 1 << 20;

/// The machine's file system.
///
/// ```
/// use akidb_vfs::{Fs, RealFs};
///
/// # let dir = tempfile::tempdir().unwrap();
/// # let dir = dir.path();
/// let file = RealFs.create_new(&dir.join("log"))?;
/// file.write_all_at(b"hello", 0)?;
/// file.sync_data()?; // the bytes survive power loss
/// RealFs.sync_dir(dir)?; // and so does the name
/// assert_eq!(file.len()?, 5);
/// # Ok::<(), akidb_vfs::FsError>(())
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct RealFs;

impl Fs for RealFs {
    fn create_new(&self, path: &Path) -> Result<Arc<dyn FsFile>, FsError> {
        let opened = OpenOptions::new().read(true).write(true).create_new(true).open(path);
        let file = opened.map_err(|source| FsError::new(FsOp::Create, path, source))?;
        Ok(Arc::new(RealFile { file, path: path.to_path_buf() }))
    }

    fn open(&self, path: &Path, mode: OpenMode) -> Result<Arc<dyn FsFile>, FsError> {
        let file = OpenOptions::new()
            .read(true)
            .write(mode == OpenMode::ReadWrite)
            .open(path)
            .and_then(regular_file)
            .map_err(|source| FsError::new(FsOp::Open, path, source))?;
        Ok(Arc::new(RealFile { file, path: path.to_path_buf() }))
    }

    fn rename(&self, from: &Path, to: &Path) -> Result<(), FsError> {
        fs::rename(from, to).map_err(|source| FsError::new(FsOp::Rename, from, source))
    }

    fn remove_file(&self, path: &Path) -> Result<(), FsError> {
        fs::remove_file(path).map_err(|source| FsError::new(FsOp::RemoveFile, path, source))
    }

    fn remove_dir(&self, path: &Path) -> Result<(), FsError> {
        fs::remove_dir(path).map_err(|source| FsError::new(FsOp::RemoveDir, path, source))
    }

    fn create_dir_all(&self, path: &Path) -> Result<(), FsError> {
        helpers::create_dir_all(self, path, |dir| {
            fs::create_dir(dir).map_err(|source| FsError::new(FsOp::CreateDir, dir, source))
        })
    }

    fn sync_dir(&self, path: &Path) -> Result<(), FsError> {
        File::open(path)
            .and_then(|dir| {
                if !dir.metadata()?.is_dir() {
                    return Err(ErrorKind::NotADirectory.into());
                }
                dir.sync_all()
            })
            .map_err(|source| FsError::new(FsOp::SyncDir, path, source))
    }

    fn list_dir(&self, path: &Path) -> Result<Vec<DirEntry>, FsError> {
        let list = || {
            let mut entries = Vec::new();
            for entry in fs::read_dir(path)? {
                let entry = entry?;
                entries
                    .push(DirEntry { name: entry.file_name(), kind: kind_of(entry.file_type()?) });
            }
            entries.sort_unstable_by(|a, b| a.name.cmp(&b.name));
            Ok(entries)
        };
        list().map_err(|source| FsError::new(FsOp::ListDir, path, source))
    }

    fn metadata(&self, path: &Path) -> Result<FileMeta, FsError> {
        let meta =
            fs::metadata(path).map_err(|source| FsError::new(FsOp::Metadata, path, source))?;
        let kind = kind_of(meta.file_type());
        Ok(FileMeta { len: if kind == EntryKind::Dir { 0 } else { meta.len() }, kind })
    }

    fn try_lock(&self, path: &Path, holder: &str) -> Result<Box<dyn FsLock>, FsError> {
        match take_lock(path, holder) {
            Ok(lock) => Ok(Box::new(lock)),
            Err(source) => Err(FsError::new(FsOp::Lock, path, source)),
        }
    }

    fn map(&self, path: &Path) -> Result<Mapping, FsError> {
        map_file(path).map_err(|source| FsError::new(FsOp::Map, path, source))
    }

    fn free_space(&self, path: &Path) -> Result<u64, FsError> {
        let stat = rustix::fs::statvfs(path)
            .map_err(|errno| FsError::new(FsOp::FreeSpace, path, errno.into()))?;
        // `bavail`, not `bfree`: the blocks reserved for root are not ours to write.
        Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
    }
}

/// Refuses a directory opened as a file: the system allows it for reading, and every later call
/// on it would fail with a less clear error.
fn regular_file(file: File) -> io::Result<File> {
    if file.metadata()?.is_dir() { Err(ErrorKind::IsADirectory.into()) } else { Ok(file) }
}

fn kind_of(kind: FileType) -> EntryKind {
    if kind.is_file() {
        EntryKind::File
    } else if kind.is_dir() {
        EntryKind::Dir
    } else {
        EntryKind::Other
    }
}

#[expect(unsafe_code, reason = "a memory map has no safe form; the argument is below")]
fn map_file(path: &Path) -> io::Result<Mapping> {
    let file = regular_file(File::open(path)?)?;
    if file.metadata()?.len() == 0 {
        // A map of length 0 is an error on some systems.
        return Ok(Mapping::from_bytes(&[]));
    }
    // SAFETY: the bytes must not change while they are borrowed. `Fs::map` demands of its callers
    // that the file is immutable: AkiDB's own files are synced and renamed into place before they
    // are mapped, never written or truncated afterwards, and the directory lock keeps other AkiDB
    // processes out. Interference from outside is named as a limit in the contract of `Fs::map`.
    let map = unsafe { memmap2::Mmap::map(&file)? };
    Ok(Mapping::from_mmap(map))
}

fn take_lock(path: &Path, holder: &str) -> io::Result<RealLock> {
    let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)?;
    let meta = file.metadata()?;
    let key = (meta.dev(), meta.ino());
    if !HELD.lock().insert(key) {
        return Err(LockHeld::by(read_holder(&file)).into());
    }
    // From here on dropping `lock` undoes the registration.
    let mut lock = RealLock { file, path: path.to_path_buf(), key, locked: false };
    match lock.file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            return Err(LockHeld::by(read_holder(&lock.file)).into());
        }
        Err(TryLockError::Error(error)) => return Err(error),
    }
    lock.locked = true;
    lock.file.set_len(0)?;
    lock.file.write_all_at(format!("{}\n", LockHeld::line(holder)).as_bytes(), 0)?;
    Ok(lock)
}

/// What the holder wrote; empty if that cannot be read, for the refusal matters more.
fn read_holder(file: &File) -> Vec<u8> {
    let mut text = vec![0; HOLDER_MAX];
    let read = file.read_at(&mut text, 0).unwrap_or(0);
    text.truncate(read);
    text
}

#[derive(Debug)]
struct RealLock {
    file: File,
    path: PathBuf,
    key: (u64, u64),
    locked: bool,
}

impl FsLock for RealLock {
    fn path(&self) -> PathBuf {
        self.path.clone()
    }
}

impl Drop for RealLock {
    fn drop(&mut self) {
        if self.locked {
            // Closing the file releases the lock anyway, unless a forked child shares it: so try,
            // and nothing depends on the answer.
            drop(self.file.unlock());
        }
        HELD.lock().remove(&self.key);
    }
}

#[derive(Debug)]
struct RealFile {
    file: File,
    path: PathBuf,
}

impl RealFile {
    fn error(&self, op: FsOp, source: impl Into<io::Error>) -> FsError {
        FsError::new(op, &*self.path, source.into())
    }
}

impl FsFile for RealFile {
    fn path(&self) -> &Path {
        &self.path
    }

    fn len(&self) -> Result<u64, FsError> {
        let meta = self.file.metadata().map_err(|source| self.error(FsOp::Metadata, source))?;
        Ok(meta.len())
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> Result<usize, FsError> {
        self.file.read_at(buf, offset).map_err(|source| self.error(FsOp::Read, source).at(offset))
    }

    fn write_vectored_at(&self, bufs: &[IoSlice<'_>], offset: u64) -> Result<usize, FsError> {
        write_vectored(&self.file, bufs, offset)
            .map_err(|source| self.error(FsOp::Write, source).at(offset))
    }

    fn sync_data(&self) -> Result<(), FsError> {
        self.file.sync_data().map_err(|source| self.error(FsOp::SyncData, source))
    }

    fn sync_all(&self) -> Result<(), FsError> {
        self.file.sync_all().map_err(|source| self.error(FsOp::SyncAll, source))
    }

    fn allocate(&self, len: u64) -> Result<(), FsError> {
        let have = self.len()?;
        allocate(&self.file, have, len).map_err(|source| self.error(FsOp::Allocate, source))
    }

    fn os_file(&self) -> Option<BorrowedFd<'_>> {
        Some(self.file.as_fd())
    }
}

#[cfg(not(target_vendor = "apple"))]
fn write_vectored(file: &File, bufs: &[IoSlice<'_>], offset: u64) -> io::Result<usize> {
    Ok(rustix::io::pwritev(file, bufs, offset)?)
}

/// Older Apple systems lack `pwritev`: one slice a call is a legal short write.
#[cfg(target_vendor = "apple")]
fn write_vectored(file: &File, bufs: &[IoSlice<'_>], offset: u64) -> io::Result<usize> {
    match bufs.iter().find(|buf| !buf.is_empty()) {
        Some(buf) => file.write_at(buf, offset),
        None => Ok(0),
    }
}

/// Reserves blocks by `fallocate`, or by writing zeros where the file system has none (NFS, ZFS,
/// some FUSE). A length set by `set_len` would be sparse, and the full disk would surface at a
/// later write.
#[cfg(not(target_vendor = "apple"))]
fn allocate(file: &File, have: u64, len: u64) -> io::Result<()> {
    use rustix::{fs::FallocateFlags, io::Errno};
    if len == 0 {
        return Ok(()); // the system calls this EINVAL
    }
    loop {
        match rustix::fs::fallocate(file, FallocateFlags::empty(), 0, len) {
            Ok(()) => return Ok(()),
            Err(Errno::INTR) => {}
            Err(Errno::OPNOTSUPP | Errno::NOSYS) => return fill_with_zeros(file, have, len),
            Err(errno) => return Err(errno.into()),
        }
    }
}

/// Apple's preallocation truncates a file that is longer than asked for.
#[cfg(target_vendor = "apple")]
fn allocate(file: &File, have: u64, len: u64) -> io::Result<()> {
    fill_with_zeros(file, have, len)
}

/// Writes zeros over `[have, len)`: what lies before is written already.
fn fill_with_zeros(file: &File, have: u64, len: u64) -> io::Result<()> {
    let zeros = vec![0; ZERO_CHUNK];
    let mut offset = have;
    while offset < len {
        let size = usize::try_from(len - offset).unwrap_or(ZERO_CHUNK).min(ZERO_CHUNK);
        file.write_all_at(&zeros[..size], offset)?;
        offset += size as u64;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filling_with_zeros_extends_and_keeps_what_is_there() {
        let file = tempfile::tempfile().unwrap();
        file.write_all_at(b"kept", 0).unwrap();
        let len = ZERO_CHUNK as u64 + 4097;
        fill_with_zeros(&file, 4, len).unwrap();
        assert_eq!(file.metadata().unwrap().len(), len);
        let mut bytes = vec![1; ZERO_CHUNK + 4097];
        file.read_exact_at(&mut bytes, 0).unwrap();
        assert_eq!(&bytes[..4], b"kept");
        assert!(bytes[4..].iter().all(|&byte| byte == 0));
    }

    #[test]
    fn the_systems_handle_is_that_of_the_same_file() {
        let dir = tempfile::tempdir().unwrap();
        let file = RealFs.create_new(&dir.path().join("file")).unwrap();
        let own = file.os_file().unwrap().try_clone_to_owned().unwrap();
        File::from(own).write_all_at(b"seen", 0).unwrap();
        let mut bytes = [0; 4];
        file.read_exact_at(&mut bytes, 0).unwrap();
        assert_eq!(&bytes, b"seen");
    }

    #[test]
    fn filling_with_zeros_never_shortens() {
        let file = tempfile::tempfile().unwrap();
        file.write_all_at(b"longer than asked", 0).unwrap();
        fill_with_zeros(&file, 17, 4).unwrap();
        assert_eq!(file.metadata().unwrap().len(), 17);
    }
}
