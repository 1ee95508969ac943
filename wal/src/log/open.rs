//! Opening a log: applies what `recover` planned.
//!
//! # Protocol
//! A recovered file is never appended to: its page cache may hold what the disk does not, and a
//! torn tail would stay in the middle. Its frames are carried over to a new file instead:
//! 1. sync the directory, so that what was just read rests on durable names;
//! 2. remove void and half-made files;
//! 3. make the new file: it `replaces` the last one, and follows the same predecessor. It is
//!    synced before it gets its name, and its name before anything else happens;
//! 4. remove the replaced file, sync the directory.
//!
//! # Crash consistency
//! Before 3 is done the old last file counts; after, the new one does, and step 2 of the next open
//! removes the old. Both hold the same frames, so any number of crashes in here ends in the same
//! log. It never grows: an open adds a file of the size of the one that it removes, seals are not
//! carried over, and at most one such pair exists at a time, because step 2 comes before step 3.

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
use std::path::Path;

impl Log {
    /// Opens the log in `dir`, making it if there is none: replays every batch, in order, to
    /// `replay`, then gets ready to append.
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
        let mut plan = recover::plan(&*env.fs, dir, options, replay_after, replay)?;
        if !plan.stale.is_empty() {
            env.fs.sync_dir(dir)?;
        }
        for path in &plan.stale {
            remove_if_there(&*env.fs, path)?;
        }
        let writer = carry_over(env, dir, options, &plan)?;
        plan.report.removed = plan.stale;
        if let Some(last) = plan.last {
            remove_if_there(&*env.fs, &last.path)?;
            env.fs.sync_dir(dir)?;
            plan.report.removed.push(last.path);
        }
        let log = Self {
            env: env.clone(),
            dir: dir.to_owned(),
            options,
            completed: plan.completed,
            writer,
            staged: Vec::new(),
            staged_bytes: 0,
            poison: None,
            removal_failed: None,
        };
        Ok((log, plan.report))
    }

    /// Reads and judges the log in `dir` as [`Log::open`] would, and changes nothing. The report's
    /// `removed` stays empty.
    ///
    /// # Errors
    /// As [`Log::open`]; [`WalError::Fs`] if the directory does not exist.
    pub fn verify(
        fs: &dyn Fs,
        dir: &Path,
        options: LogOptions,
        replay_after: Lsn,
        replay: &mut Replay<'_>,
    ) -> Result<ReplayReport, WalError> {
        recover::plan(fs, dir, options, replay_after, replay).map(|plan| plan.report)
    }
}

/// The file to append to, with the frames of the last one in it.
fn carry_over(
    env: &Env,
    dir: &Path,
    options: LogOptions,
    plan: &Plan,
) -> Result<FramedWriter, WalError> {
    let path = wal_path(dir, plan.next_number);
    let mut new = NewFile::new(&path, WAL_KIND, plan.next_number, options.file_bytes);
    new.zero_ahead = options.zero_ahead_bytes;
    let mut carried = Vec::new();
    if let Some(Last { image, .. }) = &plan.last {
        new.first_seq = image.header().first_seq;
        new.predecessor = image.header().predecessor;
        new.replaces = Some(image.header().number);
        carried = image.payloads();
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

fn remove_if_there(fs: &dyn Fs, path: &Path) -> Result<(), FsError> {
    match fs.remove_file(path) {
        Err(error) if !error.is_not_found() => Err(error),
        _ => Ok(()),
    }
}
