//! Work in two stages: things are put together side by side and used up one after the other, in their
//! order, both at once as far as there are threads.
//!
//! Owns the hand-over and nothing else. Threads stay for all of the work: started anew for each piece,
//! they would be waited for on a busy machine. Called by `rows`.
//!
//! # Invariants
//! - Things are used in the order of their parts, whichever thread made them, one at a time.
//! - No more than `ahead` things exist at once; their memory is used again.
//! - One thread alone gets to the end: it waits for nothing that only another could do.
//! - A failure, or a panic, of any thread ends the others.

use crate::error::{Error, Result};
use akidb_index::Executor;
use parking_lot::{Condvar, Mutex, MutexGuard};
use std::{collections::BTreeMap, thread};

/// What can be done beside the two stages, and is done before the end.
pub(super) type Errand = Box<dyn FnOnce() -> Result<()> + Send>;

/// The two stages.
pub(super) struct Stages<Make, Use> {
    /// Puts a thing together, in memory of an earlier one.
    pub(super) make: Make,
    /// Uses it up; may name an errand.
    pub(super) used: Use,
}

struct State<Parts, T> {
    parts: Parts,
    /// Parts that were given out, and things that were used.
    given: usize,
    used: usize,
    using: bool,
    made: BTreeMap<usize, T>,
    spare: Vec<T>,
    errands: Vec<Errand>,
    /// No part is left.
    dry: bool,
    failed: Option<Error>,
}

enum Step<P, T> {
    Make(usize, P, T),
    Use(T),
    Run(Errand),
    End,
}

/// Runs both stages over all parts, with at most `ahead` things at once, on `width` threads.
pub(super) fn run<P: Send, T: Default + Send>(
    executor: &dyn Executor,
    width: usize,
    ahead: usize,
    parts: impl Iterator<Item = P> + Send,
    stages: Stages<
        impl Fn(P, &mut T) -> Result<()> + Sync,
        impl FnMut(&T) -> Result<Option<Errand>> + Send,
    >,
) -> Result<()> {
    let (made, spare, errands) = (BTreeMap::new(), Vec::new(), Vec::new());
    let (given, used, using, dry, failed) = (0, 0, false, false, None);
    let state = State { parts, given, used, using, made, spare, errands, dry, failed };
    let (state, changed) = (Mutex::new(state), Condvar::new());
    let Stages { make, used } = stages;
    let used = Mutex::new(used);
    executor.run(width.max(1), &|_| {
        // Whoever waits for what a thread that is gone was making would wait for ever.
        let _watch = OnPanic(|| {
            state.lock().failed.get_or_insert(Error::bug("a thread of a flush or merge panicked"));
            changed.notify_all();
        });
        loop {
            let step = next_step(&mut state.lock(), &changed, ahead);
            let done = match step {
                Step::End => return,
                Step::Run(errand) => errand(),
                Step::Make(number, part, mut thing) => {
                    make(part, &mut thing).map(|()| drop(state.lock().made.insert(number, thing)))
                }
                Step::Use(thing) => (*used.lock())(&thing).map(|errand| {
                    let mut state = state.lock();
                    state.errands.extend(errand);
                    state.spare.push(thing);
                    (state.used, state.using) = (state.used + 1, false);
                }),
            };
            if let Err(error) = done {
                state.lock().failed.get_or_insert(error);
            }
            changed.notify_all();
        }
    });
    state.into_inner().failed.map_or(Ok(()), Err)
}

/// What to do next: what keeps others from going on comes first.
fn next_step<P, T: Default>(
    state: &mut MutexGuard<'_, State<impl Iterator<Item = P>, T>>,
    changed: &Condvar,
    ahead: usize,
) -> Step<P, T> {
    loop {
        if state.failed.is_some() {
            return Step::End;
        }
        let next = state.used;
        if !state.using
            && let Some(thing) = state.made.remove(&next)
        {
            state.using = true;
            return Step::Use(thing);
        }
        if let Some(errand) = state.errands.pop() {
            return Step::Run(errand);
        }
        if !state.dry && state.given - state.used < ahead.max(1) {
            if let Some(part) = state.parts.next() {
                state.given += 1;
                let thing = state.spare.pop().unwrap_or_default();
                return Step::Make(state.given - 1, part, thing);
            }
            state.dry = true;
        }
        if state.dry && state.used == state.given {
            return Step::End;
        }
        changed.wait(state);
    }
}

/// Calls its function when it is dropped because of a panic.
struct OnPanic<F: Fn()>(F);

impl<F: Fn()> Drop for OnPanic<F> {
    fn drop(&mut self) {
        if thread::panicking() {
            (self.0)();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{super::Threads, *};
    use std::{
        panic::{AssertUnwindSafe, catch_unwind},
        sync::atomic::{AtomicUsize, Ordering::Relaxed},
    };

    /// Squares of numbers, made side by side; `stop` fails or panics at some of them.
    fn squares(
        width: usize,
        ahead: usize,
        count: u64,
        stop: fn(u64) -> Result<()>,
    ) -> Result<Vec<u64>> {
        let (alive, mut found) = (AtomicUsize::new(0), Vec::new());
        let errands = std::sync::Arc::new(AtomicUsize::new(0));
        let make = |n: u64, thing: &mut Vec<u64>| {
            assert!(alive.fetch_add(1, Relaxed) < ahead, "no more than {ahead} at once");
            thing.clear();
            thing.push(n * n);
            stop(n)
        };
        let used = |thing: &Vec<u64>| {
            found.extend_from_slice(thing);
            alive.fetch_sub(1, Relaxed);
            let errands = errands.clone();
            let errand: Errand = Box::new(move || {
                errands.fetch_add(1, Relaxed);
                Ok(())
            });
            Ok(Some(errand))
        };
        run(&Threads(width), width, ahead, 0..count, Stages { make, used })?;
        assert_eq!(errands.load(Relaxed), found.len(), "every errand is done");
        Ok(found)
    }

    #[test]
    fn things_are_used_in_their_order_whatever_the_width() {
        for width in [1, 2, 5] {
            for ahead in [1, 2, 9] {
                for count in [0, 1, 2, 100] {
                    let found = squares(width, ahead, count, |_| Ok(())).unwrap();
                    assert_eq!(found, (0..count).map(|n| n * n).collect::<Vec<_>>());
                }
            }
        }
    }

    #[test]
    fn a_failure_or_a_panic_ends_all_threads() {
        for width in [1, 2, 5] {
            let failed = squares(width, 3, 100, |n| match n {
                40 => Err(Error::bug("forty")),
                _ => Ok(()),
            });
            assert!(failed.unwrap_err().to_string().contains("forty"));
            let panicked = catch_unwind(AssertUnwindSafe(|| {
                squares(width, 3, 100, |n| {
                    assert!(n < 40, "forty");
                    Ok(())
                })
            }));
            assert!(panicked.is_err(), "the panic is the caller's");
        }
    }
}
