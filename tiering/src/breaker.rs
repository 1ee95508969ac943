//! The circuit breaker of an endpoint: while most calls fail, further ones are refused at once, so
//! that a store that is down costs its callers no time, and its recovery no stampede.
//!
//! Owns the state and what is shown of it. Never waits and never retries. Called by the store that
//! retries, around each try.
//!
//! No crate does this with an injected clock: `failsafe` and `recloser` read the system's, and a
//! state that only real time can change cannot be tested as a specification.
//!
//! # Invariants
//! - Closed: every call goes. The breaker opens when of the last `window` calls at least `failures`
//!   did not reach a working endpoint, the last one included. A refusal by the store (forbidden, not found, a condition
//!   that does not hold, throttling) is an answer: the endpoint works.
//! - Open: every call is refused, until the pause is over.
//! - Half-open: one call at a time goes. `probes` answers in a row close it, a failure opens it
//!   again for twice as long, up to a limit.

use akidb_vfs::Clock;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use std::{sync::Arc, time::Duration};

/// When an endpoint is given a rest. Plain data; times in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct BreakerSettings {
    /// Whether calls are ever refused. Default: true.
    pub enabled: bool,
    /// How many of the last calls are looked at, 1 to 64. Default: 20.
    pub window: u32,
    /// How many of them must have failed, once the window is full. Default: 16. A store that loses a
    /// third of all calls at random stays far below; lower it to give up sooner.
    pub failures: u32,
    /// How long calls are refused at first. Default: 5,000. It doubles each time that the endpoint is
    /// found still down.
    pub open_ms: u64,
    /// How long calls are refused at most before the endpoint is tried again. Default: 60,000.
    pub open_max_ms: u64,
    /// How many answers in a row close the breaker. Default: 2.
    pub probes: u32,
}

impl Default for BreakerSettings {
    fn default() -> Self {
        Self {
            enabled: true,
            window: 20,
            failures: 16,
            open_ms: 5_000,
            open_max_ms: 60_000,
            probes: 2,
        }
    }
}

/// What a breaker does with calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum BreakerState {
    /// They go.
    Closed,
    /// They are refused, for so long still.
    Open {
        /// When the endpoint is tried again.
        retry_in: Duration,
    },
    /// One at a time goes, to see whether the endpoint works again.
    HalfOpen,
}

/// What is shown of a breaker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct BreakerStats {
    /// What it does now.
    pub state: BreakerState,
    /// How many of the calls that it looks at failed.
    pub failures: u32,
    /// How often it opened.
    pub opened: u64,
    /// How many calls it refused.
    pub refused: u64,
}

/// A call was refused, because most of those before it failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the endpoint failed most calls of late, and is tried again in {} ms", .retry_in.as_millis())]
pub struct BreakerOpen {
    /// When the endpoint is tried again.
    pub retry_in: Duration,
}

/// The breaker of one endpoint.
///
/// ```
/// use akidb_tiering::{BreakerSettings, BreakerState, CircuitBreaker};
/// use akidb_vfs::sim::SimClock;
/// use std::{sync::Arc, time::Duration};
///
/// let clock = SimClock::new();
/// let settings = BreakerSettings { window: 4, failures: 3, ..BreakerSettings::default() };
/// let breaker = CircuitBreaker::new(settings, Arc::new(clock.clone()));
/// for _ in 0..4 {
///     breaker.admit()?.failed();
/// }
/// assert!(breaker.admit().is_err());
/// clock.advance(Duration::from_secs(5));
/// breaker.admit()?.answered();
/// assert_eq!(breaker.stats().state, BreakerState::HalfOpen);
/// # Ok::<(), akidb_tiering::BreakerOpen>(())
/// ```
#[derive(Debug)]
pub struct CircuitBreaker {
    settings: BreakerSettings,
    clock: Arc<dyn Clock>,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    phase: Phase,
    /// The last calls, the newest in the lowest bit: 1 is a failure.
    history: u64,
    /// How many bits of it are calls.
    known: u32,
    /// How long it opens the next time, in milliseconds.
    next_open_ms: u64,
    opened: u64,
    refused: u64,
    /// Raised by each change of phase: calls that were admitted before it say nothing any more.
    turn: u64,
}

#[derive(Clone, Copy, Debug)]
enum Phase {
    Closed,
    OpenUntil(Duration),
    HalfOpen { probing: bool, answers: u32 },
}

/// A call that was let through. Dropped without an answer, it says nothing.
#[derive(Debug)]
#[must_use = "say what became of the call"]
pub struct Admitted<'a> {
    breaker: &'a CircuitBreaker,
    turn: u64,
    told: bool,
}

impl CircuitBreaker {
    /// A closed breaker.
    #[must_use]
    pub fn new(settings: BreakerSettings, clock: Arc<dyn Clock>) -> Self {
        let state = State {
            phase: Phase::Closed,
            history: 0,
            known: 0,
            next_open_ms: settings.open_ms,
            opened: 0,
            refused: 0,
            turn: 0,
        };
        Self { settings, clock, state: Mutex::new(state) }
    }

    /// Asks whether a call may be made.
    ///
    /// # Errors
    /// [`BreakerOpen`] if not: nothing was sent.
    pub fn admit(&self) -> Result<Admitted<'_>, BreakerOpen> {
        let now = self.clock.monotonic();
        let mut state = self.state.lock();
        if let Phase::OpenUntil(until) = state.phase
            && now >= until
        {
            state.change(Phase::HalfOpen { probing: false, answers: 0 });
        }
        let retry_in = match &mut state.phase {
            Phase::Closed => Duration::ZERO,
            Phase::HalfOpen { probing, .. } if !*probing => {
                *probing = true;
                Duration::ZERO
            }
            // The probe takes about as long as a call: who is refused meanwhile shall not spin.
            Phase::HalfOpen { .. } => Duration::from_millis(self.settings.open_ms.max(1)),
            Phase::OpenUntil(until) => until.saturating_sub(now),
        };
        if !retry_in.is_zero() && self.settings.enabled {
            state.refused += 1;
            return Err(BreakerOpen { retry_in });
        }
        Ok(Admitted { breaker: self, turn: state.turn, told: false })
    }

    /// What it does, and what it has done.
    pub fn stats(&self) -> BreakerStats {
        let state = self.state.lock();
        let now = self.clock.monotonic();
        let shown = match state.phase {
            Phase::Closed => BreakerState::Closed,
            Phase::OpenUntil(until) if until > now => {
                BreakerState::Open { retry_in: until.saturating_sub(now) }
            }
            Phase::OpenUntil(_) | Phase::HalfOpen { .. } => BreakerState::HalfOpen,
        };
        let failures = state.failures();
        BreakerStats { state: shown, failures, opened: state.opened, refused: state.refused }
    }

    fn told(&self, turn: u64, failed: bool) {
        let mut state = self.state.lock();
        if turn != state.turn || !self.settings.enabled {
            return;
        }
        let window = self.settings.window.clamp(1, u64::BITS);
        match state.phase {
            Phase::Closed => {
                state.note(failed, window);
                let most = state.failures() >= self.settings.failures.max(1);
                if failed && state.known == window && most {
                    self.open(&mut state);
                }
            }
            Phase::HalfOpen { .. } if failed => self.open(&mut state),
            Phase::HalfOpen { answers, .. } if answers + 1 >= self.settings.probes => {
                state.change(Phase::Closed);
                (state.history, state.known) = (0, 0);
                state.next_open_ms = self.settings.open_ms;
            }
            Phase::HalfOpen { answers, .. } => {
                state.phase = Phase::HalfOpen { probing: false, answers: answers + 1 };
            }
            Phase::OpenUntil(_) => {}
        }
    }

    fn open(&self, state: &mut State) {
        let pause = Duration::from_millis(state.next_open_ms.min(self.settings.open_max_ms));
        state.next_open_ms = state.next_open_ms.saturating_mul(2).min(self.settings.open_max_ms);
        state.opened += 1;
        state.change(Phase::OpenUntil(self.clock.monotonic().saturating_add(pause)));
    }
}

impl State {
    fn change(&mut self, phase: Phase) {
        self.phase = phase;
        self.turn += 1;
    }

    fn note(&mut self, failed: bool, window: u32) {
        let mask = u64::MAX >> (u64::BITS - window);
        self.history = (self.history << 1 | u64::from(failed)) & mask;
        self.known = (self.known + 1).min(window);
    }

    fn failures(&self) -> u32 {
        self.history.count_ones()
    }
}

impl Admitted<'_> {
    /// The endpoint answered, whatever it said.
    pub fn answered(mut self) {
        self.told = true;
        self.breaker.told(self.turn, false);
    }

    /// The endpoint could not be reached, did not answer in time, or answered that it is broken.
    pub fn failed(mut self) {
        self.told = true;
        self.breaker.told(self.turn, true);
    }
}

impl Drop for Admitted<'_> {
    fn drop(&mut self) {
        if self.told {
            return;
        }
        let mut state = self.breaker.state.lock();
        if state.turn == self.turn
            && let Phase::HalfOpen { probing, .. } = &mut state.phase
        {
            // Otherwise a cancelled probe would keep every other call out for ever.
            *probing = false;
        }
    }
}

#[cfg(test)]
mod tests;
