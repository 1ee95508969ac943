//! The one place that starts threads: named, so that a profile and a panic message say whose
//! work it was, and joined by whoever holds the handle.

use std::{
    io,
    thread::{JoinHandle, Scope, ScopedJoinHandle},
};

/// Starts a thread called `akidb-{name}`.
///
/// # Errors
/// The system's error when it gives no thread.
#[expect(clippy::disallowed_methods, reason = "this is the module that wraps thread spawns")]
pub fn spawn<F>(name: &str, work: F) -> io::Result<JoinHandle<()>>
where
    F: FnOnce() + Send + 'static,
{
    std::thread::Builder::new().name(format!("akidb-{name}")).spawn(work)
}

/// Starts a thread called `akidb-{name}` that may borrow what outlives `scope`.
///
/// # Errors
/// The system's error when it gives no thread.
#[expect(clippy::disallowed_methods, reason = "this is the module that wraps thread spawns")]
pub fn spawn_scoped<'scope, T, F>(
    scope: &'scope Scope<'scope, '_>,
    name: &str,
    work: F,
) -> io::Result<ScopedJoinHandle<'scope, T>>
where
    T: Send + 'scope,
    F: FnOnce() -> T + Send + 'scope,
{
    std::thread::Builder::new().name(format!("akidb-{name}")).spawn_scoped(scope, work)
}
