//! Decoding: from the payload of a frame to a batch that is ready for its memtable. Owns every
//! reason for which a replay refuses or skips a record; changes nothing in the database, so that it
//! can run ahead of what is applied. Called by the thread that reads the log, record by record.

#![deny(clippy::indexing_slicing)]

use super::{
    Recovery,
    parcel::{Batch, Logged, Parcel, ParcelRow},
};
use crate::{
    collection::{CollectionCore, parse_metadata},
    commit::payload::{self, LogRecord, PayloadError, RowRef},
    error::{Cause, Error, Result},
    point::Metadata,
};
use akidb_vfs::planted;
use akidb_wal::Lsn;
use serde::de::IgnoredAny;
use std::{collections::BTreeMap, sync::Arc};

/// What the decoder needs of a collection. Kept here because its own state is locked while a record
/// is applied.
struct Target {
    flushed: Lsn,
    dim: usize,
    /// Are there indexes that want the metadata parsed?
    indexed: bool,
}

/// Turns records into batches and counts them.
pub(super) struct Decoder<'a> {
    recovery: &'a Recovery<'a>,
    targets: BTreeMap<u32, Target>,
    pub(super) batches: u64,
    pub(super) rows: u64,
}

impl<'a> Decoder<'a> {
    pub(super) fn new(recovery: &'a Recovery<'a>) -> Self {
        let target = |(&id, collection): (&u32, &Arc<CollectionCore>)| {
            let state = collection.state.read();
            let (dim, indexed) = (state.schema.dim as usize, !state.schema.fields.is_empty());
            (id, Target { flushed: state.flushed, dim, indexed })
        };
        let targets = recovery.collections.iter().map(target).collect();
        Self { recovery, targets, batches: 0, rows: 0 }
    }

    /// The batch of a record, whose rows are put into `parcel`; `None` if it is in segments, or its
    /// collection was dropped. After an error the parcel may hold rows that belong to no batch, and
    /// takes no further record.
    pub(super) fn decode(
        &mut self,
        lsn: Lsn,
        body: &[u8],
        parcel: &mut Parcel,
    ) -> Result<Option<Batch>> {
        let Recovery { paths, state, .. } = self.recovery;
        let damaged =
            |detail: String| Error::corruption(&paths.wal, 0, format!("LSN {lsn}: {detail}"));
        let id = payload::collection_of(body).map_err(|error| damaged(error.to_string()))?;
        if state.database.is_nil() {
            let (dir, missing) = (paths.root.clone(), "its manifest".to_owned());
            return Err(Cause::HalfDeleted { dir, missing }.into());
        }
        let Some(target) = self.targets.get(&id) else {
            if id < state.next_collection {
                return Ok(None); // dropped since
            }
            return Err(damaged(format!(
                "the manifest never created collection {id}; one of the two is damaged"
            )));
        };
        let off_by_one = planted("replay.mark-off-by-one") && target.flushed > Lsn::ZERO;
        if lsn <= if off_by_one { target.flushed.next() } else { target.flushed } {
            return Ok(None);
        }
        let record = payload::decode_with(body, |row| target.put(row, parcel));
        self.batches += 1;
        let change = match record.map_err(|error| damaged(error.to_string()))? {
            LogRecord::Upsert { rows, .. } => {
                self.rows += rows.len() as u64;
                Logged::Rows(rows.len())
            }
            LogRecord::Delete { .. } if planted("replay.deletes-ignored") => return Ok(None),
            LogRecord::Delete { ids, .. } => {
                self.rows += ids.len() as u64;
                Logged::Deletes(ids)
            }
        };
        Ok(Some(Batch { lsn, collection: id, change }))
    }
}

impl Target {
    /// Puts a row into `parcel`.
    fn put(&self, row: RowRef<'_>, parcel: &mut Parcel) -> Result<(), PayloadError> {
        let malformed = PayloadError::Malformed("row");
        let vector = row.vector();
        if vector.len() != self.dim {
            return Err(malformed);
        }
        let parsed = if self.indexed {
            parse_metadata(row.metadata).map_err(|_| malformed)?
        } else {
            // Nobody asks for the values now, but a row that nobody could read must not get in.
            let whole = serde_json::from_slice::<IgnoredAny>(row.metadata).is_ok();
            let object = whole && row.metadata.first() == Some(&b'{');
            object.then(Metadata::new).ok_or(malformed)?
        };
        let (numbers, bytes) = (parcel.vectors.len(), parcel.metadata.len());
        parcel.vectors.extend(vector);
        parcel.metadata.extend_from_slice(row.metadata);
        let inv_norm = akidb_index::inv_norm(parcel.vectors.get(numbers..).unwrap_or_default());
        parcel.rows.push(ParcelRow {
            id: row.id,
            inv_norm,
            vector: numbers..parcel.vectors.len(),
            metadata: bytes..parcel.metadata.len(),
            parsed,
        });
        Ok(())
    }
}
