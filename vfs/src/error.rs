//! The one error of file work: which call, on which path, at which offset, and what the system
//! said. Owned by this crate, wrapped (never flattened to text) by every crate above.

use std::{fmt, io, path::PathBuf};

/// The file-system call that failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum FsOp {
    /// Creating a file that must not exist yet.
    Create,
    /// Opening an existing file.
    Open,
    /// A positional read.
    Read,
    /// A positional or vectored write.
    Write,
    /// `fdatasync` or its like: file contents.
    SyncData,
    /// `fsync` or its like: contents and metadata.
    SyncAll,
    /// Reserving real blocks.
    Allocate,
    /// Asking for a length.
    Metadata,
    /// Renaming.
    Rename,
    /// Unlinking a file.
    RemoveFile,
    /// Removing an empty directory.
    RemoveDir,
    /// Creating a directory and its ancestors.
    CreateDir,
    /// Making directory entries durable.
    SyncDir,
    /// Listing a directory.
    ListDir,
    /// Taking the advisory lock.
    Lock,
    /// Mapping a file into memory.
    Map,
    /// Asking how much space is free.
    FreeSpace,
}

impl FsOp {
    /// The verb used in messages: "cannot `verb` path".
    pub const fn verb(self) -> &'static str {
        match self {
            Self::Create => "create",
            Self::Open => "open",
            Self::Read => "read",
            Self::Write => "write",
            Self::SyncData | Self::SyncAll => "sync",
            Self::Allocate => "reserve space for",
            Self::Metadata => "stat",
            Self::Rename => "rename",
            Self::RemoveFile | Self::RemoveDir => "remove",
            Self::CreateDir => "create directory",
            Self::SyncDir => "sync directory",
            Self::ListDir => "list directory",
            Self::Lock => "lock",
            Self::Map => "map",
            Self::FreeSpace => "ask free space of",
        }
    }
}

/// A failed file-system call.
#[derive(Debug, thiserror::Error)]
pub struct FsError {
    /// The call.
    pub op: FsOp,
    /// The path it was about.
    pub path: PathBuf,
    /// The byte offset, where the call had one.
    pub offset: Option<u64>,
    /// What the system said.
    #[source]
    pub source: io::Error,
}

impl FsError {
    /// A failure of `op` on `path`.
    pub fn new(op: FsOp, path: impl Into<PathBuf>, source: io::Error) -> Self {
        Self { op, path: path.into(), offset: None, source }
    }

    /// The same failure, at a byte offset.
    #[must_use]
    pub fn at(mut self, offset: u64) -> Self {
        self.offset = Some(offset);
        self
    }

    /// The system's kind of error.
    pub fn kind(&self) -> io::ErrorKind {
        self.source.kind()
    }

    /// True when the path does not exist.
    pub fn is_not_found(&self) -> bool {
        self.kind() == io::ErrorKind::NotFound
    }

    /// True when the disk or the quota is full.
    pub fn is_no_space(&self) -> bool {
        matches!(self.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
    }

    /// True when the directory or file refuses writes: permissions or a read-only mount.
    pub fn is_read_only(&self) -> bool {
        matches!(self.kind(), io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem)
    }
}

impl fmt::Display for FsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cannot {} {}", self.op.verb(), self.path.display())?;
        if let Some(offset) = self.offset {
            write!(f, " at offset {offset}")?;
        }
        write!(f, ": {}", self.source)
    }
}

/// The source of a refused [`crate::Fs::try_lock`]: somebody holds the lock.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("already locked by {holder}")]
pub struct LockHeld {
    /// What the holder wrote about itself, one line.
    pub holder: String,
}

impl LockHeld {
    /// Takes the holder's words from the content of its lock file.
    pub(crate) fn by(content: impl AsRef<[u8]>) -> Self {
        let text = String::from_utf8_lossy(content.as_ref());
        let line = Self::line(&text);
        // The file is created before it is written: a loser of that race sees no text yet.
        Self { holder: if line.is_empty() { "an unnamed process".into() } else { line.into() } }
    }

    /// The one line that a lock file keeps of a text.
    pub(crate) fn line(text: &str) -> &str {
        text.lines().next().unwrap_or_default().trim()
    }
}

impl From<LockHeld> for io::Error {
    fn from(held: LockHeld) -> Self {
        Self::new(io::ErrorKind::WouldBlock, held)
    }
}
