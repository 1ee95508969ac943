//! Demotions that go together: small collections leave as slices of one object, a pack, which costs one
//! put, one change of the bucket and one record of the manifest, where each alone would cost its own.
//!
//! Owns which collections share an object, and their way from the claims to one record. What is too large
//! to share, or needs more than a demotion, goes the way of `moves`. Called by the cycle of tiers and by
//! `demote_many` of the API.
//!
//! # Invariants
//! - All slices of a pack are named by one record: none of them can be promoted, and the pack given up,
//!   while another is not named yet.
//! - A collection that may not move any more when the record is written (a pin, a drop) is left out of it,
//!   and stays where it was; the others move.
//! - A thread holds at most one pack in memory, of `packs.bytes_max` and one collection more.
//! - Several `moves` are held at once only by who has the claims of all: no two wait for each other.

use super::{
    Threads,
    install::Change,
    moves::{self, everything_to, refused_move},
    objects::{encode, not_sent},
    threads::{Turn, Turns},
};
use crate::{
    bucket::{Contents, Lineage},
    cold::Totals,
    collection::{CollectionCore, View},
    db::DbCore,
    error::{Error, Result},
    manifest::{ColdMeta, Slice},
    memtable::Memtable,
};
use akidb_handoff::{Claim, Tier};
use akidb_index::Executor;
use akidb_tiering::{Batch, Batcher, ObjectKey, ObjectSource};
use bytes::Bytes;
use parking_lot::{Mutex, MutexGuard};
use std::{collections::BTreeMap, sync::Arc};

/// A collection that is larger than this part of a pack goes alone: a pack of few saves little.
const SHARE_MIN: u64 = 4;

/// A collection to be demoted, and the state that this was decided on, as for [`moves::move_to`].
#[derive(Clone, Debug)]
pub(crate) struct Due {
    pub(crate) collection: Arc<CollectionCore>,
    pub(crate) generation: Option<u64>,
}

/// Hears of each demotion, by its place in the list, on the thread that makes it.
pub(crate) trait Watch: Sync {
    /// It begins; false if it must not any more.
    fn begins(&self, at: usize) -> bool;

    /// It has ended. Not told of one that did not begin.
    fn ended(&self, at: usize, moved: Result<bool>);
}

/// Demotes collections on some threads. Each ends as if it was demoted alone.
pub(crate) fn demote_all(core: &DbCore, due: &[Due], threads: Threads, watch: &impl Watch) {
    let units = units(core, due);
    // Else all encode at once and then all send at once, and as many packs lie in memory half-done.
    let turns = Turns::new(core.site().threads.0);
    threads.run(units.len(), &|unit| {
        let encoding = Encoding { turns: &turns, turn: None };
        let mut packing = Packing { core, watch, encoding, batcher: Batcher::new(core.packs()) };
        for at in units.get(unit).into_iter().flatten().copied() {
            let Some(one) = due.get(at).filter(|_| watch.begins(at)) else { continue };
            packing.take(at, one);
        }
        packing.finish();
    });
}

/// Demotes collections by name, as [`demote_all`]: what became of each, in the order of the names.
pub(crate) fn demote_many(core: &DbCore, names: &[String]) -> Result<Vec<Result<bool>>> {
    core.check_may_write()?;
    let found: Vec<_> = names.iter().map(|name| core.collection(name)).collect();
    let there = found.iter().filter_map(|found| found.as_ref().ok());
    let due: Vec<_> =
        there.map(|collection| Due { collection: collection.clone(), generation: None }).collect();
    let ended = Ended::default();
    demote_all(core, &due, core.move_threads(), &ended);
    let mut ended = ended.0.into_inner();
    let mut ends = (0..due.len()).map(|at| ended.remove(&at).unwrap_or_else(no_end));
    Ok(found
        .into_iter()
        .map(|found| found.and_then(|_| ends.next().unwrap_or_else(no_end)))
        .collect())
}

fn no_end() -> Result<bool> {
    Err(Error::bug("a demotion has no end"))
}

/// Keeps what became of each demotion.
#[derive(Default)]
struct Ended(Mutex<Ends>);

impl Watch for Ended {
    fn begins(&self, _: usize) -> bool {
        true
    }

    fn ended(&self, at: usize, moved: Result<bool>) {
        self.0.lock().insert(at, moved);
    }
}

/// What one thread does in one go: as many small collections as a pack takes, or a large one.
fn units(core: &DbCore, due: &[Due]) -> Vec<Vec<usize>> {
    let most = core.packs().items_max.max(1) as usize;
    let (mut units, mut small) = (Vec::new(), Vec::new());
    for (at, due) in due.iter().enumerate() {
        if !is_small(core, &due.collection.view()) {
            units.push(vec![at]);
            continue;
        }
        small.push(at);
        if small.len() == most {
            units.push(std::mem::take(&mut small));
        }
    }
    units.extend(Some(small).filter(|small| !small.is_empty()));
    units
}

/// Whether what a view holds shares an object.
fn is_small(core: &DbCore, view: &View) -> bool {
    let packs = core.packs();
    packs.enabled && view.bytes() <= packs.bytes_max / SHARE_MIN
}

/// A collection on its way into a pack. Its rows are encoded; nothing says so yet.
struct Item<'a> {
    at: usize,
    collection: &'a CollectionCore,
    // Given up before `_moves`.
    claim: Claim<'a>,
    _moves: MutexGuard<'a, ()>,
    view: View,
    frozen: Vec<Arc<Memtable>>,
    body: Bytes,
    totals: Totals,
}

/// What became of a collection that was to be demoted.
enum Taken<'a> {
    /// It has its own end already.
    Ended(bool),
    Item(Box<Item<'a>>),
}

/// The turn at encoding, of as many as there are threads for arithmetic. It is kept from one collection of a pack
/// to the next, so that one pack is on its way while others are encoded.
struct Encoding<'a> {
    turns: &'a Turns,
    turn: Option<Turn<'a>>,
}

impl Encoding<'_> {
    fn begin(&mut self) {
        self.turn.get_or_insert_with(|| self.turns.take());
    }

    /// Before anything that waits for the store or for another job.
    fn pause(&mut self) {
        self.turn = None;
    }
}

/// The packs of one thread.
struct Packing<'a, W> {
    core: &'a DbCore,
    watch: &'a W,
    encoding: Encoding<'a>,
    batcher: Batcher<(), Item<'a>>,
}

impl<'a, W: Watch> Packing<'a, W> {
    fn take(&mut self, at: usize, due: &'a Due) {
        match take(self.core, at, due, &mut self.encoding) {
            Ok(Taken::Ended(moved)) => self.watch.ended(at, Ok(moved)),
            Err(error) => self.watch.ended(at, Err(error)),
            Ok(Taken::Item(item)) => {
                let bytes = item.body.len() as u64;
                let full = self.batcher.push((), *item, bytes, self.now());
                full.into_iter().for_each(|batch| self.ship(batch));
            }
        }
        let late = self.batcher.due(self.now());
        late.into_iter().for_each(|batch| self.ship(batch));
    }

    fn finish(mut self) {
        let rest = self.batcher.flush_all();
        rest.into_iter().for_each(|batch| self.ship(batch));
    }

    fn now(&self) -> std::time::Duration {
        self.core.shared.clock.monotonic()
    }

    /// Ships a batch, and tells what became of each of it.
    fn ship(&mut self, batch: Batch<(), Item<'a>>) {
        self.encoding.pause();
        let mut items = batch.items;
        // The order in which everybody would take several `structure` locks.
        items.sort_unstable_by_key(|item| item.collection.id);
        let places: Vec<_> = items.iter().map(|item| item.at).collect();
        let mut ends = BTreeMap::new();
        let shipped = ship(self.core, items, &mut ends);
        for at in places {
            let failed = || shipped.clone().and_then(|()| no_end());
            self.watch.ended(at, ends.remove(&at).unwrap_or_else(failed));
        }
    }
}

/// Claims a collection and encodes it; or demotes it alone, if it cannot share an object.
fn take<'a>(
    core: &DbCore,
    at: usize,
    due: &'a Due,
    encoding: &mut Encoding<'_>,
) -> Result<Taken<'a>> {
    core.check_may_write()?;
    let Due { collection, generation } = due;
    let claimed = match generation {
        Some(generation) => collection.tier.claim_at(*generation, Tier::Cold),
        None => collection.tier.claim(Tier::Cold),
    };
    // It knows what a refusal is called, and when a cold collection goes again.
    let Ok(claim) = claimed else {
        encoding.pause();
        return moves::move_to(core, collection, Tier::Cold, *generation).map(Taken::Ended);
    };
    // A poisoned database could neither name the object nor delete it.
    core.shared.check_writable()?;
    let moves = collection.moves.try_lock().unwrap_or_else(|| {
        encoding.pause();
        collection.moves.lock()
    });
    collection.check_exists()?;
    let (view, frozen) = collection.freeze_and_view();
    if view.live_rows() == 0 || !is_small(core, &view) {
        // Nothing to ship, and maybe something to record; or too much to hold.
        drop(moves);
        encoding.pause();
        return moves::carry_out(core, collection, claim).map(Taken::Ended);
    }
    core.commit.sync(view.lsn).wait()?;
    encoding.begin();
    let (body, totals) = encode(core, collection, &view)?;
    let item = Item { at, collection, claim, _moves: moves, view, frozen, body, totals };
    Ok(Taken::Item(Box::new(item)))
}

/// What became of each collection of a pack that has an end of its own; the others share the failure.
type Ends = BTreeMap<usize, Result<bool>>;

/// Puts the files of all as one object, names it, and lets go of what is local.
fn ship(core: &DbCore, items: Vec<Item<'_>>, ends: &mut Ends) -> Result<()> {
    let file = |item: &Item<'_>| (item.collection.id, item.totals, item.body.clone());
    let (key, files) = put(core, items.iter().map(file).collect())?;
    let named = items.iter().zip(files.clone());
    let named: Vec<_> =
        named.map(|(item, file)| (item.collection.id, item.view.lsn, file)).collect();
    let in_bucket = move |contents: &mut Contents| {
        for (id, upto, file) in named {
            moves::names_in_bucket(contents, id, upto, vec![file]);
        }
    };
    let record = |lineage| record(core, items, files, lineage, ends);
    let retired = core.name_objects(&[key.to_string()], in_bucket, record)?;
    retired.iter().for_each(|memtable| memtable.leave(&core.shared.pool));
    core.trim_log();
    if ends.values().any(Result::is_err) {
        // The bucket names what was left out: it hears of that now.
        core.collect_garbage();
    }
    Ok(())
}

/// Puts files as one verified object, one behind the other, and says where each lies in it. Each comes with
/// the collection that it belongs to: one alone is an object like any other.
pub(super) fn put(
    core: &DbCore,
    files: Vec<(u32, Totals, Bytes)>,
) -> Result<(ObjectKey, Vec<ColdMeta>)> {
    let key = match files.as_slice() {
        [(collection, ..)] => core.cold_key(*collection)?,
        _ => core.pack_key()?,
    };
    let object_len = files.iter().map(|(_, totals, _)| totals.len).sum();
    let (mut offset, mut placed, mut bodies) = (0, Vec::new(), Vec::new());
    let alone = files.len() == 1;
    for (_, Totals { len, crc32, rows, min_lsn, max_lsn }, body) in files {
        let slice = (!alone).then_some(Slice { offset, object_len });
        placed.push(ColdMeta { key: key.to_string(), len, crc32, rows, min_lsn, max_lsn, slice });
        bodies.push(Ok(body));
        offset += len;
    }
    let (chunks, len) = (Box::new(bodies.into_iter()), Some(object_len));
    let source = ObjectSource { key: key.clone(), chunks, len, tag: Vec::new() };
    let sent = core.block_on(core.uploader.upload(source));
    sent.map_err(|error| not_sent(core, &key, error))?;
    Ok((key, placed))
}

/// The one record of a pack. An error if nothing of it was recorded. Returns the memtables that go.
fn record(
    core: &DbCore,
    items: Vec<Item<'_>>,
    files: Vec<ColdMeta>,
    lineage: Option<Lineage>,
    ends: &mut Ends,
) -> Result<Vec<Arc<Memtable>>> {
    let collections: Vec<_> = items.iter().map(|item| item.collection).collect();
    let structures: Vec<_> = collections.iter().map(|one| one.structure.lock()).collect();
    let (mut sealed, mut changes, mut guards) = (Vec::new(), Vec::new(), Vec::new());
    let mut refused = None;
    for ((item, file), structure) in items.into_iter().zip(files).zip(&structures) {
        let Item { at, collection, claim, _moves: moves, view, frozen, .. } = item;
        match claim.seal() {
            Ok(seal) => sealed.push((at, collection, seal)),
            Err(why) => {
                let error = refused_move(collection, why);
                ends.insert(at, Err(error.clone()));
                refused = Some(error);
                continue;
            }
        }
        let change = everything_to(collection, &view, &frozen, vec![file]);
        changes.push((collection, structure, change));
        guards.push(moves);
    }
    if let (true, Some(error)) = (sealed.is_empty(), refused) {
        return Err(error);
    }
    let retired = changes.iter().flat_map(|(_, _, change): &(_, _, Change)| &change.retires);
    let retired: Vec<_> = retired.cloned().collect();
    core.install_together(changes, lineage)?;
    for (at, collection, sealed) in sealed {
        sealed.finish();
        moves::has_moved(core, collection, Tier::Cold);
        ends.insert(at, Ok(true));
    }
    drop((structures, guards));
    Ok(retired)
}
