//! How often, and when last, a collection was read: a handful of counters that every search of the
//! collection bumps, hence without a lock and without an allocation.
//!
//! Owns the counts of a sliding window and the time of the last access. Never decides anything: the
//! policy ([`crate::plan`]) does, from the [`Access`] it is handed. Time is told by the caller, from
//! its [`Clock::monotonic`](akidb_vfs::Clock::monotonic); nothing is kept across a restart.
//!
//! # Invariants
//! - The window is cut into [`SLOTS`] slots of equal length. A slot holds the number of the period
//!   that it counts and the count, in one word: whoever comes first in a new period starts it anew,
//!   so no timer has to.
//! - [`AccessTracker::summary`] counts every access of the last window but one slot, and none that
//!   is older than the window.
//! - Accesses that run beside a [`AccessTracker::reset`] or a turn of the slot may be missed or
//!   counted on either side; nothing but a policy's opinion hangs on one access.

use std::{
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::Duration,
};

/// Into how many slots the window is cut.
pub const SLOTS: u32 = 12;

/// What is known of a collection's accesses at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Access {
    /// Accesses in the window, since the last reset.
    pub count: u64,
    /// When the last one was, on the clock of the tracker's caller; when the tracker was made, if
    /// there was none.
    pub last: Duration,
}

impl Access {
    /// How long ago the last access was.
    #[must_use]
    pub fn idle(&self, now: Duration) -> Duration {
        now.saturating_sub(self.last)
    }
}

/// Counts the accesses of one collection. Shared by all that search it.
///
/// ```
/// use akidb_tiering::AccessTracker;
/// use akidb_vfs::{Clock, sim::SimClock};
/// use std::time::Duration;
///
/// let (clock, hour) = (SimClock::new(), Duration::from_secs(3600));
/// let tracker = AccessTracker::new(hour, clock.monotonic());
/// tracker.record(clock.monotonic());
/// clock.advance(hour / 2);
/// tracker.record(clock.monotonic());
/// assert_eq!(tracker.summary(clock.monotonic()).count, 2);
/// clock.advance(hour * 3 / 4);
/// assert_eq!(tracker.summary(clock.monotonic()).count, 1, "the first has left the window");
/// ```
#[derive(Debug)]
pub struct AccessTracker {
    slot_ms: u64,
    /// The period in the upper half, its count in the lower.
    slots: [AtomicU64; SLOTS as usize],
    last_ms: AtomicU64,
}

impl AccessTracker {
    /// Counts over a window of this length, which is rounded up to a multiple of 12 milliseconds. A
    /// collection counts as used at `now`, so that opening a database demotes nothing at once.
    #[must_use]
    pub fn new(window: Duration, now: Duration) -> Self {
        Self {
            slot_ms: millis(window).div_ceil(u64::from(SLOTS)).max(1),
            slots: Default::default(),
            last_ms: AtomicU64::new(millis(now)),
        }
    }

    /// Notes an access. A load, an addition and a store at most, all relaxed: it is called by every
    /// search.
    #[inline]
    pub fn record(&self, now: Duration) {
        let now_ms = millis(now);
        if self.last_ms.load(Relaxed) < now_ms {
            // Two threads may store in the wrong order, a millisecond off.
            self.last_ms.store(now_ms, Relaxed);
        }
        let period = self.period(now_ms);
        let slot = self.slot(period);
        let mut seen = slot.load(Relaxed);
        loop {
            let ahead = period.wrapping_sub(period_of(seen));
            if ahead == 0 {
                // Below half of its range, the count cannot run over into the period, however many
                // threads are between this look and the addition.
                if count_of(seen) < u64::from(u32::MAX / 2) {
                    slot.fetch_add(1, Relaxed);
                }
                return;
            }
            if ahead > u32::MAX / 2 {
                return; // this thread slept for a window; the slot is another period's by now
            }
            match slot.compare_exchange_weak(seen, word(period, 1), Relaxed, Relaxed) {
                Ok(_) => return,
                Err(found) => seen = found,
            }
        }
    }

    /// What the policy wants to know.
    pub fn summary(&self, now: Duration) -> Access {
        let now_period = self.period(millis(now));
        let in_window = |slot: &AtomicU64| {
            let seen = slot.load(Relaxed);
            let age = now_period.wrapping_sub(period_of(seen));
            if age < SLOTS { count_of(seen) } else { 0 }
        };
        let count = self.slots.iter().map(in_window).sum();
        Access { count, last: Duration::from_millis(self.last_ms.load(Relaxed)) }
    }

    /// Forgets the counts, not the last access. For the end of every move: what brought a collection
    /// into a tier says nothing about the next move.
    pub fn reset(&self, now: Duration) {
        let period = self.period(millis(now));
        let current = self.slot(period);
        for slot in self.slots.iter().filter(|slot| !std::ptr::eq(*slot, current)) {
            slot.store(0, Relaxed);
        }
        // Not 0: an access that is about to add to this slot shall count, not lie in an old period.
        current.store(word(period, 0), Relaxed);
    }

    /// The number of the period of a time, from 1; 0 is what an unused slot says.
    fn period(&self, now_ms: u64) -> u32 {
        // Wraps after 2^32 periods: 40,000 years of the default.
        ((now_ms / self.slot_ms) as u32).wrapping_add(1)
    }

    fn slot(&self, period: u32) -> &AtomicU64 {
        // In range: the remainder of a division by the length.
        &self.slots[(period % SLOTS) as usize]
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

const fn word(period: u32, count: u32) -> u64 {
    (period as u64) << 32 | count as u64
}

const fn period_of(word: u64) -> u32 {
    (word >> 32) as u32
}

const fn count_of(word: u64) -> u64 {
    word & u32::MAX as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const WINDOW: Duration = Duration::from_secs(12);

    proptest! {
        /// Against the list of all accesses: the count lies between that of the window without its
        /// oldest slot and that of the window.
        #[test]
        fn counts_slide_with_the_window(
            gaps_ms in prop::collection::vec(0_u64..4_000, 0..60),
            resets in prop::collection::btree_set(0_usize..60, 0..3),
            wait_ms in 0_u64..20_000,
        ) {
            let (mut now, start) = (Duration::from_millis(77), Duration::from_millis(77));
            let tracker = AccessTracker::new(WINDOW, now);
            let mut accesses = Vec::new();
            let mut last = start;
            for (at, gap) in gaps_ms.into_iter().enumerate() {
                now += Duration::from_millis(gap);
                tracker.record(now);
                accesses.push(now);
                last = now;
                if resets.contains(&at) {
                    tracker.reset(now);
                    accesses.clear();
                }
                let summary = tracker.summary(now);
                prop_assert_eq!(summary.last, last);
                prop_assert!(accesses.is_empty() || summary.count > 0);
            }
            now += Duration::from_millis(wait_ms);
            let since = |span: Duration| {
                accesses.iter().filter(|at| **at + span > now).count() as u64
            };
            let summary = tracker.summary(now);
            prop_assert!(summary.count >= since(WINDOW - WINDOW / SLOTS));
            prop_assert!(summary.count <= since(WINDOW));
            prop_assert_eq!(summary.idle(now), now - last);
        }
    }

    #[test]
    fn threads_that_count_together_lose_nothing_within_a_period() {
        let tracker = AccessTracker::new(WINDOW, Duration::ZERO);
        std::thread::scope(|scope| {
            for n in 0..4 {
                let count = || (0..10_000).for_each(|_| tracker.record(Duration::from_millis(5)));
                akidb_vfs::thread::spawn_scoped(scope, &format!("count-{n}"), count).unwrap();
            }
        });
        assert_eq!(tracker.summary(Duration::from_millis(5)).count, 40_000);
    }

    #[test]
    fn a_thread_that_slept_for_a_window_does_not_wipe_what_others_counted() {
        let tracker = AccessTracker::new(WINDOW, Duration::ZERO);
        let late = Duration::from_millis(500);
        tracker.record(late + WINDOW);
        tracker.record(late);
        assert_eq!(tracker.summary(late + WINDOW).count, 1);
        assert_eq!(tracker.summary(late + WINDOW).last, late + WINDOW);
    }

    #[test]
    fn a_count_at_its_limit_stays_in_its_half_of_the_word() {
        let tracker = AccessTracker::new(WINDOW, Duration::ZERO);
        let period = tracker.period(0);
        tracker.slot(period).store(word(period, u32::MAX / 2), Relaxed);
        tracker.record(Duration::ZERO);
        assert_eq!(tracker.summary(Duration::ZERO).count, u64::from(u32::MAX / 2));
    }
}
