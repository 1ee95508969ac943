//! Moves between tiers, carried out: demote (everything local to one Parquet object), promote (back),
//! cool (let go of hot copies) and heat (make them).
//!
//! Who may move is decided by the collection's `TierCell`, that a move is due by a caller or by the
//! policy (`tiers`); here is the work between the claim and its end. Every move ends in
//! `DbCore::install`, between the claim's seal and its finish, so the manifest is the truth.
//!
//! # Protocol of a demotion
//! 1. Claim, then `moves`: one move at a time, and no compaction beside it.
//! 2. In one instant freeze the memtable and capture everything at LSN V; sync the log up to V.
//! 3. Encode the live rows of segments and memtables, put the object under a fresh name, and verify
//!    it: length and checksum as the store reports them (D10). No lock is held that a flush, a
//!    write or a search takes.
//! 4. Share it: the manifest in the bucket, if there is one, names the object (`db::bucket`).
//! 5. Under `structure`: seal; the manifest record names the object, raises the flush mark to V, and
//!    drops all that the object holds: the frozen memtables, and segments up to V, those among them that
//!    a flush has made of these memtables meanwhile. Local files go when no reader holds them.
//!
//! Rows written during the move are newer than V; they stay in memtables and new segments and
//! hide the object's versions by their ids: a delete is kept as an entry for the same reason.
//!
//! # Protocol of a promotion
//! 1. Claim, then `moves`. Fetch, check length and checksum, decode, write a segment.
//! 2. Under `structure`: hide every row whose id any local part knows, since all local entries
//!    are newer; seal; install; the object becomes garbage named by the manifest until it is deleted,
//!    which is after the bucket has given it up too.
//!
//! # Crash consistency
//! An object put before the record that names it is garbage that nothing ever names again (names are
//! random). A failed step leaves the old tier as the truth.

use super::{
    install::Change,
    objects::{fetch_segment, put_object},
};
use crate::{
    bucket::Contents,
    collection::{CollectionCore, SegmentPart, State, View},
    db::DbCore,
    error::{Cause, Error, Result},
    manifest::ColdMeta,
    memtable::Memtable,
};
use akidb_handoff::{Claim, Refused, Tier, Turn};
use akidb_vfs::planted;
use akidb_wal::Lsn;
use roaring::RoaringBitmap;
use std::sync::Arc;

/// Moves a collection to a tier. Returns false if there was nothing to move. With a generation,
/// which a policy's decision carries, only if tier and pin are what they were at that decision.
///
/// # Errors
/// [`Cause::Moving`] at once if another move is under way, [`Cause::Pinned`]; and what the work
/// meets, after which the collection is in the tier that it was in.
pub(crate) fn move_to(
    core: &DbCore,
    collection: &CollectionCore,
    to: Tier,
    generation: Option<u64>,
) -> Result<bool> {
    core.check_may_write()?;
    let claimed = match generation {
        Some(generation) => collection.tier.claim_at(generation, to),
        None => collection.tier.claim(to),
    };
    match claimed {
        Ok(claim) => carry_out(core, collection, claim),
        Err(Refused::Already { tier: Tier::Cold }) if collection.tier.state().pinned => {
            Err(refused_move(collection, Refused::Pinned { tier: Tier::Cold }))
        }
        Err(Refused::Already { tier: Tier::Cold }) => demote_again(core, collection),
        Err(Refused::Already { .. }) => collection.check_exists().map(|()| false),
        Err(refused) => Err(refused_move(collection, refused)),
    }
}

/// Makes a cold collection local. Returns false if it is not cold.
///
/// # Errors
/// As [`move_to`].
pub(crate) fn promote_by_hand(core: &DbCore, collection: &CollectionCore) -> Result<bool> {
    core.check_may_write()?;
    let state = collection.tier.state();
    if state.tier != Tier::Cold {
        return collection.check_exists().map(|()| false);
    }
    // With the generation: what somebody has promoted and heated meanwhile must not be cooled.
    move_to(core, collection, Tier::Warm, Some(state.generation))
}

/// Makes a collection local because somebody wants to read it. Waits for the move that is under
/// way, if there is one. Returns when its rows are local or were so a moment ago.
pub(crate) fn promote_for_read(core: &DbCore, collection: &CollectionCore) -> Result<()> {
    promote_to(core, collection, Tier::Warm)
}

/// As [`promote_for_read`], as near as `to`.
pub(super) fn promote_to(core: &DbCore, collection: &CollectionCore, to: Tier) -> Result<()> {
    match collection.tier.claim_or_wait(to) {
        Ok(Turn::Yours(claim)) => carry_out(core, collection, claim).map(drop),
        Ok(Turn::Done(_)) => {
            // A demotion whose parts are swapped and whose claim has not ended yet holds this.
            drop(collection.structure.lock());
            collection.check_exists()
        }
        Err(refused) => Err(refused_move(collection, refused)),
    }
}

/// A refusal as the callers of the API know it.
pub(super) fn refused_move(collection: &CollectionCore, refused: Refused) -> Error {
    let name = collection.name.clone();
    let cause = match refused {
        Refused::Moving { from, to } => {
            Cause::Moving { name, from: from.name(), to: to.name(), failed: false }
        }
        Refused::Failed { from, to } => {
            Cause::Moving { name, from: from.name(), to: to.name(), failed: true }
        }
        Refused::Pinned { .. } => Cause::Pinned { name },
        Refused::Closed if collection.state.read().dropped => Cause::CollectionNotFound { name },
        Refused::Closed => Cause::Closed,
        Refused::Already { .. } | Refused::Changed { .. } => Cause::TierChanged { name },
        _ => return Error::bug("a move was refused for a reason that is not known"),
    };
    cause.into()
}

/// Moves what was written to a cold collection to the store as well: it comes back, and goes again.
fn demote_again(core: &DbCore, collection: &CollectionCore) -> Result<bool> {
    collection.check_exists()?;
    if !collection.state.read().has_local() {
        return Ok(false);
    }
    promote_for_read(core, collection)?;
    let claim = collection.tier.claim(Tier::Cold).map_err(|why| refused_move(collection, why))?;
    carry_out(core, collection, claim)
}

/// The work of a move that was claimed.
pub(super) fn carry_out(
    core: &DbCore,
    collection: &CollectionCore,
    claim: Claim<'_>,
) -> Result<bool> {
    let _moves = collection.moves.lock();
    collection.check_exists()?;
    let to = claim.to();
    let moved = match (claim.from(), claim.to()) {
        (_, Tier::Cold) => demote(core, collection, claim),
        (Tier::Cold, _) => promote(core, collection, claim),
        (_, Tier::Warm) => cool(core, collection, claim),
        (_, Tier::Hot) => heat(core, collection, claim),
    }?;
    has_moved(core, collection, to);
    Ok(moved)
}

/// After a move.
pub(super) fn has_moved(core: &DbCore, collection: &CollectionCore, to: Tier) {
    collection.access.reset(core.shared.clock.monotonic());
    core.settle_dead_letter(collection.id, to);
}

/// Everything local to one cold object.
fn demote(core: &DbCore, collection: &CollectionCore, claim: Claim<'_>) -> Result<bool> {
    let (view, frozen) = collection.freeze_and_view();
    if view.segments.is_empty() && frozen.is_empty() {
        return Ok(false);
    }
    core.commit.sync(view.lsn).wait()?;
    let cold = match view.live_rows() {
        0 => Vec::new(),
        _ => vec![put_object(core, collection, &view, &core.cold_key(collection.id)?)?],
    };
    let keys: Vec<_> = cold.iter().map(|object| object.key.clone()).collect();
    let (id, objects, upto) = (collection.id, cold.clone(), view.lsn);
    let in_bucket = move |contents: &mut Contents| names_in_bucket(contents, id, upto, objects);
    let record = |lineage| {
        let structure = collection.structure.lock();
        let change = Change { lineage, ..everything_to(collection, &view, &frozen, cold) };
        let retired = change.retires.clone();
        let sealed = claim.seal().map_err(|why| refused_move(collection, why))?;
        core.install(collection, &structure, change, |_| Ok(()))?;
        // Without a row there is no object, and the collection stays where it was.
        if !keys.is_empty() {
            sealed.finish();
        }
        Ok(retired)
    };
    // Without an object there is nothing to name, and no need of the store.
    let retired = match keys.is_empty() {
        true => record(None),
        false => core.name_objects(&keys, in_bucket, record),
    }?;
    retired.iter().for_each(|memtable| memtable.leave(&core.shared.pool));
    core.trim_log();
    Ok(true)
}

/// What the bucket says of a collection that was demoted as of an LSN.
pub(super) fn names_in_bucket(contents: &mut Contents, id: u32, upto: Lsn, cold: Vec<ColdMeta>) {
    if let Some(entry) = contents.collections.get_mut(&id) {
        entry.cold = cold;
        // Else a directory that is made from the bucket would give these LSNs again.
        entry.flushed = entry.flushed.max(upto);
        entry.warm = true;
    }
}

/// The change by which everything of a view gives way to cold objects. The caller holds `structure`.
pub(super) fn everything_to(
    collection: &CollectionCore,
    view: &View,
    frozen: &[Arc<Memtable>],
    cold: Vec<ColdMeta>,
) -> Change {
    let state = collection.state.read();
    let covered = |part: &&Arc<SegmentPart>| part.segment.meta().max_lsn <= view.lsn.get();
    let still = state.parts.frozen();
    let retires = frozen.iter().filter(|old| still.iter().any(|one| Arc::ptr_eq(one, old)));
    Change {
        remove: state.parts.segments().iter().filter(covered).map(|p| p.number()).collect(),
        cold: Some(cold),
        warm: Some(true),
        flushed: Some(view.lsn),
        retires: retires.cloned().collect(),
        ..Change::default()
    }
}

/// Cold objects to segments.
fn promote(core: &DbCore, collection: &CollectionCore, claim: Claim<'_>) -> Result<bool> {
    let objects = collection.state.read().cold.clone();
    // Reads come here too: a database that cannot install must not write a segment for each.
    core.shared.check_writable()?;
    let schema = collection.schema();
    let mut metas = Vec::new();
    for object in &objects {
        metas.extend(fetch_segment(core, collection.id, &schema, object)?);
    }
    let parts = metas
        .iter()
        .map(|meta| core.open_part(collection, meta, RoaringBitmap::new()))
        .collect::<Result<Vec<_>>>()?;
    let structure = collection.structure.lock();
    hide_known(&collection.state.read(), &parts)?;
    if planted("promote.object-deleted-first") {
        objects.iter().for_each(|object| core.discard_object(&object.key));
    }
    let change = Change {
        add: parts.clone(),
        cold: Some(Vec::new()),
        warm: Some(claim.to() == Tier::Warm),
        garbage: objects.into_iter().map(|object| object.key).collect(),
        ..Change::default()
    };
    let sealed = claim.seal().map_err(|why| {
        core.discard(&parts);
        refused_move(collection, why)
    })?;
    core.install(collection, &structure, change, |state| hide_known(state, &parts))?;
    sealed.finish();
    drop(structure);
    core.collect_garbage();
    Ok(true)
}

/// Hot to warm: the hot copies go.
fn cool(core: &DbCore, collection: &CollectionCore, claim: Claim<'_>) -> Result<bool> {
    keep_warm(core, collection, claim, true)?;
    core.let_go_of_hot(collection);
    Ok(true)
}

/// Warm to hot: copies are made as far as there is memory for them; what does not fit now gets one
/// when there is.
fn heat(core: &DbCore, collection: &CollectionCore, claim: Claim<'_>) -> Result<bool> {
    keep_warm(core, collection, claim, false)?;
    core.make_collection_hot(collection)?;
    Ok(true)
}

/// The durable record of a move between hot and warm.
fn keep_warm(
    core: &DbCore,
    collection: &CollectionCore,
    claim: Claim<'_>,
    warm: bool,
) -> Result<()> {
    let structure = collection.structure.lock();
    let sealed = claim.seal().map_err(|why| refused_move(collection, why))?;
    let change = Change { warm: Some(warm), ..Change::default() };
    core.install(collection, &structure, change, |_| Ok(()))?;
    sealed.finish();
    Ok(())
}

/// Sets or clears the pin. A demotion that is under way and not sealed fails, and leaves everything
/// where it is.
pub(crate) fn pin(core: &DbCore, collection: &CollectionCore, pinned: bool) -> Result<()> {
    core.check_may_write()?;
    // A demotion holds it from its seal to its end, so none is sealed here.
    let structure = collection.structure.lock();
    collection.check_exists()?;
    let refused = |why| refused_move(collection, why);
    let before = collection.tier.state().pinned;
    // The pin holds before it is durable, and until its end is: never the other way round.
    if pinned {
        collection.tier.pin().map_err(refused)?;
    }
    let change = Change { pinned: Some(pinned), ..Change::default() };
    let done = core.install(collection, &structure, change, |_| Ok(()));
    let holds = if done.is_ok() { pinned } else { before };
    if !holds {
        collection.tier.unpin().map_err(refused)?;
    }
    done
}

/// Hides every promoted row whose id a local part knows: whatever is local is newer. Looks every
/// row up before it hides any.
fn hide_known(state: &State, promoted: &[Arc<SegmentPart>]) -> Result<()> {
    if planted("promote.newer-rows-not-hidden-behind") {
        return Ok(());
    }
    let mut hidden = Vec::new();
    let mut look = |id: &crate::PointId| -> Result<()> {
        for (at, part) in promoted.iter().enumerate() {
            hidden.extend(part.find_live(id)?.map(|row| (at, row)));
        }
        Ok(())
    };
    for memtable in state.parts.memtables() {
        for (id, _) in memtable.newest_ids() {
            look(&id)?;
        }
    }
    for part in state.parts.segments() {
        for row in 0..part.segment.rows() {
            look(&part.segment.id(row)?)?;
        }
        for (id, _) in part.segment.deletes()? {
            look(&id)?;
        }
    }
    for (at, row) in hidden {
        if let Some(part) = promoted.get(at) {
            part.kill(row);
        }
    }
    Ok(())
}
