//! What is left after a crash: opens a crashed disk and compares all that is found with what was
//! promised, as fast as it can, for this is done millions of times. The slower questions (every
//! verb, living on) are asked by a [`Runner`] that takes over from here.

use super::{Promise, Runner};
use crate::{
    ops::Step,
    oracle::{Oracle, Rows},
    world::World,
};
use akidb::{RecoveryReport, Settings, blocking::Db};
use akidb_vfs::sim::SimFs;
use std::{collections::BTreeMap, rc::Rc};

/// More rows than any collection of these tests has.
const PAGE: usize = 10_000;

/// Checks the states of one promise; remembers what it must look like at each LSN.
pub(crate) struct Aftermath<'a> {
    promise: &'a Promise,
    settings: &'a Settings,
    /// By the LSN at which recovery ended, and whether structure is as after the step.
    wanted: BTreeMap<(u64, bool), Rc<Oracle>>,
}

/// A recovered and checked database.
pub(crate) struct Recovered {
    /// What its recovery did.
    pub(crate) report: RecoveryReport,
    /// An unfinished change of structure: `Some(true)` if it happened.
    pub(crate) structure_changed: Option<bool>,
    world: World,
    db: Db,
    oracle: Rc<Oracle>,
}

impl<'a> Aftermath<'a> {
    pub(crate) fn new(promise: &'a Promise, settings: &'a Settings) -> Self {
        Self { promise, settings, wanted: BTreeMap::new() }
    }

    /// Opens the disk and compares everything. `keeps` is the LSN that must have survived.
    pub(crate) fn check(&mut self, sim: SimFs, seed: u64, keeps: u64) -> Result<Recovered, String> {
        let world = World::on(sim, seed, self.settings.clone());
        let db = world.open().map_err(|error| format!("recovery fails: {error:?} {error}"))?;
        let report = db.recovery_report().clone();
        let found = report.last_lsn;
        let last = self.promise.after.last_lsn;
        if found < keeps || found > last {
            return Err(format!("recovery ends at LSN {found}, not within {keeps} to {last}"));
        }
        let (structure_changed, oracle) = self.structure(&db, found)?;
        for (name, wanted) in &oracle.collections {
            compare_rows(&db, name, &wanted.rows)
                .map_err(|wrong| format!("{name} at LSN {found}: {wrong}"))?;
        }
        Ok(Recovered { report, structure_changed, world, db, oracle })
    }

    /// Finds out whether the step's change of structure happened; returns what must be there.
    fn structure(&mut self, db: &Db, found: u64) -> Result<(Option<bool>, Rc<Oracle>), String> {
        let Promise { before, after, .. } = self.promise;
        let unchanged = same_structure(before, after);
        let wrong = match structure_of(db, after) {
            Ok(()) => {
                let oracle = self.wanted(found, true);
                let early = oracle.snapshots.iter().find(|(_, snapshot)| snapshot.lsn > found);
                if let Some((name, snapshot)) = early {
                    let held = snapshot.lsn;
                    return Err(format!("snapshot {name} holds LSN {held}, found is {found}"));
                }
                return Ok(((!unchanged).then_some(true), oracle));
            }
            Err(wrong) => wrong,
        };
        if unchanged {
            return Err(wrong);
        }
        structure_of(db, before)
            .map_err(|other| format!("structure is neither new ({wrong}) nor old ({other})"))?;
        Ok((Some(false), self.wanted(found, false)))
    }

    fn wanted(&mut self, found: u64, changed: bool) -> Rc<Oracle> {
        let Promise { before, after, .. } = self.promise;
        let wanted = self.wanted.entry((found, changed)).or_insert_with(|| {
            let mut oracle = Oracle::clone(if changed { after } else { before });
            oracle.truncate(found);
            Rc::new(oracle)
        });
        Rc::clone(wanted)
    }
}

impl Recovered {
    /// The disk it runs on.
    pub(crate) fn sim(&self) -> &SimFs {
        &self.world.sim
    }

    /// Goes on living: these steps with every answer compared, then a write and a loss of power.
    ///
    /// # Panics
    /// When an answer is wrong.
    pub(crate) fn live_on(self, steps: &[Step], seed: u64) {
        let mut runner = Runner::new(self.world, self.db, fastrand::Rng::with_seed(seed));
        runner.oracle = Oracle::clone(&self.oracle);
        steps.iter().for_each(|step| runner.step(step));
        runner.live_on();
    }

    /// Ends it without touching the disk again.
    pub(crate) fn end(self) {
        self.world.sim.kill();
        drop(self.db);
    }
}

/// True when both have the same collections, schemas, pins and snapshots.
fn same_structure(a: &Oracle, b: &Oracle) -> bool {
    let same = |(x, y): (&crate::oracle::Collection, &crate::oracle::Collection)| {
        x.uid == y.uid && x.pinned == y.pinned && x.schema == y.schema
    };
    a.collections.keys().eq(b.collections.keys())
        && a.snapshots.keys().eq(b.snapshots.keys())
        && a.collections.values().zip(b.collections.values()).all(same)
}

/// Compares all but rows.
fn structure_of(db: &Db, oracle: &Oracle) -> Result<(), String> {
    let names = db.list_collections().map_err(|error| format!("listing fails: {error}"))?;
    if !names.iter().eq(oracle.collections.keys()) {
        let wanted: Vec<_> = oracle.collections.keys().collect();
        return Err(format!("collections {names:?}, not {wanted:?}"));
    }
    for (name, wanted) in &oracle.collections {
        let collection = db.collection(name).map_err(|error| format!("{name}: {error}"))?;
        let stats = collection.stats();
        if stats.pinned != wanted.pinned || stats.schema != wanted.schema {
            let (pinned, schema) = (wanted.pinned, &wanted.schema);
            return Err(format!("{name} is {stats:?}, not pinned {pinned} {schema:?}"));
        }
    }
    let snapshots: Vec<_> = db.list_snapshots().into_iter().map(|s| (s.name, s.rows)).collect();
    let wanted = oracle.snapshots.iter().map(|(name, s)| (name, s.rows.len() as u64));
    if !snapshots.iter().map(|(name, rows)| (name, *rows)).eq(wanted) {
        let wanted: Vec<_> = oracle.snapshots.keys().collect();
        return Err(format!("snapshots {snapshots:?}, not {wanted:?}"));
    }
    Ok(())
}

/// Compares every row, and their number.
fn compare_rows(db: &Db, name: &str, wanted: &Rows) -> Result<(), String> {
    let collection = db.collection(name).map_err(|error| error.to_string())?;
    let count = collection.count(None).map_err(|error| format!("a count fails: {error}"))?;
    if count != wanted.len() as u64 {
        return Err(format!("{count} rows, not {}{}", wanted.len(), rows_apart(db, name, wanted)));
    }
    let page = collection.scan().limit(PAGE).with_vectors(true).run();
    let page = page.map_err(|error| format!("a scan fails: {error:?} {error}"))?;
    let same = page.records.len() == wanted.len()
        && page.records.iter().zip(wanted).all(|(found, (id, row))| {
            found.id == *id
                && found.lsn == row.lsn
                && found.vector == row.vector
                && found.metadata == row.metadata
        });
    if same { Ok(()) } else { Err(format!("wrong rows{}", rows_apart(db, name, wanted))) }
}

/// The rows that differ, for a failure.
fn rows_apart(db: &Db, name: &str, wanted: &Rows) -> String {
    let found = db.collection(name).ok().and_then(|collection| super::scan_all(&collection, 7));
    found.map_or_else(String::new, |found| format!("\n{}", super::difference(&found, wanted)))
}
