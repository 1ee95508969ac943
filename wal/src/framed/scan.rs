//! Reads a framed file and gives a verdict on its tail. Changes nothing on disk: a read that
//! repairs destroys evidence. Called by recovery, which applies the plan, and by tools.
//!
//! # The tail rule
//! Frames are read up to the first bad one, at offset `b`. Then:
//! - nothing but zeros from `b` on: the clean end;
//! - a valid frame header of this file further on states `durable_end > b`: the bad frame had been
//!   synced before that header was written, so the disk lost it: [`WalError::Corruption`];
//! - otherwise nobody was ever told that the frame is durable: a torn tail, reported.
//!
//! What stays undetectable: rot in the frames written after the last sync that any later frame
//! tells of. A seal closes that window 100 ms after the last write, and at a clean close.

#![deny(clippy::indexing_slicing)]

use super::{
    FileHeader, FileKind, HEADER_PAGE_BYTES,
    walk::{Position, Step, Walk},
};
use crate::{CorruptionDetail, FrameDefect, FrameKind, WalError};
use akidb_vfs::{Fs, FsError, FsFile, FsOp, OpenMode, planted};
use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

/// A framed file read into memory, its header verified.
///
/// ```
/// use akidb_vfs::{RealFs, SystemRandom};
/// use akidb_wal::{Env, WalError, framed::{FileKind, FramedFile, FramedWriter, NewFile}};
/// use std::sync::Arc;
/// # let dir = tempfile::tempdir().unwrap();
/// const NOTES: FileKind = FileKind { magic: *b"MYNOTES1", version: 1, name: "note file" };
/// let env = Env::new(Arc::new(RealFs), Arc::new(SystemRandom::new()));
/// let path = dir.path().join("notes");
/// let mut writer = FramedWriter::create(&env, &NewFile::new(&path, NOTES, 1, 4096), [])?;
/// writer.append(b"hello".to_vec())?;
/// writer.write_group()?;
/// writer.sync()?;
///
/// let mut notes = Vec::new();
/// let report = FramedFile::read(&RealFs, &path, NOTES)?.scan(&mut |frame| {
///     notes.push(frame.payload.to_vec());
///     Ok::<_, WalError>(())
/// })?;
/// assert_eq!(notes, [b"hello"]);
/// assert!(report.torn.is_none());
/// # Ok::<(), WalError>(())
/// ```
#[derive(Debug)]
pub struct FramedFile {
    pub(super) path: PathBuf,
    pub(super) header: FileHeader,
    /// The file from its first byte to the length it was made with.
    pub(super) bytes: Vec<u8>,
}

/// A good data frame.
#[derive(Clone, Copy, Debug)]
pub struct FrameRef<'a> {
    /// Its number.
    pub seq: u64,
    /// Where it begins in the file, in bytes.
    pub offset: u64,
    /// Its payload.
    pub payload: &'a [u8],
}

/// Bytes after the last good frame that were never durable: what a crash left of the last writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TornTail {
    /// Where they begin, in bytes.
    pub offset: u64,
    /// How many there are up to the last one that is not zero.
    pub bytes: u64,
    /// What is wrong with the first frame there.
    pub reason: FrameDefect,
}

/// What a scan found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ScanReport {
    /// The file header.
    pub header: FileHeader,
    /// Good data frames.
    pub frames: u64,
    /// Their payload bytes.
    pub payload_bytes: u64,
    /// Where the last good frame ends, in bytes.
    pub end: u64,
    /// The number of the last data frame; one less than the header's first if there is none.
    pub last_seq: u64,
    /// The header checksum of the last frame, seal or data; the file header's if there is none.
    pub last_crc: u32,
    /// True when the last frame is a seal.
    pub sealed: bool,
    /// What a crash left after the last good frame.
    pub torn: Option<TornTail>,
}

impl FramedFile {
    /// Reads a whole file and verifies its header and length.
    ///
    /// # Errors
    /// [`WalError::Foreign`], [`WalError::Newer`], [`WalError::Corruption`] for a damaged header or
    /// a file shorter than it was made, [`WalError::Fs`] for a failed call.
    pub fn read(fs: &dyn Fs, path: &Path, kind: FileKind) -> Result<Self, WalError> {
        let (header, len, file) = open_header(fs, path, kind)?;
        let no_room = |_| FsError::new(FsOp::Read, path, io::ErrorKind::OutOfMemory.into());
        // At most the file's own length, so a hostile header cannot ask for more than there is.
        // Asked for first, because a `vec!` without memory ends the process; and not filled by
        // hand, because `vec!` gets zeroed pages that the read then touches for the first time.
        Vec::<u8>::new().try_reserve_exact(len).map_err(no_room)?;
        let mut bytes = vec![0; len];
        file.read_exact_at(&mut bytes, 0)?;
        Ok(Self { path: path.to_owned(), header, bytes })
    }

    /// As [`FramedFile::read`], for bytes that are in memory already; `path` is for messages.
    ///
    /// # Errors
    /// As [`FramedFile::read`].
    pub fn from_bytes(path: &Path, mut bytes: Vec<u8>, kind: FileKind) -> Result<Self, WalError> {
        let header = FileHeader::decode(&bytes, kind, path)?;
        let len = check_len(path, &header, bytes.len() as u64)?;
        bytes.truncate(len);
        Ok(Self { path: path.to_owned(), header, bytes })
    }

    /// Reads and verifies the header and the length alone.
    ///
    /// # Errors
    /// As [`FramedFile::read`].
    pub fn read_header(fs: &dyn Fs, path: &Path, kind: FileKind) -> Result<FileHeader, WalError> {
        open_header(fs, path, kind).map(|(header, ..)| header)
    }

    /// The file header.
    pub fn header(&self) -> &FileHeader {
        &self.header
    }

    /// Hands every good data frame, in order, to `on_frame`, then judges the tail.
    ///
    /// # Errors
    /// [`WalError::Corruption`] when a frame is bad that had been durable; frames before it have
    /// been handed out by then. Whatever `on_frame` returns.
    pub fn scan<E: From<WalError>>(
        &self,
        on_frame: &mut dyn FnMut(FrameRef<'_>) -> Result<(), E>,
    ) -> Result<ScanReport, E> {
        let mut walk = Walk::new(&self.header, &self.bytes);
        let (mut frames, mut payload_bytes) = (0, 0);
        let torn = loop {
            match walk.step() {
                Step::Frame(frame) if frame.header.kind == FrameKind::Seal => {}
                Step::Frame(frame) => {
                    frames += 1;
                    payload_bytes += frame.payload.len() as u64;
                    let (seq, offset) = (frame.header.seq, frame.offset);
                    on_frame(FrameRef { seq, offset, payload: frame.payload })?;
                }
                Step::End => break None,
                Step::Bad(defect) => break Some(judge(&self.path, &walk, defect)?),
            }
        };
        Ok(ScanReport { frames, payload_bytes, ..ScanReport::at(self.header, walk.at, torn) })
    }

    /// The payloads that [`FramedFile::scan`] hands out from frame number `first_seq` on, verified
    /// once more: they are about to be written again, under a fresh checksum that would bless
    /// whatever memory holds by then.
    pub fn payloads(&self, first_seq: u64) -> Vec<&[u8]> {
        let mut walk = Walk::new(&self.header, &self.bytes);
        let mut payloads = Vec::new();
        while let Step::Frame(frame) = walk.step() {
            if frame.header.kind == FrameKind::Data && frame.header.seq >= first_seq {
                payloads.push(frame.payload);
            }
        }
        payloads
    }
}

impl ScanReport {
    /// Of a scan that ended at a position, without the counts.
    pub(super) fn at(header: FileHeader, end: Position, torn: Option<TornTail>) -> Self {
        let Position { offset, last_seq, last_crc, sealed, .. } = end;
        Self { header, frames: 0, payload_bytes: 0, end: offset, last_seq, last_crc, sealed, torn }
    }
}

/// Torn or rotten? See the tail rule. `walk` stands at the bad frame and reaches to the end of the
/// file.
pub(super) fn judge(
    path: &Path,
    walk: &Walk<'_>,
    defect: FrameDefect,
) -> Result<TornTail, WalError> {
    let bad = walk.at.offset;
    let evidence = walk.find_header(bad.saturating_add(1), |header| header.durable_end > bad);
    if let Some((evidence_offset, _)) = evidence
        && !planted("framed.rot-taken-for-torn-tail")
    {
        let last_seq = walk.at.last_seq;
        let detail = CorruptionDetail::DurableFrame { defect, last_seq, evidence_offset };
        return Err(WalError::corruption(path, bad, detail));
    }
    let rest = walk.bytes_from(bad);
    let used = rest.iter().rposition(|&byte| byte != 0).map_or(0, |at| at as u64 + 1);
    Ok(TornTail { offset: bad, bytes: used, reason: defect })
}

/// Opens a file for reading once its header and length are verified; with the length it was made
/// with.
pub(super) fn open_header(
    fs: &dyn Fs,
    path: &Path,
    kind: FileKind,
) -> Result<(FileHeader, usize, Arc<dyn FsFile>), WalError> {
    let file = fs.open(path, OpenMode::Read)?;
    let len = file.len()?;
    let mut page = vec![0; usize::try_from(len.min(HEADER_PAGE_BYTES)).unwrap_or_default()];
    file.read_exact_at(&mut page, 0)?;
    let header = FileHeader::decode(&page, kind, path)?;
    let allocated = check_len(path, &header, len)?;
    Ok((header, allocated, file))
}

/// The length that the file was made with, if it still has it.
fn check_len(path: &Path, header: &FileHeader, len: u64) -> Result<usize, WalError> {
    let expected = header.allocated_len;
    if len < expected {
        let detail = CorruptionDetail::Truncated { len, expected };
        return Err(WalError::corruption(path, len, detail));
    }
    usize::try_from(expected)
        .map_err(|_| FsError::new(FsOp::Read, path, io::ErrorKind::OutOfMemory.into()).into())
}
