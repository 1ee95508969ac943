//! The body of a WAL frame: one batch of one collection, as upserted rows or deleted ids.
//!
//! Only resolved rows and ids are logged, never filters or patches, so that replay needs nothing
//! but the log. `docs/format/log-records.md` is the specification. Called by the commit path
//! (encode) and by recovery and `inspect` (decode); it never touches a file.
#![deny(clippy::indexing_slicing)]

use crate::PointId;

/// The version byte of the record body.
pub(crate) const VERSION: u8 = 1;
const OP_UPSERT: u8 = 1;
const OP_DELETE: u8 = 2;
/// version u8, op u8, reserved u16, collection u32, dim u32, count u32
const HEADER_BYTES: usize = 16;

/// A row in a record body.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct LoggedRow {
    pub(crate) id: PointId,
    /// Canonical JSON of the metadata object.
    pub(crate) metadata: Vec<u8>,
    pub(crate) vector: Vec<f32>,
}

/// A row where it stands in a record body.
#[derive(Clone, Debug)]
pub(crate) struct RowRef<'a> {
    pub(crate) id: PointId,
    /// Canonical JSON of the metadata object.
    pub(crate) metadata: &'a [u8],
    /// Little-endian numbers of 4 bytes.
    vector: &'a [u8],
}

impl RowRef<'_> {
    /// The numbers of the vector.
    pub(crate) fn vector(&self) -> impl ExactSizeIterator<Item = f32> {
        self.vector.chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap_or_default()))
    }
}

/// A decoded record body, with whatever was made of its rows.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum LogRecord<R = LoggedRow> {
    Upsert { collection: u32, rows: Vec<R> },
    Delete { collection: u32, ids: Vec<PointId> },
}

impl LogRecord {
    pub(crate) fn collection(&self) -> u32 {
        match self {
            Self::Upsert { collection, .. } | Self::Delete { collection, .. } => *collection,
        }
    }
}

/// Why a body that passed its checksum cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum PayloadError {
    #[error("record body version {0} is newer than this binary reads")]
    Version(u8),
    #[error("record body has unknown operation {0}")]
    Op(u8),
    #[error("record body ends inside {0}")]
    Short(&'static str),
    #[error("record body has {0} bytes behind its last row")]
    Trailing(usize),
    #[error("record body holds a malformed {0}")]
    Malformed(&'static str),
}

fn header(out: &mut Vec<u8>, op: u8, collection: u32, dim: u32, count: usize) {
    let count = u32::try_from(count).expect("batches are checked against wal_frame_bytes first");
    out.extend_from_slice(&[VERSION, op, 0, 0]);
    out.extend_from_slice(&collection.to_le_bytes());
    out.extend_from_slice(&dim.to_le_bytes());
    out.extend_from_slice(&count.to_le_bytes());
}

fn push_id(out: &mut Vec<u8>, id: &PointId) {
    let at = out.len();
    out.push(0);
    id.encode_into(out);
    let len = u8::try_from(out.len() - at - 1).expect("ids are at most 65 bytes, checked before");
    if let Some(slot) = out.get_mut(at) {
        *slot = len;
    }
}

/// Encodes an upsert of rows `(id, metadata JSON, vector)`, all of dimension `dim`.
pub(crate) fn encode_upsert<'a>(
    collection: u32,
    dim: u32,
    rows: impl ExactSizeIterator<Item = (&'a PointId, &'a [u8], &'a [f32])> + Clone,
) -> Vec<u8> {
    // A buffer that has to grow is copied, and a batch is megabytes: the lengths are summed first.
    let row_bytes = |(id, metadata, vector): (&PointId, &[u8], &[f32])| {
        1 + id.encoded_len() + 4 + metadata.len() + size_of_val(vector)
    };
    let bytes = rows.clone().map(row_bytes).sum::<usize>();
    let mut out = Vec::with_capacity(HEADER_BYTES + bytes);
    header(&mut out, OP_UPSERT, collection, dim, rows.len());
    for (id, metadata, vector) in rows {
        push_id(&mut out, id);
        let len = u32::try_from(metadata.len()).expect("metadata is bounded by a setting");
        out.extend_from_slice(&len.to_le_bytes());
        out.extend_from_slice(metadata);
        extend_f32(&mut out, vector);
    }
    out
}

fn extend_f32(out: &mut Vec<u8>, vector: &[f32]) {
    const _: () = assert!(cfg!(target_endian = "little"), "formats are little-endian");
    out.extend_from_slice(bytemuck::cast_slice(vector));
}

/// Encodes a delete of ids.
pub(crate) fn encode_delete<'a>(
    collection: u32,
    ids: impl ExactSizeIterator<Item = &'a PointId>,
) -> Vec<u8> {
    let mut out = Vec::with_capacity(HEADER_BYTES + ids.len() * 20);
    header(&mut out, OP_DELETE, collection, 0, ids.len());
    for id in ids {
        push_id(&mut out, id);
    }
    out
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, n: usize, what: &'static str) -> Result<&'a [u8], PayloadError> {
        let (head, rest) = self.0.split_at_checked(n).ok_or(PayloadError::Short(what))?;
        self.0 = rest;
        Ok(head)
    }

    fn u8(&mut self, what: &'static str) -> Result<u8, PayloadError> {
        self.take(1, what)?.first().copied().ok_or(PayloadError::Short(what))
    }

    fn u32(&mut self, what: &'static str) -> Result<u32, PayloadError> {
        let bytes = self.take(4, what)?.try_into().map_err(|_| PayloadError::Short(what))?;
        Ok(u32::from_le_bytes(bytes))
    }

    fn id(&mut self) -> Result<PointId, PayloadError> {
        let len = self.u8("an id's length")?;
        let bytes = self.take(usize::from(len), "an id")?;
        PointId::decode(bytes).ok_or(PayloadError::Malformed("id"))
    }

    fn row(&mut self, dim: usize) -> Result<RowRef<'a>, PayloadError> {
        let id = self.id()?;
        let len = self.u32("a metadata length")? as usize;
        let metadata = self.take(len, "metadata")?;
        let bytes = dim.checked_mul(4).ok_or(PayloadError::Malformed("dimension"))?;
        Ok(RowRef { id, metadata, vector: self.take(bytes, "a vector")? })
    }

    /// The operation and the collection; version and reserved bytes are checked.
    fn start(&mut self) -> Result<(u8, u32), PayloadError> {
        let version = self.u8("the version")?;
        if version != VERSION {
            return Err(PayloadError::Version(version));
        }
        let op = self.u8("the operation")?;
        if self.take(2, "the header")? != [0, 0] {
            return Err(PayloadError::Malformed("header"));
        }
        Ok((op, self.u32("the header")?))
    }
}

/// The collection that a record body is of, without a look at its rows.
pub(crate) fn collection_of(bytes: &[u8]) -> Result<u32, PayloadError> {
    Reader(bytes).start().map(|(_, collection)| collection)
}

/// Decodes a record body, checking every length before it is used.
pub(crate) fn decode(bytes: &[u8]) -> Result<LogRecord, PayloadError> {
    decode_with(bytes, |row| {
        let vector = row.vector().collect();
        Ok(LoggedRow { id: row.id, metadata: row.metadata.to_vec(), vector })
    })
}

/// As [`decode`], with `make` called for each row.
pub(crate) fn decode_with<'a, R>(
    bytes: &'a [u8],
    mut make: impl FnMut(RowRef<'a>) -> Result<R, PayloadError>,
) -> Result<LogRecord<R>, PayloadError> {
    let mut reader = Reader(bytes);
    let (op, collection) = reader.start()?;
    let dim = reader.u32("the header")? as usize;
    let count = reader.u32("the header")? as usize;
    // A row takes at least a byte, so a count above the bytes left is a lie that must not size
    // an allocation.
    if count > reader.0.len() {
        return Err(PayloadError::Malformed("row count"));
    }
    let record = match op {
        OP_UPSERT => {
            let rows = (0..count).map(|_| make(reader.row(dim)?)).collect::<Result<_, _>>()?;
            LogRecord::Upsert { collection, rows }
        }
        OP_DELETE => {
            let ids = (0..count).map(|_| reader.id()).collect::<Result<_, _>>()?;
            LogRecord::Delete { collection, ids }
        }
        other => return Err(PayloadError::Op(other)),
    };
    if reader.0.is_empty() { Ok(record) } else { Err(PayloadError::Trailing(reader.0.len())) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn rows() -> impl Strategy<Value = Vec<LoggedRow>> {
        let row =
            (any::<u64>(), prop::collection::vec(any::<u8>(), 0..20)).prop_map(|(id, meta)| {
                LoggedRow {
                    id: PointId::U64(id),
                    metadata: meta,
                    vector: vec![1.5, -0.0, f32::MAX],
                }
            });
        prop::collection::vec(row, 0..5)
    }

    fn encode(rows: &[LoggedRow]) -> Vec<u8> {
        encode_upsert(7, 3, rows.iter().map(|r| (&r.id, &r.metadata[..], &r.vector[..])))
    }

    proptest! {
        #[test]
        fn an_upsert_survives_its_byte_form(rows in rows()) {
            let expected = LogRecord::Upsert { collection: 7, rows: rows.clone() };
            prop_assert_eq!(decode(&encode(&rows)).unwrap(), expected);
        }

        #[test]
        fn a_delete_survives_its_byte_form(ids in prop::collection::vec("[a-z]{1,64}", 0..5)) {
            let ids: Vec<_> = ids.into_iter().map(PointId::from).collect();
            let bytes = encode_delete(9, ids.iter());
            prop_assert_eq!(decode(&bytes).unwrap(), LogRecord::Delete { collection: 9, ids });
        }

        #[test]
        fn a_record_body_is_built_without_growing(rows in rows()) {
            let bytes = encode(&rows);
            prop_assert_eq!(bytes.capacity(), bytes.len());
        }

        #[test]
        fn every_truncation_is_refused(rows in rows(), cut in any::<prop::sample::Index>()) {
            let bytes = encode(&rows);
            prop_assert!(decode(&bytes[..cut.index(bytes.len())]).is_err());
        }

        #[test]
        fn hostile_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            drop(decode(&bytes));
        }
    }
}
