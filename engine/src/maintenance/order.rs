//! In which order the rows of a new segment lie: by cell, under the collection's clustering or, when
//! the rows have outgrown it, under a new one. Called by flush and compaction, before they write.
//!
//! # Invariants
//! - Memory is bounded by the rows' numbers, 8 bytes each, one sample of [`SAMPLE_BYTES`], and
//!   [`TASK_ROWS`] vectors for each thread.
//! - Threads change nothing but the time.
//! - Rows whose cell is known under the same clustering are not assigned again.

use super::{build::SegmentSite, rows::Rows};
use crate::{
    error::{Error, Result},
    ivf::{Clustering, Clusterings, cells_for},
    schema::{Metric, Schema},
    segment::CellPlan,
};
use akidb_index::{
    Executor,
    codebook::{Drift, STALE_SPREAD},
    lists::CellOrder,
    map,
};
use parking_lot::Mutex;
use std::sync::Arc;

/// Rows of the sample per cell to train.
const SAMPLE_PER_CELL: u64 = akidb_index::codebook::SAMPLE_PER_CELL as u64;
/// The most memory of a sample.
const SAMPLE_BYTES: u64 = 192 << 20;
/// Rows that tell whether a clustering still fits: their mean is known within a few hundredths.
const DRIFT_ROWS: u64 = 1_024;
/// Rows that are gathered, or assigned, by one task.
const TASK_ROWS: usize = 1_024;

/// Whether a clustering that rows have drifted away from may be given up for a new one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Renew {
    /// At a flush: the merge that follows would code the rows again.
    Never,
    /// At a merge, which reads all rows anyhow: beyond [`STALE_SPREAD`].
    IfStale,
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
    renew: Renew,
) -> Result<Option<Ordered>> {
    if u64::from(rows.count()) < site.index_rows_min.max(1) {
        return Ok(None);
    }
    let executor = &site.threads;
    let clustering = clustering(executor, rows, known, schema, renew)?;
    let cells = assign(executor, rows, &clustering, schema.metric)?;
    let CellOrder { rows, places } = CellOrder::new(&cells, clustering.cells() as usize);
    Ok(Some(Ordered { plan: CellPlan { clustering, places }, rows }))
}

/// The clustering for so many rows: one that there is, or a new one.
fn clustering(
    executor: &dyn Executor,
    rows: &impl Rows,
    known: &Clusterings,
    schema: &Schema,
    renew: Renew,
) -> Result<Arc<Clustering>> {
    let want = cells_for(u64::from(rows.count()), schema.dim);
    if let Some(fitting) = nearest(executor, rows, known.fitting(want), schema, renew)? {
        return Ok(fitting);
    }
    let bytes = 4 * u64::from(schema.dim);
    let most = (SAMPLE_BYTES / bytes).min(want * SAMPLE_PER_CELL).max(1);
    let sample = sample(executor, rows, most, schema)?;
    let new = Clustering::train(executor, schema.metric, schema.dim, &sample, want as usize);
    Ok(known.insert(new))
}

/// Of clusterings that suit the number of rows the one whose centroids lie nearest to them. None if
/// there is none, or if its cells have drifted away from where the rows lie and may be given up.
fn nearest(
    executor: &dyn Executor,
    rows: &impl Rows,
    mut fitting: Vec<Arc<Clustering>>,
    schema: &Schema,
    renew: Renew,
) -> Result<Option<Arc<Clustering>>> {
    if fitting.is_empty() || (fitting.len() == 1 && renew == Renew::Never) {
        return Ok(fitting.pop());
    }
    let sample = sample(executor, rows, DRIFT_ROWS, schema)?;
    let measured = fitting.into_iter().map(|one| {
        let book = one.book();
        (book.drift(&book.assign_on(executor, &sample)), one)
    });
    let mean = |drift: &Drift| drift.mean_squared_distance;
    let best = measured.min_by(|(a, _), (b, _)| mean(a).total_cmp(&mean(b)));
    let kept = best.filter(|(drift, _)| renew == Renew::Never || drift.spread <= STALE_SPREAD);
    Ok(kept.map(|(_, one)| one))
}

/// At most so many of the rows, as cells see them, spread over all: these lie in the order of arrival
/// or of older cells.
fn sample(
    executor: &dyn Executor,
    rows: &impl Rows,
    most: u64,
    schema: &Schema,
) -> Result<Vec<f32>> {
    let (count, dim) = (u64::from(rows.count()), schema.dim as usize);
    let taken = most.min(count);
    let mut sample = vec![0.0; taken as usize * dim];
    // Filled side by side: most of the time goes by until memory has brought the rows.
    let parts: Vec<_> = sample.chunks_mut(TASK_ROWS * dim).map(Mutex::new).collect();
    let filled = map(executor, parts.len(), |part| {
        let first = (part * TASK_ROWS) as u64;
        let Some(part) = parts.get(part) else { return Ok(()) };
        for (at, place) in (first..).zip(part.lock().chunks_exact_mut(dim)) {
            let row = u32::try_from(at * count / taken).unwrap_or(0);
            put_placed(place, rows, row, schema.metric)?;
        }
        Ok(())
    });
    filled.into_iter().collect::<Result<()>>()?;
    drop(parts);
    Ok(sample)
}

/// Writes a vector as cells see it: under cosine, of unit length.
fn put_placed(place: &mut [f32], rows: &impl Rows, row: u32, metric: Metric) -> Result<()> {
    let scale = if metric == Metric::Cosine { rows.inv_norm(row)? } else { 1.0 };
    let vector = rows.vector(row)?;
    place.iter_mut().zip(&*vector).for_each(|(place, x)| *place = x * scale);
    Ok(())
}

/// The cell of every row.
fn assign(
    executor: &dyn Executor,
    rows: &impl Rows,
    clustering: &Clustering,
    metric: Metric,
) -> Result<Vec<u32>> {
    let (count, dim) = (rows.count() as usize, clustering.book().dim());
    let parts = map(executor, count.div_ceil(TASK_ROWS), |part| {
        let numbers = part * TASK_ROWS..count.min((part + 1) * TASK_ROWS);
        let numbers = numbers.filter_map(|number| u32::try_from(number).ok());
        let (mut cells, mut unknown) = (Vec::with_capacity(TASK_ROWS), Vec::new());
        let mut vectors = Vec::new();
        for (at, row) in numbers.enumerate() {
            let known = rows.cell(row, clustering)?;
            if known.is_none() {
                unknown.push(at);
                let start = vectors.len();
                vectors.resize(start + dim, 0.0);
                put_placed(&mut vectors[start..], rows, row, metric)?;
            }
            cells.push(known.unwrap_or(0));
        }
        for (at, found) in unknown.into_iter().zip(clustering.book().assign(&vectors)) {
            cells[at] = found.cell;
        }
        match cells.iter().all(|cell| *cell < clustering.cells()) {
            true => Ok(cells),
            false => Err(Error::bug("a row lies in a cell that is not there")),
        }
    });
    let mut cells = Vec::with_capacity(count);
    for part in parts {
        cells.extend(part?);
    }
    Ok(cells)
}
