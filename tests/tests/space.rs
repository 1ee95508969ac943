//! Space on disk: a life without crashes leaves no file that nothing names, what is written over and
//! over does not grow, and a disk that fills up and is freed costs neither data nor a restart.

use akidb::{ErrorKind, Metric, Point, Schema, Settings};
use akidb_tests::{
    evidence::{Options, machines, run},
    ops::plain_schema,
    world::{World, tiny_settings},
};
use serde_json::json;

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

/// On a simulated disk; `evidence fulldisk` does it on a real one.
#[test]
fn d7_a_disk_that_fills_and_frees_a_hundred_times_costs_no_restart_and_no_row() {
    let machine = machines().into_iter().find(|machine| machine.name == "fulldisk");
    let simulated = vec![("disk".to_owned(), "sim".to_owned())];
    let options = Options { set: simulated, ..Options::short(0, 2) };
    let report = run(&machine.expect("it is listed"), &options, &|_, _| {});
    report.assert_passed();
    assert_eq!(report.counts.states(), 100 * report.runs);
    assert!(report.counts.get("refused: pin") > 0, "no manifest was begun on a full disk");
}

#[test]
fn d7_deletes_go_on_when_memory_is_full_because_the_disk_is() {
    let mut settings = tiny_settings();
    // The log has room for all; a segment has none.
    settings.wal_file_bytes = 256 << 10;
    settings.wal_bytes_max = 1 << 20;
    let world = World::new(43, settings);
    let db = world.open().expect("it opens");
    let docs = db.create_collection("docs", plain_schema()).expect("a new name");
    let used: u64 = world.sim.files().iter().map(|(_, len)| len).sum();
    world.sim.set_capacity(Some(used + 100));
    let refused = (0..1000_u64).find_map(|n| {
        let point = row(n, 1).meta(json!({ "text": "x".repeat(200) }));
        docs.upsert([point]).run().err().map(|error| (n, error))
    });
    let (written, error) = refused.expect("memory is full when nothing can be flushed");
    assert_eq!(error.kind(), ErrorKind::NoSpace, "{error}");

    for n in 0..10_u64 {
        docs.delete([n]).run().expect("a delete goes beyond the limit of memory");
    }
    assert_eq!(docs.count(None).expect("a count"), written - 10);
    let endless = (0..1000).all(|n| docs.delete([n % 40 + 1000]).run().is_ok());
    assert!(!endless || db.stats().memtable_bytes <= world.settings.memtable_pool_bytes * 3 / 2);

    world.sim.set_capacity(None);
    docs.upsert([row(2000, 1)]).run().expect("no restart is needed");
    docs.flush().expect("a flush");
    assert_eq!(docs.count(None).expect("a count"), written - 9);
    db.close().expect("it closes");
    let docs = world.open().expect("it opens").collection("docs").expect("it is there");
    assert_eq!(docs.count(None).expect("a count"), written - 9);
}

/// Segments that a promotion or an older version wrote have no codes; what a merge makes of them
/// has, and takes more space than they do.
#[test]
fn a_merge_that_has_to_make_codes_begins_only_where_there_is_room_for_them() {
    let settings = Settings { compaction_auto: false, ..Settings::default() };
    let settings = Settings { wal_file_bytes: 64 << 10, disk_reserve_bytes: 0, ..settings };
    let mut world = World::new(44, Settings { index_rows_min: u64::MAX, ..settings.clone() });
    let db = world.open().expect("it opens");
    let schema = Schema::new(64, Metric::Cosine);
    let docs = db.create_collection("docs", schema).expect("a new name");
    for half in 0..2_u64 {
        let vector =
            |n: u64| (0..64).map(|d| ((n * 37 + d * 11) % 101) as f32 - 50.0).collect::<Vec<_>>();
        let rows = (half * 1000..(half + 1) * 1000).map(|n| Point::new(n, vector(n)));
        docs.upsert(rows).run().expect("an upsert");
        docs.flush().expect("a flush");
    }
    db.close().expect("it closes");

    world.settings = Settings { index_rows_min: 64, ..settings };
    let db = world.open().expect("it opens");
    let docs = db.collection("docs").expect("it is there");
    let inputs: u64 = docs.stats().segments.iter().map(|segment| segment.bytes).sum();
    let before = world.sim.files();
    let used: u64 = before.iter().map(|(_, len)| len).sum();
    let merged = (0..).any(|step| {
        world.sim.set_capacity(Some(used + step * (16 << 10)));
        let Err(error) = docs.compact() else { return true };
        assert_eq!(error.kind(), ErrorKind::NoSpace);
        assert!(error.to_string().starts_with("a merge needs"), "it began, and then: {error}");
        assert_eq!(world.sim.files(), before);
        false
    });
    assert!(merged, "it merges at last");
    let [merged] = &docs.stats().segments[..] else { panic!("one segment is left") };
    assert!(merged.bytes > inputs, "codes take space: {} and {inputs}", merged.bytes);
}
