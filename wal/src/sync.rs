//! The locks and threads of the hand-off modules, taken by alias so that a model checker can put
//! its own in their place and check the code that ships (`--cfg loom`, `scripts/loom.sh`). Used by
//! [`crate::ticket`], [`crate::reply`] and `group`, and by nothing else. `TryMutex` is a mutex of
//! which `try_lock` is used: here the same, but the checker has to be told.

#[cfg(not(loom))]
pub(crate) use {
    akidb_vfs::thread::spawn,
    parking_lot::{Condvar, Mutex, Mutex as TryMutex},
    std::thread::{JoinHandle, Thread, current as current_thread, park},
};

#[cfg(loom)]
mod model;
#[cfg(loom)]
pub(crate) use model::{Condvar, JoinHandle, Mutex, Thread, TryMutex, current_thread, park, spawn};
