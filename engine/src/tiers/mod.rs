//! Tiers by themselves: the background worker that asks the policy which collections are due and has
//! them moved, and what it could not move.
//!
//! Owns the worker's state: paused or not, what it did, what failed how often, the dead letters. Never
//! decides what is due (`akidb_tiering::plan`) nor moves anything itself (`maintenance::moves`). Called
//! by the background thread, by `run_tiering` of the API, and by `stats`.
//!
//! # Invariants
//! - One cycle at a time; a second caller waits and then runs its own.
//! - A decision that was overtaken by hand is refused by the collection's `TierCell`, never forced.
//! - Nothing here survives a crash but dead letters: the next cycle decides anew from what is there.

mod cycle;
mod letters;
mod tend;

pub use letters::DeadMove;

use crate::{
    db::DbCore,
    error::{Error, Result},
};
use akidb_tiering::DeadLetterQueue;
use parking_lot::Mutex;
use serde::Serialize;
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

/// What one cycle of the tier policy did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct TierCycle {
    /// Moves that were due.
    pub due: u64,
    /// Moves that were made.
    pub moved: u64,
    /// Moves that somebody else was faster than, or that a pin forbade meanwhile.
    pub refused: u64,
    /// Moves that failed; the collections are where they were.
    pub failed: u64,
    /// Of these: given up, as dead letters.
    pub given_up: u64,
}

/// The worker as `stats` shows it. Counts are since the open.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct TieringStats {
    /// Whether the policy moves anything by itself.
    pub enabled: bool,
    /// Whether it was paused.
    pub paused: bool,
    /// Cycles that were run.
    pub cycles: u64,
    /// Moves that cycles made.
    pub moved: u64,
    /// Moves of cycles that failed.
    pub failed: u64,
    /// Cold collections that moved into another object because most of their pack had left it.
    pub repacked: u64,
    /// Collections that a cycle is moving now.
    pub moving: Vec<String>,
    /// What the last cycle did.
    pub last_cycle: Option<TierCycle>,
    /// The last failure of a move by the policy, until a cycle has none; else why the store could not be
    /// looked after, until it can.
    pub last_error: Option<String>,
    /// Moves that were given up.
    pub dead_letters: u64,
}

/// The worker's state.
#[derive(Debug)]
pub(crate) struct Tiers {
    paused: AtomicBool,
    /// Held by the cycle that runs.
    cycle: Mutex<()>,
    status: Mutex<Status>,
    /// Or why there are none: a damaged file of notes is no reason to refuse the database.
    letters: Result<DeadLetterQueue>,
}

#[derive(Debug, Default)]
struct Status {
    /// When the next cycle is due.
    next_at: Duration,
    /// When the store is looked after next: at once, at first.
    tend_at: Duration,
    /// When what earlier processes left there is swept next: at once, at first.
    sweep_at: Duration,
    /// Why the store could not be looked after the last time.
    store_error: Option<Error>,
    cycles: u64,
    moved: u64,
    failed: u64,
    repacked: u64,
    moving: BTreeSet<String>,
    last_cycle: Option<TierCycle>,
    last_error: Option<Error>,
    /// Failures one after the other, by collection.
    failures: BTreeMap<u32, u32>,
}

impl Tiers {
    /// A worker whose first cycle is due at `next_at`.
    pub(crate) fn new(next_at: Duration, letters: Result<DeadLetterQueue>) -> Self {
        let status = Mutex::new(Status { next_at, ..Status::default() });
        Self { paused: AtomicBool::new(false), cycle: Mutex::new(()), status, letters }
    }

    /// Why there are no dead letters, if their file could not be read.
    pub(crate) fn unread(&self) -> Option<Error> {
        self.letters.as_ref().err().cloned()
    }
}

impl DbCore {
    /// Stops or starts the cycles that come by time. One that runs ends as it would.
    pub(crate) fn pause_tiering(&self, paused: bool) {
        self.tiers.paused.store(paused, Ordering::Relaxed);
    }

    /// What the worker does and did.
    pub(crate) fn tiering_stats(&self) -> TieringStats {
        let status = self.tiers.status.lock();
        TieringStats {
            enabled: self.shared.settings.tiers.policy.enabled,
            paused: self.tiers.paused.load(Ordering::Relaxed),
            cycles: status.cycles,
            moved: status.moved,
            failed: status.failed,
            repacked: status.repacked,
            moving: status.moving.iter().cloned().collect(),
            last_cycle: status.last_cycle,
            last_error: status
                .last_error
                .as_ref()
                .or(status.store_error.as_ref())
                .map(ToString::to_string),
            dead_letters: self.tiers.letters.as_ref().map_or(0, |letters| letters.len() as u64),
        }
    }

    /// Runs a cycle if one is due by time and they are not paused, and looks after the store.
    pub(crate) fn tiers_due(&self) {
        if self.shared.check_writable().is_err() {
            return;
        }
        let now = self.shared.clock.monotonic();
        let (cycle, tend) = {
            let status = self.tiers.status.lock();
            (status.next_at <= now, status.tend_at <= now)
        };
        if cycle && !self.tiers.paused.load(Ordering::Relaxed) {
            cycle::run(self);
        } else if tend {
            self.tend_store();
        }
    }

    /// Runs a cycle now, also while they are paused.
    pub(crate) fn run_tiering(&self) -> Result<TierCycle> {
        self.check_may_write()?;
        Ok(cycle::run(self))
    }
}
