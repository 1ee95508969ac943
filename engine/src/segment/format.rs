//! The frame of a segment file: header, tail, and the checksum that binds bytes to their file and
//! place. With `directory`, the one source of the layout; `docs/format/segment.md` describes it and
//! a test decodes the example there.
//!
//! Decoders here take bytes that may lie: lengths and places are checked before anything is
//! computed or allocated from them, and a flaw says where it is. Does no I/O. Called by the writer,
//! the reader and `describe`.
//!
//! # Invariants
//! - Header and tail have their size, magic and checksum place in every version to come, so that a
//!   newer file is told from a damaged one ([`Header::decode`], [`Tail::decode`]).

#![deny(clippy::indexing_slicing)]

use super::meta::SegmentParams;
use crate::{Cause, Error, Metric, cursor::Cursor, schema::DIM_MAX};
use std::path::Path;

/// The newest version that this binary reads, and writes where a segment has cells.
pub(super) const VERSION: u32 = 2;
/// What it writes where there are none: older binaries read those.
pub(super) const VERSION_PLAIN: u32 = 1;
/// Bytes of the header.
pub(super) const HEADER_LEN: usize = 64;
/// Bytes of the tail.
pub(super) const TAIL_LEN: usize = 32;
/// The unit of checking: 64 KiB of a block.
pub(super) const EXTENT: u64 = 64 << 10;
/// Every block starts at a multiple of this: a cache line.
pub(super) const ALIGN: u64 = 64;
/// The vectors start at a multiple of this: a page.
pub(super) const ALIGN_VECTORS: u64 = 4096;
/// The most rows of one segment: a row number plus one fits the id index, and bitmaps of rows.
pub(super) const ROWS_MAX: u32 = u32::MAX - 1;

/// The first bytes of a segment file.
pub(crate) const HEADER_MAGIC: [u8; 8] = *b"AKIDBSEG";
const TAIL_MAGIC: [u8; 8] = *b"AKISEGND";
const HEADER_CRC_AT: usize = HEADER_LEN - 4;
const FOOTER_FIXED_LEN: usize = 32;

const _: () =
    assert!((HEADER_LEN as u64).is_multiple_of(ALIGN) && ALIGN_VECTORS.is_multiple_of(ALIGN));
const _: () = assert!(EXTENT.is_multiple_of(8), "an extent boundary never splits a number");

/// What is wrong with decoded bytes; the caller knows the file.
#[derive(Debug)]
pub(super) enum Flaw {
    /// Damaged at a file offset.
    Damage { offset: u64, detail: String },
    /// Whole, but of a newer format.
    Newer { found: u32 },
}

impl Flaw {
    pub(super) fn at(offset: u64, detail: impl Into<String>) -> Self {
        Self::Damage { offset, detail: detail.into() }
    }

    /// The public error for a file.
    pub(super) fn in_file(self, file: &Path) -> Error {
        match self {
            Self::Damage { offset, detail } => Error::corruption(file, offset, detail),
            Self::Newer { found } => {
                Cause::Newer { file: file.to_owned(), found, supported: VERSION }.into()
            }
        }
    }
}

/// The CRC-32 of bytes at a place of a file: salt and offset go in first, so that bytes that came
/// from another place or another file do not pass.
pub(super) fn place_hasher(salt: u64, offset: u64) -> crc32fast::Hasher {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&salt.to_le_bytes());
    hasher.update(&offset.to_le_bytes());
    hasher
}

/// The checksum of one extent; `offset` is that of its first byte in the file.
pub(super) fn extent_crc(salt: u64, offset: u64, bytes: &[u8]) -> u32 {
    let mut hasher = place_hasher(salt, offset);
    hasher.update(bytes);
    hasher.finalize()
}

/// The first [`HEADER_LEN`] bytes of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) version: u32,
    pub(super) number: u64,
    /// Random, so that no two files accept each other's bytes.
    pub(super) salt: u64,
    pub(super) params: SegmentParams,
}

impl Header {
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(HEADER_LEN);
        out.extend_from_slice(&HEADER_MAGIC);
        out.extend_from_slice(&self.version.to_le_bytes());
        out.extend_from_slice(&self.params.collection.to_le_bytes());
        out.extend_from_slice(&self.number.to_le_bytes());
        out.extend_from_slice(&self.salt.to_le_bytes());
        out.extend_from_slice(&self.params.dim.to_le_bytes());
        out.extend_from_slice(&metric_code(self.params.metric).to_le_bytes());
        out.resize(HEADER_CRC_AT, 0);
        let crc = crc32fast::hash(&out);
        out.extend_from_slice(&crc.to_le_bytes());
        out
    }

    /// Checks magic and checksum before it believes the version, and the version before the rest.
    pub(super) fn decode(bytes: &[u8]) -> Result<Self, Flaw> {
        let short = || Flaw::at(0, "the header is cut off");
        let (covered, crc) = bytes.split_at_checked(HEADER_CRC_AT).ok_or_else(short)?;
        let mut fields = Cursor::new(covered, 0);
        let magic = fields.take(HEADER_MAGIC.len()).ok_or_else(short)?;
        if magic != HEADER_MAGIC {
            return Err(Flaw::at(0, "this is not a segment file"));
        }
        if Cursor::new(crc, 0).u32() != Some(crc32fast::hash(covered)) {
            return Err(Flaw::at(0, "the header does not match its checksum"));
        }
        let found = fields.u32().ok_or_else(short)?;
        if found > VERSION {
            return Err(Flaw::Newer { found });
        }
        if found == 0 {
            return Err(Flaw::at(8, "there is no format version 0"));
        }
        let collection = fields.u32().ok_or_else(short)?;
        let number = fields.u64().ok_or_else(short)?;
        let salt = fields.u64().ok_or_else(short)?;
        let dim = fields.u32().ok_or_else(short)?;
        if dim == 0 || dim > DIM_MAX {
            return Err(Flaw::at(32, format!("a dimension of {dim} is not possible")));
        }
        let code = fields.u32().ok_or_else(short)?;
        let metric = metric_of(code).ok_or_else(|| Flaw::at(36, format!("no metric {code}")))?;
        let params = SegmentParams { collection, dim, metric };
        Ok(Self { version: found, number, salt, params })
    }
}

fn metric_code(metric: Metric) -> u32 {
    match metric {
        Metric::Cosine => 1,
        Metric::Dot => 2,
        Metric::L2 => 3,
    }
}

fn metric_of(code: u32) -> Option<Metric> {
    [Metric::Cosine, Metric::Dot, Metric::L2].into_iter().find(|m| metric_code(*m) == code)
}

/// The last [`TAIL_LEN`] bytes: where the footer is, and its checksum.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Tail {
    pub(super) version: u32,
    pub(super) footer_offset: u64,
    pub(super) footer_len: u64,
    pub(super) footer_crc: u32,
}

impl Tail {
    /// The tail of a footer; its checksum covers the tail's own fields too.
    pub(super) fn of(version: u32, footer: &[u8], footer_offset: u64, salt: u64) -> Self {
        let footer_len = footer.len() as u64;
        let mut hasher = place_hasher(salt, footer_offset);
        hasher.update(&footer_len.to_le_bytes());
        hasher.update(&version.to_le_bytes());
        hasher.update(footer);
        Self { version, footer_offset, footer_len, footer_crc: hasher.finalize() }
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(TAIL_LEN);
        out.extend_from_slice(&self.footer_offset.to_le_bytes());
        out.extend_from_slice(&self.footer_len.to_le_bytes());
        out.extend_from_slice(&self.footer_crc.to_le_bytes());
        out.extend_from_slice(&self.version.to_le_bytes());
        out.extend_from_slice(&TAIL_MAGIC);
        out
    }

    /// Decodes the tail of a file of `file_len` bytes whose header is of this version; the footer
    /// it names ends where the tail begins.
    pub(super) fn decode(version: u32, bytes: &[u8], file_len: u64) -> Result<Self, Flaw> {
        let at = file_len.saturating_sub(TAIL_LEN as u64);
        let mut fields = Cursor::new(bytes, at);
        let mut all = || {
            let (footer_offset, footer_len, footer_crc) =
                (fields.u64()?, fields.u64()?, fields.u32()?);
            let tail = Self { version: fields.u32()?, footer_offset, footer_len, footer_crc };
            Some((tail, fields.take(TAIL_MAGIC.len())?))
        };
        let (tail, magic) = all().ok_or_else(|| Flaw::at(at, "the tail is cut off"))?;
        if magic != TAIL_MAGIC || tail.version != version {
            return Err(Flaw::at(at, "the file does not end in a segment's tail"));
        }
        let fits = tail.footer_offset.checked_add(tail.footer_len) == Some(at)
            && tail.footer_offset >= HEADER_LEN as u64
            && tail.footer_len >= FOOTER_FIXED_LEN as u64;
        if !fits {
            return Err(Flaw::at(at, "the tail names a footer that does not fit the file"));
        }
        Ok(tail)
    }

    /// Checks the footer's bytes.
    pub(super) fn check(&self, footer: &[u8], salt: u64) -> Result<(), Flaw> {
        if Self::of(self.version, footer, self.footer_offset, salt) == *self {
            Ok(())
        } else {
            Err(Flaw::at(self.footer_offset, "the footer does not match its checksum"))
        }
    }
}
