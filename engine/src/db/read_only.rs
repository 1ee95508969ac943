//! Opening a database for reading only: closed, open elsewhere, or damaged.
//!
//! What opening writes goes to an [`OverlayFs`] and so stays in memory: the directory is not
//! written, not locked, and need not be writable. Of a damaged database a repaired copy is opened,
//! as [`Repair`] makes it, in that memory; what the repair had to leave out is listed, and a
//! collection that it concerns answers only to who asked for that.
//!
//! # Beside an open database
//! Files come and go. An open that meets a file that is gone, or a log that is just being
//! written, is tried again with the manifest of that moment; once open, the files are held open.

use super::{
    DbCore,
    open::{Components, open_as},
};
use crate::{
    error::{Cause, Error, ErrorKind, Result},
    repair::{Loss, LossKind, Repair},
    settings::Settings,
};
use akidb_vfs::OverlayFs;
use std::{path::Path, sync::Arc};

/// How often an open is tried before what it meets is taken for true.
const TRIES: usize = 10;

/// What a database that was opened for reading only has to say for itself.
#[derive(Debug, Default)]
pub(crate) struct ReadOnly {
    losses: Vec<Loss>,
    allow_damage: bool,
}

/// Opens the database in `dir` without a change to it. With `allow_damage` every byte is checked
/// first, and what is damaged is left out.
pub(crate) fn open_read_only(
    dir: &Path,
    settings: &Settings,
    parts: &Components,
    allow_damage: bool,
) -> Result<Arc<DbCore>> {
    let mut last = Error::bug("nothing was tried");
    for _ in 0..TRIES {
        if !allow_damage {
            match attempt(dir, settings, parts, &over(parts), ReadOnly::default()) {
                Err(error) if may_pass(&error) => last = error,
                other => return other,
            }
        }
        let overlay = over(parts);
        let mut repair =
            Repair::new(dir).file_system(parts.fs.clone()).random(parts.random.clone());
        if let Some(store) = &parts.store {
            repair = repair.object_store(store.clone());
        }
        let plan = repair.plan_on(&overlay)?;
        if plan.is_empty() && !allow_damage {
            continue; // it was a file that came or went
        }
        let read_only = ReadOnly { losses: plan.losses, allow_damage };
        match attempt(dir, settings, parts, &overlay, read_only) {
            Err(error) if may_pass(&error) => last = error,
            other => return other,
        }
    }
    Err(last)
}

fn over(parts: &Components) -> OverlayFs {
    OverlayFs::new(parts.fs.clone())
}

fn attempt(
    dir: &Path,
    settings: &Settings,
    parts: &Components,
    overlay: &OverlayFs,
    read_only: ReadOnly,
) -> Result<Arc<DbCore>> {
    let parts = Components { fs: Arc::new(overlay.clone()), ..parts.clone() };
    open_as(dir, settings.clone(), parts, Some(read_only))
}

/// True for what damage looks like, and for what a writer at work looks like.
fn may_pass(error: &Error) -> bool {
    let gone = matches!(error.cause(), Cause::Fs(e) if e.is_not_found());
    gone || error.kind() == ErrorKind::Corruption
}

impl DbCore {
    /// What the open had to leave out.
    pub(crate) fn damage(&self) -> &[Loss] {
        self.read_only.as_ref().map_or(&[], |read_only| &read_only.losses)
    }

    /// Refuses verbs that write.
    pub(crate) fn check_may_write(&self) -> Result<()> {
        match self.read_only {
            Some(_) => Err(Cause::ReadOnly.into()),
            None => self.shared.check_writable(),
        }
    }

    /// Refuses a collection of which something is left out, unless that was asked for.
    pub(super) fn check_undamaged(&self, name: &str) -> Result<()> {
        let Some(ReadOnly { losses, allow_damage: false }) = &self.read_only else {
            return Ok(());
        };
        let concerns = |loss: &&Loss| {
            let all = loss.collections.is_empty();
            loss.kind != LossKind::Snapshot
                && (all || loss.collections.iter().any(|collection| collection == name))
        };
        match losses.iter().find(concerns) {
            Some(loss) => {
                let detail = format!("{}: {}", loss.file.display(), loss.detail);
                Err(Cause::Damaged { name: name.to_owned(), detail }.into())
            }
            None => Ok(()),
        }
    }
}
