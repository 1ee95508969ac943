//! Objects in memory: for tests, examples and databases that are meant to vanish. "Durable" here
//! means for as long as the value lives. Parts have the limits of S3, so that an uploader that
//! passes here passes there.

use crate::{
    Capabilities, ETag, Head, ListPage, ListedObject, MultipartStore, Object, ObjectKey,
    ObjectStore, PageToken, PartLimits, PutCondition, PutId, PutOptions, PutReceipt, StoreError,
    StoreErrorKind, StoreResult,
    store::{BoxFuture, checked_range},
};
use akidb_vfs::Clock;
use bytes::Bytes;
use parking_lot::Mutex;
use std::{collections::BTreeMap, ops::Bound, ops::Range, sync::Arc, time::Duration};

mod uploads;

/// An object store in memory.
///
/// It can be told to lack what servers lack, so that a program is tried against it without one:
///
/// ```
/// use akidb_tiering::{Conditions, MemoryStore, ObjectStore};
/// let store = MemoryStore::new().with_conditions(Conditions::Refused).without_parts();
/// assert!(store.capabilities().require_multi_writer().is_err());
/// assert!(store.multipart().is_none());
/// ```
#[derive(Debug, Default)]
pub struct MemoryStore(Mutex<State>);

/// What a [`MemoryStore`] does about the condition of a put, or of the end of an upload in parts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Conditions {
    /// It holds.
    #[default]
    Hold,
    /// A put with a condition is refused as unsupported, and has no effect: shows who asks for what
    /// the store says it lacks.
    Refused,
    /// It is not looked at, and the store says that it holds, as several servers that speak S3 do:
    /// what [`probe`](crate::probe()) is for.
    Ignored,
}

#[derive(Debug, Default)]
struct State {
    objects: BTreeMap<ObjectKey, Stored>,
    uploads: BTreeMap<String, uploads::Pending>,
    /// Tells ages, if there is one.
    clock: Option<Arc<dyn Clock>>,
    /// The shortest part; that of S3, unless a test wants small ones.
    part_min: Option<u64>,
    /// Objects are put whole.
    without_parts: bool,
    conditions: Conditions,
    /// Puts, parts and uploads so far: each gets a tag of its own, as on a store with versions.
    made: u64,
}

#[derive(Clone, Debug)]
struct Stored {
    body: Bytes,
    etag: ETag,
    put_id: Option<PutId>,
    put_at: Option<Duration>,
}

impl Stored {
    fn object(self) -> Object {
        let mut object = Object::new(self.body, self.etag);
        object.head.put_id = self.put_id;
        object
    }
}

impl State {
    fn now(&self) -> Option<Duration> {
        self.clock.as_ref().map(|clock| clock.monotonic())
    }

    fn limits(&self) -> PartLimits {
        let limits = PartLimits::S3;
        limits.with_part_min(self.part_min.unwrap_or(limits.part_min))
    }

    /// How long ago something was made.
    fn age(&self, made_at: Option<Duration>) -> Option<Duration> {
        Some(self.now()?.saturating_sub(made_at?))
    }

    fn next(&mut self) -> u64 {
        self.made += 1;
        self.made
    }

    /// Stores an object if the condition holds, and returns its tag.
    fn store(
        &mut self,
        key: &ObjectKey,
        body: Bytes,
        condition: &PutCondition,
        put_id: Option<PutId>,
    ) -> StoreResult<ETag> {
        let current = self.objects.get(key).map(|stored| &stored.etag);
        let holds = match (self.conditions, condition) {
            (_, PutCondition::Any) | (Conditions::Ignored, _) => true,
            (Conditions::Refused, _) => {
                return Err(StoreError::not_done(StoreErrorKind::Unsupported, key));
            }
            (Conditions::Hold, PutCondition::IfAbsent) => current.is_none(),
            (Conditions::Hold, PutCondition::IfMatch(etag)) => current == Some(etag),
        };
        if !holds {
            return Err(StoreError::not_done(StoreErrorKind::PreconditionFailed, key));
        }
        let etag = ETag::new(format!("\"{}\"", self.next()));
        let put_at = self.now();
        self.objects.insert(key.clone(), Stored { body, etag: etag.clone(), put_id, put_at });
        Ok(etag)
    }
}

impl MemoryStore {
    /// An empty store.
    pub fn new() -> Self {
        Self::default()
    }

    /// An empty store that tells ages by this clock.
    pub fn with_clock(clock: Arc<dyn Clock>) -> Self {
        Self(Mutex::new(State { clock: Some(clock), ..State::default() }))
    }

    /// The same store, which takes parts of this length and more, instead of S3's 5 MiB: a test that
    /// uploads many objects in parts need not move megabytes.
    #[must_use]
    pub fn with_part_min(self, bytes: u64) -> Self {
        self.0.lock().part_min = Some(bytes);
        self
    }

    /// The same store, which does this about conditions, and says so in its capabilities.
    #[must_use]
    pub fn with_conditions(self, conditions: Conditions) -> Self {
        self.0.lock().conditions = conditions;
        self
    }

    /// The same store, to which objects are put whole.
    #[must_use]
    pub fn without_parts(self) -> Self {
        self.0.lock().without_parts = true;
        self
    }

    fn stored(&self, key: &ObjectKey) -> StoreResult<Stored> {
        let found = self.0.lock().objects.get(key).cloned();
        found.ok_or_else(|| StoreError::not_done(StoreErrorKind::NotFound, key))
    }

    fn put_now(
        &self,
        key: &ObjectKey,
        body: &Bytes,
        options: &PutOptions,
    ) -> StoreResult<PutReceipt> {
        let PutOptions { condition, put_id } = options;
        let etag = self.0.lock().store(key, body.clone(), condition, *put_id)?;
        Ok(PutReceipt::new(body, etag))
    }

    fn get_ranges_now(&self, key: &ObjectKey, ranges: &[Range<u64>]) -> StoreResult<Vec<Bytes>> {
        let body = self.stored(key)?.body;
        let part = |range: &Range<u64>| {
            let range = checked_range(key, range, body.len() as u64)?;
            // Within the body's length, which is a usize.
            Ok(body.slice(range.start as usize..range.end as usize))
        };
        ranges.iter().map(part).collect()
    }

    fn list_now(&self, prefix: &str, after: Option<&PageToken>, limit: usize) -> ListPage {
        let state = self.0.lock();
        let start = match after {
            Some(token) if token.as_str() >= prefix => Bound::Excluded(token.as_str()),
            _ => Bound::Included(prefix),
        };
        let mut matching = state
            .objects
            .range::<str, _>((start, Bound::Unbounded))
            .take_while(|(key, _)| key.as_str().starts_with(prefix))
            .map(|(key, stored)| {
                let len = stored.body.len() as u64;
                ListedObject::new(key.clone(), len).with_age(state.age(stored.put_at))
            });
        let objects: Vec<_> = matching.by_ref().take(limit.max(1)).collect();
        let more = matching.next().is_some();
        let last = objects.last().map(|object| PageToken::new(object.key.as_str()));
        ListPage::new(objects, last.filter(|_| more))
    }
}

impl ObjectStore for MemoryStore {
    fn put<'a>(
        &'a self,
        key: &'a ObjectKey,
        body: Bytes,
        options: PutOptions,
    ) -> BoxFuture<'a, StoreResult<PutReceipt>> {
        Box::pin(async move { self.put_now(key, &body, &options) })
    }

    fn get<'a>(&'a self, key: &'a ObjectKey) -> BoxFuture<'a, StoreResult<Object>> {
        Box::pin(async move { self.stored(key).map(Stored::object) })
    }

    fn get_ranges<'a>(
        &'a self,
        key: &'a ObjectKey,
        ranges: &'a [Range<u64>],
    ) -> BoxFuture<'a, StoreResult<Vec<Bytes>>> {
        Box::pin(async move { self.get_ranges_now(key, ranges) })
    }

    fn head<'a>(&'a self, key: &'a ObjectKey) -> BoxFuture<'a, StoreResult<Head>> {
        Box::pin(async move { self.stored(key).map(|stored| stored.object().head) })
    }

    fn delete<'a>(&'a self, key: &'a ObjectKey) -> BoxFuture<'a, StoreResult<()>> {
        Box::pin(async move {
            self.0.lock().objects.remove(key);
            Ok(())
        })
    }

    fn list<'a>(
        &'a self,
        prefix: &'a str,
        after: Option<&'a PageToken>,
        limit: usize,
    ) -> BoxFuture<'a, StoreResult<ListPage>> {
        Box::pin(async move { Ok(self.list_now(prefix, after, limit)) })
    }

    fn multipart(&self) -> Option<&dyn MultipartStore> {
        let without = self.0.lock().without_parts;
        if without { None } else { Some(self) }
    }

    fn capabilities(&self) -> Capabilities {
        let state = self.0.lock();
        let holds = state.conditions != Conditions::Refused;
        Capabilities {
            if_absent: holds,
            if_match: holds,
            ages: state.clock.is_some(),
            parts: Some(state.limits()).filter(|_| !state.without_parts),
            conditional_complete: holds && !state.without_parts,
            ..Capabilities::ALL_BUT_AGES
        }
    }
}
