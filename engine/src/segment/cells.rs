//! Reading what belongs to cells: where they begin, and the codes of their rows, where they lie.
//!
//! The small blocks are read and checked once ([`CellTable`]); codes are handed out cell by cell, as
//! bytes whose extents were compared with their checksums. Lengths are checked against the cells
//! before anything is read; what codes and factors say cannot do harm.

#![deny(clippy::indexing_slicing)]

use super::{
    Segment,
    open::CellBlocks,
    source::{Bytes, Source},
};
use crate::{
    Error, Metric, Result,
    ivf::{Calibration, Clustering, Clusterings},
};
use akidb_index::{
    Layout,
    codebook::{Assignment, Drift},
    inv_norm,
    kernel::l2_squared,
    lists::Places,
    rabitq::{self, Bits, Blocks, FACTORS_LEN, block_len},
};
use std::{
    ops::Range,
    sync::{Arc, OnceLock},
};

/// Rows that tell how rows fit their cells.
const DRIFT_ROWS: u64 = 256;

/// The cells of a segment.
#[derive(Debug)]
pub(crate) struct CellTable {
    clustering: Arc<Clustering>,
    calibration: Calibration,
    places: Places,
    /// How the rows fit the cells, once somebody asked.
    drift: OnceLock<Drift>,
}

impl CellTable {
    pub(crate) fn clustering(&self) -> &Arc<Clustering> {
        &self.clustering
    }

    pub(crate) fn calibration(&self) -> &Calibration {
        &self.calibration
    }

    /// Rows in all cells.
    pub(crate) fn row_count(&self) -> u64 {
        u64::from(self.places.row_count())
    }

    /// The rows of a cell; none if there is no such cell.
    pub(crate) fn rows(&self, cell: u32) -> Range<u32> {
        self.places.rows(cell)
    }

    /// The blocks of codes of a cell.
    pub(super) fn blocks(&self, cell: u32) -> Range<u64> {
        self.places.blocks(cell)
    }

    /// The cell that holds a row.
    pub(crate) fn cell_of(&self, row: u32) -> u32 {
        self.places.cell_of(row)
    }
}

/// The one-bit codes of a cell.
#[derive(Debug)]
pub(crate) struct CellCodes<'a> {
    pub(super) rows: usize,
    pub(super) padded: usize,
    pub(super) layout: Layout,
    pub(super) bytes: Bytes<'a>,
}

impl CellCodes<'_> {
    /// The blocks; row `i` is the `i`-th of the cell.
    pub(crate) fn blocks(&self) -> Result<Blocks<'_>> {
        Blocks::laid_out(self.layout, &self.bytes, self.padded, self.rows)
            .map_err(|_| Error::bug("the codes of a cell have another length than its rows"))
    }
}

/// The eight-bit codes of consecutive rows.
#[derive(Debug)]
pub(crate) struct FineCodes<'a> {
    pub(super) padded: usize,
    pub(super) codes: Bytes<'a>,
    pub(super) factors: Bytes<'a>,
}

impl FineCodes<'_> {
    /// The codes and their factors.
    pub(crate) fn view(&self) -> Result<rabitq::FineCodes<'_>> {
        rabitq::FineCodes::new(&self.codes, &self.factors, self.padded)
            .map_err(|_| Error::bug("fine codes and factors are not of one number of rows"))
    }
}

impl Segment {
    /// True if the segment has cells.
    pub(crate) fn has_cells(&self) -> bool {
        self.parts().0.cells.is_some()
    }

    /// The cells; `None` for a segment without. Read once, by the first who asks.
    ///
    /// # Errors
    /// Corruption of the blocks that hold them; a failed call.
    pub(crate) fn cells(&self, known: &Clusterings) -> Result<Option<&CellTable>> {
        let (blocks, source) = self.parts();
        let Some(cells) = &blocks.cells else { return Ok(None) };
        if let Some(table) = self.cell_table.get() {
            return Ok(Some(table));
        }
        let table = self.read_cells(cells, source, known)?;
        Ok(Some(self.cell_table.get_or_init(|| table)))
    }

    fn read_cells(
        &self,
        blocks: &CellBlocks,
        source: &Source,
        known: &Clusterings,
    ) -> Result<CellTable> {
        let bytes = blocks.codebook.all(source)?;
        let clustering = known
            .resolve(&bytes, self.metric(), self.dim())
            .map_err(|error| blocks.codebook.damage(source, 0, &error.to_string()))?;
        let bytes = blocks.cells.all(source)?;
        let starts = bytes.as_chunks().0.iter().map(|start| u32::from_le_bytes(*start)).collect();
        let places = Places::new(starts).ok().filter(|places| {
            places.row_count() == self.rows()
                && places.cells() as u64 == u64::from(clustering.cells())
        });
        let divides = || blocks.cells.damage(source, 0, "the cells do not divide the rows");
        let places = places.ok_or_else(divides)?;
        let padded = clustering.codec().padded();
        if places.block_count().checked_mul(block_len(padded) as u64) != Some(blocks.codes.len()) {
            return Err(blocks.codes.damage(source, 0, "the codes are not those of the cells"));
        }
        if u64::from(self.rows()).checked_mul(padded as u64) != Some(blocks.fine.len()) {
            return Err(blocks.fine.damage(source, 0, "the fine codes are not those of the rows"));
        }
        let bytes = blocks.calibration.all(source)?;
        let calibration = Calibration::decode(&bytes, clustering.cells()).ok_or_else(|| {
            blocks.calibration.damage(source, 0, "the calibration names cells that are not there")
        })?;
        Ok(CellTable { clustering, calibration, places, drift: OnceLock::new() })
    }

    fn cell_blocks(&self) -> Result<(&CellBlocks, &Source)> {
        let (blocks, source) = self.parts();
        let cells = blocks.cells.as_ref();
        Ok((cells.ok_or_else(|| Error::bug("a segment without cells was asked for one"))?, source))
    }

    /// The one-bit codes of a cell of the segment's table.
    pub(crate) fn cell_codes(&self, table: &CellTable, cell: u32) -> Result<CellCodes<'_>> {
        let (blocks, source) = self.cell_blocks()?;
        let padded = table.clustering.codec().padded();
        let (len, within) = (block_len(padded) as u64, table.blocks(cell));
        let bytes = blocks.codes.bytes(source, within.start * len..within.end * len)?;
        Ok(CellCodes { rows: table.rows(cell).len(), padded, layout: Layout::Groups, bytes })
    }

    /// The eight-bit codes of consecutive rows.
    pub(crate) fn fine_codes(&self, table: &CellTable, rows: Range<u32>) -> Result<FineCodes<'_>> {
        let (blocks, source) = self.cell_blocks()?;
        let padded = Bits::Eight.code_len(table.clustering.codec().padded());
        let range =
            |len: usize| u64::from(rows.start) * len as u64..u64::from(rows.end) * len as u64;
        let codes = blocks.fine.bytes(source, range(padded))?;
        let factors = blocks.factors.bytes(source, range(FACTORS_LEN))?;
        Ok(FineCodes { padded, codes, factors })
    }

    /// How the rows fit their cells, by a sample of them that is read once.
    ///
    /// # Errors
    /// Corruption of the rows that are read; a failed call.
    pub(crate) fn drift(&self, table: &CellTable) -> Result<Drift> {
        if let Some(drift) = table.drift.get() {
            return Ok(*drift);
        }
        let book = table.clustering.book();
        let taken = u64::from(self.rows()).min(DRIFT_ROWS);
        let of_row = |at: u64| {
            let row = u32::try_from(at * u64::from(self.rows()) / taken).unwrap_or(0);
            let cell = table.cell_of(row);
            let centroid = book.centroid(cell);
            let centroid = centroid.ok_or_else(|| Error::bug("a row lies in no cell"))?;
            let mut vector = self.vector(row)?.into_owned();
            if self.metric() == Metric::Cosine {
                let scale = inv_norm(&vector);
                vector.iter_mut().for_each(|x| *x *= scale);
            }
            Ok(Assignment { cell, squared_distance: l2_squared(&vector, centroid) })
        };
        let assigned = (0..taken).map(of_row).collect::<Result<Vec<_>>>()?;
        Ok(*table.drift.get_or_init(|| book.drift(&assigned)))
    }

    /// Checks the cells beyond their checksums: that they can be read, and divide the rows.
    pub(crate) fn verify_cells(&self) -> Result<()> {
        self.cells(&Clusterings::default()).map(drop)
    }

    fn metric(&self) -> Metric {
        self.params().metric
    }

    fn dim(&self) -> u32 {
        self.params().dim
    }
}
