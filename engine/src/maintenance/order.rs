//! In which order the rows of a new segment lie: by cell, under the collection's clustering or, when
//! the rows have outgrown it, under a new one. Called by flush and compaction, before they write.
//!
//! # Invariants
//! - Memory is bounded by the rows' numbers, 8 bytes each, one sample of [`SAMPLE_BYTES`], and
//!   [`RUN_BYTES`] of vectors.
//! - Threads change nothing but the time.
//! - Rows whose cell is known under the same clustering are not assigned again.

use super::build::SegmentSite;
use crate::{
    error::{Error, Result},
    ivf::{Clustering, Clusterings, cells_for},
    schema::{Metric, Schema},
    segment::CellPlan,
};
use akidb_index::{Executor, inv_norm};
use std::{borrow::Cow, sync::Arc};

/// Rows of the sample per cell to train.
const SAMPLE_PER_CELL: u64 = akidb_index::codebook::SAMPLE_PER_CELL as u64;
/// The most memory of a sample.
const SAMPLE_BYTES: u64 = 192 << 20;
/// Vectors that are assigned at once, in bytes.
const RUN_BYTES: usize = 16 << 20;

/// The rows of a segment to come, by the number that its maker gives each.
pub(crate) trait Rows {
    /// How many there are.
    fn count(&self) -> u32;

    /// The vector of one.
    fn vector(&self, row: u32) -> Result<Cow<'_, [f32]>>;

    /// The cell of one under a clustering, if that is known.
    fn cell(&self, row: u32, clustering: &Clustering) -> Result<Option<u32>>;
}

/// Rows in the order of their cells.
#[derive(Debug)]
pub(crate) struct Ordered {
    pub(crate) plan: CellPlan,
    /// Their numbers, in the order in which they are written.
    pub(crate) rows: Vec<u32>,
}

/// Orders rows by cell; `None` if they are so few that a search is as fast without.
pub(crate) fn order(
    rows: &impl Rows,
    site: SegmentSite<'_>,
    known: &Clusterings,
    schema: &Schema,
) -> Result<Option<Ordered>> {
    if u64::from(rows.count()) < site.index_rows_min.max(1) {
        return Ok(None);
    }
    let executor = &site.threads;
    let clustering = clustering(executor, rows, known, schema)?;
    let cells = assign(executor, rows, &clustering, schema.metric)?;
    let mut starts = vec![0_u32; clustering.cells() as usize + 1];
    for cell in &cells {
        starts[*cell as usize + 1] += 1;
    }
    for cell in 1..starts.len() {
        starts[cell] += starts[cell - 1];
    }
    let mut next = starts.clone();
    let mut order = vec![0; cells.len()];
    for (row, cell) in (0_u32..).zip(&cells) {
        let place = &mut next[*cell as usize];
        order[*place as usize] = row;
        *place += 1;
    }
    Ok(Some(Ordered { plan: CellPlan { clustering, starts }, rows: order }))
}

/// The clustering for so many rows: the one there is, or a new one.
fn clustering(
    executor: &dyn Executor,
    rows: &impl Rows,
    known: &Clusterings,
    schema: &Schema,
) -> Result<Arc<Clustering>> {
    let want = cells_for(u64::from(rows.count()), schema.dim);
    if let Some(fitting) = known.fitting(want) {
        return Ok(fitting);
    }
    let bytes = 4 * u64::from(schema.dim);
    let most = (SAMPLE_BYTES / bytes).min(want * SAMPLE_PER_CELL).max(1);
    let count = u64::from(rows.count());
    let taken = most.min(count);
    let mut sample = Vec::with_capacity((taken * u64::from(schema.dim)) as usize);
    for at in 0..taken {
        // Spread over all rows, which lie in the order of arrival or of older cells.
        let row = u32::try_from(at * count / taken).unwrap_or(0);
        push_placed(&mut sample, &rows.vector(row)?, schema.metric);
    }
    let new = Clustering::train(executor, schema.metric, schema.dim, &sample, want as usize);
    Ok(known.insert(new))
}

/// Appends a vector as cells see it: under cosine, of unit length.
fn push_placed(out: &mut Vec<f32>, vector: &[f32], metric: Metric) {
    let scale = if metric == Metric::Cosine { inv_norm(vector) } else { 1.0 };
    out.extend(vector.iter().map(|x| x * scale));
}

/// The cell of every row.
fn assign(
    executor: &dyn Executor,
    rows: &impl Rows,
    clustering: &Clustering,
    metric: Metric,
) -> Result<Vec<u32>> {
    let mut cells = vec![0; rows.count() as usize];
    let (mut run, mut places) = (Vec::new(), Vec::new());
    let mut settle = |run: &mut Vec<f32>, places: &mut Vec<u32>| -> Result<()> {
        for (place, found) in places.drain(..).zip(clustering.book().assign_on(executor, run)) {
            let cell = cells.get_mut(place as usize);
            *cell.ok_or_else(|| Error::bug("a row that is not there was assigned"))? = found.cell;
        }
        run.clear();
        Ok(())
    };
    let mut found = Vec::new();
    for row in 0..rows.count() {
        match rows.cell(row, clustering)? {
            Some(cell) if cell < clustering.cells() => found.push((row, cell)),
            Some(_) => return Err(Error::bug("a row lies in a cell that is not there")),
            None => {
                push_placed(&mut run, &rows.vector(row)?, metric);
                places.push(row);
            }
        }
        if size_of_val(&*run) >= RUN_BYTES {
            settle(&mut run, &mut places)?;
        }
    }
    settle(&mut run, &mut places)?;
    for (row, cell) in found {
        cells[row as usize] = cell;
    }
    Ok(cells)
}
