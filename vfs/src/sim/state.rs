//! The gate before every simulated call: power, the plan to lose it, faults, the read-only switch
//! and the counters.
//!
//! Owns everything of a simulation except the tree of files, which is in `disk.rs`. Every call of
//! `fs.rs` and `file.rs` goes through [`State::perform`], so none can escape a fault or a crash.

use super::{
    crash::{CrashEffects, CrashPolicy, PowerMoment},
    disk::{Disk, NodeId},
    fault::{FaultKind, Faults},
    points::Recorder,
    trace::{Trace, TraceEntry},
};
use crate::{FsError, FsOp};
use std::{
    collections::BTreeSet,
    io::{self, ErrorKind},
    path::Path,
    sync::Arc,
};

/// The number of `EMFILE` on every Unix.
const EMFILE: i32 = 24;

/// Free bytes of a disk without a set capacity: 1 TiB, less what is used.
const CAPACITY_DEFAULT: u64 = 1 << 40;

/// The source of every error after the simulated machine lost power, until it is rebooted; and
/// for handles of processes that are gone, for ever.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the simulated machine lost power, or the process that opened this is gone")]
pub struct PowerLost;

impl From<PowerLost> for io::Error {
    fn from(lost: PowerLost) -> Self {
        Self::other(lost)
    }
}

/// True when a call failed only because the simulated machine had lost power.
pub fn is_power_lost(error: &FsError) -> bool {
    let source = error.source.get_ref();
    source.is_some_and(<dyn std::error::Error + Send + Sync>::is::<PowerLost>)
}

/// One call, as faults and the trace see it.
pub(super) struct Call<'a> {
    pub(super) op: FsOp,
    pub(super) path: &'a Arc<Path>,
    pub(super) offset: Option<u64>,
    pub(super) len: u64,
    /// The process that makes the call; `None` is the test itself, which outlives crashes.
    pub(super) boot: Option<u64>,
}

impl Call<'_> {
    fn error(&self, source: io::Error) -> FsError {
        let error = FsError::new(self.op, &**self.path, source);
        match self.offset {
            Some(offset) => error.at(offset),
            None => error,
        }
    }
}

/// How an admitted call must differ from the plain one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Twist {
    None,
    /// Write a part only.
    Short,
    SyncKeepsCache,
    SyncDropsCache,
    FlipBit,
}

struct Admitted {
    twist: Twist,
    power_lost_after: bool,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct PowerPlan {
    pub(super) calls_left: u64,
    pub(super) moment: PowerMoment,
}

#[derive(Clone, Debug)]
pub(super) struct State {
    pub(super) disk: Disk,
    /// Counts crashes and kills: handles of an earlier number are dead.
    pub(super) boot: u64,
    pub(super) powered: bool,
    pub(super) plan: Option<PowerPlan>,
    pub(super) faults: Faults,
    pub(super) calls: u64,
    pub(super) capacity: Option<u64>,
    pub(super) read_only: bool,
    pub(super) locks: BTreeSet<NodeId>,
    pub(super) trace: Trace,
    pub(super) effects: CrashEffects,
    pub(super) rng: fastrand::Rng,
    pub(super) recorder: Recorder,
}

impl State {
    pub(super) fn new(seed: u64) -> Self {
        Self {
            disk: Disk::new(),
            boot: 0,
            powered: true,
            plan: None,
            faults: Faults::default(),
            calls: 0,
            capacity: None,
            read_only: false,
            locks: BTreeSet::new(),
            trace: Trace::default(),
            effects: CrashEffects::default(),
            rng: fastrand::Rng::with_seed(seed),
            recorder: Recorder::new(),
        }
    }

    /// Runs one call: refuses it, or hands it to `body` with the twist it must obey.
    pub(super) fn perform<T>(
        &mut self,
        call: &Call<'_>,
        body: impl FnOnce(&mut Self, Twist) -> io::Result<T>,
    ) -> Result<T, FsError> {
        let admitted = self.admit(call).map_err(|source| call.error(source))?;
        let result = body(self, admitted.twist);
        if admitted.power_lost_after {
            self.powered = false;
            return Err(call.error(PowerLost.into()));
        }
        result.map_err(|source| call.error(source))
    }

    fn admit(&mut self, call: &Call<'_>) -> io::Result<Admitted> {
        if !self.powered || call.boot.is_some_and(|boot| boot != self.boot) {
            return Err(PowerLost.into());
        }
        let Call { op, offset, len, .. } = *call;
        self.trace.record(TraceEntry { op, path: Arc::clone(call.path), offset, len });
        let changes = changes_disk(op);
        let mut admitted = Admitted { twist: Twist::None, power_lost_after: false };
        if changes {
            self.calls += 1;
            self.trace.hash_call(op, call.path, offset, len);
            self.record_before(call);
            match self.power_moment() {
                None => {}
                Some(PowerMoment::Middle) if op == FsOp::Write => {
                    return Ok(Admitted { twist: Twist::Short, power_lost_after: true });
                }
                Some(PowerMoment::Before | PowerMoment::Middle) => {
                    self.powered = false;
                    return Err(PowerLost.into());
                }
                Some(PowerMoment::After) => admitted.power_lost_after = true,
            }
        }
        admitted.twist = match self.faults.strike(call) {
            None => Twist::None,
            Some(FaultKind::Eio) => return Err(eio()),
            Some(FaultKind::NoSpace) => return Err(ErrorKind::StorageFull.into()),
            Some(FaultKind::Interrupted) => return Err(ErrorKind::Interrupted.into()),
            Some(FaultKind::TooManyFiles) => return Err(io::Error::from_raw_os_error(EMFILE)),
            Some(FaultKind::ShortWrite) => Twist::Short,
            Some(FaultKind::SyncFailsCacheKept) => Twist::SyncKeepsCache,
            Some(FaultKind::SyncFailsCacheDropped) => Twist::SyncDropsCache,
            Some(FaultKind::ReadFlip) => Twist::FlipBit,
        };
        // Syncing what is there already is no write.
        let syncs = matches!(op, FsOp::SyncData | FsOp::SyncAll | FsOp::SyncDir);
        if self.read_only && changes && !syncs {
            return Err(ErrorKind::ReadOnlyFilesystem.into());
        }
        Ok(admitted)
    }

    /// Counts a call against the plan to lose power.
    fn power_moment(&mut self) -> Option<PowerMoment> {
        let plan = self.plan.as_mut()?;
        plan.calls_left = plan.calls_left.saturating_sub(1);
        if plan.calls_left > 0 {
            return None;
        }
        self.plan.take().map(|plan| plan.moment)
    }

    /// Settles the disk after a loss of power, and turns the machine on again.
    pub(super) fn reboot(&mut self, policy: CrashPolicy) {
        self.disk.crash(policy, &mut self.rng, &mut self.effects);
        self.end_processes();
        self.powered = true;
        self.plan = None;
    }

    /// Makes every handle and lock of the running processes void.
    pub(super) fn end_processes(&mut self) {
        self.boot += 1;
        self.locks.clear();
        self.disk.close_all();
    }

    /// Bytes that may still be written.
    pub(super) fn free(&self) -> u64 {
        self.capacity.unwrap_or(CAPACITY_DEFAULT).saturating_sub(self.disk.used())
    }

    /// How far a file may grow now: `Ok` with the end that fits, at most `end`. Space is counted
    /// only where a capacity is set.
    pub(super) fn room(&self, len: usize, end: usize) -> usize {
        if self.capacity.is_none() || end <= len {
            return end;
        }
        let free = usize::try_from(self.free()).unwrap_or(usize::MAX);
        end.min(len.saturating_add(free))
    }
}

/// True for the calls that crash tests count and interrupt.
fn changes_disk(op: FsOp) -> bool {
    match op {
        FsOp::Create
        | FsOp::Write
        | FsOp::SyncData
        | FsOp::SyncAll
        | FsOp::Allocate
        | FsOp::Rename
        | FsOp::RemoveFile
        | FsOp::RemoveDir
        | FsOp::CreateDir
        | FsOp::SyncDir
        | FsOp::Lock => true,
        FsOp::Open | FsOp::Read | FsOp::Metadata | FsOp::ListDir | FsOp::Map | FsOp::FreeSpace => {
            false
        }
    }
}

/// What the system says after a failed transfer.
pub(super) fn eio() -> io::Error {
    const EIO: i32 = 5;
    io::Error::from_raw_os_error(EIO)
}
