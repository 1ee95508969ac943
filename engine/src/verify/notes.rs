//! The two small files of notes in a directory: the journal of uploads and the dead letters. No row is
//! in them, so damage there costs none; but an interrupted upload is then found late, and a move that was
//! given up is tried again.

use super::{Finding, FindingKind, Pass, Severity};
use crate::error::{Cause, Error, Result};
use akidb_tiering::{DeadLetterQueue, RecordsError, UploadJournal};
use std::path::Path;

impl Pass<'_> {
    /// Every byte of both, and every record. One that is not there says nothing, and nothing is wrong.
    pub(super) fn check_notes(&mut self, findings: &mut Vec<Finding>) -> Result<()> {
        let paths = self.paths;
        self.check_note(&paths.uploads, findings, |pass| {
            UploadJournal::read(pass.fs, &paths.uploads).map(drop)
        })?;
        self.check_note(&paths.dead_letters, findings, |pass| {
            DeadLetterQueue::read(pass.fs, &paths.dead_letters).map(drop)
        })
    }

    fn check_note(
        &mut self,
        path: &Path,
        findings: &mut Vec<Finding>,
        read: impl Fn(&Self) -> Result<(), RecordsError>,
    ) -> Result<()> {
        let len = match self.fs.metadata(path) {
            Ok(found) => found.len,
            Err(error) if error.is_not_found() => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        match read(self) {
            Ok(()) => {}
            Err(RecordsError::Corruption { file, offset, detail }) => {
                let new = Finding::new(Severity::Damage, FindingKind::NotesDamaged, file, detail);
                findings.push(Finding { offset: Some(offset), ..new });
            }
            Err(error) => return Err(Error::from(Cause::from(error))),
        }
        self.read(len);
        Ok(())
    }
}
