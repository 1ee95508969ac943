//! Each call of short lives that can fail does, once, in every way a disk has: what was answered
//! stays true, what failed is whole or absent, and the next open finds it all (D5, D6, D7).

use akidb::{Durability, Point, PointId};
use akidb_tests::{
    ops::{Op, plain_schema},
    run::Script,
};
use akidb_vfs::sim::FaultKind;
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
