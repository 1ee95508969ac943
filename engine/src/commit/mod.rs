//! The way of a write: validated by its caller, queued, logged, applied, acknowledged.
//!
//! `validate` turns user input into rows, `payload` is the record body, `sink` runs on the log
//! thread, `overlay` answers "what is there now" for writes that depend on it. [`Shared`] is what
//! the log thread and the rest of the database both touch. Called by the API; writes nothing to
//! disk itself, the log does.

mod overlay;
#[cfg(test)]
mod page_tests;
pub(crate) mod payload;
mod pool;
mod sink;
mod validate;

pub(crate) use pool::MemoryPool;
pub(crate) use sink::{Change, CommitSink};
pub(crate) use validate::{
    canonical_json, check_depth, check_id, check_ids, check_query, check_rows, dedup_ids,
    json_type, stored_metadata,
};

use crate::{
    PointId, Receipt,
    collection::{CollectionCore, NewRow},
    db::background::Bell,
    error::{Cause, Error, Result},
    filter::Filter,
    point::Metadata,
    quota::LetIn,
    settings::{Durability, Settings},
};
use akidb_tiering::AccessTracker;
use akidb_vfs::{Clock, planted};
use akidb_wal::{Lsn, Reply, WalError};
use std::{
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

/// The most bytes of one batch in the log.
pub(crate) const BATCH_BYTES_MAX: u64 = 16 << 20;

/// New values for some metadata keys of a row; null removes a key.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct MetadataPatch {
    pub(crate) id: PointId,
    pub(crate) changes: Metadata,
}

/// A validated write.
#[derive(Debug)]
pub(crate) enum WriteOp {
    Upsert { rows: Vec<NewRow>, payload: Vec<u8> },
    Insert { rows: Vec<NewRow>, payload: Vec<u8> },
    Update { patches: Vec<MetadataPatch> },
    Delete { ids: Vec<PointId>, payload: Vec<u8> },
    DeleteMatching { filter: Filter, seen: Vec<(PointId, Lsn)> },
}

/// A write in the queue. It owns all it needs: dropping the caller's future changes nothing.
pub(crate) struct Request {
    pub(crate) collection: Arc<CollectionCore>,
    pub(crate) op: WriteOp,
    pub(crate) durability: Durability,
    pub(crate) reply: Reply<Done>,
    /// Until the write is there to be measured.
    pub(crate) let_in: LetIn,
}

/// What became of a write.
pub(crate) struct Done {
    pub(crate) result: Result<Receipt>,
    /// What the log thread has used up. Freed by the caller, whose thread it came from: memory that
    /// another thread gives back costs more, and the log thread has better to do.
    pub(crate) spent: Spent,
}

impl Done {
    /// Without anything that was used up.
    pub(crate) fn new(result: Result<Receipt>) -> Self {
        Self { result, spent: Spent::default() }
    }
}

/// Memory that came with a write and is not needed any more: what was written, and its record body.
pub(crate) type Spent = (Option<Change>, Vec<u8>);

/// What the log thread shares with the rest of the database.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) settings: Settings,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) pool: MemoryPool,
    /// Rung when a memtable is frozen or the log has grown: there may be work.
    pub(crate) work: Arc<Bell>,
    poison: OnceLock<Error>,
    closed: AtomicBool,
    applied: AtomicU64,
    /// `applied` + 1 when the disk was last found to have room; 0 before.
    room_at: AtomicU64,
}

impl Shared {
    pub(crate) fn new(settings: Settings, clock: Arc<dyn Clock>, applied: Lsn) -> Self {
        Self {
            pool: MemoryPool::new(settings.memtable_pool_bytes),
            settings,
            clock,
            work: Arc::new(Bell::default()),
            poison: OnceLock::new(),
            closed: AtomicBool::new(false),
            applied: AtomicU64::new(applied.get()),
            room_at: AtomicU64::new(0),
        }
    }

    /// A count of accesses for a collection, which begins now.
    pub(crate) fn new_access(&self) -> AccessTracker {
        let window = Duration::from_millis(self.settings.tiers.policy.access_window_ms);
        AccessTracker::new(window, self.clock.monotonic())
    }

    /// Refuses writes once the database is poisoned or closed.
    pub(crate) fn check_writable(&self) -> Result<()> {
        self.check_open()?;
        match self.poison.get() {
            Some(error) => Err(Cause::Poisoned(error.clone()).into()),
            None => Ok(()),
        }
    }

    /// Refuses everything once the database is closed.
    pub(crate) fn check_open(&self) -> Result<()> {
        if self.closed.load(Ordering::Acquire) { Err(Cause::Closed.into()) } else { Ok(()) }
    }

    /// Marks the database closed; true for the first caller.
    pub(crate) fn set_closed(&self) -> bool {
        let first = !self.closed.swap(true, Ordering::AcqRel);
        self.pool.wake();
        first
    }

    /// Refuses all later writes with this reason, and returns the error to report.
    pub(crate) fn poison(&self, error: Error) -> Error {
        if planted("wal.poison-forgotten") {
            return Cause::Poisoned(error).into();
        }
        let first = self.poison.get_or_init(|| error);
        // Flushes end here, so writers that wait for one must look at the reason.
        self.pool.wake();
        Cause::Poisoned(first.clone()).into()
    }

    /// The reason writes are refused, if they are.
    pub(crate) fn poisoned(&self) -> Option<&Error> {
        self.poison.get()
    }

    /// Sorts a failure of the log. What the log itself survives (a full disk, no descriptor left
    /// for a new file) passes: nothing was written. Only its own poison is final.
    pub(crate) fn write_failed(&self, error: &Arc<WalError>) -> Error {
        match &**error {
            WalError::Closed => Cause::Closed.into(),
            WalError::Poisoned(first) => self.poison(first.clone().into()),
            WalError::Panicked { .. } => self.poison(error.clone().into()),
            _ => error.clone().into(),
        }
    }

    /// The last LSN whose write is applied, over all collections.
    pub(crate) fn applied(&self) -> Lsn {
        Lsn::new(self.applied.load(Ordering::Acquire))
    }

    /// Runs `look`, which asks the disk for its free space, unless it has been asked since the last
    /// write was applied: the writers of one group need to know it once. A look that fails counts
    /// for nothing.
    pub(crate) fn once_per_group(&self, look: impl FnOnce() -> Result<()>) -> Result<()> {
        let now = self.applied().get().saturating_add(1);
        if self.room_at.load(Ordering::Relaxed) == now {
            return Ok(());
        }
        look()?;
        self.room_at.store(now, Ordering::Relaxed);
        Ok(())
    }

    /// Starts from where recovery ended.
    pub(crate) fn recovered(&self, lsn: Lsn) {
        self.set_applied(lsn);
    }

    fn set_applied(&self, lsn: Lsn) {
        self.applied.store(lsn.get(), Ordering::Release);
    }

    /// Freezes a memtable that reached its size and rings for its flush.
    fn after_apply(&self, collection: &CollectionCore) {
        let full = collection.state.read().parts.active().bytes() >= self.settings.memtable_bytes;
        if full && collection.freeze() {
            self.work.ring();
        }
    }
}

impl Durability {
    /// The log's word for it.
    pub(crate) fn for_log(self) -> akidb_wal::Durability {
        match self {
            Self::Sync => akidb_wal::Durability::Sync,
            Self::Interval { ms } => akidb_wal::Durability::Interval(Duration::from_millis(ms)),
            Self::Memory => akidb_wal::Durability::Memory,
        }
    }
}
