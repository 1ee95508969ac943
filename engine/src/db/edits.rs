//! Changes of the manifest, committed together: each costs a sync, and those that come while one is synced
//! share the next.
//!
//! Owns those that wait. Never looks into a change but for its marks. Called by everybody who changes the
//! manifest, through [`DbCore::commit_manifest`]; whoever gets the manifest's lock first commits for all.
//!
//! # Invariants
//! - An edit is answered after it is durable, or after it is known that it will not be found, or the
//!   database is poisoned.
//! - Edits are applied in the order in which they came.

use super::DbCore;
use crate::{
    error::{Error, Result},
    manifest::{Edit, ManifestStore},
};
use parking_lot::{Mutex, MutexGuard};
use std::sync::Arc;

/// The manifest, and the edits that wait for it, each with the place for its answer.
pub(super) struct SharedManifest {
    store: Mutex<ManifestStore>,
    waiting: Mutex<Vec<(Edit, Arc<Slot>)>>,
}

impl SharedManifest {
    pub(super) fn new(store: ManifestStore) -> Self {
        Self { store: Mutex::new(store), waiting: Mutex::default() }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, ManifestStore> {
        self.store.lock()
    }
}

#[derive(Debug, Default)]
struct Slot(Mutex<Option<Result<()>>>);

impl DbCore {
    /// Appends an edit to the manifest and syncs it, together with what others append now. A failure that
    /// may have left the edit behind poisons the database (M3).
    pub(crate) fn commit_manifest(&self, edit: Edit) -> Result<()> {
        let slot = Arc::new(Slot::default());
        self.manifest.waiting.lock().push((edit, slot.clone()));
        let mut manifest = self.manifest.lock();
        let answered = || slot.0.lock().take();
        if let Some(answer) = answered() {
            return answer;
        }
        let (edits, slots): (Vec<_>, Vec<_>) =
            std::mem::take(&mut *self.manifest.waiting.lock()).into_iter().unzip();
        for (slot, answer) in slots.iter().zip(self.commit_edits(&mut manifest, edits)) {
            *slot.0.lock() = Some(answer);
        }
        answered().unwrap_or_else(|| Err(Error::bug("an edit of the manifest was not answered")))
    }

    fn commit_edits(&self, manifest: &mut ManifestStore, mut edits: Vec<Edit>) -> Vec<Result<()>> {
        // Asked under the lock: a job that was let in earlier must not write behind another's
        // record of which nobody knows whether it is there, nor after a close.
        if let Err(error) = self.shared.check_writable() {
            return vec![Err(error); edits.len()];
        }
        let state = manifest.state();
        let (mut next_file, mut log_floor) = (state.next_file, state.log_floor);
        for edit in &mut edits {
            // Edits are made before they wait and may arrive out of order; marks only rise.
            next_file = next_file.max(edit.next_file);
            log_floor = log_floor.max(edit.log_floor);
            (edit.next_file, edit.log_floor) = (next_file, log_floor);
        }
        let committed = manifest.commit(&edits).into_iter();
        committed
            .map(|done| {
                done.map_err(|failure| match failure.maybe_written {
                    true => self.shared.poison(failure.error),
                    false => failure.error,
                })
            })
            .collect()
    }
}
