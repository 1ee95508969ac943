//! Work that can be done side by side: the caller's threads, not ours.
//!
//! This crate owns no thread. What can be divided takes an [`Executor`], which the caller makes of
//! a pool of its own; [`Serial`] does one task after the other. Results never depend on which it is,
//! nor on its width: tasks are cut by the work alone, and put together in their order.

use std::sync::OnceLock;

/// Runs tasks, perhaps at once.
pub trait Executor: Sync {
    /// Calls `task` once with each number below `tasks`, in any order and from any threads, and
    /// returns when all calls have returned.
    fn run(&self, tasks: usize, task: &(dyn Fn(usize) + Sync));
}

/// One task after the other, on the thread of the caller.
///
/// ```
/// use akidb_index::{Executor, Serial};
/// use std::sync::atomic::{AtomicUsize, Ordering};
/// let sum = AtomicUsize::new(0);
/// Serial.run(4, &|task| {
///     sum.fetch_add(task, Ordering::Relaxed);
/// });
/// assert_eq!(sum.into_inner(), 6);
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct Serial;

impl Executor for Serial {
    fn run(&self, tasks: usize, task: &(dyn Fn(usize) + Sync)) {
        (0..tasks).for_each(task);
    }
}

/// What `of` makes of each number below `tasks`, in their order.
///
/// ```
/// assert_eq!(akidb_index::map(&akidb_index::Serial, 3, |task| task * task), [0, 1, 4]);
/// ```
///
/// # Panics
/// If the executor returns before every task has run, which breaks its contract.
pub fn map<R: Send + Sync>(
    executor: &dyn Executor,
    tasks: usize,
    of: impl Fn(usize) -> R + Sync,
) -> Vec<R> {
    let results: Vec<OnceLock<R>> = (0..tasks).map(|_| OnceLock::new()).collect();
    executor.run(tasks, &|task| {
        if let Some(result) = results.get(task) {
            result.get_or_init(|| of(task));
        }
    });
    let done = results.into_iter().map(OnceLock::into_inner);
    done.map(|result| result.expect("an executor runs every task before it returns")).collect()
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// Tasks from the last to the first.
    pub(crate) struct Backwards;

    impl Executor for Backwards {
        fn run(&self, tasks: usize, task: &(dyn Fn(usize) + Sync)) {
            (0..tasks).rev().for_each(task);
        }
    }

    #[test]
    fn results_are_in_the_order_of_the_tasks() {
        let squares: Vec<usize> = (0..40).map(|x| x * x).collect();
        assert_eq!(map(&Serial, 40, |x| x * x), squares);
        assert_eq!(map(&Backwards, 40, |x| x * x), squares);
        assert!(map(&Serial, 0, |x| x).is_empty());
    }
}
