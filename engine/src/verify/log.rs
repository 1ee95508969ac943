//! The log as a whole: every file, every frame, every body, and that it reaches as far as the
//! manifest says.

#![deny(clippy::indexing_slicing)]

use super::{Finding, FindingKind, LogSurvey, Pass, Severity, is_newer};
use crate::{
    commit::payload,
    error::{Cause, Error, Result},
    manifest::ManifestState,
};
use akidb_wal::{Log, LogOptions, Lsn, ReplayReport, ReplayStop, WalError};

impl Pass<'_> {
    /// Judges the log as an open would. `state` is what the manifest says, if it can be read.
    pub(super) fn check_log(
        &mut self,
        state: Option<&ManifestState>,
        floor: Lsn,
        findings: &mut Vec<Finding>,
    ) -> Result<()> {
        let options = LogOptions { must_exist: true, ..LogOptions::default() };
        let mut batches = 0;
        let mut refused = None;
        let mut replay = |lsn: Lsn, body: &[u8]| -> std::result::Result<(), ReplayStop> {
            batches += 1;
            check_body(state, lsn, body).map_err(|detail| {
                refused = Some((lsn, detail.clone()));
                detail.into()
            })
        };
        let verified = Log::verify(self.fs, &self.paths.wal, options, floor, &mut replay);
        self.report.batches = batches;
        match (verified, refused) {
            (Ok(report), _) => self.note_log(state, &report, findings),
            (Err(WalError::Replay { .. }), Some((lsn, detail))) => {
                let (kind, dir) = (FindingKind::Contradiction, self.paths.wal.clone());
                let detail = format!("LSN {lsn}: {detail}");
                findings.push(Finding::new(Severity::Loss, kind, dir, detail));
                Ok(())
            }
            (Err(WalError::Fs(error)), _) if error.is_not_found() => {
                // A file that went while it was looked at, or the whole directory.
                let (kind, detail) = (FindingKind::LogDamaged, "it is gone".to_owned());
                findings.push(Finding::new(Severity::Loss, kind, error.path, detail));
                Ok(())
            }
            (Err(error), _) => self.damaged_log(state, floor, error.into(), findings),
        }
    }

    fn damaged_log(
        &mut self,
        state: Option<&ManifestState>,
        floor: Lsn,
        error: Error,
        findings: &mut Vec<Finding>,
    ) -> Result<()> {
        if is_newer(&error) {
            return Err(error);
        }
        let flushed = flushed(state);
        let survey = match LogSurvey::take(self.fs, &self.paths.wal, floor, flushed) {
            Err(error) if matches!(error.cause(), Cause::Fs(e) if e.is_not_found()) => {
                LogSurvey::default()
            }
            survey => survey?,
        };
        // What every collection has in segments is not lost with the log.
        let covered = state.is_some_and(|state| {
            let all = |lsn| state.collections.values().all(|c| c.flushed.get() >= lsn);
            !survey.open_ended && survey.missing.iter().all(|(_, last)| all(*last))
        });
        let severity = if covered { Severity::Damage } else { Severity::Loss };
        let mut finding = Finding::of(severity, FindingKind::LogDamaged, error)?;
        if let (Some((first, _)), Some((_, last))) = (survey.missing.first(), survey.missing.last())
        {
            finding.lsns = Some((*first, *last));
            let count = survey.missing_count();
            finding.detail.push_str(&format!("; {count} batches cannot be read"));
        }
        if survey.open_ended {
            finding.detail.push_str("; nothing tells how many followed");
        }
        findings.push(finding);
        // The verdict above is the first; the other bad files are named too.
        let named: Vec<_> = findings.iter().map(|finding| finding.file.clone()).collect();
        for file in survey.files.iter().filter(|f| !f.whole && !named.contains(&f.path)) {
            let detail = if file.readable { "some of it is damaged" } else { "it cannot be read" };
            let kind = FindingKind::LogDamaged;
            findings.push(Finding::new(severity, kind, file.path.clone(), detail));
        }
        Ok(())
    }

    /// What is worth knowing of a log that an open takes, and whether it goes as far as it must.
    fn note_log(
        &mut self,
        state: Option<&ManifestState>,
        report: &ReplayReport,
        findings: &mut Vec<Finding>,
    ) -> Result<()> {
        self.read(report.bytes);
        if let Some(torn) = &report.torn {
            let detail = format!("{} bytes at its end: {}", torn.tail.bytes, torn.tail.reason);
            let (kind, file) = (FindingKind::LogTornTail, torn.file.clone());
            let mut finding = Finding::new(Severity::Note, kind, file, detail);
            finding.offset = Some(torn.tail.offset);
            findings.push(finding);
        }
        findings.extend(report.skipped_unknown.iter().map(|name| {
            let (kind, path) = (FindingKind::UnknownFile, self.paths.wal.join(name));
            Finding::new(Severity::Note, kind, path, "it is not a WAL file")
        }));
        let flushed = flushed(state);
        if report.last_lsn < flushed {
            let detail =
                format!("the log ends at LSN {}, segments hold {flushed}", report.last_lsn);
            let (kind, dir) = (FindingKind::LogDamaged, self.paths.wal.clone());
            let lsns = Some((report.last_lsn.get() + 1, flushed.get()));
            let mut finding = Finding::new(Severity::Loss, kind, dir, detail);
            finding.lsns = lsns;
            findings.push(finding);
        }
        Ok(())
    }
}

/// The highest LSN that any collection has flushed.
fn flushed(state: Option<&ManifestState>) -> Lsn {
    let flushed = state.and_then(|state| state.collections.values().map(|c| c.flushed).max());
    flushed.unwrap_or(Lsn::ZERO)
}

/// A body that replay would take: it can be decoded, and its collection is known.
fn check_body(state: Option<&ManifestState>, lsn: Lsn, body: &[u8]) -> Result<(), String> {
    let record = payload::decode(body).map_err(|error| error.to_string())?;
    let Some(state) = state else { return Ok(()) };
    let id = record.collection();
    let Some(collection) = state.collections.get(&id) else {
        return if id < state.next_collection {
            Ok(()) // dropped since
        } else {
            Err(format!("collection {id} was never created"))
        };
    };
    let payload::LogRecord::Upsert { rows, .. } = record else { return Ok(()) };
    if lsn <= collection.flushed {
        return Ok(());
    }
    let dim = collection.schema.dim as usize;
    for row in rows {
        if row.vector.len() != dim {
            return Err(format!("row {} has {} numbers, not {dim}", row.id, row.vector.len()));
        }
        if serde_json::from_slice::<crate::Metadata>(&row.metadata).is_err() {
            return Err(format!("row {} has metadata that is not a JSON object", row.id));
        }
    }
    Ok(())
}
