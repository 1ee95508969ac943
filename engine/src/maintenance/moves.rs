//! Moves between tiers: demote (segments to one Parquet object) and promote (back).
//!
//! # Protocol of a demotion
//! 1. Under `moves`: promote first if there are cold objects, so that one object results.
//! 2. Freeze and flush, so that everything up to LSN V is in segments; capture them.
//! 3. Encode the live rows, put the object under a fresh name, and verify it: length and
//!    checksum as the store reports them (D10).
//! 4. Under `structure`: the manifest record names the object and drops the segments. Local
//!    files go when no reader holds them.
//!
//! Rows written during the move are newer than V; they stay in memtables and new segments and
//! hide the object's versions by their ids: a delete is kept as an entry for the same reason.
//!
//! # Protocol of a promotion
//! 1. Fetch, check length and checksum, decode, write a segment.
//! 2. Under `structure`: hide every row whose id any local part knows, since all local entries
//!    are newer; install; the object becomes garbage named by the manifest until it is deleted.
//!
//! # Crash consistency
//! An object put before the record that names it is garbage that the next epoch of this name
//! never meets (names are random). A failed step leaves the old tier as the truth.

use super::{build::SegmentBuilder, flush, install::Change};
use crate::{
    Schema,
    cold::{self, ColdRow},
    collection::{CollectionCore, SegmentPart, State, View, canonical, parse_metadata},
    db::DbCore,
    error::{Cause, Error, Result},
    manifest::ColdMeta,
    segment::SegmentMeta,
};
use akidb_tiering::{ObjectKey, PutOptions};
use akidb_vfs::planted;
use akidb_wal::Lsn;
use roaring::RoaringBitmap;
use std::sync::Arc;

/// Moves everything local to one cold object. Returns false if there was nothing to move.
pub(crate) fn demote(core: &DbCore, collection: &Arc<CollectionCore>) -> Result<bool> {
    core.check_may_write()?;
    let _moves = collection.moves.lock();
    collection.check_exists()?;
    if collection.state.read().pinned {
        return Err(Cause::Pinned { name: collection.name.clone() }.into());
    }
    collection.freeze();
    flush::flush_frozen(core, collection)?;
    if collection.state.read().parts.segments().is_empty() {
        return Ok(false);
    }
    promote_locked(core, collection)?;
    let mut view = collection.view();
    core.commit.sync(view.lsn).wait()?;
    // What was written since the flush stays local, and hides the object's rows by id.
    view.memtables.clear();
    let cold = if view.live_rows() == 0 {
        Vec::new()
    } else {
        let key = format!("c{}/{:032x}.parquet", collection.id, core.random.next_u128());
        vec![put_object(core, collection, &view, &key)?]
    };
    let key = cold.first().map(|object| object.key.clone());
    let structure = collection.structure.lock();
    let change = Change {
        remove: view.segments.iter().map(|part| part.part.number()).collect(),
        cold: Some(cold),
        ..Change::default()
    };
    core.install(collection, &structure, change, |_| Ok(())).inspect_err(|_| {
        if let Some(key) = &key {
            core.discard_object(key);
        }
    })?;
    Ok(true)
}

/// Encodes the live rows of a view and puts them as one verified object.
pub(crate) fn put_object(
    core: &DbCore,
    collection: &CollectionCore,
    view: &View,
    name: &str,
) -> Result<ColdMeta> {
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
    let rows = in_memtables.chain(in_segments);
    let encoded = cold::encode(&core.cold_context(collection, &view.schema), rows)?;
    let key = core.object_key(name)?;
    let meta = ColdMeta {
        key: key.to_string(),
        len: encoded.bytes.len() as u64,
        crc32: crc32fast::hash(&encoded.bytes),
        rows: encoded.rows,
        min_lsn: encoded.min_lsn,
        max_lsn: encoded.max_lsn,
    };
    core.block_on(core.store.put(&key, encoded.bytes, PutOptions::default()))?;
    verify_object(core, &key, &meta).inspect_err(|_| core.discard_object(&meta.key))?;
    Ok(meta)
}

fn verify_object(core: &DbCore, key: &ObjectKey, meta: &ColdMeta) -> Result<()> {
    let head = core.block_on(core.store.head(key))?;
    let same = head.len == meta.len && head.crc32 == meta.crc32;
    if !same && !planted("demote.object-unverified") {
        return Err(Error::corruption(
            key.to_string(),
            0,
            "the object store holds other bytes than were put",
        ));
    }
    Ok(())
}

/// Brings cold objects back into segments. Returns false if there was none.
pub(crate) fn promote(core: &DbCore, collection: &CollectionCore) -> Result<bool> {
    core.check_may_write()?;
    promote_for_read(core, collection)
}

/// As [`promote`], because somebody wants to read.
pub(crate) fn promote_for_read(core: &DbCore, collection: &CollectionCore) -> Result<bool> {
    let _moves = collection.moves.lock();
    collection.check_exists()?;
    promote_locked(core, collection)
}

/// As [`promote`], for a caller that holds `moves`.
pub(crate) fn promote_locked(core: &DbCore, collection: &CollectionCore) -> Result<bool> {
    let objects = collection.state.read().cold.clone();
    if objects.is_empty() {
        return Ok(false);
    }
    // Reads come here too: a database that cannot install must not write a segment for each.
    core.shared.check_writable()?;
    let schema = collection.schema();
    let mut metas = Vec::new();
    for object in &objects {
        metas.extend(fetch_segment(core, collection.id, &schema, object)?);
    }
    let structure = collection.structure.lock();
    let parts = metas
        .iter()
        .map(|meta| core.open_part(collection, meta, RoaringBitmap::new()))
        .collect::<Result<Vec<_>>>()?;
    hide_known(&collection.state.read(), &parts)?;
    if planted("promote.object-deleted-first") {
        objects.iter().for_each(|object| core.discard_object(&object.key));
    }
    let change = Change {
        add: parts.clone(),
        cold: Some(Vec::new()),
        garbage: objects.into_iter().map(|object| object.key).collect(),
        ..Change::default()
    };
    core.install(collection, &structure, change, |state| hide_known(state, &parts))?;
    core.collect_garbage();
    Ok(true)
}

/// Writes the rows of a cold object as a segment; `None` if it has no rows.
pub(crate) fn fetch_segment(
    core: &DbCore,
    collection: u32,
    schema: &Schema,
    object: &ColdMeta,
) -> Result<Option<SegmentMeta>> {
    let key = core.parse_key(&object.key)?;
    let bytes = match core.block_on(core.store.get(&key)) {
        Err(_) if planted("cold.missing-object-is-empty") => return Ok(None),
        fetched => fetched?.body,
    };
    let same = bytes.len() as u64 == object.len && crc32fast::hash(&bytes) == object.crc32;
    if !same && !planted("cold.checksum-ignored") {
        return Err(Error::corruption(&object.key, 0, "length or checksum is not the manifest's"));
    }
    let reader = cold::ColdReader::open(bytes, &object.key, schema)?;
    if object.rows == 0 {
        return Ok(None);
    }
    let mut builder = SegmentBuilder::start(core.site(), collection, schema, None)?;
    let mut rows = 0;
    for batch in reader {
        for row in batch? {
            let json = canonical(&row.metadata)?;
            builder.push(&row.id, Lsn::new(row.lsn), &row.vector, &json)?;
            rows += 1;
        }
    }
    if rows != object.rows {
        return Err(Error::corruption(&object.key, 0, "row count is not the manifest's"));
    }
    builder.finish().map(Some)
}

/// Hides every promoted row whose id a local part knows: whatever is local is newer. Looks every
/// row up before it hides any.
fn hide_known(state: &State, promoted: &[Arc<SegmentPart>]) -> Result<()> {
    if planted("promote.newer-rows-not-hidden-behind") {
        return Ok(());
    }
    let mut hidden = Vec::new();
    let mut look = |id: &crate::PointId| -> Result<()> {
        for (at, part) in promoted.iter().enumerate() {
            hidden.extend(part.find_live(id)?.map(|row| (at, row)));
        }
        Ok(())
    };
    for memtable in state.parts.memtables() {
        for (id, _) in memtable.newest_ids() {
            look(&id)?;
        }
    }
    for part in state.parts.segments() {
        for row in 0..part.segment.rows() {
            look(&part.segment.id(row)?)?;
        }
        for (id, _) in part.segment.deletes()? {
            look(&id)?;
        }
    }
    for (at, row) in hidden {
        if let Some(part) = promoted.get(at) {
            part.kill(row);
        }
    }
    Ok(())
}
