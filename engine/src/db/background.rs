//! Background work: flush, compaction, hot copies and tiers, each on its own thread, and what timers
//! would do.
//!
//! A failed job is noted, shown by `stats`, and tried again at the next tick: never silent, never
//! fatal by itself. Driven inline (`Background::inline`) there are no threads: the work is done
//! on the caller's thread at the end of the call that made it due, so that a simulation replays.

use super::{DbCore, hot::make_one_hot};
use crate::{
    collection::CollectionCore,
    error::{Cause, Error, Result},
    maintenance::{compaction, flush},
};
use akidb_wal::Lsn;
use parking_lot::{Condvar, Mutex};
use std::{
    cmp::Reverse,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::JoinHandle,
    time::Duration,
};

/// How often timers are looked at.
const TICK: Duration = Duration::from_millis(100);
/// The longest pause after a failure. A flush does not wait for its end once there is space again.
const PAUSE_MAX: Duration = Duration::from_secs(3);

/// Each ring has every kind of work look at all collections. Of thousands that takes long, and their small memtables
/// ring often; so what is less urgent than a flush looks for one part of the time in so many.
const LOOK_SHARE: u32 = 10;

/// A full pool has at least one in so many of its bytes flushed.
const FREEZE_SHARE: u64 = 8;

/// A bell: rung when there may be work.
#[derive(Debug, Default)]
pub(crate) struct Bell {
    rings: Mutex<u64>,
    rung: Condvar,
    over: Mutex<bool>,
    ended: Condvar,
}

impl Bell {
    pub(crate) fn ring(&self) {
        *self.rings.lock() += 1;
        self.rung.notify_all();
    }

    /// Wakes those who rest, and lets nobody rest any more.
    fn end(&self) {
        *self.over.lock() = true;
        self.ended.notify_all();
    }

    /// Hears nothing for so long.
    fn rest(&self, time: Duration) {
        let mut over = self.over.lock();
        if !*over {
            self.ended.wait_for(&mut over, time);
        }
    }

    /// Waits for a ring after the `seen`-th, at most a tick. Returns the rings so far.
    fn wait(&self, seen: u64) -> u64 {
        let mut rings = self.rings.lock();
        if *rings == seen {
            self.rung.wait_for(&mut rings, TICK);
        }
        *rings
    }
}

/// The state of background work.
#[derive(Debug)]
pub(crate) struct Background {
    inline: bool,
    stopping: AtomicBool,
    bell: Arc<Bell>,
    threads: Mutex<Vec<JoinHandle<()>>>,
    flush_error: Mutex<Option<Error>>,
    flush_failures: AtomicU64,
    compaction_error: Mutex<Option<Error>>,
    hot_error: Mutex<Option<Error>>,
    cleanup_error: Mutex<Option<Error>>,
}

/// The kinds of background work.
#[derive(Clone, Copy, Debug)]
enum Job {
    Flush,
    Compaction,
    Hot,
    Tiers,
}

impl Background {
    pub(crate) fn new(inline: bool, bell: Arc<Bell>) -> Self {
        Self {
            inline,
            bell,
            stopping: AtomicBool::new(false),
            threads: Mutex::new(Vec::new()),
            flush_error: Mutex::new(None),
            flush_failures: AtomicU64::new(0),
            compaction_error: Mutex::new(None),
            hot_error: Mutex::new(None),
            cleanup_error: Mutex::new(None),
        }
    }

    pub(crate) fn is_inline(&self) -> bool {
        self.inline
    }

    /// Remembers a failure of cleaning up, for `stats`.
    pub(crate) fn note(&self, error: Error) {
        *self.cleanup_error.lock() = Some(error);
    }

    /// The last failure of a flush, until one succeeds or none is due.
    pub(crate) fn flush_error(&self) -> Option<Error> {
        self.flush_error.lock().clone()
    }

    /// The last failure of compaction, until one succeeds or none is due.
    pub(crate) fn compaction_error(&self) -> Option<Error> {
        self.compaction_error.lock().clone()
    }

    /// The last failure to make a segment hot, until one succeeds or none is due.
    pub(crate) fn hot_error(&self) -> Option<Error> {
        self.hot_error.lock().clone()
    }

    /// The last failure to remove files or objects that are no longer needed.
    pub(crate) fn cleanup_error(&self) -> Option<Error> {
        self.cleanup_error.lock().clone()
    }

    /// Lets a long job end early when the database closes.
    pub(crate) fn pause_point(&self) -> Result<()> {
        if self.stopping.load(Ordering::Acquire) { Err(Cause::Closed.into()) } else { Ok(()) }
    }

    /// Starts the threads. They hold the database weakly: dropping the last handle ends them.
    pub(crate) fn start(core: &Arc<DbCore>) -> Result<()> {
        if core.background.inline {
            return Ok(());
        }
        let jobs = [
            ("flush", Job::Flush),
            ("compact", Job::Compaction),
            ("hot", Job::Hot),
            ("tiers", Job::Tiers),
        ];
        for (name, job) in jobs {
            let (weak, bell) = (Arc::downgrade(core), core.background.bell.clone());
            let thread = akidb_vfs::thread::spawn(name, move || work(&weak, &bell, job))
                .map_err(Cause::Thread)?;
            core.background.threads.lock().push(thread);
        }
        Ok(())
    }

    /// Asks the threads to stop and waits for them.
    pub(crate) fn stop(&self) {
        self.stopping.store(true, Ordering::Release);
        self.bell.ring();
        self.bell.end();
        let threads = std::mem::take(&mut *self.threads.lock());
        for thread in threads {
            // The last handle may be dropped by a worker itself, which must not wait for itself.
            if thread.thread().id() != std::thread::current().id() && thread.join().is_err() {
                self.note(Error::bug("a background thread panicked"));
            }
        }
    }
}

fn work(core: &Weak<DbCore>, bell: &Bell, job: Job) {
    let mut seen = 0;
    let mut pause = TICK;
    let mut resume_at = Duration::ZERO;
    loop {
        seen = bell.wait(seen);
        let Some(core) = core.upgrade() else { return };
        if core.background.pause_point().is_err() {
            return;
        }
        let now = core.shared.clock.monotonic();
        if now < resume_at && !(matches!(job, Job::Flush) && core.full_no_more()) {
            continue;
        }
        let done = catch_unwind(AssertUnwindSafe(|| round(&core, job))).unwrap_or_else(|_| {
            // Half-done work may have left memory and manifest apart: no write may build on it.
            Err(core.shared.poison(Error::bug("a background job panicked")))
        });
        if done.is_ok() {
            pause = TICK;
        } else {
            // A full disk or a damaged file stays so for a while: a job that writes for seconds
            // before it fails must not run all the time.
            pause = (pause * 2).min(PAUSE_MAX);
            resume_at = now + pause;
        }
        let took = core.shared.clock.monotonic().saturating_sub(now);
        drop(core);
        if !matches!(job, Job::Flush) {
            bell.rest((took * (LOOK_SHARE - 1)).min(TICK));
        }
    }
}

/// Runs a job until nothing is due or it fails.
fn round(core: &DbCore, job: Job) -> Result<()> {
    let (run, error_slot): (fn(&DbCore) -> Result<bool>, _) = match job {
        Job::Flush => (flush_due, &core.background.flush_error),
        Job::Compaction => (compact_due, &core.background.compaction_error),
        Job::Hot => (make_one_hot, &core.background.hot_error),
        Job::Tiers => {
            // By its own times: what fails there is told there, and tried when it is due again.
            core.tiers_due();
            core.sweep();
            return Ok(());
        }
    };
    loop {
        let done = run(core);
        // What a merge read is free by now, but not before it ended: the next one, or the next WAL
        // file, may need the space.
        core.sweep();
        match done {
            Ok(more) => {
                *error_slot.lock() = None;
                if !more {
                    // A writer may have waited for a flush that gave back too little: it must
                    // freeze more, or nobody will.
                    core.shared.pool.wake();
                    return Ok(());
                }
            }
            Err(error) => {
                *error_slot.lock() = Some(error.clone());
                if matches!(job, Job::Flush) {
                    core.background.flush_failures.fetch_add(1, Ordering::Relaxed);
                }
                // Writers that wait for memory must learn that none will come for now.
                core.shared.pool.wake();
                return Err(error);
            }
        }
    }
}

/// Everything that is due, on this thread. For the inline drive.
pub(crate) fn run_due(core: &DbCore) {
    if core.shared.check_writable().is_err() {
        return;
    }
    core.commit.tick();
    // Failures are noted, as on the threads.
    drop(round(core, Job::Flush));
    drop(round(core, Job::Compaction));
    drop(round(core, Job::Hot));
    drop(round(core, Job::Tiers));
}

fn flush_due(core: &DbCore) -> Result<bool> {
    if core.shared.check_writable().is_err() {
        return Ok(false);
    }
    freeze_old(core);
    let mut failed = freeze_for_log(core).err();
    let mut flushed = 0;
    for collection in core.all_collections() {
        let frozen = !collection.state.read().parts.frozen().is_empty();
        if frozen && (!collection.is_being_demoted() || core.memory_or_log_is_short()) {
            match flush::flush_frozen(core, &collection) {
                Ok(count) => flushed += count,
                Err(error) => failed = failed.or(Some(error)),
            }
        }
    }
    if flushed > 0 {
        core.background.bell.ring();
    }
    // Reported after all were tried: one that always fails must not keep the others waiting.
    failed.map_or(Ok(flushed > 0), Err)
}

fn compact_due(core: &DbCore) -> Result<bool> {
    if !core.shared.settings.compaction_auto || core.shared.check_writable().is_err() {
        return Ok(false);
    }
    let (mut failed, mut compacted) = (None, false);
    for collection in core.all_collections() {
        match compaction::compact_due(core, &collection) {
            Ok(done) => compacted |= done,
            // As in `flush_due`: damage in one collection must not stop the others.
            Err(error) => failed = failed.or(Some(error)),
        }
    }
    failed.map_or(Ok(compacted), Err)
}

/// Freezes memtables that are old: a quiet collection must not keep the log for ever.
fn freeze_old(core: &DbCore) {
    let now = core.shared.clock.monotonic();
    let limit = Duration::from_millis(core.shared.settings.memtable_age_ms);
    for collection in core.all_collections() {
        let born = collection.state.read().parts.active().born();
        if born.is_some_and(|born| now.saturating_sub(born) >= limit) {
            collection.freeze();
        }
    }
}

/// When the log is over its limit, freezes the memtables that keep its oldest file.
fn freeze_for_log(core: &DbCore) -> Result<()> {
    let stats = core.commit.stats();
    if stats.bytes <= core.shared.settings.wal_bytes_max {
        return Ok(());
    }
    let mut files = core.commit.files();
    if files.len() == 1 {
        // Only completed files can go.
        core.commit.roll().wait()?;
        files = core.commit.files();
    }
    let oldest = files.first().map_or(Lsn::ZERO, |file| file.last_lsn);
    for collection in core.all_collections() {
        if collection.first_unflushed(&[]).is_some_and(|first| first <= oldest) {
            collection.freeze();
        }
    }
    Ok(())
}

impl DbCore {
    /// Whether a flush is needed also of what a demotion is about to take: a store may take as long as it
    /// likes, and writers must not wait for it.
    fn memory_or_log_is_short(&self) -> bool {
        let settings = &self.shared.settings;
        let quotas = std::iter::once(&settings.limits)
            .chain([&settings.namespace_default])
            .chain(settings.namespace_limits.values());
        !self.shared.pool.has_ample_room()
            || self.commit.stats().bytes > settings.wal_bytes_max
            || quotas.into_iter().any(|limits| limits.memory_bytes_max.is_some())
    }

    /// Waits until memory and disk have room for a write.
    pub(crate) async fn admit(&self, needs_space: bool) -> Result<()> {
        if needs_space {
            self.check_disk_reserve()?;
        }
        let overdraws = || !needs_space && self.deletes_may_overdraw();
        let failures = || self.background.flush_failures.load(Ordering::Relaxed);
        let failed_before = failures();
        while !self.shared.pool.has_room() {
            self.freeze_largest();
            // A failure is noted, and judged below.
            self.flush_soon();
            if !self.background.inline {
                let hopeless = || self.shared.check_writable().is_err() || self.disk_is_full();
                self.shared.pool.wait_for_change(hopeless).await;
            }
            self.shared.check_writable()?;
            if self.shared.pool.has_room() || overdraws() {
                return Ok(());
            }
            if let Some(error) = self.background.flush_error() {
                // Now that there is space, a failure counts if it began after this write came, so
                // the second one: a quota can fail them all, and no free space tells of it.
                if !self.full_no_more() || failures() - failed_before >= 2 {
                    return Err(error);
                }
            }
        }
        Ok(())
    }

    /// Has frozen memtables flushed: now where there are no threads, soon where there are.
    pub(crate) fn flush_soon(&self) {
        if self.background.inline {
            // Its failure is noted, as on the threads.
            drop(round(self, Job::Flush));
        } else {
            self.background.bell.ring();
        }
    }

    /// Freezes the largest memtables, so many that they make a part of the pool: where thousands are small, one at a
    /// time would have every write look at all of them.
    fn freeze_largest(&self) {
        let collections = self.all_collections();
        if collections.iter().any(|c| !c.state.read().parts.frozen().is_empty()) {
            return; // a flush is on its way already
        }
        let bytes = |c: &Arc<CollectionCore>| c.state.read().parts.active().bytes();
        let mut sized: Vec<_> = collections.iter().map(|c| (bytes(c), c)).collect();
        sized.sort_by_key(|(bytes, _)| Reverse(*bytes));
        let mut wanted = self.shared.pool.limit() / FREEZE_SHARE;
        for (bytes, largest) in sized.into_iter().take_while(|(bytes, _)| *bytes > 0) {
            largest.freeze();
            wanted = wanted.saturating_sub(bytes);
            if wanted == 0 {
                return;
            }
        }
    }
}
