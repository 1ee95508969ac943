//! One cycle: look at all collections, ask the policy, have the moves made, a few at a time.

use super::{TierCycle, letters};
use crate::{
    collection::CollectionCore,
    db::DbCore,
    error::{Cause, Error, ErrorKind, Result},
    maintenance::{
        moves,
        packs::{self, Due, Watch},
        repack,
    },
    segment::Segment,
};
use akidb_handoff::Tier;
use akidb_index::Executor;
use akidb_tiering::{Candidate, PlannedMove, plan};
use parking_lot::Mutex;
use std::{sync::Arc, time::Duration};

/// Runs a cycle. What its moves met is in what it returns and in the worker's status.
pub(super) fn run(core: &DbCore) -> TierCycle {
    let _one = core.tiers.cycle.lock();
    let settings = &core.shared.settings.tiers;
    let now = core.shared.clock.monotonic();
    core.tiers.status.lock().next_at = now + Duration::from_millis(settings.cycle_ms);
    let due = due(core, now);
    let done = Mutex::new(TierCycle { due: due.len() as u64, ..TierCycle::default() });
    let last_error = Mutex::new(None);
    // Demotions first: promotions may need the room that they make.
    let (down, up): (Vec<_>, Vec<_>) = due.into_iter().partition(|(_, due)| due.to > due.from);
    let (cold, down): (Vec<_>, Vec<_>) =
        down.into_iter().partition(|(_, due)| due.to == Tier::Cold);
    let threads = core.move_threads();
    let together = |(collection, due): &(Arc<CollectionCore>, PlannedMove)| Due {
        collection: collection.clone(),
        generation: Some(due.generation),
    };
    let list: Vec<_> = cold.iter().map(together).collect();
    let counting = Counting { core, moves: &cold, done: &done, last_error: &last_error };
    packs::demote_all(core, &list, threads, &counting);
    for moves in [down, up] {
        let counting = Counting { core, moves: &moves, done: &done, last_error: &last_error };
        threads.run(moves.len(), &|at| {
            let Some((collection, due)) = moves.get(at).filter(|_| counting.begins(at)) else {
                return;
            };
            let moved = moves::move_to(core, collection, due.to, Some(due.generation));
            counting.ended(at, moved);
        });
    }
    let (repacked, failed) = repack::repack(core);
    if let Some(error) = failed {
        *last_error.lock() = Some(error);
    }
    core.tend_store();
    let done = done.into_inner();
    let mut status = core.tiers.status.lock();
    status.cycles += 1;
    status.moved += done.moved;
    status.failed += done.failed;
    status.repacked += repacked;
    status.last_cycle = Some(done);
    status.last_error = last_error.into_inner();
    done
}

/// What the policy wants moved, without what was given up.
fn due(core: &DbCore, now: Duration) -> Vec<(Arc<CollectionCore>, PlannedMove)> {
    let collections = core.all_collections();
    let candidates: Vec<_> = collections.iter().map(|c| candidate(c, now)).collect();
    let planned = plan(&core.shared.settings.tiers.policy, &candidates, now);
    let given_up = letters::given_up(core);
    planned
        .into_iter()
        .filter(|due| core.ships() || due.to != Tier::Cold)
        .filter(|due| !given_up.contains(&(due.id, due.to)))
        .filter_map(|due| {
            let collection = collections.iter().find(|collection| collection.id == due.id)?;
            Some((collection.clone(), due))
        })
        .collect()
}

fn candidate(collection: &CollectionCore, now: Duration) -> Candidate {
    // Before the parts: a move that ends in between raises the generation, and the claim refuses.
    let state = collection.tier.state();
    let parts = collection.state.read();
    let segments = || parts.parts.segments().iter().map(|part| &part.segment);
    let cold: u64 = parts.cold.iter().map(|object| object.len).sum();
    Candidate {
        id: collection.id,
        state,
        access: collection.access.summary(now),
        memory_bytes: segments().map(Segment::code_bytes).sum(),
        disk_bytes: cold + segments().map(|segment| segment.meta().len).sum::<u64>(),
        overrides: parts.overrides.clone(),
    }
}

/// Counts what comes of the moves of a cycle.
struct Counting<'a> {
    core: &'a DbCore,
    moves: &'a [(Arc<CollectionCore>, PlannedMove)],
    done: &'a Mutex<TierCycle>,
    last_error: &'a Mutex<Option<Error>>,
}

impl Watch for Counting<'_> {
    fn begins(&self, at: usize) -> bool {
        let Some((collection, _)) = self.moves.get(at) else { return false };
        if self.core.background.pause_point().is_err() {
            return false;
        }
        self.core.tiers.status.lock().moving.insert(collection.name.clone());
        true
    }

    fn ended(&self, at: usize, moved: Result<bool>) {
        let Some((collection, due)) = self.moves.get(at) else { return };
        if let Some(error) = count(self.core, collection, *due, moved, self.done) {
            *self.last_error.lock() = Some(error);
        }
    }
}

/// Counts what came of one move. Returns its failure.
fn count(
    core: &DbCore,
    collection: &CollectionCore,
    due: PlannedMove,
    moved: Result<bool>,
    done: &Mutex<TierCycle>,
) -> Option<Error> {
    let mut status = core.tiers.status.lock();
    status.moving.remove(&collection.name);
    let error = match moved {
        Ok(moved) => {
            status.failures.remove(&collection.id);
            done.lock().moved += u64::from(moved);
            return None;
        }
        Err(error) if is_refusal(&error) => {
            done.lock().refused += 1;
            return None;
        }
        Err(error) => error,
    };
    let failures = status.failures.entry(collection.id).or_default();
    *failures += 1;
    let may_pass = matches!(error.kind(), ErrorKind::Unavailable | ErrorKind::NoSpace);
    let give_up = !may_pass || *failures >= core.shared.settings.tiers.give_up_after.max(1);
    drop(status);
    done.lock().failed += 1;
    if give_up && letters::add(core, collection, due.to, &error) {
        done.lock().given_up += 1;
        core.tiers.status.lock().failures.remove(&collection.id);
    }
    Some(error)
}

/// True for what is no failure of the move: somebody was faster, or the database closes.
fn is_refusal(error: &Error) -> bool {
    matches!(
        error.cause(),
        Cause::Moving { .. }
            | Cause::TierChanged { .. }
            | Cause::Pinned { .. }
            | Cause::CollectionNotFound { .. }
            | Cause::Closed
    )
}
