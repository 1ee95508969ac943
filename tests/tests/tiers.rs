//! Moves between the tiers when the object store misbehaves: rows stay where they were until the
//! object is verified and named (D10), and damage in an object is an error that names it (D8).

use akidb::{
    Cause, ErrorKind, Point,
    blocking::{Collection, Db},
};
use akidb_tests::{
    fault_store::{FaultStore, Mischief},
    ops::plain_schema,
    run::scan_all,
    world::{PIECE_BYTES, World, tiny_settings},
};
use akidb_vfs::sim::CrashPolicy;
use std::sync::Arc;

fn row(n: u64) -> Point {
    Point::new(n, vec![n as f32, 1.0, 2.0, 3.0])
}

fn fixture() -> (World, Arc<FaultStore>, Db, Collection) {
    fixture_reading(tiny_settings().tiers.read_bytes)
}

/// The same, where objects longer than this are read in pieces.
fn fixture_reading(read_bytes: u64) -> (World, Arc<FaultStore>, Db, Collection) {
    let store = Arc::new(FaultStore::default());
    let mut settings = tiny_settings();
    settings.tiers.read_bytes = read_bytes;
    let mut world = World::new(21, settings);
    world.store = Some(store.clone());
    let db = world.open().expect("an empty disk opens");
    let docs = db.create_collection("docs", plain_schema()).expect("a new name");
    docs.upsert((0..9).map(row)).run().expect("rows");
    docs.flush().expect("a flush");
    docs.delete([4_u64]).run().expect("a delete");
    (world, store, db, docs)
}

#[test]
fn d10_an_object_that_is_not_what_was_put_never_replaces_local_files() {
    for mischief in [
        Mischief::PutKeepsOtherBytes,
        Mischief::PutKeepsHalf,
        Mischief::PutFails,
        Mischief::HeadFails,
    ] {
        let (world, store, db, docs) = fixture();
        let before = scan_all(&docs, 5).expect("a scan");
        store.set(mischief);
        let error = docs.demote().expect_err("the object cannot be trusted");
        let kinds = [ErrorKind::Corruption, ErrorKind::Unavailable];
        assert!(kinds.contains(&error.kind()), "{mischief:?}: {error:?}");
        assert_eq!(db.stats().poisoned, None, "{mischief:?}");
        assert_eq!(docs.stats().tier, "hot", "{mischief:?}");
        assert_eq!(scan_all(&docs, 5).expect("a scan"), before, "{mischief:?}");

        // A store that garbles what it is handed would garble the manifest of the bucket too.
        store.set(Mischief::None);
        world.sim.crash(CrashPolicy::DropAll);
        let db = world.open().expect("it recovers");
        let docs = db.collection("docs").expect("it is there");
        assert_eq!(scan_all(&docs, 5).expect("a scan"), before, "{mischief:?}");
        assert!(docs.demote().expect("the next try"), "{mischief:?}");
        assert_eq!(docs.stats().tier, "cold");
        assert_eq!(scan_all(&docs, 5).expect("a scan"), before, "{mischief:?}");
    }
}

#[test]
fn d10_an_answer_that_is_lost_is_no_failure_where_the_object_is_what_was_put() {
    let (_world, store, _db, docs) = fixture();
    let before = scan_all(&docs, 5).expect("a scan");
    store.arm(Mischief::PutAnswerLost, 1, false);
    assert!(docs.demote().expect("it was looked at"));
    assert_eq!((store.fired(), store.objects(), docs.stats().tier), (1, 1, "cold"));
    assert_eq!(scan_all(&docs, 5).expect("a scan"), before);
}

#[test]
fn d8_an_object_that_is_damaged_or_gone_is_named_and_nothing_is_lost() {
    let mischiefs = [
        (Mischief::GetReturnsOtherBytes, ErrorKind::Corruption),
        (Mischief::GetFindsNothing, ErrorKind::Corruption),
        (Mischief::GetFails, ErrorKind::Unavailable),
    ];
    for (read_bytes, (mischief, kind)) in
        [PIECE_BYTES, 1 << 20].into_iter().flat_map(|bytes| mischiefs.map(|one| (bytes, one)))
    {
        let (world, store, db, docs) = fixture_reading(read_bytes);
        let before = scan_all(&docs, 5).expect("a scan");
        docs.snapshot("s").map(drop).expect("a snapshot");
        assert!(docs.demote().expect("a demotion"));
        store.set(mischief);
        let (key, bytes) = (docs.stats().cold[0].key.clone(), docs.stats().cold[0].bytes);
        assert_eq!(bytes > read_bytes, read_bytes == PIECE_BYTES, "{bytes} bytes");
        let files = world.files_with("/segments/");
        for error in [
            docs.promote().map(drop).expect_err("no object"),
            docs.search(&[1.0; 4]).run().map(drop).expect_err("no object"),
            docs.get([1_u64]).map(drop).expect_err("no object"),
            docs.count(None).map(drop).expect_err("no object"),
            docs.insert([row(50)]).run().map(drop).expect_err("no object to look the id up in"),
        ] {
            assert_eq!(error.kind(), kind, "{mischief:?}: {error:?}");
            assert!(error.to_string().contains(&key), "{error}");
        }
        let error = db.restore_snapshot("s", "copy").map(drop).expect_err("no object");
        assert_eq!(error.kind(), kind, "{mischief:?}: {error:?}");
        assert_eq!(db.list_collections().expect("a list"), ["docs"], "half a restore is left");
        assert_eq!(docs.stats().tier, "cold");
        assert_eq!(world.files_with("/segments/"), files, "a half segment is left");
        // Upserts and deletes need no old rows.
        docs.upsert([row(60)]).run().expect("a write");
        docs.delete([60_u64]).run().expect("a delete");
        store.set(Mischief::None);
        assert_eq!(scan_all(&docs, 5).expect("a scan"), before, "{mischief:?}");
    }
}

#[test]
fn a_byte_that_changed_on_its_way_is_read_again_and_nobody_sees_it() {
    let (world, store, db, docs) = fixture_reading(PIECE_BYTES);
    docs.upsert((10..300).map(row)).run().expect("rows for some pieces");
    let before = scan_all(&docs, 50).expect("a scan");
    docs.snapshot("s").map(drop).expect("a snapshot");
    db.copy_snapshot("s", &*store, "copies/s.parquet").expect("a copy");
    // One answer after the other, the end of the object first, until there is none so late.
    for nth in 1.. {
        assert!(docs.demote().expect("a demotion"));
        let fired = store.fired();
        let spoil = || store.arm(Mischief::GetReturnsOtherBytes, nth, false);
        spoil();
        assert_eq!(db.verify_snapshot("s").expect("the second read is whole"), 298);
        spoil();
        assert!(docs.promote().expect("the second read is whole"), "answer {nth}");
        assert_eq!(scan_all(&docs, 50).expect("a scan"), before, "answer {nth}");
        spoil();
        let copy = db.restore_copy(&*store, "copies/s.parquet", "copy").expect("as well");
        assert_eq!(copy.count(None).expect("a count"), 298, "answer {nth}");
        store.set(Mischief::None);
        db.drop_collection("copy").expect("it is there");
        if store.fired() == fired {
            assert!(nth > 5, "{nth} answers are few pieces");
            break;
        }
        assert!(store.fired() == fired + 3 || nth > 5, "answer {nth}");
    }
    store.set(Mischief::GetReturnsOtherBytes);
    let error = db.restore_copy(&*store, "copies/s.parquet", "copy").map(drop);
    assert_eq!(error.expect_err("damaged").kind(), ErrorKind::Corruption);
    assert_eq!(db.list_collections().expect("a list"), ["docs"], "half a restore is left");
    store.set(Mischief::None);
    drop((docs, db));
    let docs = world.open().expect("it opens").collection("docs").expect("it is there");
    assert_eq!(scan_all(&docs, 50).expect("a scan"), before);
}

#[test]
fn d10_objects_that_nothing_names_are_deleted_in_the_end() {
    let (world, store, db, docs) = fixture();
    assert!(docs.demote().expect("a demotion"));
    assert_eq!(store.objects(), 1);
    store.set(Mischief::DeleteFails);
    assert!(docs.promote().expect("a promotion does not wait for the garbage"));
    assert_eq!(store.objects(), 1);
    store.set(Mischief::None);
    drop((docs, db));
    let db = world.open().expect("it opens");
    assert_eq!(store.objects(), 0, "the garbage is remembered across a restart");
    let docs = db.collection("docs").expect("it is there");
    assert!(docs.demote().expect("a demotion"));
    db.drop_collection("docs").expect("it is there");
    assert_eq!(store.objects(), 0, "a dropped collection leaves nothing in the store");
}

#[test]
fn d10_rows_written_while_cold_hide_the_objects_rows_for_ever() {
    let (world, _store, db, docs) = fixture();
    assert!(docs.demote().expect("a demotion"));
    docs.upsert([Point::new(1_u64, vec![7.0; 4])]).run().expect("an upsert");
    docs.delete([2_u64]).run().expect("a delete");
    docs.upsert([row(3)]).run().expect("an upsert");
    docs.delete([3_u64]).run().expect("a delete");
    docs.flush().expect("a flush");
    docs.compact().expect("a compaction must keep the deletes");
    assert_eq!(docs.stats().tier, "cold", "none of this needs the object");
    drop((docs, db));
    world.sim.crash(CrashPolicy::DropAll);
    let db = world.open().expect("it recovers");
    let docs = db.collection("docs").expect("it is there");
    let rows = scan_all(&docs, 5).expect("a scan promotes");
    let ids: Vec<_> = rows.keys().map(ToString::to_string).collect();
    assert_eq!(ids, ["0", "1", "5", "6", "7", "8"]);
    assert_eq!(rows.values().nth(1).map(|row| row.vector.clone()), Some(vec![7.0; 4]));
}

#[test]
fn a_snapshot_is_not_changed_by_what_comes_after_it() {
    let (_world, _store, db, docs) = fixture();
    let then = scan_all(&docs, 5).expect("a scan");
    docs.snapshot("then").expect("a snapshot");
    docs.delete((0..9_u64).collect::<Vec<_>>()).run().expect("deletes");
    docs.compact().expect("a compaction");
    db.drop_collection("docs").expect("it is there");
    let restored = db.restore_snapshot("then", "restored").expect("it needs no collection");
    assert_eq!(scan_all(&restored, 5).expect("a scan"), then);
    db.delete_snapshot("then").expect("it is there");
    assert_eq!(scan_all(&restored, 5).expect("a scan"), then, "a copy owns its rows");
    let error = db.restore_snapshot("then", "again").expect_err("it is gone");
    assert!(matches!(error.cause(), Cause::SnapshotNotFound { .. }));
}
