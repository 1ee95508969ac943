//! A run: consecutive rows of a segment to come, in memory, as one thread puts them together while
//! another writes the run before.
//!
//! Owns the memory, which is used again for the next run. In a segment with cells a run is made of
//! whole blocks of codes. It checks what must not get into a file; it does no I/O. Filled by
//! `maintenance`, written by the writer.

#![deny(clippy::indexing_slicing)]

use super::{RowCodes, RowRef, items::ItemsBuilder};
use crate::{Error, ID_BYTES_MAX, PointId, Result};
use akidb_index::rabitq::{Factors, pack_block};

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Run {
    pub(super) vectors: Vec<f32>,
    pub(super) inv_norms: Vec<f32>,
    pub(super) lsns: Vec<u64>,
    pub(super) ids: ItemsBuilder,
    pub(super) metadata: ItemsBuilder,
    /// In a segment with cells: eight-bit codes and their factors, row by row.
    pub(super) fine: Vec<u8>,
    pub(super) factors: Vec<f32>,
    /// And one-bit codes, block by block.
    pub(super) blocks: Vec<u8>,
}

impl Run {
    /// Rows in it.
    pub(crate) fn len(&self) -> usize {
        self.lsns.len()
    }

    /// Makes it empty, and keeps its memory.
    pub(crate) fn clear(&mut self) {
        let Self { vectors, inv_norms, lsns, ids, metadata, fine, factors, blocks } = self;
        [vectors, inv_norms, factors].into_iter().for_each(Vec::clear);
        [ids, metadata].into_iter().for_each(ItemsBuilder::clear);
        [fine, blocks].into_iter().for_each(Vec::clear);
        lsns.clear();
    }

    /// Appends a row, without codes.
    ///
    /// # Errors
    /// An id that validation must not have let through: a bug.
    pub(crate) fn push(&mut self, row: RowRef<'_>) -> Result<()> {
        self.push_head(row.id, row.lsn, row.metadata)?;
        self.push_vectors(row.vector, &[row.inv_norm]);
        Ok(())
    }

    /// Appends what a row has besides its vector, which [`Self::push_vectors`] brings.
    pub(crate) fn push_head(&mut self, id: &PointId, lsn: u64, metadata: &[u8]) -> Result<()> {
        check_id(id)?;
        self.ids.push_with(|out| id.encode_into(out));
        self.lsns.push(lsn);
        self.metadata.push_with(|out| out.extend_from_slice(metadata));
        Ok(())
    }

    /// Appends the vectors of consecutive rows, and their inverse lengths.
    pub(crate) fn push_vectors(&mut self, vectors: &[f32], inv_norms: &[f32]) {
        self.vectors.extend_from_slice(vectors);
        self.inv_norms.extend_from_slice(inv_norms);
    }

    /// The vectors of all rows, one behind the other, and their inverse lengths.
    pub(crate) fn vectors(&self) -> (&[f32], &[f32]) {
        (&self.vectors, &self.inv_norms)
    }

    /// The metadata of all rows.
    pub(crate) fn metadata(&self) -> impl Iterator<Item = &[u8]> {
        self.metadata.iter()
    }

    /// Appends the codes of the rows of one block, at most 32.
    pub(crate) fn push_block(&mut self, padded: usize, rows: &[RowCodes]) {
        for codes in rows {
            self.fine.extend_from_slice(&codes.fine);
            let Factors { add, scale, error } = codes.fine_factors;
            self.factors.extend([add, scale, error]);
        }
        let ones: Vec<_> = rows.iter().map(|codes| (&*codes.one, codes.one_factors)).collect();
        pack_block(padded, &ones, &mut self.blocks);
    }
}

/// An id that could not be read back must not be written: it would be corruption of our making.
pub(super) fn check_id(id: &PointId) -> Result<()> {
    match id {
        PointId::Str(text) if text.is_empty() || text.len() > ID_BYTES_MAX => {
            Err(Error::bug("an id that validation refuses reached a segment"))
        }
        _ => Ok(()),
    }
}
