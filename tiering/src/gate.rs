//! A bounded amount of something, requests or bytes, that tasks wait for in the order in which they
//! came. Fits any executor, and may be dropped at any point of a wait.
//!
//! Owns the amount and the queue. Never looks at what passes. The adaptive limit of requests and the
//! memory bound of the batcher are gates.
//!
//! # Invariants
//! - What is out never exceeds the capacity, but for a single pass that is larger than all of it:
//!   refused it would wait for ever, so it passes alone. Nor does lowering the capacity take a pass
//!   back.
//! - First come, first served: a large pass is not overtaken for ever by small ones.
//! - A task that is woken and goes away passes the wake-up on.

use parking_lot::Mutex;
use std::{
    collections::VecDeque,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker},
};

/// The gate. Shared by all that pass.
#[derive(Debug)]
pub(crate) struct Gate(Mutex<State>);

#[derive(Debug)]
struct State {
    capacity: u64,
    out: u64,
    /// In the order of their tickets.
    waiting: VecDeque<Waiting>,
    next_ticket: u64,
}

#[derive(Debug)]
struct Waiting {
    ticket: u64,
    weight: u64,
    waker: Waker,
}

/// An amount that is out; dropped, it comes back.
#[derive(Debug)]
pub(crate) struct Pass {
    gate: Arc<Gate>,
    weight: u64,
}

impl Gate {
    pub(crate) fn new(capacity: u64) -> Arc<Self> {
        let waiting = VecDeque::new();
        Arc::new(Self(Mutex::new(State { capacity, out: 0, waiting, next_ticket: 0 })))
    }

    /// Takes this much as soon as it is there.
    pub(crate) fn pass(self: &Arc<Self>, weight: u64) -> Passing {
        Passing { gate: self.clone(), weight, ticket: None }
    }

    /// How much may be out from now on.
    pub(crate) fn set_capacity(&self, capacity: u64) {
        let mut state = self.0.lock();
        state.capacity = capacity;
        state.wake();
    }

    /// True if somebody waits.
    pub(crate) fn is_waited_for(&self) -> bool {
        !self.0.lock().waiting.is_empty()
    }

    /// How much is out.
    pub(crate) fn out(&self) -> u64 {
        self.0.lock().out
    }
}

impl State {
    fn fits(&self, weight: u64) -> bool {
        self.out == 0 || self.out.checked_add(weight).is_some_and(|out| out <= self.capacity)
    }

    /// Wakes those whose turn it may be. More may be woken than fit: they look again.
    fn wake(&self) {
        let mut free = self.capacity.saturating_sub(self.out);
        for (at, waiting) in self.waiting.iter().enumerate() {
            if at > 0 && waiting.weight > free {
                break;
            }
            free = free.saturating_sub(waiting.weight);
            waiting.waker.wake_by_ref();
        }
    }
}

impl Drop for Pass {
    fn drop(&mut self) {
        self.release();
    }
}

impl Pass {
    /// Takes this much out of the pass as one of its own; `None` if there is less.
    pub(crate) fn split(&mut self, weight: u64) -> Option<Self> {
        self.weight = self.weight.checked_sub(weight)?;
        Some(Self { gate: self.gate.clone(), weight })
    }

    /// Gives all of it back.
    pub(crate) fn release(&mut self) {
        let mut state = self.gate.0.lock();
        state.out -= std::mem::take(&mut self.weight);
        state.wake();
    }
}

/// A wait for [`Gate::pass`].
#[derive(Debug)]
pub(crate) struct Passing {
    gate: Arc<Gate>,
    weight: u64,
    /// The place in the queue, once there is one.
    ticket: Option<u64>,
}

impl Future for Passing {
    type Output = Pass;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Pass> {
        let gate = self.gate.clone();
        let mut state = gate.0.lock();
        let first = match self.ticket {
            Some(ticket) => state.waiting.front().is_some_and(|front| front.ticket == ticket),
            None => state.waiting.is_empty(),
        };
        if first && state.fits(self.weight) {
            if self.ticket.take().is_some() {
                state.waiting.pop_front();
            }
            state.out += self.weight;
            // There may be room for the next one too.
            state.wake();
            let weight = self.weight;
            drop(state);
            return Poll::Ready(Pass { gate, weight });
        }
        let waker = context.waker().clone();
        match self.ticket {
            Some(ticket) => {
                let place = state.waiting.iter_mut().find(|waiting| waiting.ticket == ticket);
                if let Some(place) = place {
                    place.waker = waker;
                }
            }
            None => {
                let ticket = state.next_ticket;
                state.next_ticket += 1;
                state.waiting.push_back(Waiting { ticket, weight: self.weight, waker });
                self.ticket = Some(ticket);
            }
        }
        Poll::Pending
    }
}

impl Drop for Passing {
    fn drop(&mut self) {
        if let Some(ticket) = self.ticket {
            let mut state = self.gate.0.lock();
            state.waiting.retain(|waiting| waiting.ticket != ticket);
            state.wake();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::{
        sync::atomic::{AtomicU64, Ordering},
        task::Wake,
    };

    /// Counts the wake-ups of one task.
    #[derive(Default)]
    struct Woken(AtomicU64);

    impl Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    /// A task that polls only when it is woken, as an executor would.
    struct Task {
        passing: Option<Passing>,
        woken: Arc<Woken>,
        seen: u64,
        pass: Option<Pass>,
    }

    impl Task {
        fn new(gate: &Arc<Gate>, weight: u64) -> Self {
            let woken = Arc::new(Woken::default());
            let passing = Some(gate.pass(weight));
            let mut task = Self { passing, woken, seen: 0, pass: None };
            task.poll();
            task
        }

        fn poll(&mut self) {
            let Some(passing) = &mut self.passing else { return };
            let waker = Waker::from(self.woken.clone());
            if let Poll::Ready(pass) = Pin::new(passing).poll(&mut Context::from_waker(&waker)) {
                self.pass = Some(pass);
                self.passing = None;
            }
        }

        fn poll_if_woken(&mut self) -> bool {
            let woken = self.woken.0.load(Ordering::SeqCst);
            let due = woken > self.seen && self.passing.is_some();
            self.seen = woken;
            if due {
                self.poll();
            }
            due
        }
    }

    #[derive(Clone, Debug)]
    enum Step {
        Arrive(u64),
        /// The pass or the wait of a task is dropped.
        Leave(usize),
        Capacity(u64),
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        prop::collection::vec(
            prop_oneof![
                4 => (0_u64..8).prop_map(Step::Arrive),
                3 => (0_usize..8).prop_map(Step::Leave),
                1 => (0_u64..12).prop_map(Step::Capacity),
            ],
            0..60,
        )
    }

    proptest! {
        #[test]
        fn nobody_is_overtaken_forgotten_or_let_in_beyond_the_capacity(steps in steps()) {
            let (gate, mut capacity) = (Gate::new(10), 10);
            let mut tasks: Vec<Task> = Vec::new();
            for step in steps {
                match step {
                    Step::Arrive(weight) => tasks.push(Task::new(&gate, weight)),
                    Step::Leave(at) if at < tasks.len() => drop(tasks.remove(at)),
                    Step::Leave(_) => {}
                    Step::Capacity(to) => {
                        capacity = to;
                        gate.set_capacity(to);
                    }
                }
                while tasks.iter_mut().any(Task::poll_if_woken) {}
                let out: u64 = tasks.iter().filter_map(|t| t.pass.as_ref()).map(|p| p.weight).sum();
                prop_assert_eq!(gate.out(), out);
                // The first that waits does so for a reason, and nobody behind it is in.
                if let Some(first) = tasks.iter().position(|task| task.passing.is_some()) {
                    let weight = tasks[first].passing.as_ref().unwrap().weight;
                    prop_assert!(out > 0 && out + weight > capacity, "{out} {weight} {capacity}");
                    prop_assert!(tasks[first..].iter().all(|task| task.pass.is_none()));
                    prop_assert!(gate.is_waited_for());
                    prop_assert!(Task::new(&gate, 0).pass.is_none(), "no way around the queue");
                }
            }
            tasks.clear();
            prop_assert_eq!(gate.out(), 0);
        }
    }

    #[test]
    fn what_is_larger_than_the_gate_passes_alone() {
        let gate = Gate::new(4);
        let take = |weight| Task::new(&gate, weight).pass;
        let large = take(9).unwrap();
        assert!(take(1).is_none());
        drop(large);
        let small = take(1).unwrap();
        assert!(take(9).is_none());
        drop(small);
    }
}
