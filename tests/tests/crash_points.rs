//! Power loss at every single call of short lives that could change the disk, with every policy
//! of what survives, and a second loss within the recovery: D1, D3, D4, D12.

use akidb::{Durability, FieldType, Point, blocking::Db};
use akidb_tests::{
    evidence::{Options, crash, run as run_machine, short},
    ops::{End, Op, plain_schema},
    run::{Cut, Script},
    world::{DIR, World, tiny_settings},
};
use akidb_vfs::sim::{CrashPolicy, PowerMoment};
use serde_json::json;

const SYNC: Durability = Durability::Sync;
const POLICIES: [(CrashPolicy, u64); 5] = [
    (CrashPolicy::DropAll, 1),
    (CrashPolicy::KeepAll, 1),
    (CrashPolicy::Random, 1),
    (CrashPolicy::Random, 2),
    (CrashPolicy::Random, 3),
];

fn rows(ids: std::ops::Range<u64>, version: u64) -> Vec<Point> {
    let row = |id: u64| {
        let vector = vec![id as f32, version as f32, 1.0, -1.0];
        Point::new(id, vector).meta(json!({"color": "red", "version": version}))
    };
    ids.map(row).collect()
}

fn ids(range: std::ops::Range<u64>) -> Vec<akidb::PointId> {
    range.map(akidb::PointId::from).collect()
}

/// Cuts a life at each of its calls; panics name the cut.
fn cut_everywhere(script: &Script, moments: &[PowerMoment], again: &[Option<u64>]) {
    let calls = script.calls();
    assert!(calls > 20, "the life is too short to prove anything: {calls} calls");
    for call in 1..=calls {
        for (policy, seed) in POLICIES {
            for moment in moments {
                for again in again {
                    let (moment, again) = (*moment, *again);
                    let seed = seed * 1_000_003 + call;
                    let cut = Cut { call, moment, policy, seed, again };
                    let outcome = std::panic::catch_unwind(|| script.run(cut));
                    if let Err(panic) = outcome {
                        let reason = panic.downcast_ref::<String>();
                        panic!("power lost at {cut:?} of {calls} calls: {reason:?}");
                    }
                }
            }
        }
    }
}

#[test]
fn d1_d3_every_crash_point_of_writes_recovers_a_prefix_with_all_synced_writes() {
    let script = Script::new([
        Op::Create(plain_schema()),
        Op::Upsert(rows(0..1, 1), SYNC),
        Op::Upsert(rows(1..2, 1), Durability::Memory),
        Op::Upsert(rows(0..1, 2), Durability::Interval { ms: 1000 }),
        Op::Delete(ids(1..2), SYNC),
        Op::Upsert(rows(1..2, 3), Durability::Memory),
        Op::Upsert(rows(2..30, 3), SYNC),
        Op::Update(vec![(2.into(), json!({"color": "blue"}))], SYNC),
    ]);
    cut_everywhere(&script, &[PowerMoment::Before, PowerMoment::Middle], &[None]);
}

#[test]
fn d4_a_batch_is_all_or_nothing_at_every_crash_point() {
    // Batches larger than a WAL file of these settings, so that a frame spans many sectors.
    let script = Script::new([
        Op::Create(plain_schema()),
        Op::Upsert(rows(0..40, 1), SYNC),
        Op::Upsert(rows(0..40, 2), SYNC),
        Op::Delete(ids(0..20), SYNC),
        Op::Upsert(rows(10..50, 3), SYNC),
    ]);
    cut_everywhere(&script, &[PowerMoment::Before, PowerMoment::Middle], &[None]);
}

#[test]
fn d1_d3_every_crash_point_of_flush_and_compaction_loses_and_resurrects_nothing() {
    let script = Script::new([
        Op::Create(plain_schema()),
        Op::Upsert(rows(0..8, 1), SYNC),
        Op::Flush(false),
        Op::Delete(ids(0..2), SYNC),
        Op::Upsert(rows(2..4, 2), SYNC),
        Op::Flush(false),
        Op::Delete(ids(4..5), Durability::Memory),
        Op::Upsert(rows(6..7, 3), Durability::Memory),
        Op::Compact(false),
        Op::AddField(1),
        Op::Delete(ids(7..8), SYNC),
    ]);
    cut_everywhere(&script, &[PowerMoment::Before, PowerMoment::Middle], &[None]);
}

#[test]
fn d10_every_crash_point_of_tier_moves_keeps_the_collection_readable() {
    let script = Script::new([
        Op::Create(plain_schema()),
        Op::Upsert(rows(0..8, 1), SYNC),
        Op::Demote,
        Op::Delete(ids(0..2), SYNC),
        Op::Upsert(rows(2..4, 2), Durability::Memory),
        Op::Flush(false),
        Op::Demote,
        Op::Delete(ids(4..5), SYNC),
        Op::Promote,
        Op::Upsert(rows(5..6, 3), SYNC),
    ]);
    cut_everywhere(&script, &[PowerMoment::Before, PowerMoment::Middle], &[None]);
}

#[test]
fn d3_every_crash_point_of_snapshots_and_drops_leaves_them_whole_or_absent() {
    let mut script = Script::new([
        Op::Create(plain_schema()),
        Op::Upsert(rows(0..6, 1), Durability::Memory),
        Op::Snapshot("before".to_owned()),
        Op::Delete(ids(0..3), SYNC),
        Op::Pin(true),
        Op::DropCollection,
        Op::Restore("before".to_owned()),
        Op::DeleteSnapshot("before".to_owned()),
        Op::DropCollection,
        Op::Create(plain_schema()),
        Op::Upsert(rows(3..5, 2), SYNC),
    ]);
    // A restore under another name, beside the collection.
    let mut aside = script.steps[6].clone();
    aside.collection = "c1".to_owned();
    script.steps.insert(4, aside);
    cut_everywhere(&script, &[PowerMoment::Before], &[None]);
}

#[test]
fn d12_a_second_power_loss_at_every_call_of_recovery_changes_nothing() {
    let script = Script::new([
        Op::Create(plain_schema()),
        Op::Upsert(rows(0..8, 1), SYNC),
        Op::Flush(false),
        Op::Delete(ids(0..2), SYNC),
        Op::Upsert(rows(2..30, 2), Durability::Memory),
        Op::Compact(false),
        Op::Upsert(rows(1..3, 3), SYNC),
    ]);
    let (calls, again): (u64, Vec<_>) = (script.calls(), (1..30).map(Some).collect());
    // Sampled: every call of recovery, at every 9th call of the life.
    for call in (3..calls).step_by(9) {
        for again in &again {
            for (policy, seed) in POLICIES {
                let (moment, seed) = (PowerMoment::Before, seed * 7919 + call);
                script.run(Cut { call, moment, policy, seed, again: *again });
            }
        }
    }
}

#[test]
fn d12_recovery_that_crashes_again_and_again_never_grows_the_log() {
    let world = World::new(7, tiny_settings());
    let db = world.open().expect("an empty disk opens");
    let docs = db.create_collection("docs", plain_schema()).expect("a new name");
    for round in 0..6 {
        docs.upsert(rows(0..10, round)).run().expect("a write");
    }
    world.sim.crash(CrashPolicy::DropAll);
    drop((docs, db));
    let (before, files) = (world.wal_bytes(), world.sim.files().len());
    for nth in (1..200).map(|n| n % 25 + 1) {
        world.sim.power_off_at(nth);
        drop(world.open());
        world.sim.reboot(CrashPolicy::Random);
        // One file more than before: the copy of the live tail, or its unfinished half.
        let one_file = 2 * world.settings.wal_file_bytes + 4096;
        let (now, most) = (world.wal_bytes(), before + one_file);
        assert!(now <= most, "the log grew from {before} to {now} bytes, crash at call {nth}");
    }
    let db = world.open().expect("it recovers in the end");
    assert_eq!(db.collection("docs").and_then(|docs| docs.count(None)).expect("a count"), 10);
    db.close().expect("it closes");
    let left = world.sim.files().len();
    assert!(left <= files + 2, "{files} files became {left}: {:?}", world.sim.files());
}

#[test]
fn d12_what_a_crash_orphaned_is_reported_skipped_and_removed_in_the_end() {
    let script = Script::new([
        Op::Create(plain_schema()),
        Op::Upsert(rows(0..8, 1), SYNC),
        Op::Flush(false),
        Op::Upsert(rows(0..8, 2), SYNC),
        Op::Flush(false),
        Op::Compact(false),
    ]);
    let (mut reported, mut removed) = (0, 0);
    for call in 1..=script.calls() {
        let world = World::new(call, script.settings.clone());
        world.sim.power_off_at(call);
        let life = |db: &Db| -> akidb::Result<()> {
            let docs = db.create_collection("c0", plain_schema())?;
            for version in 1..3 {
                docs.upsert(rows(0..8, version)).run()?;
                docs.flush()?;
            }
            docs.compact()
        };
        drop(world.open().and_then(|db| life(&db)));
        world.sim.reboot(CrashPolicy::KeepAll);
        let db = world.open().unwrap_or_else(|error| panic!("call {call}: {error}"));
        let unknown = &db.recovery_report().unknown_files;
        assert!(unknown.iter().all(|path| path.starts_with(DIR)), "{unknown:?}");
        reported += unknown.len();
        // New files never take the name of an orphan.
        if let Ok(docs) = db.collection("c0") {
            docs.upsert(rows(0..3, 9)).run().expect("a write beside orphans");
            docs.compact().expect("a compaction beside orphans");
            let all = docs.count(None).expect("a count");
            assert!(all == 3 || all == 8, "call {call}: {all} rows");
            let named = docs.stats().segments.len();
            drop(docs);
            db.close().expect("it closes");
            // The manifest has passed the numbers of what was left over.
            let db = world.open().unwrap_or_else(|error| panic!("call {call}: {error}"));
            let report = db.recovery_report();
            assert_eq!(report.unknown_files, Vec::<std::path::PathBuf>::new(), "call {call}");
            removed += report.removed_files.len();
            let docs = db.collection("c0").expect("it is there");
            assert_eq!(docs.count(None).expect("a count"), all, "call {call}");
            assert_eq!(world.files_with(".seg").len(), named, "call {call}: {report:?}");
        }
    }
    assert!(reported > 0, "no crash left an orphan, so nothing was tried");
    assert!(removed > 0, "{reported} orphans, and none of them was removed");
}

#[test]
fn d3_a_clean_life_survives_a_power_loss_right_after_close() {
    let script = Script::new([
        Op::Create(plain_schema()),
        Op::Upsert(rows(0..20, 1), Durability::Memory),
        Op::Restart(End::Close, None),
        Op::AddField(1),
        Op::Upsert(rows(5..9, 2), Durability::Memory),
    ]);
    let call = script.calls() + 1;
    for (policy, seed) in POLICIES {
        script.run(Cut { call, moment: PowerMoment::Before, policy, seed, again: None });
    }
    assert_eq!(akidb_tests::condition::field_def(1).field_type, FieldType::Integer);
}

#[test]
fn d1_d3_d12_random_lives_survive_crashes_at_any_moment() {
    run_machine(&crash::MACHINE, &Options::short(0, 18), &|_, _| {}).assert_passed();
}

/// Every sequence of up to `length` operations; returns how many there were.
fn short_lives(length: &str, moments: &str, again: &str) -> u64 {
    let set = [("length", length), ("moments", moments), ("again", again)];
    let set = set.map(|(key, value)| (key.to_owned(), value.to_owned())).to_vec();
    let options = Options { set, threads: 1, ..Options::default() };
    let report = run_machine(&short::MACHINE, &options, &|_, _| {});
    report.assert_passed();
    report.counts.get("sequences")
}

#[test]
fn d1_d3_d12_lives_of_one_operation_survive_crashes_at_every_moment_and_in_recovery() {
    assert_eq!(short_lives("1", "1", "16"), 3 * (1 + 7), "one at each level");
}

#[test]
fn d1_d3_d12_lives_of_two_operations_survive_crashes() {
    assert_eq!(short_lives("2", "6", "64"), 3 * (1 + 7 + 49), "one at each level");
}
