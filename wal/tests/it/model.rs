//! A workload over the log, and what an honest log may and must give back after it: a prefix of
//! what was written that contains everything that was called durable.

use akidb_vfs::{Fs, SystemRandom, sim::SimFs};
use akidb_wal::{Env, Log, LogOptions, Lsn, ReplayReport, WalError};
use std::{collections::BTreeMap, path::Path, sync::Arc};

pub(crate) const DIR: &str = "/db/wal";

/// Files so small that a few batches roll them.
pub(crate) const OPTIONS: LogOptions = LogOptions {
    file_bytes: 1024,
    frame_bytes_max: 4096,
    zero_ahead_bytes: 64 << 10,
    must_exist: false,
    begins_after: Lsn::ZERO,
};

pub(crate) fn dir() -> &'static Path {
    Path::new(DIR)
}

/// The log's components as the process of the current boot has them.
pub(crate) fn env(sim: &SimFs) -> Env {
    // Salts must differ from boot to boot; the count of calls does.
    Env::new(Arc::new(sim.process()), Arc::new(SystemRandom::from_seed(sim.calls() ^ 0x5eed)))
}

pub(crate) type Batches = Vec<(Lsn, Vec<u8>)>;

/// Opens the log and collects what it replays.
pub(crate) fn open_after(
    sim: &SimFs,
    options: LogOptions,
    replay_after: Lsn,
) -> Result<(Log, ReplayReport, Batches), WalError> {
    let mut batches = Vec::new();
    let (log, report) = Log::open(&env(sim), dir(), options, replay_after, &mut |lsn, payload| {
        batches.push((lsn, payload.to_vec()));
        Ok(())
    })?;
    Ok((log, report, batches))
}

pub(crate) fn open(sim: &SimFs) -> Result<(Log, ReplayReport, Batches), WalError> {
    open_after(sim, OPTIONS, Lsn::ZERO)
}

/// What the log holds, without changing the disk.
pub(crate) fn verify(sim: &SimFs, replay_after: Lsn) -> Result<(ReplayReport, Batches), WalError> {
    let mut batches = Vec::new();
    let report = Log::verify(sim, dir(), OPTIONS, replay_after, &mut |lsn, payload| {
        batches.push((lsn, payload.to_vec()));
        Ok(())
    })?;
    Ok((report, batches))
}

/// Paths of the WAL files, oldest first.
pub(crate) fn wal_files(sim: &SimFs) -> Vec<std::path::PathBuf> {
    sim.list_dir(dir()).unwrap().into_iter().map(|entry| dir().join(entry.name)).collect()
}

/// One step of a workload.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Op {
    /// Stage a batch with a payload of this many bytes.
    Append(usize),
    /// Write what is staged, and sync it if told so.
    Commit {
        sync: bool,
    },
    Seal,
    Roll,
    /// Pretend that all that is durable was flushed, and let go of its files.
    Remove,
    /// Drop the log and open it again.
    Reopen,
}

/// What was done so far.
#[derive(Clone, Debug)]
pub(crate) struct Model {
    options: LogOptions,
    /// The one payload that each LSN was given, durable or not.
    written: BTreeMap<u64, Vec<u8>>,
    /// Everything up to here was called durable.
    durable: u64,
    /// Everything up to here was let go of.
    mark: u64,
    /// Makes every payload differ from every other.
    attempts: u64,
}

impl Default for Model {
    fn default() -> Self {
        Self::new(OPTIONS)
    }
}

impl Model {
    pub(crate) fn new(options: LogOptions) -> Self {
        Self { options, written: BTreeMap::new(), durable: 0, mark: 0, attempts: 0 }
    }

    pub(crate) fn mark(&self) -> Lsn {
        Lsn::new(self.mark)
    }

    /// Runs the steps until one fails.
    pub(crate) fn run(&mut self, sim: &SimFs, ops: &[Op]) -> Result<(), WalError> {
        let mut log = self.open(sim)?;
        let mut staged = Vec::new();
        for &op in ops {
            match op {
                Op::Append(len) => {
                    self.attempts += 1;
                    let mut payload = format!("batch {} ", self.attempts).into_bytes();
                    payload.resize(len.max(payload.len()), b'.');
                    let lsn = log.append(payload.clone())?;
                    staged.push((lsn.get(), payload));
                }
                Op::Commit { sync } => {
                    // Before the call: if it fails, the batches may be found or not.
                    self.written.extend(staged.drain(..));
                    let durable = log.commit(sync)?;
                    assert!(!sync || durable == log.last_lsn(), "a sync covers all");
                    self.durable = self.durable.max(durable.get());
                }
                Op::Seal | Op::Roll | Op::Remove | Op::Reopen if !staged.is_empty() => {}
                Op::Seal => log.seal()?,
                Op::Roll => log.roll()?,
                Op::Remove => {
                    self.mark = log.sync()?.get();
                    self.durable = self.mark;
                    log.remove_upto(self.mark()).map_err(|e| WalError::Poisoned(e.clone()))?;
                }
                Op::Reopen => {
                    drop(log);
                    log = self.open(sim)?;
                }
            }
            self.durable = self.durable.max(log.durable_upto().get());
        }
        Ok(())
    }

    fn open(&mut self, sim: &SimFs) -> Result<Log, WalError> {
        let (log, report, batches) = open_after(sim, self.options, self.mark())?;
        self.check(report.last_lsn, &batches);
        // What was not found is gone for good, and what was found is durable now.
        self.written.split_off(&report.last_lsn.next().get());
        self.durable = report.last_lsn.get();
        Ok(log)
    }

    /// A prefix of commit order that contains every durable batch: no hole, no other payload, no
    /// lost batch, nothing from nowhere.
    pub(crate) fn check(&self, last: Lsn, batches: &Batches) {
        assert!(last.get() >= self.durable, "lost {} of {self:?}", last.next());
        let first = last.get() + 1 - batches.len() as u64;
        assert!(first <= self.mark + 1, "begins at {first}, needed after {}", self.mark);
        for (expected, (lsn, payload)) in (first..).zip(batches) {
            assert_eq!(lsn.get(), expected, "a hole or a repetition");
            assert_eq!(Some(payload), self.written.get(&expected), "another payload at {lsn}");
        }
    }
}
