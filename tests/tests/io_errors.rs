//! Each call of short lives that can fail does, once, in every way a disk has: what was answered
//! stays true, what failed is whole or absent, and the next open finds it all (D5, D6, D7).

use akidb::{Durability, ErrorKind, Point, PointId};
use akidb_tests::{
    evidence::{Options, machines, run},
    ops::{Op, plain_schema},
    run::Script,
    world::{World, tiny_settings},
};
use akidb_vfs::{
    FsOp,
    sim::{CrashPolicy, Fault, FaultKind},
};
use serde_json::json;

fn rows(ids: std::ops::Range<u64>, version: u64) -> Vec<Point> {
    let row = |id: u64| {
        let vector = vec![id as f32, version as f32, 1.0, -1.0];
        Point::new(id, vector).meta(json!({"color": "red", "version": version}))
    };
    ids.map(row).collect()
}

/// A bit of everything, with writes of every level in between.
fn life() -> Script {
    let sync = Durability::Sync;
    Script::new([
        Op::Create(plain_schema()),
        Op::Upsert(rows(0..8, 1), sync),
        Op::Flush(false),
        Op::Delete((0..2).map(PointId::from).collect(), Durability::Memory),
        Op::Upsert(rows(2..30, 2), sync),
        Op::Compact(false),
        Op::AddField(1),
        Op::Upsert(rows(5..6, 3), Durability::Interval { ms: 10 }),
        Op::Snapshot("snap".to_owned()),
        Op::Demote,
        Op::Upsert(rows(1..3, 4), sync),
        Op::Delete(vec![7_u64.into()], sync),
        Op::Verify,
        Op::DropCollection,
        Op::Restore("snap".to_owned()),
        Op::DeleteSnapshot("snap".to_owned()),
        Op::Pin(true),
        Op::Upsert(rows(1..40, 5), sync),
    ])
}

/// Fails the first, second, ... call that can fail so, until there are no more.
fn fail_each(kind: FaultKind) {
    let script = life();
    let mut nth = 1;
    while script.run_with_fault(kind, nth) {
        nth += 1;
    }
    assert!(nth > 5, "only {nth} calls can fail with {kind:?}");
}

#[test]
fn d5_d6_any_call_may_fail_with_an_io_error() {
    fail_each(FaultKind::Eio);
}

#[test]
fn d7_any_call_may_find_the_disk_full() {
    fail_each(FaultKind::NoSpace);
}

#[test]
fn d6_any_sync_may_fail_with_the_cache_kept_or_dropped() {
    fail_each(FaultKind::SyncFailsCacheKept);
    fail_each(FaultKind::SyncFailsCacheDropped);
}

#[test]
fn d5_any_call_may_run_out_of_descriptors() {
    fail_each(FaultKind::TooManyFiles);
}

#[test]
fn short_and_interrupted_calls_are_gone_on_with() {
    fail_each(FaultKind::ShortWrite);
    fail_each(FaultKind::Interrupted);
}

/// A short run of a machine; the long one is `evidence MACHINE`.
fn play(name: &str, options: &Options) {
    let machine = machines().into_iter().find(|machine| machine.name == name);
    run(&machine.expect("it is listed"), options, &|_, _| {}).assert_passed();
}

#[test]
fn d5_d6_d7_calls_fail_in_every_way_in_lives_that_reach_all_of_them() {
    let sampled = vec![("stride".to_owned(), "53".to_owned())];
    play("errors", &Options { set: sampled, ..Options::short(0, 66) });
}

#[test]
fn d5_d6_calls_fail_under_a_database_with_threads() {
    play("errors-threads", &Options::short(0, 15));
}

#[test]
fn a_directory_that_cannot_be_listed_is_no_lost_log() {
    let world = World::new(7, tiny_settings());
    let db = world.open().expect("an empty disk opens");
    db.create_collection("docs", plain_schema()).expect("a new name");
    db.close().expect("it closes");
    for kind in [FaultKind::TooManyFiles, FaultKind::Eio] {
        for nth in 1.. {
            world.sim.inject(Fault::new(kind).on(FsOp::ListDir).nth(nth));
            let opened = world.open();
            world.sim.clear_faults();
            let Err(error) = opened else { break };
            // "Restore it from a copy" would be the wrong advice.
            assert_eq!(error.kind(), ErrorKind::Unavailable, "listing {nth}: {error}");
        }
    }
}

#[test]
fn d6_a_manifest_that_cannot_be_made_for_want_of_descriptors_poisons_nothing() {
    let world = World::new(8, tiny_settings());
    let db = world.open().expect("an empty disk opens");
    let docs = db.create_collection("docs", plain_schema()).expect("a new name");
    world.sim.inject(Fault::new(FaultKind::TooManyFiles).on(FsOp::Create).sticky());
    // Edits fit into the manifest until it is full; then it needs a new file.
    let refused = (0..10_000).find_map(|n| docs.pin(n % 2 == 0).err());
    let error = refused.expect("the manifest is full at last");
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    assert_eq!(db.stats().poisoned, None);
    world.sim.clear_faults();
    docs.pin(true).expect("there are descriptors again");
    docs.upsert(rows(0..3, 1)).run().expect("a write");
    world.sim.crash(CrashPolicy::DropAll);
    drop((docs, db));
    let docs = world.open().expect("it opens").collection("docs").expect("it is there");
    assert!(docs.stats().pinned);
    assert_eq!(docs.count(None).expect("a count"), 3);
}
