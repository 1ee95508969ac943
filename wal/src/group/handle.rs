//! The handle that callers share, and who runs the work: a thread, or the callers themselves.

use super::{
    Drive, GroupOptions, LogStats, Sink,
    queue::{Queue, Wake},
    stats::Snapshot,
    worker::{Message, Worker},
};
use crate::{
    Log, LogFile, Lsn, Ticket, WalError,
    sync::{JoinHandle, Mutex, TryMutex, current_thread, spawn},
    ticket::{Promise, ticket},
};
use akidb_vfs::Clock;
use std::{fmt, sync::Arc};

/// A log shared by many callers. Cloning gives another handle to the same log.
///
/// Dropping the last handle ends the work after what is queued, without a seal; [`close`] ends it
/// cleanly.
///
/// [`close`]: GroupCommit::close
///
/// ```
/// use akidb_vfs::{RealFs, SystemClock, SystemRandom};
/// use akidb_wal::*;
/// use std::sync::Arc;
///
/// /// Answers each request with its LSN.
/// struct Numbers(Vec<(Lsn, Promise<Lsn>)>);
///
/// impl Sink for Numbers {
///     type Request = (Vec<u8>, Promise<Lsn>);
///
///     fn stage(&mut self, lsn: Lsn, (payload, promise): Self::Request) -> Staged {
///         self.0.push((lsn, promise));
///         Staged::Write { payload, durability: Durability::Sync }
///     }
///     fn committed(&mut self, _: &Commit) {
///         self.0.drain(..).for_each(|(lsn, promise)| promise.answer(Ok(lsn)));
///     }
///     fn failed(&mut self, error: &Arc<WalError>) {
///         self.0.drain(..).for_each(|(_, promise)| promise.answer(Err(Arc::clone(error))));
///     }
///     fn rejected(&mut self, (_, promise): Self::Request, error: &Arc<WalError>) {
///         promise.answer(Err(Arc::clone(error)));
///     }
/// }
/// # let dir = tempfile::tempdir().unwrap();
/// # let dir = dir.path().join("wal");
/// let env = Env::new(Arc::new(RealFs), Arc::new(SystemRandom::new()));
/// let options = LogOptions { file_bytes: 1 << 20, ..LogOptions::default() };
/// let (log, _) = Log::open(&env, &dir, options, Lsn::ZERO, &mut |_, _| Ok(()))?;
/// let clock = Arc::new(SystemClock::new());
/// let sink = Numbers(Vec::new());
/// let group = GroupCommit::start(log, sink, GroupOptions::default(), clock, Drive::Thread)?;
///
/// let (promise, answer) = ticket();
/// group.submit((b"a batch".to_vec(), promise));
/// assert_eq!(answer.wait()?, Lsn::new(1)); // durable now; `.await` does as well
/// group.close()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct GroupCommit<S: Sink> {
    owner: Arc<Owner<S>>,
}

impl<S: Sink> Clone for GroupCommit<S> {
    fn clone(&self) -> Self {
        Self { owner: Arc::clone(&self.owner) }
    }
}

/// Ends the thread with the last handle.
struct Owner<S: Sink> {
    shared: Arc<Shared<S>>,
    drive: Drive,
    thread: Mutex<Option<JoinHandle<()>>>,
}

/// What callers and the thread both reach.
struct Shared<S: Sink> {
    queue: Queue<Message<S::Request>>,
    worker: TryMutex<Worker<S>>,
    snapshot: Arc<Mutex<Snapshot>>,
}

impl<S: Sink> GroupCommit<S> {
    /// Takes over a log.
    ///
    /// # Errors
    /// [`WalError::Thread`] when the system gives no thread.
    pub fn start(
        log: Log,
        sink: S,
        options: GroupOptions,
        clock: Arc<dyn Clock>,
        drive: Drive,
    ) -> Result<Self, WalError> {
        let worker = Worker::new(log, sink, options, clock);
        let shared = Arc::new(Shared {
            queue: Queue::new(),
            snapshot: worker.snapshot(),
            worker: TryMutex::new(worker),
        });
        let thread = match drive {
            Drive::Inline => None,
            Drive::Thread => {
                let shared = Arc::clone(&shared);
                let work = move || shared.run(options);
                Some(spawn("wal", work).map_err(WalError::Thread)?)
            }
        };
        Ok(Self { owner: Arc::new(Owner { shared, drive, thread: Mutex::new(thread) }) })
    }

    /// Hands a request over. It is the sink that answers it. With [`Drive::Thread`] this never
    /// waits for I/O, except for the end of a close that runs at the same time.
    pub fn submit(&self, request: S::Request) {
        let shared = &self.owner.shared;
        match shared.queue.push(Message::Request(request)) {
            Ok(()) => self.drive(),
            Err(Message::Request(request)) => shared.worker.lock().reject_late(request),
            Err(_) => unreachable!("the queue gives back what was pushed"),
        }
    }

    /// Makes durable what was submitted before, up to `upto`; [`Lsn::MAX`] for all of it. Answers
    /// with the last durable LSN.
    pub fn sync(&self, upto: Lsn) -> Ticket<Lsn> {
        self.send(|promise| Message::Sync(upto, promise))
    }

    /// Completes the current WAL file, so that [`GroupCommit::remove_upto`] can let go of it.
    pub fn roll(&self) -> Ticket<()> {
        self.send(Message::Roll)
    }

    /// Removes files as [`Log::remove_upto`] does; answers with those that went.
    pub fn remove_upto(&self, lsn: Lsn) -> Ticket<Vec<LogFile>> {
        self.send(|promise| Message::RemoveUpto(lsn, promise))
    }

    fn send<T>(&self, message: impl FnOnce(Promise<T>) -> Message<S::Request>) -> Ticket<T> {
        let (promise, ticket) = ticket();
        // After the end the promise comes back and is dropped, which answers "closed".
        if self.owner.shared.queue.push(message(promise)).is_ok() {
            self.drive();
        }
        ticket
    }

    /// The files as of the last group that anybody was told of, oldest first; the last is the current one.
    pub fn files(&self) -> Vec<LogFile> {
        self.owner.shared.snapshot.lock().files()
    }

    /// Counters as of the last group that anybody was told of.
    pub fn stats(&self) -> LogStats {
        self.owner.shared.snapshot.lock().stats
    }

    /// Every batch up to here survives power loss.
    pub fn durable_upto(&self) -> Lsn {
        self.stats().durable_upto
    }

    /// With [`Drive::Inline`], does what is due by the clock: interval syncs and the idle seal.
    /// Does nothing with [`Drive::Thread`], where the thread does.
    pub fn tick(&self) {
        if self.owner.drive == Drive::Inline {
            let shared = &self.owner.shared;
            shared.worker.lock().timers();
            // Somebody may have left a message while the lock was held.
            self.drive();
        }
    }

    /// Finishes what is queued, seals the log and ends the thread. Requests that come later are
    /// rejected with [`WalError::Closed`]. Closing again waits for the first close and says the
    /// same.
    ///
    /// # Errors
    /// [`WalError::Poisoned`] if the log stopped earlier or the seal failed: everything that was
    /// acknowledged is safe.
    pub fn close(&self) -> Result<(), Arc<WalError>> {
        let shared = &self.owner.shared;
        shared.queue.end();
        self.owner.join();
        let mut worker = shared.worker.lock();
        shared.drain(&mut worker);
        worker.close()
    }

    /// With [`Drive::Inline`], works the queue off. A caller that finds another at work leaves its
    /// message to that one: the worker looks again after it let go, so nothing stays behind; and a
    /// sink that submits from inside a callback does not wait for itself.
    fn drive(&self) {
        let shared = &self.owner.shared;
        while self.owner.drive == Drive::Inline && !shared.queue.is_empty() {
            let Some(mut worker) = shared.worker.try_lock() else {
                return;
            };
            shared.drain(&mut worker);
        }
    }
}

impl<S: Sink> Shared<S> {
    /// The log's thread.
    fn run(&self, options: GroupOptions) {
        loop {
            let (backlog, timer, company) = {
                let worker = self.worker.lock();
                (worker.has_backlog(), worker.next_timer(), worker.company())
            };
            if !backlog {
                match self.queue.wait(timer) {
                    Wake::Timeout => {}
                    // The seal of a clean close is left to the closer, who waits for this thread.
                    Wake::Ended => return,
                    Wake::Items if !options.delay_max.is_zero() => {
                        self.queue.wait_for(options.count_max, Some(options.delay_max));
                    }
                    Wake::Items => {
                        if let Some((count, patience)) = company {
                            self.queue.wait_for(count, Some(patience));
                        }
                    }
                }
            }
            let mut worker = self.worker.lock();
            worker.turn(&self.queue);
            worker.timers();
        }
    }

    /// Works off everything queued.
    fn drain(&self, worker: &mut Worker<S>) {
        while worker.has_backlog() || !self.queue.is_empty() {
            worker.turn(&self.queue);
        }
    }
}

impl<S: Sink> Owner<S> {
    fn join(&self) {
        if let Some(thread) = self.thread.lock().take() {
            // A sink may hold the last handle; its thread cannot wait for itself.
            if thread.thread().id() != current_thread().id() {
                // Its work is guarded, so it ends without a panic; and there is nobody to tell.
                drop(thread.join());
            }
        }
    }
}

impl<S: Sink> Drop for Owner<S> {
    fn drop(&mut self) {
        self.shared.queue.end();
        self.join();
    }
}

impl<S: Sink> fmt::Debug for GroupCommit<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GroupCommit").field("stats", &self.stats()).finish_non_exhaustive()
    }
}
