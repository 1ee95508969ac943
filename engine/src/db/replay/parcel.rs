//! The way of records from the thread that reads them to the thread that applies them: copied into
//! buffers that go back and forth between the two. One by one each record would cost a wake-up, and
//! a new buffer each time would cost the system's clearing of its memory.

#![deny(clippy::indexing_slicing)]

use crate::error::{Error, Result};
use akidb_wal::Lsn;
use std::sync::mpsc::{self, Receiver, Sender, SyncSender};

/// A parcel goes off when it holds this much.
const PARCEL_BYTES: usize = 1 << 20;
/// Parcels that may wait. With those in the hands of the two threads, and records of at most
/// 16 MiB, this bounds what a replay holds beside the memtables.
const PARCELS_MAX: usize = 2;

/// Records, one behind the other.
#[derive(Default)]
struct Parcel {
    bytes: Vec<u8>,
    /// The LSN of each record and how long it is.
    records: Vec<(Lsn, usize)>,
}

impl Parcel {
    fn push(&mut self, lsn: Lsn, body: &[u8]) {
        self.bytes.extend_from_slice(body);
        self.records.push((lsn, body.len()));
    }

    /// Takes the records out, in order, and leaves the memory.
    fn drain(&mut self, each: &mut impl FnMut(Lsn, &[u8]) -> Result<()>) -> Result<()> {
        let mut rest = &*self.bytes;
        for &(lsn, len) in &self.records {
            let split = rest.split_at_checked(len);
            let (body, after) = split.ok_or_else(|| Error::bug("a parcel lacks a record"))?;
            each(lsn, body)?;
            rest = after;
        }
        self.bytes.clear();
        self.records.clear();
        Ok(())
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
    /// Passes a record on; false if nobody takes records any more.
    pub(super) fn push(&mut self, lsn: Lsn, body: &[u8]) -> bool {
        self.parcel.push(lsn, body);
        self.parcel.bytes.len() < PARCEL_BYTES || self.send()
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
    /// Calls `each` with every record, in order, until the reader has finished or `each` fails.
    pub(super) fn try_for_each(self, mut each: impl FnMut(Lsn, &[u8]) -> Result<()>) -> Result<()> {
        for mut parcel in self.full {
            parcel.drain(&mut each)?;
            // The reader may have read everything by now.
            let _ = self.empty.send(parcel);
        }
        Ok(())
    }
}
