//! A database from its first row to the machine that comes after it, with objects that go in parts.

use crate::rig::{Rig, all, assert_same, filled, vector};
use akidb::{ErrorKind, Tier};
use akidb_tests::real_server;

/// 15 MiB that do not compress: three parts.
const ROWS: u64 = 10_000;

#[test]
#[ignore = "needs a server: scripts/s3-real.sh"]
fn ten_thousand_rows_go_in_parts_and_come_back_as_they_were() {
    let rig = Rig::new();
    let db = rig.open(rig.patient());
    let docs = filled(&db, "docs", ROWS);
    docs.delete((0..ROWS).step_by(10)).run().expect("a delete");
    let before = all(&docs);
    let query = vector(11);
    let hits = docs.search(&query).k(10).run().expect("a search");
    for round in 0..3 {
        assert!(docs.demote().expect("a demotion"));
        let cold = docs.stats().cold;
        assert_eq!((docs.tier(), cold.len(), cold[0].rows), (Tier::Cold, 1, ROWS * 9 / 10));
        assert!(cold[0].bytes > 2 * (5 << 20), "in parts: {} bytes", cold[0].bytes);
        assert_eq!(rig.objects(), [cold[0].key.clone()], "round {round}");
        assert_eq!(rig.uploads(), 0, "none is left open");
        assert!(docs.promote().expect("a promotion"));
        assert_eq!(rig.objects().len(), 0, "round {round}");
        assert_same(&all(&docs), &before, "after a promotion");
    }
    assert!(docs.demote().expect("a demotion"));
    assert_eq!(docs.search(&query).k(10).run().expect("it brings the rows back"), hits);
}

#[test]
#[ignore = "needs a server: scripts/s3-real.sh"]
fn a_lost_machine_leaves_large_collections_and_snapshots_that_the_next_one_has() {
    let rig = Rig::new();
    let db = rig.open(rig.patient());
    let docs = filled(&db, "docs", ROWS);
    let first = all(&docs);
    for name in ["monday", "tuesday", "friday"] {
        assert_eq!(docs.snapshot(name).expect("a snapshot").rows, ROWS);
    }
    db.delete_snapshot("tuesday").expect("it is there");
    docs.delete(0..ROWS / 2).run().expect("a delete");
    let query = vector(ROWS - 1);
    let (rows, hits) = (all(&docs), docs.search(&query).k(10).run().expect("a search"));
    assert!(docs.demote().expect("a demotion"));
    assert_eq!(rig.objects().len(), 3, "two snapshots and the rows");
    drop((docs, db));

    let other = tempfile::tempdir().expect("a directory");
    let db = rig.restored(other.path());
    assert!(db.recovery_report().restored);
    let bucket = db.stats().bucket.expect("a bucket");
    let safe = real_server::capabilities().expect("a list").require_multi_writer().is_ok();
    assert_eq!(bucket.fenced_safely, safe, "as the list says");
    let docs = db.collection("docs").expect("it is there");
    assert_eq!(docs.tier(), Tier::Cold);
    assert_eq!(docs.search(&query).k(10).run().expect("a search"), hits);
    assert_same(&all(&docs), &rows, "on the next machine");
    let names: Vec<_> = db.list_snapshots().into_iter().map(|snapshot| snapshot.name).collect();
    assert_eq!(names, ["friday", "monday"]);
    assert_eq!(db.verify_snapshot("monday").expect("it is whole"), ROWS);
    let monday = db.restore_snapshot("monday", "again").expect("a restore");
    let vectors = |rows: &akidb_tests::oracle::Rows| -> Vec<_> {
        rows.iter().map(|(id, row)| (id.clone(), row.vector.clone())).collect()
    };
    assert!(vectors(&all(&monday)) == vectors(&first), "monday's rows are other ones");

    // The machine that was lost comes back: it is told at once, and the next one is not disturbed.
    let back = rig.builder(rig.dir.path()).inline().object_store(rig.patient()).open_blocking();
    assert_eq!(back.map(drop).expect_err("its bucket was taken").kind(), ErrorKind::Locked);
    assert!(docs.demote().expect("the next one goes on"));
    assert_eq!(db.stats().poisoned, None);
}
