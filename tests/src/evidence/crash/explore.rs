//! From one episode of a life to all the crash states that are wanted of it: every recorded
//! moment under several fates, some of the recoveries crashed again, some of the recovered
//! databases lived on with. Owns the choice, the counters and the trace; the checks are those of
//! `run::aftermath`.

use super::super::{Counts, runner::panic_text};
use crate::{
    ops::Step,
    run::{Aftermath, Episode, Promise, Recovered, level_index, lost_by_level},
};
use akidb::Settings;
use akidb_vfs::{
    FsOp,
    sim::{CrashPoint, CrashPolicy, SimFs},
};
use std::{
    collections::{HashMap, HashSet},
    panic::{AssertUnwindSafe, catch_unwind},
};

/// How a run is ended at a crash point.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// The process is killed; the disk keeps everything.
    Kill,
    /// The power goes.
    Power(CrashPolicy),
}

impl Fate {
    fn name(self) -> &'static str {
        match self {
            Self::Kill => "process killed",
            Self::Power(CrashPolicy::DropAll) => "power lost, nothing unsynced kept",
            Self::Power(CrashPolicy::KeepAll) => "power lost, everything kept",
            Self::Power(CrashPolicy::Random) => "power lost, a random part kept",
        }
    }

    /// The machine after it, and the LSN that must have survived. `before` is what was promised
    /// of the run that ends.
    fn strike(self, point: &CrashPoint, seed: u64, (power, kill): (u64, u64)) -> (SimFs, u64) {
        match self {
            Self::Kill => (point.killed(seed), kill),
            Self::Power(policy) => (point.crashed(policy, seed), power),
        }
    }
}

/// How much is tried.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plan {
    /// One moment of the life in so many.
    pub(crate) one_in: u32,
    /// What each chosen moment leads to. Of fates that leave the same disk the first counts.
    pub(crate) fates: &'static [Fate],
    /// Begins with any of the fates, so that none is always second.
    pub(crate) any_first: bool,
    /// One recovery in so many is crashed again.
    pub(crate) again_one_in: u32,
    /// One moment of such a recovery in so many.
    pub(crate) again_points_one_in: u32,
    /// What each of those leads to.
    pub(crate) again_fates: &'static [Fate],
    /// One recovered database in so many is lived on with.
    pub(crate) live_on_one_in: u32,
}

/// Tries a plan on one life.
pub(crate) struct Explorer<'a> {
    plan: Plan,
    rng: fastrand::Rng,
    counts: &'a mut Counts,
    /// Every disk that was recovered.
    seen: HashSet<u64>,
    trace: u64,
}

/// One episode while its points are tried.
struct Scene<'a> {
    during: &'static str,
    promise: &'a Promise,
    after: Aftermath<'a>,
    /// Disks that were checked, with the LSN that had to survive.
    checked: HashMap<u64, u64>,
}

impl<'a> Explorer<'a> {
    pub(crate) fn new(plan: Plan, seed: u64, counts: &'a mut Counts) -> Self {
        let rng = fastrand::Rng::with_seed(seed);
        Self { plan, rng, counts, seen: HashSet::new(), trace: 0 }
    }

    /// A hash of all that the recoveries did, in order.
    pub(crate) fn trace(&self) -> u64 {
        self.trace
    }

    /// How many different disks were recovered.
    pub(crate) fn distinct(&self) -> u64 {
        self.seen.len() as u64
    }

    /// Tries every point of an episode.
    pub(crate) fn episode(
        &mut self,
        episode: &Episode,
        settings: &'a Settings,
    ) -> Result<(), String> {
        let promise = &episode.promise;
        let after = Aftermath::new(promise, settings);
        let during = episode.during;
        let mut scene = Scene { during, promise, after, checked: HashMap::new() };
        for point in &episode.points {
            let fates = self.plan.fates;
            let first = if self.plan.any_first { self.rng.usize(0..fates.len()) } else { 0 };
            for fate in fates.iter().cycle().skip(first).take(fates.len()) {
                self.point(&mut scene, point, *fate)?;
            }
        }
        Ok(())
    }

    fn point(
        &mut self,
        scene: &mut Scene<'_>,
        point: &CrashPoint,
        fate: Fate,
    ) -> Result<(), String> {
        let seed = self.rng.u64(..);
        let Promise { keeps_power, keeps_kill, .. } = *scene.promise;
        let (sim, keeps) = fate.strike(point, seed, (keeps_power, keeps_kill));
        let again = self.rng.u32(0..self.plan.again_one_in.max(1)) == 0;
        if again {
            sim.record_crash_points(self.plan.again_points_one_in, seed);
        }
        let during = scene.during;
        let place = || format!("during {during}, {} at {}", fate.name(), describe(point));
        let found = self.state(scene, sim, seed, keeps).map_err(|e| with(&place(), &e))?;
        let Some(recovered) = found else { return Ok(()) };
        self.count_place(scene, point, fate);
        let recovery = if again { recovered.sim().take_crash_points() } else { Vec::new() };
        recovered.sim().record_crash_points(0, 0);
        self.finish(recovered, seed).map_err(|e| with(&place(), &e))?;
        for second in &recovery {
            for fate in self.plan.again_fates {
                self.again(scene, second, *fate, keeps, keeps_power)
                    .map_err(|e| with(&place(), &e))?;
            }
        }
        Ok(())
    }

    /// A second crash, within the recovery from the first.
    fn again(
        &mut self,
        scene: &mut Scene<'_>,
        point: &CrashPoint,
        fate: Fate,
        keeps: u64,
        keeps_power: u64,
    ) -> Result<(), String> {
        let seed = self.rng.u64(..);
        // What a killed process had written is still unsynced until the recovery has synced it.
        let (sim, keeps) = fate.strike(point, seed, (keeps.min(keeps_power), keeps));
        let place = || format!("then, in the recovery, {} at {}", fate.name(), describe(point));
        let found = self.state(scene, sim, seed, keeps).map_err(|e| with(&place(), &e))?;
        let Some(recovered) = found else { return Ok(()) };
        self.counts.add("a second crash in recovery", 1);
        self.finish(recovered, seed).map_err(|e| with(&place(), &e))
    }

    /// Recovers one disk and checks it; `None` if the same disk was checked already.
    fn state(
        &mut self,
        scene: &mut Scene<'_>,
        sim: SimFs,
        seed: u64,
        keeps: u64,
    ) -> Result<Option<Recovered>, String> {
        let effects = sim.crash_effects();
        // The lock file tells the number of this very process.
        let image = sim.image_hash(|path| path.file_name().is_some_and(|name| name == "LOCK"));
        if scene.checked.get(&image).is_some_and(|checked| *checked >= keeps) {
            self.counts.add("same disk again, not counted", 1);
            return Ok(None);
        }
        let recovered = guarded(|| scene.after.check(sim, seed, keeps))?;
        scene.checked.insert(image, keeps);
        self.counts.state();
        self.seen.insert(image);
        let hash = recovered.sim().trace_hash();
        self.trace = self.trace.rotate_left(7) ^ hash.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        for (name, count) in effects.named() {
            self.counts.add(name, count);
        }
        self.count_outcome(scene.promise, &recovered);
        Ok(Some(recovered))
    }

    fn finish(&mut self, recovered: Recovered, seed: u64) -> Result<(), String> {
        if self.rng.u32(0..self.plan.live_on_one_in.max(1)) > 0 {
            recovered.end();
            return Ok(());
        }
        self.counts.add("lived on with every answer checked", 1);
        let steps: Vec<Step> =
            (0..self.rng.usize(1..8)).map(|_| Step::any(&mut self.rng, false)).collect();
        guarded(|| {
            recovered.live_on(&steps, seed);
            Ok(())
        })
        .map_err(|wrong| format!("living on, {steps:?}: {wrong}"))
    }

    fn count_place(&mut self, scene: &Scene<'_>, point: &CrashPoint, fate: Fate) {
        self.counts.add(fate.name(), 1);
        self.counts.add(&format!("during {}", scene.during), 1);
        if let Some(op) = point.op {
            let kind = call_kind(op, point);
            self.counts.add(&format!("at {kind}"), 1);
            if kind == "a manifest roll" && !matches!(scene.during, "creation" | "recovery") {
                self.counts.add("during a manifest roll in use", 1);
            }
            if kind == "a segment file" && matches!(scene.during, "a write" | "a delete") {
                self.counts.add("during an automatic flush or compaction", 1);
            }
        }
    }

    fn count_outcome(&mut self, promise: &Promise, recovered: &Recovered) {
        let (report, counts) = (&recovered.report, &mut *self.counts);
        let found = report.last_lsn;
        let lost = lost_by_level(&promise.before, found);
        for (level, lost) in ["sync", "interval", "memory"].iter().zip(lost) {
            counts.add(&format!("{level} writes lost"), lost);
        }
        if let Some((_, level)) = promise.before.levels().take_while(|w| w.0 <= found).last() {
            let level = ["sync", "interval", "memory"][level_index(level)];
            counts.add(&format!("ends with a kept {level} write"), 1);
        }
        counts.add("prefix shortened", u64::from(found < promise.before.last_lsn));
        counts.add("holds a write never acknowledged", u64::from(found > promise.before.last_lsn));
        counts.add("torn tail cut", u64::from(report.torn_tail.is_some()));
        counts.add("orphan files reported", u64::from(!report.unknown_files.is_empty()));
        match recovered.structure_changed {
            Some(true) => counts.add("unfinished structure change kept", 1),
            Some(false) => counts.add("unfinished structure change forgotten", 1),
            None => {}
        }
    }
}

/// Turns a panic into an error.
fn guarded<T>(work: impl FnOnce() -> Result<T, String>) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|panic| Err(panic_text(&*panic)))
}

fn with(place: &str, error: &str) -> String {
    format!("{place}\n{error}")
}

fn describe(point: &CrashPoint) -> String {
    match point.op {
        Some(op) => {
            format!("call {}, {:?} {:?} {}", point.call, point.moment, op, point.path.display())
        }
        None => format!("a moment after call {}", point.call),
    }
}

/// Which part of the storage a call belongs to. A file keeps the temporary name under which it was
/// made in the calls on its handle; what is written behind its header is no part of making it.
fn call_kind(op: FsOp, point: &CrashPoint) -> &'static str {
    let text = point.path.to_string_lossy();
    let grows = op == FsOp::SyncData || point.offset.is_some_and(|offset| offset > 0);
    match () {
        () if text.contains("MANIFEST") && grows => "a manifest write",
        () if text.contains("MANIFEST") => "a manifest roll",
        () if text.contains("/wal/") && grows => "a WAL write",
        () if text.contains("/wal") => "a WAL roll",
        () if text.contains(".tmb") => "a tombstone file",
        () if text.contains("/segments") => "a segment file",
        () if text.contains("/objects") => "an object",
        () => "a directory or lock",
    }
}
