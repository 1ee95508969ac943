//! Applying: records become rows of memtables in LSN order, full memtables are frozen, and what does
//! not fit into the pool is spilled. Called by one thread; it changes what is in memory, `spill`
//! writes.

#![deny(clippy::indexing_slicing)]

use super::{
    Recovery,
    parcel::{Logged, Parcel},
    spill::{Spill, Spilled},
};
use crate::{
    collection::NewRow,
    error::{Error, Result},
};

/// The writer of the memtables while the log is replayed.
pub(super) struct Applier<'a> {
    recovery: &'a Recovery<'a>,
    spill: Spill<'a>,
    /// The rows at hand.
    rows: Vec<NewRow>,
}

impl<'a> Applier<'a> {
    pub(super) fn new(recovery: &'a Recovery<'a>) -> Self {
        Self { recovery, spill: Spill::new(recovery), rows: Vec::new() }
    }

    /// Applies the records of a parcel and empties it; those before them were applied already.
    pub(super) fn apply(&mut self, parcel: &mut Parcel) -> Result<()> {
        let Recovery { collections, shared, .. } = self.recovery;
        let mut batches = std::mem::take(&mut parcel.batches);
        let mut parcel_rows = parcel.take_rows();
        for batch in batches.drain(..) {
            let Some(collection) = collections.get(&batch.collection) else {
                return Err(Error::bug("a record of an unknown collection was let through"));
            };
            let (lsn, now, pool) = (batch.lsn, shared.clock.monotonic(), &shared.pool);
            match batch.change {
                Logged::Rows(count) => {
                    self.rows.clear();
                    self.rows.extend(parcel_rows.by_ref().take(count));
                    collection.apply_rows(lsn, &mut self.rows, now, pool)?;
                }
                Logged::Deletes(mut ids) => collection.apply_deletes(lsn, &mut ids, now, pool)?,
            }
            if collection.state.read().parts.active().bytes() >= shared.settings.memtable_bytes {
                collection.freeze();
            }
            if !pool.has_room() {
                self.spill.make_room()?;
            }
        }
        drop(parcel_rows);
        parcel.batches = batches;
        Ok(())
    }

    /// What was written, of each collection.
    pub(super) fn into_spilled(self) -> Vec<Spilled> {
        self.spill.into_spilled()
    }
}
