//! Parts that no collection has any more and that readers may still hold. Whoever sweeps gets each
//! of them once, after its last reader has left.
//!
//! # Invariants
//! - A part is added only when nothing that a reader could clone it from has it: then a count of
//!   one means this list, and stays one.
//! - A part is given to one sweeper only.

use crate::sync::{Arc, Mutex};

/// Parts that wait for their last reader, each with what its sweeper needs.
#[derive(Debug)]
pub struct Retired<T, X> {
    waiting: Mutex<Vec<(Arc<T>, X)>>,
}

impl<T, X> Retired<T, X> {
    /// None.
    #[must_use]
    pub fn new() -> Self {
        Self { waiting: Mutex::new(Vec::new()) }
    }

    /// Adds parts that are out of reach of new readers.
    pub fn add(&self, parts: impl IntoIterator<Item = (Arc<T>, X)>) {
        self.waiting.lock().extend(parts);
    }

    /// Takes what nobody reads any more, and ends it: the parts are dropped in here, what came with
    /// them is returned. By then everything that readers did with them has happened.
    pub fn sweep(&self) -> Vec<X> {
        let mut waiting = self.waiting.lock();
        let (free, held): (Vec<_>, Vec<_>) = std::mem::take(&mut *waiting)
            .into_iter()
            .partition(|(part, _)| Arc::strong_count(part) == 1);
        *waiting = held;
        drop(waiting);
        // The count is read without ordering; the drop of the last handle has it.
        free.into_iter().map(|(part, with)| (drop(part), with).1).collect()
    }
}

impl<T, X> Default for Retired<T, X> {
    fn default() -> Self {
        Self::new()
    }
}
