//! The backend on tokio-uring, on a thread of its own: the runtime belongs to the thread that made
//! it, and takes buffers instead of borrowing them.
//!
//! Owns the hand-over: one job at a time, its bytes copied into a buffer that travels there and
//! back. Must never use `tokio_uring::start`, which panics where the kernel gives no ring, and
//! never be readied before the plain ring has worked here (`probe`): the runtime waits for ever
//! for a call that the kernel refuses to take.

use super::{BackendError, LogIo, uring::os_file};
use ::tokio_uring::{Runtime, builder, fs::File as RingFile};
use akidb_vfs::{FsError, FsFile, FsOp, thread};
use parking_lot::Mutex;
use std::{
    fs::File,
    io::{self, IoSlice},
    sync::mpsc::{Receiver, Sender, channel},
    thread::JoinHandle,
};

/// Writes and syncs through a runtime on another thread.
#[derive(Debug)]
pub(super) struct TokioUringIo {
    /// `None` only while it is dropped.
    lane: Option<Mutex<Lane>>,
    thread: Option<JoinHandle<()>>,
}

/// The way to the thread and back.
#[derive(Debug)]
struct Lane {
    jobs: Sender<Job>,
    answers: Receiver<Answer>,
    /// The buffer, while it is here.
    bytes: Vec<u8>,
}

#[derive(Debug)]
struct Job {
    file: File,
    bytes: Vec<u8>,
    offset: u64,
    sync: bool,
}

#[derive(Debug)]
struct Answer {
    bytes: Vec<u8>,
    /// The call that failed, and how.
    outcome: Result<(), (FsOp, io::Error)>,
}

impl TokioUringIo {
    pub(super) fn start() -> Result<Self, BackendError> {
        let (jobs, inbox) = channel();
        let (outbox, answers) = channel();
        let (started, ready) = channel();
        let work = move || match Runtime::new(&builder()) {
            Ok(runtime) => {
                if started.send(Ok(())).is_ok() {
                    serve(&runtime, &inbox, &outbox);
                }
            }
            // Nobody waits any more if this fails.
            Err(error) => drop(started.send(Err(error))),
        };
        let thread = thread::spawn("wal-uring", work).map_err(BackendError::Thread)?;
        let ended = |_| Err(io::Error::other("the runtime panicked as it started"));
        ready.recv().unwrap_or_else(ended).map_err(BackendError::NoRing)?;
        let lane = Mutex::new(Lane { jobs, answers, bytes: Vec::new() });
        Ok(Self { lane: Some(lane), thread: Some(thread) })
    }

    fn run(
        &self,
        file: &dyn FsFile,
        slices: &[IoSlice<'_>],
        offset: u64,
        sync: bool,
    ) -> Result<(), FsError> {
        let op = if slices.is_empty() { FsOp::SyncData } else { FsOp::Write };
        let fd = os_file(file, op)?;
        let failed = |(op, source)| {
            let error = FsError::new(op, file.path(), source);
            if op == FsOp::Write { error.at(offset) } else { error }
        };
        // The runtime wants a file of its own, and closes it.
        let own = fd.try_clone_to_owned().map_err(|source| failed((op, source)))?;
        let gone = || failed((op, io::Error::other("the thread of tokio-uring has ended")));
        let mut lane = self.lane.as_ref().ok_or_else(gone)?.lock();
        let mut bytes = std::mem::take(&mut lane.bytes);
        bytes.clear();
        slices.iter().for_each(|slice| bytes.extend_from_slice(slice));
        let job = Job { file: File::from(own), bytes, offset, sync };
        lane.jobs.send(job).map_err(|_| gone())?;
        let answer = lane.answers.recv().map_err(|_| gone())?;
        lane.bytes = answer.bytes;
        answer.outcome.map_err(failed)
    }
}

impl LogIo for TokioUringIo {
    fn write_group(
        &self,
        file: &dyn FsFile,
        slices: &mut [IoSlice<'_>],
        offset: u64,
    ) -> Result<(), FsError> {
        self.run(file, slices, offset, false)
    }

    fn sync(&self, file: &dyn FsFile) -> Result<(), FsError> {
        self.run(file, &[], 0, true)
    }

    fn write_and_sync(
        &self,
        file: &dyn FsFile,
        slices: &mut [IoSlice<'_>],
        offset: u64,
    ) -> Result<(), FsError> {
        self.run(file, slices, offset, true)
    }
}

impl Drop for TokioUringIo {
    fn drop(&mut self) {
        // Without a sender the thread ends. What it did is known by then, so nothing is lost if it
        // panicked.
        drop(self.lane.take());
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}

fn serve(runtime: &Runtime, inbox: &Receiver<Job>, outbox: &Sender<Answer>) {
    while let Ok(job) = inbox.recv() {
        let answer = runtime.block_on(work(job));
        if outbox.send(answer).is_err() {
            return;
        }
    }
}

async fn work(job: Job) -> Answer {
    let Job { file, mut bytes, offset, sync } = job;
    let file = RingFile::from_std(file);
    let mut outcome = Ok(());
    if !bytes.is_empty() {
        let written;
        (written, bytes) = file.write_all_at(bytes, offset).await;
        outcome = written.map_err(|error| (FsOp::Write, error));
    }
    if sync && outcome.is_ok() {
        outcome = file.sync_data().await.map_err(|error| (FsOp::SyncData, error));
    }
    // Another handle of the same file stays open; what this close says is of no account.
    drop(file.close().await);
    Answer { bytes, outcome }
}
