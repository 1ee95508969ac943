//! Counts of work done since open, shown by `stats`. Relaxed atomics: they order nothing.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Work counters.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) flushes: AtomicU64,
    pub(crate) flushed_rows: AtomicU64,
    pub(crate) compactions: AtomicU64,
    pub(crate) compacted_rows: AtomicU64,
    pub(crate) compacted_bytes: AtomicU64,
}

impl Counters {
    pub(crate) fn flushed(&self, rows: usize) {
        self.flushes.fetch_add(1, Relaxed);
        self.flushed_rows.fetch_add(rows as u64, Relaxed);
    }

    pub(crate) fn compacted(&self, rows: u64, bytes: u64) {
        self.compactions.fetch_add(1, Relaxed);
        self.compacted_rows.fetch_add(rows, Relaxed);
        self.compacted_bytes.fetch_add(bytes, Relaxed);
    }
}
