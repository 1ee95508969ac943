//! A fixed life of a database, cut short at a chosen call: the power goes, the database is opened
//! again, and everything is compared with the oracle.

use super::Runner;
use crate::{
    ops::{End, Op, Step, any_point},
    world::{World, tiny_settings},
};
use akidb::{Durability, Settings};
use akidb_vfs::sim::{CrashPolicy, Fault, FaultKind, PowerMoment};

/// A life of a database.
#[derive(Clone, Debug)]
pub struct Script {
    /// Under these settings.
    pub settings: Settings,
    /// These steps, from an empty directory.
    pub steps: Vec<Step>,
}

/// Where the power goes.
#[derive(Clone, Copy, Debug)]
pub struct Cut {
    /// At this mutating call, counted from the first open.
    pub call: u64,
    /// At this moment of it.
    pub moment: PowerMoment,
    /// With this fate of unsynced work.
    pub policy: CrashPolicy,
    /// Chance, where the policy leaves something to it.
    pub seed: u64,
    /// The recovery loses power too, at this call.
    pub again: Option<u64>,
}

impl Script {
    /// Steps on one collection, under tiny settings.
    pub fn new(ops: impl IntoIterator<Item = Op>) -> Self {
        let steps = ops.into_iter().map(|op| Step { collection: "c0".to_owned(), op }).collect();
        Self { settings: tiny_settings(), steps }
    }

    /// How many mutating calls the whole life makes, its close included.
    ///
    /// # Panics
    /// If it does not agree with the oracle.
    pub fn calls(&self) -> u64 {
        let world = World::new(1, self.settings.clone());
        let sim = world.sim.clone();
        let db = world.open().expect("an empty disk opens");
        let mut runner = Runner::new(world, db, fastrand::Rng::with_seed(1));
        self.steps.iter().for_each(|step| runner.step(step));
        runner.end(End::Close);
        sim.calls()
    }

    /// Lives until the cut, recovers, and checks that the database is right and takes writes.
    ///
    /// # Panics
    /// If it is not; the message tells the cut.
    pub fn run(&self, cut: Cut) {
        let world = World::new(cut.seed, self.settings.clone());
        world.sim.power_off_at_moment(cut.call, cut.moment);
        let Ok(db) = world.open() else {
            return Self::first_open_was_cut(&world, cut);
        };
        let mut runner = Runner::new(world, db, fastrand::Rng::with_seed(cut.seed));
        runner.policy = cut.policy;
        runner.again = cut.again;
        for step in &self.steps {
            let restarts = runner.tally.restarts;
            runner.step(step);
            if runner.tally.restarts > restarts {
                break;
            }
        }
        if runner.tally.restarts == 0 {
            // The cut lies in the close, or nowhere.
            runner.close_and_restart(cut.policy);
        }
        runner.live_on();
    }

    /// Lives with a call that fails: the nth that can fail so. Checks every answer, restarts as
    /// a user would, and tells whether any call did fail.
    ///
    /// # Panics
    /// If the database and the oracle disagree.
    pub fn run_with_fault(&self, kind: FaultKind, nth: u64) -> bool {
        let world = World::new(nth, self.settings.clone());
        let sim = world.sim.clone();
        sim.inject(Fault::new(kind).nth(nth));
        let opened = world.open();
        let fired = || !sim.fired().is_empty();
        let db = match opened {
            Ok(db) => db,
            Err(error) => {
                assert!(fired(), "an empty disk does not open: {error:?}");
                sim.clear_faults();
                world.open().unwrap_or_else(|error| panic!("the next try: {error:?} {error}"))
            }
        };
        let mut runner = Runner::new(world, db, fastrand::Rng::with_seed(nth));
        self.steps.iter().for_each(|step| runner.step(step));
        let fired = fired();
        runner.disarm();
        runner.live_on();
        fired
    }

    fn first_open_was_cut(world: &World, cut: Cut) {
        assert!(!world.sim.is_powered(), "an empty disk does not open: {cut:?}");
        world.sim.reboot(cut.policy);
        let db = world.open().unwrap_or_else(|error| panic!("after {cut:?}: {error:?} {error}"));
        assert!(db.list_collections().expect("it lists").is_empty());
        db.close().expect("it closes");
    }
}

impl Runner {
    /// The rest of a life after something went wrong: all is right, and stays so.
    pub(super) fn live_on(&mut self) {
        let runner = self;
        runner.verify();
        let (point, durability) = (any_point(&mut runner.rng), Durability::Sync);
        let more = Op::Upsert(vec![point], durability);
        let collection = runner.oracle.collections.keys().next().cloned();
        runner.step(&Step { collection: collection.unwrap_or_default(), op: more });
        runner.restart(End::Crash(CrashPolicy::DropAll), None);
        runner.verify();
    }
}
