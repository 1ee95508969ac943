//! The hand-off between callers and the log's thread: a queue that many push to and one takes
//! from, with an end. Pure: locks by alias, no I/O, no clock. Called by `handle` and `worker`.
//!
//! # Invariants
//! - An item pushed with `Ok` is taken: the end is only seen by the taker once the queue is empty.
//! - A push after the end gives the item back.
//! - No lost wakeup: every change that a waiter looks for is made and announced under the lock.

use crate::sync::{Condvar, Mutex};
use akidb_vfs::planted;
use std::{collections::VecDeque, time::Duration};

/// What the taker woke up for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wake {
    Items,
    Timeout,
    Ended,
}

#[derive(Debug)]
pub(super) struct Queue<T> {
    state: Mutex<State<T>>,
    changed: Condvar,
}

#[derive(Debug)]
struct State<T> {
    items: VecDeque<T>,
    ended: bool,
    /// The taker sleeps until there are this many items.
    wanted: usize,
}

impl<T> Queue<T> {
    pub(super) fn new() -> Self {
        let state = State { items: VecDeque::new(), ended: false, wanted: 1 };
        Self { state: Mutex::new(state), changed: Condvar::new() }
    }

    /// Adds an item, or gives it back after the end.
    pub(super) fn push(&self, item: T) -> Result<(), T> {
        let mut state = self.state.lock();
        if state.ended {
            return Err(item);
        }
        state.items.push_back(item);
        if state.items.len() >= state.wanted && !planted("wal.wakeup-missed") {
            self.changed.notify_one();
        }
        Ok(())
    }

    /// Ends the queue: nothing can be pushed any more.
    pub(super) fn end(&self) {
        self.state.lock().ended = true;
        self.changed.notify_all();
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub(super) fn len(&self) -> usize {
        self.state.lock().items.len()
    }

    /// Takes everything, in order. `into` must be empty; its memory goes to the queue.
    pub(super) fn take_all(&self, into: &mut VecDeque<T>) {
        assert!(into.is_empty(), "items taken earlier come first");
        std::mem::swap(&mut self.state.lock().items, into);
    }

    /// Sleeps until there is an item, the queue ends, or the time is over (`None`: never).
    pub(super) fn wait(&self, timeout: Option<Duration>) -> Wake {
        self.wait_for(1, timeout)
    }

    /// Sleeps until there are `count` items, the queue ends, or the time is over.
    pub(super) fn wait_for(&self, count: usize, timeout: Option<Duration>) -> Wake {
        let mut state = self.state.lock();
        state.wanted = count;
        let mut timed_out = false;
        loop {
            if state.items.len() >= count {
                return Wake::Items;
            }
            if state.ended {
                return if state.items.is_empty() { Wake::Ended } else { Wake::Items };
            }
            if timed_out {
                return Wake::Timeout;
            }
            match timeout {
                None => self.changed.wait(&mut state),
                Some(timeout) => {
                    // Woken for nothing, it waits again for all of the time; the only waker is a
                    // push that reached `wanted`, or the end.
                    timed_out = self.changed.wait_for(&mut state, timeout).timed_out();
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn items_come_out_in_order_and_the_end_after_them() {
        let queue = Queue::new();
        queue.push(1).unwrap();
        queue.push(2).unwrap();
        queue.end();
        assert_eq!(queue.push(3), Err(3));
        assert_eq!(queue.wait(None), Wake::Items);
        let mut taken = VecDeque::new();
        queue.take_all(&mut taken);
        assert_eq!(taken, [1, 2]);
        assert_eq!(queue.wait(None), Wake::Ended);
    }

    #[test]
    fn waiting_for_company_ends_with_the_time() {
        let queue = Queue::new();
        queue.push(1).unwrap();
        assert_eq!(queue.wait_for(2, Some(Duration::from_millis(1))), Wake::Timeout);
        assert_eq!(queue.wait(Some(Duration::from_millis(1))), Wake::Items);
    }
}
