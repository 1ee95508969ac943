//! The traits of the disk. Their documentation is the contract that [`crate::RealFs`] and the
//! simulated disk both pass (`contract`), and that every durable step of AkiDB relies on.
//!
//! # What survives what
//! - Written bytes are visible to every reader at once, and survive a process kill. They survive
//!   power loss only after [`FsFile::sync_data`] or [`FsFile::sync_all`] returned `Ok`.
//! - A created, renamed or removed *name* survives power loss only after [`Fs::sync_dir`] on its
//!   directory returned `Ok`.
//! - After a failed sync nothing unsynced in that file may be trusted: a later `Ok` says nothing
//!   about the earlier bytes.
//! - Nothing relies on `Drop`.

use crate::{FsError, Mapping};
use std::{
    ffi::OsString,
    fmt::Debug,
    io::IoSlice,
    os::fd::BorrowedFd,
    path::{Path, PathBuf},
    sync::Arc,
};

/// How an existing file is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OpenMode {
    /// Reads only.
    Read,
    /// Reads and writes.
    ReadWrite,
}

/// What a directory entry is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EntryKind {
    /// A regular file.
    File,
    /// A directory.
    Dir,
    /// Anything else: a link, a socket, a device.
    Other,
}

/// One name in a directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DirEntry {
    /// The last component of the path.
    pub name: OsString,
    /// File, directory or neither.
    pub kind: EntryKind,
}

/// What is known of a path without opening it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileMeta {
    /// Length in bytes; 0 for a directory.
    pub len: u64,
    /// File, directory or neither.
    pub kind: EntryKind,
}

/// A file system. Cheap to share; every method may block.
pub trait Fs: Send + Sync + Debug {
    /// Creates an empty file for reading and writing; fails with `AlreadyExists` if the name is
    /// taken. The name is not durable before [`Fs::sync_dir`].
    fn create_new(&self, path: &Path) -> Result<Arc<dyn FsFile>, FsError>;

    /// Opens an existing file; fails with `NotFound` if there is none.
    fn open(&self, path: &Path, mode: OpenMode) -> Result<Arc<dyn FsFile>, FsError>;

    /// Renames a file within one file system, replacing `to`. Atomic for every observer; durable
    /// only after [`Fs::sync_dir`] on the directory of `to` (and of `from`, where it differs).
    fn rename(&self, from: &Path, to: &Path) -> Result<(), FsError>;

    /// Unlinks a file. Open handles and mappings stay readable.
    fn remove_file(&self, path: &Path) -> Result<(), FsError>;

    /// Removes an empty directory.
    fn remove_dir(&self, path: &Path) -> Result<(), FsError>;

    /// Creates a directory with its missing ancestors and makes every new entry durable by
    /// syncing the directory that holds it. An existing directory is fine.
    fn create_dir_all(&self, path: &Path) -> Result<(), FsError>;

    /// Makes the names in a directory durable.
    fn sync_dir(&self, path: &Path) -> Result<(), FsError>;

    /// The names in a directory, sorted by name, without `.` and `..`.
    fn list_dir(&self, path: &Path) -> Result<Vec<DirEntry>, FsError>;

    /// Length and kind of a path; fails with `NotFound` if there is none.
    fn metadata(&self, path: &Path) -> Result<FileMeta, FsError>;

    /// Takes the exclusive advisory lock of `path`, creating the file if needed, and writes
    /// `holder` (one line of text for people) into it. Fails at once with `WouldBlock` when
    /// somebody, in this process or another, holds it; the source error's text then quotes what
    /// the holder wrote. The lock ends with the returned value, or with the process.
    fn try_lock(&self, path: &Path, holder: &str) -> Result<Box<dyn FsLock>, FsError>;

    /// Maps a whole file read-only. The file must be immutable from here on: AkiDB maps only
    /// files that were synced and renamed into place, never truncates them, and unlinks them when
    /// nobody maps them any more. An outside truncation of a mapped file is a SIGBUS on a real
    /// disk; hosts that cannot risk it use the `pread` read mode.
    fn map(&self, path: &Path) -> Result<Mapping, FsError>;

    /// Bytes that this process may still write under `path`.
    fn free_space(&self, path: &Path) -> Result<u64, FsError>;
}

/// An open file. All work is positional: there is no cursor to share or to lose.
pub trait FsFile: Send + Sync + Debug {
    /// The path it was opened by.
    fn path(&self) -> &Path;

    /// The length in bytes.
    fn len(&self) -> Result<u64, FsError>;

    /// True when the length is 0.
    fn is_empty(&self) -> Result<bool, FsError> {
        Ok(self.len()? == 0)
    }

    /// Reads up to `buf.len()` bytes at `offset`; `Ok(0)` means end of file.
    fn read_at(&self, buf: &mut [u8], offset: u64) -> Result<usize, FsError>;

    /// Writes some of the slices, in order, at `offset`; extends the file where needed. May write
    /// less than asked: callers use [`FsFile::write_all_vectored_at`].
    fn write_vectored_at(&self, bufs: &[IoSlice<'_>], offset: u64) -> Result<usize, FsError>;

    /// Makes the contents (and the length) durable.
    fn sync_data(&self) -> Result<(), FsError>;

    /// Makes the contents and all metadata durable.
    fn sync_all(&self) -> Result<(), FsError>;

    /// Reserves real blocks for `[0, len)` and makes the file at least `len` long; the new bytes
    /// read as zero. Never a sparse length: a full disk surfaces here, not at a later write.
    fn allocate(&self, len: u64) -> Result<(), FsError>;

    /// The system's own handle of the file, for calls that this trait does not have; `None` where
    /// there is none, as on the simulated disk. What goes through it is not seen by wrappers of a
    /// file system, so those answer `None` unless they mean to be passed by.
    fn os_file(&self) -> Option<BorrowedFd<'_>> {
        None
    }

    /// Reads exactly `buf.len()` bytes at `offset`, retrying interrupted calls; `UnexpectedEof`
    /// when the file ends first.
    fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> Result<(), FsError> {
        crate::helpers::read_exact_at(self, buf, offset)
    }

    /// Writes all of `buf` at `offset`; see [`FsFile::write_all_vectored_at`].
    fn write_all_at(&self, buf: &[u8], offset: u64) -> Result<(), FsError> {
        self.write_all_vectored_at(&mut [IoSlice::new(buf)], offset)
    }

    /// Writes all slices at `offset`: goes on after a short write at the right offset, retries an
    /// interrupted call, and turns `Ok(0)` into `WriteZero` instead of looping for ever.
    fn write_all_vectored_at(&self, bufs: &mut [IoSlice<'_>], offset: u64) -> Result<(), FsError> {
        crate::helpers::write_all_vectored_at(self, bufs, offset)
    }
}

/// A held advisory lock; dropping it releases the lock.
pub trait FsLock: Send + Sync + Debug {
    /// The lock file.
    fn path(&self) -> PathBuf;
}
