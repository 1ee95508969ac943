//! Directories that cannot be opened, or not written to: a typed error that says which file and
//! what to do, and not one byte changed.

use akidb::{
    Cause, DbBuilder, Error, ErrorKind, Point, Result,
    blocking::{Collection, Db},
};
use akidb_tests::{
    ops::plain_schema,
    run::scan_all,
    world::{DIR, World, tiny_settings},
};
use akidb_vfs::{Fs, sim::CrashPolicy};
use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

fn row(n: u64) -> Point {
    Point::new(n, vec![n as f32, 1.0, 2.0, 3.0])
}

/// A closed database with a segment, tombstones, a cold object and a tail in the log.
fn closed_database() -> World {
    let mut settings = tiny_settings();
    settings.compaction_auto = false;
    let world = World::new(9, settings);
    let db = world.open().expect("an empty disk opens");
    let cold = db.create_collection("cold", plain_schema()).expect("a new name");
    cold.upsert((0..5).map(row)).run().expect("rows");
    assert!(cold.demote().expect("a demotion"));
    let docs = db.create_collection("docs", plain_schema()).expect("a new name");
    docs.upsert((0..9).map(row)).run().expect("rows");
    docs.flush().expect("a flush");
    docs.delete([1_u64]).run().expect("a delete");
    docs.upsert((7..12).map(row)).run().expect("rows");
    docs.flush().expect("a flush");
    docs.upsert((20..22).map(row)).run().expect("rows");
    db.close().expect("it closes");
    world
}

/// Opening fails, and changes no byte of any file, but that it may carry the manifest over to a
/// new file of its own before it looks at the log.
fn refused(world: &World) -> Error {
    let before = world.sim.image();
    let error = match world.open() {
        Ok(db) => panic!("it opens: {:?}", db.recovery_report()),
        Err(error) => error,
    };
    // The lock file is only a place to stand on.
    let about_log = error.to_string().contains("/wal/");
    let counts = |path: &Path| {
        let name = path.file_name().map(|name| name.to_string_lossy()).unwrap_or_default();
        name != "LOCK" && !(about_log && name.starts_with("MANIFEST-"))
    };
    let counted = |image: Vec<(PathBuf, Vec<u8>)>| -> Vec<_> {
        image.into_iter().filter(|(path, _)| counts(path)).collect()
    };
    assert!(
        counted(before) == counted(world.sim.image()),
        "a refused open changed the directory: {error}"
    );
    error
}

fn only_file(world: &World, part: &str) -> PathBuf {
    world.files_with(part).into_iter().next().unwrap_or_else(|| panic!("no file like {part}"))
}

#[test]
fn d9_a_second_open_fails_at_once_and_names_the_holder() {
    let world = closed_database();
    let db = world.open().expect("nobody holds it");
    let error = world.open().expect_err("it is held");
    assert_eq!(error.kind(), ErrorKind::Locked);
    let process = format!("process {}", std::process::id());
    assert!(
        matches!(error.cause(), Cause::Locked { dir, holder }
        if dir == Path::new(DIR) && holder.contains(&process)),
        "{error:?}"
    );
    db.collection("docs").expect("unharmed").upsert([row(1)]).run().expect("unharmed");
    drop(db);
    drop(world.open().expect("the lock went with its holder"));
    // And a crash leaves no lock behind.
    let db = world.open().expect("free");
    world.sim.crash(CrashPolicy::KeepAll);
    drop(world.open().expect("a dead process holds nothing"));
    drop(db);
}

#[test]
fn d9_a_second_open_on_a_real_directory_fails_too() {
    let dir = tempfile::tempdir().expect("a directory");
    let db = Db::open(dir.path()).expect("it opens");
    let error = Db::open(dir.path()).expect_err("it is held");
    assert_eq!(error.kind(), ErrorKind::Locked);
    assert!(error.to_string().contains(&std::process::id().to_string()), "{error}");
    db.close().expect("it closes");
    drop(Db::open(dir.path()).expect("it was let go"));
}

#[test]
fn d9_the_last_handle_lets_go_of_the_directory_however_busy_it_is() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut settings = tiny_settings();
    settings.memtable_bytes = 1 << 10;
    for round in 0..8 {
        let db = DbBuilder::new(dir.path()).settings(settings.clone()).open_blocking();
        let db = db.unwrap_or_else(|error| panic!("round {round}: {error}"));
        let docs = match db.collection("docs") {
            Ok(docs) => docs,
            Err(_) => db.create_collection("docs", plain_schema()).expect("a new name"),
        };
        for n in 0..40 {
            docs.upsert([row(n)]).durability(akidb::Durability::Memory).run().expect("a row");
        }
    }
}

/// The version field of files under the framed format: two bytes behind the magic.
fn make_newer(world: &World, part: &str) -> PathBuf {
    let path = only_file(world, part);
    let file = world.sim.open(&path, akidb_vfs::OpenMode::ReadWrite).expect("it is there");
    let mut header = vec![0; 128];
    file.read_exact_at(&mut header, 0).expect("a header");
    header[8..10].copy_from_slice(&9_u16.to_le_bytes());
    let crc = crc32(&header[..124]);
    header[124..].copy_from_slice(&crc.to_le_bytes());
    file.write_all_at(&header, 0).expect("a write");
    file.sync_all().expect("a sync");
    path
}

/// CRC-32 (IEEE), bit by bit: the tests do not borrow the code under test for it.
fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0_u32, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| (crc >> 1) ^ (0xEDB8_8320 * (crc & 1)))
    })
}

#[test]
fn d13_a_newer_manifest_or_log_is_refused_by_name() {
    for part in ["MANIFEST-", ".wal"] {
        let world = closed_database();
        let path = make_newer(&world, part);
        let error = refused(&world);
        assert_eq!(error.kind(), ErrorKind::Incompatible, "{error:?}");
        let (text, name) = (error.to_string(), path.file_name().expect("a name").to_string_lossy());
        assert!(text.contains(&*name) && text.contains('9'), "{text}");
    }
}

#[test]
fn a_directory_of_something_else() {
    let world = World::new(1, tiny_settings());
    world.sim.create_dir_all(Path::new(DIR)).expect("a directory");
    let path = Path::new(DIR).join("holiday.jpg");
    akidb_vfs::write_file_durably(&world.sim, &path, b"not ours").expect("a file");
    let error = refused(&world);
    assert_eq!(error.kind(), ErrorKind::Incompatible);
    assert!(
        matches!(error.cause(), Cause::Foreign { detail, .. } if detail.contains("holiday")),
        "{error:?}"
    );
}

#[test]
fn a_file_of_another_program_under_our_name() {
    for name in ["MANIFEST-000000000009", "wal/00000000000000000099.wal"] {
        let world = closed_database();
        let path = Path::new(DIR).join(name);
        let bytes = vec![0x42; 4096];
        akidb_vfs::write_file_durably(&world.sim, &path, &bytes).expect("a file");
        let error = refused(&world);
        let kinds = [ErrorKind::Incompatible, ErrorKind::Corruption];
        assert!(kinds.contains(&error.kind()), "{name}: {error:?}");
    }
}

#[test]
fn a_path_that_is_a_file() {
    let world = World::new(1, tiny_settings());
    world.sim.create_dir_all(Path::new("/data")).expect("a directory");
    akidb_vfs::write_file_durably(&world.sim, Path::new(DIR), b"a file").expect("a file");
    let error = refused(&world);
    assert_ne!(error.kind(), ErrorKind::Bug, "{error:?}");
}

/// Removes files whose path contains `part`.
fn half_deleted(part: &str) -> Error {
    let world = closed_database();
    let files = world.files_with(part);
    assert!(!files.is_empty(), "no file like {part}: {:?}", world.sim.files());
    for path in files {
        world.sim.remove_file(&path).expect("it was there");
    }
    refused(&world)
}

#[test]
fn a_directory_without_its_manifest() {
    let error = half_deleted("MANIFEST-");
    assert_eq!(error.kind(), ErrorKind::Corruption);
    assert!(
        matches!(error.cause(), Cause::HalfDeleted { missing, .. } if missing.contains("manifest")),
        "{error:?}"
    );
}

#[test]
fn a_directory_without_its_log() {
    let error = half_deleted("/wal/");
    assert_eq!(error.kind(), ErrorKind::Corruption);
    assert!(
        matches!(error.cause(), Cause::HalfDeleted { missing, .. } if missing.contains("log")),
        "{error:?}"
    );
}

#[test]
fn a_directory_without_one_of_its_segments_or_tombstones() {
    for part in [".seg", ".tmb"] {
        let error = half_deleted(part);
        assert_eq!(error.kind(), ErrorKind::Corruption, "{error:?}");
        assert!(error.to_string().contains(part), "{error}");
    }
}

#[test]
fn a_log_that_misses_one_of_its_files() {
    // Several WAL files, of which any but the newest goes: nothing older speaks of that one.
    let build = || {
        let mut settings = tiny_settings();
        settings.memtable_bytes = 1 << 20;
        settings.memtable_pool_bytes = 4 << 20;
        settings.wal_bytes_max = 1 << 20;
        let world = World::new(3, settings);
        let db = world.open().expect("an empty disk opens");
        let docs = db.create_collection("docs", plain_schema()).expect("a new name");
        for n in 0..120 {
            docs.upsert([row(n)]).run().expect("a row");
        }
        world.sim.kill();
        drop((docs, db));
        world
    };
    let count = build().files_with(".wal").len();
    assert!(count >= 3, "{count} WAL files");
    for gone in 0..count - 1 {
        let world = build();
        let path = world.files_with(".wal")[gone].clone();
        world.sim.remove_file(&path).expect("it was there");
        let error = refused(&world);
        assert_eq!(error.kind(), ErrorKind::Corruption, "file {gone} of {count}: {error:?}");
    }
}

#[test]
fn an_object_that_is_gone_is_named_and_the_rest_goes_on() {
    let world = closed_database();
    for path in world.files_with(".parquet") {
        world.sim.remove_file(&path).expect("it was there");
    }
    let db = world.open().expect("local collections are whole");
    let error =
        db.collection("cold").expect("listed").get([1_u64]).expect_err("its object is gone");
    assert_eq!(error.kind(), ErrorKind::Corruption, "{error:?}");
    assert!(error.to_string().contains(".parquet"), "{error}");
    assert_eq!(db.collection("docs").and_then(|docs| docs.count(None)).expect("a count"), 13);
}

#[test]
fn a_directory_that_is_read_only() {
    let world = closed_database();
    world.sim.set_read_only(true);
    let error = refused(&world);
    assert_eq!(error.kind(), ErrorKind::PermissionDenied, "{error:?}");
    assert!(error.to_string().contains(DIR), "{error}");
    world.sim.set_read_only(false);
    drop(world.open().expect("it was not harmed"));
    let empty = World::new(1, tiny_settings());
    empty.sim.set_read_only(true);
    assert_eq!(refused(&empty).kind(), ErrorKind::PermissionDenied);
}

/// Fills the disk with rows until a write is refused for space.
fn fill(docs: &Collection) -> (u64, Error) {
    for n in 0..10_000 {
        if let Err(error) = docs.upsert([row(n)]).run() {
            return (n, error);
        }
    }
    panic!("the disk never fills");
}

fn no_space_then_space_again(reserve: u64) -> Result<()> {
    let mut settings = tiny_settings();
    settings.disk_reserve_bytes = reserve;
    let world = World::new(4, settings);
    let db = world.open()?;
    let docs = db.create_collection("docs", plain_schema())?;
    docs.upsert((0..20).map(row)).run()?;
    let used: u64 = world.sim.files().iter().map(|(_, len)| len).sum();
    world.sim.set_capacity(Some(used + (64 << 10)));
    let (written, error) = fill(&docs);
    assert_eq!(error.kind(), ErrorKind::NoSpace, "{error:?}");
    assert_eq!(db.stats().poisoned, None, "a full disk is no reason to restart");

    let live = docs.count(None)?;
    assert_eq!(live, written.max(20), "an acknowledged row is gone, or a refused one is there");
    assert_eq!(docs.search(&[1.0, 1.0, 2.0, 3.0]).k(5).run()?.len(), 5);
    if reserve > 0 {
        let gone: Vec<u64> = (0..10).collect();
        docs.delete(gone).run()?;
        assert_eq!(docs.count(None)?, live - 10, "deletes go on");
        docs.flush()?;
    }
    let before = docs.count(None)?;

    world.sim.set_capacity(None);
    docs.upsert([row(50_000)]).run()?;
    docs.flush()?;
    docs.compact()?;
    assert_eq!(docs.count(None)?, before + 1, "writes go on without a restart");
    let rows = scan_all(&docs, 50).expect("a scan");
    db.close()?;
    let db = world.open()?;
    assert_eq!(scan_all(&db.collection("docs")?, 50).expect("a scan"), rows);
    db.close()
}

#[test]
fn d7_no_space_is_typed_harms_nothing_and_passes_without_a_restart() {
    no_space_then_space_again(0).expect("every step is as it must be");
}

#[test]
fn d7_with_a_reserve_the_log_is_not_touched_and_deletes_and_flushes_go_on() {
    no_space_then_space_again(32 << 10).expect("every step is as it must be");
}

#[test]
fn d7_the_reserve_is_checked_before_the_log_is_touched() {
    let mut settings = tiny_settings();
    settings.disk_reserve_bytes = 1 << 20;
    let world = World::new(4, settings);
    let db = world.open().expect("opening needs no reserve");
    let docs = db.create_collection("docs", plain_schema()).expect("a new name");
    docs.upsert([row(1)]).run().expect("the disk is empty");
    let used: u64 = world.sim.files().iter().map(|(_, len)| len).sum();
    world.sim.set_capacity(Some(used + (512 << 10)));
    let before = world.sim.image();
    let error = docs.upsert([row(2)]).run().expect_err("half the reserve is left");
    assert!(
        matches!(error.cause(), Cause::DiskReserve { reserve_bytes, free_bytes }
        if *reserve_bytes == (1 << 20) + 4096 && *free_bytes < 1 << 20),
        "{error:?}"
    );
    assert!(world.sim.image() == before, "a refused write touched the disk");
}

#[test]
fn d7_opening_on_a_full_disk_says_so_and_harms_nothing() {
    let world = closed_database();
    world.sim.set_capacity(Some(0));
    let error = match world.open() {
        // A recovery that needs no space may well succeed.
        Ok(db) => return drop(db),
        Err(error) => error,
    };
    assert_eq!(error.kind(), ErrorKind::NoSpace, "{error:?}");
    world.sim.set_capacity(None);
    let db = world.open().expect("space is back");
    assert_eq!(db.collection("docs").and_then(|docs| docs.count(None)).expect("a count"), 13);
}

#[test]
fn stray_files_are_reported_and_skipped() {
    let world = closed_database();
    for name in [".DS_Store", "segments/.DS_Store", "segments/notes.txt", "wal/core", "lost+found"]
    {
        let path = Path::new(DIR).join(name);
        akidb_vfs::write_file_durably(&world.sim, &path, b"stray").expect("a file");
    }
    let db = world.open().expect("strays are in nobody's way");
    let unknown = &db.recovery_report().unknown_files;
    for name in ["segments/notes.txt", "wal/core", "lost+found"] {
        assert!(unknown.iter().any(|path| path.ends_with(name)), "{name} is not in {unknown:?}");
    }
    assert_eq!(db.collection("docs").and_then(|docs| docs.count(None)).expect("a count"), 13);
}

/// What a crash leaves over goes with the next open, unless something else is wrong too.
#[test]
fn what_the_manifest_has_passed_is_removed_only_by_an_open_that_finds_all_whole() {
    let world = World::new(41, tiny_settings());
    let db = world.open().expect("an empty disk opens");
    let docs = db.create_collection("docs", plain_schema()).expect("a new name");
    for first in [0, 10] {
        docs.upsert((first..first + 10).map(row)).run().expect("rows");
        docs.flush().expect("a flush");
    }
    docs.compact().expect("a compaction");
    drop(docs);
    db.close().expect("it closes");
    let segments = Path::new(DIR).join("segments");
    let left = [segments.join("000000000001.seg"), segments.join("000000000002.tmb.tmp")];
    let kept = [segments.join("000000000099.seg"), segments.join("1.seg")];
    for path in left.iter().chain(&kept) {
        akidb_vfs::write_file_durably(&world.sim, path, b"left over").expect("a file");
    }
    let there = |world: &World, path: &PathBuf| world.sim.read_durable(path).is_some();
    let all_there = |world: &World| left.iter().chain(&kept).all(|path| there(world, path));

    let named =
        world.files_with(".seg").into_iter().find(|p| !left.contains(p) && !kept.contains(p));
    let damaged = world.fork(1);
    damaged.sim.truncate(&named.expect("a segment"), 100).expect("it is there");
    assert_eq!(damaged.open().map(drop).expect_err("a cut segment").kind(), ErrorKind::Corruption);
    assert!(all_there(&damaged), "an open that failed removed something");

    let read = world.builder().inline().read_only().open_blocking().expect("it opens");
    assert!(read.recovery_report().removed_files.is_empty());
    drop(read);
    assert!(all_there(&world), "an open for reading removed something");

    let repaired = world.fork(2);
    let evidence = Path::new(DIR).join("lost+damaged-1");
    repaired.sim.process().create_dir_all(&evidence).expect("a directory");
    repaired.open().and_then(Db::close).expect("it opens");
    assert!(all_there(&repaired), "evidence was removed");

    let db = world.open().expect("it opens");
    let report = db.recovery_report().clone();
    assert_eq!(report.removed_files, left);
    assert_eq!(report.unknown_files, kept);
    assert!(kept.iter().all(|path| there(&world, path)), "{report:?}");
    assert!(world.sim.files().iter().all(|(path, _)| !left.contains(path)), "{report:?}");
    assert_eq!(db.collection("docs").and_then(|docs| docs.count(None)).expect("a count"), 20);
}

#[test]
fn a_path_with_strange_characters_is_only_a_path() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("ein Verzeichnis — 数据 'x'");
    let db = DbBuilder::new(&path).file_system(Arc::new(akidb::vfs::RealFs)).open_blocking();
    let db = db.expect("it opens");
    db.create_collection("docs", plain_schema()).expect("a new name");
    db.close().expect("it closes");
    assert_eq!(Db::open(&path).and_then(|db| db.list_collections()).expect("again"), ["docs"]);
}
