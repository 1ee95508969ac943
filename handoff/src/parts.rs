//! The parts of a collection, and the two ways in which they change: a memtable is frozen, a job
//! installs. The owner keeps them under one lock, together with the number of the last write that
//! is applied; readers clone what they need under it and let it go.
//!
//! # Invariants
//! - `frozen` is oldest first; nothing is added to a frozen memtable.
//! - What a job adds and what it makes unnecessary change places in one call, so that a reader
//!   sees a row in the one or in the other, never in both and never in neither.
//! - A segment that goes is returned, not dropped: it is the caller's to retire it, after the lock.

use crate::sync::Arc;

/// Memtables and segments.
#[derive(Debug)]
pub struct Parts<M, S> {
    active: Arc<M>,
    frozen: Vec<Arc<M>>,
    segments: Vec<Arc<S>>,
}

impl<M, S> Parts<M, S> {
    /// An empty memtable in front of segments.
    pub fn new(active: M, segments: Vec<Arc<S>>) -> Self {
        Self { active: Arc::new(active), frozen: Vec::new(), segments }
    }

    /// The memtable that takes writes.
    pub fn active(&self) -> &Arc<M> {
        &self.active
    }

    /// Those that wait for a flush, oldest first.
    pub fn frozen(&self) -> &[Arc<M>] {
        &self.frozen
    }

    /// In no order that means anything.
    pub fn segments(&self) -> &[Arc<S>] {
        &self.segments
    }

    /// All memtables, oldest first; reversed, the newest version of a row comes first.
    pub fn memtables(&self) -> impl DoubleEndedIterator<Item = &Arc<M>> {
        self.frozen.iter().chain(std::iter::once(&self.active))
    }

    /// Puts an empty memtable in front; the full one takes no more rows.
    pub fn freeze(&mut self, fresh: M) {
        let full = std::mem::replace(&mut self.active, Arc::new(fresh));
        self.frozen.push(full);
    }

    /// Swaps parts: those that a job made for those that it makes unnecessary, among them frozen
    /// memtables. Returns the segments that went.
    pub fn install(
        &mut self,
        added: Vec<Arc<S>>,
        goes: impl Fn(&S) -> bool,
        retired: &[Arc<M>],
    ) -> Vec<Arc<S>> {
        let segments = std::mem::take(&mut self.segments);
        let (gone, mut kept): (Vec<_>, Vec<_>) = segments.into_iter().partition(|part| goes(part));
        kept.extend(added);
        self.segments = kept;
        self.frozen
            .retain(|memtable| !retired.iter().any(|retired| Arc::ptr_eq(memtable, retired)));
        gone
    }

    /// Lets go of everything. Returns the segments.
    pub fn clear(&mut self, fresh: M) -> Vec<Arc<S>> {
        self.frozen.clear();
        self.active = Arc::new(fresh);
        std::mem::take(&mut self.segments)
    }
}
