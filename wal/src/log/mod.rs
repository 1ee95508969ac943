//! The log: a chain of WAL files in one directory, owned by one thread.
//!
//! # Protocol
//! [`Log::append`] stages a batch and gives it its LSN; [`Log::commit`] writes everything staged
//! in one vectored write and, if asked, syncs once. A group that does not fit goes whole into a
//! new file: the old one is sealed and synced first, and the new header names its last frame.
//! [`Log::remove_upto`] lets go of files whose records are all durable elsewhere.
//!
//! # Invariants
//! - LSNs are consecutive over the whole log; a group that could not be written for lack of space
//!   hands its LSNs back.
//! - Only the last file may end in anything but a seal: a file is completed before its successor
//!   gets its name.
//! - Files go oldest first, each removal durable before the next, so no crash leaves a hole.
//!
//! # Crash consistency
//! See `recover` for what every open does. `docs/format/wal.md` shows the files.
//!
//! # Not here
//! Threads and waiting ([`crate::GroupCommit`]); what a payload means (the engine).

#![deny(clippy::indexing_slicing)]

mod files;
mod open;
mod options;
mod recover;

pub(crate) use files::scratch_path;
pub use files::{LogFile, WAL_KIND};
pub use open::RecoveredLog;
pub use options::LogOptions;
pub use recover::{Replay, ReplayReport, TornFile};

use crate::{
    Env, Lsn, WalError,
    frame::frame_bytes,
    framed::{FramedWriter, NewFile, framed_file_bytes},
};
use akidb_vfs::{FsOp, planted};
use files::wal_path;
use std::{
    collections::VecDeque,
    path::{Path, PathBuf},
    sync::Arc,
};

/// The open log of one directory. One owner, one thread.
///
/// ```
/// use akidb_vfs::{RealFs, SystemRandom};
/// use akidb_wal::{Env, Log, LogOptions, Lsn, WalError};
/// use std::sync::Arc;
/// # let dir = tempfile::tempdir().unwrap();
/// let env = Env::new(Arc::new(RealFs), Arc::new(SystemRandom::new()));
/// let dir = dir.path().join("wal");
/// let options = LogOptions { file_bytes: 1 << 20, ..LogOptions::default() };
///
/// let (mut log, report) = Log::open(&env, &dir, options, Lsn::ZERO, &mut |_, _| Ok(()))?;
/// assert_eq!(report.frames, 0);
/// assert_eq!(log.append(b"first batch".to_vec())?, Lsn::new(1));
/// assert_eq!(log.commit(true)?, Lsn::new(1)); // durable now
/// drop(log); // no clean close: recovery does not need one
///
/// let mut seen = Vec::new();
/// let (_log, report) = Log::open(&env, &dir, options, Lsn::ZERO, &mut |lsn, payload| {
///     seen.push((lsn, payload.to_vec()));
///     Ok(())
/// })?;
/// assert_eq!(seen, [(Lsn::new(1), b"first batch".to_vec())]);
/// assert_eq!(report.last_lsn, Lsn::new(1));
/// # Ok::<(), WalError>(())
/// ```
#[derive(Debug)]
pub struct Log {
    env: Env,
    dir: PathBuf,
    options: LogOptions,
    /// Oldest first; all sealed and durable.
    completed: VecDeque<LogFile>,
    writer: FramedWriter,
    staged: Vec<Vec<u8>>,
    staged_bytes: u64,
    poison: Option<Arc<WalError>>,
    /// Set when it is unknown whether a removal is durable: a later one must not overtake it.
    removal_failed: Option<Arc<WalError>>,
}

impl Log {
    /// The LSN that the next [`Log::append`] returns.
    pub fn next_lsn(&self) -> Lsn {
        Lsn::new(self.writer.last_seq() + self.staged.len() as u64).next()
    }

    /// The LSN of the last written batch, synced or not; [`Lsn::ZERO`] before the first.
    pub fn last_lsn(&self) -> Lsn {
        Lsn::new(self.writer.last_seq())
    }

    /// Every batch up to here survives power loss.
    pub fn durable_upto(&self) -> Lsn {
        Lsn::new(self.writer.durable_seq())
    }

    /// The bytes that the staged group will take in the file.
    pub fn staged_bytes(&self) -> u64 {
        self.staged_bytes
    }

    /// The most bytes that one payload may have.
    pub fn payload_bytes_max(&self) -> u32 {
        self.options.payload_bytes_max()
    }

    /// Stages a batch. Nothing is written before [`Log::commit`] or [`Log::write`].
    ///
    /// # Errors
    /// [`WalError::TooLarge`], [`WalError::Poisoned`]; nothing is staged and no LSN is used up.
    pub fn append(&mut self, payload: Vec<u8>) -> Result<Lsn, WalError> {
        self.alive()?;
        let max = self.payload_bytes_max();
        let len = u32::try_from(payload.len())
            .ok()
            .filter(|&len| len <= max)
            .ok_or(WalError::TooLarge { bytes: payload.len() as u64, max: u64::from(max) })?;
        let lsn = self.next_lsn();
        self.staged_bytes += frame_bytes(len);
        self.staged.push(payload);
        Ok(lsn)
    }

    /// Writes everything staged in one vectored write, in a new file if this one has no room, and
    /// syncs if `sync`. Returns the last durable LSN.
    ///
    /// # Errors
    /// [`WalError::NoSpace`] (or [`WalError::Fs`] from making the new file): nothing of the group
    /// was written, its LSNs will be given again, and the log works on. [`WalError::Poisoned`]:
    /// now and for ever; any part of the group may or may not be found at the next open.
    pub fn commit(&mut self, sync: bool) -> Result<Lsn, WalError> {
        self.write_staged(sync)?;
        Ok(self.durable_upto())
    }

    /// Writes everything staged without a sync: it survives a process kill, not yet power loss.
    ///
    /// # Errors
    /// As [`Log::commit`].
    pub fn write(&mut self) -> Result<(), WalError> {
        self.write_staged(false).map(drop)
    }

    /// As [`Log::commit`]; returns the payloads, for who has a use for their memory.
    pub(crate) fn write_staged(&mut self, sync: bool) -> Result<Vec<Vec<u8>>, WalError> {
        self.alive()?;
        let bytes = std::mem::take(&mut self.staged_bytes);
        // Taken out first: whatever fails from here on, nobody may write this group later.
        let group = std::mem::take(&mut self.staged);
        if bytes > self.writer.remaining() {
            self.start_file(bytes)?;
        }
        for payload in group {
            // Fits, by the line above; an error can only repeat an earlier failure.
            let appended = self.writer.append(payload);
            appended.map_err(|error| self.fail(error))?;
        }
        let written =
            if sync { self.writer.write_group_synced() } else { self.writer.write_group() };
        written.map_err(|error| self.fail(error))
    }

    /// Makes every written batch durable; returns the last durable LSN.
    ///
    /// # Errors
    /// [`WalError::Poisoned`], now and for ever: nothing written since the last sync may be
    /// trusted.
    pub fn sync(&mut self) -> Result<Lsn, WalError> {
        self.alive()?;
        let synced = self.writer.sync();
        synced.map(Lsn::new).map_err(|error| self.fail(error))
    }

    /// Syncs, and adds a frame that says so; from then on rot in the last batches is detected.
    /// Does nothing when nothing was written since the last seal.
    ///
    /// # Errors
    /// [`WalError::Poisoned`], now and for ever.
    ///
    /// # Panics
    /// When batches are staged: commit them first.
    pub fn seal(&mut self) -> Result<(), WalError> {
        assert!(self.staged.is_empty(), "commit the staged group before sealing");
        self.alive()?;
        let sealed = self.writer.seal();
        sealed.map_err(|error| self.fail(error))
    }

    /// True when nothing was written since the last seal.
    pub fn is_sealed(&self) -> bool {
        self.writer.is_sealed()
    }

    /// Completes the current file and goes on in a new one, so that a quiet log can be let go of.
    /// Does nothing when the current file has no batches.
    ///
    /// # Errors
    /// As [`Log::commit`].
    ///
    /// # Panics
    /// When batches are staged: commit them first.
    pub fn roll(&mut self) -> Result<(), WalError> {
        assert!(self.staged.is_empty(), "commit the staged group before rolling");
        self.alive()?;
        if self.active_file().is_empty() { Ok(()) } else { self.start_file(0) }
    }

    /// Completes the current file, then makes one with room for `group_bytes` of frames.
    fn start_file(&mut self, group_bytes: u64) -> Result<(), WalError> {
        let sealed = self.writer.seal();
        sealed.map_err(|error| self.fail(error))?;
        let number = self.writer.header().number + 1;
        let path = wal_path(&self.dir, number);
        let new = NewFile {
            path: &path,
            kind: WAL_KIND,
            number,
            first_seq: self.writer.last_seq() + 1,
            bytes: self.options.file_bytes.max(framed_file_bytes(group_bytes)),
            predecessor: Some(self.writer.as_predecessor()),
            replaces: None,
            frame_bytes_max: self.payload_bytes_max(),
            zero_ahead: self.options.zero_ahead_bytes,
        };
        let made = FramedWriter::create(&self.env, &new, []);
        let writer = made.map_err(|error| self.fail(error))?;
        self.completed.push_back(self.active_file());
        self.writer = writer;
        Ok(())
    }

    /// Passes an error on, after remembering it if the log must not go on.
    ///
    /// Making a file can fail before anything of it is visible: with a full disk, or too few
    /// descriptors. The old file is whole and can take smaller groups, so the log goes on. Once
    /// the new name may exist (a failed rename or directory sync) it must not: a frame appended
    /// to the old file would contradict the new header. Other write and sync failures say that
    /// the disk is ill, and stop the log like any other.
    fn fail(&mut self, error: WalError) -> WalError {
        let first = match error {
            WalError::NoSpace { .. } => return error,
            WalError::Fs(ref failed) if matches!(failed.op, FsOp::Create | FsOp::Allocate) => {
                return error;
            }
            WalError::Poisoned(first) => first,
            other => Arc::new(other),
        };
        if planted("wal.poison-forgotten") {
            return WalError::Poisoned(first);
        }
        WalError::Poisoned(Arc::clone(self.poison.get_or_insert(first)))
    }

    /// Forgets everything staged; its LSNs are given again.
    pub fn unstage(&mut self) {
        self.staged.clear();
        self.staged_bytes = 0;
    }

    /// Stops the log for ever, for a reason outside it.
    pub(crate) fn poison(&mut self, error: WalError) -> WalError {
        self.unstage();
        self.fail(error)
    }

    fn alive(&self) -> Result<(), WalError> {
        self.poison.as_ref().map_or(Ok(()), |first| Err(WalError::Poisoned(Arc::clone(first))))
    }

    /// The first failure, once there was one: nothing is written any more.
    pub fn poisoned(&self) -> Option<&Arc<WalError>> {
        self.poison.as_ref()
    }

    /// Removes completed files whose last LSN is at most `lsn`, oldest first, each durably before
    /// the next. The current file stays. Returns the files removed.
    ///
    /// `lsn` must come from a durable manifest that names where all those records are now: advance
    /// it from confirmed flushes, never from what is in memory.
    ///
    /// # Errors
    /// [`WalError::Poisoned`]: a log that stopped keeps its files as they are. Otherwise the failed
    /// call; writing goes on, and if it is unknown whether a name is gone, removal works again
    /// only after the next open.
    pub fn remove_upto(&mut self, lsn: Lsn) -> Result<Vec<LogFile>, Arc<WalError>> {
        self.alive()?;
        if let Some(first) = &self.removal_failed {
            return Err(Arc::clone(first));
        }
        let mut removed = Vec::new();
        let covered = |file: &LogFile| {
            let one_too_many = planted("wal.one-file-too-many-removed") && file.first_lsn <= lsn;
            file.last_lsn <= lsn || one_too_many
        };
        while let Some(&file) = self.completed.front().filter(|file| covered(file)) {
            let path = wal_path(&self.dir, file.number);
            match self.env.fs.remove_file(&path) {
                Err(error) if !error.is_not_found() => return Err(Arc::new(error.into())),
                _ => {}
            }
            self.completed.pop_front();
            if let Err(error) = self.env.fs.sync_dir(&self.dir) {
                let error = Arc::new(WalError::Fs(error));
                self.removal_failed = Some(Arc::clone(&error));
                return Err(error);
            }
            removed.push(file);
        }
        Ok(removed)
    }

    /// The files of the log, oldest first; the last is the current one.
    pub fn files(&self) -> Vec<LogFile> {
        self.completed.iter().copied().chain([self.active_file()]).collect()
    }

    /// The number of completed files, without listing them.
    pub(crate) fn completed_count(&self) -> usize {
        self.completed.len()
    }

    /// The current file.
    pub fn active_file(&self) -> LogFile {
        let header = self.writer.header();
        LogFile {
            number: header.number,
            first_lsn: Lsn::new(header.first_seq),
            last_lsn: self.last_lsn(),
            bytes: self.writer.end(),
            allocated: header.allocated_len,
        }
    }

    /// The bytes in use over all files (not the space reserved for them).
    pub fn bytes(&self) -> u64 {
        self.completed.iter().map(|file| file.bytes).sum::<u64>() + self.writer.end()
    }

    /// The directory.
    pub fn dir(&self) -> &Path {
        &self.dir
    }
}
