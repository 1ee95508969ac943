//! The test store: any other store, made slow, narrow and unreliable on request.
//!
//! Owns the faults, their order (rules, or chance from a seed), latency and bandwidth, and a
//! history of every call. Never touches the bytes of a call that it lets through. Used by the tests
//! of the uploader, the tiers and the engine, and by users who test against a store that fails.
//!
//! What a caller sees of a fault is what a client of a server would see: a change whose answer was
//! lost or was a 5xx has an unknown outcome, whether or not it happened.

use crate::{
    BoxFuture, Capabilities, Head, ListPage, MultipartStore, Object, ObjectKey, ObjectStore,
    Outcome, PageToken, PutOptions, PutReceipt, SkippedSleep, Sleep, StoreError, StoreErrorKind,
    StoreResult,
};
use bytes::Bytes;
use parking_lot::Mutex;
use std::{fmt, ops::Range, sync::Arc, time::Duration};

mod history;
mod parts;
mod plan;

use history::History;
pub use history::{Call, Counts};
use plan::Plan;
pub use plan::{Fault, Verb};

/// A store that fails on request.
///
/// ```
/// use akidb_tiering::{MemoryStore, ObjectKey, ObjectStore, StoreErrorKind};
/// use akidb_tiering::faulty::{Fault, FaultyStore, Verb};
/// use std::sync::Arc;
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let store = FaultyStore::new(Arc::new(MemoryStore::new()), 1);
/// store.fail_nth(Verb::Put, 2, Fault::Forbidden);
/// let key = ObjectKey::new("c/1")?;
/// let put = || futures_lite::future::block_on(store.put(&key, "rows".into(), Default::default()));
/// assert!(put().is_ok());
/// assert_eq!(put().unwrap_err().kind, StoreErrorKind::PermissionDenied);
/// assert!(put().is_ok());
/// assert_eq!(store.counts().of(Verb::Put), 3);
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct FaultyStore {
    inner: Arc<dyn ObjectStore>,
    sleep: Arc<dyn Sleep>,
    plan: Mutex<Plan>,
    speed: Mutex<Speed>,
    history: Mutex<History>,
    before_each: Option<BeforeEach>,
}

/// What is called before each call of the store.
struct BeforeEach(Box<dyn Fn(Verb) + Send + Sync>);

impl fmt::Debug for BeforeEach {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("BeforeEach")
    }
}

#[derive(Clone, Copy, Debug, Default)]
struct Speed {
    latency: Duration,
    bytes_per_second: Option<u64>,
}

/// One call: what was asked, and of what size.
#[derive(Clone, Copy)]
struct Asked<'a> {
    verb: Verb,
    key: Option<&'a ObjectKey>,
    bytes: u64,
}

/// Counts a call as under way for as long as its future lives, dropped ones included.
struct Running<'a>(&'a FaultyStore);

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.0.history.lock().counts.running -= 1;
    }
}

impl FaultyStore {
    /// Over `inner`, without a fault yet. All chance follows from `seed`. Pauses are skipped
    /// unless [`FaultyStore::with_sleep`] says otherwise.
    pub fn new(inner: Arc<dyn ObjectStore>, seed: u64) -> Self {
        Self {
            inner,
            sleep: Arc::new(SkippedSleep::new()),
            plan: Mutex::new(Plan::new(seed)),
            speed: Mutex::default(),
            history: Mutex::default(),
            before_each: None,
        }
    }

    /// The same store, whose latency and slow calls pause by this.
    #[must_use]
    pub fn with_sleep(mut self, sleep: Arc<dyn Sleep>) -> Self {
        self.sleep = sleep;
        self
    }

    /// The same store, which tells of each call before it is carried out, on the thread that makes it:
    /// for faults of what is behind the store, say a server that is killed now.
    #[must_use]
    pub fn with_before_each(mut self, hook: impl Fn(Verb) + Send + Sync + 'static) -> Self {
        self.before_each = Some(BeforeEach(Box::new(hook)));
        self
    }

    /// From now on each call takes this long at least.
    pub fn set_latency(&self, latency: Duration) {
        self.speed.lock().latency = latency;
    }

    /// From now on the bytes that a call hands over take their time; `None`: none.
    pub fn set_bandwidth(&self, bytes_per_second: Option<u64>) {
        self.speed.lock().bytes_per_second = bytes_per_second.filter(|bytes| *bytes > 0);
    }

    /// The `nth` call of this verb from now on (1 is the next) fails.
    pub fn fail_nth(&self, verb: Verb, nth: u64, fault: Fault) {
        self.plan.lock().rule(Some(verb), nth.saturating_sub(1), 1, fault);
    }

    /// The next `times` calls, of this verb or of any, fail.
    pub fn fail_next(&self, verb: Option<Verb>, times: u64, fault: Fault) {
        self.plan.lock().rule(verb, 0, times, fault);
    }

    /// Every call, of this verb or of any, fails until [`FaultyStore::heal`].
    pub fn fail_always(&self, verb: Option<Verb>, fault: Fault) {
        self.fail_next(verb, u64::MAX, fault);
    }

    /// Of a thousand calls this many fail, each by one of these faults.
    pub fn fail_randomly(&self, per_mille: u64, faults: &[Fault]) {
        self.plan.lock().chance(per_mille, faults);
    }

    /// No call fails from now on. Latency and bandwidth stay.
    pub fn heal(&self) {
        self.plan.lock().heal();
    }

    /// Calls that have ended, in the order of their ends.
    pub fn calls(&self) -> Vec<Call> {
        self.history.lock().calls.clone()
    }

    /// Sums over all calls so far.
    pub fn counts(&self) -> Counts {
        self.history.lock().counts.clone()
    }

    /// Carries out one call with the fault that is due. Beside the result stands whether a read
    /// is to end early.
    async fn call<T>(
        &self,
        asked: Asked<'_>,
        run: BoxFuture<'_, StoreResult<T>>,
    ) -> StoreResult<(T, bool)> {
        if let Some(BeforeEach(hook)) = &self.before_each {
            hook(asked.verb);
        }
        let fault = self.plan.lock().decide(asked.verb);
        self.history.lock().begin(asked.verb, asked.bytes, fault);
        let running = Running(self);
        self.pause(asked.bytes, fault).await;
        let result = self.strike(asked, fault, run).await;
        drop(running);
        self.history.lock().end(Call {
            verb: asked.verb,
            key: asked.key.cloned(),
            bytes: asked.bytes,
            fault,
            failed: result.as_ref().err().map(|error| error.kind),
        });
        result
    }

    async fn pause(&self, bytes: u64, fault: Option<Fault>) {
        let Speed { latency, bytes_per_second } = *self.speed.lock();
        let transfer = bytes_per_second.map_or(Duration::ZERO, |rate| {
            Duration::from_micros(bytes.saturating_mul(1_000_000) / rate)
        });
        let slow = if let Some(Fault::Slow(slow)) = fault { slow } else { Duration::ZERO };
        let wait = latency.saturating_add(transfer).saturating_add(slow);
        if !wait.is_zero() {
            self.sleep.sleep(wait).await;
        }
    }

    async fn strike<T>(
        &self,
        asked: Asked<'_>,
        fault: Option<Fault>,
        run: BoxFuture<'_, StoreResult<T>>,
    ) -> StoreResult<(T, bool)> {
        let lost = |detail: &str| Err(asked.lost(StoreErrorKind::Unavailable, detail));
        match fault {
            None | Some(Fault::Slow(_)) => run.await.map(|value| (value, false)),
            Some(Fault::Throttle { retry_after }) => {
                let error = asked.lost(StoreErrorKind::Throttled, "503 Slow Down");
                Err(error.with_retry_after(retry_after))
            }
            Some(Fault::ServerError) => lost("500 Internal Server Error"),
            Some(Fault::Forbidden) => Err(asked.refused(StoreErrorKind::PermissionDenied)),
            Some(Fault::Skewed) => Err(asked.refused(StoreErrorKind::Misconfigured)),
            Some(Fault::Conflict) => Err(asked.refused(StoreErrorKind::Conflict)),
            Some(Fault::NotFound) => Err(asked.refused(StoreErrorKind::NotFound)),
            Some(Fault::TimeoutBefore) => lost("no answer in time"),
            Some(Fault::TimeoutAfter) => {
                drop(run.await);
                lost("no answer in time")
            }
            Some(Fault::Reset) => {
                let after = self.plan.lock().coin();
                if after {
                    drop(run.await);
                }
                lost("connection reset by peer")
            }
            Some(Fault::Truncated) if matches!(asked.verb, Verb::Get | Verb::GetRanges) => {
                run.await.map(|value| (value, true))
            }
            Some(Fault::Truncated) => lost("the body ended early"),
            Some(Fault::ErrorInside) => lost("200 OK with an error inside: InternalError"),
        }
    }
}

impl Asked<'_> {
    fn error(&self, kind: StoreErrorKind) -> StoreError {
        match self.key {
            Some(key) => StoreError::not_done(kind, key),
            None => StoreError::listing(kind),
        }
    }

    fn refused(&self, kind: StoreErrorKind) -> StoreError {
        self.error(kind).with_source("injected")
    }

    /// A failure after which a change may have happened.
    fn lost(&self, kind: StoreErrorKind, detail: &str) -> StoreError {
        let mut error = self.error(kind).with_source(format!("injected: {detail}"));
        if self.verb.changes() {
            error.outcome = Outcome::Unknown;
        }
        error
    }
}

fn half(body: &Bytes) -> Bytes {
    body.slice(..body.len() / 2)
}

impl ObjectStore for FaultyStore {
    fn put<'a>(
        &'a self,
        key: &'a ObjectKey,
        body: Bytes,
        options: PutOptions,
    ) -> BoxFuture<'a, StoreResult<PutReceipt>> {
        let asked = Asked { verb: Verb::Put, key: Some(key), bytes: body.len() as u64 };
        let run = self.inner.put(key, body, options);
        Box::pin(async move { self.call(asked, run).await.map(|(receipt, _)| receipt) })
    }

    fn get<'a>(&'a self, key: &'a ObjectKey) -> BoxFuture<'a, StoreResult<Object>> {
        let asked = Asked { verb: Verb::Get, key: Some(key), bytes: 0 };
        Box::pin(async move {
            let (object, cut) = self.call(asked, self.inner.get(key)).await?;
            if cut {
                return Ok(Object::new(half(&object.body), object.head.etag));
            }
            Ok(object)
        })
    }

    fn get_ranges<'a>(
        &'a self,
        key: &'a ObjectKey,
        ranges: &'a [Range<u64>],
    ) -> BoxFuture<'a, StoreResult<Vec<Bytes>>> {
        let asked = Asked { verb: Verb::GetRanges, key: Some(key), bytes: 0 };
        Box::pin(async move {
            let (parts, cut) = self.call(asked, self.inner.get_ranges(key, ranges)).await?;
            Ok(if cut { parts.iter().map(half).collect() } else { parts })
        })
    }

    fn head<'a>(&'a self, key: &'a ObjectKey) -> BoxFuture<'a, StoreResult<Head>> {
        let asked = Asked { verb: Verb::Head, key: Some(key), bytes: 0 };
        Box::pin(async move { self.call(asked, self.inner.head(key)).await.map(|(head, _)| head) })
    }

    fn delete<'a>(&'a self, key: &'a ObjectKey) -> BoxFuture<'a, StoreResult<()>> {
        let asked = Asked { verb: Verb::Delete, key: Some(key), bytes: 0 };
        Box::pin(async move { self.call(asked, self.inner.delete(key)).await.map(drop) })
    }

    fn delete_many<'a>(&'a self, keys: &'a [ObjectKey]) -> BoxFuture<'a, Vec<StoreResult<()>>> {
        let asked = Asked { verb: Verb::DeleteMany, key: None, bytes: 0 };
        Box::pin(async move {
            let run = Box::pin(async move { Ok(self.inner.delete_many(keys).await) });
            match self.call(asked, run).await {
                Ok((results, _)) => results,
                Err(error) => {
                    let same = |key| {
                        let text = error.to_string();
                        let one = StoreError::not_done(error.kind, key).with_source(text);
                        let one = one.with_retry_after(error.retry_after);
                        Err(StoreError { outcome: error.outcome, ..one })
                    };
                    keys.iter().map(same).collect()
                }
            }
        })
    }

    fn list<'a>(
        &'a self,
        prefix: &'a str,
        after: Option<&'a PageToken>,
        limit: usize,
    ) -> BoxFuture<'a, StoreResult<ListPage>> {
        let asked = Asked { verb: Verb::List, key: None, bytes: 0 };
        Box::pin(async move {
            self.call(asked, self.inner.list(prefix, after, limit)).await.map(|(page, _)| page)
        })
    }

    fn multipart(&self) -> Option<&dyn MultipartStore> {
        self.inner.multipart().map(|_| self as &dyn MultipartStore)
    }

    fn capabilities(&self) -> Capabilities {
        self.inner.capabilities()
    }
}
