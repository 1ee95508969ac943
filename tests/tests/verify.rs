//! `Verify`: what is damaged is named by file and offset, with what it may cost; what is sound is
//! called sound, also while somebody writes; and looking changes nothing.

use akidb::{
    ErrorKind, Finding, FindingKind, Metric, Point, ReadMode, Schema, Severity, Verify,
    VerifyReport, WalDump, blocking::Db,
};
use akidb_tests::{
    fixture::{every_kind_of_file, leave_notes, row},
    ops::plain_schema,
    run::scan_all,
    world::{World, tiny_settings},
};
use akidb_vfs::{Fs, read_file, write_file_durably};
use serde_json::json;
use std::{
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

/// Places tried in each file, beside its first and last bytes.
const SAMPLES: u64 = 40;

fn verify(world: &World, deep: bool) -> VerifyReport {
    let before = world.sim.image();
    let report = Verify::new(world.dir())
        .file_system(Arc::new(world.sim.process()))
        .deep(deep)
        .run()
        .expect("there is a database of this version");
    assert!(before == world.sim.image(), "looking changed something");
    report
}

fn damage(report: &VerifyReport) -> Vec<&Finding> {
    report.findings.iter().filter(|finding| finding.severity > Severity::Note).collect()
}

/// What verification says names the file, and an offset in it if it names one.
fn names(report: &VerifyReport, path: &Path, len: u64) -> bool {
    damage(report)
        .iter()
        .any(|finding| finding.file == path && finding.offset.is_none_or(|offset| offset <= len))
}

#[test]
fn a_sound_database_is_called_sound() {
    let (world, rows) = every_kind_of_file(ReadMode::Mmap);
    for deep in [false, true] {
        let report = verify(&world, deep);
        assert_eq!(report.findings, [], "deep {deep}");
        assert!(report.is_sound() && report.files >= 5 && report.batches > 0, "{report:?}");
        // Deep sees dead rows too: those that were replaced or deleted in segments.
        let live: usize = rows.values().map(std::collections::BTreeMap::len).sum();
        assert!(!deep || report.rows as usize >= live - 3, "{report:?}");
    }
}

/// A database that a crash left, in which nothing is wrong: the torn end is a note.
#[test]
fn what_a_crash_leaves_is_no_damage() {
    for seed in 0..20 {
        let world = World::new(seed, tiny_settings());
        let db = world.open().expect("an empty disk opens");
        let docs = db.create_collection("docs", plain_schema()).expect("a new name");
        world.sim.power_off_at(40 + seed * 7);
        for n in 0..40 {
            if docs.upsert([row(n)]).run().is_err() {
                break;
            }
        }
        drop((docs, db));
        world.sim.reboot(akidb_vfs::sim::CrashPolicy::Random);
        let report = verify(&world, true);
        assert!(report.is_sound(), "seed {seed}: {:?}", report.findings);
    }
}

/// Opens and reads every row.
fn reads_exactly(world: &World, rows: &akidb_tests::fixture::AllRows) -> bool {
    let read = || -> akidb::Result<bool> {
        let db = world.open()?;
        let mut same = true;
        for (name, wanted) in rows {
            let collection = db.collection(name)?;
            collection.verify()?;
            same &= scan_all(&collection, 10).is_none_or(|found| found == *wanted);
        }
        Ok(same)
    };
    match read() {
        Ok(same) => {
            assert!(same, "wrong rows and no error");
            true
        }
        Err(_) => false,
    }
}

#[test]
fn every_damaged_byte_that_matters_is_named_with_its_file() {
    let (world, rows) = every_kind_of_file(ReadMode::Mmap);
    for (path, len) in world.sim.files() {
        if path.ends_with("LOCK") {
            continue;
        }
        let step = (len / SAMPLES).max(1);
        let edges = (0..len.min(24)).chain(len.saturating_sub(8)..len);
        let (mut tried, mut named) = (0, 0);
        for offset in edges.chain((0..len).step_by(step as usize)) {
            let fork = world.fork(offset);
            fork.sim.corrupt(&path, offset, 1 << (offset % 8)).expect("within the file");
            let report = Verify::new(fork.dir()).file_system(Arc::new(fork.sim.process())).run();
            tried += 1;
            let what = format!("{} at {offset}", path.display());
            match report {
                // A version that is newer by the flip: other words, and no less refused.
                Err(error) => assert_eq!(error.kind(), ErrorKind::Incompatible, "{what}: {error}"),
                Ok(report) if report.is_sound() => {
                    assert!(reads_exactly(&fork, &rows), "{what}: called sound, and is not");
                }
                Ok(report) => {
                    named += 1;
                    assert!(names(&report, &path, len), "{what}: {:?}", report.findings);
                }
            }
        }
        assert!(named > 0 && tried > 0, "{}: {named} of {tried}", path.display());
    }
}

#[test]
fn a_file_that_was_cut_or_is_gone_is_named() {
    let (world, _) = every_kind_of_file(ReadMode::Mmap);
    let newest_wal = world.files_with(".wal").pop().expect("a log");
    for (path, len) in world.sim.files() {
        if path.ends_with("LOCK") {
            continue;
        }
        for cut in [0, 1, len / 3, len / 2, len - 1] {
            let fork = world.fork(cut);
            fork.sim.truncate(&path, cut).expect("it is there");
            let report = verify(&fork, false);
            let found = &report.findings;
            assert!(names(&report, &path, len), "{} cut to {cut}: {found:?}", path.display());
        }
        let fork = world.fork(1);
        fork.sim.process().remove_file(&path).expect("it is there");
        let report = verify(&fork, false);
        if path == newest_wal {
            continue; // D8 says why: the log then looks as if it had ended before
        }
        assert!(!report.is_sound(), "{} is gone: {:?}", path.display(), report.findings);
    }
}

/// No row is in them, so the damage costs none; but it is said where it is.
#[test]
fn every_damaged_byte_of_the_journal_of_uploads_and_of_the_dead_letters_is_named() {
    let (world, rows) = every_kind_of_file(ReadMode::Mmap);
    let files = verify(&world, false).files;
    let paths = leave_notes(&world);
    let report = verify(&world, false);
    assert_eq!((report.findings.len(), report.files), (0, files + 2));
    let is_named = |world: &World, path: &Path, what: &str| {
        let report = verify(world, false);
        let found = damage(&report);
        let [finding] = found.as_slice() else { panic!("{what}: {found:?}") };
        assert_eq!((&*finding.file, finding.kind), (path, FindingKind::NotesDamaged), "{what}");
        assert_eq!((finding.severity, finding.rows), (Severity::Damage, None), "{what}");
        finding.offset.expect("where it is")
    };
    for path in &paths {
        let len = world.sim.process().metadata(path).expect("it is there").len;
        let mut last = 0;
        for at in 0..len {
            let what = format!("{} at {at}", path.display());
            let flipped = world.fork(at);
            flipped.sim.corrupt(path, at, 1 << (at % 8)).expect("within the file");
            let offset = is_named(&flipped, path, &what);
            assert!(offset <= at, "{what}: said to be at {offset}");
            last = offset;
            let cut = world.fork(at);
            cut.sim.truncate(path, at).expect("it is there");
            is_named(&cut, path, &what);
        }
        assert!(last > 40, "the last byte is not in the header: {last}");
        let gone = world.fork(1);
        gone.sim.process().remove_file(path).expect("it is there");
        assert!(verify(&gone, false).is_sound(), "nothing noted is nothing wrong");
        assert!(reads_exactly(&gone, &rows));
    }
}

#[test]
fn notes_of_a_newer_version_are_refused_as_such() {
    let (world, _) = every_kind_of_file(ReadMode::Mmap);
    for path in leave_notes(&world) {
        let fork = world.fork(2);
        let fs = fork.sim.process();
        let mut bytes = read_file(&fs, &path).expect("it is there");
        bytes[8] = 2;
        let crc = crc32fast::hash(&bytes[..36]);
        bytes[36..40].copy_from_slice(&crc.to_le_bytes());
        write_file_durably(&fs, &path, &bytes).expect("it can be written");
        let verify = Verify::new(fork.dir()).file_system(Arc::new(fork.sim.process()));
        let error = verify.run().map(drop).expect_err("it is newer");
        assert_eq!(error.kind(), ErrorKind::Incompatible, "{error}");
        assert!(error.to_string().contains(&*path.to_string_lossy()), "{error}");
    }
}

#[test]
fn files_that_changed_places_are_named() {
    let mut settings = tiny_settings();
    settings.memtable_bytes = 1 << 20;
    settings.memtable_pool_bytes = 4 << 20;
    settings.wal_bytes_max = 1 << 20;
    let logged = World::new(6, settings);
    let db = logged.open().expect("an empty disk opens");
    let docs = db.create_collection("docs", plain_schema()).expect("a new name");
    for n in 0..60 {
        docs.upsert([row(n)]).run().expect("a row");
    }
    db.close().expect("it closes");
    let (world, _) = every_kind_of_file(ReadMode::Mmap);
    for (world, kind) in [(&world, ".seg"), (&logged, ".wal")] {
        let files = world.files_with(kind);
        let [first, .., last] = files.as_slice() else { panic!("two files of {kind}: {files:?}") };
        let fork = world.fork(3);
        let fs = fork.sim.process();
        let (a, b) = (read_file(&fs, first), read_file(&fs, last));
        write_file_durably(&fs, first, &b.expect("it can be read")).expect("it can be written");
        write_file_durably(&fs, last, &a.expect("it can be read")).expect("it can be written");
        let report = verify(&fork, false);
        assert!(
            names(&report, first, u64::MAX) || names(&report, last, u64::MAX),
            "{kind}: {:?}",
            report.findings
        );
    }
}

/// A log of ten batches of one row each, nothing flushed: (world, its file, offsets by LSN).
fn plain_log() -> (World, PathBuf, Vec<u64>) {
    let mut settings = tiny_settings();
    settings.wal_file_bytes = 32 << 10;
    settings.memtable_bytes = 1 << 20;
    settings.memtable_pool_bytes = 4 << 20;
    let world = World::new(5, settings);
    let db = world.open().expect("an empty disk opens");
    let docs = db.create_collection("docs", plain_schema()).expect("a new name");
    for n in 0..10 {
        docs.upsert([row(n)]).run().expect("a row");
    }
    db.close().expect("it closes");
    let path = world.files_with(".wal").pop().expect("a log");
    let dump = akidb::dump_wal(&world.sim.process(), &path, &WalDump::default());
    let frames = dump.expect("a log").remove(0).frames;
    let offsets = frames.iter().filter(|f| f.kind == "data").map(|f| f.offset).collect();
    (world, path, offsets)
}

#[test]
fn damage_in_the_log_says_which_writes_it_costs() {
    let (world, path, offsets) = plain_log();
    for lsn in [1_u64, 4, 9] {
        let fork = world.fork(lsn);
        let offset = offsets[lsn as usize - 1];
        fork.sim.corrupt(&path, offset + 60, 1).expect("within the frame");
        let report = verify(&fork, false);
        let [finding] = damage(&report)[..] else { panic!("{:?}", report.findings) };
        assert_eq!((finding.kind, finding.severity), (FindingKind::LogDamaged, Severity::Loss));
        assert_eq!((finding.file.as_path(), finding.offset), (path.as_path(), Some(offset)));
        assert_eq!(finding.lsns, Some((lsn, lsn)), "{finding}");
    }
}

#[test]
fn damage_in_a_segment_says_how_many_rows_it_costs() {
    let (world, _) = every_kind_of_file(ReadMode::Mmap);
    let segment = world.files_with(".seg").remove(0);
    let description = akidb::inspect(&world.sim.process(), &segment).expect("a segment");
    let place = |block: &str| -> u64 {
        let entry = description.entries.iter().find(|entry| entry.contains(block));
        let words: Vec<&str> = entry.expect("such a block").split_whitespace().collect();
        let at = words.iter().position(|word| *word == "offset").expect("an offset");
        words[at + 1].parse().expect("a number")
    };
    for (block, severity) in [
        ("vectors", Severity::Loss),
        ("id index", Severity::Damage),
        ("field index", Severity::Damage),
    ] {
        let fork = world.fork(1);
        fork.sim.corrupt(&segment, place(block), 1).expect("within the file");
        let report = verify(&fork, false);
        let found = damage(&report);
        let finding = found.first().unwrap_or_else(|| panic!("{block}: nothing is found"));
        assert_eq!((finding.severity, &finding.file), (severity, &segment), "{block}: {finding}");
        assert_eq!(finding.collection.as_deref(), Some("docs"), "{block}: {finding}");
        assert_eq!(finding.rows.is_some(), severity == Severity::Loss, "{block}: {finding}");
    }
}

#[test]
fn files_of_others_are_noted_and_harmless() {
    let (world, _) = every_kind_of_file(ReadMode::Mmap);
    let fs = world.sim.process();
    for name in ["notes.txt", "segments/000000009999.seg", "wal/readme"] {
        write_file_durably(&fs, &world.dir().join(name), b"mine").expect("it can be written");
    }
    let report = verify(&world, true);
    assert!(report.is_sound(), "{:?}", report.findings);
    let kinds: Vec<_> = report.findings.iter().map(|finding| finding.kind).collect();
    assert_eq!(kinds, [FindingKind::UnknownFile; 3], "{:?}", report.findings);
}

#[test]
fn no_database_is_not_a_damaged_one() {
    let world = World::new(1, tiny_settings());
    world.sim.process().create_dir_all(&world.dir()).expect("a directory");
    let result = Verify::new(world.dir()).file_system(Arc::new(world.sim.process())).run();
    assert_eq!(result.expect_err("it is empty").kind(), ErrorKind::NotFound);
    let result = Verify::new("/nowhere").file_system(Arc::new(world.sim.process())).run();
    assert_eq!(result.expect_err("it is not there").kind(), ErrorKind::NotFound);
}

/// Files come and go while they are looked at: flushes, compactions, new logs and manifests.
#[test]
fn beside_a_writer_nothing_is_found_damaged() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let settings = akidb::Settings { disk_reserve_bytes: 0, ..tiny_settings() };
    let open = |settings| akidb::DbBuilder::new(dir.path()).settings(settings).open_blocking();
    let db: Db = open(settings).expect("a new directory");
    let docs = db.create_collection("docs", Schema::new(4, Metric::Dot)).expect("a new name");
    let done = Arc::new(AtomicBool::new(false));
    let writer = akidb_vfs::thread::spawn("writer", {
        let (done, docs) = (done.clone(), docs.clone());
        move || {
            let mut n = 0_u64;
            while !done.load(Ordering::Relaxed) || n == 0 {
                let rows = (0..8).map(|i| {
                    Point::new((n + i) % 300, [n as f32, 1.0, 2.0, 3.0]).meta(json!({"n": n}))
                });
                docs.upsert(rows).run().expect("a write");
                n += 8;
            }
        }
    })
    .expect("a thread");
    let mut passes = 0;
    for turn in 0..25 {
        let report = Verify::new(dir.path()).deep(turn % 5 == 0).run().expect("a database");
        assert!(report.is_sound(), "turn {turn}: {:?}", report.findings);
        passes += report.passes;
    }
    done.store(true, Ordering::Relaxed);
    writer.join().expect("the writer ends");
    assert!(passes >= 25);
    db.close().expect("it closes");
    let report = Verify::new(dir.path()).deep(true).run().expect("a database");
    assert!(report.is_sound(), "{:?}", report.findings);
}
