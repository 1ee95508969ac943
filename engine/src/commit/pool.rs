//! The memory that all memtables share. Writers take from it before they queue and wait when it
//! is empty; a flush gives back. It never refuses: a batch larger than the pool waits until the
//! pool is empty and then overdraws it.

use std::sync::atomic::{AtomicU64, Ordering};
use tokio::sync::Notify;

/// Bytes held by memtables, against a limit.
#[derive(Debug)]
pub(crate) struct MemoryPool {
    used: AtomicU64,
    limit: u64,
    freed: Notify,
}

impl MemoryPool {
    pub(crate) fn new(limit: u64) -> Self {
        Self { used: AtomicU64::new(0), limit, freed: Notify::new() }
    }

    /// Counts bytes that a memtable took.
    pub(crate) fn charge(&self, bytes: u64) {
        self.used.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Gives back what a flushed or dropped memtable held, and wakes waiting writers.
    pub(crate) fn release(&self, bytes: u64) {
        let before = self.used.fetch_sub(bytes, Ordering::Relaxed);
        debug_assert!(before >= bytes, "released more than was charged");
        self.freed.notify_waiters();
    }

    /// What it holds when it is full.
    pub(crate) fn limit(&self) -> u64 {
        self.limit
    }

    /// True while writers may go on.
    pub(crate) fn has_room(&self) -> bool {
        self.used.load(Ordering::Relaxed) < self.limit
    }

    /// True while a quarter is free, so that writers are far from having to wait.
    pub(crate) fn has_ample_room(&self) -> bool {
        self.used.load(Ordering::Relaxed) < self.limit / 4 * 3
    }

    /// True while the writers that may go beyond the limit, by a quarter of it, may go on.
    pub(crate) fn has_overdraft(&self) -> bool {
        self.used.load(Ordering::Relaxed) < self.limit.saturating_add(self.limit / 4)
    }

    /// Wakes waiting writers though nothing was given back, so that they look at the reason.
    pub(crate) fn wake(&self) {
        self.freed.notify_waiters();
    }

    /// Waits for the next release or wake-up, unless there is room already or `hopeless` says
    /// that none will come. Whoever makes it hopeless must [`MemoryPool::wake`] afterwards.
    pub(crate) async fn wait_for_change(&self, hopeless: impl Fn() -> bool) {
        let mut freed = std::pin::pin!(self.freed.notified());
        // Registered before the checks: a release between check and wait is not missed.
        freed.as_mut().enable();
        if !self.has_room() && !hopeless() {
            freed.await;
        }
    }

    pub(crate) fn used(&self) -> u64 {
        self.used.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    #[test]
    fn a_writer_waits_until_a_flush_gives_back() {
        let pool = Arc::new(MemoryPool::new(100));
        pool.charge(100);
        let waiting = pool.clone();
        let writer = akidb_vfs::thread::spawn("test", move || {
            futures_lite::future::block_on(waiting.wait_for_change(|| false));
        })
        .unwrap();
        assert!(!writer.is_finished());
        pool.release(1);
        writer.join().unwrap();
    }

    #[test]
    fn a_writer_does_not_wait_for_what_will_never_come() {
        let pool = MemoryPool::new(100);
        pool.charge(100);
        futures_lite::future::block_on(pool.wait_for_change(|| true));
    }
}
