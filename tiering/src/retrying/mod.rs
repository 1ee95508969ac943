//! A store that tries again: any other store with retries, a circuit breaker and an adaptive limit of
//! requests in front of it.
//!
//! Owns the order of these three and the settlement of doubts: a try whose outcome is unknown is
//! looked at before the next one is made. Never changes what a call means, and promises what the
//! store behind it promises. Called by the uploader and the engine; one per endpoint.
//!
//! # Protocol of a call
//! 1. Wait for one's turn (`limit`), then ask the breaker; if that is open, fail at once.
//! 2. Make the call. What came of it is told to the breaker and to the limit.
//! 3. After a failure with an unknown outcome, or a refusal that one's own lost try may have caused,
//!    read back: if the change is there, it was made.
//! 4. If the failure is transient, pause without holding one's turn, and begin again (`retry`).
//!
//! # Invariants
//! - A permanent failure reaches the caller after one try.
//! - If any try of a change had an unknown outcome that reading back did not settle, so has the
//!   call, whatever the last try said.
//! - Every put carries a mark ([`PutId`]), the same over all its tries.

use crate::{
    BoxFuture, BreakerOpen, BreakerSettings, BreakerStats, Capabilities, CircuitBreaker, Head,
    ListPage, MultipartStore, Object, ObjectKey, ObjectStore, Outcome, PageToken, PutId,
    PutOptions, PutReceipt, RetryPolicy, Sleep, StoreError, StoreErrorKind, StoreResult,
    TimerSleep, limit::AdaptiveLimit, retry::RetryBudget, verified::is_this_put,
};
use akidb_vfs::{Clock, Random, SystemClock, SystemRandom, planted};
use bytes::Bytes;
use std::{
    io,
    ops::Range,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

mod parts;
#[cfg(test)]
mod tests;

/// What a [`RetryingStore`] needs of its surroundings, so that tests own time and chance.
#[derive(Clone, Debug)]
pub struct Surroundings {
    /// Ends the rests of the breaker and the time of a call.
    pub clock: Arc<dyn Clock>,
    /// Makes the pauses between tries.
    pub sleep: Arc<dyn Sleep>,
    /// Draws jitter and marks.
    pub random: Arc<dyn Random>,
}

impl Surroundings {
    /// Those of this machine: its clock, a timer thread, its randomness.
    ///
    /// # Errors
    /// The system's error when it gives no thread.
    pub fn of_machine() -> io::Result<Self> {
        Ok(Self {
            clock: Arc::new(SystemClock::new()),
            sleep: Arc::new(TimerSleep::start()?),
            random: Arc::new(SystemRandom::new()),
        })
    }
}

/// How a [`RetryingStore`] deals with its endpoint. Plain data.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct EndpointSettings {
    /// When calls are tried again.
    pub retry: RetryPolicy,
    /// When the endpoint is given a rest.
    pub breaker: BreakerSettings,
    /// The most requests under way at once; fewer after the store asked for fewer. Default: 64.
    /// Raise it where the store is far away; memory grows with it.
    pub requests_max: u32,
}

impl Default for EndpointSettings {
    fn default() -> Self {
        let (retry, breaker) = (RetryPolicy::default(), BreakerSettings::default());
        Self { retry, breaker, requests_max: 64 }
    }
}

/// What is shown of an endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct EndpointStats {
    /// The breaker.
    pub breaker: BreakerStats,
    /// How many requests may be under way now.
    pub limit: u32,
    /// How many requests are under way.
    pub running: u64,
    /// How many tries were made, the first of each call included.
    pub tries: u64,
    /// How many of them were not the first.
    pub retries: u64,
    /// How many answers asked for fewer requests.
    pub throttled: u64,
    /// What is left of the budget of retries.
    pub budget_left: u32,
}

/// A store that tries again.
///
/// ```
/// use akidb_tiering::faulty::{Fault, FaultyStore, Verb};
/// use akidb_tiering::{EndpointSettings, MemoryStore, ObjectKey, ObjectStore, RetryingStore};
/// use akidb_tiering::{SkippedSleep, Surroundings};
/// use akidb_vfs::{SystemClock, SystemRandom};
/// use std::sync::Arc;
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let faulty = Arc::new(FaultyStore::new(Arc::new(MemoryStore::new()), 1));
/// faulty.fail_next(Some(Verb::Put), 2, Fault::ServerError);
/// let surroundings = Surroundings {
///     clock: Arc::new(SystemClock::new()),
///     sleep: Arc::new(SkippedSleep::new()),
///     random: Arc::new(SystemRandom::from_seed(1)),
/// };
/// let store = RetryingStore::new(faulty, EndpointSettings::default(), surroundings);
/// let key = ObjectKey::new("c/1")?;
/// futures_lite::future::block_on(store.put(&key, "rows".into(), Default::default()))?;
/// assert_eq!(store.stats().retries, 2);
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct RetryingStore {
    inner: Arc<dyn ObjectStore>,
    settings: EndpointSettings,
    surroundings: Surroundings,
    budget: RetryBudget,
    breaker: CircuitBreaker,
    limit: AdaptiveLimit,
    tries: AtomicU64,
    retries: AtomicU64,
    throttled: AtomicU64,
}

/// The tries of one call.
struct Tries<'a> {
    store: &'a RetryingStore,
    began: Duration,
    failed: u32,
    /// True if a try may have happened all the same.
    in_doubt: bool,
}

impl RetryingStore {
    /// In front of `inner`.
    pub fn new(
        inner: Arc<dyn ObjectStore>,
        settings: EndpointSettings,
        surroundings: Surroundings,
    ) -> Self {
        Self {
            inner,
            budget: RetryBudget::new(settings.retry.budget),
            breaker: CircuitBreaker::new(settings.breaker, surroundings.clock.clone()),
            limit: AdaptiveLimit::new(settings.requests_max),
            settings,
            surroundings,
            tries: AtomicU64::new(0),
            retries: AtomicU64::new(0),
            throttled: AtomicU64::new(0),
        }
    }

    /// What the endpoint has been doing.
    pub fn stats(&self) -> EndpointStats {
        // Relaxed: statistics.
        EndpointStats {
            breaker: self.breaker.stats(),
            limit: self.limit.limit(),
            running: self.limit.running(),
            tries: self.tries.load(Ordering::Relaxed),
            retries: self.retries.load(Ordering::Relaxed),
            throttled: self.throttled.load(Ordering::Relaxed),
            budget_left: self.budget.left(),
        }
    }

    fn tries(&self) -> Tries<'_> {
        let began = self.surroundings.clock.monotonic();
        Tries { store: self, began, failed: 0, in_doubt: false }
    }

    /// Steps 1 and 2.
    async fn attempt<T>(
        &self,
        key: Option<&ObjectKey>,
        call: BoxFuture<'_, StoreResult<T>>,
    ) -> StoreResult<T> {
        let permit = self.limit.acquire().await;
        let admitted = self.breaker.admit().map_err(|open| refused(key, open))?;
        self.tries.fetch_add(1, Ordering::Relaxed);
        let result = call.await;
        match result.as_ref().err().map(|error| error.kind) {
            Some(StoreErrorKind::Unavailable) => admitted.failed(),
            Some(StoreErrorKind::Throttled) => {
                self.throttled.fetch_add(1, Ordering::Relaxed);
                admitted.answered();
                permit.throttled();
            }
            failed => {
                if failed.is_none() {
                    self.budget.refund();
                }
                admitted.answered();
                permit.answered();
            }
        }
        result
    }

    /// A call that may be made any number of times.
    async fn repeated<'a, T>(
        &self,
        key: Option<&ObjectKey>,
        mut call: impl FnMut() -> BoxFuture<'a, StoreResult<T>>,
    ) -> StoreResult<T> {
        let mut tries = self.tries();
        loop {
            match self.attempt(key, call()).await {
                Ok(value) => return Ok(value),
                Err(error) => tries.again(error).await?,
            }
        }
    }

    async fn put_marked(
        &self,
        key: &ObjectKey,
        body: Bytes,
        options: PutOptions,
    ) -> StoreResult<PutReceipt> {
        let mut tries = self.tries();
        loop {
            let put = self.inner.put(key, body.clone(), options.clone());
            let error = match self.attempt(Some(key), put).await {
                Ok(receipt) => return Ok(receipt),
                Err(error) => error,
            };
            if tries.may_have_happened(&error) {
                let (len, crc32) = (body.len() as u64, crc32fast::hash(&body));
                // If this fails too, the doubt stays, and the next try says more.
                if let Ok(head) = self.head(key).await
                    && is_this_put(&head, &options, len, crc32)
                {
                    return Ok(PutReceipt::of(len, crc32, head.etag));
                }
            }
            tries.again(error).await?;
        }
    }

    fn mark(&self, put_id: Option<PutId>) -> Option<PutId> {
        Some(put_id.unwrap_or_else(|| PutId::new(self.surroundings.random.next_u128())))
    }

    /// Many at once; then, after a pause, one by one what that left.
    async fn delete_all(&self, keys: &[ObjectKey]) -> Vec<StoreResult<()>> {
        let mut tries = self.tries();
        let many = Box::pin(async { Ok(self.inner.delete_many(keys).await) });
        let Ok(mut results) = self.attempt(None, many).await else {
            // The breaker is open and nothing was sent, which it tells of each key.
            let mut refused = Vec::with_capacity(keys.len());
            for key in keys {
                refused.push(self.delete(key).await);
            }
            return refused;
        };
        let failures = results.iter().filter_map(|result| result.as_ref().err());
        let longest = failures
            .filter(|error| error.kind.is_transient())
            .max_by_key(|error| error.retry_after)
            .map(|error| StoreError::listing(error.kind).with_retry_after(error.retry_after));
        let Some(failure) = longest else { return results };
        if tries.again(failure).await.is_err() {
            return results;
        }
        for (key, result) in keys.iter().zip(&mut results) {
            let first = match result {
                Err(error) if error.kind.is_transient() => error.outcome,
                _ => continue,
            };
            *result = self.delete(key).await.map_err(|error| match first {
                // It may be gone since the first try, whatever the last one says.
                Outcome::Unknown => StoreError { outcome: first, ..error },
                Outcome::NotDone => error,
            });
        }
        results
    }
}

impl Tries<'_> {
    /// Notes a failure; true if it is worth a look whether the change is there.
    fn may_have_happened(&mut self, error: &StoreError) -> bool {
        // Of a change that was made, one's own next try finds the traces.
        let own_trace =
            matches!(error.kind, StoreErrorKind::PreconditionFailed | StoreErrorKind::NoSuchUpload);
        error.outcome == Outcome::Unknown || (self.in_doubt && own_trace)
    }

    /// Pauses before the next try; the last failure, if there is to be none.
    async fn again(&mut self, mut error: StoreError) -> StoreResult<()> {
        self.failed += 1;
        self.in_doubt |= error.outcome == Outcome::Unknown;
        let Surroundings { clock, sleep, random } = &self.store.surroundings;
        let elapsed = clock.monotonic().saturating_sub(self.began);
        let policy = &self.store.settings.retry;
        let stop = is_refusal(&error);
        match policy.pause(&error, self.failed, elapsed, &self.store.budget, &**random) {
            Ok(pause) if !stop => {
                self.store.retries.fetch_add(1, Ordering::Relaxed);
                sleep.sleep(pause).await;
                Ok(())
            }
            _ => {
                if self.in_doubt && !planted("retry.doubt-forgotten") {
                    error.outcome = Outcome::Unknown;
                }
                Err(error)
            }
        }
    }
}

/// What a caller hears when the breaker is open.
fn refused(key: Option<&ObjectKey>, open: BreakerOpen) -> StoreError {
    let kind = StoreErrorKind::Unavailable;
    let error =
        key.map_or_else(|| StoreError::listing(kind), |key| StoreError::not_done(kind, key));
    error.with_retry_after(Some(open.retry_in)).with_source(open)
}

/// True if nothing was sent because the breaker is open: trying again at once is what it prevents.
fn is_refusal(error: &StoreError) -> bool {
    error.source.as_ref().is_some_and(|source| source.is::<BreakerOpen>())
}

impl ObjectStore for RetryingStore {
    fn put<'a>(
        &'a self,
        key: &'a ObjectKey,
        body: Bytes,
        mut options: PutOptions,
    ) -> BoxFuture<'a, StoreResult<PutReceipt>> {
        options.put_id = self.mark(options.put_id);
        Box::pin(self.put_marked(key, body, options))
    }

    fn get<'a>(&'a self, key: &'a ObjectKey) -> BoxFuture<'a, StoreResult<Object>> {
        Box::pin(self.repeated(Some(key), || self.inner.get(key)))
    }

    fn get_ranges<'a>(
        &'a self,
        key: &'a ObjectKey,
        ranges: &'a [Range<u64>],
    ) -> BoxFuture<'a, StoreResult<Vec<Bytes>>> {
        Box::pin(self.repeated(Some(key), || self.inner.get_ranges(key, ranges)))
    }

    fn head<'a>(&'a self, key: &'a ObjectKey) -> BoxFuture<'a, StoreResult<Head>> {
        Box::pin(self.repeated(Some(key), || self.inner.head(key)))
    }

    fn delete<'a>(&'a self, key: &'a ObjectKey) -> BoxFuture<'a, StoreResult<()>> {
        Box::pin(self.repeated(Some(key), || self.inner.delete(key)))
    }

    fn delete_many<'a>(&'a self, keys: &'a [ObjectKey]) -> BoxFuture<'a, Vec<StoreResult<()>>> {
        Box::pin(self.delete_all(keys))
    }

    fn list<'a>(
        &'a self,
        prefix: &'a str,
        after: Option<&'a PageToken>,
        limit: usize,
    ) -> BoxFuture<'a, StoreResult<ListPage>> {
        Box::pin(self.repeated(None, move || self.inner.list(prefix, after, limit)))
    }

    fn multipart(&self) -> Option<&dyn MultipartStore> {
        self.inner.multipart().map(|_| self as &dyn MultipartStore)
    }

    fn capabilities(&self) -> Capabilities {
        self.inner.capabilities()
    }
}
