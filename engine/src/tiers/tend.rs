//! What the store needs besides moves: garbage deleted, uploads ended whose end was unknown, the bucket
//! looked at, and once a day what earlier processes left there.
//!
//! Owns how often: once a cycle's time, whether the cycles are paused or not, so that a store that is down
//! is asked now and then and not by every write, and that another writer is noticed while nothing moves.
//! Never moves rows. Called by the background thread, by a cycle at its end, and by an open that is
//! driven inline.

use crate::{db::DbCore, error::Result};
use akidb_tiering::RecoveredEnd;
use std::time::Duration;

/// Uploads in parts that nobody knows of are ended when they are so old by the store's clock.
const UPLOAD_AGE_MIN: Duration = Duration::from_secs(24 * 3600);
/// A sweep lists all objects of the database.
const SWEEP_PAUSE: Duration = Duration::from_secs(24 * 3600);

impl DbCore {
    /// Deletes garbage, ends uploads and looks whether the bucket is still ours; sweeps if that is due. A
    /// failure is noted, and left to the next time.
    pub(crate) fn tend_store(&self) {
        let now = self.shared.clock.monotonic();
        let sweep = {
            let mut status = self.tiers.status.lock();
            status.tend_at = now + Duration::from_millis(self.shared.settings.tiers.cycle_ms);
            status.sweep_at <= now
        };
        self.collect_garbage();
        let done = self.end_uploads(sweep).and(self.tend_bucket(sweep));
        let mut status = self.tiers.status.lock();
        if sweep && done.is_ok() {
            status.sweep_at = now + SWEEP_PAUSE;
        }
        status.store_error = done.err();
    }

    /// Ends uploads in parts that an earlier process began or whose end was unknown. An object that was
    /// completed and that nothing names goes. A sweep looks for uploads that no journal names.
    fn end_uploads(&self, sweep: bool) -> Result<()> {
        let mut unsettled = None;
        for upload in self.block_on(self.uploader.recover()) {
            match upload.end {
                RecoveredEnd::Object(_) => {
                    let key = upload.entry.upload.key.to_string();
                    if !self.names_object(&key) {
                        self.discard_object(&key);
                    }
                }
                RecoveredEnd::Unsettled(error) => unsettled = Some(error),
                _ => {}
            }
        }
        if sweep
            && self.ships()
            && let Some(prefix) = self.object_key("c")?.to_string().strip_suffix('c')
        {
            self.block_on(self.uploader.sweep(prefix, UPLOAD_AGE_MIN))?;
        }
        unsettled.map_or(Ok(()), |error| Err(error.into()))
    }

    /// True if the manifest names an object.
    fn names_object(&self, key: &str) -> bool {
        self.with_manifest(|manifest| {
            let state = manifest.state();
            let cold = state.collections.values().flat_map(|collection| &collection.cold);
            let snapshots = state.snapshots.values().map(|snapshot| &snapshot.object);
            cold.chain(snapshots).any(|object| object.key == key)
        })
    }
}
