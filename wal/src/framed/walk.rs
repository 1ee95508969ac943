//! Walks the frames of a file, one step at a time, over bytes that are in memory: all of them
//! ([`Walk`]), or a window that its owner moves along ([`Position`]). Finds valid headers after a
//! bad place. Pure: no I/O, no verdict. `scan`, `stream` and `inspect` are built on it.

#![deny(clippy::indexing_slicing)]

use super::{FileHeader, HEADER_PAGE_BYTES};
use crate::frame::{
    FRAME_ALIGN, FRAME_HEADER_BYTES, FRAME_MAGIC, FrameDefect, FrameHeader, FrameKind, frame_bytes,
    payload_crc,
};
use akidb_vfs::planted;

/// A place between two frames of a file, and what the next frame must fit.
#[derive(Clone, Copy, Debug)]
pub(super) struct Position {
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

/// What stands at a position.
#[derive(Debug)]
pub(super) enum Found<'a> {
    /// A good frame, and the position after it.
    Frame(Frame<'a>, Position),
    Bad(FrameDefect),
    /// The window ends too early: this many bytes from the position on are needed.
    More(u64),
}

/// What stands at the next place of an image.
#[derive(Debug)]
pub(super) enum Step<'a> {
    Frame(Frame<'a>),
    /// Nothing but zeros up to the end.
    End,
    Bad(FrameDefect),
}

impl Position {
    /// Before the first frame.
    pub(super) fn first(header: &FileHeader) -> Self {
        Self {
            salt: header.salt,
            offset: HEADER_PAGE_BYTES,
            // At least 1, checked when the header was decoded.
            last_seq: header.first_seq.saturating_sub(1),
            last_crc: header.crc,
            sealed: false,
        }
    }

    /// Checks the frame here. `window` begins at this position; the file has `left` bytes from
    /// here on, of which the window may hold fewer.
    pub(super) fn look<'a>(&self, window: &'a [u8], left: u64) -> Found<'a> {
        let held = window.len() as u64;
        if held < FRAME_HEADER_BYTES.min(left) {
            return Found::More(FRAME_HEADER_BYTES.min(left));
        }
        let (header, crc) = match self.header(window, left) {
            Ok(found) => found,
            Err(defect) => return Found::Bad(defect),
        };
        let bytes = frame_bytes(header.payload_len);
        if held < bytes {
            return Found::More(bytes);
        }
        match self.payload(&header, window) {
            Ok(payload) => {
                let frame = Frame { header, offset: self.offset, payload };
                Found::Frame(frame, self.after(&header, crc))
            }
            Err(defect) => Found::Bad(defect),
        }
    }

    /// The header here, with its checksum, if it is the one that follows and its frame ends within
    /// the file.
    fn header(&self, window: &[u8], left: u64) -> Result<(FrameHeader, u32), FrameDefect> {
        let (header, crc) = FrameHeader::decode(window, self.salt, self.offset)?;
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
        if frame_bytes(header.payload_len) > left {
            return Err(FrameDefect::PastEnd { payload_len: header.payload_len });
        }
        Ok((header, crc))
    }

    /// The payload of the frame here, which the window holds.
    fn payload<'a>(&self, header: &FrameHeader, window: &'a [u8]) -> Result<&'a [u8], FrameDefect> {
        // Both are at most 64 MiB plus a header: no overflow.
        let end = FRAME_HEADER_BYTES as usize + header.payload_len as usize;
        let past_end = FrameDefect::PastEnd { payload_len: header.payload_len };
        let payload = window.get(FRAME_HEADER_BYTES as usize..end).ok_or(past_end)?;
        if payload_crc(self.salt, self.offset, payload) != header.payload_crc
            && !planted("framed.payload-checksum-ignored")
        {
            return Err(FrameDefect::PayloadChecksum);
        }
        Ok(payload)
    }

    fn after(&self, header: &FrameHeader, crc: u32) -> Self {
        Self {
            salt: self.salt,
            offset: self.offset + frame_bytes(header.payload_len),
            last_seq: header.seq,
            last_crc: crc,
            sealed: header.kind == FrameKind::Seal,
        }
    }
}

/// A walk over an image: the file from some offset to its end.
#[derive(Clone, Debug)]
pub(super) struct Walk<'a> {
    bytes: &'a [u8],
    /// Where in the file `bytes` begins.
    base: u64,
    pub(super) at: Position,
}

impl<'a> Walk<'a> {
    /// Over a whole file.
    pub(super) fn new(header: &FileHeader, bytes: &'a [u8]) -> Self {
        Self { bytes, base: 0, at: Position::first(header) }
    }

    /// Over what follows a position.
    pub(super) fn from(at: Position, bytes: &'a [u8]) -> Self {
        Self { bytes, base: at.offset, at }
    }

    /// Goes over one frame; stays where it is at the end or at a bad frame.
    pub(super) fn step(&mut self) -> Step<'a> {
        let rest = self.bytes_from(self.at.offset);
        match self.at.look(rest, rest.len() as u64) {
            Found::Frame(frame, after) => {
                self.at = after;
                Step::Frame(frame)
            }
            // Only a place without a frame can be the unused part of the file; looking at all of
            // it for every bad frame would be no error, but slow.
            Found::Bad(FrameDefect::NotAFrame) if all_zero(rest) => Step::End,
            Found::Bad(defect) => Step::Bad(defect),
            Found::More(_) => unreachable!("a window up to the end of the file lacks nothing"),
        }
    }

    /// What the image holds from a file offset on.
    pub(super) fn bytes_from(&self, offset: u64) -> &'a [u8] {
        let at = offset.checked_sub(self.base).and_then(|at| usize::try_from(at).ok());
        at.and_then(|at| self.bytes.get(at..)).unwrap_or_default()
    }

    /// The first valid header at or after `from` that satisfies `wanted`, with its offset. The
    /// salt is random, so no payload can pretend to be one.
    pub(super) fn find_header(
        &self,
        from: u64,
        wanted: impl Fn(&FrameHeader) -> bool,
    ) -> Option<(u64, FrameHeader)> {
        let from = from.next_multiple_of(FRAME_ALIGN);
        let slots = self.bytes_from(from).chunks_exact(FRAME_ALIGN as usize);
        (from..).step_by(FRAME_ALIGN as usize).zip(slots).find_map(|(offset, slot)| {
            if !slot.starts_with(&FRAME_MAGIC) {
                return None;
            }
            let rest = self.bytes_from(offset);
            let (header, _) = FrameHeader::decode(rest, self.at.salt, offset).ok()?;
            wanted(&header).then_some((offset, header))
        })
    }

    /// Continues at a frame found past a bad place, believing what its header says of the one
    /// before it. For diagnosis only.
    pub(super) fn resume(&mut self, offset: u64, header: &FrameHeader) {
        assert!(offset > self.at.offset, "diagnosis goes forward");
        self.at.offset = offset;
        self.at.last_crc = header.prev_crc;
        self.at.last_seq = match header.kind {
            FrameKind::Data => header.seq.saturating_sub(1),
            FrameKind::Seal => header.seq,
        };
    }
}

/// True if every byte is zero. Looks at a piece at a time without an exit inside it, so that the
/// compiler uses wide registers: the unused part of a file is most of what a short replay reads.
pub(super) fn all_zero(bytes: &[u8]) -> bool {
    const PIECE: usize = 4096;
    bytes.chunks(PIECE).all(|piece| piece.iter().fold(0, |seen, byte| seen | byte) == 0)
}

/// What only a writer with a bug, or a forger who knows the salt, can put on disk: headers with good
/// checksums and impossible contents.
#[cfg(test)]
mod tests {
    use super::*;

    const FILE: FileHeader = FileHeader {
        version: 1,
        salt: 77,
        number: 1,
        first_seq: 10,
        allocated_len: 1024,
        predecessor: None,
        replaces: None,
        crc: 5,
    };

    /// The defect of a first frame that is as given, in a file of 1 KiB.
    fn defect(change: impl FnOnce(&mut FrameHeader)) -> Option<FrameDefect> {
        let mut header = FrameHeader {
            kind: FrameKind::Data,
            seq: 10,
            durable_end: HEADER_PAGE_BYTES,
            payload_len: 0,
            payload_crc: payload_crc(FILE.salt, HEADER_PAGE_BYTES, &[]),
            prev_crc: FILE.crc,
        };
        change(&mut header);
        let mut bytes = vec![0; HEADER_PAGE_BYTES as usize];
        header.encode(FILE.salt, HEADER_PAGE_BYTES, &mut bytes);
        bytes.resize(1024, 0);
        match Walk::new(&FILE, &bytes).step() {
            Step::Frame(_) => None,
            Step::Bad(defect) => Some(defect),
            Step::End => panic!("there is a frame"),
        }
    }

    #[test]
    fn the_frame_that_follows_is_accepted() {
        assert_eq!(defect(|_| {}), None);
    }

    #[test]
    fn a_number_that_does_not_follow_is_refused() {
        for found in [0, 9, 11, u64::MAX] {
            let expected = FrameDefect::Sequence { found, expected: 10 };
            assert_eq!(defect(|header| header.seq = found), Some(expected));
        }
        let seal = defect(|header| header.kind = FrameKind::Seal);
        assert_eq!(seal, Some(FrameDefect::Sequence { found: 10, expected: 9 }));
    }

    #[test]
    fn a_payload_past_the_end_is_refused_before_it_is_read() {
        for payload_len in [512 - 48 + 1, 1024, 64 << 20] {
            let found = defect(|header| header.payload_len = payload_len);
            assert_eq!(found, Some(FrameDefect::PastEnd { payload_len }));
        }
        let found = defect(|header| header.payload_len = (64 << 20) + 1);
        assert_eq!(found, Some(FrameDefect::Field("payload_len")));
    }

    #[test]
    fn a_frame_after_another_one_is_refused() {
        let found = defect(|header| header.prev_crc = 6);
        assert_eq!(found, Some(FrameDefect::PreviousChecksum));
    }
}
