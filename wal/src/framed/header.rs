//! The first page of a framed file: what it is, how long it must be, what it follows, what it
//! replaces. Encode and decode stand together; no I/O here.
//!
//! Magic, version and header checksum keep their places in every later version of the format, so
//! that an older binary can say "newer" instead of "damaged".

#![deny(clippy::indexing_slicing)]

use crate::{CorruptionDetail, WalError, le};
use std::path::Path;

/// The bytes before the first frame: one sector, which no later write touches.
pub const HEADER_PAGE_BYTES: u64 = 512;

/// The bytes of the header that carry meaning; the rest of the page is zero and unread.
const HEADER_BYTES: usize = 128;

/// File and frame numbers end here. No writer comes near, and what counts on from a number of a
/// header below it cannot overflow: a file of frames holds fewer than 2^62 of them.
const NUMBER_MAX: u64 = 1 << 62;

const MAGIC_AT: usize = 0;
const VERSION_AT: usize = MAGIC_AT + 8;
const FLAGS_AT: usize = VERSION_AT + 2;
const HEADER_LEN_AT: usize = FLAGS_AT + 2;
const SALT_AT: usize = HEADER_LEN_AT + 4;
const NUMBER_AT: usize = SALT_AT + 8;
const FIRST_SEQ_AT: usize = NUMBER_AT + 8;
const ALLOCATED_AT: usize = FIRST_SEQ_AT + 8;
const PREDECESSOR_AT: usize = ALLOCATED_AT + 8;
const PREDECESSOR_SEQ_AT: usize = PREDECESSOR_AT + 8;
const REPLACES_AT: usize = PREDECESSOR_SEQ_AT + 8;
const PREDECESSOR_CRC_AT: usize = REPLACES_AT + 8;
const RESERVED_AT: usize = PREDECESSOR_CRC_AT + 4;
const CRC_AT: usize = HEADER_BYTES - 4;

const _: () = assert!(RESERVED_AT == 76 && RESERVED_AT < CRC_AT);
const _: () = assert!(HEADER_BYTES as u64 <= HEADER_PAGE_BYTES);
const _: () = assert!(HEADER_PAGE_BYTES.is_multiple_of(crate::frame::FRAME_ALIGN));

/// What a framed file is used for. Readers refuse files of another kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileKind {
    /// The first eight bytes of the file.
    pub magic: [u8; 8],
    /// The newest version that this code writes and reads; at least 1.
    pub version: u16,
    /// What people call it, in messages: "WAL file".
    pub name: &'static str,
}

/// The file that came before, as it ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Predecessor {
    /// Its file number.
    pub number: u64,
    /// The number of its last frame.
    pub last_seq: u64,
    /// The header checksum of its last frame (of its file header, if it had none).
    pub last_crc: u32,
}

/// The header of a framed file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileHeader {
    /// The format version.
    pub version: u16,
    /// Random; every frame checksum starts from it.
    pub salt: u64,
    /// The file's number; unique in its directory, at least 1, never used again.
    pub number: u64,
    /// The number of its first data frame; at least 1.
    pub first_seq: u64,
    /// The length it was made with, in bytes. A shorter file is damaged.
    pub allocated_len: u64,
    /// The completed file before it, if any.
    pub predecessor: Option<Predecessor>,
    /// The number of the file whose place it takes, if any: that one is void where both exist.
    pub replaces: Option<u64>,
    /// The checksum of the header; the first frame refers to it.
    pub crc: u32,
}

impl FileHeader {
    /// The whole header page, with the checksum set in `self`.
    pub(super) fn encode(&mut self, kind: FileKind) -> Vec<u8> {
        assert!(kind.version > 0 && self.number > 0 && self.first_seq > 0, "0 means none on disk");
        let (number, last_seq, last_crc) =
            self.predecessor.map_or((0, 0, 0), |p| (p.number, p.last_seq, p.last_crc));
        let mut page = Vec::new();
        page.extend_from_slice(&kind.magic);
        page.extend_from_slice(&self.version.to_le_bytes());
        page.extend_from_slice(&0_u16.to_le_bytes());
        page.extend_from_slice(&(HEADER_BYTES as u32).to_le_bytes());
        page.extend_from_slice(&self.salt.to_le_bytes());
        page.extend_from_slice(&self.number.to_le_bytes());
        page.extend_from_slice(&self.first_seq.to_le_bytes());
        page.extend_from_slice(&self.allocated_len.to_le_bytes());
        page.extend_from_slice(&number.to_le_bytes());
        page.extend_from_slice(&last_seq.to_le_bytes());
        page.extend_from_slice(&self.replaces.unwrap_or(0).to_le_bytes());
        page.extend_from_slice(&last_crc.to_le_bytes());
        page.resize(CRC_AT, 0);
        self.crc = crc32fast::hash(&page);
        page.extend_from_slice(&self.crc.to_le_bytes());
        page.resize(HEADER_PAGE_BYTES as usize, 0);
        page
    }

    /// The header at the start of `page`, for a file of `kind` at `path`.
    pub(super) fn decode(page: &[u8], kind: FileKind, path: &Path) -> Result<Self, WalError> {
        Self::fields(page, kind, path).unwrap_or_else(|| {
            let (len, expected) = (page.len() as u64, HEADER_PAGE_BYTES);
            Err(WalError::corruption(path, 0, CorruptionDetail::Truncated { len, expected }))
        })
    }

    /// `None` where `page` is shorter than a header.
    fn fields(page: &[u8], kind: FileKind, path: &Path) -> Option<Result<Self, WalError>> {
        let crc = le::u32_at(page, CRC_AT)?;
        let version = le::u16_at(page, VERSION_AT)?;
        if let Err(error) = check_identity(page.get(..CRC_AT)?, crc, version, kind, path) {
            return Some(Err(error));
        }
        let predecessor = Predecessor {
            number: le::u64_at(page, PREDECESSOR_AT)?,
            last_seq: le::u64_at(page, PREDECESSOR_SEQ_AT)?,
            last_crc: le::u32_at(page, PREDECESSOR_CRC_AT)?,
        };
        let header = Self {
            version,
            salt: le::u64_at(page, SALT_AT)?,
            number: le::u64_at(page, NUMBER_AT)?,
            first_seq: le::u64_at(page, FIRST_SEQ_AT)?,
            allocated_len: le::u64_at(page, ALLOCATED_AT)?,
            predecessor: (predecessor.number != 0).then_some(predecessor),
            replaces: Some(le::u64_at(page, REPLACES_AT)?).filter(|&number| number != 0),
            crc,
        };
        let flags = le::u16_at(page, FLAGS_AT)?;
        let header_len = le::u32_at(page, HEADER_LEN_AT)?;
        Some(header.check_fields(flags, header_len, path))
    }

    /// Refuses values that no writer of this version produces, before anything is computed from
    /// them.
    fn check_fields(self, flags: u16, header_len: u32, path: &Path) -> Result<Self, WalError> {
        let field = |field, offset: usize, value| {
            let detail = CorruptionDetail::HeaderField { field, value };
            Err(WalError::corruption(path, offset as u64, detail))
        };
        if flags != 0 {
            field("flags", FLAGS_AT, u64::from(flags))
        } else if header_len as usize != HEADER_BYTES {
            field("header_len", HEADER_LEN_AT, u64::from(header_len))
        } else if self.number == 0 || self.number > NUMBER_MAX {
            field("number", NUMBER_AT, self.number)
        } else if self.first_seq == 0 || self.first_seq > NUMBER_MAX {
            field("first_seq", FIRST_SEQ_AT, self.first_seq)
        } else if self.allocated_len < HEADER_PAGE_BYTES {
            field("allocated_len", ALLOCATED_AT, self.allocated_len)
        } else if self.predecessor.is_some_and(|p| p.number >= self.number) {
            field("predecessor", PREDECESSOR_AT, self.predecessor.map_or(0, |p| p.number))
        } else if self.replaces.is_some_and(|number| number >= self.number) {
            field("replaces", REPLACES_AT, self.replaces.unwrap_or(0))
        } else {
            Ok(self)
        }
    }
}

/// Is it one of ours, undamaged, and not newer than this code? `bytes` is what `crc` covers.
fn check_identity(
    bytes: &[u8],
    crc: u32,
    version: u16,
    kind: FileKind,
    path: &Path,
) -> Result<(), WalError> {
    let computed = crc32fast::hash(bytes);
    if !bytes.starts_with(&kind.magic) {
        // With our magic put in, does the checksum fit? Then it is our file with a rotten magic.
        let mut hasher = crc32fast::Hasher::new();
        hasher.update(&kind.magic);
        hasher.update(bytes.get(VERSION_AT..).unwrap_or_default());
        if hasher.finalize() != crc {
            return Err(WalError::Foreign { file: path.to_owned(), kind: kind.name });
        }
    }
    if computed != crc {
        let detail = CorruptionDetail::HeaderChecksum { stated: crc, computed };
        return Err(WalError::corruption(path, 0, detail));
    }
    if version > kind.version {
        return Err(WalError::Newer {
            file: path.to_owned(),
            kind: kind.name,
            found: version,
            supported: kind.version,
        });
    }
    if version == 0 {
        let detail = CorruptionDetail::HeaderField { field: "version", value: 0 };
        return Err(WalError::corruption(path, VERSION_AT as u64, detail));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const KIND: FileKind = FileKind { magic: *b"AKTESTFL", version: 3, name: "test file" };

    fn header() -> FileHeader {
        FileHeader {
            version: 3,
            salt: 0x0123_4567_89ab_cdef,
            number: 9,
            first_seq: 40,
            allocated_len: 4096,
            predecessor: Some(Predecessor { number: 7, last_seq: 39, last_crc: 77 }),
            replaces: Some(8),
            crc: 0,
        }
    }

    fn decode(page: &[u8]) -> Result<FileHeader, WalError> {
        FileHeader::decode(page, KIND, Path::new("file"))
    }

    #[test]
    fn a_header_reads_back() {
        let mut written = header();
        let page = written.encode(KIND);
        assert_eq!(page.len() as u64, HEADER_PAGE_BYTES);
        assert_eq!(decode(&page).unwrap(), written);
    }

    #[test]
    fn every_flipped_bit_of_the_header_is_corruption() {
        let page = header().encode(KIND);
        for bit in 0..HEADER_BYTES * 8 {
            let mut bad = page.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            let error = decode(&bad).unwrap_err();
            assert!(matches!(error, WalError::Corruption { .. }), "bit {bit}: {error}");
        }
    }

    #[test]
    fn every_truncation_of_the_header_is_corruption() {
        let page = header().encode(KIND);
        for len in 0..HEADER_BYTES {
            assert!(matches!(decode(&page[..len]), Err(WalError::Corruption { .. })), "{len}");
        }
    }

    #[test]
    fn a_newer_file_is_refused_by_name() {
        let page = FileHeader { version: 4, ..header() }.encode(KIND);
        let error = decode(&page).unwrap_err();
        assert!(matches!(error, WalError::Newer { found: 4, supported: 3, .. }), "{error}");
    }

    #[test]
    fn another_kind_of_file_is_foreign() {
        let page = header().encode(FileKind { magic: *b"AKOTHERF", ..KIND });
        assert!(matches!(decode(&page), Err(WalError::Foreign { .. })));
        assert!(matches!(decode(&[0; 512]), Err(WalError::Foreign { .. })));
    }

    #[test]
    fn a_header_that_no_writer_makes_is_refused() {
        for bad in [
            FileHeader { replaces: Some(9), ..header() },
            FileHeader { allocated_len: 100, ..header() },
            FileHeader { number: u64::MAX, ..header() },
            FileHeader { first_seq: u64::MAX, ..header() },
            FileHeader {
                predecessor: Some(Predecessor { number: 10, last_seq: 1, last_crc: 0 }),
                ..header()
            },
        ] {
            let mut bad = bad;
            let page = bad.encode(KIND);
            assert!(matches!(
                decode(&page),
                Err(WalError::Corruption { detail: CorruptionDetail::HeaderField { .. }, .. })
            ));
        }
    }
}
