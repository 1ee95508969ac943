//! Many at once: moves against moves, reads, writes, snapshots and the worker.

use crate::rig::{Rig, all, filled, row};
use akidb::{
    Cause, ErrorKind, Tier,
    blocking::Collection,
    tiering::{
        MemoryStore,
        faulty::{FaultyStore, Verb},
    },
};
use akidb_tests::{ops::pause, oracle::Rows};
use akidb_vfs::thread::spawn;
use parking_lot::Mutex;
use std::{
    sync::{
        Arc, Barrier,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

/// Runs work on this many threads that begin together; returns what each gave.
fn together<T: Send + 'static>(
    threads: usize,
    work: impl Fn(usize) -> T + Send + Sync + 'static,
) -> Vec<T> {
    let (work, start) = (Arc::new(work), Arc::new(Barrier::new(threads)));
    let results = Arc::new(Mutex::new(Vec::new()));
    let begin = |number| {
        let (work, start, results) = (work.clone(), start.clone(), results.clone());
        let run = move || {
            start.wait();
            let result = work(number);
            results.lock().push((number, result));
        };
        spawn("racer", run).expect("a thread")
    };
    let running: Vec<_> = (0..threads).map(begin).collect();
    running.into_iter().for_each(|thread| thread.join().expect("no panic"));
    let mut results = std::mem::take(&mut *results.lock());
    results.sort_by_key(|(number, _)| *number);
    results.into_iter().map(|(_, result)| result).collect()
}

#[test]
fn of_ten_demotions_at_once_one_wins_and_makes_one_object() {
    let rig = Rig::new();
    let db = rig.open_with_threads();
    let docs = filled(&db, "docs", 300);
    let before = all(&docs);
    rig.server.set_latency(Duration::from_millis(50));
    let handle = docs.clone();
    let ends = together(10, move |_| handle.demote());
    let won = ends.iter().filter(|end| matches!(end, Ok(true))).count();
    assert_eq!(won, 1, "{ends:?}");
    for end in ends.iter().filter(|end| !matches!(end, Ok(true))) {
        match end {
            // Whoever comes after the end finds it cold.
            Ok(moved) => assert!(!moved),
            Err(error) => assert!(matches!(error.cause(), Cause::Moving { .. }), "{error:?}"),
        }
    }
    assert_eq!((docs.tier(), rig.objects()), (Tier::Cold, 1));
    assert_eq!(all(&docs), before);
}

#[test]
fn what_a_demotion_takes_is_not_flushed_beside_it_but_where_writers_need_the_memory() {
    let mut rig = Rig::of_our_own();
    (rig.settings.memtable_bytes, rig.settings.memtable_pool_bytes) = (64 << 10, 512 << 10);
    let db = rig.open_with_threads();
    let (docs, other) = (filled(&db, "docs", 100), filled(&db, "other", 100));
    rig.server.set_latency(Duration::from_millis(300));
    for (collection, writes) in [(&docs, 0), (&other, 6_000)] {
        let moving = collection.clone();
        let demote = move || assert!(moving.demote().expect("a demotion"));
        let demotion = spawn("demotion", demote).expect("a thread");
        while collection.stats().moving_to.is_none() {
            std::thread::yield_now();
        }
        for id in 0..writes {
            docs.upsert([row(id)]).run().expect("a write does not wait for the store");
        }
        let flushes = db.stats().flushes;
        assert_eq!(flushes > 0, writes > 0, "{flushes}");
        demotion.join().expect("no panic");
        assert_eq!(db.stats().flushes > 0, writes > 0);
    }
    assert_eq!(all(&other).len(), 100);
}

#[test]
fn ten_collections_move_at_once() {
    let rig = Rig::new();
    let db = rig.open_with_threads();
    let docs: Vec<_> = (0..10).map(|n| filled(&db, &format!("c{n}"), 100)).collect();
    let before: Vec<Rows> = docs.iter().map(all).collect();
    let handles = docs.clone();
    let ends = together(10, move |n| {
        for _ in 0..5 {
            assert!(handles[n].demote()?);
            assert!(handles[n].promote()?);
        }
        handles[n].demote()
    });
    assert!(ends.iter().all(|end| matches!(end, Ok(true))), "{ends:?}");
    assert_eq!(rig.objects(), 10);
    assert_eq!(docs.iter().map(all).collect::<Vec<_>>(), before);
}

#[test]
fn many_searches_of_a_cold_collection_cause_one_promotion() {
    let rig = Rig::of_our_own();
    let db = rig.open_with_threads();
    let docs = filled(&db, "docs", 500);
    let expected = docs.search(&[7.0; 16]).k(3).run().expect("a search");
    assert!(docs.demote().expect("a demotion"));
    rig.server.set_latency(Duration::from_millis(30));
    let of_rows =
        |seen: &&akidb_s3server::Seen| seen.method == "GET" && seen.target.contains(".parquet");
    let gets = || rig.server.seen().iter().filter(of_rows).count();
    let before = gets();
    let handle = docs.clone();
    let ends = together(8, move |_| handle.search(&[7.0; 16]).k(3).run());
    for hits in ends {
        assert_eq!(hits.expect("a search"), expected);
    }
    assert_eq!((docs.tier(), gets() - before), (Tier::Warm, 1));
}

#[test]
fn writes_during_moves_land_and_are_not_lost() {
    let rig = Rig::new();
    let db = rig.open_with_threads();
    let docs = filled(&db, "docs", 100);
    let stop = Arc::new(AtomicBool::new(false));
    let (handle, stopped) = (docs.clone(), stop.clone());
    let ends = together(3, move |number| -> Result<u64, akidb::Error> {
        if number == 2 {
            for _ in 0..15 {
                for to in [Tier::Cold, Tier::Warm, Tier::Hot] {
                    akidb_tests::ops::moved_or_told(handle.move_to(to))?;
                }
            }
            stopped.store(true, Ordering::SeqCst);
            return Ok(0);
        }
        let mut written = 0;
        while !stopped.load(Ordering::SeqCst) || written < 10 {
            let id = 1_000 * (number as u64 + 1) + written;
            handle.upsert([row(id)]).run()?;
            handle.delete([id - 1]).run()?;
            written += 1;
        }
        Ok(1_000 * (number as u64 + 1) + written - 1)
    });
    let mut ids: Vec<u64> = (0..100).collect();
    for end in ends {
        ids.extend(Some(end.expect("no failure")).filter(|last| *last > 0));
    }
    // Each writer deletes the row before its own: what is left is the last of each, and the hundred.
    let rows = all(&docs);
    let kept: Vec<u64> = ids.into_iter().filter(|id| rows.contains_key(&(*id).into())).collect();
    assert_eq!((kept.len(), rows.len()), (102, 102));
    drop(docs);
    drop(db);
    let docs = rig.open_with_threads().collection("docs").expect("it is there");
    assert_eq!(all(&docs), rows);
}

#[test]
fn a_pin_during_an_upload_stops_the_demotion() {
    let rig = Rig::of_our_own();
    let db = rig.open_with_threads();
    let docs = filled(&db, "docs", 50);
    rig.server.set_latency(Duration::from_millis(300));
    let handle = docs.clone();
    let mover = spawn("mover", move || {
        let error = handle.demote().expect_err("the pin came first");
        assert!(matches!(error.cause(), Cause::Pinned { .. }), "{error:?}");
    })
    .expect("a thread");
    while docs.stats().moving_to != Some("cold") {
        std::thread::yield_now();
    }
    docs.pin(true).expect("a pin");
    mover.join().expect("no panic");
    assert_eq!((docs.tier(), docs.stats().pinned), (Tier::Hot, true));
    rig.server.set_latency(Duration::ZERO);
    assert_eq!(rig.objects(), 0, "the object that was put is gone again");
}

#[test]
fn a_snapshot_is_of_one_moment_whatever_moves_and_restores_run_beside_it() {
    let rig = Rig::new();
    let db = rig.open_with_threads();
    let docs = filled(&db, "docs", 60);
    docs.snapshot("base").expect("a snapshot");
    let (handle, owner) = (docs.clone(), db.clone());
    let ends = together(3, move |number| -> Result<(), akidb::Error> {
        for round in 0..6 {
            match number {
                0 => akidb_tests::ops::moved_or_told(handle.demote())?,
                1 => {
                    let name = format!("s{round}");
                    assert_eq!(handle.snapshot(&name)?.rows, 60);
                }
                _ => {
                    let name = format!("copy{round}");
                    let copy = owner.restore_snapshot("base", &name)?;
                    assert_eq!(copy.count(None)?, 60);
                    owner.drop_collection(&name)?;
                }
            }
        }
        Ok(())
    });
    assert!(ends.iter().all(Result::is_ok), "{ends:?}");
    assert_eq!(db.list_snapshots().len(), 7);
    assert_eq!(all(&docs).len(), 60);
}

#[test]
fn the_worker_and_moves_by_hand_do_not_undo_each_other() {
    let mut rig = Rig::new();
    let policy = &mut rig.settings.tiers.policy;
    // Everything is idle at once: each cycle wants all of it cold.
    (policy.hot_idle_ms, policy.warm_idle_ms) = (1, 1);
    let db = rig.open_with_threads();
    db.pause_tiering();
    let docs: Vec<_> = (0..3).map(|n| filled(&db, &format!("c{n}"), 30)).collect();
    let before: Vec<Rows> = docs.iter().map(all).collect();
    let (handles, owner) = (docs.clone(), db.clone());
    let ends = together(4, move |number| -> Result<(), akidb::Error> {
        for _ in 0..10 {
            match handles.get(number) {
                Some(docs) => {
                    told(docs.promote())?;
                    docs.count(None)?;
                    told(docs.demote())?;
                }
                None => assert_eq!(owner.run_tiering()?.failed, 0),
            }
        }
        Ok(())
    });
    assert!(ends.iter().all(Result::is_ok), "{ends:?}");
    assert_eq!(docs.iter().map(all).collect::<Vec<_>>(), before);
    assert_eq!(db.dead_letters().expect("a list"), []);
}

/// Moves, or is told that somebody else did.
fn told(end: akidb::Result<bool>) -> akidb::Result<()> {
    match end {
        Err(error) if error.kind() == ErrorKind::Unavailable => Ok(()),
        other => other.map(drop),
    }
}

#[test]
fn a_dropped_collection_ends_its_move_and_leaves_nothing() {
    let rig = Rig::new();
    let db = rig.open_with_threads();
    for round in 0..10 {
        let docs: Collection = filled(&db, &format!("c{round}"), 20);
        let owner = db.clone();
        let ends = together(2, move |number| match number {
            0 => docs.demote().map(drop).map_err(|error| error.kind()),
            _ => owner.drop_collection(docs.name()).map_err(|error| error.kind()),
        });
        assert_eq!(ends[1], Ok(()));
        assert!(matches!(ends[0], Ok(()) | Err(ErrorKind::NotFound)), "{ends:?}");
    }
    assert_eq!(rig.objects(), 0);
}

#[test]
fn demotions_that_come_at_once_share_their_changes_of_the_bucket() {
    let rig = Rig::of_our_own();
    let db = rig.open_with_threads();
    let docs: Vec<_> = (0..20).map(|n| filled(&db, &format!("c{n}"), 10)).collect();
    let before: Vec<Rows> = docs.iter().map(all).collect();
    let commits = db.stats().bucket.expect("a bucket").commits;
    rig.server.set_latency(Duration::from_millis(40));
    let handles = docs.clone();
    let ends = together(20, move |n| handles[n].demote());
    assert!(ends.iter().all(|end| matches!(end, Ok(true))), "{ends:?}");
    rig.server.set_latency(Duration::ZERO);
    let commits = db.stats().bucket.expect("a bucket").commits - commits;
    assert!((1..20).contains(&commits), "{commits} commits");
    assert_eq!(rig.objects(), 20);
    drop((docs, db));
    let db = rig.open_with_threads();
    let after: Vec<Rows> =
        (0..20).map(|n| all(&db.collection(&format!("c{n}")).expect("it is there"))).collect();
    assert_eq!(after, before);
}

#[test]
fn packs_are_made_emptied_read_written_dropped_and_snapshotted_at_once() {
    let rig = Rig::new();
    let db = rig.open_with_threads();
    db.pause_tiering();
    let names: Vec<_> = (0..8).map(|n| format!("c{n}")).collect();
    let docs: Vec<_> = names.iter().map(|name| filled(&db, name, 20)).collect();
    let (handles, owner, known) = (docs.clone(), db.clone(), names.clone());
    let ends = together(6, move |number| -> Result<(), akidb::Error> {
        let mut rng = fastrand::Rng::with_seed(number as u64);
        for round in 0..12 {
            let docs = &handles[rng.usize(0..handles.len())];
            match number {
                // Some of all, in any order: two that overlap tell each other.
                0 | 1 => {
                    let mut some = known.clone();
                    rng.shuffle(&mut some);
                    some.truncate(6);
                    for end in owner.demote_many(some)? {
                        told(end)?;
                    }
                }
                2 => assert!(docs.count(None)? >= 20),
                3 => drop(docs.upsert([row(1_000 + round)]).run()?),
                4 => {
                    let name = format!("s{round}");
                    assert!(docs.snapshot(&name)?.rows >= 20);
                    if rng.bool() {
                        owner.delete_snapshot(&name)?;
                    }
                }
                _ => {
                    let name = format!("gone{round}");
                    filled(&owner, &name, 5);
                    let ends = owner.demote_many([&*name, &*known[0]])?;
                    ends.into_iter().try_for_each(told)?;
                    owner.drop_collection(&name)?;
                    assert_eq!(owner.run_tiering()?.failed, 0);
                }
            }
        }
        Ok(())
    });
    assert!(ends.iter().all(Result::is_ok), "{ends:?}");
    let rows: Vec<Rows> = docs.iter().map(all).collect();
    for rows in &rows {
        let ids = (0..20_u64).filter(|id| rows.contains_key(&(*id).into())).count();
        assert_eq!(ids, 20);
    }
    assert_eq!(
        rows.iter().map(|rows| rows.len() - 20).sum::<usize>(),
        12,
        "the writer's, once each"
    );
    for snapshot in db.list_snapshots() {
        assert_eq!(db.verify_snapshot(&snapshot.name).expect("it is whole"), snapshot.rows);
        db.delete_snapshot(&snapshot.name).expect("it is listed");
    }
    db.run_tiering().expect("a cycle tidies up");
    let ends = db.demote_many(&names).expect("an open database");
    ends.into_iter().for_each(|end| assert!(end.expect("a demotion")));
    assert_eq!(rig.objects(), 1, "{:?}", rig.keys());
    assert_eq!(docs.iter().map(all).collect::<Vec<_>>(), rows);
    assert_eq!(rig.objects(), 0);
}

#[test]
fn other_collections_are_compacted_while_one_waits_for_its_store() {
    let mut rig = Rig::of_our_own();
    rig.settings.compaction_fanout = 2;
    let held = Arc::new(AtomicBool::new(true));
    let (until, reached) = (held.clone(), Arc::new(AtomicBool::new(false)));
    let there = reached.clone();
    let wait = move |verb| {
        there.fetch_or(verb == Verb::Put, Ordering::SeqCst);
        while verb == Verb::Put && until.load(Ordering::SeqCst) {
            pause(Duration::from_millis(5));
        }
    };
    let store = FaultyStore::new(Arc::new(MemoryStore::new()), 1);
    // The bucket is taken before anything waits.
    held.store(false, Ordering::SeqCst);
    let store = Arc::new(store.with_before_each(wait));
    let db = rig.builder().object_store(store).open_blocking().expect("it opens");
    let (first, second) = (filled(&db, "first", 20), filled(&db, "second", 20));
    held.store(true, Ordering::SeqCst);
    reached.store(false, Ordering::SeqCst);
    let moving = first.clone();
    let demote = move || assert!(moving.demote().expect("a demotion"));
    let demotion = spawn("demoter", demote).expect("a thread");
    let wait_for = |what: &dyn Fn() -> bool| {
        while !what() {
            pause(Duration::from_millis(5));
        }
    };
    wait_for(&|| reached.load(Ordering::SeqCst));
    for round in 0..4 {
        second.upsert([row(100 + round)]).run().expect("a row");
        second.flush().expect("a flush");
    }
    // Two of one row are due. It would wait for ever if the first collection were waited for.
    wait_for(&|| second.stats().segments.len() < 4);
    held.store(false, Ordering::SeqCst);
    demotion.join().expect("no panic");
    assert_eq!(first.tier(), Tier::Cold);
    assert_eq!(all(&second).len(), 24);
}
