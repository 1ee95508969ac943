//! How many requests may be under way at once: as many as are allowed, until the store says that it
//! is too many. Additive increase, multiplicative decrease, as TCP has it.
//!
//! Owns the number. Never delays a request for longer than its place in the queue takes, and never
//! retries. Called by the store that retries, around each try.
//!
//! # Invariants
//! - The limit is between 1 and the most that is allowed. It starts there.
//! - A throttled request halves it, but once per round: those that were under way together with it
//!   are throttled for the same reason.
//! - A limit's worth of successes raises it by one.

use crate::gate::{Gate, Pass};
use parking_lot::Mutex;
use std::sync::Arc;

/// The adaptive limit of one endpoint.
#[derive(Debug)]
pub(crate) struct AdaptiveLimit {
    gate: Arc<Gate>,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    max: u32,
    limit: u32,
    /// Successes since the limit was last changed.
    successes: u32,
    /// Raised by each decrease.
    round: u64,
}

/// The right to one request.
#[derive(Debug)]
pub(crate) struct Permit<'a> {
    limit: &'a AdaptiveLimit,
    round: u64,
    /// Held for its drop.
    _pass: Pass,
}

impl AdaptiveLimit {
    /// At most so many at once; 0 counts as 1.
    pub(crate) fn new(max: u32) -> Self {
        let max = max.max(1);
        let state = State { max, limit: max, successes: 0, round: 0 };
        Self { gate: Gate::new(max.into()), state: Mutex::new(state) }
    }

    /// Waits for one's turn.
    pub(crate) async fn acquire(&self) -> Permit<'_> {
        let pass = self.gate.pass(1).await;
        let round = self.state.lock().round;
        Permit { limit: self, round, _pass: pass }
    }

    /// How many may be under way now.
    pub(crate) fn limit(&self) -> u32 {
        self.state.lock().limit
    }

    /// How many are under way.
    pub(crate) fn running(&self) -> u64 {
        self.gate.out()
    }
}

impl Permit<'_> {
    /// The store answered.
    pub(crate) fn answered(self) {
        let mut state = self.limit.state.lock();
        state.successes += 1;
        if state.successes >= state.limit && state.limit < state.max {
            state.limit += 1;
            state.successes = 0;
            self.limit.gate.set_capacity(state.limit.into());
        }
    }

    /// The store asked for fewer requests.
    pub(crate) fn throttled(self) {
        let mut state = self.limit.state.lock();
        if self.round < state.round {
            return;
        }
        state.round += 1;
        state.limit = (state.limit / 2).max(1);
        state.successes = 0;
        self.limit.gate.set_capacity(state.limit.into());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn take(limit: &AdaptiveLimit, count: u32) -> Vec<Permit<'_>> {
        (0..count).map(|_| futures_lite::future::block_on(limit.acquire())).collect()
    }

    #[test]
    fn a_round_of_throttling_halves_once_and_successes_bring_it_back() {
        let limit = AdaptiveLimit::new(8);
        take(&limit, 8).into_iter().for_each(Permit::throttled);
        assert_eq!((limit.limit(), limit.running()), (4, 0), "eight times the same news");
        take(&limit, 1).into_iter().for_each(Permit::throttled);
        assert_eq!(limit.limit(), 2);
        for expected in [2, 3, 3, 3, 4] {
            take(&limit, 1).into_iter().for_each(Permit::answered);
            assert_eq!(limit.limit(), expected);
        }
    }

    #[test]
    fn a_permit_that_is_dropped_says_nothing_and_comes_back() {
        let limit = AdaptiveLimit::new(1);
        drop(take(&limit, 1));
        drop(take(&limit, 1));
        assert_eq!((limit.limit(), limit.running()), (1, 0));
    }

    proptest! {
        #[test]
        fn the_limit_stays_between_one_and_what_is_allowed(
            max in 0_u32..20,
            answers in prop::collection::vec(any::<bool>(), 0..200),
        ) {
            let limit = AdaptiveLimit::new(max);
            for answered in answers {
                let permit = futures_lite::future::block_on(limit.acquire());
                if answered { permit.answered() } else { permit.throttled() }
                prop_assert!((1..=max.max(1)).contains(&limit.limit()));
            }
            // Whatever happened, it comes back to what is allowed.
            for _ in 0..max * max + 1 {
                futures_lite::future::block_on(limit.acquire()).answered();
            }
            prop_assert_eq!(limit.limit(), max.max(1));
        }
    }
}
