//! Cold objects in and out: the live rows of a view as one verified object, and an object's rows as a
//! segment.
//!
//! Never decides that anything moves and never names an object in the manifest: a demotion or a
//! snapshot does, after [`put_object`] has returned. Called by `moves` and `snapshot`.

use super::{
    build::SegmentBuilder,
    reading::{self, Place},
    rows,
};
use crate::{
    Schema,
    cold::{self, ColdReader, ColdRow, EncodedChunks, RowGroups, Totals},
    collection::{CollectionCore, View, parse_metadata},
    db::DbCore,
    error::{Error, Result},
    manifest::ColdMeta,
    segment::SegmentMeta,
};
use akidb_tiering::{
    ObjectKey, ObjectSource, Outcome, PutOptions, UploadError, get_slice_verified, get_verified,
};
use akidb_vfs::planted;
use bytes::Bytes;

/// The live rows of a view, read while they are asked for.
fn live_rows(view: &View) -> impl Iterator<Item = Result<ColdRow>> + Send {
    let in_memtables = view.memtables.iter().flat_map(|part| {
        let live = part.rows.iter().filter(|(_, row)| row.live_at(view.lsn));
        live.map(|(_, row)| {
            Ok(ColdRow {
                id: row.id.clone(),
                lsn: row.lsn.get(),
                vector: row.vector.to_vec(),
                metadata: parse_metadata(&row.metadata)?,
            })
        })
    });
    let in_segments = view.segments.iter().flat_map(|part| {
        let segment = &part.part.segment;
        part.live().map(|row| {
            Ok(ColdRow {
                id: segment.id(row)?,
                lsn: segment.lsn(row)?,
                vector: segment.vectors(row, 1)?.to_vec(),
                metadata: segment.metadata(row)?,
            })
        })
    });
    in_memtables.chain(in_segments)
}

/// Encodes the live rows of a view in memory.
pub(super) fn encode(
    core: &DbCore,
    collection: &CollectionCore,
    view: &View,
) -> Result<(Bytes, Totals)> {
    cold::encode(&core.cold_context(collection, view), live_rows(view))
}

/// Encodes the live rows of a view and puts them as one verified object.
pub(crate) fn put_object(
    core: &DbCore,
    collection: &CollectionCore,
    view: &View,
    key: &ObjectKey,
) -> Result<ColdMeta> {
    // A poisoned database could neither name the object nor delete it.
    core.shared.check_writable()?;
    let context = core.cold_context(collection, view);
    let chunks = EncodedChunks::start(&context, live_rows(view))?;
    let totals = chunks.totals();
    let sent = send(core, key, chunks);
    sent.map_err(|error| not_sent(core, key, error))?;
    let totals = totals.get().ok_or_else(|| Error::bug("an object was sent and has no length"))?;
    let Totals { len, crc32, rows, min_lsn, max_lsn } = totals;
    Ok(ColdMeta { key: key.to_string(), len, crc32, rows, min_lsn, max_lsn, slice: None })
}

/// Sends what is encoded while it is sent, and verifies what arrived.
fn send(
    core: &DbCore,
    key: &ObjectKey,
    chunks: EncodedChunks<impl Iterator<Item = Result<ColdRow>> + Send>,
) -> Result<(), UploadError> {
    if planted("demote.object-unverified") {
        let bytes: Vec<u8> = chunks.flatten().flatten().collect();
        let put = core.store.put(key, bytes.into(), PutOptions::default());
        return Ok(core.block_on(put).map(drop)?);
    }
    let chunks = chunks.map(|chunk| chunk.map_err(Into::into));
    core.block_on(core.uploader.upload(ObjectSource::streamed(key.clone(), chunks))).map(drop)
}

/// What an upload failed with. What is there under its key, if anything, nobody wants.
pub(super) fn not_sent(core: &DbCore, key: &ObjectKey, error: UploadError) -> Error {
    if matches!(&error, UploadError::Store(error) if error.outcome == Outcome::Unknown) {
        core.discard_object(key.as_str());
    }
    unwrapped(error)
}

/// An upload that failed because a row could not be read failed as that did.
fn unwrapped(error: UploadError) -> Error {
    match error {
        UploadError::Source { source, key } => match source.downcast::<Error>() {
            Ok(ours) => *ours,
            Err(source) => UploadError::Source { source, key }.into(),
        },
        other => other.into(),
    }
}

/// A file as it was put, by length and checksum; read again if the way spoilt it.
pub(crate) fn fetch(core: &DbCore, object: &ColdMeta) -> Result<Option<Bytes>> {
    let key = core.parse_key(&object.key)?;
    if planted("cold.checksum-ignored") && object.slice.is_none() {
        return Ok(Some(core.block_on(core.store.get(&key))?.body));
    }
    let fetched = match object.slice {
        None => core.block_on(get_verified(&*core.store, &key, object.len, object.crc32)),
        Some(_) => {
            // Checked when the manifest was read.
            let range = object.range().ok_or_else(|| Error::bug("a slice has no range"))?;
            core.block_on(get_slice_verified(&*core.store, &key, range, object.crc32))
        }
    };
    match fetched {
        Err(_) if planted("cold.missing-object-is-empty") => Ok(None),
        fetched => Ok(Some(fetched?)),
    }
}

/// Writes the rows of a cold object as a segment; `None` if it has no rows. A long object is read, decoded
/// and written at the same time, and no longer than that in memory.
pub(crate) fn fetch_segment(
    core: &DbCore,
    collection: u32,
    schema: &Schema,
    object: &ColdMeta,
) -> Result<Option<SegmentMeta>> {
    let site = core.site();
    let write = |groups: &dyn RowGroups| {
        if object.rows == 0 {
            return Ok(None);
        }
        let mut builder = SegmentBuilder::start(site, collection, schema, None)?;
        let rows = rows::write_object(&mut builder, groups, site.threads)?;
        if rows != object.rows {
            return Err(Error::corruption(&*object.name(), 0, "row count is not the manifest's"));
        }
        Ok(Some(builder))
    };
    // Finished only now, when the object is known to be the one that the manifest names.
    let builder = with_rows(core, object, schema, write)?.flatten();
    builder.map(SegmentBuilder::finish).transpose()
}

/// Has the rows of an object taken, and gives what was made of them once all of it was verified: before
/// anybody sees a row of one that is read whole, after the last of one that is read in pieces.
pub(super) fn with_rows<T>(
    core: &DbCore,
    object: &ColdMeta,
    schema: &Schema,
    take: impl Fn(&dyn RowGroups) -> Result<T>,
) -> Result<Option<T>> {
    let (key, piece_bytes) = (core.parse_key(&object.key)?, core.shared.settings.tiers.read_bytes);
    let (len, crc32) = (object.len, object.crc32);
    let start = object.slice.map_or(0, |slice| slice.offset);
    let place = Place { store: &*core.store, key: &key, start, len, crc32 };
    if !place.is_long(piece_bytes) {
        let Some(bytes) = fetch(core, object)? else { return Ok(None) };
        return take(&ColdReader::open(bytes, &object.name(), schema)?).map(Some);
    }
    match reading::read(place, piece_bytes, Some(schema), |stream| take(stream)) {
        Err(_) if planted("cold.missing-object-is-empty") => Ok(None),
        taken => taken.map(Some),
    }
}
