//! An object range after range, with a few requests ahead: what is decoded while it is read need not be
//! held whole, and the reader seldom waits.
//!
//! Owns which ranges are asked for and the order of the answers. Never checks a byte and never asks
//! twice: whoever takes the pieces sums them, and [`Misreads`](crate::Misreads) says whether to begin
//! again. Called by the engine.
//!
//! # Invariants
//! - Pieces come in the order of their ranges, whichever answer came first.
//! - No more than `ahead` answers are waited for or kept at once.
//! - After a failure nothing more is asked for.

use crate::{BoxFuture, ObjectKey, ObjectStore, StoreResult};
use bytes::Bytes;
use std::{
    collections::VecDeque,
    fmt,
    future::poll_fn,
    ops::Range,
    slice,
    task::{Context, Poll},
};

/// The pieces of one object.
///
/// Requests are made, and go on, while somebody waits in [`Pieces::next`]; a store over a network moves
/// their bytes in between.
///
/// ```
/// use akidb_tiering::{MemoryStore, ObjectKey, ObjectStore, Pieces};
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let (store, key) = (MemoryStore::new(), ObjectKey::new("a")?);
/// futures_lite::future::block_on(store.put(&key, "the rows".into(), Default::default()))?;
/// let ranges = [0..4, 4..8];
/// let mut pieces = Pieces::new(&store, &key, &ranges, 2);
/// let mut next = || futures_lite::future::block_on(pieces.next()).transpose();
/// assert_eq!((next()?, next()?), (Some("the ".into()), Some("rows".into())));
/// assert_eq!(next()?, None);
/// # Ok(())
/// # }
/// ```
pub struct Pieces<'a> {
    store: &'a dyn ObjectStore,
    key: &'a ObjectKey,
    /// What nobody has asked for yet.
    ranges: slice::Iter<'a, Range<u64>>,
    ahead: usize,
    asked: VecDeque<Asked<'a>>,
}

enum Asked<'a> {
    Waiting(BoxFuture<'a, StoreResult<Vec<Bytes>>>),
    Answered(StoreResult<Bytes>),
}

impl<'a> Pieces<'a> {
    /// Of these ranges, in their order; `ahead` requests at once (0 counts as 1).
    pub fn new(
        store: &'a dyn ObjectStore,
        key: &'a ObjectKey,
        ranges: &'a [Range<u64>],
        ahead: usize,
    ) -> Self {
        Self { store, key, ranges: ranges.iter(), ahead: ahead.max(1), asked: VecDeque::new() }
    }

    /// The next piece; `None` after the last one, and after a failure.
    pub async fn next(&mut self) -> Option<StoreResult<Bytes>> {
        poll_fn(|context| self.poll_next(context)).await
    }

    fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Option<StoreResult<Bytes>>> {
        self.advance(context);
        match self.asked.pop_front() {
            None => Poll::Ready(None),
            Some(Asked::Answered(piece)) => {
                match &piece {
                    // What takes its place is under way while the caller is busy with this one.
                    Ok(_) => self.advance(context),
                    Err(_) => self.stop(),
                }
                Poll::Ready(Some(piece))
            }
            Some(waiting) => {
                self.asked.push_front(waiting);
                Poll::Pending
            }
        }
    }

    /// Asks for as many as there may be, and has all go on.
    fn advance(&mut self, context: &mut Context<'_>) {
        while self.asked.len() < self.ahead
            && let Some(range) = self.ranges.next()
        {
            let answer = self.store.get_ranges(self.key, slice::from_ref(range));
            self.asked.push_back(Asked::Waiting(answer));
        }
        for one in &mut self.asked {
            if let Asked::Waiting(answer) = one
                && let Poll::Ready(parts) = answer.as_mut().poll(context)
            {
                // One range was asked for. What a store leaves out is as a piece that is too short.
                let piece = parts.map(|parts| parts.into_iter().next().unwrap_or_default());
                *one = Asked::Answered(piece);
            }
        }
    }

    fn stop(&mut self) {
        self.asked.clear();
        self.ranges = [].iter();
    }
}

impl fmt::Debug for Pieces<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pieces")
            .field("key", &self.key)
            .field("asked", &self.asked.len())
            .field("left", &self.ranges.len())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        MemoryStore, PutOptions, StoreErrorKind,
        faulty::{Fault, FaultyStore, Verb},
        sleep::TimerSleep,
    };
    use futures_lite::future::block_on;
    use std::{sync::Arc, time::Duration};

    const BODY: &[u8] = b"0123456789";

    fn store() -> FaultyStore {
        let memory = MemoryStore::new();
        let key = ObjectKey::new("a").unwrap();
        block_on(memory.put(&key, Bytes::from_static(BODY), PutOptions::default())).unwrap();
        FaultyStore::new(Arc::new(memory), 1)
    }

    fn ranges() -> Vec<Range<u64>> {
        vec![0..3, 3..6, 6..9, 9..10]
    }

    #[test]
    fn pieces_come_in_order_and_few_are_asked_for_at_once() {
        for ahead in [0, 1, 3, 9] {
            let (store, key, ranges) = (store(), ObjectKey::new("a").unwrap(), ranges());
            let mut pieces = Pieces::new(&store, &key, &ranges, ahead);
            let mut found = Vec::new();
            for taken in 1.. {
                let Some(piece) = block_on(pieces.next()) else { break };
                found.extend(piece.unwrap());
                let asked = store.counts().of(Verb::GetRanges) as usize;
                assert_eq!(asked, (taken + ahead.max(1)).min(4), "{ahead} ahead");
            }
            assert_eq!(found, BODY);
        }
    }

    #[test]
    fn a_slow_answer_keeps_its_place_and_those_behind_it_go_on() {
        let store = store().with_sleep(Arc::new(TimerSleep::start().unwrap()));
        store.fail_next(Some(Verb::GetRanges), 1, Fault::Slow(Duration::from_millis(50)));
        let (key, ranges) = (ObjectKey::new("a").unwrap(), ranges());
        let mut pieces = Pieces::new(&store, &key, &ranges, 3);
        assert_eq!(block_on(pieces.next()).unwrap().unwrap(), "012");
        let ended: Vec<_> = store.calls().iter().map(|call| call.fault.is_some()).collect();
        assert_eq!(ended[..3], [false, false, true], "two ended while the first was waited for");
        assert_eq!(block_on(pieces.next()).unwrap().unwrap(), "345");
    }

    #[test]
    fn a_failure_comes_in_its_turn_and_is_the_last_thing() {
        let (store, key, ranges) = (store(), ObjectKey::new("a").unwrap(), ranges());
        store.fail_nth(Verb::GetRanges, 2, Fault::Forbidden);
        let mut pieces = Pieces::new(&store, &key, &ranges, 2);
        assert_eq!(block_on(pieces.next()).unwrap().unwrap(), "012");
        let refused = block_on(pieces.next()).unwrap().unwrap_err();
        assert_eq!(refused.kind, StoreErrorKind::PermissionDenied);
        assert!(block_on(pieces.next()).is_none());
        assert_eq!(store.counts().of(Verb::GetRanges), 3, "the last one was never asked for");
    }
}
