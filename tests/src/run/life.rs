//! One life of a database, with the crash points of every step: what the disk was at chosen
//! moments, and what was promised by then. Plays no crash itself beyond those of its steps;
//! `aftermath` recovers the points, the machines `crash` and `short` choose which.

use super::Runner;
use crate::{
    ops::{End, Op, Step},
    oracle::Oracle,
    world::World,
};
use akidb::{Durability, Settings};
use akidb_vfs::sim::{CrashPoint, SimFs};
use std::rc::Rc;

/// What must be found after a crash at some moment of a step.
#[derive(Clone, Debug)]
pub(crate) struct Promise {
    /// What the database was before the step.
    pub(crate) before: Rc<Oracle>,
    /// What it is after the step: structure may be as before or as after it, and writes end
    /// anywhere above what was kept.
    pub(crate) after: Rc<Oracle>,
    /// The LSN that a loss of power cannot take.
    pub(crate) keeps_power: u64,
    /// The LSN that a kill of the process cannot take.
    pub(crate) keeps_kill: u64,
}

impl Promise {
    fn of(before: &Rc<Oracle>, after: &Rc<Oracle>) -> Self {
        Self {
            keeps_power: before.durable_lsn,
            keeps_kill: before.written_lsn,
            before: Rc::clone(before),
            after: Rc::clone(after),
        }
    }

    fn keeping(mut self, lsn: u64) -> Self {
        self.keeps_power = lsn;
        self.keeps_kill = lsn;
        self
    }
}

/// A part of a life: its crash points share one promise.
#[derive(Debug)]
pub(crate) struct Episode {
    /// What was going on.
    pub(crate) during: &'static str,
    /// The moments that were kept.
    pub(crate) points: Vec<CrashPoint>,
    /// What each of them must lead to.
    pub(crate) promise: Promise,
}

/// A running database whose crash points are recorded.
pub(crate) struct Life {
    runner: Runner,
    now: Rc<Oracle>,
}

impl Life {
    /// Opens a new database on a new machine; of the moments that could be kept one in `one_in`
    /// is.
    pub(crate) fn start(seed: u64, settings: Settings, one_in: u32) -> (Self, Episode) {
        let world = World::new(seed, settings);
        world.sim.record_crash_points(one_in, seed);
        let db = world.open().expect("an empty disk opens");
        let runner = Runner::new(world, db, fastrand::Rng::with_seed(seed));
        let now = Rc::new(Oracle::default());
        let life = Self { runner, now };
        let episode = life.episode("creation", &life.now, &life.now);
        (life, episode)
    }

    /// The disk it runs on.
    pub(crate) fn sim(&self) -> &SimFs {
        &self.runner.world.sim
    }

    /// Plays steps of which no moment is kept; then keeps them as from the start.
    ///
    /// # Panics
    /// When an answer is wrong.
    pub(crate) fn quietly(&mut self, steps: &[Step], one_in: u32) {
        if steps.is_empty() {
            return;
        }
        self.sim().record_crash_points(0, 0);
        steps.iter().for_each(|step| self.runner.step(step));
        self.now = Rc::new(self.runner.oracle.clone());
        self.sim().record_crash_points(one_in, self.now.last_lsn);
    }

    /// Plays a step and compares its answer with the oracle.
    ///
    /// # Panics
    /// If they differ.
    pub(crate) fn step(&mut self, step: &Step) -> Vec<Episode> {
        if let Op::Restart(end, _) = step.op {
            return self.restart(end);
        }
        self.runner.step(step);
        let before = std::mem::replace(&mut self.now, Rc::new(self.runner.oracle.clone()));
        let during = self.episode(name(&step.op), &before, &self.now);
        vec![during, self.between()]
    }

    fn restart(&mut self, end: End) -> Vec<Episode> {
        let before = Rc::clone(&self.now);
        let keeps = self.runner.end(end);
        let ending = self.episode("close", &before, &before);
        let settled = Promise::of(&before, &before);
        let settled = if end == End::Kill { settled } else { settled.keeping(keeps) };
        let closed = Episode { points: vec![self.sim().crash_point()], ..self.with(&settled) };
        self.runner.start_again(keeps, None);
        let recovery = Episode { during: "recovery", ..self.with(&settled) };
        self.now = Rc::new(self.runner.oracle.clone());
        vec![ending, closed, recovery, self.between()]
    }

    fn with(&self, promise: &Promise) -> Episode {
        let points = self.sim().take_crash_points();
        Episode { during: "a pause", points, promise: promise.clone() }
    }

    fn episode(&self, during: &'static str, before: &Rc<Oracle>, after: &Rc<Oracle>) -> Episode {
        let points = self.sim().take_crash_points();
        Episode { during, points, promise: Promise::of(before, after) }
    }

    /// Between two steps: all that was acknowledged counts.
    fn between(&self) -> Episode {
        let promise = Promise::of(&self.now, &self.now);
        Episode { during: "a pause", points: vec![self.sim().crash_point()], promise }
    }
}

/// How many writes of each level a crash that leaves everything up to `found` takes: sync,
/// interval, memory.
pub(crate) fn lost_by_level(oracle: &Oracle, found: u64) -> [u64; 3] {
    let mut lost = [0; 3];
    for (_, level) in oracle.levels().rev().take_while(|(lsn, _)| *lsn > found) {
        lost[level_index(level)] += 1;
    }
    lost
}

/// Sync, interval, memory.
pub(crate) fn level_index(level: Durability) -> usize {
    match level {
        Durability::Sync => 0,
        Durability::Interval { .. } => 1,
        Durability::Memory => 2,
    }
}

/// What a step is called in reports.
fn name(op: &Op) -> &'static str {
    match op {
        Op::Upsert(..) | Op::Insert(..) | Op::Update(..) => "a write",
        Op::Delete(..) | Op::DeleteWhere(..) => "a delete",
        Op::Get(_) | Op::Scan(..) | Op::Count(_) | Op::Search(_) | Op::Verify => "a read",
        Op::AddField(_) => "adding a field index",
        Op::Flush(_) => "a flush",
        Op::Compact(_) => "a compaction",
        Op::Demote => "a demotion",
        Op::Promote => "a promotion",
        Op::Pin(_) => "pinning",
        Op::Snapshot(_) => "a snapshot",
        Op::Restore(_) => "a restore",
        Op::DeleteSnapshot(_) => "deleting a snapshot",
        Op::Create(_) => "creating a collection",
        Op::DropCollection => "dropping a collection",
        Op::Restart(..) => "a restart",
        Op::Advance(_) | Op::PowerOffAt(..) | Op::Fault(..) => "a pause",
    }
}
