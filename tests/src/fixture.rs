//! A small closed database that has a file of every kind, to be damaged by tests of what is then
//! said and done. Owns nothing else; must not judge.

use crate::{
    ops::plain_schema,
    oracle::Rows,
    run::scan_all,
    world::{PIECE_BYTES, World, tiny_settings},
};
use akidb::{Point, ReadMode};
use akidb_tiering::{DeadLetterQueue, JournalEntry, ObjectKey, Upload, UploadId, UploadJournal};
use akidb_vfs::SystemRandom;
use serde_json::json;
use std::{collections::BTreeMap, path::PathBuf, sync::Arc};

/// The rows of each collection.
pub type AllRows = BTreeMap<&'static str, Rows>;

/// A row of the fixture.
pub fn row(n: u64) -> Point {
    let color = ["red", "blue"][n as usize % 2];
    let meta = json!({"color": color, "text": "x".repeat(n as usize)});
    Point::new(n, vec![n as f32, 1.0, 2.0, 3.0]).meta(meta)
}

/// A closed database that has files of every kind, and its rows.
///
/// # Panics
/// When a call of the database fails.
pub fn every_kind_of_file(read_mode: ReadMode) -> (World, AllRows) {
    build(read_mode, false)
}

/// As [`every_kind_of_file`], with a log that does not have what segments and objects have.
///
/// # Panics
/// When a call of the database fails.
pub fn every_kind_of_file_and_a_short_log(read_mode: ReadMode) -> (World, AllRows) {
    build(read_mode, true)
}

/// Writes the files of notes into a closed database directory, as interrupted uploads and moves that
/// were given up leave them, and returns their paths.
///
/// # Panics
/// When a call fails.
pub fn leave_notes(world: &World) -> [PathBuf; 2] {
    let (fs, random) = (Arc::new(world.sim.process()), Arc::new(SystemRandom::from_seed(9)));
    let paths = ["uploads", "dead-letters"].map(|name| world.dir().join(name));
    let journal = UploadJournal::open(fs.clone(), random.clone(), &paths[0]).expect("no file yet");
    let letters = DeadLetterQueue::open(fs, random, Arc::new(world.clock.clone()), &paths[1], 10);
    let letters = letters.expect("no file yet");
    for n in 0..3 {
        let key = ObjectKey::new(format!("c0/{n}.parquet")).expect("a key");
        let upload = Upload { key, id: UploadId::new(format!("upload {n}")) };
        let (put_id, part_bytes, tag) = (None, 8 << 20, vec![n; 5]);
        let entry = JournalEntry { upload, put_id, part_bytes, tag, begun_unix_ms: 1 };
        journal.begin(entry).expect("the disk has room");
        let name = format!("collection {n} to cold");
        letters.add(&name, br#"{"collection":0,"to":"cold"}"#, "403").expect("the disk has room");
    }
    paths
}

fn build(read_mode: ReadMode, short_log: bool) -> (World, AllRows) {
    let mut settings = tiny_settings();
    settings.read_mode = read_mode;
    settings.compaction_auto = false;
    if read_mode == ReadMode::Pread {
        // So that both ways of reading an object meet the damage.
        settings.tiers.read_bytes = PIECE_BYTES;
    }
    let world = World::new(31, settings);
    let mut db = world.open().expect("an empty disk opens");
    let cold = db.create_collection("cold", plain_schema()).expect("a new name");
    cold.upsert((0..5).map(row)).run().expect("rows");
    let cold_rows = scan_all(&cold, 10).expect("a scan");
    assert!(cold.demote().expect("a demotion"));
    let mut docs = db.create_collection("docs", plain_schema()).expect("a new name");
    docs.upsert((0..20).map(row)).run().expect("rows");
    docs.flush().expect("a flush");
    docs.delete([1_u64, 2]).run().expect("a delete");
    docs.upsert((18..25).map(row)).run().expect("rows");
    docs.flush().expect("a flush");
    if short_log {
        // An open carries the log over without what is flushed.
        db.close().expect("it closes");
        db = world.open().expect("it opens again");
        docs = db.collection("docs").expect("it is there");
    }
    docs.upsert((30..34).map(row)).run().expect("rows");
    docs.delete([31_u64]).run().expect("a delete");
    let rows =
        BTreeMap::from([("cold", cold_rows), ("docs", scan_all(&docs, 10).expect("a scan"))]);
    db.close().expect("it closes");
    (world, rows)
}
