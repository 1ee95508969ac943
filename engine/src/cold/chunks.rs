//! The bytes of one Parquet file while they are made: an iterator that encodes as far as it is asked
//! to, for an upload that sends parts of an object before its last row was read.
//!
//! Owns the running length and checksum, and when they may be believed: at the end, and not after an
//! error. Called by demotion and snapshots; `encode` is the same bytes in one piece.
//!
//! # Invariants
//! - The chunks, joined, are one object, the same for the same rows whoever encodes it.
//! - No chunk is empty. One row group is held at a time, and no byte of it is handed out twice.
//! - [`TotalsHandle::get`] tells nothing until the last chunk was handed out.

#![deny(clippy::indexing_slicing)]

use super::{ColdContext, ColdRow, encode::Encoder};
use crate::error::Result;
use bytes::Bytes;
use std::sync::{Arc, OnceLock};

/// What the bytes of an object add up to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Totals {
    /// Length in bytes.
    pub(crate) len: u64,
    /// CRC-32 (IEEE) of all bytes.
    pub(crate) crc32: u32,
    pub(crate) rows: u64,
    /// The lowest and highest LSN of its rows; 0 if it has none.
    pub(crate) min_lsn: u64,
    pub(crate) max_lsn: u64,
}

/// Where [`EncodedChunks`] leaves the totals, for whoever gave it away to be uploaded.
#[derive(Clone, Debug, Default)]
pub(crate) struct TotalsHandle(Arc<OnceLock<Totals>>);

impl TotalsHandle {
    /// The totals, once every chunk was handed out; `None` before, and for ever after an error.
    pub(crate) fn get(&self) -> Option<Totals> {
        self.0.get().copied()
    }
}

/// An object, a row group or so at a time: an iterator that reads its rows while it is asked for
/// bytes. After an error it yields nothing more.
#[derive(Debug)]
pub(crate) struct EncodedChunks<R> {
    rows: R,
    /// `None` when the last bytes are out or something failed.
    encoder: Option<Encoder>,
    len: u64,
    sum: crc32fast::Hasher,
    totals: TotalsHandle,
}

impl<R: Iterator<Item = Result<ColdRow>>> EncodedChunks<R> {
    /// Begins the object of these rows, in their order. Every vector must be of the schema's
    /// dimension.
    pub(crate) fn start(context: &ColdContext<'_>, rows: R) -> Result<Self> {
        Ok(Self {
            rows,
            encoder: Some(Encoder::start(context)?),
            len: 0,
            sum: crc32fast::Hasher::new(),
            totals: TotalsHandle::default(),
        })
    }

    /// Where the totals will be.
    pub(crate) fn totals(&self) -> TotalsHandle {
        self.totals.clone()
    }

    fn advance(&mut self) -> Result<Option<Bytes>> {
        let Some(mut encoder) = self.encoder.take() else { return Ok(None) };
        for row in self.rows.by_ref() {
            let ready = encoder.push(row?)?;
            if !ready.is_empty() {
                self.encoder = Some(encoder);
                return Ok(Some(self.counted(ready)));
            }
        }
        let (last, footer) = encoder.finish()?;
        let last = self.counted(last);
        let totals = Totals {
            len: self.len,
            crc32: self.sum.clone().finalize(),
            rows: footer.rows,
            min_lsn: footer.lsn_min,
            max_lsn: footer.lsn_max,
        };
        // Set once: there is no encoder to come here with again.
        self.totals.0.get_or_init(|| totals);
        Ok(Some(last))
    }

    fn counted(&mut self, chunk: Bytes) -> Bytes {
        self.len += chunk.len() as u64;
        self.sum.update(&chunk);
        chunk
    }
}

impl<R: Iterator<Item = Result<ColdRow>>> Iterator for EncodedChunks<R> {
    type Item = Result<Bytes>;

    fn next(&mut self) -> Option<Self::Item> {
        self.advance().transpose()
    }
}
