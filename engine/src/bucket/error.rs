//! What can go wrong with the manifest in the bucket. Every error names the manifest as a person
//! finds it: place and key.

#![deny(clippy::indexing_slicing)]

use crate::error::Cause;
use akidb_tiering::{KeyError, StoreError, StoreErrorKind};
use std::path::PathBuf;
use uuid::Uuid;

/// A failure of the manifest in the bucket.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BucketError {
    /// Another writer committed since this directory did.
    #[error("{file} was taken over by {holder} (epoch {epoch})")]
    Fenced { file: String, epoch: u64, holder: String },
    /// The root belongs to another database.
    #[error("{file} belongs to database {database}")]
    Foreign { file: String, database: Uuid },
    /// Bytes that cannot be right, or none where there were some.
    #[error("{file} is damaged at offset {offset}: {detail}")]
    Damaged { file: String, offset: u64, detail: String },
    /// A newer format.
    #[error("{file} has format version {found}, this binary reads up to {supported}")]
    Newer { file: String, found: u32, supported: u32 },
    /// Somebody committed between the look and the put; nothing was changed. Look again.
    #[error("{file} changed while it was taken over; open again")]
    Raced { file: String },
    /// The store failed. Its outcome says whether the call may have happened.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A key of ours that the store's rules refuse.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// A broken rule of the caller.
    #[error("{0}")]
    Bug(&'static str),
}

impl From<BucketError> for Cause {
    fn from(error: BucketError) -> Self {
        match error {
            BucketError::Fenced { file, epoch, holder } => Self::Fenced { file, epoch, holder },
            BucketError::Foreign { file, database } => Self::ForeignBucket { file, database },
            BucketError::Damaged { file, offset, detail } => {
                Self::Corruption { file: PathBuf::from(file), offset, detail }
            }
            BucketError::Newer { file, found, supported } => {
                Self::Newer { file: PathBuf::from(file), found, supported }
            }
            BucketError::Raced { file } => {
                let error = StoreError::listing(StoreErrorKind::Conflict);
                Self::Store(error.with_source(format!("{file} changed meanwhile")))
            }
            BucketError::Store(error) => Self::Store(error),
            BucketError::Key(error) => Self::Key(error),
            BucketError::Bug(detail) => Self::Bug { detail },
        }
    }
}
