//! Replay: the records of the log become memtables again. Owns the way from a frame's payload to an
//! applied batch; must never change the directory except by segments that nothing names yet.
//! Called by `open`, once.
//!
//! # Protocol
//! 1. The calling thread reads and checks the log (`akidb_wal`), and decodes each record
//!    (`decode`). Records up to a collection's `flushed` are in its segments already.
//! 2. A second thread applies the batches, in LSN order. Between the two is a short queue; driven
//!    inline there is neither, and each batch is applied where it was decoded.
//! 3. When the memtable pool is full, the oldest memtable is written as a segment (`spill`), so that
//!    recovery takes no more memory than the life before it.
//! 4. Only after everything was applied is the log taken over, and only after that does the manifest
//!    name what was spilled ([`Replayed::install`]).
//!
//! # Crash consistency
//! Up to step 4 nothing but strays was made: a replay that fails, or loses power, leaves the same log
//! and the same manifest. Spilled segments may hold records that the disk does not have yet (the end
//! of the last WAL file); step 4 makes the log durable before the manifest says `flushed`.

#![deny(clippy::indexing_slicing)]

mod apply;
mod decode;
mod spill;

use super::{Components, DbCore, RecoveryReport, TornTail, open::Collections, paths::Paths};
use crate::{
    commit::{BATCH_BYTES_MAX, Shared},
    error::{Cause, Error, Result},
    manifest::ManifestState,
};
use akidb_wal::{Env, Log, LogOptions, Lsn, RecoveredLog, ReplayReport, WalError};
use apply::Applier;
use decode::{Batch, Decoder};
use spill::{Spill, Spilled};
use std::{
    panic::resume_unwind,
    sync::{atomic::AtomicU64, mpsc},
    thread,
};

/// Decoded batches go from thread to thread in parcels of about this many bytes of log: one by one,
/// each would cost a wake-up.
const PARCEL_BYTES: usize = 256 << 10;
/// Parcels that may wait. With those in the two threads' hands, and batches of at most 16 MiB, this
/// bounds what replay holds beside the memtables.
const PARCELS_MAX: usize = 2;

/// What a replay works on.
#[derive(Clone, Copy)]
pub(super) struct Recovery<'a> {
    pub(super) env: &'a Env,
    pub(super) parts: &'a Components,
    pub(super) paths: &'a Paths,
    pub(super) shared: &'a Shared,
    pub(super) state: &'a ManifestState,
    pub(super) collections: &'a Collections,
    pub(super) next_file: &'a AtomicU64,
}

/// What a replay leaves to be done.
pub(super) struct Replayed {
    pub(super) log: Log,
    pub(super) spilled: Vec<Spilled>,
}

impl Recovery<'_> {
    /// Replays the log and takes it over.
    pub(super) fn run(&self, report: &mut RecoveryReport) -> Result<Replayed> {
        let mut applier = Applier::new(self.shared, Spill::new(self));
        let recovered = self.read_log(report, &mut applier).and_then(|log| {
            self.check_end(&log)?;
            Ok(log.take_over(self.env)?)
        });
        let spilled = applier.into_spilled();
        match recovered {
            Ok((log, replayed)) => {
                self.note(report, replayed);
                report.segments_flushed = spilled.iter().map(|one| one.parts.len() as u64).sum();
                Ok(Replayed { log, spilled })
            }
            Err(error) => {
                spill::discard(&*self.parts.fs, &spilled);
                Err(error)
            }
        }
    }

    /// Reads the whole log and sends its batches through `applier`.
    fn read_log(
        &self,
        report: &mut RecoveryReport,
        applier: &mut Applier<'_>,
    ) -> Result<RecoveredLog> {
        let mut decoder = Decoder::new(self);
        let log = if self.parts.inline {
            self.walk(&mut decoder, &mut |batch| applier.apply(batch).map(|()| true))
        } else {
            self.read_beside(&mut decoder, applier)
        };
        report.batches_applied = decoder.batches;
        report.rows_applied = decoder.rows;
        log
    }

    /// As `read_log`, with the batches applied on a second thread.
    fn read_beside(
        &self,
        decoder: &mut Decoder<'_>,
        applier: &mut Applier<'_>,
    ) -> Result<RecoveredLog> {
        let (sender, receiver) = mpsc::sync_channel::<Vec<Batch>>(PARCELS_MAX);
        thread::scope(|scope| {
            let applying = akidb_vfs::thread::spawn_scoped(scope, "replay", move || {
                receiver.into_iter().flatten().try_for_each(|batch| applier.apply(batch))
            });
            let applying = applying.map_err(Cause::Thread)?;
            let mut parcel = Vec::new();
            let mut bytes = 0;
            let walked = self.walk(decoder, &mut |batch: Batch| {
                bytes += batch.bytes;
                parcel.push(batch);
                if bytes < PARCEL_BYTES {
                    return Ok(true);
                }
                bytes = 0;
                // Nobody receives any more once applying has failed.
                Ok(sender.send(std::mem::take(&mut parcel)).is_ok())
            });
            // What was decoded before a failure is applied as well: if applying fails too, then at
            // an earlier record, which is the one to report.
            let _ = sender.send(parcel);
            drop(sender);
            let applied = applying.join().unwrap_or_else(|panic| resume_unwind(panic));
            applied.and(walked)
        })
    }

    /// Hands every batch that is still to be applied to `next`, until it returns false.
    fn walk(
        &self,
        decoder: &mut Decoder<'_>,
        next: &mut dyn FnMut(Batch) -> Result<bool>,
    ) -> Result<RecoveredLog> {
        let mut failure = None;
        let mut replay = |lsn: Lsn, body: &[u8]| {
            let handed =
                decoder.decode(lsn, body).and_then(|batch| batch.map_or(Ok(true), &mut *next));
            match handed {
                Ok(true) => Ok(()),
                Ok(false) => Err("batches are no longer applied".into()),
                Err(error) => {
                    failure = Some(error.clone());
                    Err(error.into())
                }
            }
        };
        let options = LogOptions {
            file_bytes: self.shared.settings.wal_file_bytes,
            frame_bytes_max: BATCH_BYTES_MAX as u32,
            must_exist: !self.state.database.is_nil(),
        };
        let fs = &*self.parts.fs;
        let recovered =
            Log::recover(fs, &self.paths.wal, options, self.state.log_floor, &mut replay);
        match (recovered, failure) {
            (Ok(log), _) => Ok(log),
            // The callback's own error says more than the log's "replay stopped".
            (Err(WalError::Replay { .. }), Some(error)) => Err(error),
            (Err(error), _) => Err(error.into()),
        }
    }

    /// Does the log reach as far as the segments?
    fn check_end(&self, log: &RecoveredLog) -> Result<()> {
        let last = log.report().last_lsn;
        let flushed = self.state.collections.values().map(|c| c.flushed).max();
        match flushed.filter(|&flushed| last < flushed) {
            None => Ok(()),
            Some(flushed) => {
                let detail = format!("the log ends at LSN {last}, segments hold {flushed}");
                Err(Error::corruption(&self.paths.wal, 0, detail))
            }
        }
    }

    fn note(&self, report: &mut RecoveryReport, replayed: ReplayReport) {
        report.wal_files = replayed.files;
        report.wal_bytes = replayed.bytes;
        report.batches = replayed.frames;
        report.last_lsn = replayed.last_lsn.get();
        report.torn_tail = replayed.torn.map(|torn| TornTail {
            file: torn.file,
            offset: torn.tail.offset,
            bytes: torn.tail.bytes,
            reason: torn.tail.reason.to_string(),
        });
        let unknown = replayed.skipped_unknown.iter().map(|name| self.paths.wal.join(name));
        report.unknown_files.extend(unknown);
    }
}

/// Makes the manifest name what was spilled, and lets go of the log that it covers.
pub(super) fn install(core: &DbCore, spilled: Vec<Spilled>) -> Result<()> {
    if spilled.is_empty() {
        return Ok(());
    }
    let marks: Vec<_> = spilled.iter().map(|one| (one.collection.clone(), one.upto)).collect();
    if let Err(error) = core.install_recovered(&marks) {
        spilled.iter().for_each(|one| core.discard(&one.parts));
        return Err(error);
    }
    spilled.iter().for_each(|one| core.counters.flushed(one.rows));
    core.trim_log();
    Ok(())
}
