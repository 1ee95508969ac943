//! Append-only row storage that one writer fills while readers scan: slots are set once, and a
//! row is published by the length that a reader captured, never by looking into a slot.

use super::{ChunkCodes, Stored};
use crate::PointId;
use akidb_handoff::Grave;
use akidb_index::rabitq::Codec;
use akidb_wal::Lsn;
use std::sync::{Arc, OnceLock};

/// Rows per chunk.
pub(crate) const CHUNK_ROWS: usize = 512;

/// One version of a row in a memtable.
#[derive(Debug)]
pub(crate) struct MemRow {
    pub(crate) id: PointId,
    pub(crate) lsn: Lsn,
    pub(crate) vector: Stored<f32>,
    pub(crate) inv_norm: f32,
    /// Canonical JSON.
    pub(crate) metadata: Stored<u8>,
    /// The write that hid this version, if one did.
    grave: Grave,
}

impl MemRow {
    pub(crate) fn new(
        id: PointId,
        lsn: Lsn,
        vector: Stored<f32>,
        inv_norm: f32,
        metadata: Stored<u8>,
    ) -> Self {
        Self { id, lsn, vector, inv_norm, metadata, grave: Grave::new() }
    }

    /// Hides this version from every reader whose view is at `lsn` or later.
    pub(crate) fn kill(&self, lsn: Lsn) {
        self.grave.bury(lsn.get());
    }

    /// True if a reader whose view is at `lsn` sees this version.
    pub(crate) fn live_at(&self, lsn: Lsn) -> bool {
        self.lsn <= lsn && self.grave.is_open_at(lsn.get())
    }

    /// True if a later write hid this version.
    pub(crate) fn is_dead(&self) -> bool {
        self.grave.is_filled()
    }

    /// Bytes of memory that this row takes, about.
    pub(crate) fn bytes(&self) -> u64 {
        Self::bytes_with(self.data_bytes())
    }

    /// Bytes of memory that a row of so much data takes, about.
    pub(crate) fn bytes_with(data_bytes: u64) -> u64 {
        let fixed = size_of::<Self>() + 96; // its slot, its id-table entry
        fixed as u64 + data_bytes
    }

    /// Bytes of its numbers and its metadata.
    pub(crate) fn data_bytes(&self) -> u64 {
        (self.vector.len() * 4 + self.metadata.len()) as u64
    }
}

#[derive(Debug)]
pub(crate) struct Chunk {
    rows: Box<[OnceLock<MemRow>]>,
    codes: OnceLock<ChunkCodes>,
}

impl Chunk {
    fn new() -> Self {
        let rows = (0..CHUNK_ROWS).map(|_| OnceLock::new()).collect();
        Self { rows, codes: OnceLock::new() }
    }

    /// The row in a slot of the chunk, if one was put there.
    pub(crate) fn row(&self, at: usize) -> Option<&MemRow> {
        self.rows.get(at)?.get()
    }

    /// The codes, if somebody made them.
    pub(crate) fn codes(&self) -> Option<&ChunkCodes> {
        self.codes.get()
    }

    /// Makes the codes of a full chunk; false if somebody else did.
    pub(super) fn encode(&self, codec: &Codec) -> bool {
        let codes = ChunkCodes::new(codec, self.rows.iter().filter_map(OnceLock::get));
        self.codes.set(codes).is_ok()
    }
}

/// The rows of a memtable, or a reader's view of the first `len` of them.
#[derive(Clone, Debug, Default)]
pub(crate) struct Rows {
    chunks: Vec<Arc<Chunk>>,
    len: usize,
}

impl Rows {
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Appends a row and returns its slot.
    pub(crate) fn push(&mut self, row: MemRow) -> u32 {
        let slot = self.len;
        if slot.is_multiple_of(CHUNK_ROWS) {
            self.chunks.push(Arc::new(Chunk::new()));
        }
        let cell = self.chunks.last().and_then(|chunk| chunk.rows.get(slot % CHUNK_ROWS));
        let set = cell.is_some_and(|cell| cell.set(row).is_ok());
        assert!(set, "a slot is filled once, by the one writer");
        self.len += 1;
        u32::try_from(slot).expect("a memtable is flushed long before 2^32 rows")
    }

    /// The row in a slot that was published to this view.
    pub(crate) fn get(&self, slot: u32) -> Option<&MemRow> {
        let slot = slot as usize;
        if slot >= self.len {
            return None;
        }
        self.chunks.get(slot / CHUNK_ROWS)?.row(slot % CHUNK_ROWS)
    }

    /// The chunks that are full and published, each with the slot of its first row.
    pub(crate) fn full_chunks(&self) -> impl Iterator<Item = (u32, &Chunk)> {
        let full = self.chunks.iter().take(self.len / CHUNK_ROWS);
        (0_u32..).step_by(CHUNK_ROWS).zip(full.map(|chunk| &**chunk))
    }

    /// The rows behind the full chunks, with their slots.
    pub(crate) fn rest(&self) -> impl Iterator<Item = (u32, &MemRow)> {
        let first = self.len / CHUNK_ROWS * CHUNK_ROWS;
        let slots = (first..self.len).filter_map(|slot| u32::try_from(slot).ok());
        slots.filter_map(|slot| Some((slot, self.get(slot)?)))
    }

    /// Every published row with its slot, in insertion order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (u32, &MemRow)> {
        let cells = self.chunks.iter().flat_map(|chunk| chunk.rows.iter());
        (0_u32..).zip(cells).take(self.len).filter_map(|(slot, cell)| Some((slot, cell.get()?)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(n: u64) -> MemRow {
        let vector: Box<[f32]> = Box::new([n as f32]);
        MemRow::new(PointId::U64(n), Lsn::new(n), vector.into(), 1.0, Stored::default())
    }

    #[test]
    fn a_captured_view_does_not_see_later_rows() {
        let mut rows = Rows::default();
        for n in 1..=600 {
            rows.push(row(n));
        }
        let view = rows.clone();
        rows.push(row(601));
        assert_eq!(view.iter().count(), 600);
        assert!(view.get(600).is_none());
        assert_eq!(rows.get(600).unwrap().id, PointId::U64(601));
    }

    #[test]
    fn a_killed_row_stays_visible_to_older_views() {
        let row = row(5);
        assert!(!row.live_at(Lsn::new(4)));
        row.kill(Lsn::new(9));
        assert!(row.live_at(Lsn::new(8)));
        assert!(!row.live_at(Lsn::new(9)));
    }
}
