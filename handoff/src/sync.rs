//! The locks, conditions, counts and atomics of this crate, by alias, so that a model checker can
//! put its own in their place.

#[cfg(not(loom))]
pub(crate) use {
    parking_lot::{Condvar, Mutex, MutexGuard},
    std::sync::{Arc, atomic::AtomicU64},
};

#[cfg(loom)]
pub(crate) use {
    loom::sync::{Arc, Condvar, MutexGuard, atomic::AtomicU64},
    model::Mutex,
};

/// Lets the lock go until the condition is notified.
#[cfg(not(loom))]
pub(crate) fn wait<'a, T>(condition: &Condvar, mut guard: MutexGuard<'a, T>) -> MutexGuard<'a, T> {
    condition.wait(&mut guard);
    guard
}

/// Lets the lock go until the condition is notified.
#[cfg(loom)]
pub(crate) fn wait<'a, T>(condition: &Condvar, guard: MutexGuard<'a, T>) -> MutexGuard<'a, T> {
    condition.wait(guard).expect("the checker's locks do not poison")
}

#[cfg(loom)]
mod model {
    //! The checker's lock in the shape of the one that ships.

    #[derive(Debug)]
    pub(crate) struct Mutex<T>(loom::sync::Mutex<T>);

    impl<T> Mutex<T> {
        pub(crate) fn new(value: T) -> Self {
            Self(loom::sync::Mutex::new(value))
        }

        pub(crate) fn lock(&self) -> loom::sync::MutexGuard<'_, T> {
            self.0.lock().expect("the checker's locks do not poison")
        }
    }
}
