//! Hot segments: the codes of a segment copied into memory.
//!
//! A copy is made from bytes whose checksums were compared and never changes, so that a search of a
//! hot segment neither looks at checksums nor waits for the disk; one-bit codes lie in it as this
//! machine scans them fastest. The vectors stay where they are:
//! a search reads those of a few rows. A segment that does not fit into the budget is warm: its codes are
//! read where they lie in the file.
//!
//! Called by `db::hot`, which decides what is copied, and by searches, which read codes here alone.

#![deny(clippy::indexing_slicing)]

use super::{
    CellTable, Segment,
    block::Block,
    cells::{CellCodes, FineCodes},
    source::Bytes,
};
use crate::{
    Error, Result,
    budget::{Budget, Claimed},
    error::Cause,
    ivf::Clusterings,
};
use akidb_index::{
    Layout,
    rabitq::{self, Bits, FACTORS_LEN, block_len},
};
use akidb_vfs::{Memory, MemoryMut};
use std::{ops::Range, sync::Arc};

/// The codes of a segment in memory.
#[derive(Debug)]
pub(crate) struct HotCodes {
    memory: Memory,
    codes: Range<usize>,
    fine: Range<usize>,
    factors: Range<usize>,
    layout: Layout,
    claimed: Claimed,
}

impl HotCodes {
    fn slice(&self, block: &Range<usize>, part: Range<usize>) -> Option<Bytes<'_>> {
        self.memory.get(block.clone())?.get(part).map(Bytes::Mapped)
    }
}

impl Segment {
    /// Copies the codes into memory if the budget has as much left. False if it has not, or there are
    /// no codes, or they are hot already.
    ///
    /// # Errors
    /// Corruption of the codes; a failed call; memory that the system does not give.
    pub(crate) fn make_hot(&self, known: &Clusterings, budget: &Arc<Budget>) -> Result<bool> {
        let (blocks, source) = self.parts();
        let Some(cells) = &blocks.cells else { return Ok(false) };
        if self.hot.read().is_some() {
            return Ok(false);
        }
        let Some(table) = self.cells(known)? else { return Ok(false) };
        let parts = [&cells.codes, &cells.fine, &cells.factors];
        let mut end = 0_usize;
        let mut place = |len: u64| -> Option<Range<usize>> {
            let start = end.checked_next_multiple_of(ALIGN)?;
            end = start.checked_add(usize::try_from(len).ok()?)?;
            Some(start..end)
        };
        let [codes, fine, factors] = parts.map(|block| place(block.len()));
        let (Some(codes), Some(fine), Some(factors)) = (codes, fine, factors) else {
            return Ok(false);
        };
        let Some(claimed) = budget.claim(end as u64) else { return Ok(false) };
        let no_memory = |error| Error::from(Cause::Memory { bytes: end as u64, source: error });
        let mut memory = MemoryMut::zeroed(end).map_err(no_memory)?;
        for (block, range) in parts.into_iter().zip([&codes, &fine, &factors]) {
            let into = memory.get_mut(range.clone());
            let into = into.ok_or_else(|| Error::bug("a hot copy is too small for its codes"))?;
            block.copy_to(source, into)?;
        }
        let codec = table.clustering().codec();
        if let Some(codes) = memory.get_mut(codes.clone()) {
            rabitq::lay_out(codec.layout(), codec.padded(), codes);
        }
        let memory = memory.freeze().map_err(no_memory)?;
        let hot = HotCodes { memory, codes, fine, factors, layout: codec.layout(), claimed };
        *self.hot.write() = Some(Arc::new(hot));
        Ok(true)
    }

    /// Bytes that a hot copy takes, whether there is one or not; 0 without codes.
    pub(crate) fn code_bytes(&self) -> u64 {
        let Some(cells) = &self.parts().0.cells else { return 0 };
        [&cells.codes, &cells.fine, &cells.factors].into_iter().map(Block::len).sum()
    }

    /// Lets go of the hot copy. Searches that read it go on doing so.
    pub(crate) fn let_go_of_hot(&self) {
        *self.hot.write() = None;
    }

    /// Bytes that the hot copy takes; 0 if the segment is not hot.
    pub(crate) fn hot_bytes(&self) -> u64 {
        self.hot.read().as_ref().map_or(0, |hot| hot.claimed.bytes())
    }

    /// The codes as they are now, hot or warm, for one search.
    pub(crate) fn codes<'a>(&'a self, table: &'a CellTable) -> Codes<'a> {
        let hot = self.hot.read().clone();
        Codes { segment: self, table, hot }
    }
}

/// Where blocks begin in a copy: the widest registers read whole lines.
const ALIGN: usize = 64;

/// The codes of a segment as one search reads them.
#[derive(Debug)]
pub(crate) struct Codes<'a> {
    segment: &'a Segment,
    table: &'a CellTable,
    hot: Option<Arc<HotCodes>>,
}

impl Codes<'_> {
    /// The one-bit codes of a cell.
    ///
    /// # Errors
    /// Corruption, or a failed call, of a warm segment.
    pub(crate) fn cell(&self, cell: u32) -> Result<CellCodes<'_>> {
        let Some(hot) = &self.hot else { return self.segment.cell_codes(self.table, cell) };
        let padded = self.table.clustering().codec().padded();
        let blocks = self.table.blocks(cell);
        let len = block_len(padded);
        let bytes = scaled(&blocks, len).and_then(|part| hot.slice(&hot.codes, part));
        let bytes = bytes.ok_or_else(|| Error::bug("a cell's codes leave the hot copy"))?;
        Ok(CellCodes { rows: self.table.rows(cell).len(), padded, layout: hot.layout, bytes })
    }

    /// The eight-bit codes of consecutive rows.
    ///
    /// # Errors
    /// As [`Self::cell`].
    pub(crate) fn fine(&self, rows: Range<u32>) -> Result<FineCodes<'_>> {
        let Some(hot) = &self.hot else { return self.segment.fine_codes(self.table, rows) };
        let padded = Bits::Eight.code_len(self.table.clustering().codec().padded());
        let rows = u64::from(rows.start)..u64::from(rows.end);
        let part = |block, len| scaled(&rows, len).and_then(|part| hot.slice(block, part));
        match (part(&hot.fine, padded), part(&hot.factors, FACTORS_LEN)) {
            (Some(codes), Some(factors)) => Ok(FineCodes { padded, codes, factors }),
            _ => Err(Error::bug("rows' codes leave the hot copy")),
        }
    }
}

/// Where items of `len` bytes lie.
fn scaled(items: &Range<u64>, len: usize) -> Option<Range<usize>> {
    let at = |item: u64| usize::try_from(item).ok()?.checked_mul(len);
    Some(at(items.start)?..at(items.end)?)
}
