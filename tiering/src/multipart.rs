//! Uploads of one object in parts, as a trait of its own: a store that has them hands it out with
//! [`ObjectStore::multipart`](crate::ObjectStore::multipart), and one that has not need not
//! pretend. Called by the uploader; the way from parts to an object is in [`MultipartStore`].
//!
//! # Contract
//! - Nothing of an upload can be seen under its key before `complete`, which replaces the object
//!   in one step: an upload cannot be seen half.
//! - An upload lasts until it is completed or aborted, across crashes of both sides, and it costs
//!   storage for as long: whoever creates one writes down its id first, or sweeps.
//! - What a part holds is known when its `put_part` returned `Ok`. A part may be put again; the
//!   last one counts.

use crate::{
    ETag, ObjectKey, PageToken, PutCondition, PutId, PutReceipt, StoreError, StoreErrorKind,
    StoreResult, store::BoxFuture,
};
use bytes::Bytes;
use std::{fmt, fmt::Debug, time::Duration};

/// The highest number of a part; the lowest is 1.
pub const PART_NUMBER_MAX: u32 = 10_000;

/// Uploads in parts. `part_min` and the like are in [`PartLimits`].
pub trait MultipartStore: Send + Sync + Debug {
    /// Begins an upload for `key`. An unknown outcome may leave an upload that nobody knows:
    /// [`MultipartStore::list_uploads`] finds it.
    fn create<'a>(
        &'a self,
        key: &'a ObjectKey,
        options: UploadOptions,
    ) -> BoxFuture<'a, StoreResult<Upload>>;

    /// Stores part `number`, replacing it if it is there. Fails with
    /// [`NoSuchUpload`](crate::StoreErrorKind::NoSuchUpload) after the end of the upload.
    fn put_part<'a>(
        &'a self,
        upload: &'a Upload,
        number: u32,
        body: Bytes,
    ) -> BoxFuture<'a, StoreResult<PartReceipt>>;

    /// Makes the object from these parts, in the order of their numbers, if the condition holds;
    /// durable when it returns `Ok`, and the upload is over then. The receipt's checksum is that
    /// of the whole, computed from those of the parts.
    ///
    /// Fails with [`InvalidPart`](crate::StoreErrorKind::InvalidPart) if a part is not there, is
    /// not the one named, or is too short and not the last; the numbers must rise, and there must
    /// be one. Fails with [`NoSuchUpload`](crate::StoreErrorKind::NoSuchUpload) if the upload has
    /// ended, perhaps by a complete of one's own whose answer was lost: read the object back.
    fn complete<'a>(
        &'a self,
        upload: &'a Upload,
        parts: &'a [PartReceipt],
        condition: PutCondition,
    ) -> BoxFuture<'a, StoreResult<PutReceipt>>;

    /// Ends an upload and drops its parts; `Ok` also if there is none, so that it can be repeated.
    /// A part that is being stored meanwhile may stay: abort again once it has ended.
    fn abort<'a>(&'a self, upload: &'a Upload) -> BoxFuture<'a, StoreResult<()>>;

    /// The parts with a number above `after`, ordered by number, at most `limit` (at least 1 is
    /// assumed) and perhaps fewer; go on with [`PartPage::next`]. Fails with
    /// [`NoSuchUpload`](crate::StoreErrorKind::NoSuchUpload) after the end of the upload.
    fn list_parts<'a>(
        &'a self,
        upload: &'a Upload,
        after: Option<u32>,
        limit: usize,
    ) -> BoxFuture<'a, StoreResult<PartPage>>;

    /// Uploads under way whose key starts with `prefix`, in no particular order, at most `limit`
    /// (at least 1 is assumed) and perhaps fewer; go on with [`UploadPage::next`].
    fn list_uploads<'a>(
        &'a self,
        prefix: &'a str,
        after: Option<&'a PageToken>,
        limit: usize,
    ) -> BoxFuture<'a, StoreResult<UploadPage>>;
}

/// What a store takes as parts, in bytes and numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct PartLimits {
    /// The shortest part, but for the last one, which may have any length.
    pub part_min: u64,
    /// The longest part.
    pub part_max: u64,
    /// The most parts of one object.
    pub parts_max: u32,
}

impl PartLimits {
    /// Those of S3: 5 MiB to 5 GiB, and 10,000 parts.
    pub const S3: Self = Self { part_min: 5 << 20, part_max: 5 << 30, parts_max: PART_NUMBER_MAX };

    /// The same limits with another shortest part.
    #[must_use]
    pub const fn with_part_min(mut self, part_min: u64) -> Self {
        self.part_min = part_min;
        self
    }
}

/// How an upload begins. What a put takes along, but for the condition, which is told at its end.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct UploadOptions {
    /// The mark of this put; see [`crate::PutOptions::put_id`].
    pub put_id: Option<PutId>,
}

impl UploadOptions {
    /// The same, marked with the id of this put.
    #[must_use]
    pub fn with_put_id(mut self, put_id: PutId) -> Self {
        self.put_id = Some(put_id);
        self
    }
}

/// An upload under way: what must be written down to finish or abort it after a crash.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Upload {
    /// The object to be.
    pub key: ObjectKey,
    /// The store's name for the upload.
    pub id: UploadId,
}

/// A store's name for an upload; opaque, and never the same for two uploads.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct UploadId(String);

impl UploadId {
    /// Wraps what a store gave, or what was written down.
    pub fn new(id: impl Into<String>) -> Self {
        Self(id.into())
    }

    /// The id as the store gave it.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Debug for UploadId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "UploadId({})", self.0)
    }
}

/// A part that was stored. The checksum is computed here, from the bytes that were handed over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartReceipt {
    /// 1 to [`PART_NUMBER_MAX`].
    pub number: u32,
    /// Length in bytes.
    pub len: u64,
    /// CRC-32 (IEEE) of the part.
    pub crc32: u32,
    /// The tag of the part, to be handed back to [`MultipartStore::complete`].
    pub etag: ETag,
}

impl PartReceipt {
    /// For implementations of stores.
    pub fn new(number: u32, body: &[u8], etag: ETag) -> Self {
        Self { number, len: body.len() as u64, crc32: crc32fast::hash(body), etag }
    }
}

/// Length and CRC-32 of the object that parts make, in this order, without their bytes.
pub fn joined(parts: &[PartReceipt]) -> (u64, u32) {
    let mut sum = crc32fast::Hasher::new();
    let mut len = 0_u64;
    for part in parts {
        sum.combine(&crc32fast::Hasher::new_with_initial_len(part.crc32, part.len));
        // A store refuses objects far below this.
        len = len.saturating_add(part.len);
    }
    (len, sum.finalize())
}

/// The answer about an upload that has ended; for implementations of stores.
pub(crate) fn ended(upload: &Upload) -> StoreError {
    StoreError::not_done(StoreErrorKind::NoSuchUpload, &upload.key)
}

/// The answer about a part that will not do; for implementations of stores.
pub(crate) fn bad_part(key: &ObjectKey, detail: String) -> StoreError {
    StoreError::not_done(StoreErrorKind::InvalidPart, key).with_source(detail)
}

/// Checks what any store may check of a list of parts: that there is one, and that numbers rise.
pub(crate) fn check_order(key: &ObjectKey, parts: &[PartReceipt]) -> StoreResult<()> {
    if parts.is_empty() {
        return Err(bad_part(key, "an object needs a part at least".to_owned()));
    }
    if parts.windows(2).all(|pair| matches!(pair, [a, b] if a.number < b.number)) {
        return Ok(());
    }
    Err(bad_part(key, "the numbers of the parts must rise".to_owned()))
}

/// Checks the number of a part.
pub(crate) fn check_number(key: &ObjectKey, number: u32) -> StoreResult<()> {
    if (1..=PART_NUMBER_MAX).contains(&number) {
        return Ok(());
    }
    Err(bad_part(key, format!("part {number} is not one of 1 to {PART_NUMBER_MAX}")))
}

/// A part as a store lists it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ListedPart {
    /// Its number.
    pub number: u32,
    /// Its length in bytes.
    pub len: u64,
    /// Its tag.
    pub etag: ETag,
}

impl ListedPart {
    /// For implementations of stores.
    pub fn new(number: u32, len: u64, etag: ETag) -> Self {
        Self { number, len, etag }
    }
}

/// Some parts of an upload.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct PartPage {
    /// Ordered by number.
    pub parts: Vec<ListedPart>,
    /// After which number to go on; `None` at the end.
    pub next: Option<u32>,
}

impl PartPage {
    /// For implementations of stores.
    pub fn new(parts: Vec<ListedPart>, next: Option<u32>) -> Self {
        Self { parts, next }
    }
}

/// An upload as a store lists it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ListedUpload {
    /// What it is.
    pub upload: Upload,
    /// How long ago it began, by the store's own clock; see [`crate::ListedObject::age`].
    pub age: Option<Duration>,
}

impl ListedUpload {
    /// For implementations of stores.
    pub fn new(upload: Upload, age: Option<Duration>) -> Self {
        Self { upload, age }
    }
}

/// Some uploads under way.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct UploadPage {
    /// The uploads.
    pub uploads: Vec<ListedUpload>,
    /// Where to go on; `None` at the end.
    pub next: Option<PageToken>,
}

impl UploadPage {
    /// For implementations of stores.
    pub fn new(uploads: Vec<ListedUpload>, next: Option<PageToken>) -> Self {
        Self { uploads, next }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn the_checksum_of_the_whole_follows_from_those_of_the_parts(
            bodies in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 0..6),
        ) {
            let receipt = |(number, body): (u32, &Vec<u8>)| {
                PartReceipt::new(number, body, ETag::new(""))
            };
            let parts: Vec<_> = (1..).zip(&bodies).map(receipt).collect();
            let whole = bodies.concat();
            prop_assert_eq!(joined(&parts), (whole.len() as u64, crc32fast::hash(&whole)));
        }
    }
}
