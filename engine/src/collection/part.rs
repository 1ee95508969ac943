//! A segment with its tombstones: the rows of the file, and which of them are hidden.
//!
//! Owns the in-memory tombstone bitmap; the durable one is written with the manifest. Kills
//! happen only under the collection's state lock, so a view captured under that lock is
//! consistent. A bitmap handed to a view is never changed afterwards: the next kill copies it.

use crate::{PointId, error::Result, filter::Remembered, segment::Segment};
use parking_lot::Mutex;
use roaring::RoaringBitmap;
use std::sync::{Arc, OnceLock};

#[derive(Debug, Default)]
struct Tombstones {
    base: Arc<RoaringBitmap>,
    /// Kills since `base` was last handed out; folded in when a view asks, so that a burst of
    /// kills copies the bitmap once and not once per kill.
    pending: RoaringBitmap,
}

/// A segment and which of its rows are hidden.
#[derive(Debug)]
pub(crate) struct SegmentPart {
    pub(crate) segment: Segment,
    tombstones: Mutex<Tombstones>,
    /// Rows in id order, made by the first scan.
    id_order: OnceLock<Box<[(PointId, u32)]>>,
    /// Answers of filters.
    pub(crate) answers: Remembered,
}

impl SegmentPart {
    pub(crate) fn new(segment: Segment, dead: RoaringBitmap) -> Self {
        let tombstones = Tombstones { base: Arc::new(dead), pending: RoaringBitmap::new() };
        Self {
            segment,
            tombstones: Mutex::new(tombstones),
            id_order: OnceLock::new(),
            answers: Remembered::default(),
        }
    }

    /// The file number, which names the segment everywhere.
    pub(crate) fn number(&self) -> u64 {
        self.segment.meta().number
    }

    /// Hides a row.
    pub(crate) fn kill(&self, row: u32) {
        self.tombstones.lock().pending.insert(row);
    }

    /// True if the row is hidden now.
    pub(crate) fn is_dead(&self, row: u32) -> bool {
        let tombstones = self.tombstones.lock();
        tombstones.base.contains(row) || tombstones.pending.contains(row)
    }

    /// The hidden rows as of now.
    pub(crate) fn dead(&self) -> Arc<RoaringBitmap> {
        let mut tombstones = self.tombstones.lock();
        let tombstones = &mut *tombstones;
        if !tombstones.pending.is_empty() {
            *Arc::make_mut(&mut tombstones.base) |= std::mem::take(&mut tombstones.pending);
        }
        tombstones.base.clone()
    }

    /// The row of the live version of an id, if it is here.
    pub(crate) fn find_live(&self, id: &PointId) -> Result<Option<u32>> {
        Ok(self.segment.find(id)?.filter(|row| !self.is_dead(*row)))
    }

    /// Every row with its id, sorted by id.
    pub(crate) fn id_order(&self) -> Result<&[(PointId, u32)]> {
        if let Some(order) = self.id_order.get() {
            return Ok(order);
        }
        let mut order = (0..self.segment.rows())
            .map(|row| Ok((self.segment.id(row)?, row)))
            .collect::<Result<Vec<_>>>()?;
        order.sort_unstable();
        Ok(self.id_order.get_or_init(|| order.into_boxed_slice()))
    }
}
