//! Failures on request: which call fails, how, and how often that has happened.
//!
//! Owns the list of armed faults and their counters. What a fault does to the bytes is carried out
//! where the call is (`file.rs`, `fs.rs`); called by `state.rs` before every call.

use super::state::Call;
use crate::FsOp;
use std::{collections::BTreeMap, path::Path, sync::Arc};

/// How a call fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum FaultKind {
    /// Any call fails with an I/O error and has no effect.
    Eio,
    /// A call that needs space fails with `StorageFull` and has no effect.
    NoSpace,
    /// A write of at least 2 bytes writes only a part and returns the count.
    ShortWrite,
    /// A read or write fails with `Interrupted`, to be called again. Sticky, it loops for ever,
    /// as it would on a real machine.
    Interrupted,
    /// A call that opens something fails with `EMFILE`.
    TooManyFiles,
    /// A sync fails; readers go on seeing the unsynced bytes, but no later sync makes them
    /// durable unless they are written again: Linux marks the pages clean.
    SyncFailsCacheKept,
    /// A sync fails; readers see the last durable bytes again (the length stays): the clean pages
    /// were evicted.
    SyncFailsCacheDropped,
    /// One bit of what a read or map returns is flipped; the disk stays as it is.
    ReadFlip,
}

impl FaultKind {
    /// True when a call of this operation, on this many bytes, can fail so.
    pub fn applies_to(self, op: FsOp, len: u64) -> bool {
        use FsOp::{
            Allocate, Create, CreateDir, ListDir, Lock, Map, Open, Read, Rename, SyncAll, SyncData,
            SyncDir, Write,
        };
        match self {
            Self::Eio => true,
            Self::NoSpace => matches!(
                op,
                Create | Write | Allocate | CreateDir | Rename | SyncData | SyncAll | SyncDir
            ),
            Self::ShortWrite => op == Write && len >= 2,
            Self::Interrupted => matches!(op, Read | Write),
            Self::TooManyFiles => matches!(op, Create | Open | Lock | Map | ListDir | SyncDir),
            Self::SyncFailsCacheKept | Self::SyncFailsCacheDropped => {
                matches!(op, SyncData | SyncAll | SyncDir)
            }
            Self::ReadFlip => matches!(op, Read | Map) && len >= 1,
        }
    }
}

/// A failure to come.
///
/// ```
/// use akidb_vfs::{Fs, FsOp, sim::{Fault, FaultKind, SimFs}};
/// use std::path::Path;
///
/// let fs = SimFs::new(1);
/// let file = fs.create_new(Path::new("/log"))?;
/// fs.inject(Fault::new(FaultKind::NoSpace).on(FsOp::Write).nth(2));
/// file.write_all_at(b"fits", 0)?;
/// assert!(file.write_all_at(b"does not", 4).unwrap_err().is_no_space());
/// file.write_all_at(b"fits again", 4)?;
/// # Ok::<(), akidb_vfs::FsError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The operation that fails; `None`: any that can fail in this way.
    pub on: Option<FsOp>,
    /// Which matching call from now on fails: 1 is the next. 0 is taken as 1.
    pub nth: u64,
    /// Only calls whose path contains this text match.
    pub path_contains: Option<String>,
    /// How it fails.
    pub kind: FaultKind,
    /// True: every matching call from the nth on fails, until [`crate::sim::SimFs::clear_faults`].
    pub sticky: bool,
}

impl Fault {
    /// The next call, of any operation on any path, that can fail in this way.
    pub fn new(kind: FaultKind) -> Self {
        Self { on: None, nth: 1, path_contains: None, kind, sticky: false }
    }

    /// Only calls of one operation.
    #[must_use]
    pub fn on(mut self, op: FsOp) -> Self {
        self.on = Some(op);
        self
    }

    /// The nth matching call from now on instead of the next; 1 is the next.
    #[must_use]
    pub fn nth(mut self, nth: u64) -> Self {
        self.nth = nth;
        self
    }

    /// Only calls whose path contains `text`.
    #[must_use]
    pub fn path(mut self, text: impl Into<String>) -> Self {
        self.path_contains = Some(text.into());
        self
    }

    /// Goes on failing.
    #[must_use]
    pub fn sticky(mut self) -> Self {
        self.sticky = true;
        self
    }

    fn matches(&self, call: &Call<'_>) -> bool {
        self.on.is_none_or(|op| op == call.op)
            && self.kind.applies_to(call.op, call.len)
            && self
                .path_contains
                .as_ref()
                .is_none_or(|text| call.path.to_string_lossy().contains(text.as_str()))
    }
}

/// A call that failed on request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Struck {
    /// How it failed.
    pub kind: FaultKind,
    /// What was called.
    pub op: FsOp,
    /// On what.
    pub path: Arc<Path>,
}

/// The armed faults of one simulation.
#[derive(Clone, Debug, Default)]
pub(super) struct Faults {
    armed: Vec<Fault>,
    pub(super) fired: BTreeMap<FaultKind, u64>,
    pub(super) struck: Vec<Struck>,
}

/// The most struck calls that are remembered: a sticky fault can go on for ever.
const STRUCK_MAX: usize = 1024;

impl Faults {
    pub(super) fn arm(&mut self, fault: Fault) {
        self.armed.push(fault);
    }

    pub(super) fn disarm_all(&mut self) {
        self.armed.clear();
    }

    /// Counts this call down; the first fault that is due strikes, and others that are due wait
    /// for the next matching call.
    pub(super) fn strike(&mut self, call: &Call<'_>) -> Option<FaultKind> {
        let mut due = None;
        for (at, fault) in self.armed.iter_mut().enumerate() {
            if !fault.matches(call) {
                continue;
            }
            fault.nth = fault.nth.saturating_sub(1);
            if fault.nth == 0 && due.is_none() {
                due = Some(at);
            }
        }
        let at = due?;
        let kind = self.armed[at].kind;
        if !self.armed[at].sticky {
            self.armed.remove(at);
        }
        *self.fired.entry(kind).or_default() += 1;
        if self.struck.len() < STRUCK_MAX {
            self.struck.push(Struck { kind, op: call.op, path: Arc::clone(call.path) });
        }
        Some(kind)
    }
}
