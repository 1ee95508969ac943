//! The answer to a write, and the wake-ups of a whole group: a [`Reply`] on the log's side, an
//! [`Answer`] on the caller's, by `.await` on any executor or by blocking.
//!
//! A group of 256 blocked callers costs 256 wake-ups, and the thread that does them does nothing
//! else meanwhile. So it wakes only the first of them, and each that wakes wakes the next
//! ([`Wakes`]): the log goes on with the next group, and the wake-ups spread over all processors.
//! Tasks are woken by the log's thread as before, because nobody can say when a task will run: a
//! task that is woken and not polled must hold up nobody.
//!
//! Pure: locks and threads by alias, no I/O, no clock. Called by the engine's sink and its callers.
//!
//! # Invariants
//! - Every thread that waits for an answered reply is woken. All that [`Wakes`] lists were answered
//!   before it is armed; from then on each thread that takes its answer wakes [`FAN_OUT`] more, once;
//!   and who took its answer before that left as many for [`Wakes::go`] to wake. So wake-ups given
//!   out stay ahead of threads that are done, until the list is empty.
//! - A reply dropped without an answer answers `None`, so nobody waits for ever.

use crate::sync::{Mutex, Thread, current_thread, park};
use std::{
    fmt,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker},
};

/// How many others each woken thread wakes. Two keeps a second processor busy from the start.
const FAN_OUT: usize = 2;

struct Shared<T> {
    slot: Mutex<Slot<T>>,
}

enum Slot<T> {
    Waiting(Waiter),
    Answered(T, Option<Arc<Relay>>),
    /// Dropped without an answer, or answered and taken.
    Gone,
}

/// Who is to be woken.
enum Waiter {
    /// The caller has not come to wait yet.
    Nobody,
    Task(Waker),
    Thread(Thread),
}

impl Waiter {
    fn wake(self) {
        match self {
            Self::Nobody => {}
            Self::Task(waker) => waker.wake(),
            Self::Thread(thread) => thread.unpark(),
        }
    }
}

/// The side that answers, once.
pub struct Reply<T> {
    /// `None` once answered.
    shared: Option<Arc<Shared<T>>>,
}

/// The side that waits. Dropping it changes nothing for anybody else.
#[must_use = "an answer that nobody waits for says nothing about the work"]
pub struct Answer<T> {
    shared: Arc<Shared<T>>,
}

/// A connected pair.
///
/// ```
/// let (reply, answer) = akidb_wal::reply();
/// let mut wakes = akidb_wal::Wakes::new();
/// reply.settle(7, &mut wakes);
/// wakes.go();
/// assert_eq!(answer.wait(), Some(7));
/// ```
pub fn reply<T>() -> (Reply<T>, Answer<T>) {
    let shared = Arc::new(Shared { slot: Mutex::new(Slot::Waiting(Waiter::Nobody)) });
    (Reply { shared: Some(Arc::clone(&shared)) }, Answer { shared })
}

impl<T> Reply<T> {
    /// Answers, and wakes whoever waits.
    pub fn answer(mut self, answer: T) {
        if let Some(shared) = self.shared.take() {
            shared.put(Slot::Answered(answer, None)).wake();
        }
    }

    /// Answers as a member of a group: whoever waits is woken by [`Wakes::go`], at the latest.
    pub fn settle(mut self, answer: T, wakes: &mut Wakes) {
        if let Some(shared) = self.shared.take() {
            let relay = Arc::clone(&wakes.relay);
            match shared.put(Slot::Answered(answer, Some(relay))) {
                Waiter::Thread(thread) => wakes.threads.push(thread),
                Waiter::Task(waker) => wakes.tasks.push(waker),
                Waiter::Nobody => {}
            }
        }
    }
}

impl<T> Drop for Reply<T> {
    fn drop(&mut self) {
        if let Some(shared) = self.shared.take() {
            shared.put(Slot::Gone).wake();
        }
    }
}

impl<T> Shared<T> {
    /// Ends the waiting; returns who is to be woken, outside the lock: a waker may run code that
    /// polls the answer at once.
    fn put(&self, slot: Slot<T>) -> Waiter {
        match std::mem::replace(&mut *self.slot.lock(), slot) {
            Slot::Waiting(waiter) => waiter,
            Slot::Answered(..) | Slot::Gone => Waiter::Nobody,
        }
    }

    /// The answer, if it is there; else `waiter` is remembered.
    fn take_or_wait(&self, waiter: impl FnOnce() -> Waiter) -> Option<Option<T>> {
        let mut slot = self.slot.lock();
        match std::mem::replace(&mut *slot, Slot::Gone) {
            Slot::Waiting(_) => {
                *slot = Slot::Waiting(waiter());
                None
            }
            Slot::Answered(answer, relay) => {
                drop(slot);
                if let Some(relay) = relay {
                    relay.pass_on();
                }
                Some(Some(answer))
            }
            Slot::Gone => Some(None),
        }
    }
}

impl<T> Answer<T> {
    /// Blocks this thread until the answer is there; `None` if nobody is left to answer. Works
    /// inside a runtime too, where it holds up that runtime's thread like any other blocking call.
    pub fn wait(self) -> Option<T> {
        loop {
            let waiter = || Waiter::Thread(current_thread());
            if let Some(answer) = self.shared.take_or_wait(waiter) {
                return answer;
            }
            // May return for nothing, or for a wake-up that came after an answer was taken.
            park();
        }
    }
}

impl<T> Future for Answer<T> {
    type Output = Option<T>;

    /// Ready once; polled again after that it says `None`.
    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let waiter = || Waiter::Task(context.waker().clone());
        self.shared.take_or_wait(waiter).map_or(Poll::Pending, Poll::Ready)
    }
}

/// Who is to be woken for one group. Dropping it wakes them too, so that a panic between two
/// answers leaves nobody asleep.
pub struct Wakes {
    relay: Arc<Relay>,
    threads: Vec<Thread>,
    tasks: Vec<Waker>,
}

impl Wakes {
    /// Nobody yet.
    #[must_use]
    pub fn new() -> Self {
        Self { relay: Arc::default(), threads: Vec::new(), tasks: Vec::new() }
    }

    /// Wakes all tasks, and the first of the threads, who wake the others.
    pub fn go(mut self) {
        self.start();
    }

    fn start(&mut self) {
        self.relay.start(std::mem::take(&mut self.threads));
        self.tasks.drain(..).for_each(Waker::wake);
    }
}

impl Default for Wakes {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Wakes {
    fn drop(&mut self) {
        if !self.threads.is_empty() || !self.tasks.is_empty() {
            self.start();
        }
    }
}

/// The wake-ups of a group that nobody has done yet.
#[derive(Default)]
struct Relay {
    state: Mutex<RelayState>,
}

#[derive(Default)]
struct RelayState {
    /// Set once `left` lists all threads of the group, each with its answer.
    armed: bool,
    left: Vec<Thread>,
    /// Threads that took their answers before there was a list.
    early: usize,
}

impl Relay {
    fn start(&self, threads: Vec<Thread>) {
        let mut state = self.state.lock();
        state.armed = true;
        state.left = threads;
        let first = FAN_OUT.saturating_mul(state.early.saturating_add(1));
        let keep = state.left.len().saturating_sub(first);
        let woken = state.left.split_off(keep);
        drop(state);
        woken.iter().for_each(Thread::unpark);
    }

    /// Done once by each thread that takes its answer.
    fn pass_on(&self) {
        let mut state = self.state.lock();
        if !state.armed {
            state.early += 1;
            return;
        }
        let next: [Option<Thread>; FAN_OUT] = std::array::from_fn(|_| state.left.pop());
        drop(state);
        next.iter().flatten().for_each(Thread::unpark);
    }
}

impl<T> fmt::Debug for Reply<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reply").finish_non_exhaustive()
    }
}

impl<T> fmt::Debug for Answer<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Answer").finish_non_exhaustive()
    }
}

impl fmt::Debug for Wakes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Wakes").field("threads", &self.threads.len()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use akidb_vfs::thread::spawn;

    #[test]
    fn every_waiter_of_every_group_is_woken() {
        for round in 0..50_usize {
            let (replies, answers): (Vec<_>, Vec<_>) = (0..20).map(|_| reply::<usize>()).unzip();
            let waiters: Vec<_> = answers
                .into_iter()
                .enumerate()
                .map(|(n, answer)| {
                    // Threads, tasks, and callers that have gone, in one group.
                    let work = move || match n % 5 {
                        0 => drop(answer),
                        1 => assert_eq!(futures_lite::future::block_on(answer), Some(n)),
                        _ => assert_eq!(answer.wait(), Some(n)),
                    };
                    spawn("waiter", work).unwrap()
                })
                .collect();
            if round % 2 == 0 {
                std::thread::yield_now();
            }
            let mut wakes = Wakes::new();
            replies.into_iter().enumerate().for_each(|(n, reply)| reply.settle(n, &mut wakes));
            wakes.go();
            waiters.into_iter().for_each(|waiter| waiter.join().unwrap());
        }
    }

    #[test]
    fn a_dropped_reply_and_dropped_wakes_leave_nobody_asleep() {
        let (settled, first) = reply::<()>();
        let (dropped, second) = reply::<()>();
        let first = spawn("settled", move || assert_eq!(first.wait(), Some(()))).unwrap();
        let second = spawn("dropped", move || assert_eq!(second.wait(), None)).unwrap();
        let mut wakes = Wakes::new();
        settled.settle((), &mut wakes);
        drop(dropped);
        drop(wakes);
        first.join().unwrap();
        second.join().unwrap();
    }

    #[test]
    fn an_answer_by_itself_wakes_at_once() {
        let (reply, answer) = reply();
        let waiter = spawn("waiter", move || assert_eq!(answer.wait(), Some(1))).unwrap();
        reply.answer(1);
        waiter.join().unwrap();
    }
}
