//! Drives a database and the oracle through the same steps, and compares every answer.
//!
//! # What is allowed after a failure
//! - A write that returned an error may exist after a restart, whole, as the last of all (D5).
//!   Without a restart it does not exist.
//! - A change of structure (create, drop, snapshot, ...) that returned an error may have happened;
//!   what is found decides.
//! - A restart yields the prefix of writes that its recovery report names. It holds everything
//!   synced, after a kill everything written, after a close everything (D1 to D3).

mod aftermath;
mod life;
mod ordeal;
mod recover;
mod script;
mod verbs;

pub(crate) use aftermath::{Aftermath, Recovered};
pub(crate) use life::{Episode, Life, Promise, level_index, lost_by_level};
pub use ordeal::{Ordeal, Trouble, disk_part};
pub use recover::{difference, scan_all};
pub use script::{Cut, Script};

use crate::{
    fault_store::FaultStore,
    ops::{End, Op, Step},
    oracle::{Change, Oracle, Rows},
    world::{World, settings_for},
};
use akidb::{Error, FieldDef, Schema, blocking::Db};
use akidb_vfs::{
    Clock,
    sim::{CrashPolicy, FaultKind, PowerMoment},
};
use std::{
    collections::BTreeMap,
    fmt::Write as _,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    sync::Arc,
    time::Duration,
};

/// What a failed call may have done.
#[derive(Clone, Debug)]
pub(crate) enum Pending {
    Nothing,
    Write(String, Change),
    Create(String, Schema, Rows),
    Drop(String),
    Snapshot(String, crate::oracle::Snapshot),
    DeleteSnapshot(String),
    Pin(String, bool),
    AddField(String, FieldDef),
}

/// What a run did: a test that never reaches a path tests nothing of it.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    /// Sequences.
    pub sequences: u64,
    /// Steps.
    pub steps: u64,
    /// Restarts, of any kind.
    pub restarts: u64,
    /// Calls that failed because the power went or a fault fired.
    pub failures: u64,
    /// Writes that a crash took.
    pub lost: u64,
    /// Flushes.
    pub flushes: u64,
    /// Compactions.
    pub compactions: u64,
    /// Demotions that moved something.
    pub demotions: u64,
    /// Promotions that moved something.
    pub promotions: u64,
    /// Restored snapshots.
    pub restores: u64,
    /// Faults that fired, by kind.
    pub faults: BTreeMap<FaultKind, u64>,
}

/// A database and its oracle, half-way through a sequence.
pub(crate) struct Runner {
    world: World,
    db: Option<Db>,
    oracle: Oracle,
    rng: fastrand::Rng,
    /// What happens to the disk when the armed loss of power strikes.
    policy: CrashPolicy,
    /// Where the recovery after that loss is to crash too.
    again: Option<u64>,
    faulty: bool,
    /// Faults that had fired when none was armed last.
    excused: u64,
    pending: Pending,
    /// LSNs of interval writes, with the time when they must have been synced.
    intervals: Vec<(Duration, u64)>,
    /// A write was acknowledged in this step, so timers were looked at.
    ticked: bool,
    /// Errors since somebody last looked.
    errors: Vec<Error>,
    /// The object store, where it may fail too.
    store: Option<Arc<FaultStore>>,
    tally: Tally,
}

/// Runs one sequence of `steps` steps from `seed`.
///
/// # Panics
/// When the database and the oracle disagree; the message tells the seed and the steps.
pub fn run_sequence(seed: u64, steps: usize, faults: bool) -> Tally {
    let mut rng = fastrand::Rng::with_seed(seed);
    let mut done: Vec<Step> = Vec::new();
    let outcome = catch_unwind(AssertUnwindSafe(|| {
        let mut runner = Runner::start(seed, &mut rng);
        for _ in 0..steps {
            let step = Step::any(&mut rng, faults);
            done.push(step.clone());
            runner.step(&step);
        }
        runner.finish()
    }));
    outcome.unwrap_or_else(|panic| {
        let mut story = format!("seed {seed} failed; replay with AKIDB_SEED={seed}\n");
        for (at, step) in done.iter().enumerate() {
            // Writing to a string cannot fail.
            let _ = writeln!(story, "{at:4} {} {:?}", step.collection, step.op);
        }
        let reason = panic
            .downcast_ref::<String>()
            .cloned()
            .or_else(|| panic.downcast_ref::<&str>().map(ToString::to_string));
        match reason {
            Some(reason) => panic!("{story}\nseed {seed}, step {}: {reason}", done.len()),
            None => resume_unwind(panic),
        }
    })
}

/// Runs the given steps on the world that `seed` makes.
///
/// # Panics
/// When the database and the oracle disagree.
pub fn run_steps(seed: u64, steps: &[Step]) -> Tally {
    let mut runner = Runner::start(seed, &mut fastrand::Rng::with_seed(seed));
    steps.iter().for_each(|step| runner.step(step));
    runner.finish()
}

impl Tally {
    /// Adds another tally.
    pub fn add(&mut self, other: &Self) {
        self.sequences += other.sequences;
        self.steps += other.steps;
        self.restarts += other.restarts;
        self.failures += other.failures;
        self.lost += other.lost;
        self.flushes += other.flushes;
        self.compactions += other.compactions;
        self.demotions += other.demotions;
        self.promotions += other.promotions;
        self.restores += other.restores;
        for (kind, count) in &other.faults {
            *self.faults.entry(*kind).or_default() += count;
        }
    }
}

impl Runner {
    fn start(seed: u64, rng: &mut fastrand::Rng) -> Self {
        let world = World::new(seed, settings_for(rng));
        let db = world.open().expect("an empty disk opens");
        let mut runner = Self::new(world, db, rng.fork());
        let create = Op::Create(crate::ops::any_schema(rng));
        runner.verb(&Step { collection: "c0".to_owned(), op: create });
        runner
    }

    fn new(world: World, db: Db, rng: fastrand::Rng) -> Self {
        Self {
            world,
            db: Some(db),
            oracle: Oracle::default(),
            rng,
            policy: CrashPolicy::DropAll,
            again: None,
            faulty: false,
            excused: 0,
            pending: Pending::Nothing,
            intervals: Vec::new(),
            ticked: false,
            errors: Vec::new(),
            store: None,
            tally: Tally { sequences: 1, ..Tally::default() },
        }
    }

    fn db(&self) -> &Db {
        self.db.as_ref().expect("open between steps")
    }

    fn step(&mut self, step: &Step) {
        self.tally.steps += 1;
        match &step.op {
            Op::PowerOffAt(nth, policy) => {
                self.policy = *policy;
                self.again = self.rng.bool().then(|| self.rng.u64(1..20));
                let moments = [PowerMoment::Before, PowerMoment::Middle, PowerMoment::After];
                let moment = moments[self.rng.usize(0..3)];
                self.world.sim.power_off_at_moment(*nth, moment);
            }
            Op::Fault(kind, nth) => {
                self.faulty = true;
                self.world.sim.inject(akidb_vfs::sim::Fault::new(*kind).nth(*nth));
            }
            Op::Advance(ms) => self.world.clock.advance(Duration::from_millis(*ms)),
            Op::Restart(end, again) => {
                self.disarm();
                self.restart(*end, *again);
            }
            _ => self.verb(step),
        }
        if !self.world.sim.is_powered() {
            let again = self.again.take();
            self.restart(End::Crash(self.policy), again);
        } else if self.db().stats().poisoned.is_some() {
            self.poisoned(&step.collection);
        }
        // One fault has a few steps to fire in; then its absence is nobody's surprise.
        if self.faulty && self.rng.u8(0..4) == 0 {
            self.disarm();
        }
        self.note_durable();
    }

    /// Cancels faults and losses of power that have not struck.
    fn disarm(&mut self) {
        self.world.sim.clear_faults();
        self.faulty = false;
        self.excused = self.faults();
        if self.world.sim.is_powered() {
            self.world.sim.power_off_at(u64::MAX);
        }
    }

    /// A call failed: fine if something was done to the disk. Returns so that the step ends.
    fn failed(&mut self, error: &Error, pending: Pending) {
        let powered = self.world.sim.is_powered();
        assert!(!powered || self.fault_fired(), "nothing is wrong, yet: {error:?} {error}");
        self.tally.failures += 1;
        self.errors.push(error.clone());
        self.pending = pending;
        if powered && self.db().stats().poisoned.is_none() {
            // The database goes on, so a failed write did not happen; structure may have changed.
            if matches!(self.pending, Pending::Write(..)) {
                self.pending = Pending::Nothing;
            }
            self.settle_structure();
        }
    }

    fn fault_fired(&self) -> bool {
        self.faults() > self.excused
    }

    /// Faults so far that a call may report; short and interrupted writes are to be gone on with.
    fn faults(&self) -> u64 {
        let quiet = |kind| matches!(kind, FaultKind::ShortWrite | FaultKind::Interrupted);
        let fired = self.world.sim.fired().into_iter();
        let on_disk: u64 = fired.filter(|(kind, _)| !quiet(*kind)).map(|(_, count)| count).sum();
        on_disk + self.store.as_ref().map_or(0, |store| store.fired())
    }

    /// D6: a poisoned database refuses writes, answers reads, and a new open recovers.
    fn poisoned(&mut self, collection: &str) {
        assert!(self.fault_fired(), "poisoned for nothing: {:?}", self.db().stats().poisoned);
        self.disarm();
        if let Ok(handle) = self.db().collection(collection) {
            let point = crate::ops::any_point(&mut self.rng);
            let refused = handle.upsert([point]).run().expect_err("a poisoned database writes");
            assert_eq!(refused.kind(), akidb::ErrorKind::Reopen, "{refused}");
            // A cold collection would have to be promoted, which is a write.
            if handle.stats().tier != "cold" {
                self.verify_collection(collection);
            }
        }
        let end = if self.rng.bool() { End::Drop } else { End::Crash(CrashPolicy::Random) };
        self.restart(end, None);
    }

    fn note_durable(&mut self) {
        let claimed = self.db().stats().durable_lsn;
        let last = self.oracle.last_lsn;
        assert!(claimed <= last, "LSN {claimed} is said to be durable, the last is {last}");
        self.oracle.durable(claimed);
        self.check_intervals(claimed);
    }

    /// D2: an interval write is synced at most that much later, if anything goes on at all.
    fn check_intervals(&mut self, durable: u64) {
        self.intervals.retain(|(_, lsn)| *lsn > durable);
        let now = self.world.clock.monotonic();
        let late = self.intervals.iter().find(|(due, _)| *due <= now);
        if std::mem::take(&mut self.ticked) && !self.fault_fired() {
            assert!(late.is_none(), "LSN {late:?} is not synced at {now:?}, but {durable}");
        }
    }

    fn finish(mut self) -> Tally {
        self.disarm();
        self.verify();
        self.restart(End::Crash(CrashPolicy::Random), None);
        self.verify();
        self.tally.faults = self.world.sim.fired();
        self.tally
    }
}
