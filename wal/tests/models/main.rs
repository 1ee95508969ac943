//! Models of the hand-offs between threads, for the model checker loom: it plays each in every
//! order that its threads can take, on the code that ships (its locks and threads are aliases).
//! Empty without `--cfg loom`; `scripts/loom.sh` runs them, and `docs/testing.md` says what each
//! holds and how it was shown to fail.

#![cfg(loom)]
#![expect(clippy::unwrap_used, reason = "the helpers of a test fail it by panicking")]
#![expect(clippy::print_stdout, reason = "how many orders there were is worth knowing")]

mod group;
mod reply;
mod ticket;

use loom::thread::JoinHandle;
use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering::Relaxed},
};

/// Plays a model of two threads in every order.
fn two_threads(model: impl Fn() + Send + Sync + 'static) {
    check(None, model);
}

/// Plays a model of three or more threads in every order that takes the processor from a running
/// thread at most three times.
fn more_threads(model: impl Fn() + Send + Sync + 'static) {
    check(Some(3), model);
}

/// `LOOM_MAX_PREEMPTIONS` makes the run shorter, never longer.
fn check(bound: Option<usize>, model: impl Fn() + Send + Sync + 'static) {
    let mut builder = loom::model::Builder::new();
    let asked = builder.preemption_bound;
    builder.preemption_bound = [bound, asked].into_iter().flatten().min();
    builder.max_branches = 100_000;
    // The checker does not see this count, nor is it part of the model.
    let orders = Arc::new(AtomicU64::new(0));
    let counted = Arc::clone(&orders);
    builder.check(move || {
        counted.fetch_add(1, Relaxed);
        model();
    });
    println!("{} orders", orders.load(Relaxed));
}

fn spawn(work: impl FnOnce() + Send + 'static) -> JoinHandle<()> {
    loom::thread::Builder::new().stack_size(256 << 10).spawn(work).unwrap()
}

/// Waits for a future as an executor would: polls, and sleeps until its waker is called.
fn block_on<F: Future>(future: F) -> F::Output {
    struct Unpark(loom::thread::Thread);
    impl std::task::Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = Arc::new(Unpark(loom::thread::current())).into();
    let mut context = std::task::Context::from_waker(&waker);
    let mut future = std::pin::pin!(future);
    loop {
        if let std::task::Poll::Ready(output) = future.as_mut().poll(&mut context) {
            return output;
        }
        loom::thread::park();
    }
}
