//! The same with threads: background work and the log fail at random calls. Which call the nth is
//! depends on the scheduler, so a seed fixes what is asked for, not what is met.

use super::{Counts, Machine, Options, WAYS, Way};
use crate::{
    ops::plain_schema,
    oracle::Rows,
    run::{difference, scan_all},
    world::{World, tiny_settings},
};
use akidb::{Durability, ErrorKind, Point, blocking::Collection};
use akidb_vfs::sim::{CrashPolicy, Fault, FaultKind};
use std::collections::BTreeMap;

/// The machine.
pub(in crate::evidence) const MACHINE: Machine = Machine {
    name: "errors-threads",
    about: "fails random calls of a database with its threads; what was acknowledged stays",
    unit: "lives with a failed call",
    required: &["acknowledged writes", "refused writes", "poisoned databases", "went on"],
    enough: 400,
    cases: None,
    play,
};

const WRITES: u64 = 60;
const IDS: u64 = 12;

/// What a row may be: the version that was acknowledged last, and what came after it and failed.
#[derive(Debug, Default)]
struct Fate {
    acknowledged: Option<u64>,
    maybe: Vec<u64>,
}

fn row(id: u64, version: u64) -> Point {
    Point::new(id, vec![id as f32, version as f32, 1.0, 2.0])
}

fn play(seed: u64, _: &Options, counts: &mut Counts) -> Result<(), String> {
    let mut rng = fastrand::Rng::with_seed(seed);
    let disk = WAYS.iter().filter_map(|way| match way {
        Way::Disk(FaultKind::ReadFlip, _) | Way::Store(..) => None,
        Way::Disk(kind, sticky) => Some((*kind, *sticky)),
    });
    let (kind, sticky) = rng.choice(disk.collect::<Vec<_>>()).ok_or("there are ways")?;
    let world = World::new(seed, tiny_settings());
    let db = world.open_with_threads().map_err(|error| error.to_string())?;
    let docs = db.create_collection("docs", plain_schema()).map_err(|error| error.to_string())?;
    let fault = Fault::new(kind).nth(rng.u64(1..120));
    world.sim.inject(if sticky { fault.sticky() } else { fault });
    let mut fates: BTreeMap<u64, Fate> = BTreeMap::new();
    for version in 1..=WRITES {
        write(&docs, &mut rng, version, &mut fates, counts)?;
        if sticky && rng.u8(0..8) == 0 {
            world.sim.clear_faults();
        }
    }
    world.sim.clear_faults();
    counts.state();
    let poisoned = db.stats().poisoned.is_some();
    counts.add(if poisoned { "poisoned databases" } else { "went on" }, 1);
    let fired = !world.sim.fired().is_empty();
    counts.add("lives in which the fault fired", u64::from(fired));
    if poisoned && !fired {
        return Err("poisoned, though nothing failed".to_owned());
    }
    compare(&docs, &fates, "live")?;
    if rng.bool() {
        world.sim.crash(CrashPolicy::DropAll);
    }
    drop((docs, db));
    let db = world.open_with_threads().map_err(|error| format!("reopen: {error:?}"))?;
    let docs = db.collection("docs").map_err(|error| error.to_string())?;
    compare(&docs, &fates, "reopened")?;
    docs.upsert([row(0, 99)]).run().map_err(|error| format!("a write after all: {error:?}"))?;
    Ok(())
}

fn write(
    docs: &Collection,
    rng: &mut fastrand::Rng,
    version: u64,
    fates: &mut BTreeMap<u64, Fate>,
    counts: &mut Counts,
) -> Result<(), String> {
    let (first, count) = (rng.u64(0..IDS), rng.u64(1..4));
    let ids = (first..first + count).collect::<Vec<_>>();
    let points: Vec<_> = ids.iter().map(|id| row(*id, version)).collect();
    let result = docs.upsert(points).durability(Durability::Sync).run();
    for id in ids {
        let fate = fates.entry(id).or_default();
        match &result {
            Ok(_) => *fate = Fate { acknowledged: Some(version), maybe: Vec::new() },
            Err(_) => fate.maybe.push(version),
        }
    }
    match result {
        Ok(_) => counts.add("acknowledged writes", 1),
        Err(error) => {
            let fine = [ErrorKind::Reopen, ErrorKind::Unavailable, ErrorKind::NoSpace];
            if !fine.contains(&error.kind()) {
                return Err(format!("a write fails with {error:?}"));
            }
            counts.add("refused writes", 1);
        }
    }
    Ok(())
}

fn compare(docs: &Collection, fates: &BTreeMap<u64, Fate>, when: &str) -> Result<(), String> {
    let found = scan_all(docs, 5).ok_or_else(|| format!("{when}: a scan fails"))?;
    for (id, fate) in fates {
        let version = found.get(&(*id).into()).map(|row| row.vector[1] as u64);
        let maybe = version.is_some_and(|version| fate.maybe.contains(&version));
        if version != fate.acknowledged && !maybe {
            let all = difference(&found, &Rows::new());
            return Err(format!("{when}: row {id} is {version:?}, not {fate:?}\n{all}"));
        }
    }
    Ok(())
}
