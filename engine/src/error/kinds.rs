//! What callers can do about the errors of the crates below: one function per crate.

use super::{Error, ErrorKind};
use akidb_tiering::{RecordsError, StoreError, StoreErrorKind, UploadError};
use akidb_vfs::FsError;
use akidb_wal::WalError;

pub(super) fn wal_kind(error: &WalError) -> ErrorKind {
    match error {
        WalError::Fs(error) => fs_kind(error),
        WalError::Corruption { .. } => ErrorKind::Corruption,
        WalError::Newer { .. } | WalError::Foreign { .. } => ErrorKind::Incompatible,
        WalError::NoSpace { .. } => ErrorKind::NoSpace,
        WalError::TooLarge { .. } | WalError::Backend { .. } => ErrorKind::InvalidInput,
        WalError::Poisoned(_) => ErrorKind::Reopen,
        WalError::Closed => ErrorKind::Closed,
        WalError::Thread(_) => ErrorKind::Unavailable,
        _ => ErrorKind::Bug,
    }
}

pub(super) fn store_kind(error: &StoreError) -> ErrorKind {
    match error.kind {
        StoreErrorKind::NotFound | StoreErrorKind::Corrupt => ErrorKind::Corruption,
        StoreErrorKind::NoSpace => ErrorKind::NoSpace,
        StoreErrorKind::PermissionDenied | StoreErrorKind::Misconfigured => {
            ErrorKind::PermissionDenied
        }
        kind if kind.is_transient() => ErrorKind::Unavailable,
        _ => ErrorKind::Bug,
    }
}

pub(super) fn upload_kind(error: &UploadError) -> ErrorKind {
    match error {
        UploadError::Store(error) => store_kind(error),
        UploadError::Journal { source, .. } => records_kind(source),
        UploadError::Source { source, .. } => {
            source.downcast_ref::<Error>().map_or(ErrorKind::Bug, Error::kind)
        }
        _ => ErrorKind::Bug,
    }
}

pub(super) fn records_kind(error: &RecordsError) -> ErrorKind {
    match error {
        RecordsError::Fs(error) => fs_kind(error),
        RecordsError::Corruption { .. } => ErrorKind::Corruption,
        RecordsError::Newer { .. } => ErrorKind::Incompatible,
        _ => ErrorKind::Bug,
    }
}

pub(super) fn fs_kind(error: &FsError) -> ErrorKind {
    if error.is_no_space() {
        ErrorKind::NoSpace
    } else if error.is_read_only() {
        ErrorKind::PermissionDenied
    } else if error.is_not_found() {
        // A file that the database knows of; one that the caller named is `FileNotFound`.
        ErrorKind::Corruption
    } else if matches!(
        error.kind(),
        std::io::ErrorKind::NotADirectory | std::io::ErrorKind::IsADirectory
    ) {
        ErrorKind::Incompatible
    } else {
        ErrorKind::Unavailable
    }
}
