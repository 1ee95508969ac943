//! A start line for threads: each gets ready in its own time, and all set off together. Starting
//! 256 threads and making their rows takes longer than some of what is measured.

use crate::error::{CliError, Result};
use akidb::vfs::{Clock, SystemClock, thread::spawn_scoped};
use parking_lot::{Condvar, Mutex};
use std::{io, panic::resume_unwind, sync::mpsc, thread, time::Duration};

/// Runs `prepare(0)` to `prepare(threads - 1)` on threads of their own, then, at the same time,
/// `work` on what they made. Returns the time from the start to the end of the last, and what
/// `work` returned, by thread.
pub(super) fn in_parallel_timed<P, T: Send>(
    name: &str,
    threads: usize,
    prepare: impl Fn(usize) -> P + Sync,
    work: impl Fn(P) -> Result<T> + Sync,
) -> Result<(Duration, Vec<T>)> {
    let (line, clock) = (&Line::default(), &SystemClock::new());
    let (prepare, work) = (&prepare, &work);
    let (sender, ready) = mpsc::channel();
    thread::scope(|scope| {
        let run = |n| {
            let ready = sender.clone();
            spawn_scoped(scope, name, move || {
                let prepared = prepare(n);
                // The receiver lives until every sender is gone.
                let _ = ready.send(());
                drop(ready);
                line.wait().then(|| work(prepared).map(|done| (clock.monotonic(), done)))
            })
        };
        let started: io::Result<Vec<_>> = (0..threads).map(run).collect();
        drop(sender);
        // Ends when every thread has said that it is ready, or died of a panic.
        let all_ready = ready.iter().count() == threads;
        let start = clock.monotonic();
        line.open(all_ready);
        let (mut end, mut results) = (start, Vec::with_capacity(threads));
        for thread in started.map_err(CliError::Thread)? {
            let result = thread.join().unwrap_or_else(|panic| resume_unwind(panic));
            // None came from those who were not let go because another one died.
            if let Some((ended, done)) = result.transpose()? {
                end = end.max(ended);
                results.push(done);
            }
        }
        Ok((end.saturating_sub(start), results))
    })
}

/// Where threads wait for the start; false if there will be none.
#[derive(Debug, Default)]
struct Line {
    go: Mutex<Option<bool>>,
    opened: Condvar,
}

impl Line {
    fn open(&self, go: bool) {
        *self.go.lock() = Some(go);
        self.opened.notify_all();
    }

    fn wait(&self) -> bool {
        let mut go = self.go.lock();
        loop {
            if let Some(go) = *go {
                return go;
            }
            self.opened.wait(&mut go);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};

    #[test]
    fn nobody_sets_off_before_all_are_ready() {
        let ready = AtomicUsize::new(0);
        let prepare = |n| (ready.fetch_add(1, Ordering::SeqCst), n).1;
        let work = |n| Ok((n, ready.load(Ordering::SeqCst)));
        let (_, seen) = in_parallel_timed("test", 5, prepare, work).unwrap();
        assert_eq!(seen, (0..5).map(|n| (n, 5)).collect::<Vec<_>>());
    }

    #[test]
    #[should_panic(expected = "not ready")]
    fn a_panic_before_the_start_keeps_nobody_waiting() {
        let prepare = |n| assert!(n != 1, "not ready");
        drop(in_parallel_timed("test", 3, prepare, Ok));
    }
}
