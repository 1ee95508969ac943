//! Opening a log: applies what `recover` planned.
//!
//! # Protocol
//! A recovered file is never appended to: its page cache may hold what the disk does not, and a
//! torn tail would stay in the middle. Its frames are carried over to a new file instead:
//! 1. sync the directory, so that what was just read rests on durable names;
//! 2. remove void and half-made files;
//! 3. where the caller needs nothing of the files before the last, and not all of the last, remove
//!    those, oldest first, each durably before the next;
//! 4. make the new file: it `replaces` the last one, and follows the same predecessor (none, if
//!    that went in 3, in which case only the frames that are still needed are carried over). It is
//!    synced before it gets its name, and its name before anything else happens;
//! 5. remove the replaced file, sync the directory.
//!
//! # Crash consistency
//! Before 4 is done the old last file counts; after, the new one does, and step 2 of the next open
//! removes the old. Both hold the same frames, or all that is needed of them, so any number of
//! crashes in here ends in the same log. It never grows: an open adds a file of the size of the one
//! that it removes, seals are not carried over, and at most one such pair exists at a time, because
//! step 2 comes before step 4. A file whose predecessor went in 3 is the first of the chain, which
//! names a file that need not be there.

#![deny(clippy::indexing_slicing)]

use super::{
    Log, LogOptions, ReplayReport, WAL_KIND,
    files::wal_path,
    recover::{self, Last, Plan, Replay},
};
use crate::{
    Env, Lsn, WalError,
    framed::{FramedWriter, NewFile},
};
use akidb_vfs::{Fs, FsError};
use std::path::{Path, PathBuf};

/// A log that was read, judged and replayed, and that nothing was done to yet: the caller may still
/// find a reason to leave it as it is. [`RecoveredLog::take_over`] goes on with it.
///
/// ```
/// use akidb_vfs::{RealFs, SystemRandom};
/// use akidb_wal::{Env, Log, LogOptions, Lsn, WalError};
/// use std::sync::Arc;
/// # let dir = tempfile::tempdir().unwrap();
/// let env = Env::new(Arc::new(RealFs), Arc::new(SystemRandom::new()));
/// let options = LogOptions { file_bytes: 1 << 20, ..LogOptions::default() };
/// let found = Log::recover(&*env.fs, dir.path(), options, Lsn::ZERO, &mut |_, _| Ok(()))?;
/// assert_eq!(found.report().frames, 0);
/// let (mut log, _report) = found.take_over(&env)?;
/// log.append(b"first batch".to_vec())?;
/// # Ok::<(), WalError>(())
/// ```
#[derive(Debug)]
#[must_use = "a log is not open before it is taken over"]
pub struct RecoveredLog {
    dir: PathBuf,
    options: LogOptions,
    /// Nothing up to here is needed.
    replay_after: Lsn,
    plan: Plan,
}

impl Log {
    /// Opens the log in `dir`, making it if there is none: replays every batch, in order, to
    /// `replay`, then gets ready to append. The same as [`Log::recover`] and then
    /// [`RecoveredLog::take_over`].
    ///
    /// `replay_after` is what the caller knows to be in the log and no longer needs from it: the
    /// log must begin at or before the next LSN and must not end before it. The caller therefore
    /// syncs the log up to a mark *before* it makes the mark durable. Batches up to it are replayed
    /// too where they are still there.
    ///
    /// # Errors
    /// [`WalError::Corruption`], [`WalError::Newer`], [`WalError::Foreign`],
    /// [`WalError::Replay`]: nothing was changed. [`WalError::NoSpace`], [`WalError::Fs`]: a later
    /// open finds the same batches.
    pub fn open(
        env: &Env,
        dir: &Path,
        options: LogOptions,
        replay_after: Lsn,
        replay: &mut Replay<'_>,
    ) -> Result<(Self, ReplayReport), WalError> {
        env.fs.create_dir_all(dir)?;
        Self::recover(&*env.fs, dir, options, replay_after, replay)?.take_over(env)
    }

    /// Reads and judges the log in `dir`, replaying as [`Log::open`] would, and changes nothing.
    ///
    /// # Errors
    /// As [`Log::open`]; [`WalError::Fs`] if the directory does not exist.
    pub fn recover(
        fs: &dyn Fs,
        dir: &Path,
        options: LogOptions,
        replay_after: Lsn,
        replay: &mut Replay<'_>,
    ) -> Result<RecoveredLog, WalError> {
        let plan = recover::plan(fs, dir, options, replay_after, replay)?;
        Ok(RecoveredLog { dir: dir.to_owned(), options, replay_after, plan })
    }

    /// What [`Log::recover`] finds; the report's `removed` is empty.
    ///
    /// # Errors
    /// As [`Log::recover`].
    pub fn verify(
        fs: &dyn Fs,
        dir: &Path,
        options: LogOptions,
        replay_after: Lsn,
        replay: &mut Replay<'_>,
    ) -> Result<ReplayReport, WalError> {
        let found = Self::recover(fs, dir, options, replay_after, replay)?;
        Ok(found.plan.report)
    }
}

impl RecoveredLog {
    /// What was found.
    pub fn report(&self) -> &ReplayReport {
        &self.plan.report
    }

    /// Gets the log ready to append, under the protocol of [`Log::open`].
    ///
    /// # Errors
    /// [`WalError::NoSpace`], [`WalError::Fs`]: a later open finds all batches that are needed.
    pub fn take_over(mut self, env: &Env) -> Result<(Log, ReplayReport), WalError> {
        let (fs, dir) = (&*env.fs, &*self.dir);
        if !self.plan.stale.is_empty() {
            fs.sync_dir(dir)?;
        }
        for path in &self.plan.stale {
            remove_if_there(fs, path)?;
        }
        self.plan.report.removed.append(&mut self.plan.stale);
        let covered = self.covered();
        if covered {
            while let Some(file) = self.plan.completed.pop_front() {
                let path = wal_path(dir, file.number);
                remove_if_there(fs, &path)?;
                fs.sync_dir(dir)?;
                self.plan.report.removed.push(path);
            }
        }
        let writer = self.carry_over(env, covered)?;
        if let Some(last) = self.plan.last {
            remove_if_there(fs, &last.path)?;
            fs.sync_dir(dir)?;
            self.plan.report.removed.push(last.path);
        }
        let log = Log {
            env: env.clone(),
            dir: self.dir,
            options: self.options,
            completed: self.plan.completed,
            writer,
            staged: Vec::new(),
            staged_bytes: 0,
            poison: None,
            removal_failed: None,
        };
        Ok((log, self.plan.report))
    }

    /// Does what is needed begin inside the last file, or after it? Then it is all of the log.
    fn covered(&self) -> bool {
        let last = self.plan.last.as_ref();
        last.is_some_and(|last| last.image.header().first_seq <= self.replay_after.get())
    }

    /// The file to append to, with the frames of the last one in it that are still needed.
    fn carry_over(&self, env: &Env, covered: bool) -> Result<FramedWriter, WalError> {
        let plan = &self.plan;
        let path = wal_path(&self.dir, plan.next_number);
        let mut new = NewFile::new(&path, WAL_KIND, plan.next_number, self.options.file_bytes);
        new.zero_ahead = self.options.zero_ahead_bytes;
        new.first_seq = self.options.begins_after.next().get();
        let mut carried = Vec::new();
        if let Some(Last { image, .. }) = &plan.last {
            new.replaces = Some(image.header().number);
            if covered {
                new.first_seq = self.replay_after.next().get();
            } else {
                new.first_seq = image.header().first_seq;
                new.predecessor = image.header().predecessor;
            }
            carried = image.payloads(new.first_seq);
        }
        // What was written under a higher limit than today's must still be carried over; only new
        // batches are held to it, by `Log::append`.
        let writer = FramedWriter::create(env, &new, carried)?;
        assert!(
            writer.last_seq() == plan.report.last_lsn.get(),
            "what was carried over is not what was replayed"
        );
        Ok(writer)
    }
}

fn remove_if_there(fs: &dyn Fs, path: &Path) -> Result<(), FsError> {
    match fs.remove_file(path) {
        Err(error) if !error.is_not_found() => Err(error),
        _ => Ok(()),
    }
}
