//! The failure table: what rows that were acknowledged at each level survive, found out by making
//! each failure happen on a simulated disk. `docs/durability.md` shows [`failure_table`]'s answer,
//! and a test compares the two. A cell that is promised and lost anything in any run is a failure;
//! one that is not promised tells what was seen. Processes that really die are the machine `kill`'s.

use super::{Counts, Machine, Options};
use crate::{
    fault_store::FaultStore,
    ops::plain_schema,
    world::{World, tiny_settings},
};
use akidb::{
    Durability, ErrorKind, Point, Settings,
    blocking::{Collection, Db},
};
use akidb_vfs::sim::CrashPolicy;
use std::{fmt::Write as _, sync::Arc, time::Duration};

/// The machine.
pub(super) const MACHINE: Machine = Machine {
    name: "table",
    about: "every level of durability through every failure: what docs/durability.md shows",
    unit: "failures",
    required: &[],
    enough: u64::MAX,
    cases: Some(|_| SEEDS),
    play,
};

/// Seeds of the table: enough for chance to lose something in every cell that can.
const SEEDS: u64 = 24;

/// How the rows were written: a row of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Level {
    Sync,
    IntervalOver,
    IntervalRunning,
    Memory,
    Demoted,
}

/// What happens then: a column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Failure {
    ProcessKill,
    OsCrash,
    PowerLoss,
    DiskFull,
    DiskLoss,
}

const INTERVAL: Durability = Durability::Interval { ms: 50 };

impl Level {
    const ALL: [(Self, &'static str); 5] = [
        (Self::Sync, "`Sync`"),
        (Self::IntervalOver, "`Interval { ms }`, more than `ms` ago and writes went on"),
        (Self::IntervalRunning, "`Interval { ms }`, since then"),
        (Self::Memory, "`Memory`"),
        (Self::Demoted, "any, then demoted to a store elsewhere"),
    ];

    fn durability(self) -> Durability {
        match self {
            Self::Sync => Durability::Sync,
            Self::IntervalOver | Self::IntervalRunning => INTERVAL,
            Self::Memory | Self::Demoted => Durability::Memory,
        }
    }
}

impl Failure {
    const ALL: [(Self, &'static str); 5] = [
        (Self::ProcessKill, "process kill"),
        (Self::OsCrash, "OS crash"),
        (Self::PowerLoss, "power loss"),
        (Self::DiskFull, "disk full"),
        (Self::DiskLoss, "disk loss"),
    ];
}

/// The contract (D1, D2, D7, D10), as far as a cell can say it.
fn promised(level: Level, failure: Failure) -> bool {
    let no_promise = matches!(
        (level, failure),
        (
            Level::Sync | Level::IntervalOver | Level::IntervalRunning | Level::Memory,
            Failure::DiskLoss
        ) | (Level::Memory, Failure::ProcessKill | Failure::OsCrash | Failure::PowerLoss)
            | (Level::IntervalRunning, Failure::OsCrash | Failure::PowerLoss)
    );
    !no_promise
}

/// What became of acknowledged rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Outcome {
    rows: u64,
    found: u64,
}

fn play(seed: u64, _: &Options, counts: &mut Counts) -> Result<(), String> {
    for (level, level_name) in Level::ALL {
        for (failure, failure_name) in Failure::ALL {
            let cell = format!("{level_name}, {failure_name}");
            let outcome = survive(level, failure, seed);
            let outcome = outcome.map_err(|error| format!("{cell}: {error}"))?;
            counts.state();
            let lost = outcome.found < outcome.rows;
            counts.add(&format!("{cell}: {}", if lost { "lost" } else { "kept" }), 1);
            if lost && promised(level, failure) {
                return Err(format!("{cell}: promised, but {outcome:?}"));
            }
        }
    }
    Ok(())
}

/// The table as Markdown, from as many runs as the machine has.
///
/// # Errors
/// What went wrong in a run.
pub fn failure_table() -> Result<String, String> {
    let mut text = String::from("| acknowledged at |");
    let names = Failure::ALL.map(|(_, name)| name);
    // Writing to a string cannot fail.
    let _ = writeln!(text, " {} |", names.join(" | "));
    let _ = writeln!(text, "|---|{}", "---|".repeat(names.len()));
    for (level, name) in Level::ALL {
        let _ = write!(text, "| {name} |");
        for (failure, _) in Failure::ALL {
            let outcomes: Result<Vec<Outcome>, String> =
                (0..SEEDS).map(|seed| survive(level, failure, seed)).collect();
            let _ = write!(text, " {} |", verdict(level, failure, &outcomes?)?);
        }
        text.push('\n');
    }
    Ok(text)
}

fn verdict(level: Level, failure: Failure, outcomes: &[Outcome]) -> Result<&'static str, String> {
    let all = outcomes.iter().all(|outcome| outcome.found == outcome.rows);
    let none = outcomes.iter().all(|outcome| outcome.found == 0);
    match (promised(level, failure), all) {
        (true, true) => Ok("**kept**"),
        (true, false) => Err(format!("{level:?} {failure:?}: promised, but {outcomes:?}")),
        (false, true) => Ok("kept, not promised"),
        (false, false) if none => Ok("lost"),
        (false, false) => Ok("may be lost"),
    }
}

/// Writes rows at the level, lets the failure happen, opens again, and looks.
fn survive(level: Level, failure: Failure, seed: u64) -> Result<Outcome, String> {
    let text = |error: akidb::Error| error.to_string();
    let store = Arc::new(FaultStore::default());
    let mut world = World::new(seed, quiet_settings());
    world.store = Some(store.clone());
    let db = world.open().map_err(text)?;
    let docs = db.create_collection("docs", plain_schema()).map_err(text)?;
    let rows = written(level, &world, &docs, seed).map_err(text)?;
    strike(failure, &world, &docs, seed)?;
    end(failure, &world, db, docs);
    let db = if failure == Failure::DiskLoss {
        // A new disk; the store is elsewhere.
        world = World::new(seed + 1, quiet_settings());
        world.store = Some(store);
        world.builder().inline().restore_from_store().open_blocking()
    } else {
        world.open()
    };
    let db = db.map_err(text)?;
    let found = match db.collection("docs") {
        Ok(docs) => {
            let found = docs.get((0..rows).collect::<Vec<u64>>()).map_err(text)?;
            found.iter().flatten().count() as u64
        }
        Err(error) if error.kind() == ErrorKind::NotFound => 0,
        Err(error) => return Err(error.to_string()),
    };
    Ok(Outcome { rows, found })
}

/// Only the log is at work, unless the level says otherwise.
fn quiet_settings() -> Settings {
    Settings {
        memtable_bytes: 1 << 20,
        memtable_pool_bytes: 4 << 20,
        wal_file_bytes: 64 << 10,
        wal_bytes_max: 1 << 20,
        ..tiny_settings()
    }
}

fn row(n: u64) -> Point {
    Point::new(n, vec![n as f32, 1.0, 2.0, 3.0])
}

/// Writes rows from 0 on; how many the table asks after.
fn written(level: Level, world: &World, docs: &Collection, seed: u64) -> akidb::Result<u64> {
    let rows = 1 + seed % 13;
    for n in 0..rows {
        docs.upsert([row(n)]).durability(level.durability()).run()?;
    }
    match level {
        Level::IntervalOver => {
            world.clock.advance(Duration::from_millis(51));
            docs.upsert([row(rows)]).durability(INTERVAL).run()?;
        }
        Level::Demoted => drop(docs.demote()?),
        Level::Sync | Level::IntervalRunning | Level::Memory => {}
    }
    Ok(rows)
}

/// The failure itself.
fn strike(failure: Failure, world: &World, docs: &Collection, seed: u64) -> Result<(), String> {
    let sim = &world.sim;
    match (failure, seed % 3) {
        (Failure::ProcessKill, _) => sim.kill(),
        // The kernel may have written some or all of its pages back.
        (Failure::OsCrash, 0) => sim.crash(CrashPolicy::KeepAll),
        (Failure::OsCrash, _) | (Failure::PowerLoss, 0) => sim.crash(CrashPolicy::Random),
        (Failure::PowerLoss, _) => sim.crash(CrashPolicy::DropAll),
        (Failure::DiskFull, _) => return fill(world, docs),
        (Failure::DiskLoss, _) => {}
    }
    Ok(())
}

/// Writes until there is no space.
fn fill(world: &World, docs: &Collection) -> Result<(), String> {
    let used: u64 = world.sim.files().iter().map(|(_, len)| len).sum();
    world.sim.set_capacity(Some(used));
    for n in 1000..5000 {
        match docs.upsert([row(n)]).run() {
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::NoSpace => return Ok(()),
            Err(error) => return Err(format!("a full disk was told as {error}")),
        }
    }
    Err("the disk does not fill".to_owned())
}

/// Ends the process that was there.
fn end(failure: Failure, world: &World, db: Db, docs: Collection) {
    drop(docs);
    if failure == Failure::DiskFull {
        // It may say that there is no space; what was acknowledged is not its business.
        drop(db.close());
        world.sim.set_capacity(None);
    }
}
