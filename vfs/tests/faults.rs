//! Failures on request: each kind does to its caller and to the disk what its documentation says,
//! and the loops of the provided methods live through those that are no failures.

#![expect(clippy::unwrap_used, reason = "the helpers of a test fail it by panicking")]

use akidb_vfs::{
    Fs, FsFile, FsOp, OpenMode, read_file,
    sim::{CrashPolicy, Fault, FaultKind, SimFs},
    write_file_durably,
};
use std::{io::ErrorKind, path::Path, sync::Arc};

fn path(text: &str) -> &Path {
    Path::new(text)
}

fn durable(sim: &SimFs, name: &str, bytes: &[u8]) -> Arc<dyn FsFile> {
    write_file_durably(sim, path(name), bytes).unwrap();
    sim.open(path(name), OpenMode::ReadWrite).unwrap()
}

fn read(sim: &SimFs, name: &str) -> Vec<u8> {
    read_file(sim, path(name)).unwrap()
}

#[test]
fn short_and_interrupted_calls_are_gone_through() {
    let sim = SimFs::new(1);
    let file = durable(&sim, "/f", b"");
    for nth in [1, 3, 4] {
        sim.inject(Fault::new(FaultKind::ShortWrite).nth(nth));
        sim.inject(Fault::new(FaultKind::Interrupted).on(FsOp::Write).nth(nth + 1));
    }
    sim.inject(Fault::new(FaultKind::Interrupted).on(FsOp::Read));
    let bytes: Vec<u8> = (0..=255).cycle().take(5000).collect();
    file.write_all_at(&bytes, 0).unwrap();
    assert_eq!(read(&sim, "/f"), bytes);
    assert!(sim.fired()[&FaultKind::ShortWrite] >= 2);
    assert!(sim.fired()[&FaultKind::Interrupted] >= 2);
}

#[test]
fn a_short_write_returns_a_true_count_below_the_whole() {
    let sim = SimFs::new(1);
    let file = durable(&sim, "/f", b"");
    for _ in 0..50 {
        sim.inject(Fault::new(FaultKind::ShortWrite));
        let at = file.len().unwrap();
        let slices = [std::io::IoSlice::new(b"ab"), std::io::IoSlice::new(b"c")];
        let count = file.write_vectored_at(&slices, at).unwrap();
        assert!(count == 1 || count == 2, "{count}");
        assert_eq!(file.len().unwrap(), at + count as u64);
    }
}

#[test]
fn an_io_error_has_no_effect_and_names_call_path_and_offset() {
    let sim = SimFs::new(1);
    let file = durable(&sim, "/f", b"kept");
    sim.inject(Fault::new(FaultKind::Eio).path("/f"));
    sim.create_new(path("/other")).unwrap();
    let error = file.write_all_at(b"x", 2).unwrap_err();
    assert_eq!((error.op, error.path.as_path(), error.offset), (FsOp::Write, path("/f"), Some(2)));
    assert_eq!(read(&sim, "/f"), b"kept");
}

#[test]
fn a_sticky_fault_goes_on_until_it_is_cleared() {
    let sim = SimFs::new(1);
    sim.inject(Fault::new(FaultKind::TooManyFiles).nth(2).sticky());
    durable_name(&sim, "/a").unwrap();
    for _ in 0..3 {
        let error = durable_name(&sim, "/b").unwrap_err();
        assert_eq!(error.source.raw_os_error(), Some(24), "EMFILE");
    }
    sim.clear_faults();
    durable_name(&sim, "/b").unwrap();
    assert_eq!(sim.fired()[&FaultKind::TooManyFiles], 3);
}

fn durable_name(sim: &SimFs, name: &str) -> Result<Arc<dyn FsFile>, akidb_vfs::FsError> {
    sim.create_new(path(name))
}

#[test]
fn after_a_failed_sync_a_later_ok_says_nothing_about_the_earlier_bytes() {
    let sim = SimFs::new(1);
    let file = durable(&sim, "/f", &[1; 2048]);
    file.write_all_at(&[2; 1024], 0).unwrap();
    sim.inject(Fault::new(FaultKind::SyncFailsCacheKept));
    file.sync_data().unwrap_err();
    assert_eq!(read(&sim, "/f")[..1024], [2; 1024], "readers see the cache");
    file.write_all_at(&[3; 512], 512).unwrap();
    file.sync_data().unwrap();
    // The rewritten sector is durable, the other one is not, and even a kind crash loses it.
    for policy in [CrashPolicy::DropAll, CrashPolicy::KeepAll] {
        let fork = sim.fork(0);
        fork.crash(policy);
        let bytes = read(&fork, "/f");
        assert_eq!(bytes[..512], [1; 512], "{policy:?}");
        assert_eq!(bytes[512..1024], [3; 512], "{policy:?}");
        assert_eq!(bytes[1024..], [1; 1024], "{policy:?}");
    }
}

#[test]
fn a_failed_sync_that_drops_the_cache_shows_the_old_bytes_at_the_new_length() {
    let sim = SimFs::new(1);
    let file = durable(&sim, "/f", &[1; 600]);
    file.write_all_at(&[2; 1000], 0).unwrap();
    sim.inject(Fault::new(FaultKind::SyncFailsCacheDropped));
    file.sync_data().unwrap_err();
    let mut wanted = vec![1; 600];
    wanted.resize(1000, 0);
    assert_eq!(read(&sim, "/f"), wanted);
    assert_eq!(sim.read_durable(path("/f")).unwrap(), vec![1; 600]);
}

#[test]
fn a_failed_directory_sync_makes_no_name_durable() {
    let sim = SimFs::new(1);
    sim.inject(Fault::new(FaultKind::SyncFailsCacheKept).on(FsOp::SyncDir));
    sim.create_new(path("/f")).unwrap();
    sim.sync_dir(path("/")).unwrap_err();
    assert_eq!(sim.read_durable(path("/f")), None);
}

#[test]
fn a_flipped_bit_is_in_what_was_read_not_on_the_disk() {
    let sim = SimFs::new(1);
    let file = durable(&sim, "/f", &[0; 100]);
    sim.inject(Fault::new(FaultKind::ReadFlip).on(FsOp::Read));
    let mut buf = [0; 100];
    assert_eq!(file.read_at(&mut buf, 100).unwrap(), 0, "the end of the file has no bit to flip");
    file.read_exact_at(&mut buf, 0).unwrap();
    assert_eq!(buf.iter().map(|byte| byte.count_ones()).sum::<u32>(), 1);
    sim.inject(Fault::new(FaultKind::ReadFlip).on(FsOp::Map));
    let map = sim.map(path("/f")).unwrap();
    assert_eq!(map.iter().map(|byte| byte.count_ones()).sum::<u32>(), 1);
    assert_eq!(read(&sim, "/f"), [0; 100]);
}

#[test]
fn a_full_disk_writes_what_fits_then_refuses_growth_and_recovers_with_space() {
    let sim = SimFs::new(1);
    let file = durable(&sim, "/f", &[1; 600]);
    sim.set_capacity(Some(1000));
    assert_eq!(sim.free_space(path("/")).unwrap(), 400);
    assert!(file.allocate(1001).unwrap_err().is_no_space());
    assert_eq!(file.len().unwrap(), 600, "a refused allocation has no effect");
    assert!(file.write_all_at(&[2; 500], 600).unwrap_err().is_no_space());
    assert_eq!(file.len().unwrap(), 1000, "the part that fitted was written");
    file.write_all_at(&[3; 1000], 0).unwrap(); // overwriting needs no space
    sim.set_capacity(Some(2000));
    file.write_all_at(&[2; 500], 600).unwrap();
    drop(file);
    sim.remove_file(path("/f")).unwrap();
    assert_eq!(sim.free_space(path("/")).unwrap(), 2000);
}

#[test]
fn an_unlinked_open_file_holds_its_space() {
    let sim = SimFs::new(1);
    sim.set_capacity(Some(1000));
    let file = durable(&sim, "/f", &[1; 600]);
    sim.remove_file(path("/f")).unwrap();
    assert_eq!(sim.free_space(path("/")).unwrap(), 400);
    drop(file);
    assert_eq!(sim.free_space(path("/")).unwrap(), 1000);
}

#[test]
fn a_read_only_disk_reads_and_refuses_every_write() {
    let sim = SimFs::new(1);
    let file = durable(&sim, "/f", b"bytes");
    sim.create_dir_all(path("/dir")).unwrap();
    sim.set_read_only(true);
    assert_eq!(read(&sim, "/f"), b"bytes");
    sim.create_dir_all(path("/dir")).unwrap();
    let refused = [
        file.write_all_at(b"x", 0).unwrap_err(),
        file.allocate(10).unwrap_err(),
        sim.create_new(path("/g")).unwrap_err(),
        sim.open(path("/f"), OpenMode::ReadWrite).unwrap_err(),
        sim.rename(path("/f"), path("/g")).unwrap_err(),
        sim.remove_file(path("/f")).unwrap_err(),
        sim.create_dir_all(path("/new")).unwrap_err(),
        sim.remove_dir(path("/dir")).unwrap_err(),
        sim.try_lock(path("/LOCK"), "x").unwrap_err(),
    ];
    for error in refused {
        assert!(error.is_read_only(), "{error}");
    }
}

#[test]
fn rot_is_in_the_cache_and_on_the_disk() {
    let sim = SimFs::new(1);
    let file = durable(&sim, "/f", &[0; 1000]);
    file.write_all_at(&[0; 10], 700).unwrap();
    sim.corrupt(path("/f"), 705, 0x10).unwrap();
    assert_eq!(read(&sim, "/f")[705], 0x10);
    sim.crash(CrashPolicy::DropAll);
    assert_eq!(read(&sim, "/f")[705], 0x10);
    let error = sim.corrupt(path("/f"), 1000, 1).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::UnexpectedEof);
    sim.truncate(path("/f"), 10).unwrap();
    sim.crash(CrashPolicy::DropAll);
    assert_eq!(sim.files(), [(path("/f").to_path_buf(), 10)]);
}

#[test]
fn a_wild_offset_is_an_error_not_an_allocation() {
    let sim = SimFs::new(1);
    let file = durable(&sim, "/f", b"");
    for offset in [1 << 40, u64::MAX] {
        assert_eq!(file.write_all_at(b"x", offset).unwrap_err().kind(), ErrorKind::FileTooLarge);
        assert_eq!(file.allocate(offset).unwrap_err().kind(), ErrorKind::FileTooLarge);
    }
}

#[test]
fn a_failure_message_can_show_the_last_calls() {
    let sim = SimFs::new(1);
    let file = sim.create_new(path("/f")).unwrap();
    file.write_all_at(b"abc", 7).unwrap();
    let lines: Vec<String> = sim.trace().iter().map(ToString::to_string).collect();
    assert_eq!(lines, ["Create /f", "Write /f [7, +3]"]);
}
