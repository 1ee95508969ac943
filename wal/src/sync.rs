//! The locks and threads of the hand-off modules, taken by alias so that a model checker can put
//! its own in their place and check the code that ships (`--cfg loom`, `scripts/loom.sh`). Used by
//! [`crate::ticket`], [`crate::reply`] and `group`, and by nothing else.

#[cfg(not(loom))]
pub(crate) use {
    akidb_vfs::thread::spawn,
    parking_lot::{Condvar, Mutex},
    std::thread::{JoinHandle, Thread, current as current_thread, park},
};

#[cfg(loom)]
mod model;
#[cfg(loom)]
pub(crate) use model::{Condvar, JoinHandle, Mutex, Thread, current_thread, park, spawn};
