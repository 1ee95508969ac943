//! Snapshots: a named, immutable copy of a collection as one Parquet object, and its restore as
//! a new collection.
//!
//! # Protocol
//! Create: capture a view at LSN V and sync the log up to V, encode the view's memtables and
//! segments, put the object, verify it, then name it in the manifest. Memtables are part of it
//! because a write after any flush hides a row of a segment and holds its new version. Of a cold
//! collection that nobody wrote to, its object is named: it is immutable, and whoever lets go of it last
//! makes it garbage. Restore: fetch and verify, write a segment, then create the collection with that
//! segment in one manifest record: it exists whole or not at all. Restore over a collection: verify, then put
//! a cold collection with the snapshot's object in its place, in one record; only then, when the old rows are
//! off the disk, bring the new ones, as a promotion does. So the object is read twice, and the disk holds
//! both only where somebody still reads the old. Delete: the record drops the name and
//! lists the object as garbage, unless its collection is still in it, and it is deleted after.

use super::{moves, objects};
use crate::{
    SnapshotInfo,
    bucket::Contents,
    collection::{CollectionCore, SegmentPart, View},
    db::{DbCore, NewCollection},
    error::{Cause, Error, Result},
    manifest::{ColdMeta, Edit, SnapshotManifest},
    quota::Usage,
    schema::validate_name,
    segment::{Segment, SegmentParams},
};
use akidb_handoff::Tier;
use parking_lot::MutexGuard;
use roaring::RoaringBitmap;
use std::sync::Arc;

impl SnapshotInfo {
    pub(crate) fn of(manifest: &SnapshotManifest) -> Self {
        Self {
            name: manifest.name.clone(),
            collection: manifest.collection.clone(),
            rows: manifest.object.rows,
            bytes: manifest.object.len,
            object: manifest.object.key.clone(),
            creator: manifest.creator.clone(),
        }
    }
}

/// Takes a snapshot of everything that is visible now.
pub(crate) fn create(
    core: &DbCore,
    collection: &Arc<CollectionCore>,
    name: &str,
) -> Result<SnapshotInfo> {
    core.check_may_write()?;
    validate_name(name)?;
    require_free(core, name)?;
    let (_moves, view, in_common) = hold_still(core, collection)?;
    core.commit.sync(view.lsn).wait()?;
    let namespace = collection.namespace.as_deref();
    // About what the object takes.
    let bytes = in_common.as_ref().map_or_else(|| view.bytes(), |object| object.len);
    let _let_in = core.let_in(namespace, Usage::of_storage(bytes))?;
    let (object, fresh) = match in_common {
        Some(object) => (object, None),
        None => {
            let object = objects::put_object(core, collection, &view, &core.snapshot_key()?)?;
            let key = object.key.clone();
            (object, Some(key))
        }
    };
    let snapshot = SnapshotManifest {
        name: name.to_owned(),
        collection: collection.name.clone(),
        schema: (*view.schema).clone(),
        object,
        creator: concat!("akidb ", env!("CARGO_PKG_VERSION")).to_owned(),
        namespace: collection.namespace.clone(),
    };
    let info = SnapshotInfo::of(&snapshot);
    name_it(core, snapshot, fresh.as_slice())?;
    Ok(info)
}

/// Names a snapshot whose object is there: in the bucket, then in the local manifest. If it cannot be
/// named, its object goes, unless it is another's too: `fresh` says.
fn name_it(core: &DbCore, snapshot: SnapshotManifest, fresh: &[String]) -> Result<()> {
    let _creating = core.creating.lock();
    let discard = || fresh.iter().for_each(|key| core.discard_object(key));
    require_free(core, &snapshot.name).inspect_err(|_| discard())?;
    let added = snapshot.clone();
    let add = |contents: &mut Contents| {
        drop(contents.snapshots.insert(added.name.clone(), added));
    };
    core.name_objects(fresh, add, |lineage| {
        core.commit_manifest(Edit { put_snapshot: vec![snapshot], lineage, ..core.edit(None) })
    })
}

/// Keeps a collection where it is, by `moves`: without it no move takes rows or objects away. Returns a view
/// with every row, or with it the object that has them all; a collection of which a part is cold and a part
/// is local is made local first.
fn hold_still<'a>(
    core: &DbCore,
    collection: &'a CollectionCore,
) -> Result<(MutexGuard<'a, ()>, View, Option<ColdMeta>)> {
    loop {
        let moves = collection.moves.lock();
        collection.check_exists()?;
        let (view, object) = collection.view_and_whole_object();
        if view.cold == 0 || object.is_some() {
            return Ok((moves, view, object));
        }
        // The claim of a promotion comes before `moves`.
        drop(moves);
        moves::promote_for_read(core, collection)?;
    }
}

fn require_free(core: &DbCore, name: &str) -> Result<()> {
    if core.with_manifest(|manifest| manifest.state().snapshots.contains_key(name)) {
        return Err(Cause::SnapshotExists { name: name.to_owned() }.into());
    }
    Ok(())
}

pub(super) fn find(core: &DbCore, name: &str) -> Result<SnapshotManifest> {
    core.with_manifest(|manifest| manifest.state().snapshots.get(name).cloned())
        .ok_or_else(|| Cause::SnapshotNotFound { name: name.to_owned() }.into())
}

/// Makes a new collection from a snapshot.
pub(crate) fn restore(core: &DbCore, name: &str, new_name: &str) -> Result<Arc<CollectionCore>> {
    core.check_may_write()?;
    validate_name(new_name)?;
    let snapshot = find(core, name)?;
    let (schema, object) = (&snapshot.schema, &snapshot.object);
    let new = NewCollection {
        name: new_name,
        schema: schema.clone(),
        namespace: snapshot.namespace.as_deref(),
        bytes: object.len,
    };
    core.create_collection_with(new, |id| {
        let Some(meta) = objects::fetch_segment(core, id, schema, object)? else {
            return Ok(Vec::new());
        };
        let params = SegmentParams { collection: id, dim: schema.dim, metric: schema.metric };
        let mode = core.shared.settings.read_mode;
        let segment = Segment::open(&*core.fs, &core.paths.segments, &meta, params, mode)?;
        Ok(vec![Arc::new(SegmentPart::new(segment, RoaringBitmap::new()))])
    })
}

/// Puts what a snapshot holds in the place of a collection, in one step.
pub(crate) fn restore_over(
    core: &DbCore,
    name: &str,
    collection: &CollectionCore,
) -> Result<Arc<CollectionCore>> {
    core.check_may_write()?;
    let snapshot = find(core, name)?;
    // Its rows will be all that there is.
    verify(core, &snapshot)?;
    let to = match collection.tier.state().tier {
        Tier::Hot => Tier::Hot,
        Tier::Warm | Tier::Cold => Tier::Warm,
    };
    let restored = core.replace_collection(collection, &snapshot.schema, || {
        if find(core, name)? != snapshot {
            return Err(Cause::SnapshotNotFound { name: name.to_owned() }.into());
        }
        Ok(Some(&snapshot.object).filter(|object| object.rows > 0).into_iter().cloned().collect())
    })?;
    // It is restored. If its rows cannot come now, each read of it tries again, and is told why.
    drop(moves::promote_to(core, &restored, to));
    Ok(restored)
}

/// Reads a snapshot whole: its bytes, the checksums of its rows, and their number. Returns how many.
pub(super) fn verify(core: &DbCore, snapshot: &SnapshotManifest) -> Result<u64> {
    let SnapshotManifest { object, schema, .. } = snapshot;
    let counted = objects::with_rows(core, object, schema, |groups| {
        let counts = (0..groups.groups()).map(|index| Ok(groups.group(index)?.len() as u64));
        counts.sum::<Result<u64>>()
    })?;
    let rows = counted.ok_or_else(|| Error::corruption(&*object.name(), 0, "it is not there"))?;
    if rows != object.rows {
        let detail = format!("{rows} rows, the manifest says {}", object.rows);
        return Err(Error::corruption(&*object.name(), 0, detail));
    }
    Ok(rows)
}

/// Drops a snapshot and its object.
pub(crate) fn delete(core: &DbCore, name: &str) -> Result<()> {
    core.check_may_write()?;
    // Else a snapshot that takes the name between the look and the record goes with the old one.
    let creating = core.creating.lock();
    let snapshot = find(core, name)?;
    core.commit_manifest(Edit {
        drop_snapshot: vec![snapshot.name],
        add_garbage: vec![snapshot.object.key],
        ..core.edit(None)
    })?;
    drop(creating);
    core.collect_garbage();
    Ok(())
}

/// Every snapshot, by name.
pub(crate) fn list(core: &DbCore) -> Vec<SnapshotInfo> {
    core.with_manifest(|manifest| {
        manifest.state().snapshots.values().map(SnapshotInfo::of).collect()
    })
}
