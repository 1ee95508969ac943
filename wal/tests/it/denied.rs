//! Machines that forbid io_uring, as containers and hardened kernels do: the calls are denied to
//! one thread by a seccomp filter, with the error numbers that are seen in the wild.

use crate::backends::env;
use akidb_vfs::{Fs, FsOp, RealFs, thread};
use akidb_wal::{
    Backend, BackendChoice, BackendError, Chosen, Env, Log, LogOptions, Lsn, WalError,
};
use seccompiler::{BpfProgram, SeccompAction, SeccompFilter, apply_filter};
use std::{io::IoSlice, path::Path};
use tempfile::TempDir;

/// The numbers of the two calls, the same on every architecture.
const SETUP: i64 = 425;
const ENTER: i64 = 426;

/// Operation not permitted, as Docker's profile says.
const EPERM: u32 = 1;
/// Function not implemented, as old kernels and gVisor say.
const ENOSYS: u32 = 38;

/// From here on, until it ends, `call` fails in this thread and those it starts.
fn deny(call: i64, errno: u32) {
    let filter = SeccompFilter::new(
        [(call, Vec::new())].into(),
        SeccompAction::Allow,
        SeccompAction::Errno(errno),
        std::env::consts::ARCH.try_into().unwrap(),
    );
    let program: BpfProgram = filter.unwrap().try_into().unwrap();
    apply_filter(&program).unwrap();
}

/// A filter cannot be taken back, so each test has a thread for it.
fn where_denied(call: i64, errno: u32, test: impl FnOnce() + Send) {
    std::thread::scope(|scope| {
        let work = move || {
            deny(call, errno);
            test();
        };
        thread::spawn_scoped(scope, "denied", work).unwrap().join().unwrap();
    });
}

fn choose(dir: &Path, choice: BackendChoice) -> Result<Chosen, WalError> {
    Backend::choose(&RealFs, dir, choice)
}

fn open(env: &Env, dir: &Path) -> (Log, Vec<Vec<u8>>) {
    let options =
        LogOptions { file_bytes: 64 << 10, frame_bytes_max: 4096, ..LogOptions::default() };
    let mut seen = Vec::new();
    let opened = Log::open(env, dir, options, Lsn::ZERO, &mut |_, payload| {
        seen.push(payload.to_vec());
        Ok(())
    });
    (opened.unwrap().0, seen)
}

#[test]
fn without_a_ring_auto_takes_std_and_says_why() {
    for errno in [EPERM, ENOSYS] {
        let dir = TempDir::new().unwrap();
        where_denied(SETUP, errno, || {
            let chosen = choose(dir.path(), BackendChoice::Auto).unwrap();
            assert_eq!(chosen.backend, Backend::Std);
            let Some(BackendError::NoRing(error)) = chosen.fallback else {
                panic!("not the reason: {:?}", chosen.fallback);
            };
            assert_eq!(error.raw_os_error(), Some(errno as i32));
            assert!(RealFs.list_dir(dir.path()).unwrap().is_empty());
        });
    }
}

#[test]
fn without_a_ring_a_backend_asked_for_by_name_is_an_error() {
    for errno in [EPERM, ENOSYS] {
        let dir = TempDir::new().unwrap();
        where_denied(SETUP, errno, || {
            for choice in [BackendChoice::Uring, BackendChoice::TokioUring] {
                let error = choose(dir.path(), choice).unwrap_err();
                let text = error.to_string();
                let WalError::Backend { source, .. } = error else { panic!("not typed: {text}") };
                assert!(matches!(source, BackendError::NoRing(_)), "{source}");
                assert!(text.contains("seccomp") && text.contains("use std"), "{text}");
            }
        });
    }
}

/// A profile may know the first call and not the second. tokio-uring would wait for ever here: it
/// does not look at what the kernel says to a submission.
#[test]
fn a_ring_that_takes_nothing_is_found_out_by_the_try() {
    for errno in [EPERM, ENOSYS] {
        let dir = TempDir::new().unwrap();
        where_denied(ENTER, errno, || {
            let chosen = choose(dir.path(), BackendChoice::Auto).unwrap();
            assert_eq!(chosen.backend, Backend::Std);
            let Some(BackendError::Probe(error)) = chosen.fallback else {
                panic!("not the reason: {:?}", chosen.fallback);
            };
            assert_eq!(error.op, FsOp::Write);
            assert_eq!(error.source.raw_os_error(), Some(errno as i32));
            for choice in [BackendChoice::Uring, BackendChoice::TokioUring] {
                let error = choose(dir.path(), choice).unwrap_err();
                assert!(matches!(error, WalError::Backend { .. }), "{error}");
            }
            assert!(RealFs.list_dir(dir.path()).unwrap().is_empty());
        });
    }
}

/// The backend is never changed in mid-file: a ring that stops working stops the log, and what was
/// acknowledged before is found by the next open, with standard calls.
#[test]
fn a_ring_that_breaks_later_poisons_the_log_and_loses_nothing() {
    let dir = TempDir::new().unwrap();
    let Ok(chosen) = choose(dir.path(), BackendChoice::Uring) else {
        println!("left out: this machine has no io_uring");
        return;
    };
    let (mut log, _) = open(&env(&chosen.io), dir.path());
    log.append(b"kept".to_vec()).unwrap();
    log.commit(true).unwrap();
    where_denied(ENTER, EPERM, || {
        log.append(b"lost".to_vec()).unwrap();
        assert!(matches!(log.commit(true), Err(WalError::Poisoned(_))));
        assert!(log.append(b"refused".to_vec()).is_err());
    });
    // The ring would be let in again here, but it may hold what was never taken.
    let file = RealFs.create_new(&dir.path().join("other")).unwrap();
    assert!(chosen.io.write_group(&*file, &mut [IoSlice::new(b"bytes")], 0).is_err());
    drop(log);
    let std = choose(dir.path(), BackendChoice::Std).unwrap();
    let (_, seen) = open(&env(&std.io), dir.path());
    assert_eq!(seen, [b"kept".to_vec()]);
}
