//! What recovery found and did, for people and for tests.

use crate::settings::WalBackend;
use serde::Serialize;
use std::path::PathBuf;

/// The cut end of the log: bytes of a write that was never acknowledged as synced.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct TornTail {
    /// The WAL file.
    pub file: PathBuf,
    /// Where the cut begins.
    pub offset: u64,
    /// Bytes given up.
    pub bytes: u64,
    /// Why they are not a whole frame.
    pub reason: String,
}

/// What opening the database found and did.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct RecoveryReport {
    /// True if the directory was made by this open.
    pub created: bool,
    /// True if the directory was made from what the object store holds.
    pub restored: bool,
    /// Then: collections of which the machine before had flushed rows that it never shipped. Rows that
    /// were in its log alone are gone too, and nobody knows of which collections.
    pub restored_partly: Vec<String>,
    /// WAL files read.
    pub wal_files: u64,
    /// Bytes of log read.
    pub wal_bytes: u64,
    /// Batches found in the log.
    pub batches: u64,
    /// Batches that were applied: the others were already in segments.
    pub batches_applied: u64,
    /// Rows and deletes applied.
    pub rows_applied: u64,
    /// Segments written because the log held more than `memtable_pool_bytes`.
    pub segments_flushed: u64,
    /// The last LSN recovered.
    pub last_lsn: u64,
    /// What was cut off the end of the log, if anything.
    pub torn_tail: Option<TornTail>,
    /// Files that the manifest does not name. They are skipped, never read and not deleted.
    pub unknown_files: Vec<PathBuf>,
    /// Segments and tombstones that a crash left over and that this open removed: the manifest
    /// does not name them and is newer than their numbers.
    pub removed_files: Vec<PathBuf>,
    /// How the log writes and syncs since: `Std`, `Uring` or `TokioUring`.
    pub wal_backend: WalBackend,
    /// Why the log does not write the way that [`WalBackend::Auto`] prefers, if it was asked to.
    pub wal_backend_fallback: Option<String>,
    /// Segments opened.
    pub segments: u64,
    /// Milliseconds that the open took.
    pub elapsed_ms: f64,
}
