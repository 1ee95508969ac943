//! The simulated disk as a file system: the calls of [`Fs`], each through the gate of `state.rs`.
//! What only tests may do to the disk is in `inspect.rs`.

use super::{
    file::{SimFile, SimLock, flip_bit},
    state::{Call, State, Twist, eio},
};
use crate::{
    DirEntry, FileMeta, Fs, FsError, FsFile, FsLock, FsOp, LockHeld, Mapping, OpenMode, helpers,
};
use parking_lot::Mutex;
use std::{io, path::Path, sync::Arc};

/// A simulated disk; clones are the same disk.
///
/// The value that a test holds outlives crashes. Code under test gets [`SimFs::process`], which
/// dies with its handles, so that a thread left over from before a crash cannot write after it.
///
/// ```
/// use akidb_vfs::{Fs, read_file, sim::{CrashPolicy, SimFs}};
/// use std::path::Path;
///
/// let sim = SimFs::new(42);
/// let file = sim.create_new(Path::new("/log"))?;
/// file.write_all_at(b"synced", 0)?;
/// file.sync_data()?;
/// sim.sync_dir(Path::new("/"))?;
/// file.write_all_at(b", lost", 6)?;
///
/// sim.crash(CrashPolicy::DropAll);
/// assert!(file.len().is_err(), "handles die with the process");
/// assert_eq!(read_file(&sim, Path::new("/log"))?, b"synced");
/// # Ok::<(), akidb_vfs::FsError>(())
/// ```
#[derive(Clone)]
pub struct SimFs {
    pub(super) state: Arc<Mutex<State>>,
    /// The boot whose end is the end of this value; `None`: it outlives them all.
    pub(super) boot: Option<u64>,
}

impl std::fmt::Debug for SimFs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SimFs").field("boot", &self.boot).finish_non_exhaustive()
    }
}

impl SimFs {
    /// An empty disk with only a root directory, `/`. All that chance decides follows from `seed`
    /// and the calls.
    pub fn new(seed: u64) -> Self {
        Self { state: Arc::new(Mutex::new(State::new(seed))), boot: None }
    }

    /// Runs a call on a path.
    fn perform<T>(
        &self,
        op: FsOp,
        path: &Path,
        body: impl FnOnce(&mut State, Twist) -> io::Result<T>,
    ) -> Result<T, FsError> {
        let path = Arc::from(path);
        let call = Call { op, path: &path, offset: None, len: 0, boot: self.boot };
        self.state.lock().perform(&call, body)
    }

    /// Runs a call that opens a file.
    fn open_with(
        &self,
        op: FsOp,
        path: &Path,
        writable: bool,
        find: impl FnOnce(&mut State) -> io::Result<u64>,
    ) -> Result<Arc<dyn FsFile>, FsError> {
        let shared: Arc<Path> = Arc::from(path);
        let call = Call { op, path: &shared, offset: None, len: 0, boot: self.boot };
        let mut state = self.state.lock();
        let node = state.perform(&call, |state, _| {
            let node = find(state)?;
            state.disk.file_mut(node)?.handles += 1;
            Ok(node)
        })?;
        let boot = state.boot;
        let file = SimFile { state: Arc::clone(&self.state), boot, node, path: shared, writable };
        Ok(Arc::new(file))
    }
}

impl Fs for SimFs {
    fn create_new(&self, path: &Path) -> Result<Arc<dyn FsFile>, FsError> {
        self.open_with(FsOp::Create, path, true, |state| state.disk.create_file(path))
    }

    fn open(&self, path: &Path, mode: OpenMode) -> Result<Arc<dyn FsFile>, FsError> {
        let writable = mode == OpenMode::ReadWrite;
        self.open_with(FsOp::Open, path, writable, |state| {
            let node = state.disk.file_id(path)?;
            if writable && state.read_only {
                return Err(io::ErrorKind::ReadOnlyFilesystem.into());
            }
            Ok(node)
        })
    }

    fn rename(&self, from: &Path, to: &Path) -> Result<(), FsError> {
        self.perform(FsOp::Rename, from, |state, _| {
            state.trace.hash_bytes(to.as_os_str().as_encoded_bytes());
            state.disk.rename(from, to)
        })
    }

    fn remove_file(&self, path: &Path) -> Result<(), FsError> {
        self.perform(FsOp::RemoveFile, path, |state, _| state.disk.remove_file(path))
    }

    fn remove_dir(&self, path: &Path) -> Result<(), FsError> {
        self.perform(FsOp::RemoveDir, path, |state, _| state.disk.remove_dir(path))
    }

    fn create_dir_all(&self, path: &Path) -> Result<(), FsError> {
        helpers::create_dir_all(self, path, |dir| {
            self.perform(FsOp::CreateDir, dir, |state, _| state.disk.create_dir(dir))
        })
    }

    fn sync_dir(&self, path: &Path) -> Result<(), FsError> {
        self.perform(FsOp::SyncDir, path, |state, twist| match twist {
            Twist::SyncKeepsCache | Twist::SyncDropsCache => Err(eio()),
            Twist::None | Twist::Short | Twist::FlipBit => state.disk.sync_dir(path),
        })
    }

    fn list_dir(&self, path: &Path) -> Result<Vec<DirEntry>, FsError> {
        self.perform(FsOp::ListDir, path, |state, _| {
            let entries = state.disk.list(path)?;
            Ok(entries.into_iter().map(|(name, kind)| DirEntry { name, kind }).collect())
        })
    }

    fn metadata(&self, path: &Path) -> Result<FileMeta, FsError> {
        self.perform(FsOp::Metadata, path, |state, _| {
            let (kind, len) = state.disk.stat(path)?;
            Ok(FileMeta { len: len as u64, kind })
        })
    }

    fn try_lock(&self, path: &Path, holder: &str) -> Result<Box<dyn FsLock>, FsError> {
        let shared: Arc<Path> = Arc::from(path);
        let call = Call { op: FsOp::Lock, path: &shared, offset: None, len: 0, boot: self.boot };
        let mut state = self.state.lock();
        let node = state.perform(&call, |state, _| lock_file(state, path, holder))?;
        let boot = state.boot;
        Ok(Box::new(SimLock { state: Arc::clone(&self.state), boot, node, path: shared }))
    }

    fn map(&self, path: &Path) -> Result<Mapping, FsError> {
        let shared: Arc<Path> = Arc::from(path);
        let mut state = self.state.lock();
        let len = state.disk.stat(path).map_or(0, |(_, len)| len as u64);
        let call = Call { op: FsOp::Map, path: &shared, offset: None, len, boot: self.boot };
        state.perform(&call, |state, twist| {
            let file = state.disk.file(state.disk.file_id(path)?)?;
            if twist == Twist::FlipBit {
                let mut bytes = file.live().to_vec();
                flip_bit(&mut bytes, &mut state.rng);
                return Ok(Mapping::from_bytes(&bytes));
            }
            Ok(Mapping::from_bytes(file.live()))
        })
    }

    fn free_space(&self, path: &Path) -> Result<u64, FsError> {
        self.perform(FsOp::FreeSpace, path, |state, _| {
            state.disk.stat(path)?;
            Ok(state.free())
        })
    }
}

/// Takes the lock of a file and writes the holder's line into it.
fn lock_file(state: &mut State, path: &Path, holder: &str) -> io::Result<u64> {
    let node = match state.disk.file_id(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => state.disk.create_file(path)?,
        other => other?,
    };
    if !state.locks.insert(node) {
        return Err(LockHeld::by(state.disk.file(node)?.live()).into());
    }
    let file = state.disk.file_mut(node)?;
    // Line breaks over the rest of a longer text: only the first line counts.
    let mut text = format!("{}\n", LockHeld::line(holder)).into_bytes();
    text.resize(text.len().max(file.len()), b'\n');
    file.write(&text, 0);
    Ok(node)
}
