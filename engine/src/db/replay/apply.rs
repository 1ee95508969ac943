//! Applying: records become rows of memtables in LSN order, full memtables are frozen, and what does
//! not fit into the pool is spilled. Called by one thread; it changes what is in memory, `spill`
//! writes.

#![deny(clippy::indexing_slicing)]

use super::{
    decode::{Batch, Decoder},
    spill::{Spill, Spilled},
};
use crate::{
    commit::{Change, Shared},
    error::Result,
};
use akidb_wal::Lsn;

/// The writer of the memtables while the log is replayed.
pub(super) struct Applier<'a> {
    decoder: Decoder<'a>,
    shared: &'a Shared,
    spill: Spill<'a>,
}

impl<'a> Applier<'a> {
    pub(super) fn new(decoder: Decoder<'a>, shared: &'a Shared, spill: Spill<'a>) -> Self {
        Self { decoder, shared, spill }
    }

    /// Applies a record, unless it is in segments; those before it were applied already.
    pub(super) fn apply(&mut self, lsn: Lsn, body: &[u8]) -> Result<()> {
        let Some(Batch { collection, change }) = self.decoder.decode(lsn, body)? else {
            return Ok(());
        };
        let (now, pool) = (self.shared.clock.monotonic(), &self.shared.pool);
        match change {
            Change::Rows(mut rows) => collection.apply_rows(lsn, &mut rows, now, pool)?,
            Change::Deletes(mut ids) => collection.apply_deletes(lsn, &mut ids, now, pool)?,
        }
        if collection.state.read().parts.active().bytes() >= self.shared.settings.memtable_bytes {
            collection.freeze();
        }
        if pool.has_room() { Ok(()) } else { self.spill.make_room() }
    }

    /// How many batches were applied, and how many rows and deletes.
    pub(super) fn applied(&self) -> (u64, u64) {
        (self.decoder.batches, self.decoder.rows)
    }

    /// What was written, of each collection.
    pub(super) fn into_spilled(self) -> Vec<Spilled> {
        self.spill.into_spilled()
    }
}
