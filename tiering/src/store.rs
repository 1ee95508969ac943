//! The trait of object stores. Its documentation is the contract: [`crate::contract`] checks it,
//! and demotion, manifests and garbage collection rely on it.
//!
//! # Contract
//! - An object is put whole and read whole or by ranges; nobody ever sees half of one.
//! - `put` returns `Ok` only when the object is durable: it survives the loss of power.
//! - After an `Ok` every later `get`, `head` and conditional `put` sees the object.
//! - An error says whether the call may have happened ([`crate::Outcome`]). After
//!   [`crate::Outcome::Unknown`] the caller reads back with `head`, and compares length and
//!   checksum; what `head` reports is durable too.
//! - Futures do nothing before their first poll. Dropping one midway is an unknown outcome.
//!
//! # Not here
//! Retries, batching of parts, deadlines and metrics are layers over a store, themselves
//! [`ObjectStore`]s. An [`ETag`] is a token to compare, never a checksum.

use crate::{ObjectKey, StoreError, StoreErrorKind};
use bytes::Bytes;
use std::{fmt, fmt::Debug, future::Future, ops::Range, pin::Pin};

/// A boxed future, so that [`ObjectStore`] can be used as `dyn`.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// A result of an object store.
pub type StoreResult<T> = Result<T, StoreError>;

/// An object store. Cheap to share.
///
/// The stores of this crate finish their work in the first poll, so blocking callers may drive
/// them with any executor; stores over a network name the runtime they need.
pub trait ObjectStore: Send + Sync + Debug {
    /// Stores an object under `key`, replacing any, if the condition in `options` holds. Durable
    /// when it returns `Ok`. Fails with [`StoreErrorKind::PreconditionFailed`], changing nothing,
    /// if the condition does not hold; `IfMatch` on a missing object is such a failure.
    fn put<'a>(
        &'a self,
        key: &'a ObjectKey,
        body: Bytes,
        options: PutOptions,
    ) -> BoxFuture<'a, StoreResult<PutReceipt>>;

    /// The whole object. Fails with [`StoreErrorKind::NotFound`] if there is none.
    fn get<'a>(&'a self, key: &'a ObjectKey) -> BoxFuture<'a, StoreResult<Object>>;

    /// Parts of an object, in the order asked for, all of one version of it. Ranges may overlap
    /// and be empty; one that ends before it starts or beyond the object fails the call with
    /// [`StoreErrorKind::InvalidRange`]. Parts carry no checksum: callers verify their own.
    fn get_ranges<'a>(
        &'a self,
        key: &'a ObjectKey,
        ranges: &'a [Range<u64>],
    ) -> BoxFuture<'a, StoreResult<Vec<Bytes>>>;

    /// Length, checksum and tag of an object as it is stored, and durable, now.
    fn head<'a>(&'a self, key: &'a ObjectKey) -> BoxFuture<'a, StoreResult<Head>>;

    /// Removes an object; `Ok` also if there is none, so that a delete can be repeated.
    fn delete<'a>(&'a self, key: &'a ObjectKey) -> BoxFuture<'a, StoreResult<()>>;

    /// Objects whose key starts with the text `prefix`, ordered by the key's bytes. A page holds
    /// at most `limit` (at least 1 is assumed) and may hold fewer; go on with [`ListPage::next`].
    /// Objects put or removed meanwhile may or may not show. For garbage collection and tools:
    /// what exists is decided by manifests.
    fn list<'a>(
        &'a self,
        prefix: &'a str,
        after: Option<&'a PageToken>,
        limit: usize,
    ) -> BoxFuture<'a, StoreResult<ListPage>>;
}

/// When a put may replace what is there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum PutCondition {
    /// Always.
    #[default]
    Any,
    /// Only if there is no object under the key.
    IfAbsent,
    /// Only if the object there has this tag.
    IfMatch(ETag),
}

/// How an object is put.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct PutOptions {
    /// When the put may replace what is there. Default: always.
    pub condition: PutCondition,
}

impl PutOptions {
    /// Creates the object, or fails if one exists.
    pub fn if_absent() -> Self {
        Self { condition: PutCondition::IfAbsent }
    }

    /// Replaces the object that has this tag, or fails.
    pub fn if_match(etag: ETag) -> Self {
        Self { condition: PutCondition::IfMatch(etag) }
    }
}

/// An opaque token of one version of an object, kept exactly as the store gave it (quotes
/// included), to be handed back in [`PutCondition::IfMatch`].
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct ETag(String);

impl ETag {
    /// Wraps what a store gave; for implementations of stores.
    pub fn new(token: impl Into<String>) -> Self {
        Self(token.into())
    }

    /// The token as the store gave it.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Debug for ETag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ETag({})", self.0)
    }
}

/// What a put stored. The checksum is computed here, from the bytes that were handed over.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct PutReceipt {
    /// Length in bytes.
    pub len: u64,
    /// CRC-32 (IEEE) of the body.
    pub crc32: u32,
    /// The tag of this version.
    pub etag: ETag,
}

impl PutReceipt {
    /// For implementations of stores.
    pub fn new(body: &[u8], etag: ETag) -> Self {
        Self { len: body.len() as u64, crc32: crc32fast::hash(body), etag }
    }
}

/// What is known of a stored object. The checksum is that of the stored bytes, never merely what
/// the put claimed: whoever deletes another copy relies on it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Head {
    /// Length in bytes.
    pub len: u64,
    /// CRC-32 (IEEE) of the whole object.
    pub crc32: u32,
    /// The tag of this version.
    pub etag: ETag,
}

impl Head {
    /// For implementations of stores.
    pub fn new(len: u64, crc32: u32, etag: ETag) -> Self {
        Self { len, crc32, etag }
    }
}

/// A whole object.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Object {
    /// Its bytes.
    pub body: Bytes,
    /// The length and checksum of `body`, and its tag.
    pub head: Head,
}

impl Object {
    /// For implementations of stores: takes length and checksum from the bytes that were read.
    pub fn new(body: Bytes, etag: ETag) -> Self {
        let head = Head::new(body.len() as u64, crc32fast::hash(&body), etag);
        Self { body, head }
    }
}

/// Where a listing goes on; opaque.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PageToken(String);

impl PageToken {
    /// Wraps a store's own token; for implementations of stores.
    pub fn new(token: impl Into<String>) -> Self {
        Self(token.into())
    }

    /// The store's own token; for implementations of stores.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// One object of a listing.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ListedObject {
    /// Its key.
    pub key: ObjectKey,
    /// Its length in bytes.
    pub len: u64,
}

impl ListedObject {
    /// For implementations of stores.
    pub fn new(key: ObjectKey, len: u64) -> Self {
        Self { key, len }
    }
}

/// A part of a listing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ListPage {
    /// Some objects, ordered by key.
    pub objects: Vec<ListedObject>,
    /// Where to go on; `None` at the end.
    pub next: Option<PageToken>,
}

impl ListPage {
    /// For implementations of stores.
    pub fn new(objects: Vec<ListedObject>, next: Option<PageToken>) -> Self {
        Self { objects, next }
    }
}

/// Gets an object and checks that it is the one a manifest names; otherwise
/// [`StoreErrorKind::Corrupt`]. This is the only way data leaves a store for the engine.
pub async fn get_verified(
    store: &dyn ObjectStore,
    key: &ObjectKey,
    len: u64,
    crc32: u32,
) -> StoreResult<Bytes> {
    let Object { body, head } = store.get(key).await?;
    if head.len == len && head.crc32 == crc32 {
        return Ok(body);
    }
    let found = format!(
        "expected {len} bytes with CRC-32 {crc32:08x}, found {} with {:08x}",
        head.len, head.crc32
    );
    Err(StoreError::not_done(StoreErrorKind::Corrupt, key).with_source(found))
}

/// Checks a range against an object's length; for implementations of stores.
pub(crate) fn checked_range(
    key: &ObjectKey,
    range: &Range<u64>,
    len: u64,
) -> StoreResult<Range<u64>> {
    if range.start <= range.end && range.end <= len {
        return Ok(range.clone());
    }
    let detail = format!("bytes {}..{} of {len}", range.start, range.end);
    Err(StoreError::not_done(StoreErrorKind::InvalidRange, key).with_source(detail))
}
