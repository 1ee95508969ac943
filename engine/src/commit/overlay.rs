//! A collection as it will be once the writes staged before are applied: what a write that
//! depends on the present (insert-only, partial update, conditional delete) must look at.
//!
//! # Invariants
//! - One lock of the state covers the whole look, beginning with the caller's check that nothing is
//!   cold: a demotion between two looks would make every row of a segment seem absent.

use super::{MetadataPatch, sink::Change, stored_metadata};
use crate::{
    PointId,
    collection::{CurrentRow, NewRow, State},
    error::{Cause, Result},
    filter::{CompiledFilter, Filter},
    settings::Settings,
};
use akidb_wal::Lsn;
use parking_lot::RwLockReadGuard;
use std::collections::HashMap;

/// The present of a collection, as the next write in the log sees it.
pub(super) struct Overlay<'a> {
    state: RwLockReadGuard<'a, State>,
    staged: HashMap<&'a PointId, (Lsn, Option<&'a NewRow>)>,
}

impl<'a> Overlay<'a> {
    pub(super) fn new(
        state: RwLockReadGuard<'a, State>,
        staged: impl Iterator<Item = (Lsn, &'a Change)>,
    ) -> Self {
        let mut newest = HashMap::new();
        for (lsn, change) in staged {
            match change {
                Change::Rows(rows) => {
                    newest.extend(rows.iter().map(|row| (&row.id, (lsn, Some(row)))));
                }
                Change::Deletes(ids) => newest.extend(ids.iter().map(|id| (id, (lsn, None)))),
            }
        }
        Self { state, staged: newest }
    }

    fn current(&self, id: &PointId) -> Result<Option<CurrentRow>> {
        match self.staged.get(id) {
            Some((lsn, Some(row))) => Ok(Some(CurrentRow {
                lsn: *lsn,
                vector: Box::from(&*row.vector),
                metadata: row.parsed.clone(),
            })),
            Some((_, None)) => Ok(None),
            None => self.state.current(id),
        }
    }

    /// Fails with the first id that exists.
    pub(super) fn require_absent<'i>(&self, ids: impl Iterator<Item = &'i PointId>) -> Result<()> {
        for id in ids {
            if self.current(id)?.is_some() {
                return Err(Cause::RowExists { id: id.clone() }.into());
            }
        }
        Ok(())
    }

    /// The rows that result from merging patches into the current metadata: a key set to null is
    /// removed, any other replaces. All or nothing: an absent row fails the batch.
    pub(super) fn patch(
        &self,
        patches: &[MetadataPatch],
        settings: &Settings,
    ) -> Result<Vec<NewRow>> {
        patches
            .iter()
            .map(|MetadataPatch { id, changes }| {
                let row = self.current(id)?.ok_or(Cause::RowNotFound { id: id.clone() })?;
                let mut parsed = row.metadata;
                for (key, value) in changes {
                    if value.is_null() {
                        parsed.remove(key);
                    } else {
                        parsed.insert(key.clone(), value.clone());
                    }
                }
                let metadata = stored_metadata(id, &parsed, settings)?.into();
                let inv_norm = akidb_index::inv_norm(&row.vector);
                let vector = row.vector.into();
                Ok(NewRow { id: id.clone(), vector, inv_norm, metadata, parsed })
            })
            .collect()
    }

    /// Of rows that matched a filter when it was evaluated (`seen`, with the LSN of the version
    /// that matched), those to delete now: unchanged ones, and changed ones that match still.
    pub(super) fn still_matching(
        &self,
        filter: &Filter,
        seen: Vec<(PointId, Lsn)>,
    ) -> Result<Vec<PointId>> {
        let filter = CompiledFilter::new(filter, &self.state.schema)?;
        let mut ids = Vec::with_capacity(seen.len());
        for (id, lsn) in seen {
            let Some(row) = self.current(&id)? else { continue };
            if row.lsn == lsn || filter.matches(&row.metadata) {
                ids.push(id);
            }
        }
        Ok(ids)
    }
}
