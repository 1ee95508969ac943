//! The bucket and the directory: a lost machine, two machines, crashes between the one and the other.

use crate::rig::{HOUR, Rig, all, filled, holds_rows, lose_power_anywhere, row};
use akidb::{
    Cause, DbBuilder, ErrorKind, FieldType, Tier,
    blocking::Db,
    tiering::{MemoryStore, ObjectKey, ObjectStore},
};
use akidb_s3server::{Fault, Strike};
use akidb_tests::world::{World, tiny_settings};
use akidb_vfs::{
    EntryKind, Fs, FsOp, RealFs, read_file,
    sim::{Fault as DiskFault, FaultKind},
    write_file_durably,
};
use std::{collections::BTreeSet, path::Path, sync::Arc, time::Duration};

/// A new machine that has the bucket alone.
fn restored(rig: &Rig, dir: &Path) -> akidb::Result<Db> {
    let builder = DbBuilder::new(dir).settings(rig.settings.clone()).inline();
    let builder = builder.clock(Arc::new(rig.clock.clone()));
    builder.object_store(rig.store()).restore_from_store().open_blocking()
}

fn copy_dir(from: &Path, to: &Path) {
    RealFs.create_dir_all(to).expect("a directory");
    for entry in RealFs.list_dir(from).expect("a listing") {
        let (from, to) = (from.join(&entry.name), to.join(&entry.name));
        if entry.kind == EntryKind::Dir {
            copy_dir(&from, &to);
        } else {
            let bytes = read_file(&RealFs, &from).expect("a file");
            write_file_durably(&RealFs, &to, &bytes).expect("a copy");
        }
    }
}

#[test]
fn after_the_directory_is_lost_the_bucket_alone_answers_as_before() {
    let rig = Rig::new();
    let db = rig.open();
    let docs = filled(&db, "docs", 300);
    docs.set_tier_overrides(Default::default()).expect("overrides");
    let local = filled(&db, "local", 50);
    local.flush().expect("a flush");
    let query = vec![300.0; 16];
    docs.snapshot("friday").expect("a snapshot");
    docs.delete([7_u64]).run().expect("a delete");
    let (rows, hits) = (all(&docs), docs.search(&query).k(9).run().expect("a search"));
    assert!(docs.demote().expect("a demotion"));
    drop((docs, local, db));

    let other = tempfile::tempdir().expect("a directory");
    let db = restored(&rig, other.path()).expect("the bucket is enough");
    let report = db.recovery_report();
    assert!(report.restored);
    assert_eq!(report.restored_partly, ["local"], "its rows were never shipped, and that is said");
    let docs = db.collection("docs").expect("it is there");
    assert_eq!(docs.tier(), Tier::Cold);
    assert_eq!(docs.search(&query).k(9).run().expect("a search"), hits);
    assert_eq!(all(&docs), rows);
    let friday = db.restore_snapshot("friday", "copy").expect("a restore");
    assert_eq!(all(&friday).len(), 300);
    // It is a database like any other from here on.
    docs.upsert([row(7)]).run().expect("a write");
    assert!(docs.demote().expect("a demotion"));
    drop((docs, friday, db));
    let db = restored(&rig, other.path()).expect("a directory that is there is opened as it is");
    assert!(!db.recovery_report().restored);
    assert_eq!(db.collection("docs").expect("it is there").count(None).expect("a read"), 300);
}

#[test]
fn what_is_no_move_reaches_the_bucket_with_the_next_cycle() {
    let rig = Rig::new();
    let db = rig.open();
    filled(&db, "docs", 5).demote().expect("a demotion");
    filled(&db, "gone", 5).demote().expect("a demotion");
    let commits = || db.stats().bucket.expect("a bucket").commits;
    let docs = db.collection("docs").expect("it is there");
    docs.promote().expect("a promotion");
    db.drop_collection("gone").expect("a drop");
    db.run_tiering().expect("a cycle");
    let before = commits();
    db.run_tiering().expect("a cycle");
    assert_eq!(commits(), before, "there is nothing to tell");
    // None of these gives an object up or names one.
    docs.add_field("pos", FieldType::Keyword).expect("a field");
    docs.pin(true).expect("a pin");
    filled(&db, "new", 5).flush().expect("a flush");
    db.run_tiering().expect("a cycle");
    assert_eq!(commits(), before + 1);
    let other = tempfile::tempdir().expect("a directory");
    let db = restored(&rig, other.path()).expect("the bucket is enough");
    let docs = db.collection("docs").expect("it is there");
    assert!(docs.stats().pinned && docs.schema().fields.len() == 1);
    assert_eq!(db.recovery_report().restored_partly, ["docs", "new"], "what is local alone");
    assert!(db.collection("gone").is_err());
}

#[test]
fn of_two_machines_at_one_bucket_one_survives_and_the_other_is_told() {
    let rig = Rig::new();
    let first = rig.open();
    let docs = filled(&first, "docs", 20);
    assert!(docs.demote().expect("a demotion"));
    let other = tempfile::tempdir().expect("a directory");
    let second = restored(&rig, other.path()).expect("it takes over");
    let bucket = second.stats().bucket.expect("a bucket");
    assert_eq!((bucket.epoch, bucket.fenced_safely), (2, rig.fences_safely()));
    let taken = second.collection("docs").expect("it is there");
    taken.upsert([row(100)]).run().expect("a write");

    // The first learns of it with the next change of the bucket, and acknowledges nothing after.
    docs.upsert([row(200)]).run().expect("nobody told it yet");
    let error = docs.snapshot("late").map(drop).expect_err("it is not the writer any more");
    let told = |error: &akidb::Error| error.to_string().contains("taken over");
    assert!(told(&error), "{error}");
    let error = docs.upsert([row(201)]).run().map(drop).expect_err("fenced");
    assert_eq!(error.kind(), ErrorKind::Reopen, "{error}");
    drop((docs, first));
    let error = rig.builder().inline().object_store(rig.store()).open_blocking();
    let error = error.map(drop).expect_err("nor by a new open");
    assert!(matches!(error.cause(), Cause::Fenced { .. }), "{error:?}");
    assert_eq!(error.kind(), ErrorKind::Locked);

    assert!(taken.demote().expect("the survivor goes on"));
    assert_eq!(all(&taken).len(), 21);
}

#[test]
fn a_machine_that_does_nothing_learns_by_its_next_cycle_that_it_was_taken_over() {
    let rig = Rig::new();
    let first = rig.open();
    let docs = filled(&first, "docs", 5);
    assert!(docs.demote().expect("a demotion"));
    let other = tempfile::tempdir().expect("a directory");
    let _second = restored(&rig, other.path()).expect("it takes over");
    rig.clock.advance(HOUR);
    first.run_tiering().expect("a cycle");
    let stats = first.stats();
    assert!(stats.poisoned.is_some_and(|why| why.contains("taken over")));
    assert!(docs.upsert([row(9)]).run().is_err());
}

#[test]
fn of_two_copies_of_a_directory_the_second_to_open_is_refused() {
    let rig = Rig::new();
    let db = rig.open();
    let docs = filled(&db, "docs", 5);
    assert!(docs.demote().expect("a demotion"));
    drop((docs, db));
    let copy = tempfile::tempdir().expect("a directory");
    copy_dir(rig.dir.path(), copy.path());
    let db = rig.open();
    let open = DbBuilder::new(copy.path()).inline().object_store(rig.store()).open_blocking();
    let error = open.map(drop).expect_err("the original has opened since");
    assert!(matches!(error.cause(), Cause::Fenced { .. }), "{error:?}");
    assert_eq!(db.collection("docs").expect("it is there").count(None).expect("a read"), 5);
}

#[test]
fn a_bucket_of_another_database_or_with_foreign_or_cut_bytes_is_refused() {
    let rig = Rig::new();
    drop(rig.open());
    let other = tempfile::tempdir().expect("a directory");
    let open = |restoring: bool| {
        let builder = DbBuilder::new(other.path()).inline().object_store(rig.store());
        let builder = if restoring { builder.restore_from_store() } else { builder };
        builder.open_blocking().map(drop).expect_err("not ours")
    };
    let error = open(false);
    assert!(matches!(error.cause(), Cause::ForeignBucket { .. }), "{error:?}");
    assert_eq!(error.kind(), ErrorKind::Incompatible);

    let key = ObjectKey::new("manifest").expect("a key");
    let store = rig.bucket();
    let put = |body: Vec<u8>| {
        futures_lite::future::block_on(store.put(&key, body.into(), Default::default()))
            .expect("a put");
    };
    let good = futures_lite::future::block_on(store.get(&key)).expect("it is there").body.to_vec();
    put(b"somebody's notes".to_vec());
    let other = tempfile::tempdir().expect("a directory");
    let restore = || restored(&rig, other.path()).map(drop).expect_err("not a manifest");
    assert!(matches!(restore().kind(), ErrorKind::Incompatible | ErrorKind::Corruption));
    put(good[..good.len() - 3].to_vec());
    assert_eq!(restore().kind(), ErrorKind::Corruption);
    put(good);
    let rig = Rig::new();
    let error = restored(&rig, tempfile::tempdir().expect("a directory").path()).map(drop);
    assert_eq!(error.expect_err("an empty bucket").kind(), ErrorKind::NotFound);
}

#[test]
fn a_bucket_can_be_read_beside_its_writer_and_tells_when_it_has_moved_on() {
    let rig = Rig::new();
    let db = rig.open();
    let docs = filled(&db, "docs", 30);
    assert!(docs.demote().expect("a demotion"));
    let dir = tempfile::tempdir().expect("a directory");
    let place = dir.path().join("nothing-is-written-here");
    let open = || {
        let builder = DbBuilder::new(&place).object_store(rig.store()).restore_from_store();
        builder.read_only().open_blocking().expect("it opens")
    };
    let reader = open();
    assert_eq!(reader.collection("docs").expect("it is there").count(None).expect("a read"), 30);
    assert!(!reader.is_outdated().expect("a look"));
    let refused = reader.drop_collection("docs").expect_err("it is only read");
    assert_eq!(refused.kind(), ErrorKind::PermissionDenied);
    docs.upsert([row(1_000)]).run().expect("a write");
    assert!(docs.demote().expect("a demotion"));
    assert!(reader.is_outdated().expect("a look"));
    assert_eq!(open().collection("docs").expect("it is there").count(None).expect("a read"), 31);
    assert!(RealFs.metadata(&place).is_err_and(|error| error.is_not_found()));
    assert_eq!(db.stats().poisoned, None, "the writer was not disturbed");
}

#[test]
fn a_store_that_is_down_at_the_open_delays_moves_and_nothing_else() {
    let rig = Rig::of_our_own();
    let db = rig.open();
    let docs = filled(&db, "docs", 10);
    drop((docs, db));
    let store = rig.store();
    rig.server.fail(Strike::always(), Fault::status(503, "SlowDown"));
    let builder = rig.builder().clock(Arc::new(rig.clock.clone())).inline();
    let db = builder.object_store(store).open_blocking().expect("local work needs no bucket");
    let docs = db.collection("docs").expect("it is there");
    docs.upsert([row(50)]).run().expect("a write");
    assert_eq!(docs.demote().map(drop).expect_err("no bucket").kind(), ErrorKind::Unavailable);
    assert_eq!(all(&docs).len(), 11);
    rig.server.heal();
    rig.clock.advance(Duration::from_secs(120));
    assert!(docs.demote().expect("there it is"));
}

/// A simulated machine with a bucket in memory.
fn world(seed: u64) -> (World, Arc<MemoryStore>) {
    let store = Arc::new(MemoryStore::new());
    let mut world = World::new(seed, tiny_settings());
    world.store = Some(store.clone());
    (world, store)
}

fn objects(store: &MemoryStore) -> usize {
    let page = futures_lite::future::block_on(store.list("", None, 1_000)).expect("a listing");
    page.objects.iter().filter(|object| holds_rows(object.key.as_str())).count()
}

/// Loses power anywhere in `work`: every row is there, once, and nothing is left in the bucket that nobody
/// names.
fn crash_everywhere(work: impl Fn(&Db) -> akidb::Result<()>) {
    let prepare = |nth| {
        let (world, store) = world(nth);
        let db = world.open().expect("an empty disk opens");
        let docs = filled(&db, "docs", 40);
        docs.flush().expect("a flush");
        docs.delete([3_u64]).run().expect("a delete");
        let before = all(&docs);
        (world, db, (store, before))
    };
    lose_power_anywhere(4, prepare, work, |db, (store, before), _, nth| {
        db.run_tiering().expect("a cycle tidies up");
        let docs = db.collection("docs").expect("it is there");
        let snapshots = db.list_snapshots().into_iter().map(|snapshot| snapshot.object);
        let cold = docs.stats().cold.into_iter().map(|object| object.key);
        let named: BTreeSet<_> = snapshots.chain(cold).collect();
        assert_eq!(objects(&store), named.len(), "call {nth}");
        assert_eq!(all(&docs), before, "call {nth}");
        assert_eq!(objects(&store), db.list_snapshots().len(), "call {nth}: {:?}", db.stats());
    });
}

#[test]
fn power_lost_anywhere_in_a_demotion_loses_and_leaves_nothing() {
    crash_everywhere(|db| db.collection("docs")?.demote().map(drop));
}

#[test]
fn power_lost_anywhere_in_a_round_trip_loses_and_leaves_nothing() {
    crash_everywhere(|db| {
        let docs = db.collection("docs")?;
        docs.demote()?;
        docs.snapshot("s")?;
        docs.promote()?;
        docs.snapshot("t").map(drop)
    });
}

#[test]
fn power_lost_anywhere_in_a_cycle_of_the_worker_loses_and_leaves_nothing() {
    crash_in_a_cycle(false, 9);
    crash_in_a_cycle(true, 4);
}

/// Loses power at every call of a cycle, of which there are more than `calls_min`.
fn crash_in_a_cycle(packs: bool, calls_min: u64) {
    let names: Vec<_> = (0..3).map(|n| format!("c{n}")).collect();
    let prepare = |nth| {
        let (mut world, store) = world(1_000 + nth);
        world.settings.tiers.packs.enabled = packs;
        let db = world.open().expect("an empty disk opens");
        let before: Vec<_> = names.iter().map(|name| all(&filled(&db, name, 10))).collect();
        for name in &names {
            let docs = db.collection(name).expect("it is there");
            docs.move_to(Tier::Warm).expect("a move");
        }
        world.clock.advance(HOUR * 24 * 8);
        (world, db, (store, before))
    };
    let cycle = |db: &Db| db.run_tiering().map(drop);
    lose_power_anywhere(calls_min, prepare, cycle, |db, (store, before), _, nth| {
        db.run_tiering().expect("the next cycle decides anew");
        let docs: Vec<_> = names.iter().map(|name| db.collection(name).expect("there")).collect();
        let cold = docs.iter().flat_map(|docs| docs.stats().cold);
        let named: BTreeSet<_> = cold.map(|object| object.key).collect();
        assert_eq!(objects(&store), named.len(), "call {nth}");
        assert_eq!(docs.iter().map(all).collect::<Vec<_>>(), before, "call {nth}");
    });
}

#[test]
fn a_demotion_that_fails_behind_the_bucket_is_undone_there() {
    let (world, store) = world(5);
    let db = world.open().expect("an empty disk opens");
    let docs = filled(&db, "docs", 40);
    docs.flush().expect("a flush");
    let before = all(&docs);
    let commits = || db.stats().bucket.expect("a bucket").commits;
    // It strikes when the manifest is full and goes on in a new file: no record is written then, and
    // the database lives on.
    let full = DiskFault::new(FaultKind::NoSpace).on(FsOp::Allocate).path("MANIFEST").sticky();
    let mut undone = 0;
    for round in 0..1_000 {
        let commits_before = commits();
        world.sim.inject(full.clone());
        let done = docs.demote();
        world.sim.clear_faults();
        let Err(error) = done else {
            assert!(docs.promote().expect("it comes back"), "round {round}");
            continue;
        };
        assert_eq!(error.kind(), ErrorKind::NoSpace, "round {round}: {error}");
        assert_eq!(db.stats().poisoned, None, "round {round}");
        // Without a commit it failed before the bucket was told, and there is nothing to undo.
        undone += u32::from(commits() > commits_before);
        assert_eq!((docs.tier(), all(&docs)), (Tier::Warm, before.clone()), "round {round}");
        db.run_tiering().expect("a cycle");
        assert_eq!(objects(&store), 0, "round {round}");
        if undone == 2 {
            return;
        }
    }
    panic!("{undone} demotions failed behind the bucket");
}

#[test]
fn whichever_write_of_a_demotion_fails_the_next_open_has_every_row_and_one_object_at_most() {
    let mut poisoned = 0;
    for nth in 1.. {
        let (world, store) = world(2_000 + nth);
        let db = world.open().expect("an empty disk opens");
        let docs = filled(&db, "docs", 40);
        docs.flush().expect("a flush");
        let before = all(&docs);
        world.sim.inject(DiskFault::new(FaultKind::NoSpace).on(FsOp::Write).nth(nth));
        let done = docs.demote();
        world.sim.clear_faults();
        poisoned += u32::from(db.stats().poisoned.is_some());
        drop((docs, db));
        let db = world.open().unwrap_or_else(|error| panic!("write {nth}: {error:?}"));
        db.run_tiering().expect("a cycle tidies up");
        let docs = db.collection("docs").expect("it is there");
        // The record of which nobody knew whether it was there decides.
        assert_eq!(objects(&store), usize::from(docs.tier() == Tier::Cold), "write {nth}");
        assert_eq!(all(&docs), before, "write {nth}");
        if done.is_ok() {
            assert!(nth > 1 && poisoned > 0, "no write of it failed");
            return;
        }
    }
}
