//! What the log still tells of the rows of one collection that segments and objects should have:
//! the files of the log stay for a while after what is in them was flushed.
//!
//! Owns the rule of what may be taken from the log: a version that was certainly the newest of its
//! id when the collection was flushed last. Must never bring back a row that a write nobody can
//! read may have replaced or deleted. Called by the repair of parts and of the manifest.

#![deny(clippy::indexing_slicing)]

use super::Worker;
use crate::{
    PointId,
    commit::payload::{self, LogRecord, LoggedRow},
    error::Result,
    manifest::CollectionManifest,
    verify::LogSurvey,
};
use akidb_vfs::Fs;
use akidb_wal::Lsn;
use std::{
    collections::HashMap,
    path::{Path, PathBuf},
};

/// The last write to an id up to the flush mark that can be read.
#[derive(Clone, Copy, Debug)]
struct Write {
    lsn: u64,
    upsert: bool,
    /// True if a write behind the mark follows: replay then decides what the id is.
    again: bool,
}

/// The writes of a collection up to its flush mark, as far as the log still has them.
pub(super) struct History {
    collection: u32,
    flushed: u64,
    survey: LogSurvey,
    /// From this LSN on, up to the mark, not a batch is missing.
    pub(super) known_from: u64,
    last: HashMap<PointId, Write>,
}

impl Worker {
    /// Reads the whole log for what it says of a collection.
    pub(super) fn history(&self, collection: &CollectionManifest) -> Result<History> {
        let flushed = collection.flushed.get();
        let survey = LogSurvey::take(&*self.fs, &self.paths.wal, Lsn::ZERO, collection.flushed)?;
        let mut last: HashMap<PointId, Write> = HashMap::new();
        survey.visit(&*self.fs, &mut |lsn, body| {
            let Ok(record) = payload::decode(body) else { return Ok(()) };
            if record.collection() != collection.id {
                return Ok(());
            }
            let (upsert, ids): (bool, Vec<PointId>) = match record {
                LogRecord::Upsert { rows, .. } => {
                    (true, rows.into_iter().map(|row| row.id).collect())
                }
                LogRecord::Delete { ids, .. } => (false, ids),
            };
            if lsn <= flushed {
                let write = Write { lsn, upsert, again: false };
                last.extend(ids.into_iter().map(|id| (id, write)));
            } else {
                for id in ids {
                    last.entry(id).and_modify(|write| write.again = true);
                }
            }
            Ok(())
        })?;
        let known_from = known_from(&survey, flushed);
        Ok(History { collection: collection.id, flushed, survey, known_from, last })
    }
}

impl History {
    /// The LSN of the last write to an id, as far as anything tells.
    pub(super) fn last_write(&self, id: &PointId) -> Option<u64> {
        self.last.get(id).map(|write| write.lsn)
    }

    /// The LSN under which the log has the version that a damaged row was; `None` if it does not,
    /// or if nobody can know. `lsn` is that of the row, where it is certain that nothing hid it.
    pub(super) fn version(&self, id: &PointId, lsn: Option<u64>) -> Option<u64> {
        let write = self.last.get(id).filter(|write| write.upsert)?;
        (write.lsn >= self.known_from || lsn == Some(write.lsn)).then_some(write.lsn)
    }

    /// Every id that certainly was there at the flush mark, with the LSN of its version.
    pub(super) fn live(&self) -> HashMap<PointId, u64> {
        let live = |write: &Write| write.upsert && write.lsn >= self.known_from;
        let found = self.last.iter().filter(|(_, write)| live(write));
        found.map(|(id, write)| (id.clone(), write.lsn)).collect()
    }

    /// True if a write behind the flush mark decides what an id is.
    pub(super) fn is_written_again(&self, id: &PointId) -> bool {
        self.last.get(id).is_some_and(|write| write.again)
    }

    /// Hands out the rows of the versions `wanted`, in the order of the log, with their files.
    ///
    /// # Errors
    /// A failed call; what `take` returns.
    pub(super) fn rows(
        &self,
        fs: &dyn Fs,
        wanted: &HashMap<PointId, u64>,
        take: &mut dyn FnMut(u64, LoggedRow, &Path) -> Result<()>,
    ) -> Result<()> {
        let Some(lowest) = wanted.values().min().copied() else { return Ok(()) };
        let nowhere = PathBuf::new();
        self.survey.visit(fs, &mut |lsn, body| {
            if lsn < lowest || lsn > self.flushed {
                return Ok(());
            }
            let Ok(LogRecord::Upsert { collection, rows }) = payload::decode(body) else {
                return Ok(());
            };
            if collection != self.collection {
                return Ok(());
            }
            let file = self.survey.file_of(lsn).unwrap_or(&nowhere);
            let ours = rows.into_iter().filter(|row| wanted.get(&row.id) == Some(&lsn));
            ours.into_iter().try_for_each(|row| take(lsn, row, file))
        })
    }
}

/// The first LSN from which on the log can be read without a gap up to `flushed`.
fn known_from(survey: &LogSurvey, flushed: u64) -> u64 {
    let first = survey.first.unwrap_or(flushed.saturating_add(1));
    let gaps = survey.missing.iter().filter(|(gap, _)| *gap <= flushed);
    gaps.map(|(_, last)| last.saturating_add(1)).fold(first, u64::max)
}
