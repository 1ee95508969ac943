//! Moves one at a time: what goes, what comes back, and what stays as it was.

use crate::rig::{Rig, all, filled, row};
use akidb::{Cause, ErrorKind, Tier, blocking::Db};

#[test]
fn a_demotion_makes_one_object_and_a_promotion_reads_it() {
    let rig = Rig::new();
    let db = rig.open();
    let docs = filled(&db, "docs", 200);
    let before = all(&docs);
    assert_eq!((docs.tier(), rig.objects()), (Tier::Hot, 0));
    assert!(docs.demote().expect("a demotion"));
    assert_eq!((docs.tier(), rig.objects()), (Tier::Cold, 1));
    assert_eq!(docs.stats().cold[0].key, rig.keys()[0]);
    assert_eq!(docs.stats().segments.len() + docs.stats().memtable_rows as usize, 0, "all is cold");
    assert!(!docs.demote().expect("nothing to do"), "it is cold already");
    assert!(docs.promote().expect("a promotion"));
    assert_eq!((docs.tier(), rig.objects()), (Tier::Warm, 0));
    assert_eq!(all(&docs), before);
    assert!(!docs.promote().expect("nothing to do"), "it is local already");
}

#[test]
fn a_search_of_a_cold_collection_brings_it_back_and_says_so() {
    let rig = Rig::new();
    let db = rig.open();
    let docs = filled(&db, "docs", 200);
    let query = vec![500.0; 16];
    let before = docs.search(&query).k(5).run().expect("a search");
    assert!(docs.demote().expect("a demotion"));
    let (hits, explain) = docs.search(&query).k(5).explain().expect("a search");
    assert!(explain.promoted);
    assert_eq!(hits, before);
    assert_eq!(docs.tier(), Tier::Warm);
    let (_, explain) = docs.search(&query).k(5).explain().expect("a search");
    assert!(!explain.promoted);
}

#[test]
fn each_tier_can_be_reached_from_each_by_hand() {
    let rig = Rig::new();
    let db = rig.open();
    let docs = filled(&db, "docs", 50);
    let before = all(&docs);
    for from in Tier::ALL {
        for to in Tier::ALL {
            docs.move_to(from).expect("a move");
            assert_eq!(docs.tier(), from);
            assert_eq!(docs.move_to(to).expect("a move"), from != to, "{from} to {to}");
            assert_eq!(docs.tier(), to);
            assert_eq!(rig.objects(), usize::from(to == Tier::Cold), "{from} to {to}");
        }
    }
    docs.move_to(Tier::Warm).expect("a move");
    assert_eq!(all(&docs), before);
}

#[test]
fn tiers_pins_and_overrides_survive_a_restart() {
    let rig = Rig::new();
    let db = rig.open();
    for tier in Tier::ALL {
        filled(&db, tier.name(), 20).move_to(tier).expect("a move");
    }
    let cold = db.collection("cold").expect("it is there");
    cold.pin(true).expect("a pin");
    let overrides = akidb::tiering::TierOverrides { hot_accesses: Some(3), ..Default::default() };
    cold.set_tier_overrides(overrides.clone()).expect("overrides");
    drop((cold, db));
    let db = rig.open();
    for tier in Tier::ALL {
        assert_eq!(db.collection(tier.name()).expect("it is there").tier(), tier);
    }
    let stats = db.collection("cold").expect("it is there").stats();
    assert_eq!((stats.pinned, &stats.tier_overrides), (true, &overrides));
    assert!(!db.collection("hot").expect("it is there").stats().pinned);
}

#[test]
fn a_pinned_collection_is_not_demoted_by_anybody() {
    let rig = Rig::new();
    let db = rig.open();
    let docs = filled(&db, "docs", 20);
    docs.pin(true).expect("a pin");
    for tier in [Tier::Warm, Tier::Cold] {
        let error = docs.move_to(tier).expect_err("it is pinned");
        assert!(matches!(error.cause(), Cause::Pinned { .. }), "{error}");
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
    }
    assert_eq!((docs.tier(), rig.objects()), (Tier::Hot, 0));
    docs.pin(false).expect("the end of the pin");
    assert!(docs.demote().expect("a demotion"));
    // What is cold may be pinned: it comes back, and stays.
    docs.pin(true).expect("a pin");
    assert!(docs.promote().expect("a promotion is no demotion"));
    assert!(docs.demote().is_err());
}

#[test]
fn what_is_written_to_a_cold_collection_is_there_and_goes_with_the_next_demotion() {
    let rig = Rig::new();
    let db = rig.open();
    let docs = filled(&db, "docs", 30);
    assert!(docs.demote().expect("a demotion"));
    docs.upsert([row(100)]).run().expect("an upsert");
    docs.delete([3_u64]).run().expect("a delete");
    assert_eq!(docs.tier(), Tier::Cold, "blind writes need no old rows");
    assert!(docs.demote().expect("what is local goes too"));
    assert_eq!((docs.tier(), rig.objects(), docs.stats().memtable_rows), (Tier::Cold, 1, 0));
    assert_eq!(docs.stats().cold[0].rows, 30);
    drop((docs, db));
    let docs = rig.open().collection("docs").expect("it is there");
    let rows = all(&docs);
    assert_eq!((rows.len(), rows.contains_key(&3_u64.into())), (30, false));
}

#[test]
fn a_large_upload_goes_in_parts_and_every_row_comes_back() {
    let mut rig = Rig::of_our_own();
    rig.settings.tiers.uploads.single_put_max_bytes = 5 << 20;
    rig.settings.tiers.uploads.part_bytes = 5 << 20;
    let db = rig.open();
    let docs = filled(&db, "docs", 100_000);
    docs.delete((0..100_000_u64).step_by(10)).run().expect("a delete");
    let before = all(&docs);
    assert!(docs.demote().expect("a demotion"));
    let cold = &docs.stats().cold[0];
    assert_eq!(cold.rows, 90_000);
    // 16 numbers a row, which do not compress.
    assert!(cold.bytes > 90_000 * 64, "{}", cold.bytes);
    let listed = rig.server.seen();
    let parts = listed.iter().filter(|seen| seen.target.contains("partNumber")).count();
    assert!(parts > 1, "in parts: {parts}");
    assert_eq!(rig.server.uploads(), 0, "none is left open");
    assert!(docs.promote().expect("a promotion"));
    assert_eq!(all(&docs), before);
}

#[test]
fn snapshots_of_one_collection_are_listed_deleted_and_restored_beside_its_moves() {
    let rig = Rig::new();
    let db = rig.open();
    let docs = filled(&db, "docs", 40);
    let first = all(&docs);
    docs.snapshot("one").expect("a snapshot");
    docs.delete([5_u64]).run().expect("a delete");
    docs.snapshot("two").expect("a snapshot");
    assert!(docs.demote().expect("a demotion"));
    let three = docs.snapshot("three").expect("a snapshot of what was cold");
    assert_eq!((three.rows, docs.tier()), (39, Tier::Cold));
    let names = |db: &Db| -> Vec<_> {
        db.list_snapshots().into_iter().map(|snapshot| snapshot.name).collect()
    };
    assert_eq!(names(&db), ["one", "three", "two"]);
    assert_eq!(rig.objects(), 3, "the third has the cold rows in common with its collection");
    db.delete_snapshot("two").expect("it is there");
    assert_eq!((names(&db).len(), rig.objects()), (2, 2));
    drop((docs, db));
    let db = rig.open();
    let restored = db.restore_snapshot("one", "again").expect("a restore");
    assert_eq!(all(&restored).keys().collect::<Vec<_>>(), first.keys().collect::<Vec<_>>());
    let restored = db.restore_snapshot("three", "later").expect("a restore");
    assert_eq!(all(&restored).len(), 39);
}

#[test]
fn an_object_that_snapshots_and_their_collection_have_in_common_goes_with_the_last_of_them() {
    // Who lets go, in which order; what is written to the collection before hides nothing of a snapshot.
    type Step = fn(&Db);
    let promote: Step = |db| {
        let docs = db.collection("docs").expect("it is there");
        docs.delete([3_u64]).run().expect("a delete");
        assert!(docs.promote().expect("a promotion"));
    };
    let drop_it: Step = |db| db.drop_collection("docs").expect("a drop");
    let over: Step = |db| drop(db.restore_snapshot_over("one", "docs").expect("a restore"));
    let one: Step = |db| db.delete_snapshot("one").expect("it is there");
    let two: Step = |db| db.delete_snapshot("two").expect("it is there");
    for steps in [[promote, one, two], [two, one, promote], [one, drop_it, two], [over, two, one]] {
        let rig = Rig::new();
        let db = rig.open();
        let docs = filled(&db, "docs", 40);
        assert!(docs.demote().expect("a demotion"));
        let before = rig.server.requests();
        for name in ["one", "two"] {
            assert_eq!(docs.snapshot(name).expect("a snapshot").rows, 40);
        }
        assert!(rig.server.requests() - before < 8, "nothing is fetched and nothing is sent");
        for (at, step) in steps.into_iter().enumerate() {
            assert_eq!(rig.objects(), 1, "step {at}");
            for snapshot in db.list_snapshots() {
                db.verify_snapshot(&snapshot.name).expect("it is whole");
            }
            step(&db);
        }
        assert_eq!(rig.objects(), 0);
        drop((docs, db));
        rig.open();
    }
}

#[test]
fn a_snapshot_of_what_is_cold_in_part_has_every_row() {
    let rig = Rig::new();
    let db = rig.open();
    let docs = filled(&db, "docs", 40);
    assert!(docs.demote().expect("a demotion"));
    docs.upsert([row(77)]).run().expect("a write");
    docs.delete([5_u64]).run().expect("a delete");
    assert_eq!(docs.snapshot("all").expect("a snapshot").rows, 40);
    let restored = db.restore_snapshot("all", "again").expect("a restore");
    assert_eq!(all(&restored).len(), 40);
}

#[test]
fn a_snapshot_takes_the_place_of_its_collection_in_one_step() {
    let rig = Rig::new();
    let db = rig.open();
    let docs = filled(&db, "docs", 40);
    docs.snapshot("good").expect("a snapshot");
    docs.delete((0..30_u64).collect::<Vec<_>>()).run().expect("a mistake");
    assert!(docs.demote().expect("a demotion"));
    assert!(db.restore_snapshot("good", "docs").is_err(), "the name is taken");
    let again = db.restore_snapshot_over("good", "docs").expect("a restore");
    assert_eq!(all(&again).len(), 40);
    assert_eq!(docs.count(None).map(drop).expect_err("it is gone").kind(), ErrorKind::NotFound);
    assert_eq!(db.list_collections().expect("a list"), ["docs"]);
    assert_eq!(rig.objects(), 1, "the snapshot alone");
    again.upsert([row(99)]).run().expect("a write");
    drop((docs, again, db));
    let docs = rig.open().collection("docs").expect("it is there");
    assert_eq!(all(&docs).len(), 41);
}

#[test]
fn a_snapshot_is_checked_and_a_damaged_one_is_named() {
    let rig = Rig::of_our_own();
    let db = rig.open();
    let docs = filled(&db, "docs", 40);
    let object = docs.snapshot("s").expect("a snapshot").object;
    assert_eq!(db.verify_snapshot("s").expect("it is whole"), 40);
    assert_eq!(db.verify_snapshot("x").expect_err("not there").kind(), ErrorKind::NotFound);
    assert!(rig.server.damage(&object));
    let error = db.verify_snapshot("s").expect_err("damaged");
    assert_eq!(error.kind(), ErrorKind::Corruption);
    assert!(error.to_string().contains(&object), "{error}");
    assert!(db.restore_snapshot_over("s", "docs").is_err());
    assert_eq!(all(&docs).len(), 40, "nothing was changed");
}

#[test]
fn a_copy_of_a_snapshot_needs_nothing_beside_it() {
    restored_from_a_copy(Rig::new());
}

#[test]
fn a_copy_is_restored_piece_by_piece_too() {
    let mut rig = Rig::new();
    rig.settings.tiers.read_bytes = 16 << 10;
    restored_from_a_copy(rig);
}

/// Into a database with the same settings.
fn restored_from_a_copy(rig: Rig) {
    let mut other = Rig::new();
    other.settings = rig.settings.clone();
    let db = rig.open();
    let docs = filled(&db, "docs", 2_500);
    docs.delete([4_u64]).run().expect("a delete");
    let before = all(&docs);
    docs.snapshot("s").expect("a snapshot");
    let bucket = other.bucket();
    db.copy_snapshot("s", &bucket, "copies/s.parquet").expect("a copy");
    let taken = db.copy_snapshot("s", &bucket, "copies/s.parquet").expect_err("the key is taken");
    assert_eq!(taken.kind(), ErrorKind::AlreadyExists, "{taken:?}");
    let bad = db.copy_snapshot("s", &bucket, "../s").expect_err("a path trick");
    assert_eq!(bad.kind(), ErrorKind::InvalidInput);
    drop((docs, db, rig));

    let db = other.open();
    let docs = db.restore_copy(&bucket, "copies/s.parquet", "from-afar").expect("a restore");
    let after = all(&docs);
    let vectors = |rows: &akidb_tests::oracle::Rows| -> Vec<_> {
        rows.iter().map(|(id, row)| (id.clone(), row.vector.clone())).collect()
    };
    assert_eq!(vectors(&after), vectors(&before));
    drop((docs, db));
    let db = other.open();
    assert_eq!(all(&db.collection("from-afar").expect("it is there")), after);
    let missing = db.restore_copy(&bucket, "copies/t.parquet", "more").map(drop);
    assert_eq!(missing.expect_err("no such key").kind(), ErrorKind::NotFound);
    assert_eq!(db.list_collections().expect("a list"), ["from-afar"], "nothing half is left");
}

#[test]
fn a_copy_goes_to_a_server_that_keeps_to_no_condition_too() {
    let rig = Rig::of_our_own();
    let db = rig.open();
    filled(&db, "docs", 30).snapshot("s").expect("a snapshot");
    let bucket = rig.bucket_without_conditions();
    db.copy_snapshot("s", &bucket, "copies/s.parquet").expect("a copy");
    let taken = db.copy_snapshot("s", &bucket, "copies/s.parquet").expect_err("the key is taken");
    assert_eq!(taken.kind(), ErrorKind::AlreadyExists, "{taken:?}");
    let docs = db.restore_copy(&bucket, "copies/s.parquet", "again").expect("a restore");
    assert_eq!(all(&docs).len(), 30);
}
