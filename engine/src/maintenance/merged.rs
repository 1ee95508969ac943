//! The live rows of several segments as one sequence of rows, with the codes that they bring.
//!
//! Rows of a segment that shares the output's clustering keep their cell and their codes; the others
//! are assigned and coded anew. Called by compaction.

use super::rows::Rows;
use crate::{
    collection::SegmentView,
    error::{Error, Result},
    ivf::{Clustering, Clusterings},
    segment::{CellTable, RowCodes, Run, Segment},
};
use std::borrow::Cow;

/// See the module.
pub(super) struct LiveRows<'a> {
    views: &'a [SegmentView],
    tables: Vec<Option<&'a CellTable>>,
    /// Which view each row comes from, and its number there.
    places: Vec<(u32, u32)>,
}

impl<'a> LiveRows<'a> {
    pub(super) fn new(views: &'a [SegmentView], known: &Clusterings) -> Result<Self> {
        let tables = views.iter().map(|view| view.part.segment.cells(known));
        let tables = tables.collect::<Result<Vec<_>>>()?;
        let places = (0_u32..)
            .zip(views)
            .flat_map(|(at, view)| view.live().map(move |row| (at, row)))
            .collect();
        Ok(Self { views, tables, places })
    }

    fn at(&self, row: u32) -> Result<(&'a SegmentView, Option<&'a CellTable>, u32)> {
        let found = self.places.get(row as usize).and_then(|(view, row)| {
            let at = *view as usize;
            Some((self.views.get(at)?, *self.tables.get(at)?, *row))
        });
        found.ok_or_else(|| Error::bug("a merge asks for a row that is not there"))
    }

    /// Where a row lies.
    pub(super) fn place(&self, row: u32) -> Result<(&'a Segment, u32)> {
        self.at(row).map(|(view, _, row)| (&view.part.segment, row))
    }
}

impl Rows for LiveRows<'_> {
    fn count(&self) -> u32 {
        u32::try_from(self.places.len()).unwrap_or(u32::MAX)
    }

    fn vector(&self, row: u32) -> Result<Cow<'_, [f32]>> {
        let (segment, row) = self.place(row)?;
        segment.vector(row)
    }

    fn inv_norm(&self, row: u32) -> Result<f32> {
        let (segment, row) = self.place(row)?;
        let stored = segment.inv_norms(row, 1)?;
        stored.first().copied().ok_or_else(|| Error::bug("a row has no inverse length"))
    }

    fn cell(&self, row: u32, clustering: &Clustering) -> Result<Option<u32>> {
        let (_, table, row) = self.at(row)?;
        let same = table.filter(|table| table.clustering().id() == clustering.id());
        Ok(same.map(|table| table.cell_of(row)))
    }

    fn fill(&self, rows: &[u32], run: &mut Run) -> Result<()> {
        let place = |row: &u32| self.places.get(*row as usize).copied();
        let follows = |one: &u32, next: &u32| {
            place(one).map(|(view, row)| (view, row.saturating_add(1))) == place(next)
        };
        // Rows that lie side by side are copied at once.
        for rows in rows.chunk_by(follows) {
            let Some(first) = rows.first() else { continue };
            let (segment, first) = self.place(*first)?;
            let count = u32::try_from(rows.len()).map_err(|_| Error::bug("too many rows"))?;
            run.push_vectors(&segment.vectors(first, count)?, &segment.inv_norms(first, count)?);
            for row in first..first + count {
                run.push_head(&segment.id(row)?, segment.lsn(row)?, &segment.metadata_json(row)?)?;
            }
        }
        Ok(())
    }

    fn copy_codes(&self, row: u32, clustering: &Clustering, out: &mut RowCodes) -> Result<bool> {
        let (view, table, row) = self.at(row)?;
        let Some(table) = table.filter(|table| table.clustering().id() == clustering.id()) else {
            return Ok(false);
        };
        let segment = &view.part.segment;
        let cell = table.cell_of(row);
        let at = (row - table.rows(cell).start) as usize;
        let missing = || Error::bug("a row of a cell has no codes");
        let codes = segment.cell_codes(table, cell)?;
        out.one_factors = codes.blocks()?.copy_row(at, &mut out.one).ok_or_else(missing)?;
        let fine = segment.fine_codes(table, row..row + 1)?;
        let (code, factors) = fine.view()?.get(0).ok_or_else(missing)?;
        out.fine.copy_from_slice(code);
        out.fine_factors = factors;
        Ok(true)
    }
}
