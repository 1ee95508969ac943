//! The way of records from the thread that reads and decodes them to the thread that applies them:
//! in parcels, whose blocks of numbers and bytes become the memory of the rows. One by one each
//! record would cost a wake-up, and each row allocations, which the reading thread has the time
//! for and the applying thread has not.

#![deny(clippy::indexing_slicing)]

use super::decode::Decoder;
use crate::{PointId, collection::NewRow, error::Result, memtable::Stored, point::Metadata};
use akidb_wal::Lsn;
use std::{
    ops::Range,
    sync::{
        Arc,
        mpsc::{self, Receiver, Sender, SyncSender},
    },
};

/// A parcel goes off when its records have this many bytes in the log.
const PARCEL_BYTES: usize = 1 << 20;
/// Parcels that may wait. With those in the hands of the two threads, and records of at most
/// 16 MiB, this bounds what a replay holds beside the memtables.
const PARCELS_MAX: usize = 2;

/// A record that is to be applied.
pub(super) struct Batch {
    pub(super) lsn: Lsn,
    pub(super) collection: u32,
    pub(super) change: Logged,
}

/// What a record says.
pub(super) enum Logged {
    /// The next so many rows of the parcel.
    Rows(usize),
    Deletes(Vec<PointId>),
}

/// A row of a parcel; its vector and metadata stand in the parcel's block.
pub(super) struct ParcelRow {
    pub(super) id: PointId,
    pub(super) inv_norm: f32,
    pub(super) vector: Range<usize>,
    pub(super) metadata: Range<usize>,
    pub(super) parsed: Metadata,
}

/// Records, decoded, in the order of the log.
#[derive(Default)]
pub(super) struct Parcel {
    pub(super) batches: Vec<Batch>,
    pub(super) rows: Vec<ParcelRow>,
    pub(super) vectors: Vec<f32>,
    pub(super) metadata: Vec<u8>,
    /// Bytes of records that it still takes.
    room: usize,
}

impl Parcel {
    /// Makes room for records of so many bytes in all, so that the block never moves: a record's
    /// vectors take no more than the record, and neither does its metadata. What stays unused of
    /// it is never touched, hence no memory.
    pub(super) fn make_room(&mut self, bytes: usize) {
        self.vectors.reserve_exact(bytes / size_of::<f32>());
        self.metadata.reserve_exact(bytes);
        self.room = bytes;
    }

    /// Has the system give the memory of a block now, as much as the block of `like` has taken.
    fn touch(&mut self, like: (usize, usize)) {
        self.make_room(PARCEL_BYTES);
        touch(&mut self.vectors, like.0);
        touch(&mut self.metadata, like.1);
    }

    /// What the block has taken: numbers, bytes.
    fn taken(&self) -> (usize, usize) {
        (self.vectors.len(), self.metadata.len())
    }

    /// Puts in a record, if it is to be applied.
    pub(super) fn push(&mut self, decoder: &mut Decoder<'_>, lsn: Lsn, body: &[u8]) -> Result<()> {
        if let Some(batch) = decoder.decode(lsn, body, self)? {
            self.batches.push(batch);
            self.room = self.room.saturating_sub(body.len());
        }
        Ok(())
    }

    /// Takes the rows out, in order. They hold the block from then on; the other memory stays.
    pub(super) fn take_rows(&mut self) -> impl Iterator<Item = NewRow> {
        let vectors = Arc::new(std::mem::take(&mut self.vectors));
        let metadata = Arc::new(std::mem::take(&mut self.metadata));
        self.room = 0;
        self.rows.drain(..).map(move |row| NewRow {
            id: row.id,
            vector: Stored::part(&vectors, row.vector),
            inv_norm: row.inv_norm,
            metadata: Stored::part(&metadata, row.metadata),
            parsed: row.parsed,
        })
    }
}

/// Writes to every page of the first `len` places, which are beyond the vector's end still.
fn touch<T: Default>(block: &mut Vec<T>, len: usize) {
    const PAGE_BYTES: usize = 4096;
    let spare = block.spare_capacity_mut();
    let len = len.min(spare.len());
    for page in spare.get_mut(..len).unwrap_or_default().chunks_mut(PAGE_BYTES / size_of::<T>()) {
        if let Some(first) = page.first_mut() {
            first.write(T::default());
        }
    }
}

/// The reader's end.
pub(super) struct Feeder {
    parcel: Parcel,
    full: SyncSender<Parcel>,
    empty: Receiver<Parcel>,
}

/// The applier's end.
pub(super) struct Parcels {
    full: Receiver<Parcel>,
    empty: Sender<Parcel>,
}

pub(super) fn channel() -> (Feeder, Parcels) {
    let (full, full_receiver) = mpsc::sync_channel(PARCELS_MAX);
    let (empty_sender, empty) = mpsc::channel();
    let feeder = Feeder { parcel: Parcel::default(), full, empty };
    (feeder, Parcels { full: full_receiver, empty: empty_sender })
}

impl Feeder {
    /// Passes a record on, if it is to be applied; false if nobody takes records any more.
    pub(super) fn push(
        &mut self,
        decoder: &mut Decoder<'_>,
        lsn: Lsn,
        body: &[u8],
    ) -> Result<bool> {
        if self.parcel.room < body.len() {
            if !self.parcel.batches.is_empty() && !self.send() {
                return Ok(false);
            }
            self.parcel.make_room(PARCEL_BYTES.max(body.len()));
        }
        self.parcel.push(decoder, lsn, body)?;
        Ok(true)
    }

    /// Passes on what is left.
    pub(super) fn finish(mut self) {
        // Whoever takes no more has a reason to tell.
        let _ = self.send();
    }

    fn send(&mut self) -> bool {
        let next = self.empty.try_recv().unwrap_or_default();
        self.full.send(std::mem::replace(&mut self.parcel, next)).is_ok()
    }
}

impl Parcels {
    /// Calls `each` with every parcel, in order, until the reader has finished or `each` fails.
    ///
    /// If `ahead`, the memory of a parcel to come is touched here while none waits. Clearing pages
    /// takes the system longer than anything that the two threads do themselves, so whichever has
    /// time does it.
    pub(super) fn try_for_each(
        self,
        ahead: bool,
        mut each: impl FnMut(&mut Parcel) -> Result<()>,
    ) -> Result<()> {
        let mut waiting = None;
        while let Some(mut parcel) = waiting.take().or_else(|| self.full.recv().ok()) {
            let taken = parcel.taken();
            each(&mut parcel)?;
            waiting = self.full.try_recv().ok();
            if ahead && waiting.is_none() {
                parcel.touch(taken);
            }
            // The reader may have read everything by now.
            let _ = self.empty.send(parcel);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_touched_parcel_is_empty_and_takes_a_record_without_moving_its_block() {
        let mut parcel = Parcel::default();
        parcel.touch((3000, usize::MAX));
        assert_eq!((parcel.taken(), parcel.room), ((0, 0), PARCEL_BYTES));
        let before = parcel.vectors.as_ptr();
        parcel.make_room(PARCEL_BYTES);
        assert_eq!(parcel.vectors.as_ptr(), before);
    }

    #[test]
    fn rows_keep_their_block_when_the_parcel_is_used_again() {
        let mut parcel = Parcel::default();
        let mut take = |x: f32, json: &[u8]| {
            parcel.make_room(100);
            parcel.vectors.push(x);
            parcel.metadata.extend_from_slice(json);
            let (vector, metadata) = (0..1, 0..json.len());
            let (id, parsed) = (PointId::from(1), Metadata::new());
            parcel.rows.push(ParcelRow { id, inv_norm: 1.0, vector, metadata, parsed });
            parcel.take_rows().next().expect("the row")
        };
        let (first, second) = (take(1.0, b"{}"), take(2.0, b"{\"a\":1}"));
        assert_eq!((&*first.vector, &*first.metadata), (&[1.0][..], &b"{}"[..]));
        assert_eq!((&*second.vector, &*second.metadata), (&[2.0][..], &b"{\"a\":1}"[..]));
    }
}
