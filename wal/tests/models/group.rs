//! Group commit over a real log on the simulated disk. What an acknowledgement is worth is asked
//! of the disk: a copy of it loses power at that moment, and the batch must be on it.

use crate::{more_threads, spawn, two_threads};
use akidb_vfs::{
    FsOp, SystemRandom,
    sim::{CrashPolicy, Fault, FaultKind, SimClock, SimFs},
};
use akidb_wal::{
    Commit, Drive, Durability, Env, GroupCommit, GroupOptions, Log, LogOptions, Lsn, Promise, Sink,
    Staged, Ticket, WalError, ticket,
};
use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::SeqCst},
    },
};

const DIR: &str = "/wal";
const OPTIONS: LogOptions = LogOptions {
    file_bytes: 1024,
    frame_bytes_max: 4096,
    must_exist: false,
    begins_after: Lsn::ZERO,
    zero_ahead_bytes: 0,
};

/// Answers with the LSN.
#[derive(Default)]
struct Acks(Vec<(Lsn, Promise<Lsn>)>);

impl Sink for Acks {
    type Request = Promise<Lsn>;

    fn stage(&mut self, lsn: Lsn, promise: Promise<Lsn>) -> Staged {
        self.0.push((lsn, promise));
        Staged::Write { payload: b"a batch".to_vec(), durability: Durability::Sync }
    }

    fn committed(&mut self, _: &Commit) {
        self.0.drain(..).for_each(|(lsn, promise)| promise.answer(Ok(lsn)));
    }

    fn failed(&mut self, error: &Arc<WalError>) {
        self.0.drain(..).for_each(|(_, promise)| promise.answer(Err(Arc::clone(error))));
    }

    fn rejected(&mut self, promise: Promise<Lsn>, error: &Arc<WalError>) {
        promise.answer(Err(Arc::clone(error)));
    }
}

/// A disk and the log on it.
#[derive(Clone)]
struct Logged {
    sim: SimFs,
    group: GroupCommit<Acks>,
}

impl Logged {
    fn start(drive: Drive) -> Self {
        let sim = SimFs::new(1);
        let env = Env::new(Arc::new(sim.process()), Arc::new(SystemRandom::from_seed(1)));
        let dir = Path::new(DIR);
        let (log, _) = Log::open(&env, dir, OPTIONS, Lsn::ZERO, &mut |_, _| Ok(())).unwrap();
        let clock = Arc::new(SimClock::new());
        let options = GroupOptions::default();
        let group = GroupCommit::start(log, Acks::default(), options, clock, drive).unwrap();
        Self { sim, group }
    }

    fn submit(&self) -> Ticket<Lsn> {
        let (promise, ticket) = ticket();
        self.group.submit(promise);
        ticket
    }

    /// Writes; if that is acknowledged, it survives the loss of power from now on.
    fn write(&self) -> Result<Lsn, Arc<WalError>> {
        let answer = self.submit().wait();
        if let Ok(lsn) = answer {
            assert_survives(&self.sim, lsn);
        }
        answer
    }
}

fn assert_survives(sim: &SimFs, lsn: Lsn) {
    assert!(survivors(sim, Lsn::ZERO).contains(&lsn), "{lsn:?} was acknowledged and is lost");
}

/// The batches on the disk after a loss of power, of a log that is needed after `flushed` only.
fn survivors(sim: &SimFs, flushed: Lsn) -> Vec<Lsn> {
    let disk = sim.fork(0);
    disk.crash(CrashPolicy::DropAll);
    let mut found = Vec::new();
    let replayed = Log::verify(&disk, Path::new(DIR), OPTIONS, flushed, &mut |lsn, _| {
        found.push(lsn);
        Ok(())
    });
    replayed.unwrap();
    found
}

#[test]
fn an_acknowledgement_comes_and_comes_after_the_sync() {
    two_threads(|| {
        let logged = Logged::start(Drive::Thread);
        assert_eq!(logged.write().unwrap(), Lsn::new(1));
    });
}

#[test]
fn two_callers_are_both_acknowledged_after_their_sync() {
    more_threads(|| {
        let logged = Logged::start(Drive::Thread);
        let other = logged.clone();
        let caller = spawn(move || assert!(other.write().is_ok()));
        logged.write().unwrap();
        caller.join().unwrap();
    });
}

/// Without a thread the callers do the work; who finds another at it leaves the message there.
#[test]
fn callers_that_do_the_work_leave_nothing_behind() {
    two_threads(|| {
        let logged = Logged::start(Drive::Inline);
        let other = logged.clone();
        let caller = spawn(move || assert!(other.write().is_ok()));
        logged.write().unwrap();
        caller.join().unwrap();
    });
}

/// The first sync fails. Whoever was acknowledged is safe, and from the first refusal on there is
/// no acknowledgement any more.
#[test]
fn after_a_failed_sync_no_appender_is_acknowledged() {
    fn appender(logged: &Logged) {
        if logged.write().is_err() {
            assert!(logged.group.stats().poisoned, "who was refused sees why");
            assert!(matches!(*logged.write().unwrap_err(), WalError::Poisoned(_)));
        }
    }
    more_threads(|| {
        let logged = Logged::start(Drive::Thread);
        logged.sim.inject(Fault::new(FaultKind::SyncFailsCacheKept).on(FsOp::SyncData));
        let other = logged.clone();
        let caller = spawn(move || appender(&other));
        appender(&logged);
        caller.join().unwrap();
    });
}

/// One thread flushes: what it wrote it needs no longer, completes the file and lets go of it.
/// What another writes meanwhile stays, wherever it came to lie.
#[test]
fn giving_up_the_log_of_a_flush_keeps_what_others_write() {
    more_threads(|| {
        let logged = Logged::start(Drive::Thread);
        let writer = logged.clone();
        let written = Arc::new(AtomicU64::new(0));
        let seen = Arc::clone(&written);
        let caller = spawn(move || {
            let lsn = writer.submit().wait().unwrap();
            seen.store(lsn.get(), SeqCst);
        });
        let flushed = logged.submit().wait().unwrap();
        // Not waited for: the log's thread takes them in order.
        drop(logged.group.roll());
        logged.group.remove_upto(flushed).wait().unwrap();
        caller.join().unwrap();
        let other = Lsn::new(written.load(SeqCst));
        let found = survivors(&logged.sim, flushed);
        assert!(other < flushed || found.contains(&other), "{other:?} went with {flushed:?}");
    });
}

/// A close at any moment of a write: the write is acknowledged and safe, or refused.
#[test]
fn a_close_leaves_no_write_without_an_answer() {
    more_threads(|| {
        let logged = Logged::start(Drive::Thread);
        let other = logged.clone();
        let caller = spawn(move || match other.write() {
            Ok(_) => {}
            Err(error) => assert!(matches!(*error, WalError::Closed)),
        });
        logged.group.close().unwrap();
        caller.join().unwrap();
        let late = logged.write();
        assert!(matches!(*late.unwrap_err(), WalError::Closed));
    });
}

#[test]
fn two_closers_both_return_after_the_end() {
    more_threads(|| {
        let logged = Logged::start(Drive::Thread);
        let ticket = logged.submit();
        let other = logged.clone();
        let closer = spawn(move || {
            other.group.close().unwrap();
            assert_survives(&other.sim, Lsn::new(1));
        });
        logged.group.close().unwrap();
        // Whoever returns from a close finds the work done, the second closer too.
        assert_survives(&logged.sim, Lsn::new(1));
        assert_eq!(ticket.wait().unwrap(), Lsn::new(1));
        closer.join().unwrap();
    });
}

/// The last handle goes: what was queued is written before the thread ends.
#[test]
fn dropping_the_last_handle_finishes_what_is_queued() {
    two_threads(|| {
        let Logged { sim, group } = Logged::start(Drive::Thread);
        let (promise, ticket) = ticket();
        group.submit(promise);
        drop(group);
        assert_survives(&sim, ticket.wait().unwrap());
    });
}
