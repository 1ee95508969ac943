//! What makes a memtable leave memory without anybody asking: its size, its age, and a log that
//! has grown past its limit. And that compaction, which follows by itself, is never silent.
//!
//! Without the age and the log's limit, one row in a collection that nobody writes to any more
//! would keep every WAL file after it for ever.

use akidb::{
    Durability, Metric, Point, Schema, Settings,
    blocking::{Collection, Db},
};
use akidb_vfs::{
    FsOp, SystemRandom,
    sim::{Fault, FaultKind, SimClock, SimFs},
};
use std::{sync::Arc, time::Duration};

/// A database on a simulated disk whose clock stands still until it is told to go on.
struct World {
    disk: SimFs,
    clock: SimClock,
    db: Db,
}

fn world(settings: Settings) -> World {
    let (disk, clock) = (SimFs::new(1), SimClock::new());
    let db = Db::builder("/db")
        .settings(settings)
        .file_system(Arc::new(disk.clone()))
        .clock(Arc::new(clock.clone()))
        .random(Arc::new(SystemRandom::from_seed(1)))
        .inline()
        .open_blocking()
        .expect("an empty disk takes a database");
    World { disk, clock, db }
}

fn settings() -> Settings {
    Settings { disk_reserve_bytes: 0, wal_file_bytes: 4096, ..Settings::default() }
}

fn collection(world: &World, name: &str) -> Collection {
    world.db.create_collection(name, Schema::new(2, Metric::L2)).expect("the name is free")
}

fn write(collection: &Collection, n: u64) {
    collection.upsert([Point::new(n, [n as f32, 1.0])]).run().expect("the disk is well");
}

fn flushed(collection: &Collection) -> bool {
    let stats = collection.stats();
    stats.memtable_rows == 0 && !stats.segments.is_empty()
}

#[test]
fn a_full_memtable_is_flushed() {
    let world = world(Settings { memtable_bytes: 2048, ..settings() });
    let docs = collection(&world, "docs");
    write(&docs, 0);
    assert!(!flushed(&docs));
    for n in 1..100 {
        write(&docs, n);
    }
    assert!(world.db.stats().flushes > 0, "{:?}", world.db.stats());
    assert_eq!(docs.count(None).expect("it is open"), 100);
}

#[test]
fn a_pool_that_many_small_memtables_fill_gets_a_part_of_them_flushed_at_once() {
    let bytes = 64 << 10;
    let world = world(Settings { memtable_bytes: bytes, memtable_pool_bytes: bytes, ..settings() });
    let all: Vec<_> = (0..40).map(|n| collection(&world, &format!("c{n}"))).collect();
    let rounds = 0..1_000;
    for (n, docs) in rounds.flat_map(|round| all.iter().map(move |docs| (round, docs))) {
        write(docs, n);
        if world.db.stats().flushes > 0 {
            break;
        }
    }
    let gone = all.iter().filter(|docs| flushed(docs)).count();
    assert!((5..=10).contains(&gone), "an eighth of the pool, {gone} of 40");
}

#[test]
fn an_old_memtable_is_flushed_though_it_is_small() {
    let world = world(Settings { memtable_age_ms: 1000, ..settings() });
    let (quiet, busy) = (collection(&world, "quiet"), collection(&world, "busy"));
    write(&quiet, 1);
    world.clock.advance(Duration::from_millis(999));
    write(&busy, 1);
    assert!(!flushed(&quiet), "it is not old yet");
    world.clock.advance(Duration::from_millis(1));
    write(&busy, 2);
    assert!(flushed(&quiet), "{:?}", quiet.stats());
    assert!(!flushed(&busy), "its own memtable is young");
}

#[test]
fn a_quiet_collection_does_not_pin_the_log() {
    let world = world(Settings { wal_bytes_max: 16 << 10, ..settings() });
    let (quiet, busy) = (collection(&world, "quiet"), collection(&world, "busy"));
    write(&quiet, 1);
    for n in 0..1000 {
        write(&busy, n);
    }
    let stats = world.db.stats();
    assert!(flushed(&quiet), "{:?}", quiet.stats());
    assert!(stats.wal_bytes <= (16 << 10) + 2 * 4096, "{stats:?}");
    assert_eq!(quiet.get([1_u64]).expect("it is open").into_iter().flatten().count(), 1);
}

#[test]
fn the_debt_and_the_failures_of_compaction_are_told() {
    let world =
        world(Settings { compaction_fanout: 2, durability: Durability::Memory, ..settings() });
    let docs = collection(&world, "docs");
    write(&docs, 1);
    docs.flush().expect("the disk is well");
    assert_eq!(docs.stats().compaction_debt_bytes, 0);
    write(&docs, 2);
    docs.flush().expect("the disk is well");
    world.disk.inject(Fault::new(FaultKind::Eio).on(FsOp::Create).path(".seg"));
    write(&docs, 3);
    let (stats, told) = (docs.stats(), world.db.stats().compaction_error);
    assert!(stats.compaction_debt_bytes > 0, "{stats:?}");
    assert!(told.is_some_and(|error| error.contains(".seg")), "{:?}", world.db.stats());

    write(&docs, 4);
    assert_eq!(docs.stats().compaction_debt_bytes, 0, "tried again, and done");
    assert_eq!(world.db.stats().compaction_error, None);
    assert_eq!(docs.count(None).expect("it is open"), 4);
}
