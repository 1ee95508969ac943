//! Threads for the arithmetic of a flush or merge, and for moves: started for one piece of work, gone after it.
//! And turns, where fewer of them should compute at once than wait.
//!
//! A pool would be idle nearly always, and one that searches share would make them wait. What is
//! computed does not depend on how many there are. Called by `order`,
//! `packs` and the cycles of tiers.

use akidb_index::Executor;
use akidb_vfs::thread::spawn_scoped;
use parking_lot::{Condvar, Mutex};
use std::{
    sync::atomic::{AtomicUsize, Ordering},
    thread,
};

/// At most so many threads, the caller's among them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Threads(pub(crate) usize);

impl Threads {
    /// As many as a setting asks for; 0 means one per core.
    pub(crate) fn new(setting: usize) -> Self {
        let cores = || thread::available_parallelism().map_or(1, usize::from);
        Self(if setting == 0 { cores() } else { setting })
    }
}

impl Executor for Threads {
    fn run(&self, tasks: usize, task: &(dyn Fn(usize) + Sync)) {
        let next = AtomicUsize::new(0);
        let work = || {
            loop {
                let task_number = next.fetch_add(1, Ordering::Relaxed);
                if task_number >= tasks {
                    return;
                }
                task(task_number);
            }
        };
        thread::scope(|scope| {
            for _ in 1..self.0.min(tasks) {
                // Without a further thread the work takes longer and is the same. A panic of one
                // is the caller's when the scope ends.
                drop(spawn_scoped(scope, "build", work));
            }
            work();
        });
    }
}

/// Turns at what fewer should be at than there are threads. They come back when they are dropped.
#[derive(Debug)]
pub(crate) struct Turns {
    free: Mutex<usize>,
    freed: Condvar,
}

/// A turn, until it is dropped.
#[derive(Debug)]
pub(crate) struct Turn<'a>(&'a Turns);

impl Turns {
    /// For so many at once, at least one.
    pub(crate) fn new(count: usize) -> Self {
        Self { free: Mutex::new(count.max(1)), freed: Condvar::new() }
    }

    /// Waits for one.
    pub(crate) fn take(&self) -> Turn<'_> {
        let mut free = self.free.lock();
        while *free == 0 {
            self.freed.wait(&mut free);
        }
        *free -= 1;
        Turn(self)
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        *self.0.free.lock() += 1;
        self.0.freed.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_task_runs_once_whatever_the_width() {
        for width in [1, 2, 7] {
            for tasks in [0, 1, 5, 100] {
                let seen = Mutex::new(Vec::new());
                Threads(width).run(tasks, &|task| seen.lock().push(task));
                let mut seen = seen.into_inner();
                seen.sort_unstable();
                assert_eq!(seen, (0..tasks).collect::<Vec<_>>());
            }
        }
        assert!(Threads::new(0).0 >= 1);
    }

    #[test]
    fn no_more_have_a_turn_at_once_than_there_are_and_each_gets_one() {
        let (turns, at_it, most) = (Turns::new(2), AtomicUsize::new(0), AtomicUsize::new(0));
        let done = AtomicUsize::new(0);
        Threads(7).run(100, &|_| {
            let turn = turns.take();
            most.fetch_max(at_it.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            thread::yield_now();
            at_it.fetch_sub(1, Ordering::SeqCst);
            drop(turn);
            done.fetch_add(1, Ordering::SeqCst);
        });
        assert_eq!(done.into_inner(), 100);
        assert!((1..=2).contains(&most.into_inner()));
    }
}
