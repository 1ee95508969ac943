//! Applying: batches go into memtables in LSN order, full memtables are frozen, and what does not
//! fit into the pool is spilled. Called by one thread; it changes what is in memory, `spill` writes.

#![deny(clippy::indexing_slicing)]

use super::{
    decode::Batch,
    spill::{Spill, Spilled},
};
use crate::{
    commit::{Change, Shared},
    error::Result,
};

/// The writer of the memtables while the log is replayed.
pub(super) struct Applier<'a> {
    shared: &'a Shared,
    spill: Spill<'a>,
}

impl<'a> Applier<'a> {
    pub(super) fn new(shared: &'a Shared, spill: Spill<'a>) -> Self {
        Self { shared, spill }
    }

    /// Applies a batch; those before it were applied already.
    pub(super) fn apply(&mut self, batch: Batch) -> Result<()> {
        let Batch { lsn, collection, change, .. } = batch;
        let (now, pool) = (self.shared.clock.monotonic(), &self.shared.pool);
        match change {
            Change::Rows(mut rows) => collection.apply_rows(lsn, &mut rows, now, pool)?,
            Change::Deletes(mut ids) => collection.apply_deletes(lsn, &mut ids, now, pool)?,
        }
        if collection.state.read().active.bytes() >= self.shared.settings.memtable_bytes {
            collection.freeze();
        }
        if pool.has_room() { Ok(()) } else { self.spill.make_room() }
    }

    /// What was written, of each collection.
    pub(super) fn into_spilled(self) -> Vec<Spilled> {
        self.spill.into_spilled()
    }
}
