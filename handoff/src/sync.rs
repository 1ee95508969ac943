//! The locks, counts and atomics of this crate, by alias, so that a model checker can put its own
//! in their place.

#[cfg(not(loom))]
pub(crate) use {
    parking_lot::Mutex,
    std::sync::{Arc, atomic::AtomicU64},
};

#[cfg(loom)]
pub(crate) use {
    loom::sync::{Arc, atomic::AtomicU64},
    model::Mutex,
};

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
