//! Which rows of a collection's segments are hidden, when the tombstones are lost: an older
//! version of an id is hidden by a newer one, and by what the log says of the id.

#![deny(clippy::indexing_slicing)]

use super::Worker;
use crate::{
    PointId,
    commit::payload::{self, LogRecord},
    error::Result,
    manifest::CollectionManifest,
    segment::{SalvagedSegment, segment_path},
    tombstones::TombstoneSet,
    verify::LogSurvey,
};
use akidb_wal::Lsn;
use std::collections::HashMap;

/// The hidden rows, and how many of the others may have been deleted or replaced by a write that
/// nothing tells of any more.
pub(super) struct Versions {
    pub(super) dead: TombstoneSet,
    pub(super) uncertain: u64,
}

impl Worker {
    /// Computes the hidden rows; `base` is what is known of them.
    pub(super) fn versions(
        &self,
        collection: &CollectionManifest,
        base: TombstoneSet,
    ) -> Result<Versions> {
        let flushed = collection.flushed.get();
        let survey = LogSurvey::take(&*self.fs, &self.paths.wal, Lsn::ZERO, collection.flushed)?;
        let mut last_write: HashMap<PointId, u64> = HashMap::new();
        survey.visit(&*self.fs, &mut |lsn, body| {
            let Ok(record) = payload::decode(body) else { return Ok(()) };
            if lsn > flushed || record.collection() != collection.id {
                return Ok(());
            }
            let ids: Vec<PointId> = match record {
                LogRecord::Upsert { rows, .. } => rows.into_iter().map(|row| row.id).collect(),
                LogRecord::Delete { ids, .. } => ids,
            };
            last_write.extend(ids.into_iter().map(|id| (id, lsn)));
            Ok(())
        })?;
        let known_from = known_from(&survey, flushed);
        let mut dead = base;
        let mut newest: HashMap<PointId, (u64, u64, u32)> = HashMap::new();
        for meta in &collection.segments {
            let path = segment_path(&self.paths.segments, meta.number);
            let Ok(segment) = SalvagedSegment::open(&*self.fs, &path) else { continue };
            for (id, lsn) in segment.deletes()?.unwrap_or_default() {
                let last = last_write.entry(id).or_default();
                *last = (*last).max(lsn);
            }
            for row in 0..segment.meta().rows {
                let (Some(id), Some(lsn)) = (segment.id(row)?, segment.lsn(row)?) else { continue };
                let place = (lsn, meta.number, row);
                let first = newest.entry(id).or_insert(place);
                // Of two copies of one version either will do; the newer file is the compacted one.
                let older = (*first).min(place);
                *first = (*first).max(place);
                if older != *first {
                    dead.entry(older.1).or_default().insert(older.2);
                }
            }
        }
        let mut uncertain = 0;
        for (id, (lsn, segment, row)) in newest {
            let hidden = dead.entry(segment).or_default();
            if last_write.get(&id).is_some_and(|last| *last > lsn) {
                hidden.insert(row);
            }
            uncertain += u64::from(!hidden.contains(row) && lsn.saturating_add(1) < known_from);
        }
        dead.retain(|_, rows| !rows.is_empty());
        Ok(Versions { dead, uncertain })
    }
}

/// The first LSN from which on the log can be read without a gap up to `flushed`.
fn known_from(survey: &LogSurvey, flushed: u64) -> u64 {
    let first = survey.first.unwrap_or(flushed.saturating_add(1));
    let gaps = survey.missing.iter().filter(|(gap, _)| *gap <= flushed);
    gaps.map(|(_, last)| last.saturating_add(1)).fold(first, u64::max)
}
