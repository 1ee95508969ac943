//! Lays a group of frames out for one vectored write. Small payloads are copied beside their
//! headers, because a kernel call with few large slices is cheaper than one with thousands of
//! small ones; large payloads are written from where they are. Does no I/O; called by the writer.

#![deny(clippy::indexing_slicing)]

use crate::frame::{FrameHeader, frame_bytes, payload_crc};
use std::{io::IoSlice, ops::Range};

/// Payloads up to this size are copied. Above it the copy costs more than another slice.
const COPY_BYTES_MAX: usize = 16 << 10;

/// Frames laid out in file order.
#[derive(Debug, Default)]
pub(super) struct GroupLayout {
    /// Headers, small payloads and padding.
    copied: Vec<u8>,
    pieces: Vec<Piece>,
    /// The bytes of all pieces.
    len: u64,
}

#[derive(Debug)]
enum Piece {
    /// A range of `copied`.
    Copied(Range<usize>),
    /// A payload kept by the caller, by index.
    Payload(usize),
}

impl GroupLayout {
    /// Empties it, keeping its memory for the next group.
    pub(super) fn clear(&mut self) {
        self.copied.clear();
        self.pieces.clear();
        self.len = 0;
    }

    pub(super) fn len(&self) -> u64 {
        self.len
    }

    /// Adds a frame that will stand at `offset`, and returns its header's checksum. `index` is
    /// the payload's place in the list given to [`GroupLayout::slices`]. The header's payload
    /// length and checksum are filled in here.
    pub(super) fn push(
        &mut self,
        mut header: FrameHeader,
        salt: u64,
        offset: u64,
        index: usize,
        payload: &[u8],
    ) -> u32 {
        header.payload_len =
            u32::try_from(payload.len()).expect("append refuses payloads over 64 MiB");
        header.payload_crc = payload_crc(salt, offset, payload);
        let start = self.copied.len();
        let crc = header.encode(salt, offset, &mut self.copied);
        if payload.len() <= COPY_BYTES_MAX {
            self.copied.extend_from_slice(payload);
            self.cover(start);
        } else {
            self.cover(start);
            self.pieces.push(Piece::Payload(index));
        }
        let start = self.copied.len();
        let padding = payload.len().next_multiple_of(8) - payload.len();
        self.copied.resize(start + padding, 0);
        self.cover(start);
        self.len += frame_bytes(header.payload_len);
        crc
    }

    /// The bytes of `copied` from `start` on come next in the file.
    fn cover(&mut self, start: usize) {
        let end = self.copied.len();
        match self.pieces.last_mut() {
            Some(Piece::Copied(range)) if range.end == start => range.end = end,
            _ if start == end => {}
            _ => self.pieces.push(Piece::Copied(start..end)),
        }
    }

    /// The slices to write, given the same payloads.
    pub(super) fn slices<'a>(&'a self, payloads: &'a [Vec<u8>]) -> Vec<IoSlice<'a>> {
        self.pieces
            .iter()
            .map(|piece| match piece {
                Piece::Copied(range) => self.copied.get(range.clone()),
                Piece::Payload(index) => payloads.get(*index).map(Vec::as_slice),
            })
            .map(|bytes| {
                IoSlice::new(bytes.expect("pushed with these payloads, not cleared since"))
            })
            .collect()
    }
}
