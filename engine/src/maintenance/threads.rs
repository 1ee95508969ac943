//! Threads for the arithmetic of a flush or merge: started for one piece of work, gone after it.
//!
//! A pool would be idle nearly always, and one that searches share would make them wait. What is
//! computed does not depend on how many there are. Called by `order`.

use akidb_index::Executor;
use akidb_vfs::thread::spawn_scoped;
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

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Mutex;

    #[test]
    fn every_task_runs_once_whatever_the_width() {
        for width in [1, 2, 7] {
            for tasks in [0, 1, 5, 100] {
                let seen = Mutex::new(Vec::new());
                Threads(width).run(tasks, &|task| seen.lock().unwrap().push(task));
                let mut seen = seen.into_inner().unwrap();
                seen.sort_unstable();
                assert_eq!(seen, (0..tasks).collect::<Vec<_>>());
            }
        }
        assert!(Threads::new(0).0 >= 1);
    }
}
