//! Simulated time: it moves only when a test says so, hence no test ever waits.

use crate::Clock;
use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

/// The wall clock's reading when a simulation starts: 2026-01-01 00:00 UTC.
const START_UNIX_MS: u64 = 1_767_225_600_000;

/// A clock that stands still until it is advanced. Clones share the time.
///
/// ```
/// use akidb_vfs::{Clock, sim::SimClock};
/// use std::time::Duration;
///
/// let clock = SimClock::new();
/// let before = clock.unix_ms();
/// clock.advance(Duration::from_secs(6 * 3600));
/// assert_eq!(clock.monotonic(), Duration::from_secs(6 * 3600));
/// assert_eq!(clock.unix_ms() - before, 6 * 3600 * 1000);
/// ```
#[derive(Clone, Debug, Default)]
pub struct SimClock {
    nanos: Arc<AtomicU64>,
}

impl SimClock {
    /// A clock at time zero.
    pub fn new() -> Self {
        Self::default()
    }

    /// Moves the time forward.
    pub fn advance(&self, by: Duration) {
        let nanos = u64::try_from(by.as_nanos()).unwrap_or(u64::MAX);
        self.nanos.fetch_add(nanos, Ordering::SeqCst);
    }
}

impl Clock for SimClock {
    fn monotonic(&self) -> Duration {
        Duration::from_nanos(self.nanos.load(Ordering::SeqCst))
    }

    fn unix_ms(&self) -> u64 {
        START_UNIX_MS + self.nanos.load(Ordering::SeqCst) / 1_000_000
    }
}
