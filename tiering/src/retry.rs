//! Whether a failed call is tried again, and after which pause.
//!
//! Owns the arithmetic and the budget; never makes a call and never waits. Called by
//! [`RetryingStore`](crate::RetryingStore).
//!
//! Not one of the crates for this (`backon` is the best kept): their jitter adds to a minimum and
//! draws from a generator of their own, while retries that shall not come in waves need full
//! jitter, from the injected [`Random`], so that a run replays from its seed; and what decides here
//! is mostly the store's `Retry-After`, a budget shared by all calls, and the kind of the error.
//!
//! # Invariants
//! - A failure that is not transient ([`StoreErrorKind::is_transient`]) is never tried again.
//! - A pause is drawn evenly from zero to `base_ms` doubled with each try, at most `pause_max_ms`;
//!   what the store asked for, up to `retry_after_max_ms`, is added in front of it.
//! - A call is tried at most `attempts_max` times, and no pause ends after `total_ms`.
//! - Retries of all calls share a budget: a retry costs five tokens, a call that worked gives one
//!   back. A store that is down for long sees one try per call, not six.

use crate::{StoreError, StoreErrorKind};
use akidb_vfs::{Random, planted};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// What a retry takes from the budget.
const RETRY_COST: u32 = 5;

/// How calls on a store are tried again. Plain data; times in milliseconds.
///
/// ```
/// use akidb_tiering::RetryPolicy;
/// let patient = RetryPolicy { total_ms: 600_000, attempts_max: 20, ..RetryPolicy::default() };
/// assert_eq!(patient.base_ms, 100);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RetryPolicy {
    /// The most tries of one call, the first included. Default: 6. 1 switches retries off.
    pub attempts_max: u32,
    /// The longest first pause; it doubles with each try. Default: 100.
    pub base_ms: u64,
    /// The longest pause of our own choice. Default: 20,000.
    pub pause_max_ms: u64,
    /// The longest pause that is taken because the store asks for it. Default: 60,000. A store that
    /// asks for more is tried too early rather than in an hour.
    pub retry_after_max_ms: u64,
    /// How long a call may take with all its tries before the last one begins. Default: 120,000.
    pub total_ms: u64,
    /// The tokens of the budget that all calls share; a retry costs five. Default: 500.
    pub budget: u32,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self {
            attempts_max: 6,
            base_ms: 100,
            pause_max_ms: 20_000,
            retry_after_max_ms: 60_000,
            total_ms: 120_000,
            budget: 500,
        }
    }
}

/// Why a call is not tried again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum GiveUp {
    /// It would fail again.
    Permanent,
    /// It was tried often enough.
    Attempts,
    /// It would take too long.
    Deadline,
    /// All calls together were tried again too often.
    Budget,
}

/// The tokens that all calls on one endpoint share.
#[derive(Debug)]
pub(crate) struct RetryBudget {
    max: u32,
    left: Mutex<u32>,
}

impl RetryBudget {
    pub(crate) fn new(max: u32) -> Self {
        Self { max, left: Mutex::new(max) }
    }

    fn take(&self) -> bool {
        let mut left = self.left.lock();
        let taken = left.checked_sub(RETRY_COST);
        *left = taken.unwrap_or(*left);
        taken.is_some()
    }

    /// A call worked.
    pub(crate) fn refund(&self) {
        let mut left = self.left.lock();
        *left = (*left + 1).min(self.max);
    }

    pub(crate) fn left(&self) -> u32 {
        *self.left.lock()
    }
}

impl RetryPolicy {
    /// The pause before the next try of a call that has failed `attempts` times, the last time with
    /// `error`, and began `elapsed` ago.
    pub(crate) fn pause(
        &self,
        error: &StoreError,
        attempts: u32,
        elapsed: Duration,
        budget: &RetryBudget,
        random: &dyn Random,
    ) -> Result<Duration, GiveUp> {
        if !error.kind.is_transient() && !planted("retry.permanent-retried") {
            return Err(GiveUp::Permanent);
        }
        if attempts >= self.attempts_max {
            return Err(GiveUp::Attempts);
        }
        let pause = self.jitter(attempts, random) + self.asked_for(error);
        if elapsed.saturating_add(pause) > Duration::from_millis(self.total_ms) {
            return Err(GiveUp::Deadline);
        }
        if budget.take() { Ok(pause) } else { Err(GiveUp::Budget) }
    }

    /// Full jitter: evenly from nothing to all, so that the calls which one hiccup failed do not
    /// come back together.
    fn jitter(&self, attempts: u32, random: &dyn Random) -> Duration {
        let doubled = 2_u64.saturating_pow(attempts.saturating_sub(1));
        let longest = self.base_ms.saturating_mul(doubled).min(self.pause_max_ms);
        let micros = longest.saturating_mul(1_000);
        Duration::from_micros(random.next_u64() % micros.saturating_add(1))
    }

    fn asked_for(&self, error: &StoreError) -> Duration {
        if planted("retry.wait-ignored") {
            return Duration::ZERO;
        }
        let throttled =
            matches!(error.kind, StoreErrorKind::Throttled | StoreErrorKind::Unavailable);
        let asked = error.retry_after.filter(|_| throttled).unwrap_or_default();
        asked.min(Duration::from_millis(self.retry_after_max_ms))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use akidb_vfs::SystemRandom;
    use proptest::prelude::*;

    fn failure(kind: StoreErrorKind) -> StoreError {
        StoreError::listing(kind)
    }

    fn generous() -> RetryPolicy {
        RetryPolicy { total_ms: u64::MAX, attempts_max: u32::MAX, ..RetryPolicy::default() }
    }

    #[test]
    fn a_permanent_failure_is_never_tried_again() {
        use StoreErrorKind as Kind;
        let (budget, random) = (RetryBudget::new(1_000), SystemRandom::from_seed(1));
        for kind in [
            Kind::NotFound,
            Kind::PreconditionFailed,
            Kind::Corrupt,
            Kind::InvalidRange,
            Kind::Unsupported,
            Kind::NoSpace,
            Kind::PermissionDenied,
            Kind::Misconfigured,
            Kind::NoSuchUpload,
            Kind::InvalidPart,
        ] {
            let pause = generous().pause(&failure(kind), 1, Duration::ZERO, &budget, &random);
            assert_eq!(pause, Err(GiveUp::Permanent), "{kind:?}");
        }
        assert_eq!(budget.left(), 1_000);
    }

    #[test]
    fn retries_end_with_the_budget_and_successes_fill_it() {
        let (budget, random) = (RetryBudget::new(12), SystemRandom::from_seed(1));
        let error = failure(StoreErrorKind::Unavailable);
        let pause = || generous().pause(&error, 1, Duration::ZERO, &budget, &random);
        assert!(pause().is_ok() && pause().is_ok());
        assert_eq!(pause(), Err(GiveUp::Budget));
        (0..3).for_each(|_| budget.refund());
        assert!(pause().is_ok());
        (0..100).for_each(|_| budget.refund());
        assert_eq!(budget.left(), 12, "it does not overflow");
    }

    proptest! {
        #[test]
        fn a_pause_is_what_was_asked_for_and_a_bounded_jitter(
            seed: u64,
            attempts in 1_u32..90,
            base_ms in prop_oneof![0_u64..1_000, Just(u64::MAX)],
            retry_after in prop::option::of(0_u64..200_000),
        ) {
            let policy = RetryPolicy { base_ms, ..generous() };
            let asked = retry_after.map(Duration::from_millis);
            let error = failure(StoreErrorKind::Throttled).with_retry_after(asked);
            let (budget, random) = (RetryBudget::new(5), SystemRandom::from_seed(seed));
            let pause = policy.pause(&error, attempts, Duration::ZERO, &budget, &random);
            let least = asked.unwrap_or_default().min(Duration::from_secs(60));
            let doubled = base_ms.saturating_mul(2_u64.saturating_pow(attempts - 1));
            let most = least + Duration::from_millis(doubled.min(20_000));
            let pause = pause.unwrap();
            prop_assert!((least..=most).contains(&pause), "{least:?} {pause:?} {most:?}");
        }

        #[test]
        fn tries_are_bounded_in_number_and_time(
            seed: u64,
            attempts_max in 0_u32..10,
            total_ms in 0_u64..10_000,
        ) {
            let policy = RetryPolicy { attempts_max, total_ms, ..RetryPolicy::default() };
            let (budget, random) = (RetryBudget::new(500), SystemRandom::from_seed(seed));
            let error = failure(StoreErrorKind::Conflict);
            let (mut elapsed, mut attempts) = (Duration::ZERO, 1);
            while let Ok(pause) = policy.pause(&error, attempts, elapsed, &budget, &random) {
                elapsed += pause;
                attempts += 1;
                prop_assert!(attempts <= attempts_max);
                prop_assert!(elapsed <= Duration::from_millis(total_ms));
            }
        }
    }

    #[test]
    fn jitter_is_full_and_follows_from_the_seed() {
        let error = failure(StoreErrorKind::Unavailable);
        let pauses = |seed| -> Vec<_> {
            let (budget, random) = (RetryBudget::new(u32::MAX), SystemRandom::from_seed(seed));
            let pause = |_| generous().pause(&error, 1, Duration::ZERO, &budget, &random).unwrap();
            (0..1_000).map(pause).collect()
        };
        let drawn = pauses(7);
        assert_eq!(drawn, pauses(7));
        let below = |ms| drawn.iter().filter(|p| **p < Duration::from_millis(ms)).count();
        assert!((150..350).contains(&below(25)), "a quarter of them in the first quarter");
        assert!((400..600).contains(&below(50)), "half of them in the first half");
    }
}
