//! The work of the log's thread: stage a group, write it, sync it, answer; and the timers. Owns
//! the log and the sink. Run by `handle`, by one thread at a time.

use super::{
    Commit, Durability, GroupOptions, LogStats, Sink, Staged, patience::Patience, queue::Queue,
    stats::Snapshot,
};
use crate::{Log, LogFile, Lsn, Promise, WalError, sync::Mutex};
use akidb_vfs::{Clock, planted};
use std::{
    any::Any,
    collections::VecDeque,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    time::Duration,
};

/// What callers put in the queue.
#[derive(Debug)]
pub(super) enum Message<R> {
    Request(R),
    /// Make everything up to the LSN durable, of what stands before this message.
    Sync(Lsn, Promise<Lsn>),
    Roll(Promise<()>),
    RemoveUpto(Lsn, Promise<Vec<LogFile>>),
}

#[derive(Debug)]
pub(super) struct Worker<S: Sink> {
    log: Log,
    /// `None` after it panicked even when told to give up; requests are dropped from then on.
    sink: Option<S>,
    options: GroupOptions,
    clock: Arc<dyn Clock>,
    /// Taken from the queue, not staged yet.
    inbox: VecDeque<Message<S::Request>>,
    /// When the oldest unsynced `Interval` batch must be synced, by the clock.
    sync_due: Option<Duration>,
    /// When the last group was written, by the clock.
    last_write: Duration,
    counters: LogStats,
    patience: Patience,
    /// What callers see. Brought up to date before anybody is answered, so that who was answered
    /// sees at least that state.
    snapshot: Arc<Mutex<Snapshot>>,
}

/// A group while it is put together.
#[derive(Debug, Default)]
struct Group {
    frames: u64,
    must_sync: bool,
    /// The shortest interval that a member allows.
    interval: Option<Duration>,
    barriers: Vec<(Lsn, Promise<Lsn>)>,
}

impl Group {
    fn require(&mut self, durability: Durability) {
        match durability {
            Durability::Sync => self.must_sync = true,
            Durability::Interval(time) => {
                self.interval = Some(self.interval.map_or(time, |other| other.min(time)));
            }
            Durability::Memory => {}
        }
    }
}

impl<S: Sink> Worker<S> {
    pub(super) fn new(log: Log, sink: S, options: GroupOptions, clock: Arc<dyn Clock>) -> Self {
        let last_write = clock.monotonic();
        let worker = Self {
            log,
            sink: Some(sink),
            options,
            clock,
            inbox: VecDeque::new(),
            sync_due: None,
            last_write,
            counters: LogStats::default(),
            patience: Patience::default(),
            snapshot: Arc::default(),
        };
        worker.publish();
        worker
    }

    /// What callers may look at while the log is busy.
    pub(super) fn snapshot(&self) -> Arc<Mutex<Snapshot>> {
        Arc::clone(&self.snapshot)
    }

    fn publish(&self) {
        self.snapshot.lock().update(&self.log, self.counters);
    }

    /// True when messages wait that were taken from the queue earlier.
    pub(super) fn has_backlog(&self) -> bool {
        !self.inbox.is_empty()
    }

    /// How many requests are about to come, and how long to wait for them.
    pub(super) fn company(&self) -> Option<(usize, Duration)> {
        self.patience.company(self.options.count_max)
    }

    /// One group, or one message that stands alone. A panic in the sink poisons the log.
    pub(super) fn turn(&mut self, queue: &Queue<Message<S::Request>>) {
        self.guarded(|worker| {
            let group = worker.stage_group(queue);
            worker.commit_group(group, queue);
        });
    }

    /// Does what is due by the clock.
    pub(super) fn timers(&mut self) {
        self.guarded(|worker| {
            let now = worker.clock.monotonic();
            if worker.sync_due.is_some_and(|due| due <= now) {
                drop(worker.sync());
            }
            if worker.seal_due().is_some_and(|due| due <= now) {
                worker.seal();
            }
        });
    }

    /// How long until something is due; `None` when nothing will be.
    pub(super) fn next_timer(&self) -> Option<Duration> {
        let due = [self.sync_due, self.seal_due()].into_iter().flatten().min()?;
        Some(due.saturating_sub(self.clock.monotonic()))
    }

    fn seal_due(&self) -> Option<Duration> {
        let wanted = !self.log.is_sealed() && self.log.poisoned().is_none();
        wanted.then(|| self.last_write.saturating_add(self.options.seal_idle))
    }

    /// The last act of a clean close.
    pub(super) fn close(&mut self) -> Result<(), Arc<WalError>> {
        if !planted("wal.closed-without-seal") {
            self.guarded(Self::seal);
        }
        self.log
            .poisoned()
            .map_or(Ok(()), |first| Err(Arc::new(WalError::Poisoned(Arc::clone(first)))))
    }

    /// Answers a request that came too late.
    pub(super) fn reject_late(&mut self, request: S::Request) {
        self.guarded(|worker| {
            let error = worker.poison_error().unwrap_or_else(|| Arc::new(WalError::Closed));
            if let Some(sink) = &mut worker.sink {
                sink.rejected(request, &error);
            }
        });
    }

    fn stage_group(&mut self, queue: &Queue<Message<S::Request>>) -> Group {
        let mut group = Group::default();
        for _ in 0..self.options.count_max.max(1) {
            if self.log.staged_bytes() >= self.options.bytes_max && group.frames > 0 {
                break;
            }
            if self.inbox.is_empty() {
                queue.take_all(&mut self.inbox);
            }
            match self.inbox.pop_front() {
                None => break,
                Some(Message::Request(request)) => self.stage(request, &mut group),
                Some(Message::Sync(upto, promise)) => group.barriers.push((upto, promise)),
                Some(alone) if group.frames == 0 && group.barriers.is_empty() => {
                    self.run_alone(alone);
                    break;
                }
                Some(alone) => {
                    self.inbox.push_front(alone);
                    break;
                }
            }
        }
        group
    }

    fn stage(&mut self, request: S::Request, group: &mut Group) {
        let poison = self.poison_error();
        // Without a sink the request is dropped, and with it the caller's channel.
        let Some(sink) = &mut self.sink else { return };
        if let Some(error) = poison {
            sink.rejected(request, &error);
            return;
        }
        match sink.stage(self.log.next_lsn(), request) {
            Staged::Answered => {}
            Staged::Write { payload, durability } => match self.log.append(payload) {
                Ok(_) => {
                    group.frames += 1;
                    group.require(durability);
                }
                Err(error) => {
                    // The sink broke its promise about sizes. It cannot be told about one member
                    // alone, so the group as it stands is given up: unwritten, no harm done.
                    self.log.unstage();
                    group.frames = 0;
                    self.give_up(error);
                }
            },
        }
    }

    fn run_alone(&mut self, message: Message<S::Request>) {
        match message {
            Message::Roll(promise) => {
                let rolled = self.log.roll().map_err(Arc::new);
                self.tell_if_poisoned();
                self.publish();
                promise.answer(rolled);
            }
            Message::RemoveUpto(lsn, promise) => {
                let removed = self.log.remove_upto(lsn);
                self.publish();
                promise.answer(removed);
            }
            Message::Request(_) | Message::Sync(..) => {
                unreachable!("requests and syncs join a group")
            }
        }
    }

    fn commit_group(&mut self, group: Group, queue: &Queue<Message<S::Request>>) {
        let Group { frames, must_sync, interval, barriers } = group;
        if frames > 0 {
            let bytes = self.log.staged_bytes();
            let last = self.log.next_lsn().prev();
            let first = Lsn::new(last.get() - frames + 1);
            let unsynced = planted("wal.acknowledged-before-sync");
            let start = self.clock.monotonic();
            self.patience.forget();
            if let Some(payloads) = self.write_and_sync(must_sync && !unsynced) {
                self.count(frames, bytes);
                let durable_upto = if unsynced { last } else { self.log.durable_upto() };
                let synced = durable_upto >= last;
                if synced {
                    let arrived = self.inbox.len() + queue.len();
                    let time = self.last_write.saturating_sub(start);
                    self.patience.synced(
                        time,
                        usize::try_from(frames).unwrap_or(usize::MAX),
                        arrived,
                    );
                }
                self.publish();
                self.note_interval(interval, synced);
                if let Some(sink) = &mut self.sink {
                    sink.written(payloads);
                    sink.committed(&Commit { first, last, durable_upto, synced });
                }
            }
        }
        for (upto, promise) in barriers {
            let synced = self.sync_upto(upto);
            self.publish();
            promise.answer(synced);
        }
    }

    /// Writes what is staged, and syncs if asked; tells the sink of a failure. Returns the payloads.
    fn write_and_sync(&mut self, must_sync: bool) -> Option<Vec<Vec<u8>>> {
        match self.log.write_staged(must_sync) {
            Ok(payloads) => {
                if must_sync {
                    self.counters.syncs += 1;
                    self.sync_due = None;
                }
                Some(payloads)
            }
            Err(error) => {
                self.give_up(error);
                None
            }
        }
    }

    fn count(&mut self, frames: u64, bytes: u64) {
        self.counters.groups += 1;
        self.counters.frames += frames;
        self.counters.bytes_written += bytes;
        self.last_write = self.clock.monotonic();
    }

    fn note_interval(&mut self, interval: Option<Duration>, synced: bool) {
        if synced {
            self.sync_due = None;
        } else if let Some(interval) = interval
            && !planted("wal.interval-never-syncs")
        {
            let due = self.last_write.saturating_add(interval);
            self.sync_due = Some(self.sync_due.map_or(due, |other| other.min(due)));
        }
    }

    fn sync_upto(&mut self, upto: Lsn) -> Result<Lsn, Arc<WalError>> {
        if self.log.durable_upto() >= upto.min(self.log.last_lsn()) {
            return self.poison_error().map_or(Ok(self.log.durable_upto()), Err);
        }
        self.sync()
    }

    fn sync(&mut self) -> Result<Lsn, Arc<WalError>> {
        self.sync_due = None;
        let synced = self.log.sync().map_err(|error| self.give_up(error))?;
        self.counters.syncs += 1;
        self.publish();
        Ok(synced)
    }

    fn seal(&mut self) {
        if self.log.poisoned().is_some() || self.log.is_sealed() {
            return;
        }
        self.sync_due = None;
        match self.log.seal() {
            Ok(()) => {
                self.counters.seals += 1;
                self.publish();
            }
            Err(error) => drop(self.give_up(error)),
        }
    }

    /// Tells the sink that what it staged is lost; returns the error for others to hear.
    fn give_up(&mut self, error: WalError) -> Arc<WalError> {
        let error = Arc::new(error);
        self.publish();
        if let Some(sink) = &mut self.sink {
            sink.failed(&error);
        }
        error
    }

    fn tell_if_poisoned(&mut self) {
        if let (Some(error), Some(sink)) = (self.poison_error(), &mut self.sink) {
            sink.failed(&error);
        }
    }

    fn poison_error(&self) -> Option<Arc<WalError>> {
        let first = self.log.poisoned()?;
        Some(Arc::new(WalError::Poisoned(Arc::clone(first))))
    }

    /// Runs `work`; a panic in it poisons the log, because nobody knows what the sink did with
    /// what it was given. The sink is told to give up; if it panics at that too, it is dropped,
    /// with all the callers' channels that it holds.
    fn guarded(&mut self, work: impl FnOnce(&mut Self)) {
        let Err(panic) = catch_unwind(AssertUnwindSafe(|| work(self))) else {
            return;
        };
        let error = self.log.poison(WalError::Panicked { message: message_of(&*panic) });
        let told = catch_unwind(AssertUnwindSafe(|| drop(self.give_up(error))));
        if told.is_err() {
            // A panic in its `drop` must not take the thread with it either.
            let sink = self.sink.take();
            drop(catch_unwind(AssertUnwindSafe(|| drop(sink))));
        }
    }
}

/// The text of a panic, where it has one.
fn message_of(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "a panic without a message".to_owned())
}
