//! D8: a flipped bit or a lost end, in any file of a database, is an error that names the file, or
//! harmless; never a wrong answer, a panic, or rows that are silently gone. Sampled over each file
//! kind here; the crates that own a format flip every byte of it.

use akidb::{
    DbBuilder, ErrorKind, ReadMode, Settings,
    blocking::{Collection, Db},
};
use akidb_tests::{
    evidence::{Options, machines, run},
    fixture::{AllRows, every_kind_of_file, row},
    ops::plain_schema,
    oracle::Rows,
    world::{World, tiny_settings},
};
use akidb_vfs::{Fs, RealFs};
use std::{
    os::unix::process::ExitStatusExt,
    path::{Path, PathBuf},
    process::Command,
};

/// Places tried in each file, beside its first and last bytes.
const SAMPLES: u64 = 60;

/// Opens and reads everything: true if it is exact, false after an error, which must name `file`.
fn exact_or_named(world: &World, rows: &AllRows, file: Option<&Path>, what: &str) -> bool {
    let check = || -> akidb::Result<()> {
        let db = world.open()?;
        for (name, wanted) in rows {
            let collection = db.collection(name)?;
            let mut found = Rows::new();
            let mut after = None;
            loop {
                let mut scan = collection.scan().limit(10).with_vectors(true);
                if let Some(cursor) = after.take() {
                    scan = scan.after(cursor);
                }
                let page = scan.run()?;
                found.extend(akidb_tests::oracle::rows_of(page.records));
                match page.next {
                    Some(cursor) => after = Some(cursor),
                    None => break,
                }
            }
            assert!(found == *wanted, "{what}: wrong rows of {name}, and no error");
            let filter = akidb::field("color").eq("red");
            let reds = collection.count(Some(&filter))?;
            let wanted = wanted.values().filter(|row| row.metadata["color"] == "red").count();
            assert_eq!(reds, wanted as u64, "{what}: wrong count of {name}, and no error");
            let hits = collection.search(&[1.0; 4]).k(100).run()?;
            assert_eq!(hits.len(), found.len(), "{what}: wrong hits of {name}, and no error");
        }
        Ok(())
    };
    let Err(error) = check() else { return true };
    let kinds = [ErrorKind::Corruption, ErrorKind::Incompatible];
    assert!(kinds.contains(&error.kind()), "{what}: {error:?}");
    let text = error.to_string();
    let named =
        |file: &Path| file.file_name().is_some_and(|n| text.contains(&*n.to_string_lossy()));
    assert!(file.is_none_or(named), "{what}: the error does not name it: {error}");
    false
}

/// Damages every file of a kind at sampled places.
fn flip_and_cut(kind: &str) {
    for read_mode in [ReadMode::Mmap, ReadMode::Pread] {
        let (world, rows) = every_kind_of_file(read_mode);
        let files: Vec<_> = world.sim.files();
        let files: Vec<_> =
            files.into_iter().filter(|(path, _)| path.to_string_lossy().contains(kind)).collect();
        assert!(!files.is_empty(), "no file like {kind}: {:?}", world.sim.files());
        let (mut detected, mut tried) = (0, 0);
        for (path, len) in &files {
            let step = (len / SAMPLES).max(1);
            let edges = (0..*len.min(&64)).chain(len.saturating_sub(16)..*len);
            for offset in edges.chain((0..*len).step_by(step as usize)) {
                let fork = world.fork(offset);
                let mask = 1 << (offset % 8);
                fork.sim.corrupt(path, offset, mask).expect("within the file");
                let what = format!("{} with byte {offset} xor {mask}", path.display());
                tried += 1;
                detected += u64::from(!exact_or_named(&fork, &rows, Some(path), &what));
            }
            for cut in [0, 1, len / 3, len / 2, len.saturating_sub(8), len - 1] {
                let fork = world.fork(cut);
                fork.sim.truncate(path, cut).expect("it is there");
                let what = format!("{} cut to {cut} of {len} bytes", path.display());
                assert!(!exact_or_named(&fork, &rows, Some(path), &what), "{what} is not noticed");
            }
        }
        assert!(detected * 20 > tried, "{kind}: only {detected} of {tried} flips were met");
    }
}

#[test]
fn d8_damage_in_the_log_is_named_or_harmless() {
    flip_and_cut(".wal");
}

#[test]
fn d8_damage_in_the_manifest_is_named_or_harmless() {
    flip_and_cut("MANIFEST-");
}

#[test]
fn d8_damage_in_segments_is_named_or_harmless() {
    flip_and_cut(".seg");
}

#[test]
fn d8_damage_in_tombstones_is_named_or_harmless() {
    flip_and_cut(".tmb");
}

#[test]
fn d8_damage_in_cold_objects_is_named_or_harmless() {
    flip_and_cut(".parquet");
}

/// A sample; `evidence corruption` plays them all.
#[test]
fn d8_every_flip_cut_lost_block_and_misplaced_file_is_named_or_harmless() {
    let machine = machines().into_iter().find(|machine| machine.name == "corruption");
    let machine = machine.expect("it is listed");
    run(&machine, &Options::short(0, 40), &|_, _| {}).assert_passed();
}

#[test]
fn d8_a_torn_tail_is_trimmed_and_reported_where_rot_before_it_is_an_error() {
    let mut settings = tiny_settings();
    settings.wal_file_bytes = 32 << 10;
    let world = World::new(33, settings);
    let db = world.open().expect("an empty disk opens");
    let docs = db.create_collection("docs", plain_schema()).expect("a new name");
    for n in 0..10 {
        docs.upsert([row(n)]).run().expect("a row");
    }
    docs.upsert((10..14).map(row)).durability(akidb::Durability::Memory).run().expect("unsynced");
    world.sim.kill();
    drop((docs, db));
    let wal = world.files_with(".wal").pop().expect("a log");
    let image =
        world.sim.image().into_iter().find(|(path, _)| *path == wal).expect("it is there").1;
    let used = image.iter().rposition(|byte| *byte != 0).expect("frames") as u64;

    let torn = world.fork(1);
    torn.sim.corrupt(&wal, used - 20, 1).expect("within the last frame");
    let db = torn.open().expect("a torn tail is nobody's loss");
    let tail = db.recovery_report().torn_tail.clone().expect("it is reported");
    assert_eq!(tail.file, wal);
    assert!(tail.offset < used && tail.bytes > 0, "{tail:?}");
    assert_eq!(db.collection("docs").and_then(|docs| docs.count(None)).expect("a count"), 10);

    let rotten = world.fork(2);
    rotten.sim.corrupt(&wal, 700, 1).expect("within an early frame");
    let error = rotten.open().expect_err("synced rows are gone");
    assert_eq!(error.kind(), ErrorKind::Corruption, "{error:?}");
    let log = |world: &World| -> Vec<_> {
        world.sim.image().into_iter().filter(|(path, _)| path.starts_with("/data/db/wal")).collect()
    };
    let (before, after) = (log(&world), log(&rotten));
    let differ = before.iter().zip(&after).filter(|(a, b)| a != b).count();
    assert!(before.len() == after.len() && differ == 1, "a refused open destroyed evidence");
}

#[test]
fn d8_a_read_that_flips_a_bit_is_an_error_or_harmless() {
    use akidb_vfs::{
        FsOp,
        sim::{Fault, FaultKind},
    };
    for read_mode in [ReadMode::Mmap, ReadMode::Pread] {
        let (world, rows) = every_kind_of_file(read_mode);
        for nth in 1..60 {
            for op in [FsOp::Read, FsOp::Map] {
                let fork = world.fork(nth);
                fork.sim.inject(Fault::new(FaultKind::ReadFlip).on(op).nth(nth));
                let what = format!("{op:?} number {nth} in {read_mode:?}");
                exact_or_named(&fork, &rows, None, &what);
                fork.sim.clear_faults();
                assert!(
                    exact_or_named(&fork, &rows, None, &what),
                    "a flip in flight lasts: {what}"
                );
            }
        }
    }
}

/// Where the process that reads a mapped file finds its database; set only for that process.
const CUT_WHILE_MAPPED: &str = "AKIDB_TEST_CUT_WHILE_MAPPED";

/// A database on a real disk with one segment; its directory, the segment, and its collection.
fn one_real_segment(dir: &Path, read_mode: ReadMode) -> (Db, Collection, PathBuf) {
    let settings = Settings { wal_file_bytes: 64 << 10, read_mode, ..Settings::default() };
    let builder = DbBuilder::new(dir).settings(settings);
    let db = builder.open_blocking().expect("it opens");
    let docs = match db.collection("docs") {
        Ok(docs) => docs,
        Err(_) => {
            let docs = db.create_collection("docs", plain_schema()).expect("a new name");
            docs.upsert((0..500).map(row)).run().expect("rows");
            docs.flush().expect("a flush");
            docs
        }
    };
    let segments = RealFs.list_dir(&dir.join("segments")).expect("a directory");
    let name = segments.into_iter().map(|entry| entry.name).next().expect("a segment");
    (db, docs, dir.join("segments").join(name))
}

/// What somebody else may do to a file of ours.
fn cut(file: &Path) {
    let done = Command::new("truncate").args(["-s", "100"]).arg(file).status();
    assert!(done.expect("the program is there").success());
}

#[test]
fn d8_a_segment_cut_on_a_real_disk_is_an_error_at_open_and_under_pread_at_any_time() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("db");
    let (db, docs, segment) = one_real_segment(&path, ReadMode::Pread);
    cut(&segment);
    let error = docs.search(&[1.0; 4]).k(500).run().expect_err("its bytes are gone");
    assert_eq!(error.kind(), ErrorKind::Corruption, "{error:?}");
    assert!(error.to_string().contains(&*segment.to_string_lossy()), "{error}");
    drop((docs, db));
    for read_mode in [ReadMode::Pread, ReadMode::Mmap] {
        let settings = Settings { wal_file_bytes: 64 << 10, read_mode, ..Settings::default() };
        let opened = DbBuilder::new(&path).settings(settings).open_blocking();
        let error = opened.expect_err("the manifest knows its length");
        assert_eq!(error.kind(), ErrorKind::Corruption, "{error:?}");
        assert!(error.to_string().contains("100 bytes"), "{error}");
    }
}

/// The limit that `ReadMode::Pread` is for: whoever cuts a file that is mapped kills the reader.
#[test]
fn d8_limit_a_mapped_segment_that_is_cut_ends_its_process() {
    if let Some(dir) = std::env::var_os(CUT_WHILE_MAPPED) {
        let (_db, docs, segment) = one_real_segment(Path::new(&dir), ReadMode::Mmap);
        cut(&segment);
        drop(docs.search(&[1.0; 4]).k(500).run());
        return;
    }
    let dir = tempfile::tempdir().expect("a directory");
    let mut child = Command::new(std::env::current_exe().expect("this test"));
    child.args(["--exact", "d8_limit_a_mapped_segment_that_is_cut_ends_its_process"]);
    let ended = child.env(CUT_WHILE_MAPPED, dir.path().join("db")).output().expect("it starts");
    let sigbus = if cfg!(target_os = "macos") { 10 } else { 7 };
    assert_eq!(ended.status.signal(), Some(sigbus), "{ended:?}");
}
