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
//! - What not every store can do is told by [`ObjectStore::capabilities`], before it is relied on.
//!
//! # Why futures, and whose runtime
//! A demotion has many requests of 20 ms and more under way at a time, which costs a thread each
//! if calls block. The futures need no runtime of their caller's: the stores in memory and in a
//! directory finish in the first poll, and a store over a network drives its sockets on a thread
//! of its own. So the blocking engine waits with any executor, and the uploader polls hundreds.
//!
//! # Not here
//! Retries, batching of parts, deadlines and metrics are layers over a store, themselves
//! [`ObjectStore`]s. An [`ETag`] is a token to compare, never a checksum.

use crate::{Capabilities, MultipartStore, ObjectKey, StoreError, StoreErrorKind};
use bytes::Bytes;
use std::{fmt, fmt::Debug, future::Future, ops::Range, pin::Pin, str::FromStr, time::Duration};

/// A boxed future, so that [`ObjectStore`] can be used as `dyn`.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// A result of an object store.
pub type StoreResult<T> = Result<T, StoreError>;

/// An object store. Cheap to share. Any executor may drive its futures, a blocking one included.
///
/// A wrapper that does not hand on [`ObjectStore::capabilities`] and [`ObjectStore::multipart`]
/// promises less than what it wraps, never more.
pub trait ObjectStore: Send + Sync + Debug {
    /// Stores an object under `key`, replacing any, if the condition in `options` holds. Durable
    /// when it returns `Ok`. Fails with [`StoreErrorKind::PreconditionFailed`], changing nothing,
    /// if the condition does not hold; `IfMatch` on a missing object is such a failure. A
    /// condition that [`ObjectStore::capabilities`] does not promise fails with
    /// [`StoreErrorKind::Unsupported`], or is carried out by a store that never probed it.
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

    /// Length, checksum and tag of an object as it is stored, and durable, now. A store that
    /// cannot tell the checksum ([`Capabilities::checksums`]) reads the object to compute it.
    fn head<'a>(&'a self, key: &'a ObjectKey) -> BoxFuture<'a, StoreResult<Head>>;

    /// Removes an object; `Ok` also if there is none, so that a delete can be repeated.
    fn delete<'a>(&'a self, key: &'a ObjectKey) -> BoxFuture<'a, StoreResult<()>>;

    /// Removes many objects: one result for each key, in their order, each as from
    /// [`ObjectStore::delete`]. By default one call after another; stores with
    /// [`Capabilities::batch_delete`] send many keys in one request.
    fn delete_many<'a>(&'a self, keys: &'a [ObjectKey]) -> BoxFuture<'a, Vec<StoreResult<()>>> {
        Box::pin(async move {
            let mut results = Vec::with_capacity(keys.len());
            for key in keys {
                results.push(self.delete(key).await);
            }
            results
        })
    }

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

    /// Uploads in parts; `None` (the default) where there are none, so that a caller puts objects
    /// whole.
    fn multipart(&self) -> Option<&dyn MultipartStore> {
        None
    }

    /// What this store can do beyond the plain verbs, as its implementation guarantees or as a
    /// probe found out. By default nothing: what is not promised must not be relied on.
    fn capabilities(&self) -> Capabilities {
        Capabilities::default()
    }
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
    /// A mark of this put, the same over all its retries, which [`Head::put_id`] shows where the
    /// store has [`Capabilities::put_ids`]: it tells one's own put, whose answer was lost, from
    /// another's of the same bytes. Default: none.
    pub put_id: Option<PutId>,
}

impl PutOptions {
    /// Creates the object, or fails if one exists.
    pub fn if_absent() -> Self {
        Self { condition: PutCondition::IfAbsent, ..Self::default() }
    }

    /// Replaces the object that has this tag, or fails.
    pub fn if_match(etag: ETag) -> Self {
        Self { condition: PutCondition::IfMatch(etag), ..Self::default() }
    }

    /// The same, marked with the id of this put.
    #[must_use]
    pub fn with_put_id(mut self, put_id: PutId) -> Self {
        self.put_id = Some(put_id);
        self
    }
}

/// The mark of one put: random, and written as 32 hexadecimal digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PutId(u128);

impl PutId {
    /// Wraps random bits.
    pub const fn new(bits: u128) -> Self {
        Self(bits)
    }

    /// The bits.
    pub const fn bits(self) -> u128 {
        self.0
    }
}

impl fmt::Display for PutId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl FromStr for PutId {
    type Err = std::num::ParseIntError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        u128::from_str_radix(text, 16).map(Self)
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
        Self::of(body.len() as u64, crc32fast::hash(body), etag)
    }

    /// For implementations of stores that know length and checksum already.
    pub fn of(len: u64, crc32: u32, etag: ETag) -> Self {
        Self { len, crc32, etag }
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
    /// The mark that the put was given, where the store keeps it.
    pub put_id: Option<PutId>,
}

impl Head {
    /// For implementations of stores.
    pub fn new(len: u64, crc32: u32, etag: ETag) -> Self {
        Self { len, crc32, etag, put_id: None }
    }

    /// The same, with the mark of its put.
    #[must_use]
    pub fn with_put_id(mut self, put_id: Option<PutId>) -> Self {
        self.put_id = put_id;
        self
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
    /// How long ago it was put, both times by the store's own clock, so that no clock of ours can
    /// make an object look old; `None` where the store lacks [`Capabilities::ages`].
    pub age: Option<Duration>,
}

impl ListedObject {
    /// For implementations of stores.
    pub fn new(key: ObjectKey, len: u64) -> Self {
        Self { key, len, age: None }
    }

    /// The same, with its age by the store's clock.
    #[must_use]
    pub fn with_age(mut self, age: Option<Duration>) -> Self {
        self.age = age;
        self
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
