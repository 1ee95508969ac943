//! Level `engine`: demotions of a database's collections, from as many threads as uploads are wanted,
//! with everything that makes a demotion durable.

use super::{
    super::start::in_parallel_timed,
    worker::{Done, fill, open},
};
use crate::{
    args::ShipWorkerArgs,
    error::{CliError, Result},
    machine,
};
use akidb::{
    blocking::Collection,
    tiering::ObjectStore,
    vfs::{Clock, SystemClock},
};
use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

/// Demotes until all are demoted or the time is over.
pub(super) fn ship(args: &ShipWorkerArgs, store: Arc<dyn ObjectStore>) -> Result<Done> {
    let dir = tempfile::Builder::new().prefix("ship-").tempdir_in(&args.dir);
    let dir = dir.map_err(CliError::TempDir)?;
    let db = open(dir.path(), store)?;
    let collections = fill(&db, args, 0..args.collections)?;
    if args.flushed {
        db.flush()?;
    }
    let rss_before_bytes = machine::resident().map(|now| now.anonymous_bytes + now.mapped_bytes);
    let next = AtomicUsize::new(0);
    let (time, ended) = in_parallel_timed(
        "bench-demoter",
        args.concurrency,
        |_| (),
        |()| Ok(demote(&collections, &next, Duration::from_secs(args.seconds))),
    )?;
    let (collections, failed) =
        ended.into_iter().fold((0, 0), |sum, ended| (sum.0 + ended.0, sum.1 + ended.1));
    let stats = db.stats();
    let cold: Vec<_> = stats.collections.iter().flat_map(|one| &one.cold).collect();
    if cold.len() as u64 != collections {
        let detail = format!("{collections} were demoted, {} are cold", cold.len());
        return Err(CliError::Check { detail });
    }
    let bytes = cold.iter().map(|object| object.bytes).sum();
    db.close()?;
    Ok(Done { collections, failed, elapsed_s: time.as_secs_f64(), bytes, rss_before_bytes })
}

/// One thread: how many were demoted, and how many could not be.
fn demote(collections: &[Collection], next: &AtomicUsize, time: Duration) -> (u64, u64) {
    let clock = SystemClock::new();
    let (mut demoted, mut failed) = (0, 0);
    while clock.monotonic() < time
        && let Some(collection) = collections.get(next.fetch_add(1, Relaxed))
    {
        match collection.demote() {
            Ok(_) => demoted += 1,
            Err(_) => failed += 1,
        }
    }
    (demoted, failed)
}
