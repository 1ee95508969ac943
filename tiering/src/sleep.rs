//! Waiting in a future, as a component: the pauses between retries and the latency of the test
//! store. A future may be driven by any executor, so the wake-up comes from a thread of its own;
//! a test injects [`SkippedSleep`] and waits for nothing.

use crate::store::BoxFuture;
use akidb_vfs::{Clock, SystemClock, thread};
use parking_lot::{Condvar, Mutex};
use std::{
    collections::BTreeMap,
    fmt::Debug,
    future::{Future, ready},
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker},
    thread::JoinHandle,
    time::Duration,
};

/// A source of pauses.
pub trait Sleep: Send + Sync + Debug {
    /// Ends after about `wait`, counted from this call.
    fn sleep(&self, wait: Duration) -> BoxFuture<'static, ()>;
}

/// Pauses by the machine's clock: one thread wakes all who sleep.
///
/// ```
/// use akidb_tiering::{Sleep, TimerSleep};
/// use std::time::Duration;
/// let timer = TimerSleep::start()?;
/// futures_lite::future::block_on(timer.sleep(Duration::from_millis(1)));
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Debug)]
pub struct TimerSleep {
    timer: Arc<Timer>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Timer {
    clock: SystemClock,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    /// Who is to be woken when; the number tells sleepers of one moment apart.
    sleepers: BTreeMap<(Duration, u64), Waker>,
    next: u64,
    stopped: bool,
}

impl TimerSleep {
    /// Starts the thread, which ends when this is dropped.
    ///
    /// # Errors
    /// The system's error when it gives no thread.
    pub fn start() -> io::Result<Self> {
        let timer = Arc::new(Timer {
            clock: SystemClock::new(),
            state: Mutex::new(State::default()),
            changed: Condvar::new(),
        });
        let running = timer.clone();
        let thread = thread::spawn("timer", move || running.run())?;
        Ok(Self { timer, thread: Some(thread) })
    }
}

impl Drop for TimerSleep {
    fn drop(&mut self) {
        self.timer.state.lock().stopped = true;
        self.timer.changed.notify_all();
        // An executor may drop this while it is woken from that thread, which then ends by itself.
        let here = std::thread::current().id();
        if let Some(thread) = self.thread.take().filter(|thread| thread.thread().id() != here) {
            // A panic there was reported by its own hook, and nothing is left to undo.
            drop(thread.join());
        }
    }
}

impl Sleep for TimerSleep {
    fn sleep(&self, wait: Duration) -> BoxFuture<'static, ()> {
        let at = self.timer.clock.monotonic().saturating_add(wait);
        let mut state = self.timer.state.lock();
        state.next += 1;
        Box::pin(Pause { timer: self.timer.clone(), place: (at, state.next) })
    }
}

impl Timer {
    fn run(&self) {
        let mut state = self.state.lock();
        loop {
            let now = self.clock.monotonic();
            let end = if state.stopped { Duration::MAX } else { now };
            let mut due = state.sleepers.split_off(&(end, u64::MAX));
            std::mem::swap(&mut due, &mut state.sleepers);
            if !due.is_empty() {
                // A waker may poll on this thread, and the poll takes the lock.
                parking_lot::MutexGuard::unlocked(&mut state, || {
                    due.into_values().for_each(Waker::wake);
                });
            } else if state.stopped {
                return;
            } else {
                match state.sleepers.keys().next() {
                    Some((at, _)) => {
                        let wait = at.saturating_sub(now);
                        self.changed.wait_for(&mut state, wait);
                    }
                    None => self.changed.wait(&mut state),
                }
            }
        }
    }
}

/// One pause. Ends at once when the timer has been stopped: nobody would wake it.
#[derive(Debug)]
struct Pause {
    timer: Arc<Timer>,
    place: (Duration, u64),
}

impl Future for Pause {
    type Output = ();

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let mut state = self.timer.state.lock();
        if state.stopped || self.timer.clock.monotonic() >= self.place.0 {
            state.sleepers.remove(&self.place);
            return Poll::Ready(());
        }
        state.sleepers.insert(self.place, context.waker().clone());
        self.timer.changed.notify_all();
        Poll::Pending
    }
}

impl Drop for Pause {
    fn drop(&mut self) {
        self.timer.state.lock().sleepers.remove(&self.place);
    }
}

/// Pauses that are over at once, and add up what was asked for: for tests.
#[derive(Debug, Default)]
pub struct SkippedSleep(Mutex<Vec<Duration>>);

impl SkippedSleep {
    /// Nothing slept yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// The pauses asked for so far, in order.
    pub fn pauses(&self) -> Vec<Duration> {
        self.0.lock().clone()
    }
}

impl Sleep for SkippedSleep {
    fn sleep(&self, wait: Duration) -> BoxFuture<'static, ()> {
        self.0.lock().push(wait);
        Box::pin(ready(()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::join;

    #[test]
    fn every_sleeper_wakes() {
        let timer = TimerSleep::start().unwrap();
        let woken = Mutex::new(Vec::new());
        let sleeper = |millis: u64| -> BoxFuture<'_, ()> {
            let pause = timer.sleep(Duration::from_millis(millis));
            let woken = &woken;
            Box::pin(async move {
                pause.await;
                woken.lock().push(millis);
            })
        };
        futures_lite::future::block_on(join::all([60, 1, 30].map(sleeper).into()));
        // In which order is the scheduler's to say on a busy machine.
        let mut woken = woken.into_inner();
        woken.sort_unstable();
        assert_eq!(woken, [1, 30, 60]);
    }

    #[test]
    fn a_pause_ends_when_its_timer_is_stopped() {
        let timer = TimerSleep::start().unwrap();
        let pause = timer.sleep(Duration::from_secs(1_000_000));
        drop(timer);
        futures_lite::future::block_on(pause);
    }

    #[test]
    fn a_dropped_pause_leaves_nothing() {
        let timer = TimerSleep::start().unwrap();
        let mut pause = timer.sleep(Duration::from_secs(1_000_000));
        assert!(pause.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
        assert_eq!(timer.timer.state.lock().sleepers.len(), 1);
        drop(pause);
        assert!(timer.timer.state.lock().sleepers.is_empty());
    }
}
