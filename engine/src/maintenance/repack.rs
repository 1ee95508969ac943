//! Packs of which most is not named any more: what is left of them goes into a new one, so that the store
//! does not keep a pack for one collection of ten.
//!
//! Owns which packs that are. The rows stay as they are, byte for byte; nothing is decoded. Called by the
//! cycle of tiers.
//!
//! # Invariants
//! - A collection stays cold, and its rows are named by the manifests at any time, here or there.
//! - Whoever is busy with a collection is not waited for: what is left behind is for the next cycle.

use super::{install::Change, objects, packs::put};
use crate::{
    bucket::{Contents, Lineage},
    cold::Totals,
    collection::CollectionCore,
    db::DbCore,
    error::{Error, Result},
    manifest::{ColdMeta, ManifestState},
};
use akidb_tiering::{Batch, Batcher};
use bytes::Bytes;
use parking_lot::MutexGuard;
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

/// A pack of which less than this part is named is sparse.
const NAMED_MIN: f64 = 0.5;

/// What is left in a pack.
#[derive(Debug, Default)]
struct Left {
    object_len: u64,
    /// Where, and how long: what two name counts once.
    files: BTreeMap<u64, u64>,
    collections: Vec<u32>,
    /// A snapshot keeps the pack anyway.
    snapshots: bool,
}

/// The packs of a state that are sparse, with the collections that are in them.
fn sparse(state: &ManifestState) -> BTreeMap<String, Vec<u32>> {
    let mut packs: BTreeMap<&str, Left> = BTreeMap::new();
    let collections = state.collections.values();
    let cold = collections.flat_map(|one| one.cold.iter().map(|file| (file, Some(one.id))));
    let snapshots = state.snapshots.values().map(|snapshot| (&snapshot.object, None));
    for (file, collection) in cold.chain(snapshots) {
        let Some(slice) = file.slice else { continue };
        let left = packs.entry(&file.key).or_default();
        left.object_len = slice.object_len;
        left.files.insert(slice.offset, file.len);
        left.collections.extend(collection);
        left.snapshots |= collection.is_none();
    }
    let is_sparse = |left: &Left| {
        let named: u64 = left.files.values().sum();
        !left.snapshots && (named as f64) < NAMED_MIN * left.object_len as f64
    };
    let sparse = packs.into_iter().filter(|(_, left)| is_sparse(left));
    sparse.map(|(key, left)| (key.to_owned(), left.collections)).collect()
}

/// A collection whose file moves.
struct Item<'a> {
    collection: &'a Arc<CollectionCore>,
    _moves: MutexGuard<'a, ()>,
    from: ColdMeta,
    body: Bytes,
}

/// Empties sparse packs. Returns how many collections were moved out of one, and the last failure: what it
/// concerns stays where it is, and keeps nothing else from moving.
pub(crate) fn repack(core: &DbCore) -> (u64, Option<Error>) {
    let sparse = core.with_manifest(|manifest| sparse(manifest.state()));
    if sparse.is_empty() {
        return (0, None);
    }
    let collections: BTreeSet<u32> = sparse.values().flatten().copied().collect();
    let all = core.all_collections();
    let mut batcher: Batcher<(), Item<'_>> = Batcher::new(core.packs());
    let (mut moved, mut failed) = (0, None);
    let mut ship = |batch| match ship(core, batch) {
        Ok(count) => moved += count,
        Err(error) => failed = Some(error),
    };
    let mut unread = None;
    for collection in all.iter().filter(|collection| collections.contains(&collection.id)) {
        if core.background.pause_point().is_err() {
            break;
        }
        let Some(moves) = collection.moves.try_lock() else { continue };
        let cold = collection.state.read().cold.clone();
        let [from] = cold.as_slice() else { continue };
        if !sparse.contains_key(&from.key) || collection.check_exists().is_err() {
            continue;
        }
        let body = match objects::fetch(core, from) {
            Ok(Some(body)) => body,
            Ok(None) => continue,
            Err(error) => {
                unread = Some(error);
                continue;
            }
        };
        let (now, bytes) = (core.shared.clock.monotonic(), from.len);
        let item = Item { collection, _moves: moves, from: from.clone(), body };
        batcher.push((), item, bytes, now).into_iter().for_each(&mut ship);
    }
    batcher.flush_all().into_iter().for_each(&mut ship);
    core.collect_garbage();
    (moved, failed.or(unread))
}

/// Puts the files of all as one object, and names it instead of those that they were in.
fn ship(core: &DbCore, batch: Batch<(), Item<'_>>) -> Result<u64> {
    let mut items = batch.items;
    // The order in which everybody would take several `structure` locks.
    items.sort_unstable_by_key(|item| item.collection.id);
    let file = |item: &Item<'_>| {
        let ColdMeta { len, crc32, rows, min_lsn, max_lsn, .. } = item.from;
        let totals = Totals { len, crc32, rows, min_lsn, max_lsn };
        (item.collection.id, totals, item.body.clone())
    };
    let (key, to) = put(core, items.iter().map(file).collect())?;
    let ids = items.iter().map(|item| item.collection.id);
    let named: Vec<_> = ids.zip(to.clone()).collect();
    let in_bucket = move |contents: &mut Contents| {
        for (id, file) in named {
            if let Some(entry) = contents.collections.get_mut(&id) {
                entry.cold = vec![file];
            }
        }
    };
    let record = |lineage| record(core, &items, to, lineage);
    core.name_objects(&[key.to_string()], in_bucket, record)?;
    Ok(items.len() as u64)
}

fn record(
    core: &DbCore,
    items: &[Item<'_>],
    to: Vec<ColdMeta>,
    lineage: Option<Lineage>,
) -> Result<()> {
    let structures: Vec<_> = items.iter().map(|item| item.collection.structure.lock()).collect();
    let change = |(item, file): (&Item<'_>, ColdMeta)| Change {
        cold: Some(vec![file]),
        garbage: vec![item.from.key.clone()],
        ..Change::default()
    };
    // One that was dropped meanwhile has given its old file up, and nothing names its new one.
    let there = |((item, _), _): &((&Item<'_>, _), _)| item.collection.check_exists().is_ok();
    let changes = items.iter().zip(&structures).zip(to).filter(there);
    let changes: Vec<_> = changes
        .map(|((item, structure), file)| (&**item.collection, structure, change((item, file))))
        .collect();
    if changes.is_empty() {
        return items.iter().try_for_each(|item| item.collection.check_exists());
    }
    core.install_together(changes, lineage)
}
