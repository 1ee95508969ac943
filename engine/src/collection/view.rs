//! What a reader captured: the parts of a collection at one instant. Holding a view keeps its
//! memtables in memory and its segment files on disk; nothing that happens later is seen.

use super::{SegmentPart, State};
use crate::{
    Schema,
    ivf::Clusterings,
    memtable::{MemRow, Memtable, Rows},
};
use akidb_wal::Lsn;
use roaring::RoaringBitmap;
use std::sync::Arc;

/// A memtable and the rows of it that were published when the view was captured.
#[derive(Clone, Debug)]
pub(crate) struct MemView {
    pub(crate) memtable: Arc<Memtable>,
    pub(crate) rows: Rows,
}

impl MemView {
    /// A published row with its slot.
    pub(crate) fn slot(&self, slot: u32) -> Option<(u32, &MemRow)> {
        Some((slot, self.rows.get(slot)?))
    }
}

/// A segment and the rows of it that were hidden when the view was captured.
#[derive(Clone, Debug)]
pub(crate) struct SegmentView {
    pub(crate) part: Arc<SegmentPart>,
    pub(crate) dead: Arc<RoaringBitmap>,
}

impl SegmentView {
    /// How many rows are live.
    pub(crate) fn live_rows(&self) -> u64 {
        u64::from(self.part.segment.rows()) - self.dead.len()
    }

    /// The live rows as a bitmap.
    pub(crate) fn live_bitmap(&self) -> RoaringBitmap {
        let mut live = RoaringBitmap::new();
        live.insert_range(0..self.part.segment.rows());
        live -= &*self.dead;
        live
    }

    /// The live rows, in row order.
    pub(crate) fn live(&self) -> impl Iterator<Item = u32> {
        (0..self.part.segment.rows()).filter(|row| !self.dead.contains(*row))
    }
}

/// A consistent picture of a collection.
#[derive(Clone, Debug)]
pub(crate) struct View {
    /// Every write of the collection up to here is in the view, and none after.
    pub(crate) lsn: Lsn,
    pub(crate) schema: Arc<Schema>,
    /// Newest first.
    pub(crate) memtables: Vec<MemView>,
    pub(crate) segments: Vec<SegmentView>,
    /// Cold objects that are not in the view: it is complete only when this is 0.
    pub(crate) cold: usize,
    pub(crate) clusterings: Arc<Clusterings>,
    pub(crate) dropped: bool,
}

impl View {
    pub(crate) fn capture(state: &State) -> Self {
        Self {
            lsn: state.applied,
            schema: state.schema.clone(),
            memtables: state
                .parts
                .memtables()
                .rev()
                .filter(|memtable| !memtable.is_empty())
                .map(|memtable| MemView { memtable: memtable.clone(), rows: memtable.rows() })
                .collect(),
            segments: state
                .parts
                .segments()
                .iter()
                .map(|part| SegmentView { part: part.clone(), dead: part.dead() })
                .collect(),
            cold: state.cold.len(),
            clusterings: state.clusterings.clone(),
            dropped: state.dropped,
        }
    }

    /// About how many bytes the live rows take.
    pub(crate) fn bytes(&self) -> u64 {
        let in_memtables: u64 = self.memtables.iter().map(|part| part.memtable.data_bytes()).sum();
        let in_segments = self.segments.iter().map(|part| {
            let segment = &part.part.segment;
            let rows = u64::from(segment.rows()).max(1);
            segment.meta().len.saturating_sub(segment.code_bytes()) / rows * part.live_rows()
        });
        in_memtables + in_segments.sum::<u64>()
    }

    /// Live rows in local parts.
    pub(crate) fn live_rows(&self) -> u64 {
        let in_memtables: usize = self
            .memtables
            .iter()
            .map(|m| m.rows.iter().filter(|(_, row)| row.live_at(self.lsn)).count())
            .sum();
        let in_segments: u64 = self.segments.iter().map(SegmentView::live_rows).sum();
        in_memtables as u64 + in_segments
    }
}
