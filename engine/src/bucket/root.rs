//! A root of an object store, and the look at its manifest. Every look is a fresh read.

#![deny(clippy::indexing_slicing)]

use super::{error::BucketError, format, keys::MANIFEST_KEY, state::BucketState};
use akidb_tiering::{ETag, KeyError, ObjectKey, ObjectStore, StoreErrorKind};
use std::sync::Arc;

/// The root of a store, by a name for people (`s3://bucket/prefix/`) that errors carry. The store
/// retries by itself, if anything is to be retried.
#[derive(Clone, Debug)]
pub(crate) struct Root {
    pub(super) store: Arc<dyn ObjectStore>,
    place: Arc<str>,
}

/// A manifest that was read, and the tag by which exactly this one is replaced.
#[derive(Clone, Debug)]
pub(crate) struct Found {
    pub(crate) state: BucketState,
    pub(super) etag: ETag,
}

impl Root {
    /// `place` is empty, or ends in a slash.
    pub(crate) fn new(store: Arc<dyn ObjectStore>, place: impl Into<Arc<str>>) -> Self {
        Self { store, place: place.into() }
    }

    /// True if conditional puts hold here, so that of two writers one is always told.
    pub(crate) fn fences_safely(&self) -> bool {
        self.store.capabilities().require_multi_writer().is_ok()
    }

    /// The manifest as it is now; `None` if there is none.
    ///
    /// # Errors
    /// Damage, a newer version, a failed call.
    pub(crate) async fn look(&self) -> Result<Option<Found>, BucketError> {
        let key = Self::key()?;
        // Whatever lies under our key is not read whole before its size is known.
        let head = match self.store.head(&key).await {
            Ok(head) => head,
            Err(error) if error.kind == StoreErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        format::check_len(head.len, &self.file())?;
        let object = match self.store.get(&key).await {
            Ok(object) => object,
            Err(error) if error.kind == StoreErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let state = format::decode(&object.body, &self.file())?;
        Ok(Some(Found { state, etag: object.head.etag }))
    }

    pub(super) fn key() -> Result<ObjectKey, KeyError> {
        ObjectKey::new(MANIFEST_KEY)
    }

    /// The manifest, as errors name it.
    pub(super) fn file(&self) -> String {
        format!("{}{MANIFEST_KEY}", self.place)
    }

    pub(super) fn damaged(&self, detail: impl Into<String>) -> BucketError {
        BucketError::Damaged { file: self.file(), offset: 0, detail: detail.into() }
    }

    pub(super) fn gone(&self) -> BucketError {
        self.damaged("this database had a manifest here and it is gone")
    }

    pub(super) fn fenced(&self, by: &BucketState) -> BucketError {
        let (epoch, holder) = (by.version.epoch, by.holder.clone());
        BucketError::Fenced { file: self.file(), epoch, holder }
    }
}
