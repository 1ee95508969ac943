//! A life in which the nth call of a kind fails, once or from then on: every error must be of the
//! right kind, reads must go on, and the database must be right at once, after a loss of power at
//! that very moment, and after every way to open it again.
//!
//! Unlike the model's random faults, these stay armed through closing and recovery.

use super::{Runner, Script};
use crate::{
    fault_store::{FaultStore, Mischief},
    ops::{End, Op, Step},
    world::World,
};
use akidb::{Error, ErrorKind, blocking::Db};
use akidb_vfs::sim::{CrashPolicy, Fault, FaultKind, Struck, TraceEntry};
use std::{collections::BTreeMap, path::Path, sync::Arc, time::Duration};

/// How often a database is opened while opening keeps failing.
const TRIES: usize = 2;
/// More calls than any script makes.
const CALLS_MAX: usize = 100_000;

/// What goes wrong in a life.
#[derive(Clone, Debug)]
pub enum Trouble {
    /// A call on the disk.
    Disk(Fault),
    /// A call on the object store.
    Store {
        /// How.
        mischief: Mischief,
        /// The how-manieth that can.
        nth: u64,
        /// All later ones too.
        sticky: bool,
    },
}

impl Trouble {
    /// The kinds of error that a caller may see because of it.
    fn kinds(&self) -> &'static [ErrorKind] {
        use ErrorKind::{Corruption, Incompatible, NoSpace, Reopen, Unavailable};
        match self {
            Self::Disk(fault) => match fault.kind {
                FaultKind::NoSpace => &[NoSpace, Reopen],
                FaultKind::ReadFlip => &[Corruption, Incompatible, Reopen],
                FaultKind::ShortWrite | FaultKind::Interrupted => &[],
                _ => &[Unavailable, Reopen],
            },
            Self::Store { mischief, .. } => match mischief {
                Mischief::None | Mischief::DeleteFails => &[],
                Mischief::PutFails
                | Mischief::PutAnswerLost
                | Mischief::GetFails
                | Mischief::HeadFails => &[Unavailable],
                Mischief::PutKeepsOtherBytes
                | Mischief::PutKeepsHalf
                | Mischief::GetReturnsOtherBytes
                | Mischief::GetFindsNothing => &[Corruption],
            },
        }
    }

    /// True if what was once read wrong stays so in memory: a map is a copy here.
    fn lingers(&self) -> bool {
        matches!(self, Self::Disk(fault) if fault.kind == FaultKind::ReadFlip)
    }

    fn sticky(&self) -> bool {
        match self {
            Self::Disk(fault) => fault.sticky,
            Self::Store { sticky, .. } => *sticky,
        }
    }
}

/// What a life in trouble met.
#[derive(Clone, Debug, Default)]
pub struct Ordeal {
    /// Calls on the disk that failed on request.
    pub struck: Vec<Struck>,
    /// Calls on the store that failed on request.
    pub store_struck: u64,
    /// Errors that callers saw, by kind.
    pub errors: BTreeMap<&'static str, u64>,
    /// Poisoned databases.
    pub poisoned: u64,
    /// Opens that failed.
    pub opens_failed: u64,
    /// Databases that were compared with the oracle after a loss of power or a restart.
    pub recovered: u64,
    /// The last calls on the disk until the trouble was over.
    pub calls: Vec<TraceEntry>,
}

/// What the parts of a database's disk are called in reports.
pub fn disk_part(path: &Path) -> &'static str {
    let text = path.to_string_lossy();
    let ends = |end: &str| text.trim_end_matches(".tmp").ends_with(end);
    let name = path.file_name().map_or_else(Default::default, |name| name.to_string_lossy());
    match () {
        () if ends(".wal") => "log",
        () if ends(".seg") => "segment",
        () if ends(".tmb") => "tombstones",
        () if name.starts_with("MANIFEST-") => "manifest",
        () if name == "LOCK" => "lock",
        () if text.contains("/objects/") && name.contains('.') => "object",
        () if text.contains("/objects") => "object directory",
        () if name == "wal" => "log directory",
        () if name == "segments" => "segment directory",
        () if name == "db" => "database directory",
        () => "parent directory",
    }
}

impl Script {
    /// Every call on the disk that an untroubled life makes, and where its faults would strike.
    ///
    /// # Panics
    /// If it does not agree with the oracle.
    pub fn calls_made(&self) -> Vec<TraceEntry> {
        let world = World::new(1, self.settings.clone());
        world.sim.remember_calls(CALLS_MAX);
        self.endure(&Trouble::Disk(Fault::new(FaultKind::Eio).nth(u64::MAX)), world, None).calls
    }

    /// Lives on in trouble, and checks everything.
    ///
    /// # Panics
    /// If the database and the oracle disagree, or an error is of the wrong kind.
    pub fn survive(&self, trouble: &Trouble, seed: u64) -> Ordeal {
        let mut world = World::new(seed, self.settings.clone());
        let mut store = None;
        match trouble {
            Trouble::Disk(fault) => world.sim.inject(fault.clone()),
            Trouble::Store { mischief, nth, sticky } => {
                let fault_store = Arc::new(FaultStore::default());
                fault_store.arm(*mischief, *nth, *sticky);
                world.store = Some(fault_store.clone());
                store = Some(fault_store);
            }
        }
        self.endure(trouble, world, store)
    }

    fn endure(&self, trouble: &Trouble, world: World, store: Option<Arc<FaultStore>>) -> Ordeal {
        let mut ordeal = Ordeal::default();
        let mut failures = Vec::new();
        let db = open_somehow(&world, trouble, &mut failures);
        ordeal.opens_failed += failures.len() as u64;
        let mut runner = Runner::new(world, db, fastrand::Rng::with_seed(1));
        runner.store = store;
        runner.errors = failures;
        runner.check_errors(trouble, &mut ordeal);
        for step in &self.steps {
            runner.step_in_trouble(step, trouble, &mut ordeal);
        }
        ordeal.calls = runner.world.sim.trace();
        runner.finish_in_trouble(trouble, &mut ordeal);
        ordeal.struck = runner.world.sim.struck();
        ordeal.store_struck = runner.store.as_ref().map_or(0, |store| store.fired());
        ordeal
    }
}

/// Opens the database in spite of the trouble: a fault that stays is taken away after a few tries.
fn open_somehow(world: &World, trouble: &Trouble, failures: &mut Vec<Error>) -> Db {
    loop {
        match world.open() {
            Ok(db) => return db,
            Err(error) => {
                let struck = !world.sim.fired().is_empty() || world.store.is_some();
                assert!(struck, "nothing is wrong, yet it does not open: {error:?} {error}");
                failures.push(error);
                assert!(trouble.sticky() || failures.len() < TRIES, "{failures:?}");
                if failures.len() == TRIES {
                    world.sim.clear_faults();
                }
                assert!(failures.len() <= TRIES, "without the fault: {failures:?}");
            }
        }
    }
}

impl Runner {
    fn step_in_trouble(&mut self, step: &Step, trouble: &Trouble, ordeal: &mut Ordeal) {
        let struck = self.fault_fired();
        match &step.op {
            Op::Restart(end, _) => self.restart_in_trouble(*end, trouble, ordeal),
            Op::Advance(ms) => self.world.clock.advance(Duration::from_millis(*ms)),
            _ => self.verb(step),
        }
        self.check_errors(trouble, ordeal);
        if self.db().stats().poisoned.is_some() {
            self.poisoned_in_trouble(&step.collection, trouble, ordeal);
        } else if !struck && self.fault_fired() {
            self.lose_power_aside(ordeal);
        }
        self.note_durable();
    }

    /// D6, with the fault still there: writes are refused, reads go on, and a loss of power or an
    /// open recovers.
    fn poisoned_in_trouble(&mut self, name: &str, trouble: &Trouble, ordeal: &mut Ordeal) {
        assert!(self.fault_fired(), "poisoned for nothing: {:?}", self.db().stats().poisoned);
        ordeal.poisoned += 1;
        self.lose_power_aside(ordeal);
        if let Ok(collection) = self.db().collection(name) {
            let point = crate::ops::any_point(&mut self.rng);
            let refused = collection.upsert([point]).run().expect_err("a poisoned database writes");
            assert_eq!(refused.kind(), ErrorKind::Reopen, "{refused}");
            if collection.stats().tier != "cold" {
                self.verify_collection(name);
            }
        }
        self.restart_in_trouble(End::Drop, trouble, ordeal);
    }

    /// Every error that a caller saw is of a kind that fits.
    fn check_errors(&mut self, trouble: &Trouble, ordeal: &mut Ordeal) {
        for error in std::mem::take(&mut self.errors) {
            let kind = error.kind();
            assert!(trouble.kinds().contains(&kind), "after {trouble:?}: {error:?} {error}");
            *ordeal.errors.entry(kind_name(kind)).or_default() += 1;
        }
    }

    /// What a loss of power right now would leave is right.
    fn lose_power_aside(&mut self, ordeal: &mut Ordeal) {
        if self.store.is_some() {
            return; // The store is one; the copy would change it.
        }
        let world = self.world.fork(ordeal.recovered);
        world.sim.crash(CrashPolicy::DropAll);
        let db =
            world.open().unwrap_or_else(|error| panic!("after a power loss: {error:?} {error}"));
        let found = db.recovery_report().last_lsn;
        let mut other = Self::new(world, db, fastrand::Rng::with_seed(1));
        other.oracle = self.oracle.clone();
        other.pending = self.pending.clone();
        other.accept_prefix(found, self.oracle.durable_lsn);
        other.settle_structure();
        other.verify();
        ordeal.recovered += 1;
    }

    fn restart_in_trouble(&mut self, end: End, trouble: &Trouble, ordeal: &mut Ordeal) {
        // A write whose application failed is durable, and nobody was told its number.
        let claimed = self.db().stats().durable_lsn;
        assert!(claimed <= self.oracle.last_lsn + u64::from(self.db().stats().poisoned.is_some()));
        self.oracle.durable(claimed.min(self.oracle.last_lsn));
        // A log that was not sealed cannot tell a flipped bit from a torn end (D8).
        let end = if trouble.lingers() { End::Close } else { end };
        let keeps = self.end_in_trouble(end);
        let mut failures = Vec::new();
        let db = open_somehow(&self.world, trouble, &mut failures);
        ordeal.opens_failed += failures.len() as u64;
        self.errors.extend(failures);
        let found = db.recovery_report().last_lsn;
        self.db = Some(db);
        self.accept_prefix(found, keeps);
        self.settle_structure();
        self.verify();
        self.check_errors(trouble, ordeal);
        ordeal.recovered += 1;
    }

    /// Ends the database; returns the LSN up to which everything must come back.
    fn end_in_trouble(&mut self, end: End) -> u64 {
        let db = self.db.take().expect("open between steps");
        let (struck, poisoned) = (self.faults(), db.stats().poisoned.is_some());
        let (synced, last) = (self.oracle.durable_lsn, self.oracle.last_lsn);
        match end {
            End::Close => {
                if let Err(error) = db.close() {
                    assert!(self.fault_fired() || poisoned, "close fails: {error:?} {error}");
                    self.errors.push(error);
                    return synced;
                }
            }
            End::Drop => drop(db),
            End::Kill => {
                self.world.sim.kill();
                drop(db);
                return if poisoned { synced } else { self.oracle.written_lsn };
            }
            End::Crash(policy) => {
                self.world.sim.crash(policy);
                drop(db);
                return synced;
            }
        }
        // Of a handle that is dropped nobody hears how its last sync went.
        if poisoned || self.faults() > struck { synced } else { last }
    }

    /// The trouble is over: everything goes on as if nothing had been.
    fn finish_in_trouble(&mut self, trouble: &Trouble, ordeal: &mut Ordeal) {
        self.disarm();
        if let Some(store) = &self.store {
            store.set(Mischief::None);
        }
        if trouble.lingers() {
            self.restart_in_trouble(End::Close, trouble, ordeal);
        }
        self.verify();
        self.lose_power_aside(ordeal);
        self.live_on();
        self.restart(End::Close, None);
        self.verify();
        ordeal.recovered += 2;
    }
}

fn kind_name(kind: ErrorKind) -> &'static str {
    match kind {
        ErrorKind::NoSpace => "NoSpace",
        ErrorKind::Reopen => "Reopen",
        ErrorKind::Corruption => "Corruption",
        ErrorKind::Incompatible => "Incompatible",
        ErrorKind::Unavailable => "Unavailable",
        _ => "other",
    }
}
