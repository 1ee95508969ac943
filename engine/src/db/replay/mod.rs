//! Replay: the records of the log become memtables again. Owns the way from a frame's payload to an
//! applied batch; must never change the directory except by segments that nothing names yet.
//! Called by `open`, once.
//!
//! # Protocol
//! 1. A second thread reads and checks the log (`akidb_wal`), skips the records that are in segments
//!    already, and decodes the others (`decode`) into parcels (`parcel`). The memory of their vectors
//!    and metadata is taken here, in blocks: the first touch of memory is what a replay spends most
//!    on, and row by row an allocator grows the heap of a thread that has just started page by page.
//! 2. The calling thread applies them in LSN order (`apply`): a place in an id table for each row.
//!    Driven inline there is no second thread, and each record is applied where it was read.
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
mod parcel;
mod spill;

use super::{Components, DbCore, RecoveryReport, TornTail, open::Collections, paths::Paths};
use crate::{
    commit::{BATCH_BYTES_MAX, Shared},
    error::{Cause, Error, Result},
    manifest::ManifestState,
};
use akidb_wal::{Env, Log, LogOptions, Lsn, RecoveredLog, ReplayReport, WalError};
use apply::Applier;
use decode::Decoder;
use parcel::Parcel;
use spill::Spilled;
use std::{panic::resume_unwind, sync::atomic::AtomicU64, thread};

/// What a replay works on.
#[derive(Clone, Copy)]
pub(super) struct Recovery<'a> {
    pub(super) env: &'a Env,
    pub(super) parts: &'a Components,
    pub(super) paths: &'a Paths,
    pub(super) shared: &'a Shared,
    pub(super) state: &'a ManifestState,
    /// True if the directory has no manifest yet: then the log need not be there.
    pub(super) begins: bool,
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
        let (mut decoder, mut applier) = (Decoder::new(self), Applier::new(self));
        let recovered = self.read_log(&mut decoder, &mut applier).and_then(|log| {
            self.check_end(&log)?;
            Ok(log.take_over(self.env)?)
        });
        (report.batches_applied, report.rows_applied) = (decoder.batches, decoder.rows);
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

    /// Reads the whole log and has `applier` apply what `decoder` makes of it.
    fn read_log(
        &self,
        decoder: &mut Decoder<'_>,
        applier: &mut Applier<'_>,
    ) -> Result<RecoveredLog> {
        if self.parts.inline {
            let mut parcel = Parcel::default();
            return self.walk(&mut |lsn, body| {
                parcel.make_room(body.len());
                parcel.push(decoder, lsn, body)?;
                applier.apply(&mut parcel).map(|()| true)
            });
        }
        let (mut feeder, parcels) = parcel::channel();
        let ahead = self.log_fits_pool();
        thread::scope(|scope| {
            let reading = akidb_vfs::thread::spawn_scoped(scope, "replay", move || {
                let walked = self.walk(&mut |lsn, body| feeder.push(decoder, lsn, body));
                // What was read before a failure is applied as well: if that fails too, then at an
                // earlier record, which is the one to report.
                feeder.finish();
                walked
            });
            let reading = reading.map_err(Cause::Thread)?;
            let applied = parcels.try_for_each(ahead, |parcel| applier.apply(parcel));
            let walked = reading.join().unwrap_or_else(|panic| resume_unwind(panic));
            applied.and(walked)
        })
    }

    /// Will everything that is replayed stay in memory? If not, memory is given back on the way and
    /// taken again, and allocators keep what they got by thread: taken by both threads it would
    /// add up. Only a hint, so whatever goes wrong here is left to the walk to report.
    fn log_fits_pool(&self) -> bool {
        let (fs, dir) = (&*self.parts.fs, &self.paths.wal);
        let Ok(files) = fs.list_dir(dir) else { return false };
        let len = |name| fs.metadata(&dir.join(name)).map_or(u64::MAX, |meta| meta.len);
        let bytes = files.into_iter().fold(0, |sum: u64, file| sum.saturating_add(len(file.name)));
        bytes <= self.shared.settings.memtable_pool_bytes
    }

    /// Hands every record of the log to `next`, until it returns false.
    fn walk(&self, next: &mut dyn FnMut(Lsn, &[u8]) -> Result<bool>) -> Result<RecoveredLog> {
        let mut failure = None;
        let mut replay = |lsn: Lsn, body: &[u8]| match next(lsn, body) {
            Ok(true) => Ok(()),
            Ok(false) => Err("records are no longer applied".into()),
            Err(error) => {
                failure = Some(error.clone());
                Err(error.into())
            }
        };
        let options = LogOptions {
            file_bytes: self.shared.settings.wal_file_bytes,
            frame_bytes_max: BATCH_BYTES_MAX as u32,
            zero_ahead_bytes: self.shared.settings.wal_zero_ahead_bytes,
            must_exist: !self.begins,
            begins_after: if self.begins { self.state.log_floor } else { Lsn::ZERO },
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
pub(super) fn install(core: &DbCore, spilled: &[Spilled]) -> Result<()> {
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
