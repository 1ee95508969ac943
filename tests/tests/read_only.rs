//! Opening for reading only: nothing is written, whatever is there is read, and what is damaged is
//! listed, refused, or read without it on request: never a silent wrong answer.

use akidb::{DbBuilder, ErrorKind, LossKind, Metric, Point, ReadMode, Schema, blocking::Db, field};
use akidb_tests::{
    declared::{check_declared, shown},
    fixture::{AllRows, every_kind_of_file, every_kind_of_file_and_a_short_log, row},
    run::scan_all,
    world::{World, tiny_settings},
};
use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicU64, Ordering},
};

fn open(world: &World) -> akidb::Result<Db> {
    world.builder().inline().read_only().open_blocking()
}

#[test]
fn everything_is_read_and_nothing_is_written_not_even_on_a_disk_that_cannot_be() {
    for read_mode in [ReadMode::Mmap, ReadMode::Pread] {
        let (world, rows) = every_kind_of_file(read_mode);
        let before = world.sim.image();
        world.sim.set_read_only(true);
        let db = open(&world).expect("it can be read");
        assert!(db.damage().is_empty());
        assert_eq!(shown(&db, "read only"), rows);
        let docs = db.collection("docs").expect("it is there");
        let hits = docs.search(&[1.0; 4]).k(100).run().expect("a search");
        assert_eq!(hits.len(), rows["docs"].len());
        assert!(docs.count(Some(&field("color").eq("red"))).expect("a count") > 0);
        db.close().expect("it closes");
        assert!(world.sim.image() == before, "something was written");
    }
}

#[test]
fn every_verb_that_writes_is_refused() {
    let (world, rows) = every_kind_of_file(ReadMode::Mmap);
    let before = world.sim.image();
    let db = open(&world).expect("it can be read");
    let docs = db.collection("docs").expect("it is there");
    let refused = [
        docs.upsert([row(1)]).run().map(drop),
        docs.insert([row(1)]).run().map(drop),
        docs.delete([3_u64]).run().map(drop),
        docs.delete_where(field("color").eq("red")).run().map(drop),
        docs.update_metadata([(3_u64, serde_json::json!({"a": 1}))]).run().map(drop),
        docs.flush(),
        docs.compact(),
        docs.pin(true),
        docs.demote().map(drop),
        docs.promote().map(drop),
        docs.snapshot("s").map(drop),
        docs.add_field("n", akidb::FieldType::Integer),
        db.create_collection("new", Schema::new(4, Metric::Dot)).map(drop),
        db.drop_collection("docs"),
        db.restore_snapshot("s", "t").map(drop),
        db.delete_snapshot("s"),
        db.flush(),
        db.compact(),
    ];
    for (at, result) in refused.into_iter().enumerate() {
        let error = result.expect_err("it writes");
        assert_eq!(error.kind(), ErrorKind::PermissionDenied, "verb {at}: {error}");
    }
    assert_eq!(shown(&db, "after the refusals"), rows);
    db.close().expect("it closes");
    assert!(world.sim.image() == before, "something was written");
}

#[test]
fn a_database_that_is_not_there_is_not_made() {
    let world = World::new(1, tiny_settings());
    let error = open(&world).expect_err("there is none");
    assert_eq!(error.kind(), ErrorKind::NotFound, "{error}");
    assert!(world.sim.files().is_empty());
}

/// Reads all that an open lets one read; `None` after an error, which must say what it is.
fn read(db: &Db, rows: &AllRows, what: &str) -> Option<()> {
    for (name, wanted) in rows {
        let read = || -> akidb::Result<usize> {
            let collection = db.collection(name)?;
            collection.verify()?;
            let hits = collection.search(&[1.0; 4]).k(100).run()?;
            assert_eq!(scan_all(&collection, 10).as_ref(), Some(wanted), "{what}: wrong rows");
            Ok(hits.len())
        };
        match read() {
            Ok(hits) => assert_eq!(hits, wanted.len(), "{what}"),
            Err(error) => {
                // Without a manifest names are gone too; the list of damage says so.
                let nameless = db
                    .damage()
                    .iter()
                    .any(|loss| loss.kind == LossKind::Name || loss.collections.is_empty());
                let expected = match error.kind() {
                    ErrorKind::Corruption => true,
                    ErrorKind::NotFound => nameless,
                    _ => false,
                };
                assert!(expected, "{what}: {error}");
                return None;
            }
        }
    }
    Some(())
}

#[test]
fn a_damaged_database_opens_lists_the_damage_and_never_lies() {
    let (world, rows) = every_kind_of_file_and_a_short_log(ReadMode::Pread);
    let (mut refused, mut whole, mut partial) = (0, 0, 0);
    for (path, len) in world.sim.files() {
        if path.ends_with("LOCK") {
            continue;
        }
        let used = world.sim.read_durable(&path).expect("it is there");
        let used = used.iter().rposition(|byte| *byte != 0).unwrap_or(0) as u64 + 1;
        let flips = (0..used).step_by((used / 12).max(1) as usize).map(|at| (at, None));
        for (at, cut) in flips.chain([0, len / 2].map(|cut| (cut, Some(cut)))) {
            let fork = world.fork(at);
            match cut {
                None => fork.sim.corrupt(&path, at, 1 << (at % 8)).expect("within the file"),
                Some(cut) => fork.sim.truncate(&path, cut).expect("it is there"),
            }
            let what = format!("{} at {at}, cut {cut:?}", path.display());
            let before = fork.sim.image();
            let db = match open(&fork) {
                Ok(db) => db,
                Err(error) => {
                    assert_eq!(error.kind(), ErrorKind::Incompatible, "{what}: {error}");
                    continue;
                }
            };
            match read(&db, &rows, &what) {
                Some(()) => whole += 1,
                None => refused += 1,
            }
            drop(db);
            let opened = fork.builder().inline().read_only().allow_damage().open_blocking();
            let db = opened.unwrap_or_else(|error| panic!("{what}: {error}"));
            let found = shown(&db, &what);
            check_declared(&found, &rows, db.damage(), &what);
            partial += u64::from(!db.damage().is_empty());
            drop(db);
            assert!(fork.sim.image() == before, "{what}: something was written");
        }
    }
    assert!(refused > 20 && whole > 5 && partial > 20, "{refused} {whole} {partial}");
}

/// A reader beside a writer on real files: what was acknowledged before the open is there, and
/// nothing looks damaged though files come and go.
#[test]
fn beside_a_writer_a_reader_sees_what_was_acknowledged() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let settings = tiny_settings();
    let db: Db = DbBuilder::new(dir.path())
        .settings(settings.clone())
        .open_blocking()
        .expect("a new directory");
    let docs = db.create_collection("docs", Schema::new(4, Metric::Dot)).expect("a new name");
    let (done, acknowledged) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let writer = akidb_vfs::thread::spawn("writer", {
        let (done, acknowledged) = (done.clone(), acknowledged.clone());
        move || {
            let mut n = 0_u64;
            while !done.load(Ordering::Relaxed) {
                docs.upsert([Point::new(n, [n as f32, 1.0, 2.0, 3.0])]).run().expect("a write");
                n += 1;
                acknowledged.store(n, Ordering::Release);
            }
        }
    })
    .expect("a thread");
    for turn in 0..25 {
        let before = acknowledged.load(Ordering::Acquire);
        let reader = DbBuilder::new(dir.path()).settings(settings.clone()).read_only();
        let reader = if turn % 5 == 4 { reader.allow_damage() } else { reader };
        let reader = reader.open_blocking().unwrap_or_else(|error| panic!("turn {turn}: {error}"));
        assert!(reader.damage().is_empty(), "turn {turn}: {:?}", reader.damage());
        let docs = reader.collection("docs").expect("it is there");
        let count = docs.count(None).expect("a count");
        let after = acknowledged.load(Ordering::Acquire);
        // One write may be there and not be acknowledged yet.
        assert!((before..=after + 1).contains(&count), "turn {turn}: {before} {count} {after}");
    }
    done.store(true, Ordering::Relaxed);
    writer.join().expect("the writer ends");
    db.close().expect("it closes");
}
