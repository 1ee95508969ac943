//! An object store that misbehaves on request, over one in memory.

use akidb::tiering::{
    BoxFuture, Capabilities, Head, ListPage, MemoryStore, Object, ObjectKey, ObjectStore,
    PageToken, PutOptions, PutReceipt, StoreError, StoreErrorKind, StoreResult,
};
use bytes::Bytes;
use parking_lot::Mutex;
use std::ops::Range;

/// How the store misbehaves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Mischief {
    /// Not at all.
    #[default]
    None,
    /// A put keeps other bytes than it was given, and says it went well.
    PutKeepsOtherBytes,
    /// A put keeps only the first half, and says it went well.
    PutKeepsHalf,
    /// A put is refused.
    PutFails,
    /// A put is done, and its answer lost.
    PutAnswerLost,
    /// A get returns other bytes than are kept.
    GetReturnsOtherBytes,
    /// A get fails for now.
    GetFails,
    /// An object is not there, though it was put.
    GetFindsNothing,
    /// A head fails for now.
    HeadFails,
    /// A delete fails for now.
    DeleteFails,
}

/// What the store is about to do.
#[derive(Debug, Default)]
struct Plan {
    mischief: Mischief,
    /// Calls that could fail so and still go well.
    spared: u64,
    once: bool,
    fired: u64,
}

/// A store in memory that does mischief.
#[derive(Debug, Default)]
pub struct FaultStore {
    inner: MemoryStore,
    plan: Mutex<Plan>,
}

impl FaultStore {
    /// From now on, until told otherwise.
    pub fn set(&self, mischief: Mischief) {
        self.arm(mischief, 1, true);
    }

    /// From the `nth` call on that can go wrong so (1 is the next), or at that one alone.
    pub fn arm(&self, mischief: Mischief, nth: u64, sticky: bool) {
        let mut plan = self.plan.lock();
        let spared = nth.saturating_sub(1);
        *plan = Plan { mischief, spared, once: !sticky, fired: plan.fired };
    }

    /// How many calls went wrong on request.
    pub fn fired(&self) -> u64 {
        self.plan.lock().fired
    }

    fn does(&self, mischief: Mischief) -> bool {
        let mut plan = self.plan.lock();
        if plan.mischief != mischief {
            return false;
        }
        if plan.spared > 0 {
            plan.spared -= 1;
            return false;
        }
        plan.fired += 1;
        if plan.once {
            plan.mischief = Mischief::None;
        }
        true
    }

    fn check_read(&self, key: &ObjectKey) -> StoreResult<()> {
        if self.does(Mischief::GetFails) {
            return Err(unavailable(key));
        }
        if self.does(Mischief::GetFindsNothing) {
            return Err(StoreError::not_done(StoreErrorKind::NotFound, key));
        }
        Ok(())
    }

    /// How many objects there are.
    ///
    /// # Panics
    /// Never: a store in memory lists.
    pub fn objects(&self) -> usize {
        let page = futures_lite::future::block_on(self.inner.list("", None, usize::MAX));
        let objects = page.expect("memory lists").objects;
        objects.iter().filter(|object| object.key.as_str().ends_with(".parquet")).count()
    }
}

fn flipped(body: &Bytes) -> Bytes {
    let mut bytes = body.to_vec();
    let middle = bytes.len() / 2;
    if let Some(byte) = bytes.get_mut(middle) {
        *byte ^= 1;
    }
    bytes.into()
}

fn unavailable(key: &ObjectKey) -> StoreError {
    StoreError::not_done(StoreErrorKind::Unavailable, key)
}

impl ObjectStore for FaultStore {
    fn put<'a>(
        &'a self,
        key: &'a ObjectKey,
        body: Bytes,
        options: PutOptions,
    ) -> BoxFuture<'a, StoreResult<PutReceipt>> {
        Box::pin(async move {
            if self.does(Mischief::PutFails) {
                return Err(unavailable(key));
            }
            let kept = if self.does(Mischief::PutKeepsOtherBytes) {
                flipped(&body)
            } else if self.does(Mischief::PutKeepsHalf) {
                body.slice(..body.len() / 2)
            } else {
                body.clone()
            };
            let receipt = self.inner.put(key, kept, options).await?;
            if self.does(Mischief::PutAnswerLost) {
                return Err(StoreError::unknown(StoreErrorKind::Unavailable, key));
            }
            Ok(PutReceipt::new(&body, receipt.etag))
        })
    }

    fn get<'a>(&'a self, key: &'a ObjectKey) -> BoxFuture<'a, StoreResult<Object>> {
        Box::pin(async move {
            self.check_read(key)?;
            let object = self.inner.get(key).await?;
            if self.does(Mischief::GetReturnsOtherBytes) {
                return Ok(Object::new(flipped(&object.body), object.head.etag));
            }
            Ok(object)
        })
    }

    fn get_ranges<'a>(
        &'a self,
        key: &'a ObjectKey,
        ranges: &'a [Range<u64>],
    ) -> BoxFuture<'a, StoreResult<Vec<Bytes>>> {
        Box::pin(async move {
            self.check_read(key)?;
            let mut parts = self.inner.get_ranges(key, ranges).await?;
            if self.does(Mischief::GetReturnsOtherBytes) {
                parts = parts.iter().map(flipped).collect();
            }
            Ok(parts)
        })
    }

    fn head<'a>(&'a self, key: &'a ObjectKey) -> BoxFuture<'a, StoreResult<Head>> {
        Box::pin(async move {
            if self.does(Mischief::HeadFails) {
                return Err(unavailable(key));
            }
            self.inner.head(key).await
        })
    }

    fn delete<'a>(&'a self, key: &'a ObjectKey) -> BoxFuture<'a, StoreResult<()>> {
        Box::pin(async move {
            if self.does(Mischief::DeleteFails) {
                return Err(unavailable(key));
            }
            self.inner.delete(key).await
        })
    }

    fn list<'a>(
        &'a self,
        prefix: &'a str,
        after: Option<&'a PageToken>,
        limit: usize,
    ) -> BoxFuture<'a, StoreResult<ListPage>> {
        self.inner.list(prefix, after, limit)
    }

    /// Ranges, and nothing else that a caller could rely on.
    fn capabilities(&self) -> Capabilities {
        let mut can = Capabilities::default();
        can.ranges = true;
        can
    }
}
