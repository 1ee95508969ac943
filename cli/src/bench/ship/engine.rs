//! Level `engine`: demotions of a database's collections, each by itself from as many threads as uploads are
//! wanted, or in packs on as many; with everything that makes a demotion durable.

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
    TierSettings,
    blocking::{Collection, Db},
    tiering::{BatchSettings, ObjectStore},
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
    let packs = BatchSettings { items_max: args.batch as u32, ..TierSettings::default().packs };
    let tiers = TierSettings { packs, moves_max: args.concurrency, ..TierSettings::default() };
    let db = open(dir.path(), store, &tiers)?;
    let collections = fill(&db, args, 0..args.collections)?;
    if args.flushed {
        db.flush()?;
    }
    let rss_before_bytes = machine::resident().map(|now| now.anonymous_bytes + now.mapped_bytes);
    let limit = Duration::from_secs(args.seconds);
    let (time, collections, failed) = match args.batch {
        0 | 1 => alone(&collections, args.concurrency, limit)?,
        batch => together(&db, &collections, batch * args.concurrency, limit)?,
    };
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

/// Each by itself, from so many threads: how long it took, how many were demoted, and how many could not
/// be.
fn alone(
    collections: &[Collection],
    threads: usize,
    limit: Duration,
) -> Result<(Duration, u64, u64)> {
    let next = AtomicUsize::new(0);
    let demoter = |()| Ok(demote(collections, &next, limit));
    let (time, ended) = in_parallel_timed("bench-demoter", threads, |_| (), demoter)?;
    let (demoted, failed) =
        ended.into_iter().fold((0, 0), |sum, ended| (sum.0 + ended.0, sum.1 + ended.1));
    Ok((time, demoted, failed))
}

/// By `Db::demote_many`, which makes packs: all at once, or as many as are under way at a time where that
/// could take longer than the time.
fn together(
    db: &Db,
    collections: &[Collection],
    under_way: usize,
    limit: Duration,
) -> Result<(Duration, u64, u64)> {
    let clock = SystemClock::new();
    let (mut demoted, mut failed) = (0, 0);
    // Some rounds for each thread: the end of a call waits for the slowest.
    for some in collections.chunks(under_way.saturating_mul(8).max(1)) {
        if clock.monotonic() >= limit {
            break;
        }
        for end in db.demote_many(some.iter().map(Collection::name))? {
            match end {
                Ok(_) => demoted += 1,
                Err(_) => failed += 1,
            }
        }
    }
    Ok((clock.monotonic(), demoted, failed))
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
