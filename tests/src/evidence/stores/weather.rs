//! How the store fails while a step runs, and the pauses of both sides.

use akidb_tiering::{
    BoxFuture, Sleep,
    faulty::{Fault, FaultyStore},
};
use akidb_vfs::sim::SimClock;
use fastrand::Rng;
use parking_lot::Mutex;
use std::{future::poll_fn, task::Poll, time::Duration};

/// What each fault is called in the counters; all there are.
pub fn fault_names() -> Vec<&'static str> {
    let mut names: Vec<_> = faults(&mut Rng::with_seed(0), true).into_iter().map(name).collect();
    names.dedup();
    names
}

/// What a fault is called.
pub(super) fn name(fault: Fault) -> &'static str {
    match fault {
        Fault::Throttle { retry_after: Some(_) } => "503 with Retry-After",
        Fault::Throttle { retry_after: None } => "503",
        Fault::ServerError => "500",
        Fault::Forbidden => "403",
        Fault::Skewed => "403, clocks apart",
        Fault::Conflict => "409",
        Fault::NotFound => "404",
        Fault::TimeoutBefore => "timeout before",
        Fault::TimeoutAfter => "timeout after",
        Fault::Reset => "reset",
        Fault::Truncated => "cut off",
        Fault::ErrorInside => "200 with an error",
        Fault::Slow(_) => "slow",
    }
}

fn faults(rng: &mut Rng, refusals: bool) -> Vec<Fault> {
    let mut all = vec![
        Fault::Throttle { retry_after: Some(Duration::from_secs(rng.u64(1..100))) },
        Fault::Throttle { retry_after: None },
        Fault::ServerError,
        Fault::Conflict,
        Fault::TimeoutBefore,
        Fault::TimeoutAfter,
        Fault::Reset,
        Fault::Truncated,
        Fault::ErrorInside,
        Fault::Slow(Duration::from_secs(20)),
    ];
    if refusals {
        all.extend([Fault::Forbidden, Fault::Skewed]);
    }
    all
}

/// Decides how the next step goes: well, now and then badly, badly, or wrong at its first calls.
pub(super) fn change(store: &FaultyStore, rng: &mut Rng, refusals: bool) {
    store.heal();
    let faults = faults(rng, refusals);
    match rng.u32(0..10) {
        0..2 => {}
        2..6 => store.fail_randomly(150, &faults),
        6 => store.fail_randomly(500, &faults),
        7 => store.fail_always(None, faults[rng.usize(..faults.len())]),
        _ => {
            store.fail_randomly(100, &faults);
            store.fail_next(None, rng.u64(1..4), faults[rng.usize(..faults.len())]);
        }
    }
}

/// The pauses of the clients: they take no time but that of the simulation, and are remembered.
#[derive(Debug)]
pub(super) struct Pauses {
    clock: SimClock,
    made: Mutex<Vec<Duration>>,
}

impl Pauses {
    pub(super) fn new(clock: SimClock) -> Self {
        Self { clock, made: Mutex::default() }
    }

    /// Those made since the last time.
    pub(super) fn take(&self) -> Vec<Duration> {
        std::mem::take(&mut self.made.lock())
    }
}

impl Sleep for Pauses {
    fn sleep(&self, wait: Duration) -> BoxFuture<'static, ()> {
        self.clock.advance(wait);
        self.made.lock().push(wait);
        pending(1)
    }
}

/// How long the store takes: a few turns of the others, by chance.
#[derive(Debug)]
pub(super) struct Turns(pub(super) Mutex<Rng>);

impl Sleep for Turns {
    fn sleep(&self, _: Duration) -> BoxFuture<'static, ()> {
        pending(self.0.lock().u32(0..4))
    }
}

/// Ends when it was polled so often. It asks to be: parts of an upload are polled when they are woken.
fn pending(mut turns: u32) -> BoxFuture<'static, ()> {
    Box::pin(poll_fn(move |context| match turns.checked_sub(1) {
        None => Poll::Ready(()),
        Some(left) => {
            turns = left;
            context.waker().wake_by_ref();
            Poll::Pending
        }
    }))
}
