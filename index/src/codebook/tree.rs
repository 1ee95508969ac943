//! Training as a tree: a few wide cells first, each of which is then cut by itself.
//!
//! One flat training costs the rows times the cells; this costs the rows times twice their root. The
//! wide cells need not fit well, so that a part of the sample decides them; every row of the sample
//! then takes part in the cut of its wide cell. Cells of one wide cell have neighbouring numbers.
//!
//! At last all cells are trained at once for a few rounds, because rows at the border of a wide cell
//! may be nearer to a cell of another. On 100,000 sentence embeddings two rounds save a seventh of the
//! rows that a search for a recall of 0.95 scans, and more rounds inside of wide cells save nothing.

use super::{
    kmeans::{self, Cells},
    nearest::RoundedCells,
    panels::Panels,
    sample::gather,
};
use crate::{
    executor::{Executor, Serial, map},
    lists::CellOrder,
    rotation::SplitMix64,
};

/// Up to this many cells are trained at once; more are trained as a tree.
const FLAT_MAX: usize = 32;
/// Rows per wide cell that decide where the wide cells lie.
const WIDE_SAMPLE: usize = 256;
/// Rounds over all cells at once.
const POLISH: usize = 2;
/// Cells of a task.
const TASK_CELLS: usize = 16;
/// Rows of a task.
const TASK_ROWS: usize = 2_048;

/// About `cells` cells of the rows of these numbers, which are in an order of chance.
pub(super) fn train(
    executor: &dyn Executor,
    rows: &[f32],
    dim: usize,
    numbers: &[u32],
    cells: usize,
    random: &mut SplitMix64,
) -> Cells {
    if cells <= FLAT_MAX {
        return kmeans::train(executor, &gather(rows, dim, numbers), dim, cells, random);
    }
    let count = cells.isqrt();
    let few = &numbers[..numbers.len().min(count * WIDE_SAMPLE)];
    let wide = kmeans::train(executor, &gather(rows, dim, few), dim, count, random);
    let members = members(executor, rows, dim, numbers, &wide);
    let tasks = shares(&members, cells, random);
    let narrow = map(executor, tasks.len(), |task| {
        let Task { wide, cells, seed } = tasks[task];
        let rows = gather(rows, dim, &members[wide]);
        kmeans::train(&Serial, &rows, dim, cells, &mut SplitMix64(seed))
    });
    let mut all = Cells::default();
    for narrow in narrow {
        all.centroids.extend(narrow.centroids);
        all.radii.extend(narrow.radii);
    }
    for _ in 0..POLISH {
        polish(executor, rows, dim, numbers, &mut all);
    }
    all
}

/// Moves each centroid to the mean of the rows that are nearest to it among all cells.
fn polish(executor: &dyn Executor, rows: &[f32], dim: usize, numbers: &[u32], all: &mut Cells) {
    let origin = vec![0.0; dim];
    let Some(rounded) = RoundedCells::new(&all.centroids, &origin) else { return };
    let parts: Vec<&[u32]> = numbers.chunks(TASK_ROWS).collect();
    let panels = Panels::new(&all.centroids, dim);
    let nearest = map(executor, parts.len(), |part| {
        let rows = gather(rows, dim, parts[part]);
        rounded.nearest(&all.centroids, &rows, |row| panels.nearest_of(row))
    });
    let nearest: Vec<_> = nearest.into_iter().flatten().collect();
    let cells: Vec<u32> = nearest.iter().map(|(nearest, _)| nearest.cell).collect();
    let order = CellOrder::new(&cells, all.radii.len());
    let centroids = &all.centroids;
    // Each cell sums up its rows in their order, whichever thread it is on: the sums are the same.
    let moved = map(executor, all.radii.len().div_ceil(TASK_CELLS), |task| {
        let cells = task * TASK_CELLS..centroids.len().min((task + 1) * TASK_CELLS * dim) / dim;
        cells
            .map(|cell| {
                let mut mean = Mean::new(dim);
                let places = order.places.rows(cell as u32);
                for at in &order.rows[places.start as usize..places.end as usize] {
                    let number = numbers[*at as usize] as usize;
                    mean.add(&rows[number * dim..][..dim], nearest[*at as usize].1);
                }
                let mut centroid = centroids[cell * dim..][..dim].to_vec();
                (mean.count > 0).then(|| (mean.take_place_of(&mut centroid), centroid))
            })
            .collect::<Vec<_>>()
    });
    let cells = all.centroids.chunks_exact_mut(dim).zip(&mut all.radii);
    for ((centroid, radius), moved) in cells.zip(moved.into_iter().flatten()) {
        if let Some((found, mean)) = moved {
            *radius = found;
            centroid.copy_from_slice(&mean);
        }
    }
}

/// The rows of a cell, summed up.
#[derive(Clone, Debug)]
struct Mean {
    sums: Vec<f64>,
    /// Of the squared distances to the centroid as it is.
    squared: f64,
    count: usize,
}

impl Mean {
    fn new(dim: usize) -> Self {
        Self { sums: vec![0.0; dim], squared: 0.0, count: 0 }
    }

    fn add(&mut self, row: &[f32], squared: f32) {
        self.sums.iter_mut().zip(row).for_each(|(sum, x)| *sum += f64::from(*x));
        self.squared += f64::from(squared);
        self.count += 1;
    }

    /// Moves the centroid of rows of which there are some; returns the radius of the cell then.
    fn take_place_of(&self, centroid: &mut [f32]) -> f32 {
        let count = self.count as f64;
        let mut moved = 0.0;
        for (x, sum) in centroid.iter_mut().zip(&self.sums) {
            let mean = (sum / count) as f32;
            moved += (f64::from(mean) - f64::from(*x)).powi(2);
            *x = mean;
        }
        // The mean is nearer to its rows than any other point, by the square of how far that is.
        ((self.squared / count - moved).max(0.0).sqrt() as f32).min(f32::MAX)
    }
}

/// The rows of each wide cell.
fn members(
    executor: &dyn Executor,
    rows: &[f32],
    dim: usize,
    numbers: &[u32],
    wide: &Cells,
) -> Vec<Vec<u32>> {
    let panels = Panels::new(&wide.centroids, dim);
    let parts: Vec<&[u32]> = numbers.chunks(TASK_ROWS).collect();
    let nearest =
        map(executor, parts.len(), |part| panels.nearest(&gather(rows, dim, parts[part])));
    let mut members = vec![Vec::new(); wide.radii.len()];
    for (number, nearest) in numbers.iter().zip(nearest.into_iter().flatten()) {
        members[nearest.cell as usize].push(*number);
    }
    members
}

/// The cut of one wide cell.
#[derive(Clone, Copy, Debug)]
struct Task {
    wide: usize,
    cells: usize,
    seed: u64,
}

/// Into how many cells each wide cell is cut: its share of the sample.
fn shares(members: &[Vec<u32>], cells: usize, random: &mut SplitMix64) -> Vec<Task> {
    let rows: usize = members.iter().map(Vec::len).sum();
    let (mut before, mut given) = (0, 0);
    let mut tasks = Vec::with_capacity(members.len());
    for (wide, members) in members.iter().enumerate().filter(|(_, rows)| !rows.is_empty()) {
        // Shares are cut from the whole, so that what is rounded off here is given there.
        before += members.len();
        let share = (before * cells / rows).saturating_sub(given).max(1).min(members.len());
        given += share;
        tasks.push(Task { wide, cells: share, seed: random.next_word() });
    }
    tasks
}
