//! What a test does to a simulated disk, and asks of it: crashes, faults, rot, and looking past
//! the page cache. None of it counts as a call, and all of it works while the power is off.

use super::{
    CrashEffects, CrashPolicy, Fault, FaultKind, PowerMoment, SimFs, Struck, TraceEntry,
    disk::NodeId,
    state::{PowerPlan, State},
};
use crate::{FsError, FsOp};
use parking_lot::Mutex;
use std::{
    collections::BTreeMap,
    io::{self, ErrorKind},
    path::{Path, PathBuf},
    sync::Arc,
};

/// Power and processes.
impl SimFs {
    /// The disk as the current boot's process sees it: after the next crash or kill every call on
    /// the returned value fails, like those on its files.
    #[must_use]
    pub fn process(&self) -> Self {
        let boot = self.state.lock().boot;
        Self { state: Arc::clone(&self.state), boot: Some(boot) }
    }

    /// Loses power now and starts again: what survives is settled by `policy`; handles and locks
    /// are void; mappings stay readable, for they are copies.
    pub fn crash(&self, policy: CrashPolicy) {
        self.state.lock().reboot(policy);
    }

    /// Starts again after [`SimFs::power_off_at`] struck; also cancels a plan that has not.
    pub fn reboot(&self, policy: CrashPolicy) {
        self.state.lock().reboot(policy);
    }

    /// Kills the running processes, as by SIGKILL: handles and locks are void, and the disk keeps
    /// every byte and name, synced or not. A later crash can still lose what was not synced.
    pub fn kill(&self) {
        self.state.lock().end_processes();
    }

    /// Loses power before the nth mutating call from now has any effect; 1 is the next. That call
    /// and all later ones fail with [`super::PowerLost`] until [`SimFs::reboot`].
    pub fn power_off_at(&self, nth: u64) {
        self.power_off_at_moment(nth, PowerMoment::Before);
    }

    /// As [`SimFs::power_off_at`], at a chosen moment within that call.
    pub fn power_off_at_moment(&self, nth: u64, moment: PowerMoment) {
        self.state.lock().plan = Some(PowerPlan { calls_left: nth, moment });
    }

    /// False between a loss of power and the reboot.
    pub fn is_powered(&self) -> bool {
        self.state.lock().powered
    }

    /// How many calls so far could have changed the disk: create, write, sync, allocate, rename,
    /// remove, create or sync a directory, lock. A test crashes at each of them in turn.
    pub fn calls(&self) -> u64 {
        self.state.lock().calls
    }

    /// A copy of the disk as it is now, unsynced work included, with its own chance from `seed`:
    /// one run can end in many crashes. The copy has power, and no handles, locks or faults.
    #[must_use]
    pub fn fork(&self, seed: u64) -> Self {
        let state = self.state.lock();
        let mut copy = State { disk: state.disk.clone(), ..State::new(seed) };
        copy.capacity = state.capacity;
        copy.read_only = state.read_only;
        copy.disk.close_all();
        Self { state: Arc::new(Mutex::new(copy)), boot: None }
    }
}

/// Faults and limits.
impl SimFs {
    /// Arms a fault.
    pub fn inject(&self, fault: Fault) {
        self.state.lock().faults.arm(fault);
    }

    /// Disarms all faults that have not fired or are sticky.
    pub fn clear_faults(&self) {
        self.state.lock().faults.disarm_all();
    }

    /// How often each kind of fault has fired.
    pub fn fired(&self) -> BTreeMap<FaultKind, u64> {
        self.state.lock().faults.fired.clone()
    }

    /// The calls that faults have struck so far, oldest first; the first thousand of them.
    pub fn struck(&self) -> Vec<Struck> {
        self.state.lock().faults.struck.clone()
    }

    /// What all crashes together have kept and lost.
    pub fn crash_effects(&self) -> CrashEffects {
        self.state.lock().effects
    }

    /// Limits the bytes of all files together; growing past it fails with `StorageFull`, after a
    /// short write of what fits. `None`: no limit.
    pub fn set_capacity(&self, bytes: Option<u64>) {
        self.state.lock().capacity = bytes;
    }

    /// Makes calls that write fail with `ReadOnlyFilesystem`.
    pub fn set_read_only(&self, read_only: bool) {
        self.state.lock().read_only = read_only;
    }

    /// Flips the bits of `xor_mask` in one byte, in cache and on disk.
    ///
    /// # Errors
    /// `NotFound`, or `UnexpectedEof` when the file ends before `offset`.
    pub fn corrupt(&self, path: &Path, offset: u64, xor_mask: u8) -> Result<(), FsError> {
        self.on_file(FsOp::Write, path, |state, node| {
            let at = usize::try_from(offset).unwrap_or(usize::MAX);
            let flipped = state.disk.file_mut(node)?.corrupt(at, xor_mask);
            if flipped { Ok(()) } else { Err(ErrorKind::UnexpectedEof.into()) }
        })
    }

    /// Cuts a file to `len` bytes, if it is longer; what is left is durable.
    ///
    /// # Errors
    /// `NotFound`.
    pub fn truncate(&self, path: &Path, len: u64) -> Result<(), FsError> {
        self.on_file(FsOp::Write, path, |state, node| {
            let len = usize::try_from(len).unwrap_or(usize::MAX);
            state.disk.file_mut(node)?.truncate(len);
            Ok(())
        })
    }

    fn on_file<T>(
        &self,
        op: FsOp,
        path: &Path,
        body: impl FnOnce(&mut State, NodeId) -> io::Result<T>,
    ) -> Result<T, FsError> {
        let mut state = self.state.lock();
        let found = state.disk.file_id(path);
        found
            .and_then(|node| body(&mut state, node))
            .map_err(|source| FsError::new(op, path, source))
    }
}

/// Looking.
impl SimFs {
    /// Every file with its length, as a running process sees them, sorted by path.
    pub fn files(&self) -> Vec<(PathBuf, u64)> {
        let state = self.state.lock();
        let files = state.disk.walk().into_iter();
        files.map(|(path, file)| (path, file.len() as u64)).collect()
    }

    /// Every file with its bytes, as a running process sees them, sorted by path: the image that
    /// two equal runs must share.
    pub fn image(&self) -> Vec<(PathBuf, Vec<u8>)> {
        let state = self.state.lock();
        let files = state.disk.walk().into_iter();
        files.map(|(path, file)| (path, file.live().to_vec())).collect()
    }

    /// What a crash under [`CrashPolicy::DropAll`] would leave of a file; `None`: not even its
    /// name.
    pub fn read_durable(&self, path: &Path) -> Option<Vec<u8>> {
        let state = self.state.lock();
        state.disk.durable_file(path).map(super::inode::FileNode::durable)
    }

    /// From now on remembers this many calls for [`SimFs::trace`], instead of a few.
    pub fn remember_calls(&self, count: usize) {
        self.state.lock().trace.remember(count);
    }

    /// The last calls, oldest first, for failure messages.
    pub fn trace(&self) -> Vec<TraceEntry> {
        self.state.lock().trace.last()
    }

    /// A hash of every call so far that could have changed the disk, with its bytes: equal for
    /// equal runs.
    pub fn trace_hash(&self) -> u64 {
        self.state.lock().trace.hash()
    }
}
