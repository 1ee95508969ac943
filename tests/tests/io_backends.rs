//! How the log writes, as a user meets it: every backend keeps what it acknowledged, a database
//! goes from one to another, a machine that forbids io_uring costs nothing but speed, and who asks
//! for a backend by name gets it or an error.

use akidb::{
    DbBuilder, Durability, ErrorKind, Metric, Point, Schema, Settings, WalBackend, blocking::Db,
};
use akidb_vfs::sim::SimFs;
use std::{path::Path, sync::Arc};
use tempfile::TempDir;

const NAMED: [WalBackend; 3] = [WalBackend::Std, WalBackend::Uring, WalBackend::TokioUring];

fn builder(dir: &Path, wal_backend: WalBackend) -> DbBuilder {
    let settings = Settings { wal_backend, wal_file_bytes: 64 << 10, ..Settings::default() };
    DbBuilder::new(dir).settings(settings)
}

fn open(dir: &Path, wal_backend: WalBackend) -> akidb::Result<Db> {
    builder(dir, wal_backend).open_blocking()
}

fn row(id: u64) -> Point {
    Point::new(id, vec![id as f32, 1.0, 2.0, 3.0])
}

fn write(db: &Db, ids: std::ops::Range<u64>) {
    let docs = match db.collection("docs") {
        Ok(docs) => docs,
        Err(_) => db.create_collection("docs", Schema::new(4, Metric::L2)).expect("a new name"),
    };
    for id in ids {
        let durability = if id % 2 == 0 { Durability::Sync } else { Durability::Memory };
        docs.upsert([row(id)]).durability(durability).run().expect("a write");
    }
}

fn count(db: &Db) -> u64 {
    db.collection("docs").and_then(|docs| docs.count(None)).expect("a count")
}

/// Names the backends that this build or machine does not have.
#[expect(clippy::print_stdout, reason = "a run must say what it did not cover")]
fn available(dir: &Path) -> Vec<WalBackend> {
    let works = |backend: &WalBackend| match open(&dir.join(backend.to_string()), *backend) {
        Ok(_) => true,
        Err(error) => {
            println!("left out: {error}");
            assert_eq!(error.kind(), ErrorKind::InvalidInput);
            false
        }
    };
    NAMED.into_iter().filter(works).collect()
}

#[test]
fn a_database_goes_from_backend_to_backend_and_keeps_everything() {
    let dir = TempDir::new().expect("a directory");
    let path = dir.path().join("db");
    let mut rows = 0;
    for _ in 0..2 {
        for backend in available(dir.path()) {
            let db = open(&path, backend).expect("it opens");
            assert_eq!(db.stats().wal_backend, backend);
            assert_eq!(db.recovery_report().wal_backend, backend);
            assert_eq!(db.stats().wal_backend_fallback, None);
            if rows > 0 {
                assert_eq!(count(&db), rows);
            }
            write(&db, rows..rows + 300);
            rows += 300;
        }
    }
    assert_eq!(count(&open(&path, WalBackend::Auto).expect("it opens")), rows);
}

/// What `auto` got is always said, and so is why it is not what it prefers.
#[test]
fn auto_never_fails_and_names_what_it_took() {
    let dir = TempDir::new().expect("a directory");
    let db = open(dir.path(), WalBackend::Auto).expect("it opens");
    write(&db, 0..10);
    let stats = db.stats();
    assert_ne!(stats.wal_backend, WalBackend::Auto);
    let fell_back = stats.wal_backend == WalBackend::Std;
    assert_eq!(stats.wal_backend_fallback.is_some(), fell_back);
}

/// The simulated disk has nothing that the kernel could write to.
#[test]
fn a_backend_asked_for_by_name_that_cannot_work_is_an_error_and_changes_nothing() {
    let sim = SimFs::new(3);
    let dir = Path::new("db");
    let open = |backend| builder(dir, backend).file_system(Arc::new(sim.clone())).open_blocking();
    let db = open(WalBackend::Std).expect("it opens");
    write(&db, 0..10);
    db.close().expect("it closes");
    for backend in [WalBackend::Uring, WalBackend::TokioUring] {
        let error = open(backend).expect_err("there is no such backend here");
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        let text = error.to_string();
        assert!(text.contains(&backend.to_string()) && text.contains("use std, or auto"), "{text}");
    }
    let db = open(WalBackend::Auto).expect("auto falls back");
    assert_eq!(count(&db), 10);
    assert!(db.stats().wal_backend_fallback.is_some());
    assert_eq!(db.recovery_report().unknown_files, Vec::<std::path::PathBuf>::new());
}

#[test]
fn the_setting_is_spelled_as_the_command_spells_it() {
    for (backend, text) in [
        (WalBackend::Std, "\"std\""),
        (WalBackend::Auto, "\"auto\""),
        (WalBackend::Uring, "\"uring\""),
        (WalBackend::TokioUring, "\"tokio_uring\""),
    ] {
        assert_eq!(serde_json::to_string(&backend).expect("JSON"), text);
        assert_eq!(format!("\"{backend}\""), text);
    }
}

/// A container whose seccomp profile denies io_uring: every thread of the database is under it.
#[cfg(target_os = "linux")]
mod denied {
    use super::*;
    use seccompiler::{BpfProgram, SeccompAction, SeccompFilter, apply_filter};

    /// `io_uring_setup`, the same number on every architecture.
    const SETUP: i64 = 425;

    fn deny(errno: u32) {
        let filter = SeccompFilter::new(
            [(SETUP, Vec::new())].into(),
            SeccompAction::Allow,
            SeccompAction::Errno(errno),
            std::env::consts::ARCH.try_into().expect("a known architecture"),
        );
        let program: BpfProgram = filter.and_then(TryInto::try_into).expect("a filter");
        apply_filter(&program).expect("this thread may restrict itself");
    }

    fn lives_there(errno: u32) {
        deny(errno);
        let dir = TempDir::new().expect("a directory");
        let db = open(dir.path(), WalBackend::Auto).expect("auto falls back");
        assert_eq!(db.stats().wal_backend, WalBackend::Std);
        let reason = db.stats().wal_backend_fallback.expect("a reason");
        assert!(!reason.is_empty());
        write(&db, 0..100);
        db.close().expect("it closes");
        for backend in [WalBackend::Uring, WalBackend::TokioUring] {
            let error = open(dir.path(), backend).expect_err("it is denied");
            assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error}");
        }
        let db = open(dir.path(), WalBackend::Std).expect("std needs no ring");
        assert_eq!((count(&db), db.stats().wal_backend_fallback), (100, None));
    }

    #[test]
    fn where_io_uring_is_denied_only_its_demander_notices() {
        for errno in [1, 38] {
            // A filter cannot be taken off a thread again.
            let work = move || lives_there(errno);
            let thread = akidb_vfs::thread::spawn("denied", work).expect("a thread");
            thread.join().expect("the assertions above");
        }
    }
}
