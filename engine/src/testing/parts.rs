//! Log records, manifests, local and in a bucket, tombstones, field indexes and cold objects.

use crate::{
    Error, Record, Result, Schema, bucket,
    cold::{self, ColdContext, ColdReader, ColdRow},
    commit::payload::{self, LogRecord},
    field_index::{FieldIndexView, Query},
    manifest::{KIND, ManifestStore},
    tombstones::{self, TombstoneMeta},
};
use akidb_vfs::{Fs, Random, SystemRandom, sim::SimFs, write_file_durably};
use akidb_wal::{
    Env,
    framed::{FramedWriter, NewFile},
};
use bytes::Bytes;
use std::{ops::Bound, path::Path, sync::Arc};
use uuid::Uuid;

const DIR: &str = "/fuzz";

fn disk() -> Result<SimFs> {
    let fs = SimFs::new(1);
    fs.create_dir_all(Path::new(DIR))?;
    Ok(fs)
}

/// Decodes the body of a WAL frame; what was taken is encoded to the same bytes.
///
/// # Errors
/// Corruption.
///
/// # Panics
/// If it is not.
pub fn log_record(body: &[u8]) -> Result<()> {
    let record = payload::decode(body).map_err(|e| Error::corruption("body", 0, e.to_string()))?;
    // The dimension; a delete has none, and what stands there is not looked at.
    let dim = body.get(8..12).and_then(|dim| dim.try_into().ok()).map_or(0, u32::from_le_bytes);
    let again = match &record {
        LogRecord::Upsert { collection, rows } => payload::encode_upsert(
            *collection,
            dim,
            rows.iter().map(|row| (&row.id, &row.metadata[..], &row.vector[..])),
        ),
        LogRecord::Delete { collection, ids } => payload::encode_delete(*collection, ids.iter()),
    };
    let without_dim = |bytes: &[u8]| [&bytes[..8], &bytes[12..]].concat();
    assert_eq!(without_dim(&again), without_dim(body), "{record:?} has two byte forms");
    Ok(())
}

/// Reads a manifest file whose frames have these bodies; what was read is carried over to a fresh
/// file and reads the same there.
///
/// # Errors
/// Corruption.
///
/// # Panics
/// If it does not.
pub fn manifest(bodies: &[&[u8]]) -> Result<()> {
    let (fs, dir) = (Arc::new(disk()?) as Arc<dyn Fs>, Path::new(DIR));
    let random = Arc::new(SystemRandom::from_seed(1)) as Arc<dyn Random>;
    let path = dir.join("MANIFEST-000000000007");
    let env = Env::new(fs.clone(), random.clone());
    FramedWriter::create(&env, &NewFile::new(&path, KIND, 7, 512), bodies.iter().copied())?;
    let found = ManifestStore::read(&*fs, dir)?;
    let state = found.state().clone();
    let store = found.take_over(&fs, &random)?;
    assert_eq!(*store.state(), state);
    let again = ManifestStore::read(&*fs, dir).expect("what was written is read");
    assert_eq!(*again.state(), state, "a manifest changes when it is carried over");
    Ok(())
}

/// Reads a tombstone file; what was read is written and reads the same.
///
/// # Errors
/// Corruption, or a newer version.
///
/// # Panics
/// If it does not.
pub fn tombstones(bytes: &[u8]) -> Result<()> {
    let (fs, dir) = (disk()?, Path::new(DIR));
    let stray = dir.join("stray");
    write_file_durably(&fs, &stray, bytes)?;
    let told = tombstones::describe(&fs, &stray)?;
    write_file_durably(&fs, &tombstones::tombstone_path(dir, told.number), bytes)?;
    let segments = u32::try_from(told.segments.len()).expect("the header counts in 32 bits");
    let (len, crc32) = (bytes.len() as u64, crc32fast::hash(bytes));
    let meta = TombstoneMeta { number: told.number, len, crc32, segments };
    let set = tombstones::read(&fs, dir, &meta).expect("what describe takes, read takes");
    let lines = told.segments.iter().map(|entry| (entry.segment, entry.rows));
    assert!(lines.eq(set.iter().map(|(segment, rows)| (*segment, rows.len()))));
    let random = SystemRandom::from_seed(1);
    let number = told.number ^ 1;
    let meta = tombstones::write(&fs, &random, dir, number, told.collection, &set)?;
    assert_eq!(tombstones::read(&fs, dir, &meta)?, set, "tombstones change when written again");
    Ok(())
}

/// Asks every kind of question of a field index block, some with `probe` in them. A block that
/// passes the full check answers all of them.
///
/// # Errors
/// Corruption found by opening or by the full check.
///
/// # Panics
/// If a row outside the segment is named, or a block without damage does not answer.
pub fn field_index(block: &[u8], probe: &[u8]) -> Result<()> {
    let damage = |e: crate::field_index::FieldIndexError| {
        assert!(e.offset <= block.len() as u64, "{e}");
        Error::corruption("block", e.offset, e.detail)
    };
    let view = FieldIndexView::open(block).map_err(damage)?;
    let whole = view.verify().map_err(damage);
    let number = probe.first_chunk().map_or(0, |bytes| i64::from_le_bytes(*bytes));
    let key = || Box::<[u8]>::from(probe);
    let questions = [
        Query::Exists,
        Query::Keys(vec![key()]),
        Query::KeyRange(Bound::Included(key()), Bound::Unbounded),
        Query::KeyRange(Bound::Unbounded, Bound::Excluded(key())),
        Query::Element(key()),
        Query::Numbers(vec![number]),
        Query::NumberRange(i64::MIN, number),
        Query::NumberRange(number, i64::MAX),
    ];
    let exists = view.query(&Query::Exists);
    for question in questions {
        let answer = view.query(&question).map_err(damage);
        if let Ok(rows) = &answer {
            assert!(rows.max().is_none_or(|last| last < view.rows()), "{question:?}");
        }
        if whole.is_ok() {
            let rows = answer.expect("a block without damage answers");
            assert!(exists.as_ref().is_ok_and(|all| rows.is_subset(all)), "{question:?}");
        }
    }
    whole
}

/// Reads the manifest of a bucket; what was read is written and reads the same, and a directory can be
/// made of it.
///
/// # Errors
/// Corruption, or a newer version.
///
/// # Panics
/// If it does not, or cannot.
pub fn bucket_manifest(object: &[u8]) -> Result<()> {
    let state = bucket::decode(object, bucket::MANIFEST_KEY)?;
    let again = bucket::encode(&state).expect("a state that was read is written");
    let again = bucket::decode(&again, bucket::MANIFEST_KEY).expect("what was written is read");
    assert_eq!(state, again);
    let restored = state.restored();
    restored.manifest.check().expect("a directory begins with a manifest that breaks no rule");
    assert!(restored.partial.len() <= state.contents.collections.len());
    Ok(())
}

/// Reads a cold object; its rows are encoded again and come back as they were, to the bit.
///
/// # Errors
/// Corruption, or a newer version.
///
/// # Panics
/// If they do not.
pub fn cold(bytes: &Bytes) -> Result<u64> {
    let schema = cold::reseal::stated_schema(bytes, "object")?;
    let rows = cold_decode(bytes, &schema)?;
    let again = cold_encode(&schema, rows.clone()).expect("rows that were read are written");
    let again = cold_decode(&again, &schema).expect("what was written is read");
    assert_eq!(rows.len(), again.len());
    for (row, again) in rows.iter().zip(&again) {
        assert_eq!((&row.id, row.lsn, &row.metadata), (&again.id, again.lsn, &again.metadata));
        assert!(
            row.vector.iter().map(|x| x.to_bits()).eq(again.vector.iter().map(|x| x.to_bits()))
        );
    }
    Ok(rows.len() as u64)
}

/// Rows as one cold object.
///
/// # Errors
/// A vector of another dimension than the schema's.
pub fn cold_encode(schema: &Schema, rows: Vec<Record>) -> Result<Bytes> {
    let (database, count) = (Uuid::nil(), rows.len() as u64);
    let context = ColdContext { database, collection: 1, schema, rows: count };
    let rows = rows.into_iter().map(|row| {
        let Record { id, vector, metadata, lsn } = row;
        Ok(ColdRow { id, lsn, vector, metadata })
    });
    cold::encode(&context, rows).map(|(bytes, _)| bytes)
}

/// The rows of a cold object, all of them.
///
/// # Errors
/// Corruption, or a newer version.
pub fn cold_decode(bytes: &Bytes, schema: &Schema) -> Result<Vec<Record>> {
    let mut rows = Vec::new();
    for group in ColdReader::open(bytes.clone(), "object", schema)? {
        rows.append(&mut group?);
    }
    Ok(rows)
}

/// The same cold object without compression: damage to its pages then reaches the values.
///
/// # Errors
/// Corruption.
pub fn cold_uncompressed(bytes: &Bytes) -> Result<Vec<u8>> {
    cold::reseal::uncompressed(bytes).map_err(|detail| Error::corruption("object", 0, detail))
}

/// The checksum that a cold object should state for each row group, up to the first one that does
/// not decode: for a fuzzer that has changed the group.
pub fn cold_checksums(bytes: &Bytes) -> Vec<u32> {
    cold::reseal::group_checksums(bytes)
}
