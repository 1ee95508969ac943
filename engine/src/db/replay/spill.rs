//! Spilling: memtables that do not fit into the pool become segments while the log is replayed, as
//! a flush would make them. The collections hold those segments from then on; the manifest names
//! them only after the log was taken over, until when they are strays.
//!
//! Nothing else runs during a replay, so unlike a flush this needs no locks against other jobs, and
//! nothing can be hidden in a memtable while it is written.

#![deny(clippy::indexing_slicing)]

use super::Recovery;
use crate::{
    collection::{CollectionCore, MemView, SegmentPart},
    commit::Shared,
    db::open::Collections,
    error::Result,
    maintenance::{Threads, build::SegmentSite, flush},
    memtable::Memtable,
    segment::{Segment, SegmentMeta, SegmentParams},
};
use akidb_vfs::Fs;
use akidb_wal::Lsn;
use roaring::RoaringBitmap;
use std::{collections::BTreeMap, sync::Arc};

/// What was written of one collection.
pub(in crate::db) struct Spilled {
    pub(super) collection: Arc<CollectionCore>,
    pub(super) parts: Vec<Arc<SegmentPart>>,
    /// Row versions that were in the memtables.
    pub(super) rows: usize,
    /// All records of the collection up to here are in segments.
    pub(super) upto: Lsn,
}

/// Makes room in the memtable pool.
pub(super) struct Spill<'a> {
    site: SegmentSite<'a>,
    shared: &'a Shared,
    collections: &'a Collections,
    spilled: BTreeMap<u32, Spilled>,
}

impl<'a> Spill<'a> {
    pub(super) fn new(recovery: &Recovery<'a>) -> Self {
        let site = SegmentSite {
            fs: &recovery.parts.fs,
            random: &*recovery.parts.random,
            dir: &recovery.paths.segments,
            next_file: recovery.next_file,
            // Whoever waits for the open does not wait for an index: compaction makes it.
            index_rows_min: u64::MAX,
            threads: Threads(1),
        };
        let Recovery { shared, collections, .. } = *recovery;
        Self { site, shared, collections, spilled: BTreeMap::new() }
    }

    pub(super) fn into_spilled(self) -> Vec<Spilled> {
        self.spilled.into_values().collect()
    }

    /// Writes memtables, oldest first, of whichever collection holds most, until there is room.
    pub(super) fn make_room(&mut self) -> Result<()> {
        while !self.shared.pool.has_room() {
            let held = self.collections.values().map(|c| (held_bytes(c), c));
            let largest = held.max_by_key(|(bytes, _)| *bytes).filter(|(bytes, _)| *bytes > 0);
            let Some((_, largest)) = largest else { return Ok(()) };
            let oldest = largest.state.read().parts.frozen().first().cloned();
            match oldest {
                Some(oldest) => self.write(largest, &oldest)?,
                None => drop(largest.freeze()),
            }
        }
        Ok(())
    }

    fn write(&mut self, collection: &Arc<CollectionCore>, oldest: &Arc<Memtable>) -> Result<()> {
        let applied = collection.state.read().applied;
        let captured = MemView { memtable: oldest.clone(), rows: oldest.rows() };
        let written = flush::write_segment(self.site, collection, &captured, applied)?;
        let part = written.map(|(meta, _)| self.open(collection, &meta)).transpose()?;
        let added: Vec<_> = part.clone().into_iter().collect();
        collection.state.write().parts.install(added, |_| false, std::slice::from_ref(oldest));
        oldest.leave(&self.shared.pool);
        let spilled = self.spilled.entry(collection.id).or_insert_with(|| Spilled {
            collection: collection.clone(),
            parts: Vec::new(),
            rows: 0,
            upto: Lsn::ZERO,
        });
        spilled.parts.extend(part);
        spilled.rows += captured.rows.len();
        spilled.upto = oldest.last_lsn();
        Ok(())
    }

    fn open(&self, collection: &CollectionCore, meta: &SegmentMeta) -> Result<Arc<SegmentPart>> {
        let schema = collection.schema();
        let params =
            SegmentParams { collection: collection.id, dim: schema.dim, metric: schema.metric };
        let mode = self.shared.settings.read_mode;
        let segment = Segment::open(&**self.site.fs, self.site.dir, meta, params, mode)?;
        Ok(Arc::new(SegmentPart::new(segment, RoaringBitmap::new())))
    }
}

fn held_bytes(collection: &CollectionCore) -> u64 {
    collection.state.read().parts.memtables().map(|memtable| memtable.bytes()).sum()
}

/// Removes what was written, after a replay that failed. Best effort: what stays is a stray, which
/// the next open reports.
pub(super) fn discard(fs: &dyn Fs, spilled: &[Spilled]) {
    for part in spilled.iter().flat_map(|one| &one.parts) {
        drop(fs.remove_file(part.segment.path()));
    }
}
