//! Makes the checksums of changed files right again, as `docs/format` describes them, and nothing
//! else: what the bytes say stays hostile. Written apart from the engine's encoders.

use super::input::{place, put, u16_at, u32_at, u64_at};

/// The most that a file is lengthened to what its header says it has.
const ALLOCATED_MAX: u64 = 64 << 10;
const FRAME_HEADER: usize = 48;
const PAGE: usize = 512;
const EXTENT: u64 = 64 << 10;

/// What is done to a framed file beside its checksums, each a bit of the input's first byte.
#[derive(Clone, Copy, Debug)]
pub(super) struct Frames {
    /// Numbers frames one after the other.
    pub(super) number: bool,
    /// Leaves the header checksum of the nth frame wrong, for each bit.
    pub(super) broken: u8,
}

/// How a framed file ends: the number and the header checksum of its last frame.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct End {
    pub(super) seq: u64,
    pub(super) crc: u32,
}

fn crc_at(salt: u64, offset: u64, parts: &[&[u8]]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&salt.to_le_bytes());
    hasher.update(&offset.to_le_bytes());
    parts.iter().for_each(|part| hasher.update(part));
    hasher.finalize()
}

/// Seals a framed file: its header, then each frame.
pub(super) fn framed(bytes: &mut Vec<u8>, how: Frames) -> End {
    let allocated = u64_at(bytes, 40).filter(|len| *len <= ALLOCATED_MAX).unwrap_or(0);
    let len = bytes.len().max(PAGE).max(usize::try_from(allocated).unwrap_or(0));
    bytes.resize(len, 0);
    let crc = crc32fast::hash(&bytes[..124]);
    put(bytes, 124, &crc.to_le_bytes());
    let salt = u64_at(bytes, 16).unwrap_or(0);
    let first = u64_at(bytes, 32).unwrap_or(0);
    let mut end = End { seq: first.wrapping_sub(1), crc };
    let mut at = PAGE;
    for n in 0.. {
        let Some(len) = frame(bytes, at, salt, &mut end, how.number) else { break };
        if n < 8 && how.broken & (1 << n) != 0 {
            bytes[at + 44] ^= 1;
        }
        at = at.saturating_add(len);
    }
    end
}

/// Seals the frame at `at`, if one begins there, and tells its length.
fn frame(bytes: &mut [u8], at: usize, salt: u64, end: &mut End, number: bool) -> Option<usize> {
    let header = bytes.get(at..at.checked_add(FRAME_HEADER)?)?;
    if !header.starts_with(b"AkFr") {
        return None;
    }
    let data = header.get(5) == Some(&1);
    let payload_len = u32_at(header, 32)? as usize;
    put(bytes, at + 8, &salt.to_le_bytes());
    if number {
        let seq = if data { end.seq.wrapping_add(1) } else { end.seq };
        put(bytes, at + 16, &seq.to_le_bytes());
    }
    let payload = at + FRAME_HEADER;
    if let Some(payload) = bytes.get(payload..payload.saturating_add(payload_len)) {
        let crc = crc_at(salt, at as u64, &[payload]);
        put(bytes, at + 36, &crc.to_le_bytes());
    }
    put(bytes, at + 40, &end.crc.to_le_bytes());
    let crc = crc_at(salt, at as u64, &[bytes.get(at..at + 44)?]);
    put(bytes, at + 44, &crc.to_le_bytes());
    *end = End { seq: u64_at(bytes, at + 16)?, crc };
    Some(FRAME_HEADER + payload_len.next_multiple_of(8))
}

/// Seals a tombstone file.
pub(super) fn tombstones(bytes: &mut [u8]) -> Option<()> {
    let crc = crc32fast::hash(bytes.get(..44)?);
    put(bytes, 44, &crc.to_le_bytes());
    let salt = u64_at(bytes, 24)?;
    let mut at = 48;
    loop {
        let len = u64_at(bytes, at + 8)?;
        let body = at + 24;
        let end = body.checked_add(usize::try_from(len).ok()?)?;
        let parts = [bytes.get(at..at + 20)?, bytes.get(body..end)?];
        let crc = crc_at(salt, at as u64, &parts);
        put(bytes, at + 20, &crc.to_le_bytes());
        at = end;
    }
}

/// Seals the manifest of a bucket: the length of its body, and both checksums.
pub(super) fn bucket_manifest(bytes: &mut [u8]) -> Option<()> {
    let body = bytes.get(56..)?;
    let (len, crc) = (body.len() as u64, crc32fast::hash(body));
    put(bytes, 40, &len.to_le_bytes());
    put(bytes, 48, &crc.to_le_bytes());
    let crc = crc32fast::hash(bytes.get(..52)?);
    put(bytes, 52, &crc.to_le_bytes());
    Some(())
}

/// The manifest of a bucket with this JSON, unsealed. The header names the database that the JSON does,
/// if it names one where the golden file does; the body is a zstd frame of one block as it is.
pub(super) fn packed_manifest(json: &[u8]) -> Vec<u8> {
    // One block has at most 128 KiB.
    let json = json.get(..128 << 10).unwrap_or(json);
    let len = u32::try_from(json.len()).expect("at most one block");
    let mut object = [b"AKIDBBKT".as_slice(), &[1, 0, 0, 0], &[0; 4]].concat();
    object.extend_from_slice(&stated_database(json));
    object.extend_from_slice(&u64::from(len).to_le_bytes());
    object.resize(56, 0);
    // Magic; one segment, four bytes of its length; the last block, raw, three bytes of its length.
    object.extend_from_slice(&[0x28, 0xb5, 0x2f, 0xfd, 0xa0]);
    object.extend_from_slice(&len.to_le_bytes());
    object.extend_from_slice(&(len << 3 | 1).to_le_bytes()[..3]);
    object.extend_from_slice(json);
    object
}

/// The first UUID of a JSON that begins with `{"database":"`; zeros if it does not.
fn stated_database(json: &[u8]) -> [u8; 16] {
    let digits = json.iter().skip(13).filter(|byte| **byte != b'-');
    let digits: Vec<_> = digits.take(32).map(|byte| char::from(*byte).to_digit(16)).collect();
    let byte = |pair: &[Option<u32>]| match pair {
        [Some(high), Some(low)] => u8::try_from(high << 4 | low).unwrap_or(0),
        _ => 0,
    };
    let mut database = [0; 16];
    for (to, pair) in database.iter_mut().zip(digits.chunks(2)) {
        *to = byte(pair);
    }
    database
}

/// Seals a file of records: its header, then each record.
pub(super) fn records(bytes: &mut [u8]) -> Option<()> {
    let crc = crc32fast::hash(bytes.get(..36)?);
    put(bytes, 36, &crc.to_le_bytes());
    let salt = u64_at(bytes, 16)?;
    let mut at = 40;
    loop {
        let len = u64::from(u32_at(bytes, at)?);
        let body = at + 8;
        let end = body.checked_add(usize::try_from(len).ok()?)?;
        let crc = crc_at(salt, at as u64, &[&len.to_le_bytes(), bytes.get(body..end)?]);
        put(bytes, at + 4, &crc.to_le_bytes());
        at = end;
    }
}

/// Seals a segment file: header, the extents of every block in the directory, footer.
pub(super) fn segment(bytes: &mut [u8]) -> Option<()> {
    let crc = crc32fast::hash(bytes.get(..60)?);
    put(bytes, 60, &crc.to_le_bytes());
    let salt = u64_at(bytes, 24)?;
    let tail = bytes.len().checked_sub(32)?;
    let footer_len = usize::try_from(u64_at(bytes, tail + 8)?).ok()?;
    let footer = tail.checked_sub(footer_len)?;
    put(bytes, tail, &(footer as u64).to_le_bytes());
    let mut at = footer + 32;
    while let Some(next) = block(bytes, at, salt) {
        at = next;
    }
    let parts =
        [&(footer_len as u64).to_le_bytes()[..], &1_u32.to_le_bytes(), &bytes[footer..tail]];
    let crc = crc_at(salt, footer as u64, &parts);
    put(bytes, tail + 16, &crc.to_le_bytes());
    Some(())
}

/// Seals the extents of the block whose entry is at `at`, and tells where the next entry is.
fn block(bytes: &mut [u8], at: usize, salt: u64) -> Option<usize> {
    let (offset, len) = (u64_at(bytes, at + 8)?, u64_at(bytes, at + 16)?);
    let mut crc_place = at + 36 + usize::from(u16_at(bytes, at + 32)?);
    let end = place(bytes, offset.checked_add(len)?)?;
    let mut start = place(bytes, offset)?;
    while start < end {
        let stop = end.min(start + EXTENT as usize);
        let crc = crc_at(salt, start as u64, &[&bytes[start..stop]]);
        put(bytes, crc_place, &crc.to_le_bytes());
        (start, crc_place) = (stop, crc_place + 4);
    }
    (crc_place < bytes.len()).then_some(crc_place)
}

/// Seals a cold object whose row groups should have these checksums: the texts in the footer that
/// state them, and the one that covers the key-values.
pub(super) fn cold(bytes: &mut [u8], groups: &[u32]) -> Option<()> {
    let (mut at, end) = key_value(bytes, "akidb.row_groups")?;
    for crc in groups {
        let text = bytes.get(at..end)?;
        let sum = at + text.iter().position(|byte| *byte == b':')? + 1;
        put(bytes, sum, format!("{crc:08x}").as_bytes());
        at = sum + 9;
    }
    let keys = ["format_version", "schema", "database", "collection", "rows", "lsn_min", "lsn_max"];
    let mut hasher = crc32fast::Hasher::new();
    for key in keys.into_iter().chain(["row_groups"]) {
        let key = format!("akidb.{key}");
        let (start, end) = key_value(bytes, &key)?;
        for part in [key.as_bytes(), bytes.get(start..end)?] {
            hasher.update(part);
            hasher.update(&[0]);
        }
    }
    let (start, end) = key_value(bytes, "akidb.crc32")?;
    let sum = format!("{:08x}", hasher.finalize());
    if end - start == sum.len() {
        put(bytes, start, sum.as_bytes());
    }
    Some(())
}

/// Where the value of a key lies in a Parquet footer: in Thrift's compact form a text is its
/// length and its bytes, and the field header before the value is 0x18.
fn key_value(bytes: &[u8], key: &str) -> Option<(usize, usize)> {
    let len = u8::try_from(key.len()).ok()?;
    let pattern = [&[len], key.as_bytes(), &[0x18]].concat();
    let found = bytes.windows(pattern.len()).rposition(|window| window == pattern)?;
    let (mut at, mut len, mut shift) = (found + pattern.len(), 0_usize, 0);
    loop {
        let byte = *bytes.get(at)?;
        at += 1;
        len |= usize::from(byte & 0x7f) << shift;
        shift += 7;
        if byte & 0x80 == 0 {
            break;
        }
        if shift > 21 {
            return None;
        }
    }
    let end = at.checked_add(len).filter(|end| *end <= bytes.len())?;
    Some((at, end))
}
