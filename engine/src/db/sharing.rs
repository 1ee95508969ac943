//! Changes that are shared with the bucket together: each costs a conditional put, and many that come at
//! once cost one.
//!
//! Owns who waits, what became of each, and how many of the last commit have still to be recorded in the
//! local manifest. One of those who wait leads and commits for all. Called by `bucket`.
//!
//! # Invariants
//! - Between two commits every change of the first is recorded, or given up: the next is made of what the
//!   local manifest says, and would give up what it does not say yet.
//! - The session is never asked for by a change that is shared and not recorded, nor by one that waits for
//!   its answer: whoever holds the session may be waiting for it.

use super::bucket::NotShared;
use crate::bucket::{Contents, Lineage};
use parking_lot::{Condvar, Mutex};
use std::sync::Arc;

/// What a change does to what the bucket says.
pub(super) type Change = Box<dyn FnOnce(&mut Contents) + Send>;

/// What became of a change.
pub(super) type Answer = Result<Lineage, NotShared>;

/// Changes that wait, and those that are not recorded yet.
#[derive(Debug, Default)]
pub(super) struct Group {
    state: Mutex<State>,
    settled: Condvar,
}

#[derive(Default)]
struct State {
    waiting: Vec<(Change, Arc<Slot>)>,
    /// Whether somebody is committing what waits.
    led: bool,
    /// Changes of the last commit that are neither recorded nor given up.
    outstanding: usize,
    /// Whether one of them was recorded, and with it the commit.
    recorded: bool,
}

impl std::fmt::Debug for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("State")
            .field("waiting", &self.waiting.len())
            .field("led", &self.led)
            .field("outstanding", &self.outstanding)
            .field("recorded", &self.recorded)
            .finish()
    }
}

/// Whose turn it is.
#[derive(Debug)]
pub(super) enum Turn<'a> {
    /// Somebody has committed the change, or tried.
    Answered(Answer),
    /// The caller commits what waits.
    Leads(Lead<'a>),
}

/// The right to commit what waits; the next gets it when this is dropped.
#[derive(Debug)]
pub(super) struct Lead<'a>(&'a Group);

impl Drop for Lead<'_> {
    fn drop(&mut self) {
        self.0.state.lock().led = false;
        self.0.settled.notify_all();
    }
}

/// Where a change finds its answer.
#[derive(Debug, Default)]
pub(super) struct Slot(Mutex<Option<Answer>>);

impl Slot {
    /// The answer, once there is one.
    pub(super) fn take(&self) -> Option<Answer> {
        self.0.lock().take()
    }

    fn put(&self, answer: Answer) {
        *self.0.lock() = Some(answer);
    }
}

/// A change that the bucket knows and the local manifest does not yet.
#[derive(Debug)]
#[must_use = "a change that is shared and not recorded is undone"]
pub(super) struct Sharing<'a> {
    /// `None` where there is no bucket.
    shared: Option<(&'a Group, Lineage)>,
}

impl<'a> Sharing<'a> {
    pub(super) fn nothing() -> Self {
        Self { shared: None }
    }

    pub(super) fn of(group: &'a Group, lineage: Lineage) -> Self {
        Self { shared: Some((group, lineage)) }
    }

    /// What the edit of the local manifest has to record.
    pub(super) fn lineage(&self) -> Option<Lineage> {
        self.shared.as_ref().map(|(_, lineage)| lineage.clone())
    }

    /// The local manifest says it.
    pub(super) fn recorded(mut self) {
        if let Some((group, _)) = self.shared.take() {
            group.ends(true);
        }
    }
}

impl Drop for Sharing<'_> {
    fn drop(&mut self) {
        if let Some((group, _)) = self.shared.take() {
            group.ends(false);
        }
    }
}

impl Group {
    /// Queues a change; whoever leads next commits it.
    pub(super) fn submit(&self, change: Change) -> Arc<Slot> {
        let slot = Arc::new(Slot::default());
        self.state.lock().waiting.push((change, slot.clone()));
        slot
    }

    /// Waits for the answer of a change, or, if nobody else does, leads: then everything that waits is to
    /// be committed and answered.
    pub(super) fn answer_or_lead(&self, slot: &Slot) -> Turn<'_> {
        let mut state = self.state.lock();
        loop {
            if let Some(answer) = slot.take() {
                return Turn::Answered(answer);
            }
            if !state.led {
                state.led = true;
                return Turn::Leads(Lead(self));
            }
            self.settled.wait(&mut state);
        }
    }

    /// Waits until every change of the last commit is recorded or given up. Returns whether the commit is
    /// recorded by one of them. For a caller that holds the session.
    pub(super) fn quiet(&self) -> bool {
        let mut state = self.state.lock();
        while state.outstanding > 0 {
            self.settled.wait(&mut state);
        }
        std::mem::take(&mut state.recorded)
    }

    /// The changes that wait. For a caller that holds the session and has found it quiet.
    pub(super) fn take(&self) -> Vec<(Change, Arc<Slot>)> {
        std::mem::take(&mut self.state.lock().waiting)
    }

    /// Tells those that were committed together what became of it.
    pub(super) fn answer(&self, slots: Vec<Arc<Slot>>, answer: &Answer) {
        if answer.is_ok() {
            self.state.lock().outstanding = slots.len();
        }
        for slot in slots {
            slot.put(answer.clone());
        }
        // Under the lock, so that nobody misses it between a look and a wait.
        drop(self.state.lock());
        self.settled.notify_all();
    }

    fn ends(&self, recorded: bool) {
        let mut state = self.state.lock();
        state.outstanding -= 1;
        state.recorded |= recorded;
        self.settled.notify_all();
    }
}
