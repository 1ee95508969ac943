//! Writing what belongs to cells: the codes of the rows, as these pass in the order of their cells.
//!
//! Fine codes go straight to their place in the file, which is known because the number of rows is;
//! one-bit codes and factors, some 75 bytes a row at 384 dimensions, are collected and follow with
//! the other blocks. Called by the writer alone.

#![deny(clippy::indexing_slicing)]

use super::{
    Run, SegmentParams,
    directory::{BlockEntry, BlockKind},
    format::{ALIGN, ALIGN_VECTORS},
    sink::FileSink,
};
use crate::{
    Error, Result,
    ivf::{Clustering, calibrate::Subject},
};
use akidb_index::{
    BLOCK_ROWS, Executor, PAD,
    lists::{Lists, Places},
    rabitq::{Bits, FACTORS_LEN, Factors, block_len},
};
use std::{borrow::Cow, sync::Arc};

/// In which cells the rows of a segment lie that is about to be written.
#[derive(Clone, Debug)]
pub(crate) struct CellPlan {
    pub(crate) clustering: Arc<Clustering>,
    pub(crate) places: Places,
}

/// What a writer needs to look at rows again that have passed.
pub(crate) struct Look<'a, V> {
    /// Threads for it.
    pub(crate) executor: &'a dyn Executor,
    /// The vector of the row that was written as that number.
    pub(crate) vector: V,
}

/// About the bytes that codes of so many rows in so many cells take, with what is said of the cells:
/// no less, but for the checksums.
pub(crate) fn cell_blocks_len(rows: u64, cells: u64, dim: u32) -> u64 {
    let padded = (dim as usize).next_multiple_of(PAD);
    // The last block of each cell may hold one row.
    // A training may make a few more than it was asked for.
    let cells = cells + cells.isqrt();
    let blocks = (rows / BLOCK_ROWS as u64 + cells) * block_len(padded) as u64;
    let fine = rows * (padded + FACTORS_LEN) as u64;
    // A centroid, its radius, where it begins; then the origin, and headers.
    let codebook = cells * (4 * u64::from(dim) + 8) + 4 * u64::from(dim) + 256;
    blocks + fine + codebook
}

/// The codes of one row, or the memory for them.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct RowCodes {
    pub(crate) one: Vec<u8>,
    pub(crate) one_factors: Factors,
    pub(crate) fine: Vec<u8>,
    pub(crate) fine_factors: Factors,
}

impl RowCodes {
    /// Memory for codes of `padded` components.
    pub(crate) fn new(padded: usize) -> Self {
        Self {
            one: vec![0; Bits::One.code_len(padded)],
            one_factors: Factors::default(),
            fine: vec![0; Bits::Eight.code_len(padded)],
            fine_factors: Factors::default(),
        }
    }
}

/// The blocks of cells, being written.
#[derive(Debug)]
pub(super) struct CodesWriter {
    plan: CellPlan,
    /// Until it is joined with the rest of the file.
    fine: Option<FileSink>,
    fine_at: u64,
    rows: u64,
    blocks: Vec<u8>,
    factors: Vec<f32>,
}

impl CodesWriter {
    /// For the file that `sink` has begun.
    pub(super) fn new(sink: &FileSink, params: SegmentParams, plan: CellPlan) -> Result<Self> {
        // Vectors begin at their alignment behind the header, and there are as many as planned.
        let vectors = u64::from(plan.places.row_count()) * u64::from(params.dim) * 4;
        let fine_at = (ALIGN_VECTORS + vectors).next_multiple_of(ALIGN);
        let mut fine = sink.beside(fine_at);
        fine.begin(BlockKind::FineCodes)?;
        let (blocks, factors) = (Vec::new(), Vec::new());
        Ok(Self { plan, fine: Some(fine), fine_at, rows: 0, blocks, factors })
    }

    fn padded(&self) -> usize {
        self.plan.clustering.codec().padded()
    }

    /// Takes the codes of the next rows.
    pub(super) fn append(&mut self, run: &Run) -> Result<()> {
        let rows = run.len();
        if run.fine.len() != rows * self.padded() || run.factors.len() != 3 * rows {
            return Err(Error::bug("a segment with cells was given rows without codes"));
        }
        self.rows += rows as u64;
        if self.rows > u64::from(self.plan.places.row_count()) {
            return Err(Error::bug("a segment was given more rows than its cells have"));
        }
        let fine = self.fine.as_mut();
        fine.ok_or_else(|| Error::bug("codes came after the last row"))?.append(&run.fine)?;
        self.factors.extend_from_slice(&run.factors);
        self.blocks.extend_from_slice(&run.blocks);
        Ok(())
    }

    /// Ends the fine codes, which `sink` has reached, and goes on behind them.
    pub(super) fn write_fine(&mut self, sink: &mut FileSink) -> Result<BlockEntry> {
        if self.rows != u64::from(self.plan.places.row_count()) {
            return Err(Error::bug("a segment was given fewer rows than its cells have"));
        }
        sink.align(ALIGN)?;
        if sink.position() != self.fine_at {
            return Err(Error::bug("a segment's vectors do not end where they should"));
        }
        let fine = self.fine.take();
        let mut fine = fine.ok_or_else(|| Error::bug("fine codes were ended twice"))?;
        let entry = fine.end(self.rows);
        sink.join(&fine)?;
        Ok(entry)
    }

    /// Measures how many cells a recall takes, and writes all blocks but the fine codes.
    pub(super) fn write_blocks<'v>(
        &self,
        sink: &mut FileSink,
        params: SegmentParams,
        look: &Look<'_, impl Fn(u32) -> Result<Cow<'v, [f32]>> + Sync>,
        inv_norms: &[f32],
    ) -> Result<Vec<BlockEntry>> {
        let CellPlan { clustering, places } = &self.plan;
        let lists = Lists::new(places, &self.blocks, self.padded())
            .map_err(|_| Error::bug("the codes of a segment are not those of its cells"))?;
        let subject = Subject {
            clustering,
            metric: params.metric,
            places,
            lists,
            inv_norms,
            vector: &look.vector,
        };
        let calibration = subject.calibrate(look.executor)?.encode();
        let starts: &[u8] = bytemuck::cast_slice(places.starts());
        let parts: [(BlockKind, u64, &[u8]); 5] = [
            (BlockKind::Codebook, u64::from(clustering.cells()), clustering.bytes()),
            (BlockKind::Cells, places.starts().len() as u64, starts),
            (BlockKind::Codes, self.rows, &self.blocks),
            (BlockKind::FineFactors, self.rows, bytemuck::cast_slice(&self.factors)),
            (BlockKind::Calibration, 1, &calibration),
        ];
        let mut entries = Vec::with_capacity(parts.len());
        for (kind, items, bytes) in parts {
            sink.begin(kind)?;
            sink.append(bytes)?;
            entries.push(sink.end(items));
        }
        Ok(entries)
    }
}
