//! Limits: what would pass one is refused before anything is written, within a tenth of the value; what
//! is deleted makes room; one group does not feel the limits of another.

use akidb::{
    Cause, ErrorKind, Limits, Metric, Point, Schema, Settings,
    blocking::{Collection, Db},
};
use akidb_tests::world::{World, tiny_settings};
use akidb_vfs::thread::spawn;
use std::collections::BTreeMap;

const DIM: u32 = 64;

fn world(settings: Settings) -> World {
    World::new(77, settings)
}

fn open(settings: Settings) -> (World, Db) {
    let world = world(settings);
    let db = world.open().expect("an empty disk opens");
    (world, db)
}

fn limited(limits: Limits) -> Settings {
    Settings { limits, memtable_bytes: 32 << 10, memtable_pool_bytes: 1 << 20, ..tiny_settings() }
}

fn schema() -> Schema {
    Schema::new(DIM, Metric::L2)
}

fn row(id: u64) -> Point {
    Point::new(id, vec![id as f32; DIM as usize])
}

/// Writes until something is refused; returns how many rows went in, and what was refused.
fn fill(docs: &Collection, from: u64) -> (u64, akidb::Error) {
    for id in from..from + 1_000_000 {
        if let Err(error) = docs.upsert([row(id)]).run() {
            return (id - from, error);
        }
    }
    panic!("nothing is ever refused");
}

fn what(error: &akidb::Error) -> (Option<&str>, &'static str) {
    assert_eq!(error.kind(), ErrorKind::QuotaExceeded, "{error}");
    match error.cause() {
        Cause::QuotaExceeded { namespace, what, .. } => (namespace.as_deref(), what),
        other => panic!("{other:?}"),
    }
}

#[test]
fn one_collection_too_many_is_refused_and_a_drop_makes_room() {
    let (_world, db) = open(limited(Limits { collections_max: Some(3), ..Limits::default() }));
    for name in ["a", "b", "c"] {
        db.create_collection(name, schema()).expect("there is room");
    }
    let error = db.create_collection("d", schema()).map(drop).expect_err("a fourth");
    assert_eq!(what(&error), (None, "collections"));
    assert_eq!(db.list_collections().expect("a list"), ["a", "b", "c"], "nothing was changed");
    db.drop_collection("b").expect("it is there");
    db.create_collection("d", schema()).expect("there is room again");
}

#[test]
fn storage_is_refused_within_a_tenth_of_the_limit_and_nothing_is_written() {
    let limit = 2 << 20;
    let settings = limited(Limits { storage_bytes_max: Some(limit), ..Limits::default() });
    let (world, db) = open(settings);
    let docs = db.create_collection("docs", schema()).expect("a new name");
    let (rows, error) = fill(&docs, 0);
    assert_eq!(what(&error), (None, "storage_bytes"));
    let lsn = db.stats().applied_lsn;
    assert!(docs.upsert([row(rows)]).run().is_err());
    assert_eq!(db.stats().applied_lsn, lsn, "nothing went to the log");
    db.flush().expect("a flush");
    let near = |used: u64| used as f64 >= limit as f64 * 0.9 && used as f64 <= limit as f64 * 1.1;
    let segments: u64 = docs.stats().segments.iter().map(|segment| segment.bytes).sum();
    assert!(near(segments), "{segments} of {limit} after {rows} rows");
    assert!(near(db.stats().usage.storage_bytes), "{:?}", db.stats().usage);
    assert_eq!(docs.count(None).expect("reads go on"), rows);

    // It holds after a restart, and what is deleted and compacted makes room.
    drop((docs, db));
    let db = world.open().expect("it opens");
    let docs = db.collection("docs").expect("it is there");
    assert_eq!(what(&fill(&docs, rows).1), (None, "storage_bytes"));
    docs.delete(0..rows / 2).run().expect("deletes are never refused");
    docs.compact().expect("a compaction");
    let (more, _) = fill(&docs, 2 * rows);
    assert!(more > rows / 3, "{more} more of {rows}");
}

#[test]
fn memory_is_refused_within_a_tenth_and_a_flush_makes_room() {
    let limit = 512 << 10;
    let mut settings = limited(Limits { memory_bytes_max: Some(limit), ..Limits::default() });
    // Nothing is flushed by itself before the limit is met.
    (settings.memtable_bytes, settings.wal_bytes_max) = (4 << 20, 64 << 20);
    (settings.memtable_pool_bytes, settings.hot_bytes) = (8 << 20, 0);
    let (_world, db) = open(settings);
    let docs = db.create_collection("docs", schema()).expect("a new name");
    let mut highest = 0;
    for id in 0..10_000 {
        docs.upsert([row(id)]).run().expect("a flush makes room");
        highest = highest.max(db.stats().usage.memory_bytes);
    }
    assert!(db.stats().flushes > 3, "{}", db.stats().flushes);
    let (least, most) = (limit as f64 * 0.9, limit as f64 * 1.1);
    assert!(highest as f64 >= least && highest as f64 <= most, "{highest} of {limit}");
    // What can never fit is told, not waited for.
    let error = docs.upsert((0..4_000).map(row)).run().map(drop).expect_err("a megabyte");
    assert_eq!(what(&error), (None, "memory_bytes"));
}

#[test]
fn hot_copies_are_made_only_as_far_as_the_limit_of_memory_goes() {
    let hot_bytes = |memory_bytes_max: Option<u64>| {
        let (_world, db) = open(limited(Limits { memory_bytes_max, ..Limits::default() }));
        let docs = db.create_collection("docs", schema()).expect("a new name");
        for half in 0..2 {
            for id in half * 1_000..(half + 1) * 1_000 {
                docs.upsert([row(id)]).run().expect("a write");
            }
            docs.compact().expect("a compaction");
            docs.upsert([row(half)]).run().expect("due work runs");
        }
        (db.stats().hot_bytes, db.stats().usage.memory_bytes)
    };
    let (free, _) = hot_bytes(None);
    let (limit, below) = (free + free / 2, free / 2);
    assert!(free > 64 << 10, "{free}");
    assert_eq!(hot_bytes(Some(limit)).0, free, "there is room for all");
    let (hot, memory) = hot_bytes(Some(below));
    assert!(hot < free && memory <= below, "{hot} of {free}, {memory} of {below}");
}

#[test]
fn writers_that_come_at_once_do_not_pass_a_limit_together() {
    let limit = 4 << 20;
    let mut settings = limited(Limits { storage_bytes_max: Some(limit), ..Limits::default() });
    (settings.memtable_bytes, settings.memtable_pool_bytes) = (1 << 20, 16 << 20);
    (settings.wal_file_bytes, settings.wal_bytes_max) = (1 << 20, 64 << 20);
    settings.index_rows_min = u64::MAX;
    let (_world, db) = {
        let world = world(settings);
        let db = world.open_with_threads().expect("an empty disk opens");
        (world, db)
    };
    let docs = db.create_collection("docs", schema()).expect("a new name");
    let writer = |number: u64| {
        let docs = docs.clone();
        let write = move || {
            for batch in 0..1_000 {
                let first = number * 1_000_000 + batch * 1_000;
                // About a fourteenth of the limit.
                if docs.upsert((first..first + 900).map(row)).run().is_err() {
                    return;
                }
            }
        };
        spawn("writer", write).expect("a thread")
    };
    let writers: Vec<_> = (0..12).map(writer).collect();
    writers.into_iter().for_each(|writer| writer.join().expect("no panic"));
    let used = db.stats().usage.storage_bytes;
    assert!(used <= limit + limit / 10, "{used} of {limit}");
}

#[test]
fn a_namespace_has_limits_of_its_own_and_feels_no_others() {
    let small = Limits { collections_max: Some(1), ..Limits::default() };
    let mut settings = limited(Limits { collections_max: Some(5), ..Limits::default() });
    let bytes = Limits { storage_bytes_max: Some(1 << 20), ..Limits::default() };
    settings.namespace_limits = BTreeMap::from([("bytes".to_owned(), bytes)]);
    settings.namespace_default = small;
    let (world, db) = open(settings);
    let one = db.create_collection_in("one", "a", schema()).expect("there is room");
    let error = db.create_collection_in("one", "b", schema()).map(drop).expect_err("a second");
    assert_eq!(what(&error), (Some("one"), "collections"));
    db.create_collection_in("two", "b", schema()).expect("another group");
    let docs = db.create_collection_in("bytes", "c", schema()).expect("there is room");
    let (rows, error) = fill(&docs, 0);
    assert_eq!(what(&error), (Some("bytes"), "storage_bytes"));
    one.upsert((0..rows).map(row)).run().expect("others go on");
    db.create_collection("d", schema()).expect("the fourth of all");
    db.create_collection_in("three", "e", schema()).expect("the fifth");
    let error = db.create_collection_in("four", "f", schema()).map(drop).expect_err("the sixth");
    assert_eq!(what(&error), (None, "collections"));
    let error = db.create_collection_in("../x", "g", schema()).map(drop).expect_err("no name");
    assert_eq!(error.kind(), ErrorKind::InvalidInput);

    drop((one, docs, db));
    let db = world.open().expect("it opens");
    let stats = db.stats();
    let named: Vec<_> =
        stats.namespaces.iter().map(|one| (&*one.name, one.usage.collections)).collect();
    assert_eq!(named, [("bytes", 1), ("one", 1), ("three", 1), ("two", 1)]);
    let docs = db.collection("c").expect("it is there");
    assert_eq!(docs.stats().namespace.as_deref(), Some("bytes"));
    assert_eq!(what(&fill(&docs, rows).1), (Some("bytes"), "storage_bytes"));
}

#[test]
fn snapshots_and_cold_objects_count() {
    let settings = limited(Limits { storage_bytes_max: Some(1 << 20), ..Limits::default() });
    let (_world, db) = open(settings);
    let docs = db.create_collection("docs", schema()).expect("a new name");
    docs.upsert((0..1_500).map(row)).run().expect("rows");
    docs.demote().expect("a demotion");
    let cold = db.stats().usage.storage_bytes;
    assert_eq!(cold, docs.stats().cold[0].bytes);
    docs.snapshot("one").expect("there is room for one");
    let error = docs.snapshot("two").map(drop).expect_err("and not for two");
    assert_eq!(what(&error), (None, "storage_bytes"));
    let error = db.restore_snapshot("one", "copy").map(drop).expect_err("nor for a copy");
    assert_eq!(what(&error), (None, "storage_bytes"));
    db.delete_snapshot("one").expect("it is there");
    docs.snapshot("two").expect("there is room again");
}
