//! What an open finds in a log's directory, and what it will do about it. Reads, replays and
//! judges; changes nothing. `open` applies the plan, [`crate::Log::verify`] only reports it.
//!
//! # Protocol
//! 1. List the directory; read and verify every WAL file's header and length.
//! 2. A file that another one's header says it replaces is void: its frames are in that other.
//! 3. The rest must be a chain: each header names the file before it, its last frame's number and
//!    checksum. A file missing in the middle, or at the start where the caller still needs it, is
//!    corruption.
//! 4. Scan the files in order and replay their frames. Every file but the last was complete before
//!    its successor got its name, so only the last may have a torn tail. The last is held in memory,
//!    because it will be written again; of the others there is a window.

#![deny(clippy::indexing_slicing)]

use super::{
    LogOptions,
    files::{self, LogFile, WAL_KIND, wal_path},
};
use crate::{
    CorruptionDetail, Lsn, ReplayStop, WalError,
    framed::{FileHeader, FrameRef, FramedFile, ScanReport, TornTail, Window, scan_through},
};
use akidb_vfs::{Fs, planted};
use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    ffi::OsString,
    path::{Path, PathBuf},
};

/// What an open replayed and did.
#[derive(Clone, Debug, Default)]
pub struct ReplayReport {
    /// WAL files read.
    pub files: u64,
    /// Batches replayed.
    pub frames: u64,
    /// Their payload bytes.
    pub bytes: u64,
    /// What a crash left of the last writes, none of which was ever durable.
    pub torn: Option<TornFile>,
    /// Files removed: half made, or replaced by one that is durable.
    pub removed: Vec<PathBuf>,
    /// Names in the directory that are not the log's; nothing was done to them.
    pub skipped_unknown: Vec<OsString>,
    /// The last LSN; the next batch gets the one after it.
    pub last_lsn: Lsn,
}

/// A torn tail, and the file it was found in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TornFile {
    /// The file.
    pub file: PathBuf,
    /// Where and why.
    pub tail: TornTail,
}

/// What is to be done, and what is known by then.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) report: ReplayReport,
    /// All files but the last.
    pub(super) completed: VecDeque<LogFile>,
    /// The last file, to be carried over.
    pub(super) last: Option<Last>,
    /// Void files, to be removed.
    pub(super) stale: Vec<PathBuf>,
    /// The number for the next file.
    pub(super) next_number: u64,
}

/// The last file of the chain.
#[derive(Debug)]
pub(super) struct Last {
    pub(super) path: PathBuf,
    pub(super) image: FramedFile,
}

/// Called with every batch of a log, in order; an error ends the replay and the open.
pub type Replay<'r> = dyn FnMut(Lsn, &[u8]) -> Result<(), ReplayStop> + 'r;

pub(super) fn plan(
    fs: &dyn Fs,
    dir: &Path,
    options: LogOptions,
    replay_after: Lsn,
    replay: &mut Replay<'_>,
) -> Result<Plan, WalError> {
    let listing = files::list(fs, dir)?;
    let mut headers = BTreeMap::new();
    for &number in &listing.numbers {
        headers.insert(number, read_header(fs, dir, number)?);
    }
    let void: BTreeSet<u64> = headers.values().filter_map(|header| header.replaces).collect();
    let newest = headers.keys().next_back().copied().unwrap_or(0);
    let (stale, live): (Vec<_>, Vec<_>) =
        headers.into_iter().partition(|(number, _)| void.contains(number));
    let temps = listing.temps.into_iter().map(|(_, path)| path);
    let stale = stale.into_iter().map(|(number, _)| wal_path(dir, number)).chain(temps).collect();
    let live: Vec<FileHeader> = live.into_iter().map(|(_, header)| header).collect();
    check_chain(dir, options, replay_after, &live)?;

    let mut plan = Plan {
        report: ReplayReport { skipped_unknown: listing.unknown, ..ReplayReport::default() },
        completed: VecDeque::new(),
        last: None,
        stale,
        next_number: newest.checked_add(1).ok_or_else(|| {
            let detail = CorruptionDetail::HeaderField { field: "number", value: newest };
            WalError::corruption(wal_path(dir, newest), 0, detail)
        })?,
    };
    let successors = live.iter().skip(1);
    let mut window = Window::new();
    for (header, successor) in live.iter().zip(successors) {
        plan.replay_completed(fs, dir, (header, successor), &mut window, replay)?;
    }
    drop(window);
    match live.last() {
        Some(header) => plan.replay_last(fs, dir, header, replay)?,
        None => plan.report.last_lsn = options.begins_after,
    }
    let last = plan.report.last_lsn;
    if last < replay_after {
        let detail = CorruptionDetail::EndsEarly { last, expected: replay_after };
        return Err(WalError::corruption(dir, 0, detail));
    }
    Ok(plan)
}

/// Reads one header and compares it with the file's name.
fn read_header(fs: &dyn Fs, dir: &Path, name: u64) -> Result<FileHeader, WalError> {
    let path = wal_path(dir, name);
    let header = FramedFile::read_header(fs, &path, WAL_KIND)?;
    if header.number == name {
        Ok(header)
    } else {
        let detail = CorruptionDetail::WrongNumber { header: header.number, name };
        Err(WalError::corruption(path, 0, detail))
    }
}

/// Are all files there that the caller needs, each following the one before it?
fn check_chain(
    dir: &Path,
    options: LogOptions,
    replay_after: Lsn,
    live: &[FileHeader],
) -> Result<(), WalError> {
    let Some(first) = live.first() else {
        let known = options.must_exist || replay_after > options.begins_after;
        return if known {
            Err(WalError::corruption(dir, 0, CorruptionDetail::MissingLog))
        } else {
            Ok(())
        };
    };
    let corrupt = |header: &FileHeader, detail| {
        Err(WalError::corruption(wal_path(dir, header.number), 0, detail))
    };
    if first.first_seq > replay_after.next().get() {
        let (needed, first_lsn) = (replay_after.next(), Lsn::new(first.first_seq));
        return corrupt(first, CorruptionDetail::MissingStart { needed, first: first_lsn });
    }
    if planted("wal.chain-unchecked") {
        return Ok(());
    }
    for (before, after) in live.iter().zip(live.iter().skip(1)) {
        let Some(link) = after.predecessor.filter(|link| link.number == before.number) else {
            let number = after.predecessor.map_or(before.number, |link| link.number);
            return corrupt(after, CorruptionDetail::MissingFile { number });
        };
        let expected_seq = link.last_seq.saturating_add(1);
        if after.first_seq != expected_seq {
            let first_seq = after.first_seq;
            return corrupt(after, CorruptionDetail::BrokenSequence { first_seq, expected_seq });
        }
    }
    Ok(())
}

impl Plan {
    fn replay_completed(
        &mut self,
        fs: &dyn Fs,
        dir: &Path,
        (header, successor): (&FileHeader, &FileHeader),
        window: &mut Window,
        replay: &mut Replay<'_>,
    ) -> Result<(), WalError> {
        let path = wal_path(dir, header.number);
        let found =
            scan_through(fs, &path, WAL_KIND, window, &mut |frame| hand_over(replay, &frame))?;
        self.count(&found);
        check_completed(&path, &found, successor)?;
        self.completed.push_back(LogFile {
            number: header.number,
            first_lsn: Lsn::new(header.first_seq),
            last_lsn: Lsn::new(found.last_seq),
            bytes: found.end,
            allocated: header.allocated_len,
        });
        Ok(())
    }

    fn replay_last(
        &mut self,
        fs: &dyn Fs,
        dir: &Path,
        header: &FileHeader,
        replay: &mut Replay<'_>,
    ) -> Result<(), WalError> {
        let path = wal_path(dir, header.number);
        let image = FramedFile::read(fs, &path, WAL_KIND)?;
        let found = image.scan(&mut |frame| hand_over(replay, &frame))?;
        self.count(&found);
        self.report.torn = found.torn.map(|tail| TornFile { file: path.clone(), tail });
        self.last = Some(Last { path, image });
        Ok(())
    }

    fn count(&mut self, found: &ScanReport) {
        self.report.files += 1;
        self.report.frames += found.frames;
        self.report.bytes += found.payload_bytes;
        self.report.last_lsn = Lsn::new(found.last_seq);
    }
}

fn hand_over(replay: &mut Replay<'_>, frame: &FrameRef<'_>) -> Result<(), WalError> {
    let lsn = Lsn::new(frame.seq);
    replay(lsn, frame.payload).map_err(|source| WalError::Replay { lsn, source })
}

/// Does a file that has a successor end as the successor says?
fn check_completed(
    path: &Path,
    found: &ScanReport,
    successor: &FileHeader,
) -> Result<(), WalError> {
    let Some(link) = successor.predecessor else {
        let detail = CorruptionDetail::MissingFile { number: found.header.number };
        return Err(WalError::corruption(path, 0, detail));
    };
    let detail = if found.last_seq != link.last_seq {
        CorruptionDetail::CompletedFile {
            defect: found.torn.map(|tail| tail.reason),
            last_seq: found.last_seq,
            expected_seq: link.last_seq,
        }
    } else if found.last_crc != link.last_crc {
        CorruptionDetail::SuccessorMismatch { found: found.last_crc, expected: link.last_crc }
    } else {
        return Ok(());
    };
    Err(WalError::corruption(path, found.end, detail))
}
