//! Reads what a damaged framed file still holds, for verification, repair and tools. Never used
//! by recovery: what it returns was not judged, and may lack frames that were durable. Changes
//! nothing.
//!
//! # What can be read
//! - A file that was cut short: the frames before the cut.
//! - A file whose header page is damaged: every frame repeats the salt of its file, and the first
//!   one names the header's checksum and the first number, which is all that the walk needs. What
//!   the header alone knew (what it follows, what it replaces) is gone.

#![deny(clippy::indexing_slicing)]

use super::{FileHeader, FileKind, FrameInfo, FrameStatus, FramedFile, HEADER_PAGE_BYTES};
use crate::{
    FRAME_HEADER_BYTES, FrameKind, WalError,
    frame::{FrameHeader, salt_of},
};
use akidb_vfs::{Fs, read_file};
use std::path::Path;

/// A framed file as far as it can be read.
#[derive(Debug)]
pub struct Salvaged {
    /// The file; its header is made up where the stored one is damaged.
    pub file: FramedFile,
    /// Why an ordinary read refuses it, if it does.
    pub problem: Option<WalError>,
    /// True when the header could not be read: what the file follows or replaces is unknown.
    pub headless: bool,
}

impl FramedFile {
    /// As [`FramedFile::read`], but takes a file whose header is damaged or that was cut short.
    /// `number` is what the file's name says.
    ///
    /// # Errors
    /// [`WalError::Newer`], [`WalError::Foreign`], [`WalError::Fs`]; [`WalError::Corruption`] if
    /// nothing of it can be read.
    pub fn salvage(
        fs: &dyn Fs,
        path: &Path,
        kind: FileKind,
        number: u64,
    ) -> Result<Salvaged, WalError> {
        let bytes = read_file(fs, path)?;
        let problem = match Self::from_bytes(path, bytes.clone(), kind) {
            Ok(file) => return Ok(Salvaged { file, problem: None, headless: false }),
            Err(problem @ WalError::Corruption { .. }) => problem,
            Err(other) => return Err(other),
        };
        let whole_header = FileHeader::decode(&bytes, kind, path).ok();
        let headless = whole_header.is_none();
        let Some(mut header) = whole_header.or_else(|| from_first_frame(&bytes, number)) else {
            return Err(problem);
        };
        // The made-up length is the file's own: nothing is allocated that is not there.
        header.allocated_len = bytes.len() as u64;
        let file = Self { path: path.to_owned(), header, bytes };
        Ok(Salvaged { file, problem: Some(problem), headless })
    }

    /// The payload of a good data frame that [`FramedFile::inspect`] found in this file; `None`
    /// for anything else.
    pub fn payload(&self, frame: &FrameInfo) -> Option<&[u8]> {
        let FrameStatus::Good { kind: FrameKind::Data, payload_len, .. } = frame.status else {
            return None;
        };
        let start = frame.offset.checked_add(FRAME_HEADER_BYTES)?;
        let end = start.checked_add(u64::from(payload_len))?;
        self.bytes.get(usize::try_from(start).ok()?..usize::try_from(end).ok()?)
    }
}

/// A header that lets the frames be walked, from what the first one says.
fn from_first_frame(bytes: &[u8], number: u64) -> Option<FileHeader> {
    let rest = bytes.get(usize::try_from(HEADER_PAGE_BYTES).ok()?..)?;
    let salt = salt_of(rest)?;
    let (frame, _) = FrameHeader::decode(rest, salt, HEADER_PAGE_BYTES).ok()?;
    let first_seq = match frame.kind {
        FrameKind::Data => frame.seq,
        FrameKind::Seal => frame.seq.checked_add(1)?,
    };
    Some(FileHeader {
        version: 0,
        salt,
        number,
        first_seq: first_seq.max(1),
        allocated_len: 0,
        predecessor: None,
        replaces: None,
        crc: frame.prev_crc,
    })
}
