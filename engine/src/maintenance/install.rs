//! The one way in which the set of a collection's segments changes: tombstones written, manifest
//! appended, then the new set shown to readers; of one collection, or of several in one record. Every job
//! ends here, holding `structure`.
//!
//! # Invariants
//! - The manifest never names a file that is not synced (M1).
//! - The tombstones that a manifest record names hold every kill whose log record it gives up,
//!   and no kill whose log record could still be lost: the log is synced up to the capture.
//! - Old files are unlinked only after the record that drops them is durable and no reader holds
//!   them.

use crate::{
    Schema,
    bucket::Lineage,
    collection::{CollectionCore, SegmentPart, State},
    db::DbCore,
    error::{Cause, Result},
    manifest::{ColdMeta, CollectionManifest, Edit},
    memtable::Memtable,
    segment::segment_path,
    tombstones::{self, TombstoneMeta, TombstoneSet},
};
use akidb_tiering::TierOverrides;
use akidb_vfs::planted;
use akidb_wal::Lsn;
use parking_lot::MutexGuard;
use std::sync::Arc;

/// A change of a collection's parts.
#[derive(Debug, Default)]
pub(crate) struct Change {
    pub(crate) add: Vec<Arc<SegmentPart>>,
    /// File numbers of segments that go.
    pub(crate) remove: Vec<u64>,
    /// The new cold objects, if they change.
    pub(crate) cold: Option<Vec<ColdMeta>>,
    pub(crate) schema: Option<Arc<Schema>>,
    pub(crate) pinned: Option<bool>,
    pub(crate) warm: Option<bool>,
    pub(crate) overrides: Option<TierOverrides>,
    /// The new flush mark.
    pub(crate) flushed: Option<Lsn>,
    /// Frozen memtables that the change makes unnecessary.
    pub(crate) retires: Vec<Arc<Memtable>>,
    /// Objects that nothing names after this change.
    pub(crate) garbage: Vec<String>,
    /// What the bucket was told of it.
    pub(crate) lineage: Option<Lineage>,
}

impl DbCore {
    /// Makes a change durable, then visible. `last_kills` runs under the state lock just before
    /// the swap, to carry over kills that came while the manifest was written; it must not fail
    /// half-way, so it looks up first and kills after.
    ///
    /// On an error nothing changed, and the files of `change.add` are gone; or the database is
    /// poisoned, and they stay.
    pub(crate) fn install(
        &self,
        collection: &CollectionCore,
        _structure: &MutexGuard<'_, ()>,
        change: Change,
        last_kills: impl FnOnce(&State) -> Result<()>,
    ) -> Result<()> {
        let added = change.add.clone();
        self.try_install(collection, change, last_kills).inspect_err(|_| self.discard(&added))
    }

    fn try_install(
        &self,
        collection: &CollectionCore,
        change: Change,
        last_kills: impl FnOnce(&State) -> Result<()>,
    ) -> Result<()> {
        self.shared.check_writable()?;
        let record = self.describe_durably(collection, &change)?;
        let written = record.tombstones.clone();
        let edit = Edit {
            add_garbage: change.garbage.clone(),
            lineage: change.lineage.clone(),
            put: vec![record],
            ..self.edit(Some((collection.id, &*change.retires)))
        };
        let replaced = self.named_tombstones(collection.id);
        if planted("install.old-files-removed-first") {
            for number in &change.remove {
                drop(self.fs.remove_file(&segment_path(&self.paths.segments, *number)));
            }
        }
        match self.commit_manifest(edit) {
            Err(_) if planted("install.manifest-error-dropped") => {}
            committed => committed.inspect_err(|_| self.unlink_tombstones(written))?,
        }
        self.unlink_tombstones(replaced);

        let mut state = collection.state.write();
        if let Err(error) = last_kills(&state) {
            // The manifest names the new parts already; going on with the old ones in memory
            // would let the two drift apart.
            return Err(self.shared.poison(error));
        }
        let gone = apply(&mut state, change);
        drop(state);
        self.retire(gone);
        Ok(())
    }

    /// Makes changes of several collections durable in one record, then visible. They add no segment.
    ///
    /// On an error nothing changed, or the database is poisoned.
    pub(crate) fn install_together(
        &self,
        changes: Vec<(&CollectionCore, &MutexGuard<'_, ()>, Change)>,
        lineage: Option<Lineage>,
    ) -> Result<()> {
        self.shared.check_writable()?;
        let mut put: Vec<CollectionManifest> = Vec::new();
        let unlink = |records: &[CollectionManifest]| {
            records.iter().for_each(|record| self.unlink_tombstones(record.tombstones.clone()));
        };
        for (collection, _, change) in &changes {
            let described = self.describe_durably(collection, change);
            put.push(described.inspect_err(|_| unlink(&put))?);
        }
        let replaced: Vec<_> = put.iter().map(|record| self.named_tombstones(record.id)).collect();
        let retiring =
            changes.iter().map(|(collection, _, change)| (collection.id, &*change.retires));
        let garbage = changes.iter().flat_map(|(_, _, change)| change.garbage.clone());
        let edit = Edit {
            add_garbage: garbage.collect(),
            lineage,
            put: put.clone(),
            ..self.edit(retiring)
        };
        self.commit_manifest(edit).inspect_err(|_| unlink(&put))?;
        replaced.into_iter().for_each(|meta| self.unlink_tombstones(meta));
        for (collection, _, change) in changes {
            let gone = apply(&mut collection.state.write(), change);
            self.retire(gone);
        }
        Ok(())
    }

    /// The collection's manifest entry after the change, whose tombstones are on disk, and every kill
    /// among them in the synced log.
    fn describe_durably(
        &self,
        collection: &CollectionCore,
        change: &Change,
    ) -> Result<CollectionManifest> {
        let (mut record, tombstones, captured_at) = self.describe(collection, change)?;
        if !planted("install.log-unsynced") {
            self.commit.sync(captured_at).wait()?;
        }
        record.tombstones = self.write_tombstones(collection, &tombstones)?;
        Ok(record)
    }

    /// Makes the manifest name segments that recovery wrote and the collections hold already, and
    /// raises their flush marks. Called before anything else runs.
    ///
    /// One record for all collections: the log's floor follows from all memtables, hence passes
    /// what was flushed of each of them.
    pub(crate) fn install_recovered(&self, marks: &[(Arc<CollectionCore>, Lsn)]) -> Result<()> {
        let mut written = Vec::new();
        let describe = |(collection, flushed): &(Arc<CollectionCore>, Lsn)| {
            let change = Change { flushed: Some(*flushed), ..Change::default() };
            let record = self.describe_durably(collection, &change)?;
            written.push(record.tombstones.clone());
            Ok(record)
        };
        let named = marks.iter().map(|(collection, _)| self.named_tombstones(collection.id));
        let replaced: Vec<_> = named.collect();
        let put = marks.iter().map(describe).collect::<Result<Vec<_>>>();
        let done = put.and_then(|put| self.commit_manifest(Edit { put, ..self.edit(None) }));
        let unneeded = if done.is_ok() { replaced } else { written };
        unneeded.into_iter().for_each(|meta| self.unlink_tombstones(meta));
        done?;
        for (collection, flushed) in marks {
            let mut state = collection.state.write();
            state.flushed = state.flushed.max(*flushed);
        }
        Ok(())
    }

    /// The collection's manifest entry after the change, without tombstones; the tombstones of
    /// the parts that remain; and the LSN as of which they are captured. All under one lock: a
    /// kill captured later could belong to a write that the log still loses.
    fn describe(
        &self,
        collection: &CollectionCore,
        change: &Change,
    ) -> Result<(CollectionManifest, TombstoneSet, Lsn)> {
        let state = collection.state.read();
        if state.dropped {
            return Err(Cause::CollectionNotFound { name: collection.name.clone() }.into());
        }
        let kept: Vec<_> = state
            .parts
            .segments()
            .iter()
            .filter(|part| !change.remove.contains(&part.number()))
            .chain(&change.add)
            .cloned()
            .collect();
        let record = CollectionManifest {
            id: collection.id,
            name: collection.name.clone(),
            schema: Schema::clone(change.schema.as_ref().unwrap_or(&state.schema)),
            flushed: change.flushed.unwrap_or(state.flushed).max(state.flushed),
            segments: kept.iter().map(|part| part.segment.meta().clone()).collect(),
            tombstones: None,
            cold: change.cold.clone().unwrap_or_else(|| state.cold.clone()),
            pinned: change.pinned.unwrap_or(state.pinned),
            namespace: collection.namespace.clone(),
            warm: change.warm.unwrap_or(state.warm),
            overrides: change.overrides.clone().unwrap_or_else(|| state.overrides.clone()),
        };
        let tombstones = kept
            .iter()
            .map(|part| (part.number(), part.dead()))
            .filter(|(_, dead)| !dead.is_empty())
            .map(|(number, dead)| (number, (*dead).clone()))
            .collect();
        Ok((record, tombstones, state.applied))
    }

    fn write_tombstones(
        &self,
        collection: &CollectionCore,
        set: &TombstoneSet,
    ) -> Result<Option<TombstoneMeta>> {
        if set.is_empty() {
            return Ok(None);
        }
        let number = self.next_file();
        tombstones::write(
            &*self.fs,
            &*self.random,
            &self.paths.segments,
            number,
            collection.id,
            set,
        )
        .map(Some)
    }
}

/// Swaps the parts in memory; returns the segments that went.
fn apply(state: &mut State, change: Change) -> Vec<Arc<SegmentPart>> {
    let goes = |part: &SegmentPart| change.remove.contains(&part.number());
    let gone = state.parts.install(change.add, goes, &change.retires);
    if let Some(cold) = change.cold {
        state.cold = cold;
    }
    if let Some(schema) = change.schema {
        state.schema = schema;
    }
    if let Some(pinned) = change.pinned {
        state.pinned = pinned;
    }
    if let Some(warm) = change.warm {
        state.warm = warm;
    }
    if let Some(overrides) = change.overrides {
        state.overrides = overrides;
    }
    if let Some(flushed) = change.flushed {
        state.flushed = state.flushed.max(flushed);
    }
    gone
}
