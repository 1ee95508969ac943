//! Crash points: the disk as it was in the middle of chosen calls, kept while the run goes on, so
//! that one run ends in thousands of crashes.
//!
//! Owns which moments are kept and what becomes of a kept one. Costs the run nothing but the
//! copies, which share their bytes; must never change what the run does or draws from its chance.
//! Filled by `state.rs` and `file.rs`, read by tests.

use super::{
    CrashEffects, CrashPolicy, PowerMoment, SimFs,
    disk::Disk,
    state::{Call, State},
};
use crate::FsOp;
use parking_lot::Mutex;
use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

/// The disk at one moment of a run, unsynced work included.
///
/// ```
/// use akidb_vfs::{Fs, read_file, sim::{CrashPolicy, SimFs}};
/// use std::path::Path;
///
/// let sim = SimFs::new(1);
/// sim.record_crash_points(1, 7);
/// let file = sim.create_new(Path::new("/log"))?;
/// sim.sync_dir(Path::new("/"))?;
/// file.write_all_at(b"abc", 0)?;
/// let points = sim.take_crash_points();
/// // Before the creation, before the sync, before the write and within it.
/// assert_eq!(points.len(), 4);
/// let within = points[3].crashed(CrashPolicy::KeepAll, 1);
/// assert!(read_file(&within, Path::new("/log"))?.len() < 3);
/// # Ok::<(), akidb_vfs::FsError>(())
/// ```
#[derive(Clone, Debug)]
pub struct CrashPoint {
    disk: Disk,
    capacity: Option<u64>,
    read_only: bool,
    /// The number of the call, as [`SimFs::calls`] counts.
    pub call: u64,
    /// What was called; `None` between two calls.
    pub op: Option<FsOp>,
    /// The path that the call was about; empty between two calls.
    pub path: PathBuf,
    /// The byte offset, where the call had one.
    pub offset: Option<u64>,
    /// When within the call.
    pub moment: PowerMoment,
}

impl CrashPoint {
    /// The machine after a loss of power at this moment: what survived is settled by `policy`,
    /// chance follows from `seed`.
    #[must_use]
    pub fn crashed(&self, policy: CrashPolicy, seed: u64) -> SimFs {
        let mut state = self.state(seed);
        state.reboot(policy);
        SimFs { state: Arc::new(Mutex::new(state)), boot: None }
    }

    /// The machine after a kill of the process at this moment: the disk keeps every byte and
    /// name, and a later crash can still lose what was not synced.
    #[must_use]
    pub fn killed(&self, seed: u64) -> SimFs {
        let mut state = self.state(seed);
        state.disk.close_all();
        SimFs { state: Arc::new(Mutex::new(state)), boot: None }
    }

    fn state(&self, seed: u64) -> State {
        let mut state = State { disk: self.disk.clone(), ..State::new(seed) };
        state.capacity = self.capacity;
        state.read_only = self.read_only;
        state
    }
}

/// Which moments are kept, and those that were.
#[derive(Clone, Debug)]
pub(super) struct Recorder {
    /// One moment of so many is kept; 0: none.
    one_in: u32,
    rng: fastrand::Rng,
    points: Vec<CrashPoint>,
}

impl Recorder {
    /// Keeps nothing.
    pub(super) fn new() -> Self {
        Self { one_in: 0, rng: fastrand::Rng::with_seed(0), points: Vec::new() }
    }

    fn picks(&mut self) -> bool {
        self.one_in == 1 || (self.one_in > 1 && self.rng.u32(0..self.one_in) == 0)
    }
}

impl State {
    /// A call is about to begin: keeps the disk as it is, if this moment is picked.
    pub(super) fn record_before(&mut self, call: &Call<'_>) {
        if self.recorder.picks() {
            self.keep(self.disk.clone(), call, PowerMoment::Before);
        }
    }

    /// A write of `len` bytes is about to begin. If the middle of it is picked: how many of its
    /// bytes it has written by then.
    pub(super) fn record_middle(&mut self, len: usize) -> Option<usize> {
        let recorder = &mut self.recorder;
        (len > 1 && recorder.picks()).then(|| recorder.rng.usize(1..len))
    }

    /// Keeps this disk as the one at a moment of `call`.
    pub(super) fn keep(&mut self, disk: Disk, call: &Call<'_>, moment: PowerMoment) {
        let point = CrashPoint {
            disk,
            capacity: self.capacity,
            read_only: self.read_only,
            call: self.calls,
            op: Some(call.op),
            path: call.path.to_path_buf(),
            offset: call.offset,
            moment,
        };
        self.recorder.points.push(point);
    }
}

impl SimFs {
    /// From now on keeps one moment in `one_in` (1: all) of those within calls that could change
    /// the disk: before each, and in the middle of each write. 0 ends it. Which ones follows from
    /// `seed`, and the run's own chance is left alone.
    pub fn record_crash_points(&self, one_in: u32, seed: u64) {
        let recorder = &mut self.state.lock().recorder;
        recorder.one_in = one_in;
        recorder.rng = fastrand::Rng::with_seed(seed);
    }

    /// What was recorded since the last time, in order.
    pub fn take_crash_points(&self) -> Vec<CrashPoint> {
        std::mem::take(&mut self.state.lock().recorder.points)
    }

    /// The disk as it is now, as a crash point between two calls.
    pub fn crash_point(&self) -> CrashPoint {
        let state = self.state.lock();
        CrashPoint {
            disk: state.disk.clone(),
            capacity: state.capacity,
            read_only: state.read_only,
            call: state.calls,
            op: None,
            path: PathBuf::new(),
            offset: None,
            moment: PowerMoment::After,
        }
    }

    /// A hash of all files with their paths and bytes, as a running process sees them, but those
    /// that `leave_out` names: equal disks have equal ones.
    pub fn image_hash(&self, leave_out: impl Fn(&Path) -> bool) -> u64 {
        let state = self.state.lock();
        let mut hash = 0;
        for (path, file) in state.disk.walk() {
            if !leave_out(&path) {
                hash = mix(hash, hash_of(path.as_os_str().as_encoded_bytes()));
                hash = mix(hash, hash_of(file.live()));
            }
        }
        hash
    }
}

/// Four lanes side by side: one chain of multiplications would take longer than the recovery that
/// the hash may spare.
fn hash_of(bytes: &[u8]) -> u64 {
    let mut lanes = [1, 2, 3, bytes.len() as u64];
    let word = |bytes: &[u8]| {
        let mut word = [0; 8];
        word[..bytes.len()].copy_from_slice(bytes);
        u64::from_le_bytes(word)
    };
    let mut blocks = bytes.chunks_exact(32);
    for block in &mut blocks {
        for (lane, bytes) in lanes.iter_mut().zip(block.chunks_exact(8)) {
            *lane = mix(*lane, word(bytes));
        }
    }
    let rest = blocks.remainder().chunks(8).fold(0, |hash, bytes| mix(hash, word(bytes)));
    lanes.into_iter().fold(rest, mix)
}

/// FxHash's step, with the high bits brought down.
fn mix(hash: u64, word: u64) -> u64 {
    let mixed = (hash.rotate_left(5) ^ word).wrapping_mul(0x51_7c_c1_b7_27_22_0a_95);
    mixed ^ (mixed >> 32)
}

impl CrashEffects {
    /// All counters with their names.
    pub fn named(&self) -> [(&'static str, u64); 6] {
        [
            ("sectors kept", self.sectors_kept),
            ("sectors dropped", self.sectors_dropped),
            ("sectors torn", self.sectors_torn),
            ("lengths lost", self.lengths_lost),
            ("directory changes kept", self.dir_ops_kept),
            ("directory changes forgotten", self.dir_ops_forgotten),
        ]
    }
}
