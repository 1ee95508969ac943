//! Who may take how much of the disk: upserts leave a reserve, merges begin only where they can
//! end, and writes come back as soon as there is space again.
//!
//! Asks the file system for its free space before anything is written; it writes nothing itself,
//! and what it allows can still fail, as others use the disk too. Called by the admission of
//! writes, by the flush thread and by compaction.

use super::DbCore;
use crate::{
    collection::{CollectionCore, SegmentPart},
    error::{Cause, ErrorKind, Result},
    ivf::cells_for,
    segment::cell_blocks_len,
    settings::Settings,
};
use akidb_vfs::planted;
use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

/// Bytes that merges under way have still to write.
#[derive(Debug, Default)]
pub(crate) struct Claims(AtomicU64);

/// What one merge has still to write, until it is dropped.
#[derive(Debug)]
pub(crate) struct Claim<'a> {
    all: &'a Claims,
    needed: u64,
    left: u64,
}

impl Claim<'_> {
    /// So much is written, and taken from the free space.
    pub(crate) fn written(&mut self, bytes: u64) {
        let left = self.needed.saturating_sub(bytes);
        self.all.0.fetch_sub(self.left.saturating_sub(left), Ordering::Relaxed);
        self.left = self.left.min(left);
    }
}

impl Drop for Claim<'_> {
    fn drop(&mut self) {
        self.all.0.fetch_sub(self.left, Ordering::Relaxed);
    }
}

impl DbCore {
    /// Refuses an upsert that would take what deletes, flushes and merges need.
    pub(super) fn check_disk_reserve(&self) -> Result<()> {
        let Settings { disk_reserve_bytes, wal_file_bytes, .. } = self.shared.settings;
        if disk_reserve_bytes == 0 || planted("space.reserve-unchecked") {
            return Ok(());
        }
        self.shared.once_per_group(|| {
            // The next WAL file comes first: made for a delete, it could take the whole reserve.
            let reserve_bytes = disk_reserve_bytes
                .saturating_add(wal_file_bytes)
                .saturating_add(self.claims.0.load(Ordering::Relaxed));
            let mut free_bytes = self.free_space()?;
            if free_bytes < reserve_bytes {
                // Segments that a merge replaced may lie there still: they are not in use.
                self.sweep();
                free_bytes = self.free_space()?;
            }
            if free_bytes < reserve_bytes {
                return Err(Cause::DiskReserve { free_bytes, reserve_bytes }.into());
            }
            Ok(())
        })
    }

    /// Claims what a merge of these segments will write, or refuses it: a merge that takes the
    /// space from under flushes and the log makes them fail, and it can wait.
    pub(crate) fn claim_merge(
        &self,
        collection: &CollectionCore,
        inputs: &[Arc<SegmentPart>],
    ) -> Result<Claim<'_>> {
        let needed = self.merge_bytes(collection, inputs);
        // Added before it is compared: of two merges that begin at once, one sees the other.
        let others = self.claims.0.fetch_add(needed, Ordering::Relaxed);
        let claim = Claim { all: &self.claims, needed, left: needed };
        let shared = &self.shared;
        let needed_bytes = [needed, shared.pool.used(), shared.settings.wal_file_bytes]
            .into_iter()
            .fold(others, u64::saturating_add);
        let free_bytes = self.free_space()?;
        if free_bytes < needed_bytes {
            return Err(Cause::MergeSpace { free_bytes, needed_bytes }.into());
        }
        Ok(claim)
    }

    /// About what a merge writes: the live share of its inputs, and the codes that they lack.
    fn merge_bytes(&self, collection: &CollectionCore, inputs: &[Arc<SegmentPart>]) -> u64 {
        let dim = collection.schema().dim;
        let (mut bytes, mut all_rows, mut uncoded_rows) = (0_u64, 0, 0);
        for part in inputs {
            let rows = u64::from(part.segment.rows());
            let live = rows.saturating_sub(part.dead().len());
            let share = live as f64 / rows.max(1) as f64;
            bytes = bytes.saturating_add((part.segment.meta().len as f64 * share) as u64);
            all_rows += live;
            uncoded_rows += if part.segment.has_cells() { 0 } else { live };
        }
        if all_rows < self.shared.settings.index_rows_min.max(1) {
            return bytes;
        }
        let want = cells_for(all_rows, dim);
        let fitting = collection.clusterings().fitting(want);
        let cells = fitting.first().map_or(want, |finest| u64::from(finest.cells()).max(want));
        bytes.saturating_add(cell_blocks_len(uncoded_rows, cells, dim))
    }

    /// Where memory is full because the disk is, deletes go on for a while: refusing them too
    /// would leave no way out.
    pub(super) fn deletes_may_overdraw(&self) -> bool {
        self.disk_is_full() && self.shared.pool.has_overdraft()
    }

    /// A flush found no space, and there is none yet.
    pub(super) fn disk_is_full(&self) -> bool {
        self.flush_found_no_space() && !self.has_space_for_a_flush()
    }

    /// A flush found no space, but now there is: longer to pause would refuse writes for nothing.
    pub(super) fn full_no_more(&self) -> bool {
        self.flush_found_no_space() && self.has_space_for_a_flush()
    }

    fn flush_found_no_space(&self) -> bool {
        self.background.flush_error().is_some_and(|error| error.kind() == ErrorKind::NoSpace)
    }

    fn has_space_for_a_flush(&self) -> bool {
        let enough = self.shared.settings.memtable_bytes.saturating_mul(2);
        self.free_space().is_ok_and(|free| free >= enough)
    }

    fn free_space(&self) -> Result<u64> {
        Ok(self.fs.free_space(&self.paths.root)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_merge_has_written_is_not_claimed_any_more() {
        let claims = Claims::default();
        claims.0.fetch_add(100, Ordering::Relaxed);
        let mut claim = Claim { all: &claims, needed: 100, left: 100 };
        let claimed = || claims.0.load(Ordering::Relaxed);
        claim.written(30);
        assert_eq!(claimed(), 70);
        claim.written(20);
        assert_eq!(claimed(), 70, "a file does not become shorter");
        claim.written(170);
        assert_eq!(claimed(), 0, "it wrote more than was expected");
        drop(claim);
        assert_eq!(claimed(), 0);
    }

    #[test]
    fn a_merge_that_fails_gives_its_claim_back() {
        let claims = Claims::default();
        claims.0.fetch_add(100, Ordering::Relaxed);
        let mut claim = Claim { all: &claims, needed: 100, left: 100 };
        claim.written(30);
        drop(claim);
        assert_eq!(claims.0.load(Ordering::Relaxed), 0);
    }
}
