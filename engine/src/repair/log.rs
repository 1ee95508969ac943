//! The log of a damaged database: what can be read of it, in one new file.
//!
//! Every LSN up to the highest that anything speaks of is taken: those that are lost, given up or
//! not needed become batches that do nothing, so that no LSN is ever given twice.

#![deny(clippy::indexing_slicing)]

use super::{Loss, LossKind, RepairAction, Worker};
use crate::{
    PointId,
    commit::{
        BATCH_BYTES_MAX,
        payload::{self, LogRecord},
    },
    error::{Cause, Error, Result},
    manifest::ManifestState,
    verify::{LogSurvey, wal_number},
};
use akidb_wal::{
    Env, Log, LogOptions, Lsn, WAL_KIND, WalError,
    framed::{FramedWriter, NewFile},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
};

/// A log to be written in place of what is there.
pub(super) struct NewLog {
    path: PathBuf,
    number: u64,
    first: u64,
    bodies: Vec<Vec<u8>>,
    old: Vec<PathBuf>,
}

/// What is known of batches that are given up.
#[derive(Default)]
struct GivenUp {
    ids: Vec<PointId>,
    lsns: BTreeSet<u64>,
}

impl Worker {
    /// What is left of the log, if it is not whole. Raises the state's mark to where it begins.
    pub(super) fn mend_log(&mut self, state: &mut ManifestState) -> Result<Option<NewLog>> {
        if self.log_is_whole(state)? {
            return Ok(None);
        }
        let highest = state.collections.values().map(|c| c.flushed).max().unwrap_or(Lsn::ZERO);
        // What every collection has in segments is not missed.
        let lowest = state.collections.values().map(|c| c.flushed).min();
        let survey = LogSurvey::take(&*self.fs, &self.paths.wal, state.log_floor, highest)?;
        let lowest = lowest.map_or(survey.highest, Lsn::get).max(state.log_floor.get());
        let lost: Vec<(u64, u64)> = survey
            .missing
            .iter()
            .map(|(first, last)| ((*first).max(lowest.saturating_add(1)), *last))
            .filter(|(first, last)| first <= last)
            .collect();
        let cut = lost.first().map_or(u64::MAX, |(first, _)| *first);
        let cut = if self.salvage { u64::MAX } else { cut };
        let (kept, given_up) = self.read_bodies(state, &survey, cut)?;
        self.tell_losses(state, &survey, &lost, given_up);

        let first = kept.keys().next().copied().unwrap_or(survey.highest.saturating_add(1));
        let filler = kept.values().next().map(|(collection, _)| *collection).unwrap_or_default();
        let mut kept = kept;
        let bodies = (first..=survey.highest)
            .map(|lsn| match kept.remove(&lsn) {
                Some((_, body)) => body,
                None => payload::encode_delete(filler, [].iter()),
            })
            .collect();
        state.log_floor = state.log_floor.max(Lsn::new(first.saturating_sub(1)));
        let named = |path: &PathBuf| path.file_name().and_then(|name| wal_number(name.to_str()?));
        let numbers = survey.files.iter().map(|file| file.number);
        let numbers = numbers.chain(survey.files.iter().filter_map(|file| named(&file.path)));
        let number = numbers.max().unwrap_or(0).saturating_add(1);
        Ok(Some(NewLog {
            path: self.paths.wal.join(format!("{number:020}.wal")),
            number,
            first,
            bodies,
            old: survey.files.into_iter().map(|file| file.path).collect(),
        }))
    }

    fn log_is_whole(&self, state: &ManifestState) -> Result<bool> {
        let options = LogOptions { must_exist: true, ..LogOptions::default() };
        let flushed = state.collections.values().map(|c| c.flushed).max().unwrap_or(Lsn::ZERO);
        let mut ignore = |_: Lsn, _: &[u8]| Ok(());
        match Log::verify(&*self.fs, &self.paths.wal, options, state.log_floor, &mut ignore) {
            Ok(report) => Ok(report.last_lsn >= flushed),
            Err(WalError::Corruption { .. } | WalError::Foreign { .. }) => Ok(false),
            Err(WalError::Fs(error)) if error.is_not_found() => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// The bodies that count, by LSN, with their collections; and what is given up from `cut` on.
    #[expect(clippy::type_complexity, reason = "two maps, named where they are used")]
    fn read_bodies(
        &self,
        state: &ManifestState,
        survey: &LogSurvey,
        cut: u64,
    ) -> Result<(BTreeMap<u64, (u32, Vec<u8>)>, BTreeMap<u32, GivenUp>)> {
        let mut kept = BTreeMap::new();
        let mut given_up: BTreeMap<u32, GivenUp> = BTreeMap::new();
        survey.visit(&*self.fs, &mut |lsn, body| {
            let record = payload::decode(body)
                .map_err(|error| Error::corruption(&self.paths.wal, 0, error.to_string()))?;
            let id = record.collection();
            let Some(collection) = state.collections.get(&id) else { return Ok(()) };
            // Below the log's floor too: an interrupted repair gave up what it raised the floor
            // above, and the file that has it may lie there still.
            if lsn <= collection.flushed.max(state.log_floor).get() {
                return Ok(());
            }
            if lsn < cut {
                kept.insert(lsn, (id, body.to_vec()));
                return Ok(());
            }
            let entry = given_up.entry(id).or_default();
            let before = entry.ids.len();
            match record {
                LogRecord::Upsert { rows, .. } => {
                    entry.ids.extend(rows.into_iter().map(|row| row.id));
                }
                LogRecord::Delete { ids, .. } => entry.ids.extend(ids),
            }
            // A batch that an earlier repair put in place of a lost one holds nothing.
            if entry.ids.len() > before {
                entry.lsns.insert(lsn);
            }
            Ok(())
        })?;
        given_up.retain(|_, entry| !entry.ids.is_empty());
        Ok((kept, given_up))
    }

    fn tell_losses(
        &mut self,
        state: &ManifestState,
        survey: &LogSurvey,
        lost: &[(u64, u64)],
        given_up: BTreeMap<u32, GivenUp>,
    ) {
        let concerned = |last: u64| -> Vec<String> {
            let behind = state.collections.values().filter(|c| c.flushed.get() < last);
            behind.map(|c| c.name.clone()).collect()
        };
        let loss = |kind, collections, lsns, detail: &str| Loss {
            kind,
            collections,
            file: self.paths.wal.clone(),
            rows: None,
            ids: Vec::new(),
            lsns,
            detail: detail.to_owned(),
        };
        let mut losses = Vec::new();
        for (first, last) in lost {
            let detail = "batches that cannot be read";
            let kind = LossKind::UnreadableWrites;
            losses.push(loss(kind, concerned(*last), Some((*first, *last)), detail));
        }
        for (id, entry) in given_up {
            let name = state.collections.get(&id).map(|c| c.name.clone()).into_iter().collect();
            let lsns = entry.lsns.first().copied().zip(entry.lsns.last().copied());
            let detail = "batches that can be read, after one that cannot; \
                          --salvage-after-damage keeps them";
            let mut loss = loss(LossKind::GivenUpWrites, name, lsns, detail);
            loss.rows = Some(entry.ids.len() as u64);
            loss.ids = entry.ids;
            losses.push(loss);
        }
        if survey.open_ended {
            let detail = format!(
                "the end of the log is damaged: writes after LSN {} may be lost, and nothing tells \
                 how many",
                survey.highest
            );
            let kind = LossKind::UnreadableWrites;
            losses.push(loss(kind, concerned(u64::MAX), None, &detail));
        }
        self.losses.append(&mut losses);
    }

    /// Writes the new log, after the manifest that names what was taken from the old one.
    pub(super) fn write_log(&mut self, log: &NewLog) -> Result<()> {
        self.fs.create_dir_all(&self.paths.wal)?;
        let env = Env::new(self.fs.clone(), self.random.clone());
        let new = NewFile {
            path: &log.path,
            kind: WAL_KIND,
            number: log.number,
            first_seq: log.first,
            bytes: 0,
            predecessor: None,
            replaces: None,
            zero_ahead: 0,
            frame_bytes_max: BATCH_BYTES_MAX as u32,
        };
        let bodies = log.bodies.iter().map(Vec::as_slice);
        FramedWriter::create(&env, &new, bodies)
            .map_err(|error| Error::from(Cause::from(error)))?;
        let detail = format!("{} batches from LSN {} on", log.bodies.len(), log.first);
        self.step(RepairAction::Write, log.path.clone(), detail);
        for path in &log.old {
            self.replace(path.clone(), "a new log takes its place");
        }
        Ok(())
    }
}
