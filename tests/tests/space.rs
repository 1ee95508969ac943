//! Space on disk: a life without crashes leaves no file that nothing names, and what is written
//! over and over does not grow.

use akidb::Point;
use akidb_tests::{
    ops::plain_schema,
    world::{World, tiny_settings},
};

fn row(n: u64, version: u64) -> Point {
    Point::new(n, vec![n as f32, version as f32, 2.0, 3.0])
}

#[test]
fn a_life_without_crashes_leaves_no_file_that_nothing_names() {
    let world = World::new(41, tiny_settings());
    for round in 0..5 {
        let db = world.open().expect("it opens");
        let report = db.recovery_report();
        assert!(report.unknown_files.is_empty(), "round {round}: {:?}", report.unknown_files);
        let docs = match db.collection("docs") {
            Ok(docs) => docs,
            Err(_) => db.create_collection("docs", plain_schema()).expect("a new name"),
        };
        for n in 0..30 {
            docs.upsert([row(n % 11, round)]).run().expect("an upsert");
            docs.delete([n % 7]).run().expect("a delete");
            if n % 4 == 0 {
                docs.flush().expect("a flush");
            }
        }
        docs.snapshot("s").expect("a snapshot");
        docs.demote().expect("a demotion");
        docs.upsert([row(3, round)]).run().expect("an upsert");
        docs.promote().expect("a promotion");
        docs.delete([3_u64]).run().expect("a delete");
        docs.flush().expect("a flush");
        let copy = db.restore_snapshot("s", "copy").expect("a copy");
        copy.delete([1_u64, 8]).run().expect("a delete");
        copy.pin(true).expect("a pin");
        db.drop_collection("copy").expect("it is there");
        db.delete_snapshot("s").expect("it is there");
        drop((docs, copy));
        db.close().expect("it closes");
    }
    let objects = world.files_with("/objects/");
    assert!(objects.is_empty(), "objects that nothing names: {objects:?}");
}

#[test]
fn rows_that_are_replaced_for_ever_take_bounded_space() {
    let world = World::new(42, tiny_settings());
    let db = world.open().expect("it opens");
    let docs = db.create_collection("docs", plain_schema()).expect("a new name");
    let mut most = [0_u64; 2];
    for round in 0..600 {
        docs.upsert((0..5).map(|n| row(n, round))).run().expect("an upsert");
        let bytes: u64 = world.sim.files().iter().map(|(_, len)| len).sum();
        let half = usize::from(round >= 300);
        most[half] = most[half].max(bytes);
    }
    assert!(most[1] <= most[0] + (8 << 10), "it grows: at most {most:?} bytes in each half");
    assert!(db.stats().wal_bytes <= world.settings.wal_bytes_max + (16 << 10), "{:?}", db.stats());
}
