//! One frame: its 48-byte header, its checksums, its size in the file. Shared by WAL files and
//! every other framed file. Does no I/O; called by the writer and the walker of [`crate::framed`].
//!
//! # Invariants
//! - Both checksums start from the file's salt and the frame's offset, so bytes of another file,
//!   or of another place in this one, never pass (`decode`).
//! - The header's checksum is checked before any field, the payload's length above all, is
//!   trusted.
//! - `durable_end` is at most the frame's own offset: a frame speaks only of what lies before it.
//!
//! # Layout (little-endian)
//! `magic 4 | version 1 | kind 1 | flags 2 | salt 8 | seq 8 | durable_end 8 | payload_len 4 |
//! payload_crc 4 | prev_crc 4 | header_crc 4`, then the payload, then zeros to a multiple of 8.

#![deny(clippy::indexing_slicing)]

use crate::le;
use akidb_vfs::planted;
use std::fmt;

/// The bytes of a frame header.
pub const FRAME_HEADER_BYTES: u64 = 48;

/// The most payload bytes that any reader accepts; writers may set a lower limit.
pub const FRAME_PAYLOAD_MAX: u32 = 64 << 20;

/// Frames begin at multiples of this.
pub(crate) const FRAME_ALIGN: u64 = 8;

pub(crate) const FRAME_MAGIC: [u8; 4] = *b"AkFr";
const FRAME_VERSION: u8 = 1;

const VERSION_AT: usize = FRAME_MAGIC.len();
const KIND_AT: usize = VERSION_AT + 1;
const FLAGS_AT: usize = KIND_AT + 1;
const SALT_AT: usize = FLAGS_AT + 2;
const SEQ_AT: usize = SALT_AT + 8;
const DURABLE_END_AT: usize = SEQ_AT + 8;
const PAYLOAD_LEN_AT: usize = DURABLE_END_AT + 8;
const PAYLOAD_CRC_AT: usize = PAYLOAD_LEN_AT + 4;
const PREV_CRC_AT: usize = PAYLOAD_CRC_AT + 4;
const HEADER_CRC_AT: usize = PREV_CRC_AT + 4;

const _: () = assert!(HEADER_CRC_AT as u64 + 4 == FRAME_HEADER_BYTES);
const _: () = assert!(FRAME_HEADER_BYTES.is_multiple_of(FRAME_ALIGN));
const _: () = assert!(SALT_AT.is_multiple_of(8) && DURABLE_END_AT.is_multiple_of(8));

/// What a frame is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FrameKind {
    /// A payload under its own sequence number.
    Data,
    /// No payload and no number of its own (it repeats the last): only says how far the file is
    /// durable, so that rot in the last data becomes detectable.
    Seal,
}

impl FrameKind {
    const fn to_byte(self) -> u8 {
        match self {
            Self::Data => 1,
            Self::Seal => 2,
        }
    }

    const fn from_byte(byte: u8) -> Option<Self> {
        match byte {
            1 => Some(Self::Data),
            2 => Some(Self::Seal),
            _ => None,
        }
    }
}

impl fmt::Display for FrameKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Data => "data",
            Self::Seal => "seal",
        })
    }
}

/// Why bytes are not the frame that should stand there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum FrameDefect {
    /// No frame begins here, though the rest of the file is not empty.
    NotAFrame,
    /// The header does not match its checksum, or belongs to another file or place.
    HeaderChecksum,
    /// A field of a header with a good checksum cannot be: a writer's bug.
    Field(&'static str),
    /// The frame reaches past the end of the file.
    PastEnd {
        /// Its payload's length as stated, in bytes.
        payload_len: u32,
    },
    /// The number is not the one that follows.
    Sequence {
        /// The frame's number.
        found: u64,
        /// The number that follows.
        expected: u64,
    },
    /// The frame follows another frame than the one before it.
    PreviousChecksum,
    /// The payload does not match its checksum.
    PayloadChecksum,
}

impl fmt::Display for FrameDefect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotAFrame => f.write_str("no frame begins there"),
            Self::HeaderChecksum => f.write_str("header checksum"),
            Self::Field(field) => write!(f, "impossible {field}"),
            Self::PastEnd { payload_len } => {
                write!(f, "{payload_len} payload bytes reach past the end of the file")
            }
            Self::Sequence { found, expected } => write!(f, "number {found} instead of {expected}"),
            Self::PreviousChecksum => f.write_str("does not follow the frame before it"),
            Self::PayloadChecksum => f.write_str("payload checksum"),
        }
    }
}

/// The bytes that a frame with this payload takes in a file, padding included.
pub const fn frame_bytes(payload_len: u32) -> u64 {
    FRAME_HEADER_BYTES + (payload_len as u64).next_multiple_of(FRAME_ALIGN)
}

/// The fields of a frame header; magic and version are implied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FrameHeader {
    pub(crate) kind: FrameKind,
    pub(crate) seq: u64,
    /// All bytes of the file below this offset were synced before this frame was written.
    pub(crate) durable_end: u64,
    pub(crate) payload_len: u32,
    pub(crate) payload_crc: u32,
    /// The header checksum of the frame before it, or of the file header.
    pub(crate) prev_crc: u32,
}

impl FrameHeader {
    /// Appends the 48 bytes to `out` and returns their checksum.
    pub(crate) fn encode(&self, salt: u64, offset: u64, out: &mut Vec<u8>) -> u32 {
        assert!(self.durable_end <= offset, "a frame speaks only of what lies before it");
        let start = out.len();
        out.extend_from_slice(&FRAME_MAGIC);
        out.extend_from_slice(&[FRAME_VERSION, self.kind.to_byte()]);
        out.extend_from_slice(&0_u16.to_le_bytes());
        out.extend_from_slice(&salt.to_le_bytes());
        out.extend_from_slice(&self.seq.to_le_bytes());
        out.extend_from_slice(&self.durable_end.to_le_bytes());
        out.extend_from_slice(&self.payload_len.to_le_bytes());
        out.extend_from_slice(&self.payload_crc.to_le_bytes());
        out.extend_from_slice(&self.prev_crc.to_le_bytes());
        let crc = place_crc(salt, offset, out.get(start..).unwrap_or_default());
        out.extend_from_slice(&crc.to_le_bytes());
        crc
    }

    /// The header at the start of `bytes`, which stand at `offset` of the file with this salt,
    /// and its checksum. Checks all that needs no other frame.
    pub(crate) fn decode(bytes: &[u8], salt: u64, offset: u64) -> Result<(Self, u32), FrameDefect> {
        Self::fields(bytes, salt, offset).unwrap_or(Err(FrameDefect::NotAFrame))
    }

    /// `None` where `bytes` is shorter than a header.
    fn fields(bytes: &[u8], salt: u64, offset: u64) -> Option<Result<(Self, u32), FrameDefect>> {
        let header_crc = le::u32_at(bytes, HEADER_CRC_AT)?;
        if le::bytes_at::<4>(bytes, 0)? != FRAME_MAGIC {
            return Some(Err(FrameDefect::NotAFrame));
        }
        if place_crc(salt, offset, bytes.get(..HEADER_CRC_AT)?) != header_crc
            && !planted("framed.header-checksum-ignored")
        {
            return Some(Err(FrameDefect::HeaderChecksum));
        }
        // From here on the bytes are what a writer of this file wrote at this place.
        let [version, kind] = le::bytes_at(bytes, VERSION_AT)?;
        let Some(kind) = FrameKind::from_byte(kind) else {
            return Some(Err(FrameDefect::Field("kind")));
        };
        let header = Self {
            kind,
            seq: le::u64_at(bytes, SEQ_AT)?,
            durable_end: le::u64_at(bytes, DURABLE_END_AT)?,
            payload_len: le::u32_at(bytes, PAYLOAD_LEN_AT)?,
            payload_crc: le::u32_at(bytes, PAYLOAD_CRC_AT)?,
            prev_crc: le::u32_at(bytes, PREV_CRC_AT)?,
        };
        let bad = if version != FRAME_VERSION {
            Some("version")
        } else if le::u16_at(bytes, FLAGS_AT)? != 0 {
            Some("flags")
        } else if le::u64_at(bytes, SALT_AT)? != salt {
            Some("salt")
        } else if header.durable_end > offset {
            Some("durable_end")
        } else if header.payload_len > FRAME_PAYLOAD_MAX
            || (kind == FrameKind::Seal && header.payload_len != 0)
        {
            Some("payload_len")
        } else {
            None
        };
        Some(bad.map_or(Ok((header, header_crc)), |field| Err(FrameDefect::Field(field))))
    }
}

/// The salt that the frame header at the start of `bytes` states, before anything is checked.
pub(crate) fn salt_of(bytes: &[u8]) -> Option<u64> {
    le::u64_at(bytes, SALT_AT)
}

/// The checksum of a payload whose frame stands at `offset` of the file with this salt.
pub(crate) fn payload_crc(salt: u64, offset: u64, payload: &[u8]) -> u32 {
    place_crc(salt, offset, payload)
}

/// CRC-32 (IEEE) over the salt, the offset and the bytes.
fn place_crc(salt: u64, offset: u64, bytes: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&salt.to_le_bytes());
    hasher.update(&offset.to_le_bytes());
    hasher.update(bytes);
    hasher.finalize()
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADER: FrameHeader = FrameHeader {
        kind: FrameKind::Data,
        seq: 7,
        durable_end: 512,
        payload_len: 3,
        payload_crc: 0x1234_5678,
        prev_crc: 0x9abc_def0,
    };

    fn encoded() -> Vec<u8> {
        let mut out = Vec::new();
        HEADER.encode(99, 1024, &mut out);
        out
    }

    #[test]
    fn a_header_reads_back_at_its_place() {
        let bytes = encoded();
        assert_eq!(bytes.len() as u64, FRAME_HEADER_BYTES);
        let (header, _) = FrameHeader::decode(&bytes, 99, 1024).unwrap();
        assert_eq!(header, HEADER);
    }

    #[test]
    fn a_header_of_another_file_or_place_is_refused() {
        let bytes = encoded();
        assert_eq!(FrameHeader::decode(&bytes, 98, 1024), Err(FrameDefect::HeaderChecksum));
        assert_eq!(FrameHeader::decode(&bytes, 99, 1032), Err(FrameDefect::HeaderChecksum));
    }

    #[test]
    fn every_flipped_bit_and_every_truncation_of_a_header_is_refused() {
        let bytes = encoded();
        for bit in 0..bytes.len() * 8 {
            let mut bad = bytes.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(FrameHeader::decode(&bad, 99, 1024).is_err(), "bit {bit}");
        }
        for len in 0..bytes.len() {
            assert!(FrameHeader::decode(&bytes[..len], 99, 1024).is_err(), "length {len}");
        }
    }

    #[test]
    fn the_same_payload_elsewhere_has_another_checksum() {
        assert_ne!(payload_crc(1, 512, b"x"), payload_crc(1, 520, b"x"));
        assert_ne!(payload_crc(1, 512, b"x"), payload_crc(2, 512, b"x"));
    }

    #[test]
    fn frames_are_padded_to_eight_bytes() {
        assert_eq!(frame_bytes(0), 48);
        assert_eq!(frame_bytes(1), 56);
        assert_eq!(frame_bytes(8), 56);
        assert_eq!(frame_bytes(9), 64);
    }
}
