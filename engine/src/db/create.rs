//! Collections come and go: created empty or with rows, put in the place of another, dropped.
//!
//! Owns the order of it: a name is given once, under `creating`; one manifest record makes it true; then the
//! map of collections says so; then files go. Never reads or writes rows: whoever creates a collection hands
//! in what it begins with. Called by the API, and by restores of snapshots.

use super::DbCore;
use crate::{
    Schema,
    collection::{CollectionCore, SegmentPart},
    error::{Cause, Result},
    manifest::{ColdMeta, CollectionManifest, Edit},
    quota::{Usage, storage_bytes},
    schema::validate_name,
    tombstones::TombstoneMeta,
};
use akidb_wal::Lsn;
use std::sync::{Arc, atomic::Ordering};

/// A collection to be.
#[derive(Clone, Debug)]
pub(crate) struct NewCollection<'a> {
    pub(crate) name: &'a str,
    pub(crate) schema: Schema,
    pub(crate) namespace: Option<&'a str>,
    /// About what its rows take.
    pub(crate) bytes: u64,
}

/// The edit that drops a collection, without the marks.
fn dropping(collection: &CollectionCore) -> Edit {
    let cold = &collection.state.read().cold;
    let add_garbage = cold.iter().map(|object| object.key.clone()).collect();
    Edit { drop: vec![collection.id], add_garbage, ..Edit::default() }
}

impl DbCore {
    /// Creates an empty collection; durable when it returns.
    pub(crate) fn create_collection(
        &self,
        name: &str,
        schema: Schema,
        namespace: Option<&str>,
    ) -> Result<Arc<CollectionCore>> {
        let new = NewCollection { name, schema, namespace, bytes: 0 };
        self.create_collection_with(new, |_| Ok(Vec::new()))
    }

    /// Creates a collection with the parts that `fill` makes for its id. One manifest record
    /// names all of it, so it exists whole or not at all.
    pub(crate) fn create_collection_with(
        &self,
        new: NewCollection<'_>,
        fill: impl FnOnce(u32) -> Result<Vec<Arc<SegmentPart>>>,
    ) -> Result<Arc<CollectionCore>> {
        let NewCollection { name, schema, namespace, bytes } = new;
        validate_name(name)?;
        namespace.map_or(Ok(()), validate_name)?;
        schema.validate()?;
        let _creating = self.creating.lock();
        // After the lock, for which a close may have been waiting: see `wait_for_jobs`.
        self.check_may_write()?;
        if self.collections.read().values().any(|c| c.name == name) {
            return Err(Cause::CollectionExists { name: name.to_owned() }.into());
        }
        let _let_in = self.let_in(namespace, Usage::of_collection(bytes))?;
        let id = self.with_manifest(|manifest| manifest.state().next_collection);
        let parts = fill(id)?;
        let record = CollectionManifest {
            flushed: written_upto(parts.iter().map(|part| part.segment.meta().max_lsn)),
            segments: parts.iter().map(|part| part.segment.meta().clone()).collect(),
            namespace: namespace.map(str::to_owned),
            ..CollectionManifest::new(id, name, schema)
        };
        self.take_in(&record, &parts, None)
    }

    /// Puts a new collection in the place of one, under its name and namespace, with its pin and its rules for
    /// tiers, and with the rows of objects that lie in the store already; in one record, so that whoever looks
    /// finds the one or the other. `cold` is asked for them when no snapshot can come or go any more.
    pub(crate) fn replace_collection(
        &self,
        old: &CollectionCore,
        schema: &Schema,
        cold: impl FnOnce() -> Result<Vec<ColdMeta>>,
    ) -> Result<Arc<CollectionCore>> {
        let moves = old.moves.lock();
        let creating = self.creating.lock();
        old.check_exists()?;
        self.check_may_write()?;
        let cold = cold()?;
        let bytes: u64 = cold.iter().map(|object| object.len).sum();
        let more = Usage::of_storage(bytes.saturating_sub(storage_bytes(old)));
        // Before the locks that a flush needs, for which it may ask.
        let _let_in = self.let_in(old.namespace.as_deref(), more)?;
        let flushing = old.flushing.lock();
        let structure = old.structure.lock();
        let (pinned, overrides) = {
            let state = old.state.read();
            (state.pinned, state.overrides.clone())
        };
        let id = self.with_manifest(|manifest| manifest.state().next_collection);
        let record = CollectionManifest {
            flushed: written_upto(cold.iter().map(|object| object.max_lsn)),
            cold,
            warm: true,
            pinned,
            overrides,
            namespace: old.namespace.clone(),
            ..CollectionManifest::new(id, &old.name, schema.clone())
        };
        let new = self.take_in(&record, &[], Some(old))?;
        drop((moves, creating, flushing, structure));
        self.is_gone(old);
        Ok(new)
    }

    /// Makes a collection durable, then visible, and lets go of the one whose place it takes.
    fn take_in(
        &self,
        record: &CollectionManifest,
        parts: &[Arc<SegmentPart>],
        replaces: Option<&CollectionCore>,
    ) -> Result<Arc<CollectionCore>> {
        let access = self.shared.new_access();
        let collection = Arc::new(CollectionCore::new(record, parts.to_vec(), access));
        let edit = Edit {
            put: vec![record.clone()],
            next_file: self.next_file.load(Ordering::Relaxed),
            ..replaces.map(dropping).unwrap_or_default()
        };
        let tombstones = replaces.and_then(|old| self.named_tombstones(old.id));
        self.commit_manifest(edit).inspect_err(|_| self.discard(parts))?;
        // In one step: no caller finds neither.
        let mut collections = self.collections.write();
        collections.insert(collection.id, collection.clone());
        if let Some(old) = replaces {
            collections.remove(&old.id);
        }
        drop(collections);
        if let Some(old) = replaces {
            self.let_go(old, tombstones);
        }
        Ok(collection)
    }

    /// Drops a collection with all its data; durable when it returns.
    pub(crate) fn drop_collection(&self, name: &str) -> Result<()> {
        self.check_may_write()?;
        let collection = self.collection(name)?;
        let moves = collection.moves.lock();
        let flushing = collection.flushing.lock();
        let structure = collection.structure.lock();
        // Another drop, or a close, may have come first while this one waited.
        collection.check_exists()?;
        self.shared.check_writable()?;
        let next_file = self.next_file.load(Ordering::Relaxed);
        let edit = Edit { next_file, ..dropping(&collection) };
        let tombstones = self.named_tombstones(collection.id);
        self.commit_manifest(edit)?;
        self.collections.write().remove(&collection.id);
        self.let_go(&collection, tombstones);
        drop((moves, flushing, structure));
        self.is_gone(&collection);
        Ok(())
    }

    /// Gives up the files of a collection that the manifest names no more.
    fn let_go(&self, collection: &CollectionCore, tombstones: Option<TombstoneMeta>) {
        let segments = collection.mark_dropped(&self.shared.pool);
        self.retire(segments);
        self.unlink_tombstones(tombstones);
    }

    /// The end of a collection, when its locks are free again: a move that has its claim may be waiting for
    /// them.
    fn is_gone(&self, collection: &CollectionCore) {
        collection.tier.close();
        self.collect_garbage();
    }
}

/// The flush mark of a collection that begins with rows, by their newest LSNs. Not the applied mark: unsynced
/// writes below it may be lost, their LSNs given anew, and a record of this collection under such an LSN must
/// not be skipped by replay.
fn written_upto(lsns: impl Iterator<Item = u64>) -> Lsn {
    Lsn::new(lsns.max().unwrap_or(0))
}
