//! Limits on what a database, or a namespace of it, may take.

use serde::{Deserialize, Serialize};

/// What a group of collections may take. `None`: as much as there is.
///
/// A limit is looked at before anything is written; what is over it is refused with
/// [`ErrorKind::QuotaExceeded`](crate::ErrorKind::QuotaExceeded). Deletes are never refused.
///
/// ```
/// use akidb::{Limits, Settings};
/// let tenant = Limits { collections_max: Some(10), ..Limits::default() };
/// let settings = Settings { namespace_default: tenant, ..Settings::default() };
/// # assert!(settings.limits.collections_max.is_none());
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// How many collections.
    pub collections_max: Option<u64>,
    /// Bytes of memory in memtables and hot copies. Copies are made only while three quarters of it are
    /// enough; a write that does not fit is refused and has memtables flushed, so that it can be tried
    /// again.
    pub memory_bytes_max: Option<u64>,
    /// Bytes of rows wherever they lie: in segments, in objects, in snapshots, and what memtables will
    /// take as segments. The log is not counted, nor what a compaction takes while it runs.
    pub storage_bytes_max: Option<u64>,
}

impl Limits {
    /// True if there is none.
    pub(crate) fn are_none(&self) -> bool {
        *self == Self::default()
    }
}
