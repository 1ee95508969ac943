//! Recovery of a log that holds more than memory may: it is flushed on the way, in as little memory
//! as the life before it had, and can lose power at any call of that: D3, D12.

use akidb::{Durability, Point, PointId, Settings, blocking::Db};
use akidb_tests::{
    ops::plain_schema,
    world::{DIR, World, tiny_settings},
};
use akidb_vfs::sim::CrashPolicy;
use serde_json::json;
use std::{collections::BTreeMap, path::Path};

const COLLECTIONS: [&str; 2] = ["docs", "other"];
/// Enough for several memtables of each collection.
const IDS: u64 = 24;

/// Which version each id has; those that are missing were deleted.
type Contents = BTreeMap<u64, u64>;

fn roomy() -> Settings {
    Settings { memtable_bytes: 1 << 20, memtable_pool_bytes: 4 << 20, ..tiny_settings() }
}

fn cramped() -> Settings {
    Settings { memtable_bytes: 1 << 10, memtable_pool_bytes: 3 << 10, ..tiny_settings() }
}

/// A machine whose power was lost, with all of two collections in the log, and what was written:
/// replaced rows, deleted rows, deleted rows that came back.
fn killed(seed: u64) -> (World, Contents) {
    let world = World::new(seed, Settings { wal_bytes_max: 1 << 30, ..roomy() });
    let db = world.open().expect("an empty disk opens");
    let collections = COLLECTIONS.map(|name| db.create_collection(name, plain_schema()));
    let mut contents = Contents::new();
    for version in 1..5 {
        for id in (0..IDS).filter(|id| id % version == 0) {
            let vector = vec![id as f32, version as f32, 1.0, -1.0];
            let row = Point::new(id, vector).meta(json!({"color": "red", "version": version}));
            for collection in collections.iter().flatten() {
                let written = collection.upsert([row.clone()]).durability(Durability::Memory);
                written.run().expect("a write");
            }
            contents.insert(id, version);
        }
        for id in (version..IDS).step_by(5) {
            for collection in collections.iter().flatten() {
                collection.delete([PointId::from(id)]).run().expect("a delete");
            }
            contents.remove(&id);
        }
    }
    drop((collections, db));
    world.sim.crash(CrashPolicy::DropAll);
    (world, contents)
}

fn check(db: &Db, contents: &Contents, when: &str) {
    for name in COLLECTIONS {
        let collection = db.collection(name).expect("it was created");
        let records = collection.get(0..IDS).expect("a read");
        let found: Contents = (0..IDS)
            .zip(records)
            .filter_map(|(id, record)| Some((id, record?.metadata["version"].as_u64()?)))
            .collect();
        assert_eq!(found, *contents, "{when}, {name}");
        let count = collection.count(None).expect("a count");
        assert_eq!(count, contents.len() as u64, "{when}, {name}");
    }
}

#[test]
fn d3_a_log_larger_than_memory_is_flushed_while_it_is_replayed() {
    let (mut world, contents) = killed(1);
    world.settings = cramped();
    let before = world.wal_bytes();
    let db = world.open().expect("it recovers");
    let report = db.recovery_report();
    assert!(report.segments_flushed > 4, "{report:?}");
    check(&db, &contents, "after the recovery");
    assert!(world.wal_bytes() < before, "what was flushed is not kept in the log");
    db.close().expect("it closes");

    let db = world.open().expect("it opens again");
    let report = db.recovery_report();
    assert!(report.segments > 4 && report.segments_flushed == 0, "{report:?}");
    assert_eq!(report.unknown_files, Vec::<std::path::PathBuf>::new());
    check(&db, &contents, "after a second open");
}

#[test]
fn d3_with_and_without_threads_a_replay_gives_the_same_rows() {
    for settings in [roomy(), cramped()] {
        let (mut world, contents) = killed(2);
        world.settings = settings;
        let threads = world.fork(2);
        let (inline, threads) = (world.open(), threads.open_with_threads());
        let (inline, threads) = (inline.expect("it recovers"), threads.expect("it recovers"));
        check(&inline, &contents, "without threads");
        check(&threads, &contents, "with threads");
        let (one, other) = (inline.recovery_report(), threads.recovery_report());
        assert_eq!(one.rows_applied, other.rows_applied);
        assert_eq!(one.segments_flushed, other.segments_flushed);
    }
}

#[test]
fn d12_a_recovery_that_flushes_can_lose_power_at_any_call() {
    let (mut world, contents) = killed(3);
    world.settings = cramped();
    let calls = {
        let whole = world.fork(3);
        let before = whole.sim.calls();
        drop(whole.open().expect("it recovers"));
        whole.sim.calls() - before
    };
    assert!(calls > 50, "the recovery is too short to prove anything: {calls} calls");
    for policy in [CrashPolicy::DropAll, CrashPolicy::KeepAll, CrashPolicy::Random] {
        for call in 1..=calls {
            let cut = world.fork(call);
            cut.sim.power_off_at(call);
            drop(cut.open());
            cut.sim.reboot(policy);
            let db = cut.open().unwrap_or_else(|e| panic!("{policy:?} at call {call}: {e}"));
            check(&db, &contents, &format!("{policy:?} at call {call} of {calls}"));
        }
    }
}

#[test]
fn d8_a_damaged_log_leaves_nothing_of_what_its_replay_flushed() {
    let (mut world, _) = killed(4);
    world.settings = cramped();
    let files = world.files_with("/wal/");
    let damaged = files.get(files.len() - 2).expect("a log of several files");
    world.sim.corrupt(damaged, 600, 0x40).expect("the file is there");
    let before = world.sim.image();
    for threads in [false, true] {
        let opened = if threads { world.open_with_threads() } else { world.open() };
        let error = opened.expect_err("damage is no torn tail").to_string();
        assert!(error.contains(&*damaged.to_string_lossy()), "{error}");
        let segments = world.files_with("/segments/");
        assert_eq!(segments, Vec::<std::path::PathBuf>::new());
        let wal = Path::new(DIR).join("wal");
        let log = |image: Vec<(std::path::PathBuf, Vec<u8>)>| {
            image.into_iter().filter(|(path, _)| path.starts_with(&wal)).collect::<Vec<_>>()
        };
        assert_eq!(log(world.sim.image()), log(before.clone()));
    }
}
