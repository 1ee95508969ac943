//! Walks the frames of a file image in memory, one step at a time, and finds valid headers after
//! a bad place. Pure: no I/O, no verdict. `scan` and `inspect` are built on it.

#![deny(clippy::indexing_slicing)]

use super::{FileHeader, HEADER_PAGE_BYTES};
use crate::frame::{
    FRAME_ALIGN, FRAME_HEADER_BYTES, FRAME_MAGIC, FrameDefect, FrameHeader, FrameKind, frame_bytes,
    payload_crc,
};

/// A position between two frames of an image.
#[derive(Clone, Debug)]
pub(super) struct Walk<'a> {
    /// The file from its first byte.
    bytes: &'a [u8],
    salt: u64,
    /// Where the next frame should begin.
    pub(super) offset: u64,
    /// The number of the last data frame; `first_seq - 1` before the first.
    pub(super) last_seq: u64,
    /// The header checksum of the last frame; of the file header before the first.
    pub(super) last_crc: u32,
    /// Is the last frame a seal?
    pub(super) sealed: bool,
}

/// One good frame.
#[derive(Clone, Copy, Debug)]
pub(super) struct Frame<'a> {
    pub(super) header: FrameHeader,
    pub(super) offset: u64,
    pub(super) payload: &'a [u8],
}

/// What stands at the next place.
#[derive(Debug)]
pub(super) enum Step<'a> {
    Frame(Frame<'a>),
    /// Nothing but zeros up to the end.
    End,
    Bad(FrameDefect),
}

impl<'a> Walk<'a> {
    pub(super) fn new(header: &FileHeader, bytes: &'a [u8]) -> Self {
        Self {
            bytes,
            salt: header.salt,
            offset: HEADER_PAGE_BYTES,
            // At least 1, checked when the header was decoded.
            last_seq: header.first_seq.saturating_sub(1),
            last_crc: header.crc,
            sealed: false,
        }
    }

    /// Goes over one frame; stays where it is at the end or at a bad frame.
    pub(super) fn step(&mut self) -> Step<'a> {
        let rest = self.rest();
        match self.check(rest) {
            Ok((frame, crc)) => {
                self.pass(&frame.header, crc);
                Step::Frame(frame)
            }
            // Only a place without a frame can be the unused part of the file; looking at all of
            // it for every bad frame would be no error, but slow.
            Err(FrameDefect::NotAFrame) if rest.iter().all(|&byte| byte == 0) => Step::End,
            Err(defect) => Step::Bad(defect),
        }
    }

    fn rest(&self) -> &'a [u8] {
        usize::try_from(self.offset).ok().and_then(|at| self.bytes.get(at..)).unwrap_or_default()
    }

    fn check(&self, rest: &'a [u8]) -> Result<(Frame<'a>, u32), FrameDefect> {
        let (header, crc) = FrameHeader::decode(rest, self.salt, self.offset)?;
        if header.prev_crc != self.last_crc {
            return Err(FrameDefect::PreviousChecksum);
        }
        let expected = match header.kind {
            FrameKind::Data => self.last_seq.checked_add(1).ok_or(FrameDefect::Field("seq"))?,
            FrameKind::Seal => self.last_seq,
        };
        if header.seq != expected {
            return Err(FrameDefect::Sequence { found: header.seq, expected });
        }
        let past_end = FrameDefect::PastEnd { payload_len: header.payload_len };
        // Both are at most 64 MiB plus a header: no overflow.
        let payload_end = FRAME_HEADER_BYTES as usize + header.payload_len as usize;
        if frame_bytes(header.payload_len) > rest.len() as u64 {
            return Err(past_end);
        }
        let payload = rest.get(FRAME_HEADER_BYTES as usize..payload_end).ok_or(past_end)?;
        if payload_crc(self.salt, self.offset, payload) != header.payload_crc {
            return Err(FrameDefect::PayloadChecksum);
        }
        Ok((Frame { header, offset: self.offset, payload }, crc))
    }

    fn pass(&mut self, header: &FrameHeader, crc: u32) {
        self.offset += frame_bytes(header.payload_len);
        self.last_seq = header.seq;
        self.last_crc = crc;
        self.sealed = header.kind == FrameKind::Seal;
    }

    /// The first valid header at or after `from` that satisfies `wanted`, with its offset. The
    /// salt is random, so no payload can pretend to be one.
    pub(super) fn find_header(
        &self,
        from: u64,
        wanted: impl Fn(&FrameHeader) -> bool,
    ) -> Option<(u64, FrameHeader)> {
        let from = from.next_multiple_of(FRAME_ALIGN);
        let start = usize::try_from(from).ok()?;
        let slots = self.bytes.get(start..)?.chunks_exact(FRAME_ALIGN as usize);
        (from..).step_by(FRAME_ALIGN as usize).zip(slots).find_map(|(offset, slot)| {
            if !slot.starts_with(&FRAME_MAGIC) {
                return None;
            }
            let rest = self.bytes.get(usize::try_from(offset).ok()?..)?;
            let (header, _) = FrameHeader::decode(rest, self.salt, offset).ok()?;
            wanted(&header).then_some((offset, header))
        })
    }

    /// Continues at a frame found past a bad place, believing what its header says of the one
    /// before it. For diagnosis only.
    pub(super) fn resume(&mut self, offset: u64, header: &FrameHeader) {
        assert!(offset > self.offset, "diagnosis goes forward");
        self.offset = offset;
        self.last_crc = header.prev_crc;
        self.last_seq = match header.kind {
            FrameKind::Data => header.seq.saturating_sub(1),
            FrameKind::Seal => header.seq,
        };
    }
}
