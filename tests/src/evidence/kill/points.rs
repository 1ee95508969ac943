//! Where a child can be killed: before, within or after any call to the real file system, named
//! by the call and the kind of file ("after rename segment"). A file system that passes everything
//! on and kills its own process at the chosen place; the shipped code has no hooks.

use akidb_vfs::{DirEntry, FileMeta, Fs, FsError, FsFile, FsLock, FsOp, Mapping, OpenMode, RealFs};
use std::{
    io::IoSlice,
    os::fd::BorrowedFd,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

/// When, around a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Moment {
    Before,
    /// In a write, after a part of its bytes; elsewhere as before.
    Within,
    After,
}

impl Moment {
    pub(super) const ALL: [(&'static str, Self); 3] =
        [("before", Self::Before), ("within", Self::Within), ("after", Self::After)];
}

/// What a long run must have counted: first the [`POINTS`], then what else must have happened.
pub(super) const REQUIRED: &[&str] = &[
    "create wal",
    "reserve space for wal",
    "write wal",
    "sync wal",
    "rename wal",
    "sync directory wal directory",
    "remove wal",
    "create manifest",
    "write manifest",
    "sync manifest",
    "rename manifest",
    "sync directory root directory",
    "remove manifest",
    "create segment",
    "write segment",
    "sync segment",
    "rename segment",
    "sync directory segment directory",
    "remove segment",
    "create tombstones",
    "write tombstones",
    "sync tombstones",
    "rename tombstones",
    "remove tombstones",
    "create object",
    "write object",
    "sync object",
    "rename object",
    "sync directory object directory",
    "remove object",
    "map segment",
    "open wal",
    "open manifest",
    "lock lock",
    "kills at a random time",
    "kills within a recovery",
    "before a call",
    "within a call",
    "after a call",
    "acknowledged at sync",
    "acknowledged at interval",
    "acknowledged at memory",
    "kept before they were acknowledged",
];

/// The calls that change what a kill leaves, and the files they are made on. The machine kills at
/// each of these, and counts.
pub(super) const POINTS: &[&str] = REQUIRED.split_at(34).0;

/// What a path is for.
fn kind(path: &Path) -> &'static str {
    let text = path.to_string_lossy();
    let name = path.file_name().map(|name| name.to_string_lossy()).unwrap_or_default();
    if name.contains(".wal") {
        "wal"
    } else if name.starts_with("MANIFEST") {
        "manifest"
    } else if name.contains(".seg") {
        "segment"
    } else if name.contains(".tmb") {
        "tombstones"
    } else if name == "LOCK" {
        "lock"
    } else if name == "wal" {
        "wal directory"
    } else if name == "segments" {
        "segment directory"
    } else if text.contains("/objects") {
        if name.contains('.') { "object" } else { "object directory" }
    } else {
        "root directory"
    }
}

/// Counts down to the kill.
#[derive(Debug)]
pub(super) struct Trigger {
    point: String,
    moment: Moment,
    left: AtomicU64,
}

impl Trigger {
    /// Kills at the `nth` call of that name; the next is 1.
    pub(super) fn new(point: String, moment: Moment, nth: u64) -> Self {
        Self { point, moment, left: AtomicU64::new(nth) }
    }

    /// Is this call the one?
    fn strikes(&self, op: FsOp, path: &Path) -> bool {
        let (verb, kind) = (op.verb(), kind(path));
        let named = self.point.strip_prefix(verb).and_then(|rest| rest.strip_prefix(' '));
        named == Some(kind) && self.left.fetch_sub(1, Ordering::Relaxed) == 1
    }
}

/// Ends this process as a SIGKILL from outside does.
pub(super) fn kill_myself() -> ! {
    use rustix::process::{Signal, getpid, kill_process};
    loop {
        // It cannot fail for one's own process; and if it could, there is only trying again.
        let _ = kill_process(getpid(), Signal::KILL);
    }
}

/// The real file system, until the trigger.
#[derive(Clone, Debug)]
pub(super) struct KillFs {
    trigger: Option<Arc<Trigger>>,
    /// Lets the log's backend past this layer, to where io_uring works.
    bare_files: bool,
}

impl KillFs {
    pub(super) fn new(trigger: Option<Trigger>, bare_files: bool) -> Self {
        Self { trigger: trigger.map(Arc::new), bare_files }
    }

    fn around<T>(&self, op: FsOp, path: &Path, call: impl FnOnce() -> T) -> T {
        let moment = self.trigger.as_ref().filter(|t| t.strikes(op, path)).map(|t| t.moment);
        if matches!(moment, Some(Moment::Before | Moment::Within)) {
            kill_myself();
        }
        let done = call();
        if moment.is_some() {
            kill_myself();
        }
        done
    }

    fn file(&self, file: Arc<dyn FsFile>) -> Arc<dyn FsFile> {
        Arc::new(KillFile { fs: self.clone(), file })
    }
}

impl Fs for KillFs {
    fn create_new(&self, path: &Path) -> Result<Arc<dyn FsFile>, FsError> {
        let file = self.around(FsOp::Create, path, || RealFs.create_new(path))?;
        Ok(self.file(file))
    }

    fn open(&self, path: &Path, mode: OpenMode) -> Result<Arc<dyn FsFile>, FsError> {
        let file = self.around(FsOp::Open, path, || RealFs.open(path, mode))?;
        Ok(self.file(file))
    }

    fn rename(&self, from: &Path, to: &Path) -> Result<(), FsError> {
        self.around(FsOp::Rename, to, || RealFs.rename(from, to))
    }

    fn remove_file(&self, path: &Path) -> Result<(), FsError> {
        self.around(FsOp::RemoveFile, path, || RealFs.remove_file(path))
    }

    fn remove_dir(&self, path: &Path) -> Result<(), FsError> {
        self.around(FsOp::RemoveDir, path, || RealFs.remove_dir(path))
    }

    fn create_dir_all(&self, path: &Path) -> Result<(), FsError> {
        self.around(FsOp::CreateDir, path, || RealFs.create_dir_all(path))
    }

    fn sync_dir(&self, path: &Path) -> Result<(), FsError> {
        self.around(FsOp::SyncDir, path, || RealFs.sync_dir(path))
    }

    fn list_dir(&self, path: &Path) -> Result<Vec<DirEntry>, FsError> {
        RealFs.list_dir(path)
    }

    fn metadata(&self, path: &Path) -> Result<FileMeta, FsError> {
        RealFs.metadata(path)
    }

    fn try_lock(&self, path: &Path, holder: &str) -> Result<Box<dyn FsLock>, FsError> {
        self.around(FsOp::Lock, path, || RealFs.try_lock(path, holder))
    }

    fn map(&self, path: &Path) -> Result<Mapping, FsError> {
        self.around(FsOp::Map, path, || RealFs.map(path))
    }

    fn free_space(&self, path: &Path) -> Result<u64, FsError> {
        RealFs.free_space(path)
    }
}

#[derive(Debug)]
struct KillFile {
    fs: KillFs,
    file: Arc<dyn FsFile>,
}

impl FsFile for KillFile {
    fn path(&self) -> &Path {
        self.file.path()
    }

    fn len(&self) -> Result<u64, FsError> {
        self.file.len()
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> Result<usize, FsError> {
        self.file.read_at(buf, offset)
    }

    fn write_vectored_at(&self, bufs: &[IoSlice<'_>], offset: u64) -> Result<usize, FsError> {
        let trigger = self.fs.trigger.as_ref();
        let moment = trigger.filter(|t| t.strikes(FsOp::Write, self.path())).map(|t| t.moment);
        match moment {
            None => self.file.write_vectored_at(bufs, offset),
            Some(Moment::Before) => kill_myself(),
            Some(Moment::Within) => {
                // A half of the slices, and a half of the one in the middle.
                let whole = bufs.get(..bufs.len() / 2).unwrap_or_default();
                let torn = bufs.get(bufs.len() / 2).map(|buf| buf.get(..buf.len() / 2));
                let torn = torn.flatten().unwrap_or_default();
                let bytes: Vec<u8> =
                    whole.iter().flat_map(|buf| buf.iter()).chain(torn).copied().collect();
                drop(self.file.write_all_at(&bytes, offset));
                kill_myself()
            }
            Some(Moment::After) => {
                drop(self.file.write_vectored_at(bufs, offset));
                kill_myself()
            }
        }
    }

    fn sync_data(&self) -> Result<(), FsError> {
        self.fs.around(FsOp::SyncData, self.path(), || self.file.sync_data())
    }

    fn sync_all(&self) -> Result<(), FsError> {
        self.fs.around(FsOp::SyncAll, self.path(), || self.file.sync_all())
    }

    fn allocate(&self, len: u64) -> Result<(), FsError> {
        self.fs.around(FsOp::Allocate, self.path(), || self.file.allocate(len))
    }

    fn os_file(&self) -> Option<BorrowedFd<'_>> {
        if self.fs.bare_files { self.file.os_file() } else { None }
    }
}

/// The directory that a database of the child lies in.
pub(super) fn database_dir(life: &Path) -> PathBuf {
    life.join("db")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_told_apart() {
        for (path, wanted) in [
            ("/l/db/wal/00000000000000000001.wal.tmp", "wal"),
            ("/l/db/wal", "wal directory"),
            ("/l/db/MANIFEST-000000000002.tmp", "manifest"),
            ("/l/db/segments/000000000007.seg", "segment"),
            ("/l/db/segments/000000000008.tmb.tmp", "tombstones"),
            ("/l/db/objects/c1/0a.parquet", "object"),
            ("/l/db/objects/c1", "object directory"),
            ("/l/db", "root directory"),
            ("/l/db/LOCK", "lock"),
        ] {
            assert_eq!(kind(Path::new(path)), wanted, "{path}");
        }
    }

    #[test]
    fn the_trigger_counts_only_its_own_calls() {
        let trigger = Trigger::new("sync wal".to_owned(), Moment::After, 2);
        let (wal, segment) = (Path::new("/db/wal/1.wal"), Path::new("/db/segments/1.seg"));
        let calls = [(FsOp::SyncData, segment), (FsOp::SyncData, wal), (FsOp::Write, wal)];
        assert!(!calls.iter().any(|(op, path)| trigger.strikes(*op, path)));
        assert!(trigger.strikes(FsOp::SyncAll, wal));
    }
}
