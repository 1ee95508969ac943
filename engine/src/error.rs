//! The one public error, whose [`ErrorKind`] says what the caller can do, and the typed causes
//! behind it. Every cause names what failed and where: the file and offset, the id, the field.

use crate::PointId;
use akidb_tiering::{DeadLetterError, KeyError, RecordsError, StoreError, UploadError};
use akidb_vfs::FsError;
use akidb_wal::WalError;
use std::{fmt, path::PathBuf, sync::Arc};

mod input;
mod kinds;

pub use input::InputError;
use kinds::{fs_kind, records_kind, store_kind, upload_kind, wal_kind};

/// A result of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What the caller can do about an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The input is wrong: fix it. Nothing was changed.
    InvalidInput,
    /// What was named does not exist. Nothing was changed.
    NotFound,
    /// What was to be created exists. Nothing was changed.
    AlreadyExists,
    /// Somebody else holds the directory: close it there, then open again.
    Locked,
    /// The object store or the machine did not answer in time or refused for now: retry.
    Unavailable,
    /// A limit of the settings is reached: delete something, or raise the limit. Nothing was changed.
    QuotaExceeded,
    /// The disk is full: free space and retry; no restart is needed.
    NoSpace,
    /// A write or sync failed earlier; reads go on, writes need a close and a new open.
    Reopen,
    /// Stored bytes are damaged: restore the named file from a copy.
    Corruption,
    /// The files are of a newer version, or not AkiDB's: use the right binary or directory.
    Incompatible,
    /// The directory or file refuses access, or the database was opened for reading only.
    PermissionDenied,
    /// The database is closed.
    Closed,
    /// A bug in AkiDB: please report it.
    Bug,
}

/// Any failure of AkiDB.
///
/// ```
/// use akidb::{ErrorKind, blocking::Db};
/// # let dir = tempfile::tempdir().unwrap();
/// let db = Db::open(dir.path()).unwrap();
/// let error = db.collection("nobody").unwrap_err();
/// assert_eq!(error.kind(), ErrorKind::NotFound);
/// ```
#[derive(Clone)]
pub struct Error(Arc<Cause>);

impl Error {
    /// What the caller can do.
    pub fn kind(&self) -> ErrorKind {
        self.0.kind()
    }

    /// What happened, as data.
    pub fn cause(&self) -> &Cause {
        &self.0
    }

    /// A failure to open a file that the caller named: not there means a wrong path, not damage.
    pub(crate) fn opening(error: FsError) -> Self {
        if error.is_not_found() {
            Cause::FileNotFound { file: error.path }.into()
        } else {
            error.into()
        }
    }

    /// A broken invariant of ours.
    pub(crate) fn bug(detail: &'static str) -> Self {
        Cause::Bug { detail }.into()
    }

    /// Damage found in a file.
    pub(crate) fn corruption(
        file: impl Into<PathBuf>,
        offset: u64,
        detail: impl Into<String>,
    ) -> Self {
        Cause::Corruption { file: file.into(), offset, detail: detail.into() }.into()
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {:?}", self.kind(), self.0)
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.0.source()
    }
}

/// What happened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Cause {
    /// The caller's input breaks a rule; nothing was changed.
    #[error(transparent)]
    Input(#[from] InputError),
    /// There is no collection of this name.
    #[error("there is no collection named {name:?}; list_collections() names those that exist")]
    CollectionNotFound {
        /// The name asked for.
        name: String,
    },
    /// The name is taken.
    #[error(
        "a collection named {name:?} exists already; choose another name, or open it with collection()"
    )]
    CollectionExists {
        /// The name.
        name: String,
    },
    /// An insert-only write met an existing row; nothing of its batch was written.
    #[error("row {id} exists already; use upsert to replace it")]
    RowExists {
        /// The first such id.
        id: PointId,
    },
    /// A partial update named a row that does not exist; nothing of its batch was written.
    #[error("there is no row {id}; upsert makes one")]
    RowNotFound {
        /// The id.
        id: PointId,
    },
    /// There is no snapshot of this name.
    #[error("there is no snapshot named {name:?}; list_snapshots() names those that exist")]
    SnapshotNotFound {
        /// The name.
        name: String,
    },
    /// The snapshot's name is taken.
    #[error("a snapshot named {name:?} exists already; choose another name, or delete it first")]
    SnapshotExists {
        /// The name.
        name: String,
    },
    /// The store to copy to has something under this key.
    #[error("the store has an object {key:?} already; choose another key, or delete it first")]
    ObjectExists {
        /// The key.
        key: String,
    },
    /// The store to restore a copy from has nothing under this key.
    #[error("the store has no object {key:?}")]
    ObjectNotFound {
        /// The key.
        key: String,
    },
    /// A pinned collection was asked to move to another tier.
    #[error("collection {name:?} is pinned; unpin it before demoting it")]
    Pinned {
        /// The collection.
        name: String,
    },
    /// A move between tiers is under way, or the one that this call waited for has failed. Nothing was
    /// changed by this call.
    #[error(
        "collection {name:?}: a move from {from} to {to} {}",
        if *failed { "that this call waited for has failed; retry" } else { "is under way; wait for its end, then look again" }
    )]
    Moving {
        /// The collection.
        name: String,
        /// The tier that it comes from.
        from: &'static str,
        /// The tier that it goes to.
        to: &'static str,
        /// Whether the move has failed.
        failed: bool,
    },
    /// The tier or the pin of a collection were changed after a move was decided on.
    #[error(
        "collection {name:?}: tier or pin were changed after this move was decided on; decide again"
    )]
    TierChanged {
        /// The collection.
        name: String,
    },
    /// A demotion moved the collection while a write that depends on its rows was under way.
    #[error("collection {name:?} keeps moving to the cold tier under this write; retry")]
    Moved {
        /// The collection.
        name: String,
    },
    /// The directory is open elsewhere.
    #[error("{} is open elsewhere: {holder}; close it there first", dir.display())]
    Locked {
        /// The directory.
        dir: PathBuf,
        /// What the holder wrote into the lock file.
        holder: String,
    },
    /// A file of a newer format.
    #[error("{} has format version {found}, this binary reads up to {supported}; use a newer AkiDB", file.display())]
    Newer {
        /// The file.
        file: PathBuf,
        /// Its version.
        found: u32,
        /// The newest version this binary reads.
        supported: u32,
    },
    /// The directory holds something, but not an AkiDB database.
    #[error("{} is not an AkiDB directory ({detail}); give an empty or new one", dir.display())]
    Foreign {
        /// The directory.
        dir: PathBuf,
        /// What was found.
        detail: String,
    },
    /// There is no database to verify, repair or read.
    #[error("there is no database in {}; check the path", dir.display())]
    NoDatabase {
        /// The directory.
        dir: PathBuf,
    },
    /// A write to a database that was opened for reading only.
    #[error("the database was opened for reading only; open it without read_only() to write")]
    ReadOnly,
    /// A read of a collection of which something is damaged; see [`crate::DbBuilder::read_only`].
    #[error(
        "collection {name:?} is damaged ({detail}); db.damage() lists what is lost, and \
         allow_damage() reads what is whole"
    )]
    Damaged {
        /// The collection.
        name: String,
        /// The first of its damages.
        detail: String,
    },
    /// There is no such file to read.
    #[error("there is no file {}; check the path", file.display())]
    FileNotFound {
        /// The path asked for.
        file: PathBuf,
    },
    /// A file that is none of AkiDB's kinds.
    #[error("{} is not a file of AkiDB", file.display())]
    UnknownFile {
        /// The file.
        file: PathBuf,
    },
    /// Another machine, or a copy of the directory, writes to the bucket now.
    #[error(
        "{file} was taken over by {holder} (epoch {epoch}), so this directory may not write there \
         any more; close it there, then open the database from the bucket into a new directory"
    )]
    Fenced {
        /// The manifest in the bucket.
        file: String,
        /// The epoch of the writer that holds it.
        epoch: u64,
        /// Who that is, as it wrote of itself.
        holder: String,
    },
    /// The bucket and prefix belong to another database.
    #[error("{file} belongs to database {database}; give another bucket or prefix")]
    ForeignBucket {
        /// The manifest in the bucket.
        file: String,
        /// The database.
        database: uuid::Uuid,
    },
    /// Part of the database's files are gone.
    #[error("{} misses {missing}; restore it from a copy", dir.display())]
    HalfDeleted {
        /// The directory.
        dir: PathBuf,
        /// What is missing.
        missing: String,
    },
    /// Damaged bytes.
    #[error("{} is damaged at offset {offset}: {detail}; restore it from a copy", file.display())]
    Corruption {
        /// The file or object key.
        file: PathBuf,
        /// The first bad byte that is known.
        offset: u64,
        /// What is wrong there.
        detail: String,
    },
    /// A limit of the settings would be passed; nothing was written.
    #[error(
        "{} may take {limit} {what}, takes {used} and this would take {asked} more; delete something or raise \
         the limit{}",
        namespace.as_ref().map_or("the database".to_owned(), |name| format!("namespace {name:?}")),
        if *what == "memory_bytes" { ", or retry: a flush has begun" } else { "" }
    )]
    QuotaExceeded {
        /// The namespace; `None`: the database.
        namespace: Option<String>,
        /// Which limit: `collections`, `memory_bytes` or `storage_bytes`.
        what: &'static str,
        /// What is taken now.
        used: u64,
        /// What was asked for.
        asked: u64,
        /// The limit.
        limit: u64,
    },
    /// Too little free space for the reserve; the log was not touched.
    #[error(
        "only {free_bytes} bytes are free and {reserve_bytes} are kept in reserve; free some space, no restart is needed"
    )]
    DiskReserve {
        /// Bytes free.
        free_bytes: u64,
        /// The configured reserve and the next WAL file.
        reserve_bytes: u64,
    },
    /// Too little free space for a merge; nothing was written.
    #[error(
        "a merge needs {needed_bytes} bytes, flushes and the log among them, and {free_bytes} are free; free some space or delete rows, no restart is needed"
    )]
    MergeSpace {
        /// Bytes free.
        free_bytes: u64,
        /// What it writes at most, what is in memtables, and the next WAL file.
        needed_bytes: u64,
    },
    /// A write or sync failed before; the reason is the source.
    #[error(
        "a write failed earlier and the database takes no more of them; reads go on, close and open it again: {0}"
    )]
    Poisoned(#[source] Error),
    /// The database was closed.
    #[error("the database is closed; open it again")]
    Closed,
    /// A file call failed.
    #[error(transparent)]
    Fs(#[from] FsError),
    /// The log failed.
    #[error(transparent)]
    Wal(Arc<WalError>),
    /// The object store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// An object could not be uploaded.
    #[error(transparent)]
    Upload(#[from] UploadError),
    /// A file of notes: the journal of uploads.
    #[error(transparent)]
    Records(#[from] RecordsError),
    /// The dead-letter queue.
    #[error(transparent)]
    DeadLetters(#[from] DeadLetterError),
    /// An object key of ours breaks the store's rule.
    #[error("bug in AkiDB: an object key is refused ({0}); please report it")]
    Key(#[from] KeyError),
    /// The machine gave no thread.
    #[error("cannot start a thread: {0}; retry when the machine has threads to give")]
    Thread(#[source] std::io::Error),
    /// The machine gave no memory for a hot copy; searches read the file instead.
    #[error("cannot take {bytes} bytes of memory: {source}; lower `hot_bytes` or free memory")]
    Memory {
        /// How many bytes were asked for.
        bytes: u64,
        /// What the system said.
        source: std::io::Error,
    },
    /// A broken invariant of ours.
    #[error("bug in AkiDB: {detail}; please report it")]
    Bug {
        /// Which one.
        detail: &'static str,
    },
}

impl Cause {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Input(_) | Self::Pinned { .. } => ErrorKind::InvalidInput,
            Self::CollectionNotFound { .. }
            | Self::RowNotFound { .. }
            | Self::FileNotFound { .. }
            | Self::NoDatabase { .. }
            | Self::ObjectNotFound { .. }
            | Self::SnapshotNotFound { .. } => ErrorKind::NotFound,
            Self::CollectionExists { .. }
            | Self::RowExists { .. }
            | Self::ObjectExists { .. }
            | Self::SnapshotExists { .. } => ErrorKind::AlreadyExists,
            Self::Locked { .. } | Self::Fenced { .. } => ErrorKind::Locked,
            Self::Newer { .. }
            | Self::Foreign { .. }
            | Self::ForeignBucket { .. }
            | Self::UnknownFile { .. } => ErrorKind::Incompatible,
            Self::HalfDeleted { .. } | Self::Corruption { .. } | Self::Damaged { .. } => {
                ErrorKind::Corruption
            }
            Self::ReadOnly => ErrorKind::PermissionDenied,
            Self::QuotaExceeded { .. } => ErrorKind::QuotaExceeded,
            Self::DiskReserve { .. } | Self::MergeSpace { .. } => ErrorKind::NoSpace,
            Self::Poisoned(_) => ErrorKind::Reopen,
            Self::Closed => ErrorKind::Closed,
            Self::Fs(error) => fs_kind(error),
            Self::Wal(error) => wal_kind(error),
            Self::Store(error) => store_kind(error),
            Self::Upload(error) => upload_kind(error),
            Self::Records(error) => records_kind(error),
            Self::DeadLetters(DeadLetterError::Records(error)) => records_kind(error),
            Self::DeadLetters(DeadLetterError::NoSuchLetter { .. }) => ErrorKind::NotFound,
            Self::DeadLetters(_) => ErrorKind::NoSpace,
            Self::Thread(_)
            | Self::Memory { .. }
            | Self::Moved { .. }
            | Self::Moving { .. }
            | Self::TierChanged { .. } => ErrorKind::Unavailable,
            Self::Bug { .. } | Self::Key(_) => ErrorKind::Bug,
        }
    }
}

impl<T: Into<Cause>> From<T> for Error {
    fn from(cause: T) -> Self {
        Self(Arc::new(cause.into()))
    }
}

impl From<WalError> for Cause {
    fn from(error: WalError) -> Self {
        Self::Wal(Arc::new(error))
    }
}

impl From<Arc<WalError>> for Cause {
    fn from(error: Arc<WalError>) -> Self {
        Self::Wal(error)
    }
}
