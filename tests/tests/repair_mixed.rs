//! `Repair` on random databases with several damages at once: the plan is what is done, the result
//! is sound, nothing is served that was never acknowledged, nothing comes back and nothing is
//! missing that the plan does not name, and the evidence is kept.
//!
//! `AKIDB_SEED=7 cargo test -p akidb-tests --test repair_mixed` replays one.

use akidb::{
    ErrorKind, Loss, LossKind, Metric, Point, PointId, Repair, RepairPlan, Schema, Severity,
    Verify, blocking::Collection,
};
use akidb_tests::{
    ops::{DIM, plain_schema},
    oracle::{Row, Rows},
    run::{difference, scan_all},
    world::{World, tiny_settings},
};
use akidb_vfs::{
    Fs,
    sim::{CrashPolicy, SimFs},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    panic::catch_unwind,
    path::{Path, PathBuf},
    sync::Arc,
};

/// What was written to an id: LSN, and the row or a delete, in order.
type Writes = BTreeMap<PointId, Vec<(u64, Option<Row>)>>;

/// A closed database and all that was ever acknowledged, by collection.
struct Known {
    world: World,
    writes: BTreeMap<String, Writes>,
}

impl Known {
    fn rows(&self, collection: &str) -> Rows {
        let last = |(id, all): (&PointId, &Vec<(u64, Option<Row>)>)| {
            let (_, row) = all.last()?;
            Some((id.clone(), row.clone()?))
        };
        self.writes[collection].iter().filter_map(last).collect()
    }
}

const NAMES: [&str; 2] = ["first", "second"];

/// A random life: writes, flushes, compactions, moves between the tiers, restarts.
fn random_life(seed: u64) -> Known {
    let mut rng = fastrand::Rng::with_seed(seed);
    let mut settings = tiny_settings();
    settings.compaction_auto = rng.bool();
    settings.memtable_bytes = rng.choice([1 << 10, 4 << 10]).unwrap_or(4 << 10);
    let world = World::new(seed, settings);
    let mut db = world.open().expect("an empty disk opens");
    let mut writes = BTreeMap::new();
    for name in NAMES {
        let schema = if name == "first" { plain_schema() } else { Schema::new(4, Metric::L2) };
        db.create_collection(name, schema).expect("a new name");
        writes.insert(name.to_owned(), Writes::new());
    }
    for step in 0..rng.u64(5..40) {
        let name = NAMES[rng.usize(0..2)];
        let collection = db.collection(name).expect("it is there");
        let written = writes.get_mut(name).expect("as created");
        match rng.u8(0..20) {
            0..=8 => put(&collection, step, &mut rng, written),
            9..=11 => {
                let ids: BTreeSet<u64> = (0..rng.u64(1..4)).map(|_| rng.u64(0..25)).collect();
                let receipt = collection.delete(ids.iter().copied()).run().expect("a delete");
                for id in ids {
                    written.entry(id.into()).or_default().push((receipt.lsn, None));
                }
            }
            12..=14 => collection.flush().expect("a flush"),
            15 => collection.compact().expect("a compaction"),
            16 => drop(collection.demote().expect("a demotion")),
            17 => drop(collection.snapshot(&format!("s{step}")).expect("a snapshot")),
            _ => {
                db.close().expect("it closes");
                db = world.open().expect("it opens again");
            }
        }
    }
    db.close().expect("it closes");
    // Else the power loss of a later test brings back files that were removed long ago.
    let mut dirs: BTreeSet<PathBuf> =
        ["", "wal", "segments"].map(|dir| world.dir().join(dir)).into();
    for (path, _) in world.sim.files() {
        let within = path.ancestors().skip(1).take_while(|dir| dir.starts_with(world.dir()));
        dirs.extend(within.map(Path::to_owned));
    }
    dirs.iter().for_each(|dir| world.sim.process().sync_dir(dir).expect("it is there"));
    Known { world, writes }
}

/// Upserts a few rows; every version of a row differs from every other.
fn put(collection: &Collection, step: u64, rng: &mut fastrand::Rng, written: &mut Writes) {
    let ids: BTreeSet<u64> = (0..rng.u64(1..8)).map(|_| rng.u64(0..25)).collect();
    let point = |id: u64| {
        let mut vector = vec![1.0; DIM];
        (vector[0], vector[1]) = (id as f32, step as f32);
        let text = "x".repeat((id * step % 60) as usize);
        Point::new(id, vector).meta(serde_json::json!({"color": "red", "text": text}))
    };
    let points: Vec<Point> = ids.into_iter().map(point).collect();
    let lsn = collection.upsert(points.clone()).run().expect("rows").lsn;
    for Point { id, vector, metadata } in points {
        let metadata = metadata.as_object().expect("an object").clone();
        written.entry(id).or_default().push((lsn, Some(Row { vector, metadata, lsn })));
    }
}

/// Damages one file, or exchanges two; returns what was done.
fn damage(sim: &SimFs, rng: &mut fastrand::Rng) -> String {
    let files: Vec<_> = sim.files().into_iter().filter(|(p, _)| !p.ends_with("LOCK")).collect();
    // The log alone cannot tell that its whole last file is gone; docs/format/wal.md says so.
    let is_wal = |path: &&PathBuf| path.extension().is_some_and(|ext| ext == "wal");
    let last_wal = files.iter().map(|(path, _)| path).filter(is_wal).max().cloned();
    let Some((path, len)) = rng.choice(files.iter()).cloned() else {
        return "nothing is left".to_owned();
    };
    let used = sim.read_durable(&path).expect("it is there");
    let used = used.iter().rposition(|byte| *byte != 0).unwrap_or(0) as u64 + 1;
    let kinds = if Some(&path) == last_wal.as_ref() { 2 } else { 4 };
    match rng.u8(0..kinds) {
        0 if len > 0 => {
            let at = rng.u64(0..used.min(len));
            sim.corrupt(&path, at, 1 << rng.u8(0..8)).expect("within the file");
            format!("{} flipped at {at}", path.display())
        }
        1 => {
            let cut = rng.u64(0..used.min(len).max(1));
            sim.truncate(&path, cut).expect("it is there");
            format!("{} cut to {cut}", path.display())
        }
        2 => {
            let same = |other: &&(PathBuf, u64)| {
                let alike = other.0 != path && other.0.extension() == path.extension();
                alike && Some(&other.0) != last_wal.as_ref()
            };
            let Some((other, _)) = rng.choice(files.iter().filter(same).collect::<Vec<_>>()) else {
                return "nothing to exchange".to_owned();
            };
            let (fs, aside) = (sim.process(), path.with_extension("aside"));
            for (from, to) in [(&path, &aside), (other, &path), (&aside, other)] {
                fs.rename(from, to).expect("they are there");
            }
            for dir in [&path, other].iter().filter_map(|path| path.parent()) {
                fs.sync_dir(dir).expect("it is there");
            }
            format!("{} exchanged with {}", path.display(), other.display())
        }
        _ => {
            let fs = sim.process();
            fs.remove_file(&path).expect("it is there");
            fs.sync_dir(path.parent().expect("a directory")).expect("it is there");
            format!("{} removed", path.display())
        }
    }
}

fn repair(world: &World) -> Repair {
    Repair::new(world.dir()).file_system(Arc::new(world.sim.process()))
}

fn damage_found(world: &World) -> Vec<akidb::Finding> {
    let verify = Verify::new(world.dir()).file_system(Arc::new(world.sim.process())).deep(true);
    let mut findings = verify.run().expect("there is a database").findings;
    findings.retain(|finding| finding.severity > Severity::Note);
    findings
}

/// What the database shows, under the names of before.
fn shown(world: &World, what: &str) -> BTreeMap<String, Rows> {
    let db = world.open().unwrap_or_else(|error| panic!("{what}: {error}"));
    let found = NAMES.iter().enumerate().map(|(number, name)| {
        let found = [(*name).to_owned(), format!("recovered-{number}")];
        let found = found.iter().find_map(|name| db.collection(name).ok());
        let rows = found.map(|found| scan_all(&found, 7).unwrap_or_else(|| panic!("{what}")));
        ((*name).to_owned(), rows.unwrap_or_default())
    });
    let found = found.collect();
    db.close().unwrap_or_else(|error| panic!("{what}: {error}"));
    found
}

/// Every row that is shown was acknowledged; what differs from the last state is named.
fn check(known: &Known, found: &BTreeMap<String, Rows>, losses: &[Loss], what: &str) {
    for (number, name) in NAMES.iter().enumerate() {
        let number = format!("recovered-{number}");
        let concerns = |loss: &&Loss| {
            let named = |c: &String| c == name || *c == number;
            loss.kind != LossKind::Snapshot
                && (loss.collections.is_empty() || loss.collections.iter().any(named))
        };
        let losses: Vec<&Loss> = losses.iter().filter(concerns).collect();
        let (wanted, found, writes) = (known.rows(name), &found[*name], &known.writes[*name]);
        let what = format!("{what}, {name}");
        for (id, row) in found {
            let all = writes.get(id).unwrap_or_else(|| panic!("{what}: {id} was never written"));
            let known = all.iter().any(|(_, version)| version.as_ref() == Some(row));
            assert!(known, "{what}: {id} was never so: {row:?}");
            let last = wanted.get(id) == Some(row);
            let since = all.iter().map(|(lsn, _)| *lsn).filter(|lsn| *lsn > row.lsn);
            let said = may_be_back(id, &since.collect::<Vec<_>>(), &losses);
            assert!(last || said, "{what}: {id} is back: {row:?}; {losses:#?}");
        }
        let missing = wanted.iter().filter(|(id, _)| !found.contains_key(*id));
        let unnamed = missing.filter(|(id, row)| !is_named(id, row.lsn, &losses));
        let unnamed: Vec<_> = unnamed.map(|(id, row)| (id, row.lsn)).collect();
        let budget: u64 = losses.iter().map(|loss| uncounted(loss)).sum();
        assert!(unnamed.len() as u64 <= budget, "{what}: {unnamed:?} missing; {losses:#?}");
    }
}

/// True if a loss says that an id may have an older version, or one that was deleted.
fn may_be_back(id: &PointId, since: &[u64], losses: &[&Loss]) -> bool {
    losses.iter().any(|loss| match (loss.kind, loss.lsns) {
        (LossKind::Uncertain, _) | (LossKind::UnreadableWrites, None) => true,
        (LossKind::UnreadableWrites, Some((first, last))) => {
            since.iter().any(|lsn| (first..=last).contains(lsn))
        }
        (LossKind::GivenUpWrites, _) => loss.ids.contains(id),
        _ => false,
    })
}

/// True if a loss names a row that is missing.
fn is_named(id: &PointId, lsn: u64, losses: &[&Loss]) -> bool {
    losses.iter().any(|loss| match (loss.kind, loss.lsns) {
        (LossKind::UnreadableWrites, Some((first, last))) => (first..=last).contains(&lsn),
        _ => loss.ids.contains(id),
    })
}

/// How many rows a loss speaks of that it cannot name.
fn uncounted(loss: &Loss) -> u64 {
    match (loss.kind, loss.rows) {
        (LossKind::Rows, Some(rows)) => rows.saturating_sub(loss.ids.len() as u64),
        (LossKind::Rows, None) => 1 << 40,
        (LossKind::UnreadableWrites, None) if loss.lsns.is_none() => 1 << 40,
        (LossKind::Uncertain, None) if loss.collections.is_empty() => 1 << 40,
        _ => 0,
    }
}

/// One random database, damaged and repaired; `None` if a flip made a file look newer.
fn one(seed: u64) -> Option<RepairPlan> {
    let known = random_life(seed);
    let world = &known.world;
    let mut rng = fastrand::Rng::with_seed(seed ^ 0xDA_3A_6E);
    let damages: Vec<_> = (0..rng.u8(1..5)).map(|_| damage(&world.sim, &mut rng)).collect();
    let what = format!("seed {seed}: {}", damages.join("; "));
    let before = world.sim.image();
    let plan = match repair(world).plan() {
        Ok(plan) => plan,
        // All of it is gone, or nothing may be done about a newer file.
        Err(error) if [ErrorKind::NotFound, ErrorKind::Incompatible].contains(&error.kind()) => {
            return None;
        }
        Err(error) => panic!("{what}: {error}"),
    };
    assert!(world.sim.image() == before, "{what}: planning changed something");
    let interrupted = world.fork(seed);
    let done = repair(world).apply().unwrap_or_else(|error| panic!("{what}: {error}"));
    assert_eq!((&done.steps, &done.losses), (&plan.steps, &plan.losses), "{what}");
    assert_eq!((&done.saved, done.remaining.as_slice()), (&plan.saved, [].as_slice()), "{what}");
    assert_eq!(damage_found(world), [], "{what}\n{plan:#?}");
    let kept: BTreeSet<Vec<u8>> = world.sim.image().into_iter().map(|(_, bytes)| bytes).collect();
    for (path, bytes) in before {
        assert!(path.ends_with("LOCK") || kept.contains(&bytes), "{what}: {path:?} is destroyed");
    }
    let found = shown(world, &what);
    check(&known, &found, &plan.losses, &what);
    if rng.bool() {
        interrupt(&interrupted, &mut rng, &found, &what);
    }
    Some(plan)
}

/// The power goes somewhere in a repair: run again, it ends where it would have.
fn interrupt(world: &World, rng: &mut fastrand::Rng, found: &BTreeMap<String, Rows>, what: &str) {
    world.sim.power_off_at(rng.u64(1..40));
    let outcome = repair(world).apply().map(drop);
    let policy = if rng.bool() { CrashPolicy::DropAll } else { CrashPolicy::Random };
    world.sim.reboot(policy);
    let again = repair(world).apply().unwrap_or_else(|error| panic!("{what}: {error}"));
    assert_eq!(again.remaining, [], "{what}, after {outcome:?}");
    let what = format!("{what}, interrupted");
    let rows = shown(world, &what);
    for (name, wanted) in found {
        let differs = difference(&rows[name], wanted);
        assert!(differs.is_empty(), "{what}, {name}, after {outcome:?}: {differs}");
    }
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

#[test]
fn mixed_damages_are_repaired_as_planned_and_declared() {
    if let Some(seed) = number("AKIDB_SEED") {
        one(seed);
        return;
    }
    let runs = number("AKIDB_SEQUENCES").unwrap_or(150);
    let (mut repaired, mut saved, mut lossless) = (0, 0, 0);
    let mut failed: Vec<u64> = Vec::new();
    for seed in 0..runs {
        let plan = match catch_unwind(|| one(seed)) {
            Ok(Some(plan)) => plan,
            Ok(None) => continue,
            Err(_) => {
                failed.push(seed);
                continue;
            }
        };
        repaired += u64::from(!plan.is_empty());
        saved += u64::from(!plan.saved.is_empty());
        lossless += u64::from(!plan.is_empty() && plan.losses.is_empty());
    }
    assert!(failed.is_empty(), "seeds {failed:?} failed; each says above why");
    let floor = runs / 20;
    assert!(
        repaired > runs / 2 && saved > floor && lossless > floor,
        "{repaired} repaired, {saved} with rows saved, {lossless} without a loss"
    );
}
