//! What every backend owes the log, on real files: the bytes asked for, where they were asked for,
//! and the failed call by its name. Runs on each backend that this build has and this machine
//! allows, and says on its output which one it left out and why.

use akidb_vfs::{Fs, FsFile, FsOp, OpenMode, RealFs, SystemClock, SystemRandom, sim::SimFs};
use akidb_wal::{
    Backend, BackendChoice, Commit, Drive, Durability, Env, GroupCommit, GroupOptions, Log, LogIo,
    LogOptions, Lsn, Promise, Sink, Staged, WalError, ticket,
};
use proptest::{prelude::*, test_runner::TestRunner};
use std::{
    io::{ErrorKind, IoSlice},
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
};
use tempfile::TempDir;

const OPTIONS: LogOptions = LogOptions {
    file_bytes: 64 << 10,
    frame_bytes_max: 4096,
    zero_ahead_bytes: 64 << 10,
    must_exist: false,
    begins_after: Lsn::ZERO,
};

/// A file that a probe left behind when the process was killed in it.
const PROBE: &str = "18446744073709551615.wal.tmp";

/// A directory, and each backend that works in it.
#[expect(clippy::print_stdout, reason = "a run must say what it did not cover")]
pub(crate) fn on_each_backend(test: impl Fn(Backend, &Arc<dyn LogIo>, &Path)) {
    for choice in [BackendChoice::Std, BackendChoice::Uring, BackendChoice::TokioUring] {
        let dir = TempDir::new().unwrap();
        match Backend::choose(&RealFs, dir.path(), choice) {
            Ok(chosen) => test(chosen.backend, &chosen.io, dir.path()),
            Err(error) => println!("left out: {error}"),
        }
    }
}

pub(crate) fn env(io: &Arc<dyn LogIo>) -> Env {
    Env { fs: Arc::new(RealFs), random: Arc::new(SystemRandom::from_seed(7)), io: Arc::clone(io) }
}

fn create(dir: &Path, name: &str) -> Arc<dyn FsFile> {
    RealFs.create_new(&dir.join(name)).unwrap()
}

fn content(file: &dyn FsFile) -> Vec<u8> {
    let mut bytes = vec![0; usize::try_from(file.len().unwrap()).unwrap()];
    file.read_exact_at(&mut bytes, 0).unwrap();
    bytes
}

/// One call of the log.
#[derive(Clone, Debug)]
struct Write {
    pieces: Vec<Vec<u8>>,
    offset: u16,
    synced: bool,
}

fn writes() -> impl Strategy<Value = Vec<Write>> {
    let piece = prop::collection::vec(any::<u8>(), 0..600);
    let write = (prop::collection::vec(piece, 0..12), any::<u16>(), any::<bool>());
    let write = write.prop_map(|(pieces, offset, synced)| Write { pieces, offset, synced });
    prop::collection::vec(write, 1..5)
}

fn apply(io: &dyn LogIo, file: &dyn FsFile, write: &Write) {
    let mut slices: Vec<_> = write.pieces.iter().map(|piece| IoSlice::new(piece)).collect();
    let offset = u64::from(write.offset);
    if write.synced {
        io.write_and_sync(file, &mut slices, offset).unwrap();
    } else {
        io.write_group(file, &mut slices, offset).unwrap();
    }
}

fn model(file: &mut Vec<u8>, write: &Write) {
    let bytes = write.pieces.concat();
    let start = usize::from(write.offset);
    if !bytes.is_empty() {
        file.resize(file.len().max(start + bytes.len()), 0);
        file[start..start + bytes.len()].copy_from_slice(&bytes);
    }
}

#[test]
fn what_is_written_is_what_is_read_at_the_offset_asked_for() {
    on_each_backend(|backend, io, dir| {
        let config = ProptestConfig { cases: 24, failure_persistence: None, ..Default::default() };
        let outcome = TestRunner::new(config).run(&writes(), |writes| {
            let file = create(dir, "file");
            let mut expected = Vec::new();
            for write in &writes {
                apply(&**io, &*file, write);
                model(&mut expected, write);
            }
            prop_assert_eq!(content(&*file), expected);
            RealFs.remove_file(file.path()).unwrap();
            Ok(())
        });
        outcome.unwrap_or_else(|error| panic!("{backend}: {error}"));
    });
}

/// Linux takes 1024 slices a call and says "invalid argument" to more.
#[test]
fn a_group_of_more_pieces_than_one_call_takes_is_written_whole() {
    on_each_backend(|backend, io, dir| {
        let pieces: Vec<Vec<u8>> = (0..5000_usize).map(|n| vec![n as u8; n % 4]).collect();
        for (name, synced) in [("two calls", false), ("one call", true)] {
            let file = create(dir, name);
            apply(&**io, &*file, &Write { pieces: pieces.clone(), offset: 3, synced });
            io.sync(&*file).unwrap();
            assert_eq!(content(&*file), [&[0; 3][..], &pieces.concat()].concat(), "{backend}");
        }
    });
}

#[test]
fn a_large_group_is_written_whole() {
    on_each_backend(|backend, io, dir| {
        let bytes: Vec<u8> = (0..9_000_001_u32).map(|n| (n % 253) as u8).collect();
        let (head, tail) = bytes.split_at(5_000_000);
        let file = create(dir, "file");
        let mut slices = [IoSlice::new(head), IoSlice::new(tail)];
        io.write_and_sync(&*file, &mut slices, 0).unwrap();
        assert!(content(&*file) == bytes, "{backend}");
    });
}

#[test]
fn a_group_of_nothing_is_a_sync() {
    on_each_backend(|_, io, dir| {
        let file = create(dir, "file");
        io.write_group(&*file, &mut [], 9).unwrap();
        io.write_and_sync(&*file, &mut [IoSlice::new(&[])], 9).unwrap();
        assert_eq!(file.len().unwrap(), 0);
    });
}

/// A failure names the call, the file and the offset, as the caller's poisoning repeats them.
#[test]
fn a_handle_that_may_not_write_fails_the_write() {
    on_each_backend(|backend, io, dir| {
        create(dir, "file");
        let file = RealFs.open(&dir.join("file"), OpenMode::Read).unwrap();
        let mut slices = [IoSlice::new(b"no")];
        let errors = [
            io.write_group(&*file, &mut slices, 5).unwrap_err(),
            io.write_and_sync(&*file, &mut slices, 5).unwrap_err(),
        ];
        for error in errors {
            assert_eq!((error.op, error.offset), (FsOp::Write, Some(5)), "{backend}: {error}");
            assert_eq!(error.path, dir.join("file"));
        }
        assert_eq!(file.len().unwrap(), 0, "{backend}");
    });
}

#[test]
#[cfg(target_os = "linux")]
fn a_full_device_is_a_full_disk_and_no_sync_hides_it() {
    on_each_backend(|backend, io, _| {
        let full = RealFs.open(Path::new("/dev/full"), OpenMode::ReadWrite).unwrap();
        let mut slices = [IoSlice::new(b"some"), IoSlice::new(b"bytes")];
        let errors = [
            io.write_group(&*full, &mut slices, 0).unwrap_err(),
            io.write_and_sync(&*full, &mut slices, 0).unwrap_err(),
        ];
        for error in errors {
            assert!(error.is_no_space() && error.op == FsOp::Write, "{backend}: {error}");
        }
    });
}

/// The null device takes every byte and has nothing to sync, which it says.
#[test]
#[cfg(target_os = "linux")]
fn a_sync_that_fails_after_a_whole_write_is_a_failed_sync() {
    on_each_backend(|backend, io, _| {
        let null = RealFs.open(Path::new("/dev/null"), OpenMode::ReadWrite).unwrap();
        io.write_group(&*null, &mut [IoSlice::new(b"bytes")], 0).unwrap();
        let errors = [
            io.sync(&*null).unwrap_err(),
            io.write_and_sync(&*null, &mut [IoSlice::new(b"bytes")], 0).unwrap_err(),
        ];
        for error in errors {
            assert_eq!(error.op, FsOp::SyncData, "{backend}: {error}");
        }
    });
}

/// Where a file may end on this file system: a write over it is cut short there, and the next one
/// fails. The only short write that a healthy disk gives on request.
fn file_bytes_max(dir: &Path) -> u64 {
    let file = create(dir, "bounds");
    let (mut fits, mut fails) = (0, i64::MAX as u64);
    while fits + 1 < fails {
        let middle = fits.midpoint(fails);
        match file.write_all_at(b"x", middle - 1) {
            Ok(()) => fits = middle,
            Err(_) => fails = middle,
        }
    }
    fits
}

#[test]
fn a_short_write_goes_on_at_the_right_offset() {
    on_each_backend(|backend, io, dir| {
        let end = file_bytes_max(dir);
        for (name, synced) in [("two calls", false), ("one call", true)] {
            let file = create(dir, name);
            let mut slices = [IoSlice::new(b"sixteen bytes fi"), IoSlice::new(b"t and these not")];
            let offset = end - 20;
            let error = if synced {
                io.write_and_sync(&*file, &mut slices, offset).unwrap_err()
            } else {
                io.write_group(&*file, &mut slices, offset).unwrap_err()
            };
            assert_eq!(error.op, FsOp::Write, "{backend}: {error}");
            let mut found = [0; 20];
            file.read_exact_at(&mut found, offset).unwrap();
            assert_eq!(&found, b"sixteen bytes fit an", "{backend}");
        }
    });
}

#[test]
fn a_file_that_the_system_does_not_have_is_refused_by_all_but_std() {
    let sim = SimFs::new(1);
    let file = sim.create_new(Path::new("file")).unwrap();
    on_each_backend(|backend, io, _| {
        let written = io.write_and_sync(&*file, &mut [IoSlice::new(b"bytes")], 0);
        match backend {
            Backend::Std => written.unwrap(),
            _ => assert_eq!(written.unwrap_err().kind(), ErrorKind::Unsupported),
        }
    });
}

fn names(fs: &dyn Fs, dir: &Path) -> Vec<String> {
    let entries = fs.list_dir(dir).unwrap();
    entries.iter().map(|entry| entry.name.to_string_lossy().into_owned()).collect()
}

/// On the simulated disk no backend but std can work: that is a reason to fall back like any
/// other, and the try leaves nothing behind.
#[test]
fn where_a_try_fails_auto_falls_back_with_the_reason_and_a_name_fails() {
    let sim = SimFs::new(1);
    let dir = PathBuf::from("wal");
    sim.create_dir_all(&dir).unwrap();
    let chosen = Backend::choose(&sim, &dir, BackendChoice::Auto).unwrap();
    assert_eq!(chosen.backend, Backend::Std);
    assert!(!chosen.fallback.unwrap().to_string().is_empty());
    for choice in [BackendChoice::Uring, BackendChoice::TokioUring] {
        let error = Backend::choose(&sim, &dir, choice).unwrap_err();
        assert!(matches!(error, WalError::Backend { .. }));
        assert!(error.to_string().contains("use std, or auto"), "{error}");
    }
    assert!(names(&sim, &dir).is_empty());
}

/// A process that is killed in the middle of a try leaves its file; neither the next try nor the
/// next open minds it, whatever backend they use.
#[test]
fn a_probe_file_that_a_crash_left_is_in_nobodys_way() {
    let dir = TempDir::new().unwrap();
    for choice in [BackendChoice::Auto, BackendChoice::Std] {
        let left = create(dir.path(), PROBE);
        left.write_all_at(b"half a probe", 0).unwrap();
        let chosen = Backend::choose(&RealFs, dir.path(), choice).unwrap();
        let (_, report) = open(&env(&chosen.io), dir.path());
        assert_eq!(report.skipped_unknown, Vec::<std::ffi::OsString>::new());
        assert!(!names(&RealFs, dir.path()).contains(&PROBE.to_owned()));
    }
}

fn open(env: &Env, dir: &Path) -> (Log, akidb_wal::ReplayReport) {
    Log::open(env, dir, OPTIONS, Lsn::ZERO, &mut |_, _| Ok(())).unwrap()
}

fn payloads(io: &Arc<dyn LogIo>, dir: &Path) -> Vec<Vec<u8>> {
    let mut found = Vec::new();
    let opened = Log::open(&env(io), dir, OPTIONS, Lsn::ZERO, &mut |_, payload| {
        found.push(payload.to_vec());
        Ok(())
    });
    opened.unwrap();
    found
}

/// The format does not depend on the backend: each one goes on where another one stopped.
#[test]
fn a_log_is_carried_from_backend_to_backend() {
    let dir = TempDir::new().unwrap();
    let expected = Mutex::new(Vec::new());
    for round in 0..2 {
        on_each_backend(|backend, io, _| {
            let mut expected = expected.lock().unwrap();
            assert_eq!(payloads(io, dir.path()), *expected, "{backend}");
            let (mut log, _) = open(&env(io), dir.path());
            for n in 0..50 {
                let payload = format!("{backend} {round} {n}").into_bytes();
                expected.push(payload.clone());
                log.append(payload).unwrap();
                log.commit(n % 7 == 0).unwrap();
            }
        });
    }
    assert_eq!(payloads(&env_std().io, dir.path()), expected.into_inner().unwrap());
}

fn env_std() -> Env {
    Env::new(Arc::new(RealFs), Arc::new(SystemRandom::from_seed(8)))
}

/// Acknowledges what was committed.
struct Acks(Vec<Promise<Lsn>>);

impl Sink for Acks {
    type Request = (Vec<u8>, Durability, Promise<Lsn>);

    fn stage(&mut self, _: Lsn, (payload, durability, answer): Self::Request) -> Staged {
        self.0.push(answer);
        Staged::Write { payload, durability }
    }

    fn committed(&mut self, commit: &Commit) {
        self.0.drain(..).for_each(|answer| answer.answer(Ok(commit.last)));
    }

    fn failed(&mut self, error: &Arc<WalError>) {
        self.0.drain(..).for_each(|answer| answer.answer(Err(Arc::clone(error))));
    }

    fn rejected(&mut self, (_, _, answer): Self::Request, error: &Arc<WalError>) {
        answer.answer(Err(Arc::clone(error)));
    }
}

/// Group commit from several threads, over many files, then recovery without a clean close.
#[test]
fn what_a_group_acknowledged_is_recovered_on_every_backend() {
    on_each_backend(|backend, io, dir| {
        let (log, _) = open(&env(io), dir);
        let clock = Arc::new(SystemClock::new());
        let options = GroupOptions::default();
        let group =
            GroupCommit::start(log, Acks(Vec::new()), options, clock, Drive::Thread).unwrap();
        let writers = 6_usize;
        let write = |writer: usize| {
            for n in 0..40_usize {
                let (answer, ticket) = ticket();
                let payload = [&[writer as u8][..], &vec![n as u8; 40 * n]].concat();
                let durability = if n % 3 == 0 { Durability::Memory } else { Durability::Sync };
                group.submit((payload, durability, answer));
                ticket.wait().unwrap();
            }
        };
        std::thread::scope(|scope| {
            for writer in 0..writers {
                akidb_vfs::thread::spawn_scoped(scope, "writer", move || write(writer)).unwrap();
            }
        });
        group.close().unwrap();
        let found = payloads(io, dir);
        assert_eq!(found.len(), writers * 40, "{backend}");
        for writer in 0..writers {
            let mine = found.iter().filter(|payload| payload[0] == writer as u8);
            let expected =
                (0..40_usize).map(|n| [&[writer as u8][..], &vec![n as u8; 40 * n]].concat());
            assert!(mine.cloned().eq(expected), "{backend}: writer {writer}");
        }
    });
}
