//! Many threads on a real directory, with flush and compaction in the background: one sees one's
//! own writes, no row vanishes while it is replaced, and everything is there afterwards.

use akidb::{
    DbBuilder, ErrorKind, Point, Settings,
    blocking::{Collection, Db},
    field,
    vfs::{Clock, SystemClock},
};
use akidb_tests::ops::{moved_or_told, plain_schema};
use serde_json::json;
use std::{
    path::Path,
    sync::{
        Arc, Barrier,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

/// Ids that always exist and are replaced all the time.
const STABLE: u64 = 60;
const RUN_TIME: Duration = Duration::from_millis(1500);

fn settings() -> Settings {
    Settings {
        memtable_bytes: 16 << 10,
        memtable_pool_bytes: 128 << 10,
        wal_file_bytes: 64 << 10,
        wal_bytes_max: 256 << 10,
        compaction_fanout: 2,
        disk_reserve_bytes: 0,
        ..Settings::default()
    }
}

fn open(dir: &Path) -> Db {
    DbBuilder::new(dir).settings(settings()).open_blocking().expect("it opens")
}

fn row(id: u64, version: u64) -> Point {
    Point::new(id, vec![id as f32, version as f32, 1.0, 1.0])
        .meta(json!({"color": "red", "version": version}))
}

fn version_of(docs: &Collection, id: u64) -> u64 {
    let record = docs.get([id]).expect("a read").remove(0);
    let record = record.unwrap_or_else(|| panic!("row {id} vanished"));
    let version = record.metadata["version"].as_u64().expect("a number");
    assert_eq!(record.vector[1], version as f32, "vector and metadata of different versions");
    version
}

/// Runs every piece of work on a thread of its own until the time is over; a panic in any fails
/// the test.
fn together(works: Vec<Box<dyn Fn(u64) + Send>>) {
    let stop = Arc::new(AtomicBool::new(false));
    let start = Arc::new(Barrier::new(works.len()));
    let threads: Vec<_> = works
        .into_iter()
        .map(|work| {
            let (stop, start) = (stop.clone(), start.clone());
            let body = move || {
                let clock = SystemClock::new();
                start.wait();
                let mut round = 1;
                while clock.monotonic() < RUN_TIME && !stop.load(Ordering::Relaxed) {
                    let outcome =
                        std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| work(round)));
                    if let Err(panic) = outcome {
                        stop.store(true, Ordering::Relaxed);
                        std::panic::resume_unwind(panic);
                    }
                    round += 1;
                }
                assert!(round > 2, "hardly anything was done: {round} rounds");
            };
            akidb::vfs::thread::spawn("tester", body).expect("a thread")
        })
        .collect();
    for thread in threads {
        if let Err(panic) = thread.join() {
            std::panic::resume_unwind(panic);
        }
    }
}

#[test]
fn reads_see_their_own_writes_and_rows_never_vanish_while_they_are_replaced() {
    let dir = tempfile::tempdir().expect("a directory");
    let db = open(dir.path());
    let docs = db.create_collection("docs", plain_schema()).expect("a new name");
    docs.upsert((0..STABLE).map(|id| row(id, 0))).run().expect("rows");
    let mut works: Vec<Box<dyn Fn(u64) + Send>> = Vec::new();
    for writer in 0..3 {
        let docs = docs.clone();
        works.push(Box::new(move |round| {
            // Each writer owns every third id.
            let id = (round * 3 + writer) % STABLE;
            docs.upsert([row(id, round)]).run().expect("an upsert");
            assert_eq!(version_of(&docs, id), round, "own write of {id} is not seen");
        }));
    }
    for reader in 0..2 {
        let docs = docs.clone();
        works.push(Box::new(move |round| {
            let k = STABLE as usize;
            let search = docs.search(&[1.0; 4]).k(k);
            let filtered = (round + reader) % 2 == 0;
            let search = if filtered { search.filter(field("color").eq("red")) } else { search };
            let hits = search.run().expect("a search");
            let mut ids: Vec<_> = hits.into_iter().map(|hit| hit.id).collect();
            ids.sort();
            ids.dedup();
            assert_eq!(ids.len(), k, "rows vanished or came twice, filtered: {filtered}");
            assert_eq!(docs.count(None).expect("a count"), STABLE);
            let page = docs.scan().limit(k + 1).run().expect("a scan");
            assert_eq!(page.records.len(), k, "a scan misses rows or repeats them");
        }));
    }
    let maintained = docs.clone();
    works.push(Box::new(move |round| match round % 3 {
        0 => maintained.compact().expect("a compaction"),
        _ => maintained.flush().expect("a flush"),
    }));
    together(works);
    let stats = db.stats();
    assert!(stats.flushes > 0 && stats.compactions > 0, "{stats:?}");
    assert_eq!((stats.poisoned, stats.flush_error, stats.compaction_error), (None, None, None));
    let before: Vec<_> = (0..STABLE).map(|id| version_of(&docs, id)).collect();
    drop(docs);
    db.close().expect("it closes");
    let docs = open(dir.path()).collection("docs").expect("it is there");
    let after: Vec<_> = (0..STABLE).map(|id| version_of(&docs, id)).collect();
    assert_eq!(before, after);
}

#[test]
fn readers_and_writers_never_see_half_of_a_move_between_tiers() {
    let dir = tempfile::tempdir().expect("a directory");
    let db = open(dir.path());
    let docs = db.create_collection("docs", plain_schema()).expect("a new name");
    docs.upsert((0..STABLE).map(|id| row(id, 0))).run().expect("rows");
    let mut works: Vec<Box<dyn Fn(u64) + Send>> = Vec::new();
    let mover = docs.clone();
    works.push(Box::new(move |_| {
        moved_or_told(mover.demote()).expect("a demotion");
    }));
    for writer in 0..2 {
        let docs = docs.clone();
        works.push(Box::new(move |round| {
            let id = (round * 2 + writer) % STABLE;
            docs.upsert([row(id, round)]).run().expect("an upsert");
            assert_eq!(version_of(&docs, id), round, "own write of {id} is not seen");
            let extra = 1_000 + writer;
            docs.upsert([row(extra, round)]).run().expect("an upsert");
            docs.delete([extra]).run().expect("a delete");
            assert_eq!(docs.get([extra]).expect("a read"), [None], "{extra} is back");
        }));
    }
    let reader = docs.clone();
    works.push(Box::new(move |_| {
        let hits = reader.search(&[1.0; 4]).k(STABLE as usize).run().expect("a search");
        assert_eq!(hits.len() as u64, STABLE, "rows vanished");
    }));
    together(works);
    assert_eq!(docs.count(None).expect("a count"), STABLE);
}

#[test]
fn d4_no_reader_sees_half_of_a_batch() {
    let dir = tempfile::tempdir().expect("a directory");
    let db = open(dir.path());
    let docs = db.create_collection("docs", plain_schema()).expect("a new name");
    docs.upsert((0..10).map(|id| row(id, 0))).run().expect("rows");
    let writer = docs.clone();
    let mut works: Vec<Box<dyn Fn(u64) + Send>> = vec![Box::new(move |round| {
        writer.upsert((0..10).map(|id| row(id, round))).run().expect("a batch");
    })];
    for _ in 0..3 {
        let docs = docs.clone();
        works.push(Box::new(move |_| {
            let records = docs.get(0..10_u64).expect("a read");
            let versions: Vec<_> =
                records.iter().flatten().map(|r| r.metadata["version"].clone()).collect();
            assert_eq!(versions.len(), 10, "a row vanished");
            assert!(versions.windows(2).all(|pair| pair[0] == pair[1]), "half: {versions:?}");
        }));
    }
    together(works);
}

#[test]
fn inserts_of_one_id_by_many_threads_succeed_once() {
    let dir = tempfile::tempdir().expect("a directory");
    let db = open(dir.path());
    let docs = db.create_collection("docs", plain_schema()).expect("a new name");
    let wins = Arc::new(AtomicU64::new(0));
    let highest = Arc::new(AtomicU64::new(0));
    let works = (0..4)
        .map(|_| {
            let (docs, wins, highest) = (docs.clone(), wins.clone(), highest.clone());
            Box::new(move |round: u64| {
                highest.fetch_max(round, Ordering::Relaxed);
                match docs.insert([row(round, 1)]).run() {
                    Ok(_) => drop(wins.fetch_add(1, Ordering::Relaxed)),
                    Err(error) => assert_eq!(error.kind(), ErrorKind::AlreadyExists, "{error:?}"),
                }
            }) as Box<dyn Fn(u64) + Send>
        })
        .collect();
    together(works);
    assert_eq!(wins.load(Ordering::Relaxed), highest.load(Ordering::Relaxed));
    assert_eq!(docs.count(None).expect("a count"), highest.load(Ordering::Relaxed));
}
