//! One conditional put of the manifest, and what came of it. The only place that writes the key.
//!
//! Owns the read-back after an outcome that is not known (F4). Never tries again: whether that is
//! right is known to the caller.

#![deny(clippy::indexing_slicing)]

use super::{
    error::BucketError,
    format,
    root::{Found, Root},
    state::BucketState,
};
use akidb_tiering::{ETag, Outcome, PutId, PutOptions, StoreError, StoreErrorKind};
use akidb_vfs::planted;

/// What came of a put.
#[derive(Debug)]
pub(super) enum Swapped {
    /// It is in the bucket, under this tag.
    Done(ETag),
    /// It is not, and cannot come any more: this is there instead.
    Lost(Option<Box<Found>>),
}

/// A put that failed.
#[derive(Debug)]
pub(super) struct SwapFailure {
    pub(super) error: BucketError,
    /// True if it may be in the bucket, or come to be there.
    pub(super) in_doubt: bool,
}

impl SwapFailure {
    fn unchanged(error: impl Into<BucketError>) -> Self {
        Self { error: error.into(), in_doubt: false }
    }
}

/// Replaces the manifest that has the tag `base`, or makes the first one.
pub(super) async fn swap(
    root: &Root,
    next: &BucketState,
    base: Option<&ETag>,
    put_id: PutId,
) -> Result<Swapped, SwapFailure> {
    let body = format::encode(next).map_err(SwapFailure::unchanged)?;
    let key = Root::key().map_err(SwapFailure::unchanged)?;
    let safe = root.fences_safely();
    let options = match base {
        _ if !safe => PutOptions::default(),
        Some(etag) => PutOptions::if_match(etag.clone()),
        None => PutOptions::if_absent(),
    };
    if !safe {
        // Nothing better is to be had here: another writer shows, unless it is at this very point.
        let found = root.look().await.map_err(SwapFailure::unchanged)?;
        if found.as_ref().map(|found| &found.etag) != base {
            return Ok(Swapped::Lost(found.map(Box::new)));
        }
    }
    match root.store.put(&key, body, options.with_put_id(put_id)).await {
        Ok(receipt) if safe => Ok(Swapped::Done(receipt.etag)),
        Ok(_) => after(root, next, base, None).await,
        Err(error) if error.outcome == Outcome::Unknown && planted("bucket.unknown-is-done") => {
            drop(error);
            Ok(Swapped::Done(base.cloned().unwrap_or_else(|| ETag::new(""))))
        }
        Err(error)
            if error.outcome == Outcome::Unknown
                || error.kind == StoreErrorKind::PreconditionFailed =>
        {
            after(root, next, base, Some(error)).await
        }
        Err(error) => Err(SwapFailure::unchanged(error)),
    }
}

/// Looks what is there after a put whose answer does not say.
async fn after(
    root: &Root,
    next: &BucketState,
    base: Option<&ETag>,
    error: Option<StoreError>,
) -> Result<Swapped, SwapFailure> {
    let refused = error.as_ref().is_some_and(|error| error.outcome == Outcome::NotDone);
    let found = match root.look().await {
        Ok(found) => found,
        Err(unseen) => {
            // That a condition failed says nothing as long as nobody knows of whom.
            let error = error.filter(|_| !refused).map_or(unseen, BucketError::Store);
            return Err(SwapFailure { error, in_doubt: true });
        }
    };
    match found {
        Some(found) if found.state.version == next.version => Ok(Swapped::Done(found.etag)),
        // The tag it needs is there still: it may be on its way.
        found if !refused && found.as_ref().map(|found| &found.etag) == base => match error {
            Some(error) => Err(SwapFailure { error: error.into(), in_doubt: true }),
            None => Err(SwapFailure { error: root.damaged("a put was lost"), in_doubt: true }),
        },
        found => Ok(Swapped::Lost(found.map(Box::new))),
    }
}
