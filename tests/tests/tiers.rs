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
    world::{World, tiny_settings},
};
use akidb_vfs::sim::CrashPolicy;
use std::sync::Arc;

fn row(n: u64) -> Point {
    Point::new(n, vec![n as f32, 1.0, 2.0, 3.0])
}

fn fixture() -> (World, Arc<FaultStore>, Db, Collection) {
    let store = Arc::new(FaultStore::default());
    let mut world = World::new(21, tiny_settings());
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
    for (mischief, kind) in [
        (Mischief::GetReturnsOtherBytes, ErrorKind::Corruption),
        (Mischief::GetFindsNothing, ErrorKind::Corruption),
        (Mischief::GetFails, ErrorKind::Unavailable),
    ] {
        let (_world, store, db, docs) = fixture();
        let before = scan_all(&docs, 5).expect("a scan");
        docs.snapshot("s").map(drop).expect("a snapshot");
        assert!(docs.demote().expect("a demotion"));
        store.set(mischief);
        let key = docs.stats().cold[0].key.clone();
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
        // Upserts and deletes need no old rows.
        docs.upsert([row(60)]).run().expect("a write");
        docs.delete([60_u64]).run().expect("a delete");
        store.set(Mischief::None);
        assert_eq!(scan_all(&docs, 5).expect("a scan"), before, "{mischief:?}");
    }
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
