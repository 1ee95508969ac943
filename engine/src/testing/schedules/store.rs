//! The store of a schedule: every call stops before its effect and after it, so that anything can
//! happen in between; answers get lost, and puts arrive when nobody waits for them any more.

use super::dice::Dice;
use akidb_tiering::{
    BoxFuture, Capabilities, Head, ListPage, MemoryStore, Object, ObjectKey, ObjectStore,
    PageToken, PutOptions, PutReceipt, StoreError, StoreErrorKind, StoreResult,
};
use akidb_vfs::sim::SimClock;
use bytes::Bytes;
use parking_lot::Mutex;
use std::{future::poll_fn, ops::Range, sync::Arc, task::Poll, time::Duration};

/// One call in this many goes wrong.
const FAULT_ONE_IN: u64 = 14;

/// A put that is under way, although its caller was told that nobody knows.
#[derive(Debug)]
struct Late {
    key: ObjectKey,
    body: Bytes,
    options: PutOptions,
}

#[derive(Debug)]
struct State {
    dice: Dice,
    faults: bool,
    late: Vec<Late>,
    /// Deletions so far, so that the checker knows when to look.
    deletes: u64,
}

/// The store that all machines of a schedule share.
#[derive(Debug)]
pub(super) struct TurnStore {
    inner: MemoryStore,
    clock: SimClock,
    state: Mutex<State>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Fate {
    Well,
    LostBefore,
    LostAfter,
    Late,
}

impl TurnStore {
    pub(super) fn new(seed: u64) -> Self {
        let clock = SimClock::new();
        let inner = MemoryStore::with_clock(Arc::new(clock.clone()));
        let state = State { dice: Dice::new(seed), faults: true, late: Vec::new(), deletes: 0 };
        Self { inner, clock, state: Mutex::new(state) }
    }

    /// The same objects without stops and faults.
    pub(super) fn still(&self) -> &MemoryStore {
        &self.inner
    }

    pub(super) fn advance(&self, by: Duration) {
        self.clock.advance(by);
    }

    /// No call goes wrong from now on.
    pub(super) fn heal(&self) {
        self.state.lock().faults = false;
    }

    pub(super) fn deletes(&self) -> u64 {
        self.state.lock().deletes
    }

    /// One of the puts that are under way arrives. False if there is none.
    pub(super) fn land(&self) -> bool {
        let mut state = self.state.lock();
        if state.late.is_empty() {
            return false;
        }
        let which = state.dice.below(state.late.len() as u64) as usize;
        let Late { key, body, options } = state.late.swap_remove(which);
        // Nobody hears whether its condition held.
        drop(futures_lite::future::block_on(self.inner.put(&key, body, options)));
        true
    }

    fn fate(&self) -> Fate {
        let state = self.state.lock();
        if !state.faults || state.dice.below(FAULT_ONE_IN) > 0 {
            return Fate::Well;
        }
        match state.dice.below(3) {
            0 => Fate::LostBefore,
            1 => Fate::LostAfter,
            _ => Fate::Late,
        }
    }

    async fn read<T>(
        &self,
        key: Option<&ObjectKey>,
        run: BoxFuture<'_, StoreResult<T>>,
    ) -> StoreResult<T> {
        turn().await;
        if self.fate() != Fate::Well {
            return Err(match key {
                Some(key) => StoreError::not_done(StoreErrorKind::Unavailable, key),
                None => StoreError::listing(StoreErrorKind::Unavailable),
            });
        }
        let answer = run.await;
        turn().await;
        answer
    }

    async fn put_in_turns(
        &self,
        key: &ObjectKey,
        body: Bytes,
        options: PutOptions,
    ) -> StoreResult<PutReceipt> {
        turn().await;
        let lost = || Err(StoreError::unknown(StoreErrorKind::Unavailable, key));
        let fate = self.fate();
        match fate {
            Fate::LostBefore => return lost(),
            Fate::Late => {
                self.state.lock().late.push(Late { key: key.clone(), body, options });
                return lost();
            }
            Fate::Well | Fate::LostAfter => {}
        }
        let answer = self.inner.put(key, body, options).await;
        turn().await;
        if fate == Fate::LostAfter { lost() } else { answer }
    }

    async fn delete_in_turns(&self, key: &ObjectKey) -> StoreResult<()> {
        turn().await;
        let fate = self.fate();
        let lost = || Err(StoreError::unknown(StoreErrorKind::Unavailable, key));
        if matches!(fate, Fate::LostBefore | Fate::Late) {
            return lost();
        }
        self.state.lock().deletes += 1;
        let answer = self.inner.delete(key).await;
        turn().await;
        if fate == Fate::LostAfter { lost() } else { answer }
    }
}

/// Lets everybody else go on.
pub(super) async fn turn() {
    let mut gave_way = false;
    poll_fn(|_| {
        if gave_way {
            return Poll::Ready(());
        }
        gave_way = true;
        Poll::Pending
    })
    .await;
}

impl ObjectStore for TurnStore {
    fn put<'a>(
        &'a self,
        key: &'a ObjectKey,
        body: Bytes,
        options: PutOptions,
    ) -> BoxFuture<'a, StoreResult<PutReceipt>> {
        Box::pin(self.put_in_turns(key, body, options))
    }

    fn get<'a>(&'a self, key: &'a ObjectKey) -> BoxFuture<'a, StoreResult<Object>> {
        Box::pin(self.read(Some(key), self.inner.get(key)))
    }

    fn get_ranges<'a>(
        &'a self,
        key: &'a ObjectKey,
        ranges: &'a [Range<u64>],
    ) -> BoxFuture<'a, StoreResult<Vec<Bytes>>> {
        Box::pin(self.read(Some(key), self.inner.get_ranges(key, ranges)))
    }

    fn head<'a>(&'a self, key: &'a ObjectKey) -> BoxFuture<'a, StoreResult<Head>> {
        Box::pin(self.read(Some(key), self.inner.head(key)))
    }

    fn delete<'a>(&'a self, key: &'a ObjectKey) -> BoxFuture<'a, StoreResult<()>> {
        Box::pin(self.delete_in_turns(key))
    }

    fn list<'a>(
        &'a self,
        prefix: &'a str,
        after: Option<&'a PageToken>,
        limit: usize,
    ) -> BoxFuture<'a, StoreResult<ListPage>> {
        // Small pages, so that much happens between two.
        Box::pin(self.read(None, self.inner.list(prefix, after, limit.min(3))))
    }

    fn capabilities(&self) -> Capabilities {
        self.inner.capabilities()
    }
}
