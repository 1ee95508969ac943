//! Carrying synchronous work off the async caller's thread, on any executor: reads go to the
//! search pool, long jobs (open, flush, compaction, moves) to a thread of their own, so that a
//! search never waits behind a compaction.

use super::owner::Owner;
use crate::{
    db::DbCore,
    error::{Cause, Error, Result},
};
use std::sync::Arc;
use tokio::sync::oneshot;

/// Runs `work` on a fresh thread.
pub(super) async fn on_thread<T: Send + 'static>(
    name: &str,
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    let (reply, result) = oneshot::channel();
    akidb_vfs::thread::spawn(name, move || drop(reply.send(work()))).map_err(Cause::Thread)?;
    result.await.unwrap_or_else(|_| Err(Error::bug("a job panicked")))
}

/// Runs a read on the search pool.
pub(super) async fn on_pool<T: Send + 'static>(
    core: &Arc<Owner>,
    work: impl FnOnce(&DbCore) -> Result<T> + Send + 'static,
) -> Result<T> {
    if core.background.is_inline() {
        return work(core);
    }
    let (reply, result) = oneshot::channel();
    let shared = core.clone();
    core.searchers.pool()?.spawn(move || {
        let result = work(&shared);
        // Before the answer: a caller who drops its handle then is the last to hold one.
        drop(shared);
        drop(reply.send(result));
    });
    result.await.unwrap_or_else(|_| Err(Error::bug("a search panicked")))
}

/// Runs a long job on a thread of its own.
pub(super) async fn job<T: Send + 'static>(
    core: &Arc<Owner>,
    name: &str,
    work: impl FnOnce(&DbCore) -> Result<T> + Send + 'static,
) -> Result<T> {
    if core.background.is_inline() {
        return work(core);
    }
    let core = core.clone();
    let work = move || {
        let result = work(&core);
        drop(core); // before the answer, as above
        result
    };
    on_thread(name, work).await
}
