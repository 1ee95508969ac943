//! A small file of records that is replaced as a whole: the form of the journal of uploads and of
//! the dead letters. Both are short, change seldom, and must be there after any crash.
//!
//! Owns the bytes of the file (`docs/format/records.md`). Knows nothing of what a record means.
//!
//! # Crash consistency
//! The file is written under a temporary name, synced, renamed, and its directory synced: a crash
//! leaves the old state or the new one, whole.
//!
//! # Invariants
//! - Header and records carry checksums; those of records begin with a random number of the file and
//!   the record's offset, so that bytes of another file or place do not pass.
//! - Lengths and counts are checked against the file before anything is sliced or allocated.

#![deny(clippy::indexing_slicing)]

use akidb_vfs::{Fs, FsError, Random, read_file, write_file_durably};
use std::path::{Path, PathBuf};

const VERSION: u32 = 1;
const HEADER_BYTES: usize = 40;

/// A failure of a file of records.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RecordsError {
    /// A call on the disk failed.
    #[error(transparent)]
    Fs(#[from] FsError),
    /// The file is not as it was written: restore it, or remove it and lose what it says.
    #[error("{} is damaged at byte {offset}: {detail}", .file.display())]
    Corruption {
        /// The file.
        file: PathBuf,
        /// Where, in bytes.
        offset: u64,
        /// What is wrong.
        detail: &'static str,
    },
    /// The file was written by a newer version.
    #[error("{} has format version {found}, and this program reads {supported}", .file.display())]
    Newer {
        /// The file.
        file: PathBuf,
        /// Its version.
        found: u32,
        /// The newest version that can be read.
        supported: u32,
    },
    /// A record would not fit the form; nothing was written.
    #[error("{what} of {bytes} bytes cannot be written down; give at most {max}")]
    TooLarge {
        /// What it is.
        what: &'static str,
        /// Its bytes.
        bytes: usize,
        /// The most that can be.
        max: usize,
    },
}

/// What a file says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Records {
    /// The number that its owner gives next; never given twice.
    pub(crate) next: u64,
    /// Each record's body, in order.
    pub(crate) bodies: Vec<Vec<u8>>,
}

/// Where a file of records lies and what it begins with.
#[derive(Clone, Debug)]
pub(crate) struct RecordFile {
    pub(crate) path: PathBuf,
    pub(crate) magic: [u8; 8],
}

impl RecordFile {
    /// What was written last; nothing, if nothing ever was.
    pub(crate) fn read(&self, fs: &dyn Fs) -> Result<Records, RecordsError> {
        match read_file(fs, &self.path) {
            Ok(bytes) => decode(&bytes, self.magic, &self.path),
            Err(error) if error.is_not_found() => Ok(Records::default()),
            Err(error) => Err(error.into()),
        }
    }

    /// Replaces what the file says; durable when it returns.
    pub(crate) fn write(
        &self,
        fs: &dyn Fs,
        random: &dyn Random,
        records: &Records,
    ) -> Result<(), RecordsError> {
        let bytes = encode(records, self.magic, random.next_u64());
        Ok(write_file_durably(fs, &self.path, &bytes)?)
    }
}

fn encode(records: &Records, magic: [u8; 8], salt: u64) -> Vec<u8> {
    let mut out = Vec::with_capacity(HEADER_BYTES);
    out.extend_from_slice(&magic);
    out.extend_from_slice(&VERSION.to_le_bytes());
    // Owners bound both by far less.
    let count = u32::try_from(records.bodies.len()).unwrap_or(u32::MAX);
    out.extend_from_slice(&count.to_le_bytes());
    out.extend_from_slice(&salt.to_le_bytes());
    out.extend_from_slice(&records.next.to_le_bytes());
    out.extend_from_slice(&[0; 4]);
    let crc = crc32fast::hash(&out);
    out.extend_from_slice(&crc.to_le_bytes());
    for body in &records.bodies {
        let offset = out.len() as u64;
        let len = u32::try_from(body.len()).unwrap_or(u32::MAX);
        out.extend_from_slice(&len.to_le_bytes());
        out.extend_from_slice(&record_crc(salt, offset, body).to_le_bytes());
        out.extend_from_slice(body);
    }
    out
}

/// The length of a body goes into its checksum by being the end of it.
fn record_crc(salt: u64, offset: u64, body: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&salt.to_le_bytes());
    hasher.update(&offset.to_le_bytes());
    hasher.update(&(body.len() as u64).to_le_bytes());
    hasher.update(body);
    hasher.finalize()
}

fn decode(bytes: &[u8], magic: [u8; 8], path: &Path) -> Result<Records, RecordsError> {
    let damage = |offset: usize, detail| RecordsError::Corruption {
        file: path.to_owned(),
        offset: offset as u64,
        detail,
    };
    let cut = || damage(0, "the header is cut off");
    let (header, mut rest) = bytes.split_at_checked(HEADER_BYTES).ok_or_else(cut)?;
    let (covered, crc) = header.split_at_checked(HEADER_BYTES - 4).ok_or_else(cut)?;
    let mut fields = Fields(covered);
    if fields.take(magic.len()) != Some(magic.as_slice()) {
        return Err(damage(0, "this is not a file of this kind"));
    }
    if Fields(crc).u32() != Some(crc32fast::hash(covered)) {
        return Err(damage(0, "the header does not match its checksum"));
    }
    let found = fields.u32().ok_or_else(cut)?;
    if found > VERSION {
        return Err(RecordsError::Newer { file: path.to_owned(), found, supported: VERSION });
    }
    if found == 0 {
        return Err(damage(8, "there is no format version 0"));
    }
    let mut read = || Some((fields.u32()?, fields.u64()?, fields.u64()?));
    let (count, salt, next) = read().ok_or_else(cut)?;
    let mut bodies = Vec::new();
    for _ in 0..count {
        let offset = bytes.len() - rest.len();
        let mut record = Fields(rest);
        let mut read = || {
            let (len, crc) = (record.u32()?, record.u32()?);
            Some((crc, record.take(usize::try_from(len).ok()?)?))
        };
        let (crc, body) = read().ok_or_else(|| damage(offset, "a record is cut off"))?;
        if crc != record_crc(salt, offset as u64, body) {
            return Err(damage(offset, "a record does not match its checksum"));
        }
        bodies.push(body.to_vec());
        rest = record.0;
    }
    if !rest.is_empty() {
        return Err(damage(bytes.len() - rest.len(), "the file goes on after its last record"));
    }
    Ok(Records { next, bodies })
}

/// Little-endian fields, read from the front of bytes that may lie.
pub(crate) struct Fields<'a>(pub(crate) &'a [u8]);

impl<'a> Fields<'a> {
    pub(crate) fn take(&mut self, len: usize) -> Option<&'a [u8]> {
        let (head, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(head)
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.take(N)?.try_into().ok()
    }

    pub(crate) fn u8(&mut self) -> Option<u8> {
        self.array::<1>().map(|[byte]| byte)
    }

    pub(crate) fn u16(&mut self) -> Option<u16> {
        self.array().map(u16::from_le_bytes)
    }

    pub(crate) fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_le_bytes)
    }

    pub(crate) fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_le_bytes)
    }

    pub(crate) fn u128(&mut self) -> Option<u128> {
        self.array().map(u128::from_le_bytes)
    }

    /// Two bytes of length, then so many bytes.
    pub(crate) fn bytes(&mut self) -> Option<&'a [u8]> {
        let len = self.u16()?;
        self.take(len.into())
    }

    /// The same as text.
    pub(crate) fn text(&mut self) -> Option<&'a str> {
        std::str::from_utf8(self.bytes()?).ok()
    }
}

/// Refuses what is longer than its place in a record.
pub(crate) fn check_len(what: &'static str, bytes: usize, max: usize) -> Result<(), RecordsError> {
    if bytes <= max { Ok(()) } else { Err(RecordsError::TooLarge { what, bytes, max }) }
}

/// What [`Fields::bytes`] reads: at most 65,535 bytes, the rest is left off.
pub(crate) fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    let len = u16::try_from(bytes.len()).unwrap_or(u16::MAX);
    out.extend_from_slice(&len.to_le_bytes());
    out.extend(bytes.iter().take(len.into()));
}

#[cfg(test)]
pub(crate) mod tests;
