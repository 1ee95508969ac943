//! `Repair`: for every kind of damage in every kind of file the plan says what is lost, the result
//! opens and is sound, holds what the plan said and no less, and nothing is destroyed.

use akidb::{ErrorKind, LossKind, Point, PointId, ReadMode, Repair, RepairPlan, Verify, WalDump};
use akidb_tests::{
    declared::{check_declared, shown},
    fixture::{AllRows, every_kind_of_file, every_kind_of_file_and_a_short_log, leave_notes, row},
    ops::plain_schema,
    run::scan_all,
    world::{World, tiny_settings},
};
use akidb_vfs::{Fs, sim::CrashPolicy};
use std::{collections::BTreeSet, path::PathBuf, sync::Arc};

fn repair(world: &World) -> Repair {
    Repair::new(world.dir()).file_system(Arc::new(world.sim.process()))
}

fn verify(world: &World) -> Vec<akidb::Finding> {
    let report = Verify::new(world.dir()).file_system(Arc::new(world.sim.process())).deep(true);
    let mut findings = report.run().expect("there is a database").findings;
    findings.retain(|finding| finding.severity > akidb::Severity::Note);
    findings
}

/// Every content of a file that is neither the lock nor made by this repair.
fn contents(world: &World) -> BTreeSet<Vec<u8>> {
    let image = world.sim.image().into_iter();
    image.filter(|(path, _)| !path.ends_with("LOCK")).map(|(_, bytes)| bytes).collect()
}

/// Plans, applies, and checks all that is promised. Returns the plan and the rows that are shown.
fn repaired(world: &World, wanted: &AllRows, what: &str) -> (RepairPlan, AllRows) {
    let before = world.sim.image();
    let plan = repair(world).plan().unwrap_or_else(|error| panic!("{what}: {error}"));
    assert!(world.sim.image() == before, "{what}: planning changed something");
    let evidence = contents(world);
    let done = repair(world).apply().unwrap_or_else(|error| panic!("{what}: {error}"));
    assert_eq!((&done.steps, &done.losses), (&plan.steps, &plan.losses), "{what}");
    assert_eq!(done.saved, plan.saved, "{what}");
    assert_eq!(done.remaining, [], "{what}");
    let kept = contents(world);
    assert!(evidence.is_subset(&kept), "{what}: something was destroyed");
    assert_eq!(verify(world), [], "{what}");
    let again = repair(world).plan().unwrap_or_else(|error| panic!("{what}: {error}"));
    assert!(again.is_empty(), "{what}: a second repair would do more: {again:?}");
    let db = world.open().unwrap_or_else(|error| panic!("{what}: {error}\n{done:?}"));
    let found = shown(&db, what);
    check_declared(&found, wanted, &plan.losses, what);
    db.close().unwrap_or_else(|error| panic!("{what}: {error}"));
    (plan, found)
}

#[test]
fn damaged_notes_are_set_aside_and_nothing_is_lost() {
    let (world, rows) = every_kind_of_file(ReadMode::Mmap);
    for path in leave_notes(&world) {
        let fork = world.fork(1);
        fork.sim.corrupt(&path, 45, 1).expect("within the file");
        let (plan, found) = repaired(&fork, &rows, &path.to_string_lossy());
        assert_eq!((plan.losses.len(), plan.steps.len()), (0, 1), "{plan:?}");
        assert_eq!((&plan.steps[0].file, found == rows), (&path, true));
        assert_eq!(fork.files_with("lost+damaged-1").len(), 2, "the file and the report");
    }
}

#[test]
fn a_sound_database_is_left_alone() {
    let (world, rows) = every_kind_of_file(ReadMode::Mmap);
    let (plan, found) = repaired(&world, &rows, "sound");
    assert!(plan.is_empty() && found == rows);
    assert!(world.files_with("lost+damaged").is_empty());
}

#[test]
fn every_flip_and_cut_of_every_file_is_repaired_as_declared() {
    let (world, rows) = every_kind_of_file_and_a_short_log(ReadMode::Mmap);
    let (repairs, free) = flip_and_cut(&world, &rows);
    assert!(repairs > 60 && free > 10, "{repairs} repairs, {free} without a loss");
}

/// While the log still has what was flushed, damage to segments and objects costs nothing.
#[test]
fn every_flip_and_cut_is_repaired_from_the_log_as_far_as_it_goes() {
    let (world, rows) = every_kind_of_file(ReadMode::Mmap);
    let (repairs, free) = flip_and_cut(&world, &rows);
    assert!(repairs > 60 && free > 60, "{repairs} repairs, {free} without a loss");
}

fn flip_and_cut(world: &World, rows: &AllRows) -> (u64, u64) {
    let (mut repairs, mut free) = (0, 0);
    for (path, len) in world.sim.files() {
        if path.ends_with("LOCK") {
            continue;
        }
        let used = world.sim.read_durable(&path).expect("it is there");
        let used = used.iter().rposition(|byte| *byte != 0).unwrap_or(0) as u64 + 1;
        let offsets = (0..used).step_by((used / 18).max(1) as usize);
        let flips = offsets.chain([8, 40, used - 1]).map(|at| (at, None));
        let cuts = [0, len / 3, len / 2, len - 1].map(|cut| (cut, Some(cut)));
        for (at, cut) in flips.chain(cuts) {
            let fork = world.fork(at);
            match cut {
                None => fork.sim.corrupt(&path, at, 1 << (at % 8)).expect("within the file"),
                Some(cut) => fork.sim.truncate(&path, cut).expect("it is there"),
            }
            let what = format!("{} at {at}, cut {cut:?}", path.display());
            // A version that is newer by the flip: nothing may be done about such a file.
            if let Err(error) = repair(&fork).plan() {
                assert_eq!(error.kind(), ErrorKind::Incompatible, "{what}: {error}");
                continue;
            }
            let (plan, found) = repaired(&fork, rows, &what);
            repairs += u64::from(!plan.is_empty());
            if !plan.is_empty() && plan.losses.is_empty() {
                free += 1;
                assert!(found == *rows, "{what}: nothing is said to be lost");
            }
        }
    }
    (repairs, free)
}

#[test]
fn every_file_that_is_gone_is_done_without_as_declared() {
    let (world, rows) = every_kind_of_file(ReadMode::Mmap);
    for (path, _) in world.sim.files() {
        if path.ends_with("LOCK") {
            continue;
        }
        let fork = world.fork(1);
        fork.sim.process().remove_file(&path).expect("it is there");
        let what = format!("{} is gone", path.display());
        let (plan, found) = repaired(&fork, &rows, &what);
        assert!(!plan.is_empty(), "{what}");
        let text = path.to_string_lossy();
        if text.contains("MANIFEST") {
            let names = plan.losses.iter().filter(|loss| loss.kind == LossKind::Name).count();
            assert!(names >= 1, "{what}: {:?}", plan.losses);
            assert!(found["docs"].len() >= rows["docs"].len(), "{what}: {:?}", plan.losses);
        }
    }
}

/// Thirty batches, none flushed: the world, its log, and the rows after each LSN.
fn plain_log(seed: u64) -> (World, PathBuf, Vec<BTreeSet<u64>>, Vec<u64>) {
    let mut settings = tiny_settings();
    settings.wal_file_bytes = 64 << 10;
    settings.memtable_bytes = 1 << 20;
    settings.memtable_pool_bytes = 4 << 20;
    settings.wal_bytes_max = 1 << 20;
    let world = World::new(seed, settings);
    let db = world.open().expect("an empty disk opens");
    let docs = db.create_collection("docs", plain_schema()).expect("a new name");
    let mut rng = fastrand::Rng::with_seed(seed);
    let mut states = vec![BTreeSet::new()];
    for _ in 0..30 {
        let mut now: BTreeSet<u64> = states.last().cloned().unwrap_or_default();
        let ids: BTreeSet<u64> = (0..rng.u64(1..4)).map(|_| rng.u64(0..12)).collect();
        if rng.u8(0..3) == 0 {
            docs.delete(ids.iter().copied()).run().expect("a delete");
            now.retain(|id| !ids.contains(id));
        } else {
            docs.upsert(ids.iter().map(|id| row(*id))).run().expect("rows");
            now.extend(ids);
        }
        states.push(now);
    }
    db.close().expect("it closes");
    let path = world.files_with(".wal").pop().expect("a log");
    let dump = akidb::dump_wal(&world.sim.process(), &path, &WalDump::default());
    let frames = dump.expect("a log").remove(0).frames;
    let offsets = frames.iter().filter(|f| f.kind == "data").map(|f| f.offset).collect();
    (world, path, states, offsets)
}

fn ids_of(world: &World) -> BTreeSet<u64> {
    let db = world.open().expect("it was repaired");
    let docs = db.collection("docs").expect("it is there");
    let rows = scan_all(&docs, 10).expect("a scan");
    db.close().expect("it closes");
    let number = |id: PointId| if let PointId::U64(n) = id { n } else { panic!("{id}") };
    rows.into_keys().map(number).collect()
}

/// By default the prefix before the first lost batch, exactly; every batch behind it is named.
#[test]
fn a_damaged_log_ends_before_the_damage_and_says_what_came_after() {
    for seed in 0..9 {
        let (world, path, states, offsets) = plain_log(seed);
        // Of the last batch only the seal behind it tells.
        let lsn = if seed == 8 { 30 } else { 2 + seed * 3 % 27 };
        world.sim.corrupt(&path, offsets[lsn as usize - 1] + 70, 1).expect("within the frame");
        let plan = repair(&world).apply().expect("it can be repaired");
        assert_eq!(plan.remaining, []);
        assert_eq!(ids_of(&world), states[lsn as usize - 1], "seed {seed}: {:?}", plan.losses);
        let lost = |kind| plan.losses.iter().filter(move |loss| loss.kind == kind);
        let unreadable: Vec<_> =
            lost(LossKind::UnreadableWrites).filter_map(|loss| loss.lsns).collect();
        assert_eq!(unreadable, [(lsn, lsn)], "seed {seed}");
        let given_up: Vec<_> = lost(LossKind::GivenUpWrites).filter_map(|loss| loss.lsns).collect();
        let after = (lsn + 1, 30);
        assert_eq!(given_up, if lsn < 30 { vec![after] } else { vec![] }, "seed {seed}");
        // What is written next gets an LSN that no lost write had.
        let db = world.open().expect("it was repaired");
        let receipt = db.collection("docs").and_then(|docs| docs.upsert([row(3)]).run());
        assert!(receipt.expect("a write").lsn > 30);
    }
}

/// On request every batch that can be read: the states without one batch.
#[test]
fn what_lies_behind_the_damage_is_salvaged_on_request() {
    for seed in 0..8 {
        let (world, path, states, offsets) = plain_log(seed);
        // The last write that touched each id decides; the lost one decides nothing.
        let lsn = 2 + seed * 3 % 27;
        world.sim.corrupt(&path, offsets[lsn as usize - 1] + 70, 1).expect("within the frame");
        let plan = repair(&world).salvage_after_damage(true).apply().expect("it can be repaired");
        assert_eq!(plan.remaining, []);
        let kinds: Vec<_> = plan.losses.iter().map(|loss| (loss.kind, loss.lsns)).collect();
        assert_eq!(kinds, [(LossKind::UnreadableWrites, Some((lsn, lsn)))], "seed {seed}");
        let found = ids_of(&world);
        let concerned: BTreeSet<u64> =
            states[lsn as usize].symmetric_difference(&states[lsn as usize - 1]).copied().collect();
        let last = states.last().expect("thirty states");
        let differ: BTreeSet<u64> = found.symmetric_difference(last).copied().collect();
        assert!(differ.is_subset(&concerned), "seed {seed}: {differ:?} of {concerned:?}");
    }
}

#[test]
fn segments_and_objects_that_are_gone_are_made_again_from_the_log() {
    let (world, rows) = every_kind_of_file(ReadMode::Mmap);
    for victims in [vec![".seg"], vec![".tmb"], vec![".parquet"], vec![".seg", ".tmb", ".parquet"]]
    {
        let fork = world.fork(1);
        for part in &victims {
            for path in fork.files_with(part) {
                fork.sim.process().remove_file(&path).expect("it is there");
            }
        }
        let what = format!("{victims:?} are gone");
        let (plan, found) = repaired(&fork, &rows, &what);
        assert_eq!(plan.losses, [], "{what}");
        assert!(found == rows, "{what}");
        let saved: u64 = plan.saved.iter().map(|saved| saved.rows).sum();
        assert_eq!(saved > 0, victims != [".tmb"], "{what}: {:?}", plan.saved);
        assert!(plan.saved.iter().all(|saved| saved.ids.len() as u64 == saved.rows), "{what}");
    }
}

/// One object of two row groups, of which the first is damaged, and a log that has none of it.
#[test]
fn whole_row_groups_of_a_damaged_object_are_saved_and_the_others_are_named() {
    const GROUP: u64 = 8192;
    let mut settings = tiny_settings();
    (settings.memtable_bytes, settings.memtable_pool_bytes) = (4 << 20, 16 << 20);
    (settings.wal_file_bytes, settings.wal_bytes_max) = (4 << 20, 64 << 20);
    // Rows stay in the order of their writes, so that it is known which row group holds which.
    settings.index_rows_min = u64::MAX;
    let world = World::new(5, settings);
    let db = world.open().expect("an empty disk opens");
    let cold = db.create_collection("cold", plain_schema()).expect("a new name");
    let rows: Vec<_> = (0..GROUP + 100).map(|n| Point::new(n, [n as f32, 1.0, 2.0, 3.0])).collect();
    for batch in rows.chunks(1000) {
        cold.upsert(batch.to_vec()).run().expect("rows");
    }
    assert!(cold.demote().expect("a demotion"));
    cold.delete([GROUP + 7]).run().expect("a delete");
    cold.flush().expect("a flush");
    db.close().expect("it closes");
    // An open carries the log over without what is flushed.
    world.open().and_then(akidb::blocking::Db::close).expect("it opens");
    let object = world.files_with(".parquet").remove(0);
    world.sim.corrupt(&object, 1000, 1).expect("within the first row group");

    let plan = repair(&world).apply().expect("it can be repaired");
    assert_eq!(plan.remaining, []);
    let saved: Vec<_> = plan.saved.iter().map(|saved| (&saved.from, saved.rows)).collect();
    assert_eq!(saved, [(&object, 99)]);
    let [loss] = &plan.losses[..] else { panic!("one loss: {:?}", plan.losses) };
    assert_eq!((loss.kind, loss.rows), (LossKind::Rows, Some(GROUP)));
    assert!(loss.detail.contains("0..8192"), "{}", loss.detail);
    let db = world.open().expect("it was repaired");
    let found = scan_all(&db.collection("cold").expect("it is there"), 1000).expect("a scan");
    let wanted = (GROUP..GROUP + 100).filter(|n| *n != GROUP + 7);
    assert!(found.into_keys().eq(wanted.map(PointId::from)), "other rows");
}

/// Power goes at every call of a repair: run again, it ends where it would have.
#[test]
fn a_repair_that_is_interrupted_anywhere_is_run_again() {
    let (world, rows) = every_kind_of_file_and_a_short_log(ReadMode::Mmap);
    let segment = world.files_with(".seg").remove(0);
    let tombstones = world.files_with(".tmb").remove(0);
    let wal = world.files_with(".wal").pop().expect("a log");
    world.sim.corrupt(&segment, 4100, 1).expect("within the vectors");
    world.sim.corrupt(&tombstones, 60, 1).expect("within the file");
    world.sim.corrupt(&wal, 700, 1).expect("within a frame");
    let whole = world.fork(0);
    let (plan, expected) = repaired(&whole, &rows, "not interrupted");
    assert!(!plan.losses.is_empty(), "{:?}", plan.steps);
    for nth in 1.. {
        let fork = world.fork(nth);
        fork.sim.power_off_at(nth);
        let finished = repair(&fork).apply().is_ok();
        let policy = if nth % 2 == 0 { CrashPolicy::DropAll } else { CrashPolicy::Random };
        fork.sim.reboot(policy);
        let done = repair(&fork).apply().unwrap_or_else(|error| panic!("call {nth}: {error}"));
        assert_eq!(done.remaining, [], "call {nth}");
        let db = fork.open().unwrap_or_else(|error| panic!("call {nth}: {error}"));
        let found = shown(&db, &format!("call {nth}"));
        assert!(found == expected, "call {nth}: {found:?}, not {expected:?}");
        if finished {
            assert!(nth > 20, "only {nth} calls");
            return;
        }
    }
}

#[test]
fn a_database_that_is_open_is_planned_for_and_not_repaired() {
    let (world, _) = every_kind_of_file(ReadMode::Mmap);
    let db = world.open().expect("it opens");
    let plan = repair(&world).plan().expect("a plan takes no lock");
    assert!(plan.is_empty());
    let error = repair(&world).apply().expect_err("somebody has it open");
    assert_eq!(error.kind(), ErrorKind::Locked);
    db.close().expect("it closes");
    let nowhere = Repair::new("/nowhere").file_system(Arc::new(world.sim.process()));
    assert_eq!(nowhere.apply().expect_err("nothing there").kind(), ErrorKind::NotFound);
}
