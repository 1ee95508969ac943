//! Decoding: from the payload of a frame to a batch that is ready for its memtable. Owns what is
//! checked of a record; changes nothing. Called by `apply`, record by record.

#![deny(clippy::indexing_slicing)]

use super::Recovery;
use crate::{
    collection::{CollectionCore, NewRow, parse_metadata},
    commit::{
        Change,
        payload::{self, LogRecord, LoggedRow},
    },
    error::{Cause, Error, Result},
    point::Metadata,
};
use akidb_vfs::planted;
use akidb_wal::Lsn;
use serde::de::IgnoredAny;
use std::{collections::BTreeMap, sync::Arc};

/// A batch to be applied.
pub(super) struct Batch {
    pub(super) collection: Arc<CollectionCore>,
    pub(super) change: Change,
}

/// What the decoder needs of a collection, so that it need not ask for its state's lock each time.
struct Target {
    collection: Arc<CollectionCore>,
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
            let collection = collection.clone();
            (id, Target { collection, flushed: state.flushed, dim, indexed })
        };
        let targets = recovery.collections.iter().map(target).collect();
        Self { recovery, targets, batches: 0, rows: 0 }
    }

    /// The batch of a record; `None` if it is in segments, or its collection was dropped.
    pub(super) fn decode(&mut self, lsn: Lsn, body: &[u8]) -> Result<Option<Batch>> {
        let Recovery { paths, state, .. } = self.recovery;
        let damaged =
            |detail: &str| Error::corruption(&paths.wal, 0, format!("LSN {lsn}: {detail}"));
        let record = payload::decode(body).map_err(|error| damaged(&error.to_string()))?;
        if state.database.is_nil() {
            let (dir, missing) = (paths.root.clone(), "its manifest".to_owned());
            return Err(Cause::HalfDeleted { dir, missing }.into());
        }
        let id = record.collection();
        let Some(target) = self.targets.get(&id) else {
            if id < state.next_collection {
                return Ok(None); // dropped since
            }
            return Err(damaged(&format!(
                "the manifest never created collection {id}; one of the two is damaged"
            )));
        };
        let off_by_one = planted("replay.mark-off-by-one") && target.flushed > Lsn::ZERO;
        if lsn <= if off_by_one { target.flushed.next() } else { target.flushed } {
            return Ok(None);
        }
        self.batches += 1;
        let change = match record {
            LogRecord::Upsert { rows, .. } => {
                self.rows += rows.len() as u64;
                let rows = rows.into_iter().map(|row| target.row(row));
                let rows = rows.collect::<Option<Vec<_>>>();
                Change::Rows(rows.ok_or_else(|| damaged("a malformed row"))?)
            }
            LogRecord::Delete { .. } if planted("replay.deletes-ignored") => return Ok(None),
            LogRecord::Delete { ids, .. } => {
                self.rows += ids.len() as u64;
                Change::Deletes(ids)
            }
        };
        let collection = target.collection.clone();
        Ok(Some(Batch { collection, change }))
    }
}

impl Target {
    fn row(&self, row: LoggedRow) -> Option<NewRow> {
        let LoggedRow { id, metadata, vector } = row;
        if vector.len() != self.dim {
            return None;
        }
        let parsed = if self.indexed {
            parse_metadata(&metadata).ok()?
        } else {
            // Nobody asks for the values now, but a row that nobody could read must not get in.
            let whole = serde_json::from_slice::<IgnoredAny>(&metadata).is_ok();
            (whole && metadata.first() == Some(&b'{')).then(Metadata::new)?
        };
        Some(NewRow {
            id,
            inv_norm: akidb_index::inv_norm(&vector),
            vector: vector.into_boxed_slice(),
            metadata: metadata.into_boxed_slice(),
            parsed,
        })
    }
}
