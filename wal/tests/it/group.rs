//! Group commit: one thread, many callers, acknowledgements that keep their promise.

use crate::model::{open_after, verify};
use akidb_vfs::{
    Clock, FsOp, SystemClock,
    sim::{CrashPolicy, Fault, FaultKind, SimClock, SimFs},
};
use akidb_wal::{
    Commit, Drive, Durability, GroupCommit, GroupOptions, Log, LogOptions, Lsn, Promise, Sink,
    Staged, Ticket, WalError, ticket,
};
use std::{sync::Arc, time::Duration};

const OPTIONS: LogOptions = LogOptions {
    file_bytes: 64 << 10,
    frame_bytes_max: 4096,
    zero_ahead_bytes: 64 << 10,
    must_exist: false,
    begins_after: Lsn::ZERO,
};

const SECOND: Duration = Duration::from_secs(1);

/// What a caller asks of the test's sink.
struct Request {
    payload: Vec<u8>,
    durability: Durability,
    answer: Promise<Lsn>,
}

/// Acknowledges with the LSN. At every synced group it loses power on a copy of the disk and looks
/// whether the group is there: an acknowledgement that precedes the sync fails the test.
struct Acks {
    sim: SimFs,
    staged: Vec<(Lsn, Durability, Promise<Lsn>)>,
    last: Lsn,
}

impl Acks {
    fn new(sim: &SimFs) -> Self {
        Self { sim: sim.clone(), staged: Vec::new(), last: Lsn::ZERO }
    }
}

impl Sink for Acks {
    type Request = Request;

    fn stage(&mut self, lsn: Lsn, request: Request) -> Staged {
        assert!(request.payload != b"panic", "the sink broke");
        if request.payload == b"answer" {
            request.answer.answer(Ok(Lsn::ZERO));
            return Staged::Answered;
        }
        self.staged.push((lsn, request.durability, request.answer));
        Staged::Write { payload: request.payload, durability: request.durability }
    }

    fn committed(&mut self, commit: &Commit) {
        assert_eq!(commit.first, self.last.next(), "groups come in order");
        assert_eq!(self.staged.first().unwrap().0, commit.first);
        assert_eq!(self.staged.last().unwrap().0, commit.last);
        let wants_sync = self.staged.iter().any(|(_, d, _)| *d == Durability::Sync);
        assert!(commit.synced || !wants_sync);
        if commit.synced {
            assert!(commit.durable_upto >= commit.last);
            let disk = self.sim.fork(0);
            disk.crash(CrashPolicy::DropAll);
            assert!(verify(&disk, Lsn::ZERO).unwrap().0.last_lsn >= commit.last);
        }
        self.last = commit.last;
        self.staged.drain(..).for_each(|(lsn, _, answer)| answer.answer(Ok(lsn)));
    }

    fn failed(&mut self, error: &Arc<WalError>) {
        self.staged.drain(..).for_each(|(_, _, answer)| answer.answer(Err(Arc::clone(error))));
    }

    fn rejected(&mut self, request: Request, error: &Arc<WalError>) {
        request.answer.answer(Err(Arc::clone(error)));
    }
}

fn open(sim: &SimFs) -> Log {
    open_after(sim, OPTIONS, Lsn::ZERO).unwrap().0
}

fn inline(sim: &SimFs, clock: &SimClock) -> GroupCommit<Acks> {
    let clock: Arc<dyn Clock> = Arc::new(clock.clone());
    GroupCommit::start(open(sim), Acks::new(sim), GroupOptions::default(), clock, Drive::Inline)
        .unwrap()
}

fn threaded(sim: &SimFs, options: GroupOptions) -> GroupCommit<Acks> {
    let clock = Arc::new(SystemClock::new());
    GroupCommit::start(open(sim), Acks::new(sim), options, clock, Drive::Thread).unwrap()
}

fn send(group: &GroupCommit<Acks>, payload: &[u8], durability: Durability) -> Ticket<Lsn> {
    let (answer, ticket) = ticket();
    group.submit(Request { payload: payload.to_vec(), durability, answer });
    ticket
}

fn survivors_of_power_loss(sim: &SimFs) -> usize {
    let disk = sim.fork(0);
    disk.crash(CrashPolicy::DropAll);
    verify(&disk, Lsn::ZERO).unwrap().1.len()
}

/// D1, from many threads at once: an acknowledged batch is on the disk, numbers are given in the
/// order of each caller, and all are found again.
#[test]
fn every_writer_gets_its_acknowledgements_in_order_and_all_are_durable() {
    let sim = SimFs::new(1);
    let group = threaded(&sim, GroupOptions::default());
    let (writers, each) = (4_u32, 60_u32);
    let threads: Vec<_> = (0..writers)
        .map(|writer| {
            let group = group.clone();
            let work = move || {
                let mut last = Lsn::ZERO;
                for n in 0..each {
                    let payload = format!("writer {writer} batch {n}");
                    let lsn = send(&group, payload.as_bytes(), Durability::Sync).wait().unwrap();
                    assert!(lsn > last);
                    last = lsn;
                }
            };
            akidb_vfs::thread::spawn("writer", work).unwrap()
        })
        .collect();
    threads.into_iter().for_each(|thread| thread.join().unwrap());
    let stats = group.stats();
    assert_eq!(stats.frames, u64::from(writers * each));
    assert!(stats.groups <= stats.frames && stats.syncs == stats.groups);
    assert_eq!(stats.durable_upto, stats.last_lsn);
    group.close().unwrap();
    sim.crash(CrashPolicy::DropAll);
    let (_, batches) = verify(&sim, Lsn::ZERO).unwrap();
    for writer in 0..writers {
        let mine = batches.iter().filter_map(|(_, payload)| {
            let text = std::str::from_utf8(payload).unwrap();
            text.strip_prefix(&format!("writer {writer} batch ")).map(str::to_owned)
        });
        assert!(mine.eq((0..each).map(|n| n.to_string())));
    }
}

/// W9: requests that wait while a sync runs are written as one group with one sync.
#[test]
fn what_gathers_is_one_group_with_one_sync() {
    let sim = SimFs::new(1);
    let options = GroupOptions {
        delay_max: Duration::from_secs(3600),
        count_max: 50,
        ..GroupOptions::default()
    };
    let group = threaded(&sim, options);
    let tickets: Vec<_> = (0..50).map(|_| send(&group, b"batch", Durability::Sync)).collect();
    assert!(tickets.into_iter().all(|ticket| ticket.wait().is_ok()));
    let stats = group.stats();
    assert_eq!((stats.frames, stats.groups, stats.syncs), (50, 1, 1));
}

#[test]
fn a_group_is_bounded_by_bytes() {
    let sim = SimFs::new(1);
    let options = GroupOptions {
        delay_max: Duration::from_secs(3600),
        count_max: 4,
        bytes_max: 2000,
        ..GroupOptions::default()
    };
    let group = threaded(&sim, options);
    let tickets: Vec<_> = (0..4).map(|_| send(&group, &[1; 1500], Durability::Sync)).collect();
    assert!(tickets.into_iter().all(|ticket| ticket.wait().is_ok()));
    assert_eq!(group.stats().groups, 2);
}

/// W9: a request belongs to the log once it is submitted.
#[test]
fn a_caller_that_goes_away_changes_nothing() {
    let sim = SimFs::new(1);
    let group = threaded(&sim, GroupOptions::default());
    for n in 0..100_u8 {
        drop(send(&group, &[n; 20], Durability::Sync));
    }
    group.close().unwrap();
    let (_, batches) = verify(&sim, Lsn::ZERO).unwrap();
    let found: Vec<u8> = batches.iter().map(|(_, payload)| payload[0]).collect();
    assert_eq!(found, (0..100).collect::<Vec<u8>>());
}

#[test]
fn a_dropped_handle_finishes_what_was_submitted() {
    let sim = SimFs::new(1);
    let group = threaded(&sim, GroupOptions::default());
    let tickets: Vec<_> = (0..50).map(|_| send(&group, b"batch", Durability::Sync)).collect();
    drop(group);
    assert!(tickets.into_iter().all(|ticket| ticket.wait().is_ok()));
}

/// D2: written before the acknowledgement, so a kill loses nothing; synced when the time is over.
#[test]
fn interval_writes_survive_a_kill_at_once_and_power_loss_after_the_interval() {
    let sim = SimFs::new(1);
    let clock = SimClock::new();
    let group = inline(&sim, &clock);
    send(&group, b"one", Durability::Interval(SECOND)).wait().unwrap();
    assert_eq!(group.durable_upto(), Lsn::ZERO);
    assert_eq!(survivors_of_power_loss(&sim), 0);
    assert_eq!(verify(&sim.fork(0), Lsn::ZERO).unwrap().1.len(), 1, "a kill loses nothing");
    // The seal timer is shorter than the interval, and a seal syncs as well.
    clock.advance(Duration::from_millis(99));
    group.tick();
    assert_eq!(survivors_of_power_loss(&sim), 0);
    for _ in 0..20 {
        clock.advance(Duration::from_millis(50));
        send(&group, b"more", Durability::Interval(SECOND)).wait().unwrap();
        group.tick();
    }
    assert!(survivors_of_power_loss(&sim) >= 18, "{:?}", group.stats());
}

#[test]
fn the_shortest_interval_counts_from_the_oldest_unsynced_write() {
    let sim = SimFs::new(1);
    let clock = SimClock::new();
    let options = GroupOptions { seal_idle: 100 * SECOND, ..GroupOptions::default() };
    let sim_clock: Arc<dyn Clock> = Arc::new(clock.clone());
    let group =
        GroupCommit::start(open(&sim), Acks::new(&sim), options, sim_clock, Drive::Inline).unwrap();
    send(&group, b"slow", Durability::Interval(10 * SECOND)).wait().unwrap();
    clock.advance(SECOND);
    send(&group, b"fast", Durability::Interval(2 * SECOND)).wait().unwrap();
    clock.advance(SECOND);
    group.tick();
    assert_eq!(group.durable_upto(), Lsn::ZERO);
    clock.advance(SECOND);
    group.tick();
    assert_eq!(group.durable_upto(), Lsn::new(2));
}

/// W6: idle for the set time, the log seals itself, once.
#[test]
fn an_idle_log_seals_itself_once() {
    let sim = SimFs::new(1);
    let clock = SimClock::new();
    let group = inline(&sim, &clock);
    send(&group, b"one", Durability::Memory).wait().unwrap();
    for _ in 0..5 {
        clock.advance(SECOND);
        group.tick();
    }
    assert_eq!(group.stats().seals, 1);
    assert_eq!(survivors_of_power_loss(&sim), 1);
    let calls = sim.calls();
    group.close().unwrap();
    assert_eq!(sim.calls(), calls, "nothing new to seal");
}

#[test]
fn the_thread_seals_an_idle_log_without_being_asked() {
    let sim = SimFs::new(1);
    let options = GroupOptions { seal_idle: Duration::from_millis(1), ..GroupOptions::default() };
    let group = threaded(&sim, options);
    send(&group, b"one", Durability::Memory).wait().unwrap();
    while group.stats().seals == 0 {
        std::thread::yield_now();
    }
    assert_eq!(group.durable_upto(), Lsn::new(1));
}

#[test]
fn a_sync_request_covers_what_was_submitted_before_it() {
    for drive in [Drive::Inline, Drive::Thread] {
        let sim = SimFs::new(1);
        let clock = Arc::new(SystemClock::new());
        let options = GroupOptions { seal_idle: 100 * SECOND, ..GroupOptions::default() };
        let group = GroupCommit::start(open(&sim), Acks::new(&sim), options, clock, drive).unwrap();
        for _ in 0..10 {
            drop(send(&group, b"batch", Durability::Memory));
        }
        assert_eq!(futures_lite::future::block_on(group.sync(Lsn::MAX)).unwrap(), Lsn::new(10));
        assert_eq!(survivors_of_power_loss(&sim), 10);
        let calls = sim.calls();
        assert_eq!(group.sync(Lsn::new(4)).wait().unwrap(), Lsn::new(10));
        assert_eq!(sim.calls(), calls, "durable already");
    }
}

#[test]
fn files_are_rolled_and_removed_on_request() {
    let sim = SimFs::new(1);
    let group = threaded(&sim, GroupOptions::default());
    send(&group, b"one", Durability::Sync).wait().unwrap();
    group.roll().wait().unwrap();
    send(&group, b"two", Durability::Sync).wait().unwrap();
    let files = group.files();
    assert_eq!(files.len(), 2);
    assert_eq!((files[0].first_lsn, files[0].last_lsn), (Lsn::new(1), Lsn::new(1)));
    assert_eq!((files[1].first_lsn, files[1].last_lsn), (Lsn::new(2), Lsn::new(2)));
    assert_eq!(group.remove_upto(Lsn::new(1)).wait().unwrap(), files[..1]);
    group.close().unwrap();
    assert_eq!(group.files().len(), 1);
}

#[test]
fn a_request_that_needs_no_write_uses_no_number() {
    let sim = SimFs::new(1);
    let group = inline(&sim, &SimClock::new());
    assert_eq!(send(&group, b"answer", Durability::Sync).wait().unwrap(), Lsn::ZERO);
    assert_eq!(send(&group, b"write", Durability::Sync).wait().unwrap(), Lsn::new(1));
}

/// The sink promised to check sizes. When it does not, its group fails whole and unwritten.
#[test]
fn an_oversized_payload_fails_its_group_and_uses_no_number() {
    let sim = SimFs::new(1);
    let group = inline(&sim, &SimClock::new());
    let error = send(&group, &[0; 4097], Durability::Sync).wait().unwrap_err();
    assert!(matches!(*error, WalError::TooLarge { max: 4096, .. }), "{error}");
    assert_eq!(send(&group, b"next", Durability::Sync).wait().unwrap(), Lsn::new(1));
}

/// D7: a full disk fails the group and no more; the numbers stay consecutive.
#[test]
fn a_full_disk_fails_one_group_and_the_next_goes_on() {
    let sim = SimFs::new(1);
    let group = threaded(&sim, GroupOptions::default());
    let mut acknowledged = 0;
    sim.set_capacity(Some(0));
    let error = loop {
        match send(&group, &[1; 4000], Durability::Sync).wait() {
            Ok(lsn) => acknowledged = lsn.get(),
            Err(error) => break error,
        }
    };
    assert!(error.is_no_space(), "{error}");
    sim.set_capacity(None);
    let next = send(&group, &[1; 4000], Durability::Sync).wait().unwrap();
    assert_eq!(next.get(), acknowledged + 1);
    assert!(!group.stats().poisoned);
    group.close().unwrap();
}

/// D6: the group whose sync fails, and every request after it, hears the first error.
#[test]
fn a_failed_sync_stops_the_log_and_answers_everybody() {
    for drive in [Drive::Inline, Drive::Thread] {
        let sim = SimFs::new(1);
        let clock = Arc::new(SystemClock::new());
        let options = GroupOptions::default();
        let group = GroupCommit::start(open(&sim), Acks::new(&sim), options, clock, drive).unwrap();
        send(&group, b"one", Durability::Sync).wait().unwrap();
        sim.inject(Fault::new(FaultKind::SyncFailsCacheKept).on(FsOp::SyncData));
        let tickets: Vec<_> = (0..20).map(|_| send(&group, b"x", Durability::Sync)).collect();
        for ticket in tickets {
            let error = ticket.wait().unwrap_err();
            let WalError::Poisoned(first) = &*error else { panic!("{error}") };
            assert!(matches!(&**first, WalError::Fs(error) if error.op == FsOp::SyncData));
        }
        assert!(matches!(&*group.sync(Lsn::MAX).wait().unwrap_err(), WalError::Poisoned(_)));
        assert!(matches!(&*group.roll().wait().unwrap_err(), WalError::Poisoned(_)));
        assert!(group.stats().poisoned);
        assert!(matches!(&*group.close().unwrap_err(), WalError::Poisoned(_)));
        drop(group);
        sim.crash(CrashPolicy::Random);
        let (log, _, batches) = open_after(&sim, OPTIONS, Lsn::ZERO).unwrap();
        assert_eq!(batches[0], (Lsn::new(1), b"one".to_vec()));
        assert!(log.poisoned().is_none());
    }
}

#[test]
fn a_panic_in_the_sink_stops_the_log_and_leaves_nobody_waiting() {
    for drive in [Drive::Inline, Drive::Thread] {
        let sim = SimFs::new(1);
        let clock = Arc::new(SystemClock::new());
        let options = GroupOptions {
            delay_max: if drive == Drive::Thread { SECOND } else { Duration::ZERO },
            count_max: 3,
            ..GroupOptions::default()
        };
        let group = GroupCommit::start(open(&sim), Acks::new(&sim), options, clock, drive).unwrap();
        let before = send(&group, b"staged before", Durability::Sync);
        let guilty = send(&group, b"panic", Durability::Sync);
        let after = send(&group, b"after", Durability::Sync);
        drop(before.wait());
        assert!(guilty.wait().is_err());
        let error = after.wait().unwrap_err();
        let WalError::Poisoned(first) = &*error else { panic!("{error}") };
        assert!(
            matches!(&**first, WalError::Panicked { message } if message == "the sink broke"),
            "{error}"
        );
        assert!(group.close().is_err());
    }
}

#[test]
fn a_closed_log_is_sealed_and_rejects_what_comes_later() {
    for drive in [Drive::Inline, Drive::Thread] {
        let sim = SimFs::new(1);
        let clock = Arc::new(SystemClock::new());
        let options = GroupOptions::default();
        let group = GroupCommit::start(open(&sim), Acks::new(&sim), options, clock, drive).unwrap();
        let other = group.clone();
        drop(send(&group, b"one", Durability::Memory));
        group.close().unwrap();
        group.close().unwrap();
        assert_eq!(survivors_of_power_loss(&sim), 1);
        for late in [send(&other, b"late", Durability::Sync), other.sync(Lsn::MAX)] {
            assert!(matches!(&*late.wait().unwrap_err(), WalError::Closed));
        }
    }
}

/// Submits again from inside an acknowledgement, as an owner that retries would.
struct Chain {
    group: Option<GroupCommit<Chain>>,
    staged: Vec<u32>,
    done: Option<Promise<()>>,
}

impl Sink for Chain {
    type Request = (u32, Option<GroupCommit<Self>>, Option<Promise<()>>);

    fn stage(&mut self, _: Lsn, (left, group, done): Self::Request) -> Staged {
        self.group = group.or(self.group.take());
        self.done = done.or(self.done.take());
        self.staged.push(left);
        Staged::Write { payload: vec![0; 8], durability: Durability::Sync }
    }
    fn committed(&mut self, _: &Commit) {
        for left in std::mem::take(&mut self.staged) {
            match (left, &self.group) {
                (1.., Some(group)) => group.submit((left - 1, None, None)),
                _ => {
                    self.group = None;
                    self.done.take().unwrap().answer(Ok(()));
                }
            }
        }
    }
    fn failed(&mut self, error: &Arc<WalError>) {
        panic!("{error}");
    }
    fn rejected(&mut self, _: Self::Request, error: &Arc<WalError>) {
        panic!("{error}");
    }
}

#[test]
fn a_sink_may_submit_from_inside_a_callback() {
    for drive in [Drive::Inline, Drive::Thread] {
        let sim = SimFs::new(1);
        let sink = Chain { group: None, staged: Vec::new(), done: None };
        let clock = Arc::new(SystemClock::new());
        let options = GroupOptions::default();
        let group = GroupCommit::start(open(&sim), sink, options, clock, drive).unwrap();
        let (done, ticket) = ticket();
        group.submit((5, Some(group.clone()), Some(done)));
        ticket.wait().unwrap();
        group.sync(Lsn::MAX).wait().unwrap();
        assert_eq!(group.stats().frames, 6);
    }
}

/// The same calls give the same disk, byte for byte: what deterministic simulation stands on.
#[test]
fn the_inline_drive_is_deterministic() {
    let run = || {
        let sim = SimFs::new(5);
        let clock = SimClock::new();
        let group = inline(&sim, &clock);
        for n in 0..40_u8 {
            let durability = match n % 3 {
                0 => Durability::Sync,
                1 => Durability::Interval(SECOND),
                _ => Durability::Memory,
            };
            send(&group, &[n; 33], durability).wait().unwrap();
            clock.advance(Duration::from_millis(u64::from(n) * 7));
            group.tick();
        }
        group.close().unwrap();
        (sim.trace_hash(), sim.image())
    };
    assert_eq!(run(), run());
}

#[test]
fn a_clean_close_leaves_no_torn_tail() {
    let sim = SimFs::new(1);
    let group = threaded(&sim, GroupOptions::default());
    drop(send(&group, b"one", Durability::Sync));
    group.close().unwrap();
    let (report, batches) = verify(&sim, Lsn::ZERO).unwrap();
    assert_eq!((report.torn, batches.len()), (None, 1));
}
