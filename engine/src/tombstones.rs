//! Tombstones of a collection: which rows of which segments are hidden, as one versioned file that
//! holds the full state. Segments never change; a delete or an upsert hides the old row here.
//!
//! Owns the file format (`docs/format/tombstones.md`). Must never change a file: a newer state is
//! a newer file, and the manifest says which one counts. Called by the step that installs a new
//! version, and by recovery.
//!
//! # Crash consistency
//! The file is written under a temporary name, synced, renamed, and its directory synced, before
//! the manifest names it. Anything else is a stray that recovery reports.

#![deny(clippy::indexing_slicing)]

use crate::{Cause, Error, Result, cursor::Cursor};
use akidb_vfs::{Fs, Random, planted, read_file, write_file_durably};
use roaring::RoaringBitmap;
use serde::{Deserialize, Serialize};
use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

#[cfg(test)]
mod tests;

/// The hidden rows of each segment, by the segment's file number.
pub(crate) type TombstoneSet = BTreeMap<u64, RoaringBitmap>;

/// The first bytes of a tombstone file.
pub(crate) const MAGIC: [u8; 8] = *b"AKIDBTMB";
const VERSION: u32 = 1;
const HEADER_LEN: usize = 48;
const HEADER_CRC_AT: usize = HEADER_LEN - 4;
const ENTRY_FIXED_LEN: usize = 24;

/// What the manifest says of a tombstone file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct TombstoneMeta {
    /// The file number, which gives the name.
    pub(crate) number: u64,
    /// Bytes of the file.
    pub(crate) len: u64,
    /// CRC-32 of the whole file.
    pub(crate) crc32: u32,
    /// Segments that have an entry.
    pub(crate) segments: u32,
}

/// A tombstone file in words and numbers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct TombstoneDescription {
    /// The file.
    pub file: PathBuf,
    /// Its length in bytes.
    pub bytes: u64,
    /// The format version.
    pub version: u32,
    /// The file number.
    pub number: u64,
    /// The number of the collection that it belongs to.
    pub collection: u32,
    /// The salt of the checksums, as 16 hexadecimal digits.
    pub salt: String,
    /// One line per segment.
    pub segments: Vec<TombstoneEntryDescription>,
}

/// The tombstones of one segment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct TombstoneEntryDescription {
    /// The segment's file number.
    pub segment: u64,
    /// Rows that are hidden.
    pub rows: u64,
    /// Bytes of the bitmap.
    pub bytes: u64,
}

/// Writes the full state of a collection's tombstones as file `number` in `dir`; durable when it
/// returns. It counts once a manifest names it.
///
/// # Errors
/// A failed call; the final name then does not exist, or is a stray.
pub(crate) fn write(
    fs: &dyn Fs,
    random: &dyn Random,
    dir: &Path,
    number: u64,
    collection: u32,
    set: &TombstoneSet,
) -> Result<TombstoneMeta> {
    let path = tombstone_path(dir, number);
    match fs.metadata(&path) {
        Err(error) if error.is_not_found() => {}
        Err(error) => return Err(error.into()),
        Ok(_) => return Err(Error::bug("a tombstone file's number was used before")),
    }
    let segments = u32::try_from(set.len()).map_err(|_| Error::bug("too many segments"))?;
    let header = Header { collection, number, salt: random.next_u64(), segments };
    let mut bytes = header.encode();
    for (segment, bitmap) in set {
        encode_entry(&mut bytes, header.salt, *segment, bitmap)?;
    }
    if let Err(error) = write_file_durably(fs, &path, &bytes) {
        // Best effort: if the directory sync failed the name exists, and nobody knows it.
        drop(fs.remove_file(&path));
        return Err(error.into());
    }
    Ok(TombstoneMeta { number, len: bytes.len() as u64, crc32: crc32fast::hash(&bytes), segments })
}

/// Reads the file that the manifest names.
///
/// # Errors
/// Corruption if it is gone, or differs from `meta`, or is damaged anywhere; `Newer`; a failed
/// call. Whether the rows exist in their segments is for the caller to check.
pub(crate) fn read(fs: &dyn Fs, dir: &Path, meta: &TombstoneMeta) -> Result<TombstoneSet> {
    let path = tombstone_path(dir, meta.number);
    let found = match fs.metadata(&path) {
        Ok(found) => found.len,
        Err(error) if error.is_not_found() => {
            return Err(Error::corruption(path, 0, "the manifest names this file, it is gone"));
        }
        Err(error) => return Err(error.into()),
    };
    if found != meta.len {
        let detail = format!("the file has {found} bytes, the manifest says {}", meta.len);
        return Err(Error::corruption(path, found.min(meta.len), detail));
    }
    let bytes = read_file(fs, &path)?;
    let (header, entries) = decode(&bytes, &path)?;
    if header.number != meta.number || header.segments != meta.segments {
        let detail = "the file number or count in the file is not what the manifest says";
        return Err(Error::corruption(path, 0, detail));
    }
    if crc32fast::hash(&bytes) != meta.crc32 {
        let detail = "the file as a whole does not match the manifest's checksum";
        return Err(Error::corruption(path, 0, detail));
    }
    Ok(entries.into_iter().map(|entry| (entry.segment, entry.bitmap)).collect())
}

/// A tombstone file by what it says of itself: its collection, what a manifest would say of it,
/// and the hidden rows.
///
/// # Errors
/// As [`read`].
pub(crate) fn adopt(fs: &dyn Fs, path: &Path) -> Result<(u32, TombstoneMeta, TombstoneSet)> {
    let bytes = read_file(fs, path)?;
    let (header, entries) = decode(&bytes, path)?;
    let meta = TombstoneMeta {
        number: header.number,
        len: bytes.len() as u64,
        crc32: crc32fast::hash(&bytes),
        segments: header.segments,
    };
    let set = entries.into_iter().map(|entry| (entry.segment, entry.bitmap)).collect();
    Ok((header.collection, meta, set))
}

/// Describes a tombstone file, without a manifest.
///
/// # Errors
/// Corruption if it is damaged anywhere or not a tombstone file; `Newer`; a failed call.
pub(crate) fn describe(fs: &dyn Fs, path: &Path) -> Result<TombstoneDescription> {
    let bytes = read_file(fs, path)?;
    let (header, entries) = decode(&bytes, path)?;
    Ok(TombstoneDescription {
        file: path.to_owned(),
        bytes: bytes.len() as u64,
        version: VERSION,
        number: header.number,
        collection: header.collection,
        salt: format!("{:016x}", header.salt),
        segments: entries
            .iter()
            .map(|entry| TombstoneEntryDescription {
                segment: entry.segment,
                rows: entry.bitmap.len(),
                bytes: entry.len,
            })
            .collect(),
    })
}

pub(crate) fn tombstone_path(dir: &Path, number: u64) -> PathBuf {
    dir.join(format!("{number:012}.tmb"))
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Header {
    collection: u32,
    number: u64,
    salt: u64,
    segments: u32,
}

impl Header {
    fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(HEADER_LEN);
        out.extend_from_slice(&MAGIC);
        out.extend_from_slice(&VERSION.to_le_bytes());
        out.extend_from_slice(&self.collection.to_le_bytes());
        out.extend_from_slice(&self.number.to_le_bytes());
        out.extend_from_slice(&self.salt.to_le_bytes());
        out.extend_from_slice(&self.segments.to_le_bytes());
        out.resize(HEADER_CRC_AT, 0);
        let crc = crc32fast::hash(&out);
        out.extend_from_slice(&crc.to_le_bytes());
        out
    }

    /// Checks magic and checksum before it believes the version, and the version before the rest.
    fn decode(bytes: &[u8], path: &Path) -> Result<Self> {
        let damage = |detail: &str| Error::corruption(path, 0, detail);
        let short = || damage("the header is cut off");
        let header = bytes.get(..HEADER_LEN).ok_or_else(short)?;
        let (covered, crc) = header.split_at_checked(HEADER_CRC_AT).ok_or_else(short)?;
        let mut fields = Cursor::new(covered, 0);
        if fields.take(MAGIC.len()) != Some(&MAGIC) {
            return Err(damage("this is not a tombstone file"));
        }
        if Cursor::new(crc, 0).u32() != Some(crc32fast::hash(covered)) {
            return Err(damage("the header does not match its checksum"));
        }
        let found = fields.u32().ok_or_else(short)?;
        if found > VERSION {
            let file = path.to_owned();
            return Err(Cause::Newer { file, found, supported: VERSION }.into());
        }
        if found == 0 {
            return Err(damage("there is no format version 0"));
        }
        let mut rest = || {
            Some(Self {
                collection: fields.u32()?,
                number: fields.u64()?,
                salt: fields.u64()?,
                segments: fields.u32()?,
            })
        };
        rest().ok_or_else(short)
    }
}

struct Entry {
    segment: u64,
    bitmap: RoaringBitmap,
    len: u64,
}

/// Salt and offset go into the checksum first, so that an entry of another place or file fails.
fn entry_crc(salt: u64, offset: u64, fields: &[u8], bitmap: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&salt.to_le_bytes());
    hasher.update(&offset.to_le_bytes());
    hasher.update(fields);
    hasher.update(bitmap);
    hasher.finalize()
}

fn encode_entry(out: &mut Vec<u8>, salt: u64, segment: u64, bitmap: &RoaringBitmap) -> Result<()> {
    let offset = out.len() as u64;
    let mut body = Vec::with_capacity(bitmap.serialized_size());
    let written = bitmap.serialize_into(&mut body);
    written.map_err(|_| Error::bug("a bitmap was not written to memory"))?;
    let mut fields = Vec::with_capacity(ENTRY_FIXED_LEN);
    fields.extend_from_slice(&segment.to_le_bytes());
    fields.extend_from_slice(&(body.len() as u64).to_le_bytes());
    // At most 2^32 - 1 rows of a segment exist to be hidden.
    let hidden =
        u32::try_from(bitmap.len()).map_err(|_| Error::bug("more rows hidden than exist"))?;
    fields.extend_from_slice(&hidden.to_le_bytes());
    let crc = entry_crc(salt, offset, &fields, &body);
    fields.extend_from_slice(&crc.to_le_bytes());
    out.extend_from_slice(&fields);
    out.extend_from_slice(&body);
    Ok(())
}

fn decode(bytes: &[u8], path: &Path) -> Result<(Header, Vec<Entry>)> {
    let header = Header::decode(bytes, path)?;
    let body = bytes.get(HEADER_LEN..).unwrap_or_default();
    let mut fields = Cursor::new(body, HEADER_LEN as u64);
    let mut entries: Vec<Entry> = Vec::new();
    for _ in 0..header.segments {
        let at = fields.position();
        let damage = |detail| Error::corruption(path, at, detail);
        let entry = decode_entry(&mut fields, header.salt).map_err(damage)?;
        if entries.last().is_some_and(|last| last.segment >= entry.segment) {
            return Err(damage("the entries are not in the order of their segments"));
        }
        entries.push(entry);
    }
    if fields.remaining() != 0 {
        let detail = "the file goes on after its last entry";
        return Err(Error::corruption(path, fields.position(), detail));
    }
    Ok((header, entries))
}

fn decode_entry(fields: &mut Cursor<'_>, salt: u64) -> Result<Entry, &'static str> {
    const CUT: &str = "an entry is cut off";
    let at = fields.position();
    let head = fields.take(ENTRY_FIXED_LEN).ok_or(CUT)?;
    let (covered, crc) = head.split_at_checked(ENTRY_FIXED_LEN - 4).ok_or(CUT)?;
    let mut covered_fields = Cursor::new(covered, at);
    let mut read = || Some((covered_fields.u64()?, covered_fields.u64()?, covered_fields.u32()?));
    let (segment, len, hidden) = read().ok_or(CUT)?;
    let body = usize::try_from(len).ok().and_then(|len| fields.take(len)).ok_or(CUT)?;
    if Cursor::new(crc, at).u32() != Some(entry_crc(salt, at, covered, body))
        && !planted("tombstones.checksum-ignored")
    {
        return Err("an entry does not match its checksum");
    }
    let mut rest = body;
    let bitmap = RoaringBitmap::deserialize_from(&mut rest).map_err(|_| "a bitmap is malformed")?;
    if !rest.is_empty() || bitmap.len() != u64::from(hidden) {
        return Err("a bitmap does not fill its entry or count what it should");
    }
    Ok(Entry { segment, bitmap, len })
}
