//! How long the log waits for callers that are about to come back.
//!
//! Callers in a loop write again as soon as they are answered. The first of them is back before the
//! last has woken, and if the log took it at once, all others would wait for that sync and the one
//! after. So after a group of several, the log waits until as many have come as it answered, but
//! never longer than a share of what a sync has taken lately: where nobody comes back, that is all
//! that it costs, once. Nothing is waited for after a group of one. Pure; called by `worker`.

use std::time::Duration;

/// The share of a sync's time that waiting may cost.
const SHARE: u32 = 4;
/// Times above so many times the mean count as that.
const OUTLIER: u32 = 2;
/// The weight of the past in the mean of sync times.
const PAST: u32 = 7;
/// Waits shorter than this are not worth a timer: the system's own are coarser.
const SHORTEST: Duration = Duration::from_micros(10);

#[derive(Debug, Default)]
pub(super) struct Patience {
    sync_time: Duration,
    expected: usize,
}

impl Patience {
    /// A group of `answered` requests was written and synced in `time`, while `arrived` others came.
    pub(super) fn synced(&mut self, time: Duration, answered: usize, arrived: usize) {
        self.sync_time = if self.sync_time.is_zero() {
            time
        } else {
            // A disk that stalls now and then says nothing about the next sync.
            let time = time.min(self.sync_time * OUTLIER);
            (self.sync_time * PAST + time) / (PAST + 1)
        };
        self.expected = if answered > 1 { answered.saturating_add(arrived) } else { 0 };
    }

    /// A group was not synced, or failed: there is nothing to save by waiting.
    pub(super) fn forget(&mut self) {
        self.expected = 0;
    }

    /// How many requests to wait for, and how long; `None` for not at all.
    pub(super) fn company(&self, count_max: usize) -> Option<(usize, Duration)> {
        let time = self.sync_time / SHARE;
        let count = self.expected.min(count_max);
        (count > 1 && time >= SHORTEST).then_some((count, time))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn a_lone_caller_is_never_kept_waiting() {
        let mut patience = Patience::default();
        assert_eq!(patience.company(1024), None);
        patience.synced(MS, 1, 0);
        assert_eq!(patience.company(1024), None);
    }

    #[test]
    fn after_a_group_the_log_waits_for_as_many_again_and_a_share_of_a_sync() {
        let mut patience = Patience::default();
        patience.synced(MS, 5, 3);
        assert_eq!(patience.company(1024), Some((8, MS / SHARE)));
        assert_eq!(patience.company(6), Some((6, MS / SHARE)));
        patience.forget();
        assert_eq!(patience.company(1024), None);
    }

    #[test]
    fn one_slow_sync_does_not_make_the_log_wait_long() {
        let mut patience = Patience::default();
        patience.synced(MS * 8, 5, 0);
        patience.synced(MS * 1000, 5, 0);
        assert_eq!(patience.company(1024), Some((5, MS * 9 / SHARE)));
    }

    #[test]
    fn syncs_that_cost_nothing_are_not_waited_for() {
        let mut patience = Patience::default();
        patience.synced(Duration::from_micros(8), 5, 0);
        assert_eq!(patience.company(1024), None);
    }
}
