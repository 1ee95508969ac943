//! Faults of the network and of a busy server: which request is struck, and by what.

use akidb_vfs::{Random, SystemRandom};
use parking_lot::Mutex;
use std::time::Duration;

/// What happens to a request.
#[derive(Clone, Debug)]
pub struct Fault {
    pub(crate) kind: Kind,
    pub(crate) retry_after: Option<u64>,
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Kind {
    /// An answer with this status and code, without an effect.
    Status(u16, &'static str),
    /// 200 and an error in the body, without an effect.
    ErrorInside,
    /// The connection is closed before the request has an effect.
    ResetBefore,
    /// The connection is closed after the effect, without an answer.
    ResetAfter,
    /// No answer for this long, and no effect; then the connection is closed.
    HangBefore(Duration),
    /// The effect, then no answer for this long; then the connection is closed.
    HangAfter(Duration),
    /// The answer ends in the middle of its body.
    Truncated,
    /// The answer's body comes after this long.
    SlowBody(Duration),
}

impl Fault {
    const fn of(kind: Kind) -> Self {
        Self { kind, retry_after: None }
    }

    /// An answer with this status and this code of S3.
    pub const fn status(status: u16, code: &'static str) -> Self {
        Self::of(Kind::Status(status, code))
    }

    /// The same, and a wait in seconds in its header `Retry-After`.
    #[must_use]
    pub const fn retry_after(mut self, seconds: u64) -> Self {
        self.retry_after = Some(seconds);
        self
    }

    /// 200, and an error in the body.
    pub const fn error_inside() -> Self {
        Self::of(Kind::ErrorInside)
    }

    /// A connection that is lost before there was an effect.
    pub const fn reset_before() -> Self {
        Self::of(Kind::ResetBefore)
    }

    /// A connection that is lost after the effect.
    pub const fn reset_after() -> Self {
        Self::of(Kind::ResetAfter)
    }

    /// No answer for this long, and no effect.
    pub const fn hang_before(wait: Duration) -> Self {
        Self::of(Kind::HangBefore(wait))
    }

    /// The effect, and then no answer for this long.
    pub const fn hang_after(wait: Duration) -> Self {
        Self::of(Kind::HangAfter(wait))
    }

    /// An answer whose body ends early.
    pub const fn truncated() -> Self {
        Self::of(Kind::Truncated)
    }

    /// An answer whose body comes late.
    pub const fn slow_body(wait: Duration) -> Self {
        Self::of(Kind::SlowBody(wait))
    }
}

/// Which requests a fault strikes.
#[derive(Clone, Debug)]
pub struct Strike {
    method: Option<&'static str>,
    target: Option<String>,
    spared: u64,
    left: u64,
    per_mille: u64,
}

impl Strike {
    /// The next so many requests.
    pub fn next(times: u64) -> Self {
        Self { method: None, target: None, spared: 0, left: times, per_mille: 1_000 }
    }

    /// The `nth` request from now on; 1 is the next.
    pub fn nth(nth: u64) -> Self {
        Self { spared: nth.saturating_sub(1), ..Self::next(1) }
    }

    /// All from now on.
    pub fn always() -> Self {
        Self::next(u64::MAX)
    }

    /// So many of a thousand, by chance.
    pub fn by_chance(per_mille: u64) -> Self {
        Self { per_mille, ..Self::always() }
    }

    /// Of those, only requests of this method.
    #[must_use]
    pub fn of(mut self, method: &'static str) -> Self {
        self.method = Some(method);
        self
    }

    /// Of those, only requests whose path and query contain this.
    #[must_use]
    pub fn to(mut self, part: impl Into<String>) -> Self {
        self.target = Some(part.into());
        self
    }

    fn fits(&self, method: &str, target: &str) -> bool {
        self.method.is_none_or(|of| of == method)
            && self.target.as_ref().is_none_or(|part| target.contains(&**part))
    }
}

/// What is going to strike.
#[derive(Debug)]
pub(crate) struct Plan {
    random: SystemRandom,
    strikes: Mutex<Vec<(Strike, Fault)>>,
    latency: Mutex<Duration>,
}

impl Plan {
    pub(crate) fn new() -> Self {
        let random = SystemRandom::from_seed(0x5333);
        Self { random, strikes: Mutex::default(), latency: Mutex::default() }
    }

    pub(crate) fn add(&self, strike: Strike, fault: Fault) {
        self.strikes.lock().push((strike, fault));
    }

    pub(crate) fn heal(&self) {
        self.strikes.lock().clear();
    }

    pub(crate) fn set_latency(&self, latency: Duration) {
        *self.latency.lock() = latency;
    }

    pub(crate) fn latency(&self) -> Duration {
        *self.latency.lock()
    }

    /// The fault of the next request, if it has one. Every strike counts the request, and the first
    /// whose turn it is decides.
    pub(crate) fn decide(&self, method: &str, target: &str) -> Option<Fault> {
        let mut decided = None;
        let mut strikes = self.strikes.lock();
        for (strike, fault) in strikes.iter_mut().filter(|(s, _)| s.fits(method, target)) {
            if strike.spared > 0 {
                strike.spared -= 1;
            } else if decided.is_none()
                && strike.left > 0
                && self.random.next_u64() % 1_000 < strike.per_mille
            {
                strike.left -= 1;
                decided = Some(fault.clone());
            }
        }
        decided
    }
}
