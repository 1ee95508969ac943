//! The model checker's locks and threads in the shape of those that ship. Compiled with
//! `--cfg loom` only, hence never into a binary.
//!
//! A wait with a timeout never times out here: what is only rescued by a timer counts as a lost
//! wake-up.

pub(crate) use loom::thread::{JoinHandle, Thread, current as current_thread, park};

use loom::sync::{
    self,
    atomic::{AtomicBool, Ordering::SeqCst},
};
use std::{
    io,
    ops::{Deref, DerefMut},
    time::Duration,
};

/// Room for the log's thread, which opens files and lays out groups.
const STACK_BYTES: usize = 256 << 10;

pub(crate) fn spawn<F>(name: &str, work: F) -> io::Result<JoinHandle<()>>
where
    F: FnOnce() + Send + 'static,
{
    loom::thread::Builder::new().name(name.to_owned()).stack_size(STACK_BYTES).spawn(work)
}

#[derive(Debug, Default)]
pub(crate) struct Mutex<T>(sync::Mutex<T>);

/// Empty only while a condition is waited for.
pub(crate) struct MutexGuard<'a, T>(Option<sync::MutexGuard<'a, T>>);

impl<T> Mutex<T> {
    pub(crate) fn new(value: T) -> Self {
        Self(sync::Mutex::new(value))
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, T> {
        MutexGuard(Some(self.0.lock().expect("the checker's locks do not poison")))
    }
}

impl<T> Deref for MutexGuard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        self.0.as_ref().expect("held outside of a wait")
    }
}

impl<T> DerefMut for MutexGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        self.0.as_mut().expect("held outside of a wait")
    }
}

/// The checker takes no notice of when a lock is let go, because who waits for it comes later
/// anyway. Who only tries sees the difference: `held` shows it to the checker.
#[derive(Debug)]
pub(crate) struct TryMutex<T> {
    held: AtomicBool,
    lock: Mutex<T>,
}

pub(crate) struct TryMutexGuard<'a, T> {
    held: &'a AtomicBool,
    guard: MutexGuard<'a, T>,
}

impl<T> TryMutex<T> {
    pub(crate) fn new(value: T) -> Self {
        Self { held: AtomicBool::new(false), lock: Mutex::new(value) }
    }

    pub(crate) fn lock(&self) -> TryMutexGuard<'_, T> {
        self.hold(self.lock.lock())
    }

    pub(crate) fn try_lock(&self) -> Option<TryMutexGuard<'_, T>> {
        if self.held.load(SeqCst) {
            return None;
        }
        Some(self.hold(MutexGuard(Some(self.lock.0.try_lock().ok()?))))
    }

    fn hold<'a>(&'a self, guard: MutexGuard<'a, T>) -> TryMutexGuard<'a, T> {
        self.held.store(true, SeqCst);
        TryMutexGuard { held: &self.held, guard }
    }
}

impl<T> Drop for TryMutexGuard<'_, T> {
    fn drop(&mut self) {
        self.held.store(false, SeqCst);
    }
}

impl<T> Deref for TryMutexGuard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.guard
    }
}

impl<T> DerefMut for TryMutexGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.guard
    }
}

#[derive(Debug)]
pub(crate) struct Condvar(sync::Condvar);

/// What [`Condvar::wait_for`] returns.
pub(crate) struct Waited;

impl Waited {
    pub(crate) fn timed_out(&self) -> bool {
        false
    }
}

impl Condvar {
    pub(crate) fn new() -> Self {
        Self(sync::Condvar::new())
    }

    pub(crate) fn wait<T>(&self, guard: &mut MutexGuard<'_, T>) {
        let held = guard.0.take().expect("held outside of a wait");
        guard.0 = Some(self.0.wait(held).expect("the checker's locks do not poison"));
    }

    pub(crate) fn wait_for<T>(&self, guard: &mut MutexGuard<'_, T>, _: Duration) -> Waited {
        self.wait(guard);
        Waited
    }

    pub(crate) fn notify_one(&self) {
        self.0.notify_one();
    }

    pub(crate) fn notify_all(&self) {
        self.0.notify_all();
    }
}
