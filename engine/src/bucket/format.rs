//! The bytes of the manifest in the bucket: a header of fixed width, then one zstd frame of JSON.
//! `docs/format/bucket-manifest.md` is the specification.
//!
//! Reads what anybody may have put there: checks before it believes, limits before it allocates.

#![deny(clippy::indexing_slicing)]

use super::{error::BucketError, state::BucketState};
use crate::cursor::Cursor;
use bytes::Bytes;
use uuid::Uuid;

/// The first bytes of the manifest in a bucket.
pub(super) const MAGIC: [u8; 8] = *b"AKIDBBKT";
pub(super) const VERSION: u32 = 2;
pub(super) const HEADER_LEN: usize = 56;
pub(super) const HEADER_CRC_AT: usize = HEADER_LEN - 4;
/// The most bytes of the object: some hundred thousand collections.
const OBJECT_BYTES_MAX: u64 = 64 << 20;
/// The most bytes of JSON.
const JSON_BYTES_MAX: u64 = 256 << 20;
const LEVEL: i32 = 3;

/// The bytes of a state.
///
/// # Errors
/// A bug: the state breaks a rule, or is larger than a manifest can be.
pub(crate) fn encode(state: &BucketState) -> Result<Bytes, BucketError> {
    if state.check().is_err() {
        return Err(BucketError::Bug("a manifest for the bucket breaks a rule"));
    }
    let failed = |_| BucketError::Bug("a manifest for the bucket did not serialise");
    let json = serde_json::to_vec(state).map_err(failed)?;
    let packed = zstd::bulk::compress(&json, LEVEL)
        .map_err(|_| BucketError::Bug("a manifest for the bucket did not compress"))?;
    let (plain_len, packed_len) = (json.len() as u64, packed.len() as u64);
    if plain_len > JSON_BYTES_MAX || packed_len > OBJECT_BYTES_MAX - HEADER_LEN as u64 {
        return Err(BucketError::Bug("a manifest for the bucket is too large"));
    }
    let mut out = Vec::with_capacity(HEADER_LEN + packed.len());
    out.extend_from_slice(&MAGIC);
    out.extend_from_slice(&VERSION.to_le_bytes());
    out.extend_from_slice(&[0; 4]);
    out.extend_from_slice(state.database.as_bytes());
    out.extend_from_slice(&plain_len.to_le_bytes());
    out.extend_from_slice(&packed_len.to_le_bytes());
    out.extend_from_slice(&crc32fast::hash(&packed).to_le_bytes());
    let crc = crc32fast::hash(&out);
    out.extend_from_slice(&crc.to_le_bytes());
    out.extend_from_slice(&packed);
    Ok(out.into())
}

/// Refuses an object that is too large to be a manifest, before it is fetched.
pub(super) fn check_len(len: u64, file: &str) -> Result<(), BucketError> {
    if len <= OBJECT_BYTES_MAX {
        return Ok(());
    }
    Err(damage(file, 0, &format!("{len} bytes are more than a manifest can have")))
}

/// Reads a state.
///
/// # Errors
/// Damage anywhere, an object that is no manifest, a newer version.
pub(crate) fn decode(bytes: &[u8], file: &str) -> Result<BucketState, BucketError> {
    check_len(bytes.len() as u64, file)?;
    let header = Header::decode(bytes, file)?;
    let packed = bytes.get(HEADER_LEN..).unwrap_or_default();
    if header.packed_len != packed.len() as u64 {
        let detail = format!("the body has {} bytes, not {}", packed.len(), header.packed_len);
        return Err(damage(file, HEADER_LEN, &detail));
    }
    let damaged = |detail: &str| damage(file, HEADER_LEN, detail);
    if crc32fast::hash(packed) != header.packed_crc {
        return Err(damaged("the body does not match its checksum"));
    }
    let plain_len = usize::try_from(header.plain_len).ok();
    let plain_len = plain_len.filter(|_| header.plain_len <= JSON_BYTES_MAX);
    let plain_len = plain_len.ok_or_else(|| damaged("the body states an impossible length"))?;
    let json = zstd::bulk::decompress(packed, plain_len)
        .map_err(|error| damaged(&format!("the body does not decompress: {error}")))?;
    if json.len() != plain_len {
        return Err(damaged("the body has another length than it states"));
    }
    let state: BucketState = serde_json::from_slice(&json)
        .map_err(|error| damaged(&format!("the body is no manifest: {error}")))?;
    if state.database != header.database {
        return Err(damaged("header and body name different databases"));
    }
    state.check().map_err(|detail| damaged(&detail))?;
    Ok(state)
}

struct Header {
    database: Uuid,
    plain_len: u64,
    packed_len: u64,
    packed_crc: u32,
}

impl Header {
    /// Checks magic and checksum before it believes the version, and the version before the rest.
    fn decode(bytes: &[u8], file: &str) -> Result<Self, BucketError> {
        let short = || damage(file, bytes.len(), "the header is cut off");
        let header = bytes.get(..HEADER_LEN).ok_or_else(short)?;
        let (covered, crc) = header.split_at_checked(HEADER_CRC_AT).ok_or_else(short)?;
        let mut fields = Cursor::new(covered, 0);
        if fields.take(MAGIC.len()) != Some(&MAGIC) {
            return Err(damage(file, 0, "this is not a manifest of AkiDB"));
        }
        if Cursor::new(crc, 0).u32() != Some(crc32fast::hash(covered)) {
            return Err(damage(file, 0, "the header does not match its checksum"));
        }
        let found = fields.u32().ok_or_else(short)?;
        if found > VERSION {
            return Err(BucketError::Newer { file: file.to_owned(), found, supported: VERSION });
        }
        if found == 0 || fields.u32() != Some(0) {
            return Err(damage(file, MAGIC.len(), "there is no such format version"));
        }
        let mut rest = || {
            Some(Self {
                database: Uuid::from_slice(fields.take(16)?).ok()?,
                plain_len: fields.u64()?,
                packed_len: fields.u64()?,
                packed_crc: fields.u32()?,
            })
        };
        rest().ok_or_else(short)
    }
}

fn damage(file: &str, offset: usize, detail: &str) -> BucketError {
    let (file, offset) = (file.to_owned(), offset as u64);
    BucketError::Damaged { file, offset, detail: detail.to_owned() }
}
