//! Both file systems keep the same contract, and what differs between them.

use akidb_vfs::{
    Fs, FsError, OverlayFs, RealFs, contract, read_file, sim::SimFs, write_file_durably,
};
use std::{io::ErrorKind, path::Path, sync::Arc};

#[test]
fn the_real_file_system_keeps_the_contract() {
    let dir = tempfile::tempdir().unwrap();
    contract::run(&RealFs, dir.path());
}

#[test]
fn the_simulated_file_system_keeps_the_contract() {
    contract::run(&SimFs::new(1), Path::new("/"));
}

#[test]
fn an_overlay_keeps_the_contract_and_leaves_its_base_alone() {
    let sim = SimFs::new(1);
    contract::run(&OverlayFs::new(Arc::new(sim.clone())), Path::new("/"));
    assert!(sim.list_dir(Path::new("/")).unwrap().is_empty());
}

#[test]
fn an_overlay_shows_its_base_until_it_changes_it() {
    let sim = SimFs::new(1);
    let (kept, gone, moved) = (Path::new("/kept"), Path::new("/gone"), Path::new("/moved"));
    for path in [kept, gone, moved] {
        write_file_durably(&sim, path, b"base").unwrap();
    }
    let before = sim.image();
    let overlay = OverlayFs::new(Arc::new(sim.clone()));
    assert_eq!(&*overlay.map(kept).unwrap(), b"base");
    overlay.remove_file(gone).unwrap();
    overlay.rename(moved, Path::new("/new")).unwrap();
    write_file_durably(&overlay, kept, b"changed").unwrap();
    let _lock = overlay.try_lock(Path::new("/LOCK"), "a reader").unwrap();
    let names: Vec<_> = overlay.list_dir(Path::new("/")).unwrap();
    let names: Vec<_> = names.iter().map(|entry| entry.name.to_string_lossy()).collect();
    assert_eq!(names, ["LOCK", "kept", "new"]);
    assert_eq!(read_file(&overlay, kept).unwrap(), b"changed");
    assert_eq!(read_file(&overlay, Path::new("/new")).unwrap(), b"base");
    assert!(overlay.open(gone, akidb_vfs::OpenMode::Read).unwrap_err().is_not_found());
    assert_eq!(sim.image(), before);
    sim.try_lock(Path::new("/LOCK"), "the writer").unwrap();
}

#[test]
#[expect(clippy::disallowed_methods, reason = "blocks are what the seam does not tell")]
fn a_real_allocation_has_blocks_not_only_a_length() {
    use std::os::unix::fs::MetadataExt;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("log");
    let file = RealFs.create_new(&path).unwrap();
    file.allocate(1 << 20).unwrap();
    let blocks = path.symlink_metadata().unwrap().blocks();
    assert!(blocks * 512 >= 1 << 20, "only {blocks} blocks: a sparse length reserves nothing");
}

#[test]
fn a_lock_is_seen_through_another_name_of_its_file() {
    let dir = tempfile::tempdir().unwrap();
    let link = dir.path().join("link");
    std::os::unix::fs::symlink(dir.path(), &link).unwrap();
    let held = RealFs.try_lock(&dir.path().join("LOCK"), "first").unwrap();
    let error = RealFs.try_lock(&link.join("LOCK"), "second").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::WouldBlock);
    drop(held);
    RealFs.try_lock(&link.join("LOCK"), "second").unwrap();
}

/// The in-process registry would hide a missing system lock from every other test.
#[test]
#[expect(clippy::disallowed_methods, reason = "plays another process, which has no registry entry")]
fn the_lock_is_the_system_s_and_binds_other_processes() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("LOCK");
    std::fs::write(&path, "pid 17 on another terminal\n").unwrap();
    let other = std::fs::File::options().write(true).open(&path).unwrap();
    other.try_lock().unwrap();
    let error = RealFs.try_lock(&path, "us").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::WouldBlock);
    assert!(error.to_string().ends_with("already locked by pid 17 on another terminal"), "{error}");
    other.unlock().unwrap();
    let held = RealFs.try_lock(&path, "us").unwrap();
    assert!(other.try_lock().is_err(), "the other process got a lock that we hold");
    drop(held);
    other.try_lock().unwrap();
}

#[test]
fn errors_say_what_failed_where_and_why() {
    let missing = Path::new("/nowhere/at/all");
    let error: FsError = RealFs.metadata(missing).unwrap_err();
    let text = error.at(7).to_string();
    assert!(text.starts_with("cannot stat /nowhere/at/all at offset 7: "), "{text}");
}
