//! The contract of [`Fs`] and [`FsFile`] as a suite: every clause of their
//! documentation that can be checked without losing power. Clauses about power loss are tested on
//! the simulated disk, in this crate's `tests/`.
//!
//! Called by the tests of each file system, ours or a host's. Panics name the broken clause.

use crate::{
    DirEntry, EntryKind, FileMeta, Fs, FsError, FsFile, LockHeld, OpenMode, copy_file_durably,
    read_file, write_file_durably,
};
use std::{
    ffi::OsString,
    io::{ErrorKind, IoSlice},
    path::Path,
    sync::Arc,
};

/// Checks one group of clauses in a directory of its own.
type Clause = fn(&dyn Fs, &Path);

/// Checks every clause on `fs`, under the existing and empty directory `root`.
///
/// # Panics
/// With the clause that does not hold.
///
/// ```
/// use akidb_vfs::{contract, sim::SimFs};
/// contract::run(&SimFs::new(0), std::path::Path::new("/"));
/// ```
pub fn run(fs: &dyn Fs, root: &Path) {
    let clauses: [(&str, Clause); 12] = [
        ("create", creating_is_exclusive),
        ("missing", missing_paths_are_not_found),
        ("positional", reads_and_writes_are_positional),
        ("vectored", vectored_writes_arrive_whole_and_in_order),
        ("sparse", a_gap_reads_as_zeros),
        ("modes", a_read_handle_refuses_writes),
        ("rename", rename_replaces_in_one_step),
        ("unlink", an_unlinked_file_stays_readable),
        ("dirs", directories_are_created_listed_and_removed),
        ("lock", a_lock_excludes_and_names_its_holder),
        ("allocate", allocation_extends_with_zeros_and_never_shortens),
        ("helpers", whole_files_are_replaced_copied_and_mapped),
    ];
    for (name, clause) in clauses {
        let dir = root.join(name);
        must("a directory can be created", fs.create_dir_all(&dir));
        clause(fs, &dir);
    }
    assert!(must("space is known", fs.free_space(root)) > 0, "a usable disk has free space");
}

fn must<T>(clause: &str, result: Result<T, FsError>) -> T {
    match result {
        Ok(value) => value,
        Err(error) => panic!("broken clause: {clause}: {error}"),
    }
}

fn fails<T>(clause: &str, kind: ErrorKind, result: Result<T, FsError>) -> FsError {
    match result {
        Ok(_) => panic!("broken clause: {clause}: the call succeeded"),
        Err(error) => {
            assert_eq!(error.kind(), kind, "broken clause: {clause}: {error}");
            error
        }
    }
}

fn holds(clause: &str, condition: bool) {
    assert!(condition, "broken clause: {clause}");
}

fn file_with(fs: &dyn Fs, path: &Path, bytes: &[u8]) -> Arc<dyn FsFile> {
    let file = must("a new name can be created", fs.create_new(path));
    must("bytes can be written", file.write_all_at(bytes, 0));
    file
}

fn content(fs: &dyn Fs, path: &Path) -> Vec<u8> {
    must("a file can be read", read_file(fs, path))
}

fn creating_is_exclusive(fs: &dyn Fs, dir: &Path) {
    let path = dir.join("file");
    let file = file_with(fs, &path, b"first");
    holds("a handle knows its path", file.path() == path);
    let clause = "creating a taken name fails with AlreadyExists";
    let error = fails(clause, ErrorKind::AlreadyExists, fs.create_new(&path));
    holds("an error names the path", error.path == path);
    holds("a refused creation changes nothing", content(fs, &path) == b"first");
    fails("a directory's name is taken too", ErrorKind::AlreadyExists, fs.create_new(dir));
}

fn missing_paths_are_not_found(fs: &dyn Fs, dir: &Path) {
    let none = dir.join("none");
    let below = none.join("file");
    let kind = ErrorKind::NotFound;
    fails("opening nothing", kind, fs.open(&none, OpenMode::Read));
    fails("opening nothing for writing", kind, fs.open(&none, OpenMode::ReadWrite));
    fails("creating in no directory", kind, fs.create_new(&below));
    fails("renaming nothing", kind, fs.rename(&none, &dir.join("other")));
    fails("removing nothing", kind, fs.remove_file(&none));
    fails("removing no directory", kind, fs.remove_dir(&none));
    fails("syncing no directory", kind, fs.sync_dir(&none));
    fails("listing no directory", kind, fs.list_dir(&none));
    fails("metadata of nothing", kind, fs.metadata(&none));
    fails("mapping nothing", kind, fs.map(&none));
    fails("locking in no directory", kind, fs.try_lock(&below, "x"));
    let error = fails("space of nothing", kind, fs.free_space(&none));
    holds("is_not_found recognises it", error.is_not_found());
    holds("a refused call creates nothing", must("list", fs.list_dir(dir)).is_empty());
}

fn reads_and_writes_are_positional(fs: &dyn Fs, dir: &Path) {
    let path = dir.join("file");
    let file = file_with(fs, &path, b"0123456789");
    must("a write in the middle", file.write_all_at(b"ab", 4));
    holds("a write replaces what it covers", content(fs, &path) == b"0123ab6789");
    let mut buf = [0; 4];
    must("an exact read", file.read_exact_at(&mut buf, 6));
    holds("a read starts at its offset", &buf == b"6789");
    holds("a read past the end is Ok(0)", must("read", file.read_at(&mut buf, 10)) == 0);
    holds("far past the end too", must("read", file.read_at(&mut buf, 1 << 40)) == 0);
    let at_end = must("read", file.read_at(&mut buf, 8));
    holds("a read over the end is short", at_end == 2 && buf[..2] == *b"89");
    let clause = "an exact read over the end fails";
    let error = fails(clause, ErrorKind::UnexpectedEof, file.read_exact_at(&mut buf, 8));
    holds("an error names the path and an offset", error.path == path && error.offset.is_some());
    must("reading nothing anywhere", file.read_exact_at(&mut [], 1 << 40));
    must("writing nothing", file.write_all_at(b"", 3));
    holds("the length is the end of the last write", must("len", file.len()) == 10);
    holds("a file with bytes is not empty", !must("is_empty", file.is_empty()));
    let other = must("a second handle", fs.open(&path, OpenMode::ReadWrite));
    must("a write through it", other.write_all_at(b"XY", 0));
    must("a read through the first", file.read_exact_at(&mut buf, 0));
    holds("handles see each other's writes at once", &buf == b"XY23");
    must("sync data", file.sync_data());
    must("sync all", file.sync_all());
}

fn vectored_writes_arrive_whole_and_in_order(fs: &dyn Fs, dir: &Path) {
    let path = dir.join("file");
    let file = file_with(fs, &path, b"head");
    // More slices than one system call takes, some of them empty.
    let parts: Vec<Vec<u8>> =
        (0..3000_u32).map(|i| vec![i.to_le_bytes()[0]; i as usize % 5]).collect();
    let mut slices: Vec<IoSlice<'_>> = parts.iter().map(|part| IoSlice::new(part)).collect();
    must("3,000 slices", file.write_all_vectored_at(&mut slices, 4));
    let wanted = [b"head".to_vec(), parts.concat()].concat();
    holds("vectored writes arrive whole and in order", content(fs, &path) == wanted);
    must("no slices", file.write_all_vectored_at(&mut [], 0));
    must("empty slices only", file.write_all_vectored_at(&mut [IoSlice::new(b"")], 0));
    holds("empty writes change nothing", content(fs, &path) == wanted);
}

fn a_gap_reads_as_zeros(fs: &dyn Fs, dir: &Path) {
    let path = dir.join("file");
    let file = file_with(fs, &path, b"a");
    must("a write past the end", file.write_all_at(b"z", 5000));
    let mut wanted = vec![0; 5001];
    wanted[0] = b'a';
    wanted[5000] = b'z';
    holds("the gap before a write past the end is zeros", content(fs, &path) == wanted);
}

fn a_read_handle_refuses_writes(fs: &dyn Fs, dir: &Path) {
    let path = dir.join("file");
    file_with(fs, &path, b"kept");
    let file = must("open", fs.open(&path, OpenMode::Read));
    holds("a read handle refuses writes", file.write_all_at(b"x", 0).is_err());
    holds("a read handle refuses allocation", file.allocate(100).is_err());
    holds("and nothing changes", content(fs, &path) == b"kept");
    let clause = "a directory does not open as a file";
    fails(clause, ErrorKind::IsADirectory, fs.open(dir, OpenMode::Read));
    fails(clause, ErrorKind::IsADirectory, fs.map(dir));
}

fn rename_replaces_in_one_step(fs: &dyn Fs, dir: &Path) {
    let (from, to) = (dir.join("from"), dir.join("to"));
    file_with(fs, &from, b"new");
    let old = file_with(fs, &to, b"old");
    must("rename over a file", fs.rename(&from, &to));
    fails("the old name is gone", ErrorKind::NotFound, fs.metadata(&from));
    holds("the new name is the renamed file", content(fs, &to) == b"new");
    let mut buf = [0; 3];
    must("a handle on the replaced file reads", old.read_exact_at(&mut buf, 0));
    holds("a replaced file keeps its bytes for its handles", &buf == b"old");
    must("rename to itself", fs.rename(&to, &to));
    holds("a rename to itself changes nothing", content(fs, &to) == b"new");
    must("a second directory", fs.create_dir_all(&dir.join("sub")));
    must("rename across directories", fs.rename(&to, &dir.join("sub/moved")));
    holds("a file moves between directories", content(fs, &dir.join("sub/moved")) == b"new");
    must("sync of the new directory", fs.sync_dir(&dir.join("sub")));
    must("sync of the old directory", fs.sync_dir(dir));
}

fn an_unlinked_file_stays_readable(fs: &dyn Fs, dir: &Path) {
    let path = dir.join("file");
    let file = file_with(fs, &path, b"still here");
    let map = must("map", fs.map(&path));
    must("remove", fs.remove_file(&path));
    fails("a removed name is gone", ErrorKind::NotFound, fs.metadata(&path));
    file_with(fs, &path, b"another");
    let mut buf = [0; 10];
    must("an unlinked file reads", file.read_exact_at(&mut buf, 0));
    holds("an unlinked file keeps its bytes for its handles", &buf == b"still here");
    holds("and for its mappings", &*map == b"still here");
    holds("remove_file refuses a directory", fs.remove_file(dir).is_err());
}

fn directories_are_created_listed_and_removed(fs: &dyn Fs, dir: &Path) {
    let deep = dir.join("a/b/c");
    must("missing ancestors are created", fs.create_dir_all(&deep));
    must("an existing directory is fine", fs.create_dir_all(&deep));
    let meta = must("metadata", fs.metadata(&deep));
    holds("a directory has length 0", meta == FileMeta { len: 0, kind: EntryKind::Dir });
    for name in ["z", "m", "B"] {
        file_with(fs, &dir.join(name), name.as_bytes());
    }
    let meta = must("metadata", fs.metadata(&dir.join("m")));
    holds("a file has its length", meta == FileMeta { len: 1, kind: EntryKind::File });
    let entry = |name: &str, kind| DirEntry { name: OsString::from(name), kind };
    let file = EntryKind::File;
    let wanted = [entry("B", file), entry("a", EntryKind::Dir), entry("m", file), entry("z", file)];
    holds("a listing is sorted by name", must("list", fs.list_dir(dir)) == wanted);
    let clause = "a file is no directory";
    let kind = ErrorKind::NotADirectory;
    fails(clause, kind, fs.list_dir(&dir.join("z")));
    fails(clause, kind, fs.sync_dir(&dir.join("z")));
    fails(clause, kind, fs.create_new(&dir.join("z/under")));
    fails(clause, kind, fs.create_dir_all(&dir.join("z")));
    fails(clause, kind, fs.create_dir_all(&dir.join("z/under")));
    let clause = "only an empty directory is removed";
    fails(clause, ErrorKind::DirectoryNotEmpty, fs.remove_dir(&dir.join("a")));
    must("an empty directory is removed", fs.remove_dir(&deep));
    holds("and is gone", must("list", fs.list_dir(&dir.join("a/b"))).is_empty());
}

fn a_lock_excludes_and_names_its_holder(fs: &dyn Fs, dir: &Path) {
    let path = dir.join("LOCK");
    let lock = must("a free lock is taken", fs.try_lock(&path, "holder one, a long line of text"));
    holds("a lock knows its path", lock.path() == path);
    let error =
        fails("a held lock fails at once", ErrorKind::WouldBlock, fs.try_lock(&path, "two"));
    holds("the error quotes the holder", error.to_string().contains("holder one, a long line"));
    let held = error.source.get_ref().and_then(|source| source.downcast_ref::<LockHeld>());
    holds("the error's source is LockHeld", held.is_some());
    holds("other files are not locked", fs.try_lock(&dir.join("LOCK2"), "x").is_ok());
    drop(lock);
    let again = must("a released lock is free", fs.try_lock(&path, "three\nsecond line"));
    let error = fails("held again", ErrorKind::WouldBlock, fs.try_lock(&path, "four"));
    let text = error.to_string();
    holds("the new holder replaces the old", text.ends_with("locked by three"));
    drop(again);
}

fn allocation_extends_with_zeros_and_never_shortens(fs: &dyn Fs, dir: &Path) {
    let path = dir.join("file");
    let file = file_with(fs, &path, b"data");
    must("allocate", file.allocate(10_000));
    holds("an allocated file has the length", must("len", file.len()) == 10_000);
    let bytes = content(fs, &path);
    holds("allocation keeps what is there", bytes.starts_with(b"data"));
    holds("the rest reads as zeros", bytes[4..].iter().all(|&byte| byte == 0));
    must("allocate less", file.allocate(10));
    must("allocate nothing", file.allocate(0));
    holds("allocation never shortens", must("len", file.len()) == 10_000);
}

fn whole_files_are_replaced_copied_and_mapped(fs: &dyn Fs, dir: &Path) {
    let (path, copy) = (dir.join("file"), dir.join("copy"));
    must("write durably", write_file_durably(fs, &path, b"first version"));
    must("replace durably", write_file_durably(fs, &path, b"second"));
    file_with(fs, &dir.join("copy.tmp"), b"left over from a crash");
    let large: Vec<u8> = (0..3_000_000_u32).map(|i| i.to_le_bytes()[0]).collect();
    must("write a large file", write_file_durably(fs, &dir.join("large"), &large));
    must("copy", copy_file_durably(fs, &dir.join("large"), &copy));
    holds("a replaced file has the new bytes", content(fs, &path) == b"second");
    holds("a copy equals its source", content(fs, &copy) == large);
    let names = must("list", fs.list_dir(dir)).len();
    holds("no temporary file stays", names == 3);
    let map = must("map", fs.map(&copy));
    holds("a map is the file's bytes", *map == large);
    holds("a map is aligned to 8 bytes", map.as_ptr().addr() % 8 == 0);
    file_with(fs, &dir.join("empty"), b"");
    holds("an empty file maps", must("map", fs.map(&dir.join("empty"))).is_empty());
    holds("an empty file reads", content(fs, &dir.join("empty")).is_empty());
}
