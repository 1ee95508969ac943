//! A file system in memory on top of another one that is never written: reads fall through to the
//! base until a file is made, replaced or removed here. For opening a database without touching
//! it, and for trying a repair before it is done.
//!
//! # Invariants
//! - Of the base only reading calls are made: open for reading, list, metadata, map, free space.
//!   No lock of it is taken, and nothing is synced.
//! - A file that is opened for writing or renamed is copied into memory first. A handle that was
//!   opened for reading before that stays on the base.

use crate::{
    DirEntry, EntryKind, FileMeta, Fs, FsError, FsFile, FsLock, FsOp, LockHeld, Mapping, OpenMode,
    helpers, read_file,
};
use parking_lot::{Mutex, RwLock};
use std::{
    collections::{BTreeMap, BTreeSet},
    io::{ErrorKind, IoSlice},
    path::{Path, PathBuf},
    sync::Arc,
};

/// A wild offset must be an error, not an allocation.
const FILE_BYTES_MAX: u64 = 1 << 34;

type Bytes = Arc<RwLock<Vec<u8>>>;

/// What was done to a path here.
#[derive(Clone, Debug)]
enum Node {
    Gone,
    Dir,
    File(Bytes),
}

#[derive(Debug, Default)]
struct State {
    nodes: BTreeMap<PathBuf, Node>,
    locks: BTreeSet<PathBuf>,
}

/// The base as it is, with all changes in memory. Clones share them.
///
/// ```
/// use akidb_vfs::{Fs, OverlayFs, RealFs, read_file, write_file_durably};
/// use std::sync::Arc;
/// # let dir = tempfile::tempdir().unwrap();
/// let path = dir.path().join("file");
/// write_file_durably(&RealFs, &path, b"on disk")?;
/// let overlay = OverlayFs::new(Arc::new(RealFs));
/// write_file_durably(&overlay, &path, b"in memory")?;
/// assert_eq!(read_file(&overlay, &path)?, b"in memory");
/// assert_eq!(read_file(&RealFs, &path)?, b"on disk");
/// # Ok::<(), akidb_vfs::FsError>(())
/// ```
#[derive(Clone, Debug)]
pub struct OverlayFs {
    base: Arc<dyn Fs>,
    state: Arc<Mutex<State>>,
}

fn failed(op: FsOp, path: &Path, kind: ErrorKind) -> FsError {
    FsError::new(op, path, kind.into())
}

impl OverlayFs {
    /// Nothing changed yet.
    pub fn new(base: Arc<dyn Fs>) -> Self {
        Self { base, state: Arc::default() }
    }

    /// What was done here to the path or to a directory above it.
    fn node(&self, path: &Path) -> Option<Node> {
        self.state.lock().nodes.get(path).cloned()
    }

    fn put(&self, path: &Path, node: Node) {
        self.state.lock().nodes.insert(path.to_owned(), node);
    }

    /// Refuses a path whose directory is missing or is a file.
    fn check_parent(&self, op: FsOp, path: &Path) -> Result<(), FsError> {
        let Some(parent) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) else {
            return Ok(());
        };
        match self.metadata(parent) {
            Ok(FileMeta { kind: EntryKind::Dir, .. }) => Ok(()),
            Ok(_) => Err(failed(op, path, ErrorKind::NotADirectory)),
            Err(error) => Err(failed(op, path, error.kind())),
        }
    }

    /// The bytes of a file in memory, copied from the base if they are still there.
    fn copied_up(&self, op: FsOp, path: &Path) -> Result<Bytes, FsError> {
        match self.node(path) {
            Some(Node::File(bytes)) => Ok(bytes),
            Some(Node::Gone) => Err(failed(op, path, ErrorKind::NotFound)),
            Some(Node::Dir) => Err(failed(op, path, ErrorKind::IsADirectory)),
            None => {
                let bytes = Arc::new(RwLock::new(read_file(&*self.base, path)?));
                self.put(path, Node::File(bytes.clone()));
                Ok(bytes)
            }
        }
    }

    /// Forgets a file: a name that the base has must stay hidden.
    fn forget(&self, path: &Path) {
        let node = self.base.metadata(path).is_ok().then_some(Node::Gone);
        let mut state = self.state.lock();
        match node {
            Some(gone) => drop(state.nodes.insert(path.to_owned(), gone)),
            None => drop(state.nodes.remove(path)),
        }
    }
}

impl Fs for OverlayFs {
    fn create_new(&self, path: &Path) -> Result<Arc<dyn FsFile>, FsError> {
        self.check_parent(FsOp::Create, path)?;
        match self.metadata(path) {
            Ok(_) => return Err(failed(FsOp::Create, path, ErrorKind::AlreadyExists)),
            Err(error) if error.is_not_found() => {}
            Err(error) => return Err(failed(FsOp::Create, path, error.kind())),
        }
        let bytes = Bytes::default();
        self.put(path, Node::File(bytes.clone()));
        Ok(Arc::new(OverlayFile { path: path.to_owned(), bytes, writable: true }))
    }

    fn open(&self, path: &Path, mode: OpenMode) -> Result<Arc<dyn FsFile>, FsError> {
        if mode == OpenMode::Read && self.node(path).is_none() {
            return self.base.open(path, OpenMode::Read);
        }
        let bytes = self.copied_up(FsOp::Open, path)?;
        let writable = mode == OpenMode::ReadWrite;
        Ok(Arc::new(OverlayFile { path: path.to_owned(), bytes, writable }))
    }

    fn rename(&self, from: &Path, to: &Path) -> Result<(), FsError> {
        let bytes = self.copied_up(FsOp::Rename, from)?;
        self.check_parent(FsOp::Rename, to)?;
        if from != to {
            self.put(to, Node::File(bytes));
            self.forget(from);
        }
        Ok(())
    }

    fn remove_file(&self, path: &Path) -> Result<(), FsError> {
        let kind = self.metadata(path).map_err(|e| failed(FsOp::RemoveFile, path, e.kind()))?.kind;
        if kind == EntryKind::Dir {
            return Err(failed(FsOp::RemoveFile, path, ErrorKind::IsADirectory));
        }
        self.forget(path);
        Ok(())
    }

    fn remove_dir(&self, path: &Path) -> Result<(), FsError> {
        let entries = self.list_dir(path).map_err(|e| failed(FsOp::RemoveDir, path, e.kind()))?;
        if !entries.is_empty() {
            return Err(failed(FsOp::RemoveDir, path, ErrorKind::DirectoryNotEmpty));
        }
        self.forget(path);
        Ok(())
    }

    fn create_dir_all(&self, path: &Path) -> Result<(), FsError> {
        helpers::create_dir_all(self, path, |dir| {
            self.put(dir, Node::Dir);
            Ok(())
        })
    }

    fn sync_dir(&self, path: &Path) -> Result<(), FsError> {
        match self.metadata(path) {
            Ok(FileMeta { kind: EntryKind::Dir, .. }) => Ok(()),
            Ok(_) => Err(failed(FsOp::SyncDir, path, ErrorKind::NotADirectory)),
            Err(error) => Err(failed(FsOp::SyncDir, path, error.kind())),
        }
    }

    fn list_dir(&self, path: &Path) -> Result<Vec<DirEntry>, FsError> {
        let below = match self.node(path) {
            Some(Node::Gone) => return Err(failed(FsOp::ListDir, path, ErrorKind::NotFound)),
            Some(Node::File(_)) => {
                return Err(failed(FsOp::ListDir, path, ErrorKind::NotADirectory));
            }
            // A directory that was made here may since exist in the base too; it is still ours.
            Some(Node::Dir) => self.base.list_dir(path).unwrap_or_default(),
            None => self.base.list_dir(path)?,
        };
        let mut entries: BTreeMap<_, _> =
            below.into_iter().map(|entry| (entry.name, entry.kind)).collect();
        for (child, node) in &self.state.lock().nodes {
            let (Some(name), true) = (child.file_name(), child.parent() == Some(path)) else {
                continue;
            };
            match node {
                Node::Gone => drop(entries.remove(name)),
                Node::Dir => drop(entries.insert(name.to_owned(), EntryKind::Dir)),
                Node::File(_) => drop(entries.insert(name.to_owned(), EntryKind::File)),
            }
        }
        Ok(entries.into_iter().map(|(name, kind)| DirEntry { name, kind }).collect())
    }

    fn metadata(&self, path: &Path) -> Result<FileMeta, FsError> {
        match self.node(path) {
            Some(Node::Gone) => Err(failed(FsOp::Metadata, path, ErrorKind::NotFound)),
            Some(Node::Dir) => Ok(FileMeta { len: 0, kind: EntryKind::Dir }),
            Some(Node::File(bytes)) => {
                Ok(FileMeta { len: bytes.read().len() as u64, kind: EntryKind::File })
            }
            None => self.base.metadata(path),
        }
    }

    /// Excludes other users of this overlay only.
    fn try_lock(&self, path: &Path, holder: &str) -> Result<Box<dyn FsLock>, FsError> {
        self.check_parent(FsOp::Lock, path)?;
        let mut state = self.state.lock();
        if !state.locks.insert(path.to_owned()) {
            let content = match state.nodes.get(path) {
                Some(Node::File(bytes)) => bytes.read().clone(),
                _ => Vec::new(),
            };
            return Err(FsError::new(FsOp::Lock, path, LockHeld::by(content).into()));
        }
        let line = format!("{}\n", LockHeld::line(holder)).into_bytes();
        state.nodes.insert(path.to_owned(), Node::File(Arc::new(RwLock::new(line))));
        Ok(Box::new(OverlayLock { state: self.state.clone(), path: path.to_owned() }))
    }

    fn map(&self, path: &Path) -> Result<Mapping, FsError> {
        match self.node(path) {
            None => self.base.map(path),
            Some(_) => {
                let bytes = self.copied_up(FsOp::Map, path)?;
                let mapping = Mapping::from_bytes(&bytes.read());
                Ok(mapping)
            }
        }
    }

    fn free_space(&self, path: &Path) -> Result<u64, FsError> {
        self.metadata(path).map_err(|error| failed(FsOp::FreeSpace, path, error.kind()))?;
        match self.node(path) {
            None => self.base.free_space(path),
            Some(_) => Ok(FILE_BYTES_MAX),
        }
    }
}

/// A file in memory.
#[derive(Debug)]
struct OverlayFile {
    path: PathBuf,
    bytes: Bytes,
    writable: bool,
}

impl OverlayFile {
    /// The end of a write or reservation, once the handle and the limit allow it.
    fn end(&self, op: FsOp, offset: u64, len: usize) -> Result<usize, FsError> {
        if !self.writable {
            return Err(failed(op, &self.path, ErrorKind::PermissionDenied));
        }
        let end = offset.checked_add(len as u64).filter(|end| *end <= FILE_BYTES_MAX);
        end.and_then(|end| usize::try_from(end).ok())
            .ok_or_else(|| failed(op, &self.path, ErrorKind::FileTooLarge).at(offset))
    }
}

/// Makes bytes at least `len` long, with pages that the system zeroes when they are touched where
/// there was nothing before: WAL files are mostly empty.
fn grow(bytes: &mut Vec<u8>, len: usize) {
    if bytes.is_empty() {
        *bytes = vec![0; len];
    } else if bytes.len() < len {
        bytes.resize(len, 0);
    }
}

impl FsFile for OverlayFile {
    fn path(&self) -> &Path {
        &self.path
    }

    fn len(&self) -> Result<u64, FsError> {
        Ok(self.bytes.read().len() as u64)
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> Result<usize, FsError> {
        let bytes = self.bytes.read();
        let rest = usize::try_from(offset).ok().and_then(|at| bytes.get(at..)).unwrap_or_default();
        let n = rest.len().min(buf.len());
        if let (Some(to), Some(from)) = (buf.get_mut(..n), rest.get(..n)) {
            to.copy_from_slice(from);
        }
        Ok(n)
    }

    fn write_vectored_at(&self, bufs: &[IoSlice<'_>], offset: u64) -> Result<usize, FsError> {
        let len = bufs.iter().map(|buf| buf.len()).sum();
        let end = self.end(FsOp::Write, offset, len)?;
        let mut bytes = self.bytes.write();
        let mut at = end - len;
        if len > 0 {
            grow(&mut bytes, end);
        }
        for buf in bufs {
            if let Some(place) = bytes.get_mut(at..at + buf.len()) {
                place.copy_from_slice(buf);
            }
            at += buf.len();
        }
        Ok(len)
    }

    fn sync_data(&self) -> Result<(), FsError> {
        Ok(())
    }

    fn sync_all(&self) -> Result<(), FsError> {
        Ok(())
    }

    fn allocate(&self, len: u64) -> Result<(), FsError> {
        let end = self.end(FsOp::Allocate, len, 0)?;
        grow(&mut self.bytes.write(), end);
        Ok(())
    }
}

#[derive(Debug)]
struct OverlayLock {
    state: Arc<Mutex<State>>,
    path: PathBuf,
}

impl FsLock for OverlayLock {
    fn path(&self) -> PathBuf {
        self.path.clone()
    }
}

impl Drop for OverlayLock {
    fn drop(&mut self) {
        self.state.lock().locks.remove(&self.path);
    }
}
