//! The threads that search, and how many of them are free: a search takes others' help only while
//! nobody else needs it, so that help never costs throughput.

use crate::error::{Cause, Result};
use std::{
    num::NonZero,
    sync::{
        OnceLock,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

/// The threads of a database that search.
#[derive(Debug)]
pub(crate) struct Searchers {
    threads: usize,
    pool: OnceLock<rayon::ThreadPool>,
    /// Threads that search now: those of callers, and those that help them.
    busy: AtomicUsize,
}

impl Searchers {
    /// So many threads; 0 means one per core.
    pub(crate) fn new(threads: usize) -> Self {
        let cores = || thread::available_parallelism().map_or(1, NonZero::get);
        let threads = if threads == 0 { cores() } else { threads };
        Self { threads, pool: OnceLock::new(), busy: AtomicUsize::new(0) }
    }

    /// The threads, which are started when they are first needed.
    ///
    /// # Errors
    /// If the machine gives no threads.
    pub(crate) fn pool(&self) -> Result<&rayon::ThreadPool> {
        if let Some(pool) = self.pool.get() {
            return Ok(pool);
        }
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(self.threads)
            .thread_name(|n| format!("akidb-search-{n}"))
            // The task's caller learns of the panic by its dropped reply.
            .panic_handler(|_| ())
            .build()
            .map_err(|error| Cause::Thread(std::io::Error::other(error)))?;
        Ok(self.pool.get_or_init(|| pool))
    }

    /// Counts a search that begins on this thread.
    pub(crate) fn begin(&self) -> Searching<'_> {
        self.busy.fetch_add(1, Ordering::Relaxed);
        Searching { searchers: self, threads: 1 }
    }
}

/// A search under way, and the threads that it occupies.
#[derive(Debug)]
pub(crate) struct Searching<'a> {
    searchers: &'a Searchers,
    threads: usize,
}

impl<'a> Searching<'a> {
    /// Takes up to `wanted` threads that nobody uses; how many.
    pub(crate) fn take_helpers(&mut self, wanted: usize) -> usize {
        let mut taken = 0;
        let more = |busy: usize| {
            taken = self.searchers.threads.saturating_sub(busy).min(wanted);
            (taken > 0).then_some(busy + taken)
        };
        let (set, fetch) = (Ordering::Relaxed, Ordering::Relaxed);
        if self.searchers.busy.fetch_update(set, fetch, more).is_err() {
            return 0;
        }
        self.threads += taken;
        taken
    }

    /// The threads that help.
    pub(crate) fn pool(&self) -> Result<&'a rayon::ThreadPool> {
        self.searchers.pool()
    }
}

impl Drop for Searching<'_> {
    fn drop(&mut self) {
        self.searchers.busy.fetch_sub(self.threads, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_threads_that_nobody_uses_help() {
        let searchers = Searchers::new(4);
        let mut first = searchers.begin();
        assert_eq!(first.take_helpers(2), 2);
        let mut second = searchers.begin();
        assert_eq!(second.take_helpers(5), 0, "three threads and the second's own are busy");
        drop(first);
        assert_eq!(second.take_helpers(5), 3);
        drop(second);
        assert_eq!(searchers.begin().take_helpers(9), 3);
    }

    #[test]
    fn one_thread_has_no_help() {
        assert_eq!(Searchers::new(1).begin().take_helpers(8), 0);
    }
}
