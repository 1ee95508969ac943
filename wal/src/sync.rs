//! The lock types of the hand-off modules, taken by alias so that a model checker can put its own
//! in their place and check the code that ships. Never used for anything but [`crate::ticket`],
//! [`crate::reply`] and the group-commit queue.

pub(crate) use parking_lot::{Condvar, Mutex};
pub(crate) use std::thread::{Thread, current as current_thread, park};
