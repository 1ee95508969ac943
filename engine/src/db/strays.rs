//! Files in a database directory that the manifest does not name: reported, and removed if they are
//! provably what a crash left over. Called by `open`.
//!
//! # What may be removed
//! A file of ours in `segments` with a number below the manifest's high-water mark: the manifest
//! was written after the number was given out, and does not name the file, so it was replaced, or
//! never came to count. A number above the mark may belong to a manifest that somebody has put an
//! older one in the place of, and stays until an edit has passed it.
//!
//! # Invariants
//! - Nothing is removed before the open has succeeded as a whole: manifest, segments and log are
//!   whole then, and everything that was acknowledged is in what they name.
//! - Nothing is removed by an open for reading only, nor by a poisoned database (M3), nor while the
//!   directory holds what a repair moved aside: somebody may still want to know what happened.
//! - What is not named as AkiDB names its files is never touched.

#![deny(clippy::indexing_slicing)]

use super::{
    DbCore, RecoveryReport,
    paths::{self, LOST_PREFIX, Paths},
};
use crate::{
    error::Result,
    manifest::{CollectionManifest, ManifestState, ManifestStore},
};
use akidb_vfs::{Fs, planted};

/// Reports what the manifest does not name, and returns a file number above all there are.
pub(super) fn find(
    fs: &dyn Fs,
    paths: &Paths,
    state: &ManifestState,
    may_remove: bool,
    report: &mut RecoveryReport,
) -> Result<u64> {
    let named =
        |number| state.collections.values().any(|c| c.file_numbers().any(|named| named == number));
    let entries = fs.list_dir(&paths.root)?;
    let evidence = |name: &std::ffi::OsStr| name.to_string_lossy().starts_with(LOST_PREFIX);
    let may_remove = may_remove && !entries.iter().any(|entry| evidence(&entry.name));
    let strays = paths::stray_files(fs, &paths.segments, named)?;
    let above = strays.iter().filter_map(|stray| stray.number).max().map_or(1, |n| n + 1);
    for stray in strays {
        let obsolete = may_remove && stray.number.is_some_and(|number| number < state.next_file);
        let files = if obsolete { &mut report.removed_files } else { &mut report.unknown_files };
        files.push(stray.path);
    }
    for entry in entries {
        let name = entry.name.to_string_lossy();
        let known = ManifestStore::is_manifest(&name) || paths::is_ours(&name);
        if !known {
            report.unknown_files.push(paths.root.join(&entry.name));
        }
    }
    if planted("open.file-numbers-reused") {
        let named = state.collections.values().flat_map(CollectionManifest::file_numbers).max();
        return Ok(named.map_or(1, |number| number + 1));
    }
    Ok(above.max(state.next_file).max(1))
}

impl DbCore {
    /// Removes what [`find`] called obsolete, at the end of an open. Best effort: what stays is
    /// found again by the next open.
    pub(super) fn remove_obsolete(&self) {
        if self.read_only.is_some() || self.shared.poisoned().is_some() {
            return;
        }
        for path in &self.recovery.removed_files {
            if let Err(error) = self.fs.remove_file(path) {
                self.background.note(error.into());
            }
        }
    }
}
