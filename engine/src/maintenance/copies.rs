//! Snapshots out of the database and into another: checked, copied to a store, restored from a copy.
//!
//! A copy is the snapshot's object as it is: one Parquet file whose footer says its schema, its creator and
//! the checksums of its rows, so it needs nothing beside it. Never touches the manifest: the collection
//! that a copy is restored into is made and written as by any caller.

use super::{
    objects,
    reading::{self, Place},
    snapshot,
};
use crate::{
    Point,
    cold::{ColdReader, RowGroups},
    collection::CollectionCore,
    db::{DbCore, Waiting, Write},
    error::{Cause, Error, InputError, Result},
};
use akidb_tiering::{
    ObjectKey, ObjectStore, PutOptions, StoreErrorKind, StoreResult, get_verified, put_verified,
};
use std::sync::Arc;

/// Rows that are written at a time.
const BATCH_ROWS: usize = 1_000;
/// Bytes of vectors that are written at a time, about.
const BATCH_BYTES: usize = 4 << 20;

/// Reads a snapshot whole, and checks all of it. Returns how many rows it has.
pub(crate) fn verify(core: &DbCore, name: &str) -> Result<u64> {
    core.shared.check_open()?;
    snapshot::verify(core, &snapshot::find(core, name)?)
}

/// Puts a copy of a snapshot into a store, under a key that must be free there.
pub(crate) fn copy(core: &DbCore, name: &str, to: &dyn ObjectStore, key: &str) -> Result<()> {
    core.shared.check_open()?;
    let found = snapshot::find(core, name)?;
    let key = ObjectKey::new(key).map_err(|_| InputError::BadKey { key: key.to_owned() })?;
    let gone = || Error::corruption(&*found.object.name(), 0, "it is not there");
    let bytes = objects::fetch(core, &found.object)?.ok_or_else(gone)?;
    let taken = || Err(Cause::ObjectExists { key: key.to_string() }.into());
    let safe = to.capabilities().if_absent;
    if !safe && core.block_on(is_there(to, &key))? {
        return taken();
    }
    let options = if safe { PutOptions::if_absent() } else { PutOptions::default() };
    match core.block_on(put_verified(to, &key, bytes, options)) {
        Ok(_) => Ok(()),
        Err(error) if error.kind == StoreErrorKind::PreconditionFailed => taken(),
        Err(error) => Err(error.into()),
    }
}

/// All that can be asked of a store that keeps to no condition: two copies at once may both find it free.
async fn is_there(store: &dyn ObjectStore, key: &ObjectKey) -> StoreResult<bool> {
    match store.head(key).await {
        Ok(_) => Ok(true),
        Err(error) if error.kind == StoreErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

/// Makes a collection of a copy. Every row gets an LSN of this database: those in the copy are
/// another's. If it fails on the way, the collection is dropped again.
pub(crate) fn restore(
    core: &DbCore,
    from: &dyn ObjectStore,
    key: &str,
    name: &str,
) -> Result<Arc<CollectionCore>> {
    core.check_may_write()?;
    let parsed = ObjectKey::new(key).map_err(|_| InputError::BadKey { key: key.to_owned() })?;
    let head = core.block_on(from.head(&parsed)).map_err(|error| match error.kind {
        StoreErrorKind::NotFound => Cause::ObjectNotFound { key: key.to_owned() },
        _ => error.into(),
    })?;
    let place = Place { store: from, key: &parsed, start: 0, len: head.len, crc32: head.crc32 };
    // Nobody keeps what was written if its bytes turn out to be others: it is dropped and made anew.
    let make = |groups: &dyn RowGroups| {
        let collection = core.create_collection(name, groups.schema().clone(), None)?;
        let made = Made { core, collection, kept: false };
        match fill(core, &made.collection, groups)? {
            written if written == groups.rows() => Ok(made),
            written => {
                let detail = format!("{written} rows of {}", groups.rows());
                Err(Error::corruption(key, 0, detail))
            }
        }
    };
    let piece_bytes = core.shared.settings.tiers.read_bytes;
    let mut made = if place.is_long(piece_bytes) {
        reading::read(place, piece_bytes, None, |stream| make(stream))?
    } else {
        let bytes = core.block_on(get_verified(from, &parsed, head.len, head.crc32))?;
        make(&ColdReader::open_alone(bytes, key)?)?
    };
    core.flush(&made.collection)?;
    made.kept = true;
    Ok(made.collection.clone())
}

/// A collection that is dropped again unless it is kept.
struct Made<'a> {
    core: &'a DbCore,
    collection: Arc<CollectionCore>,
    kept: bool,
}

impl Drop for Made<'_> {
    fn drop(&mut self) {
        if !self.kept {
            // What made it fail may make this fail too; then an incomplete collection is left, and said.
            drop(self.core.drop_collection(&self.collection.name));
        }
    }
}

fn fill(core: &DbCore, collection: &Arc<CollectionCore>, object: &dyn RowGroups) -> Result<u64> {
    let row_bytes = object.schema().dim as usize * size_of::<f32>();
    let batch_rows = (BATCH_BYTES / row_bytes.max(1)).clamp(1, BATCH_ROWS);
    let mut written = 0;
    for index in 0..object.groups() {
        let mut points = object.group(index)?.into_iter().map(|row| Point {
            id: row.id,
            vector: row.vector,
            metadata: serde_json::Value::Object(row.metadata),
        });
        loop {
            let batch: Vec<Point> = points.by_ref().take(batch_rows).collect();
            if batch.is_empty() {
                break;
            }
            written += batch.len() as u64;
            write(core, collection, batch)?;
        }
    }
    Ok(written)
}

/// Writes a batch. Where a limit leaves memory no room for it, once more after a flush: else a copy
/// that is larger than the limit could not be restored at all.
fn write(core: &DbCore, collection: &Arc<CollectionCore>, batch: Vec<Point>) -> Result<()> {
    let limited = core.shared.settings.limits.memory_bytes_max.is_some();
    let again = limited.then(|| batch.clone());
    let put = |batch| {
        let write = core.write(collection, Write::Upsert(batch), None, Waiting::Thread);
        core.block_on(write).map(drop)
    };
    match (put(batch), again) {
        (Err(error), Some(again)) if lacks_memory(&error) => {
            core.flush(collection)?;
            put(again)
        }
        (done, _) => done,
    }
}

fn lacks_memory(error: &Error) -> bool {
    matches!(error.cause(), Cause::QuotaExceeded { what: "memory_bytes", .. })
}
