//! What each durability level promises and reports (D1, D2, D5), what happens after a failed write
//! or sync (D6), that no clock matters (D11), and that a dropped future tears nothing (D4).

use akidb::{
    Durability, ErrorKind, Point,
    blocking::{Collection, Db},
};
use akidb_tests::{
    ops::plain_schema,
    run::scan_all,
    world::{World, tiny_settings},
};
use akidb_vfs::{
    Clock, FsOp,
    sim::{CrashPolicy, Fault, FaultKind},
};
use std::{
    future::IntoFuture,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Waker},
    time::Duration,
};

const INTERVAL: Durability = Durability::Interval { ms: 50 };

fn row(n: u64, version: u64) -> Point {
    Point::new(n, vec![n as f32, version as f32, 2.0, 3.0])
}

/// A world whose database has one collection and big buffers: only the log is at work.
fn quiet() -> (World, Db, Collection) {
    let mut settings = tiny_settings();
    settings.memtable_bytes = 1 << 20;
    settings.memtable_pool_bytes = 4 << 20;
    settings.wal_file_bytes = 64 << 10;
    settings.wal_bytes_max = 1 << 20;
    let world = World::new(11, settings);
    let db = world.open().expect("an empty disk opens");
    let docs = db.create_collection("docs", plain_schema()).expect("a new name");
    (world, db, docs)
}

fn count_after_crash(world: &World, policy: CrashPolicy) -> u64 {
    world.sim.crash(policy);
    let db = world.open().expect("it recovers");
    db.collection("docs").and_then(|docs| docs.count(None)).expect("a count")
}

#[test]
fn d1_a_synced_write_survives_the_strictest_power_loss_with_all_before_it() {
    let (world, _db, docs) = quiet();
    for n in 0..5 {
        docs.upsert([row(n, 1)]).durability(Durability::Memory).run().expect("a write");
    }
    let receipt = docs.upsert([row(5, 1)]).run().expect("a synced write");
    assert_eq!(receipt.durability, Durability::Sync);
    assert_eq!(count_after_crash(&world, CrashPolicy::DropAll), 6);
}

#[test]
fn d1_no_receipt_says_synced_before_the_disk_has_it() {
    let (world, db, docs) = quiet();
    for n in 0..20 {
        let asked = [Durability::Sync, INTERVAL, Durability::Memory][n as usize % 3];
        let receipt = docs.upsert([row(n, 1)]).durability(asked).run().expect("a write");
        let durable = db.stats().durable_lsn;
        assert_eq!(receipt.durability == Durability::Sync, durable >= receipt.lsn, "{receipt:?}");
        // The claim, tried: the strictest crash keeps exactly what was said to be durable.
        let fork = world.fork(n);
        fork.sim.crash(CrashPolicy::DropAll);
        let reopened = fork.open().expect("it recovers");
        assert!(reopened.recovery_report().last_lsn >= durable, "{receipt:?}");
    }
}

#[test]
fn d2_interval_survives_a_kill_and_a_power_loss_takes_only_what_came_since_the_last_sync() {
    let (world, _db, docs) = quiet();
    docs.upsert([row(1, 1)]).run().expect("synced");
    let receipt = docs.upsert([row(2, 1)]).durability(INTERVAL).run().expect("a write");
    assert_eq!(receipt.durability, INTERVAL, "the receipt says what was reached");
    let fork = world.fork(1);
    assert_eq!(count_after_crash(&fork, CrashPolicy::DropAll), 1);
    world.sim.kill();
    let db = world.open().expect("it recovers");
    let docs = db.collection("docs").expect("it is there");
    assert_eq!(docs.count(None).expect("a count"), 2);
    // Recovery synced what it found: from here on a power loss cannot take it either.
    assert_eq!(count_after_crash(&world, CrashPolicy::DropAll), 2);
}

#[test]
fn d2_an_interval_write_is_synced_when_its_time_is_over() {
    let (world, db, docs) = quiet();
    let first = docs.upsert([row(1, 1)]).durability(INTERVAL).run().expect("a write");
    world.clock.advance(Duration::from_millis(49));
    docs.upsert([row(2, 1)]).durability(Durability::Memory).run().expect("a write");
    assert!(db.stats().durable_lsn < first.lsn, "it is not due yet");
    world.clock.advance(Duration::from_millis(2));
    docs.upsert([row(3, 1)]).durability(Durability::Memory).run().expect("a write");
    assert!(db.stats().durable_lsn >= first.lsn, "50 ms are over: {:?}", db.stats());
    assert!(count_after_crash(&world, CrashPolicy::DropAll) >= 2);
}

#[test]
fn d2_memory_promises_nothing_and_the_receipt_says_so() {
    let (world, _db, docs) = quiet();
    let receipt = docs.upsert([row(1, 1)]).durability(Durability::Memory).run().expect("a write");
    assert_eq!(receipt.durability, Durability::Memory);
    assert_eq!(docs.count(None).expect("a count"), 1, "but it is searchable at once");
    assert_eq!(count_after_crash(&world, CrashPolicy::DropAll), 0);
}

#[test]
fn d2_the_level_of_the_database_holds_where_a_write_names_none() {
    let mut settings = tiny_settings();
    settings.durability = INTERVAL;
    let world = World::new(12, settings);
    let db = world.open().expect("an empty disk opens");
    let docs = db.create_collection("docs", plain_schema()).expect("a new name");
    assert_eq!(docs.upsert([row(1, 1)]).run().expect("a write").durability, INTERVAL);
    let stronger = docs.upsert([row(2, 1)]).durability(Durability::Sync).run().expect("a write");
    assert_eq!(stronger.durability, Durability::Sync);
}

#[test]
fn d5_a_failed_write_is_whole_or_absent_and_may_be_repeated() {
    for nth in 1..6 {
        for (kind, policy) in [
            (FaultKind::Eio, CrashPolicy::KeepAll),
            (FaultKind::SyncFailsCacheKept, CrashPolicy::KeepAll),
            (FaultKind::SyncFailsCacheDropped, CrashPolicy::Random),
        ] {
            let (world, _db, docs) = quiet();
            docs.upsert([row(0, 1)]).run().expect("a write");
            world.sim.inject(Fault::new(kind).path("/wal/").nth(nth));
            let batch = || (0..30).map(|n| row(n, 2));
            let failed = (0..4).any(|_| docs.upsert(batch()).run().is_err());
            assert!(failed || nth > 2, "fault {nth} never fires");
            world.sim.clear_faults();
            world.sim.crash(policy);
            let db = world.open().expect("it recovers");
            let docs = db.collection("docs").expect("it is there");
            let found = docs.count(None).expect("a count");
            assert!(found == 1 || found == 30, "{found} rows of a batch of 30 after {kind:?}");
            docs.upsert(batch()).run().expect("repeating is safe");
            assert_eq!(docs.count(None).expect("a count"), 30);
        }
    }
}

/// A fault on files like `path` while `work` runs poisons; then D6 in all its parts.
fn poisons(fault: &Fault, work: impl Fn(&Db, &Collection) -> akidb::Result<()>) {
    let (world, db, docs) = quiet();
    docs.upsert((0..4).map(|n| row(n, 1))).run().expect("rows");
    docs.flush().expect("a flush");
    docs.delete([3_u64]).run().expect("a delete");
    let before = scan_all(&docs, 10).expect("a scan");
    world.sim.inject(fault.clone());
    work(&db, &docs).expect_err("the disk failed under it");
    world.sim.clear_faults();
    assert!(db.stats().poisoned.is_some(), "{fault:?} must poison: {:?}", db.stats());

    let refused = [
        docs.upsert([row(9, 1)]).run().map(drop),
        docs.delete([1_u64]).run().map(drop),
        docs.flush(),
        docs.demote().map(drop),
        db.create_collection("new", plain_schema()).map(drop),
        db.drop_collection("docs"),
    ];
    for error in refused.map(|result| result.expect_err("poisoned")) {
        assert_eq!(error.kind(), ErrorKind::Reopen, "after {fault:?}: {error:?}");
    }
    assert_eq!(scan_all(&docs, 10).expect("reads go on"), before, "after {fault:?}");
    assert_eq!(docs.search(&[1.0; 4]).k(3).run().expect("reads go on").len(), 3);

    drop((docs, db));
    world.sim.crash(CrashPolicy::Random);
    let db = world.open().expect("reopening recovers");
    let docs = db.collection("docs").expect("it is there");
    for (id, row) in before {
        let found = docs.get([id.clone()]).expect("a read").remove(0);
        assert_eq!(found.map(|f| f.vector), Some(row.vector), "row {id} after {fault:?}");
    }
    assert_eq!(docs.get([3_u64]).expect("a read"), [None], "a delete came back");
    docs.upsert([row(9, 1)]).run().expect("writes go on after reopening");
}

#[test]
fn d6_a_failed_write_of_the_log_poisons_and_a_reopen_recovers() {
    let fault = Fault::new(FaultKind::Eio).on(FsOp::Write).path("/wal/");
    poisons(&fault, |_, docs| docs.upsert([row(3, 2)]).run().map(drop));
}

#[test]
fn d6_a_failed_sync_of_the_log_poisons_and_a_reopen_recovers() {
    for kind in [FaultKind::SyncFailsCacheKept, FaultKind::SyncFailsCacheDropped] {
        let fault = Fault::new(kind).path("/wal/");
        // Another id than the deleted one: it may exist or not afterwards.
        poisons(&fault, |_, docs| docs.upsert([row(8, 2)]).run().map(drop));
    }
}

#[test]
fn d6_a_failed_write_or_sync_of_the_manifest_poisons_and_a_reopen_recovers() {
    for kind in [FaultKind::Eio, FaultKind::SyncFailsCacheKept, FaultKind::SyncFailsCacheDropped] {
        let fault = Fault::new(kind).path("MANIFEST-");
        poisons(&fault, |db, _| db.create_collection("new", plain_schema()).map(drop));
        poisons(&fault, |_, docs| docs.flush());
        poisons(&fault, |_, docs| docs.compact());
        poisons(&fault, |_, docs| docs.demote().map(drop));
        poisons(&fault, |_, docs| docs.pin(true));
    }
}

#[test]
fn d6_after_a_failed_sync_an_interval_write_is_not_acknowledged_again_by_luck() {
    let (world, db, docs) = quiet();
    docs.upsert([row(1, 1)]).durability(INTERVAL).run().expect("a write");
    world.sim.inject(Fault::new(FaultKind::SyncFailsCacheDropped).path("/wal/"));
    docs.upsert([row(2, 1)]).run().expect_err("its sync fails");
    // Retrying the sync would succeed and lie: the pages are clean, the bytes are gone.
    docs.upsert([row(3, 1)]).run().expect_err("no second chance on the same file");
    let claimed = db.stats().durable_lsn;
    world.sim.crash(CrashPolicy::DropAll);
    let db = world.open().expect("it recovers");
    assert!(db.recovery_report().last_lsn >= claimed);
}

#[test]
fn a_failed_segment_write_is_no_reason_to_stop() {
    let (world, db, docs) = quiet();
    docs.upsert((0..4).map(|n| row(n, 1))).run().expect("rows");
    for op in [FsOp::Create, FsOp::Write, FsOp::SyncAll, FsOp::Rename] {
        world.sim.inject(Fault::new(FaultKind::Eio).on(op).path("segments"));
        docs.upsert([row(2, 2)]).run().expect("something to flush");
        let failed = docs.flush();
        world.sim.clear_faults();
        assert_eq!(db.stats().poisoned, None, "{op:?}: {failed:?}");
        assert_eq!(docs.count(None).expect("reads go on"), 4);
        docs.upsert([row(1, 2)]).run().expect("writes go on");
        docs.flush().expect("the next try succeeds");
        assert_eq!(docs.count(None).expect("a count"), 4);
    }
    assert!(world.sim.fired().values().sum::<u64>() >= 3, "{:?}", world.sim.fired());
}

/// A clock that jumps: forward by hours, and back, as a broken machine's does.
#[derive(Debug, Default)]
struct WildClock(AtomicU64);

impl Clock for WildClock {
    fn monotonic(&self) -> Duration {
        let tick = self.0.fetch_add(1, Ordering::Relaxed);
        Duration::from_secs(tick.wrapping_mul(2_654_435_761) % 1_000_000)
    }

    fn unix_ms(&self) -> u64 {
        self.0.fetch_add(1, Ordering::Relaxed).wrapping_mul(6_364_136_223_846_793_005)
    }
}

#[test]
fn d11_a_clock_that_jumps_back_and_forth_changes_no_answer() {
    let world = World::new(13, tiny_settings());
    let tame = World::new(13, tiny_settings());
    let wild_clock = Arc::new(WildClock::default());
    let live = |db: &Db, round: u64| -> akidb::Result<_> {
        let docs = match db.collection("docs") {
            Ok(docs) => docs,
            Err(_) => db.create_collection("docs", plain_schema())?,
        };
        for n in 0..40 {
            docs.upsert([row(n * round % 23, round)]).run()?;
            docs.delete([n % 7]).durability(INTERVAL).run()?;
        }
        docs.demote()?;
        docs.upsert([row(100 + round, round)]).run()?;
        Ok(scan_all(&docs, 10).expect("a scan"))
    };
    for round in 1..5 {
        let wild =
            world.builder().inline().clock(wild_clock.clone()).open_blocking().expect("it opens");
        let calm = tame.open().expect("it opens");
        assert_eq!(live(&wild, round).expect("a life"), live(&calm, round).expect("a life"));
        world.sim.crash(CrashPolicy::DropAll);
        tame.sim.crash(CrashPolicy::DropAll);
    }
}

#[test]
fn d4_a_dropped_future_never_tears_its_batch() {
    let dir = tempfile::tempdir().expect("a directory");
    let db = futures_lite::future::block_on(akidb::Db::open(dir.path())).expect("it opens");
    let schema = plain_schema();
    let docs =
        futures_lite::future::block_on(db.create_collection("docs", schema)).expect("a new name");
    for batch in 0..60_u64 {
        let rows = (0..20).map(|n| row(batch * 100 + n, batch));
        let mut write = docs.upsert(rows).into_future();
        if batch % 3 > 0 {
            // Polled once: queued. Not polled: nothing happens.
            let _ = write.as_mut().poll(&mut Context::from_waker(Waker::noop()));
        }
        drop(write);
    }
    // A write behind them all has them all before it.
    futures_lite::future::block_on(docs.upsert([row(1_000_000, 1)]).into_future())
        .expect("a write");
    let check = |docs: &Collection, wanted: &[u64]| {
        for batch in 0..60_u64 {
            let ids = (0..20).map(|n| batch * 100 + n);
            let found = docs.get(ids).expect("a read").iter().flatten().count() as u64;
            assert!(wanted.contains(&found), "{found} rows of batch {batch}");
            let queued = batch % 3 > 0;
            assert_eq!(found, if queued { 20 } else { 0 }, "batch {batch}, queued: {queued}");
        }
    };
    futures_lite::future::block_on(db.close()).expect("it closes");
    let db = Db::open(dir.path()).expect("it opens");
    check(&db.collection("docs").expect("it is there"), &[0, 20]);
}
