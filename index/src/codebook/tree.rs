//! Training as a tree: a few wide cells first, each of which is then cut by itself.
//!
//! One flat training costs the rows times the cells; this costs the rows times twice their root. The
//! wide cells need not fit well, so that a part of the sample decides them; every row of the sample
//! then takes part in the cut of its wide cell. Cells of one wide cell have neighbouring numbers.

use super::{
    kmeans::{self, Cells},
    panels::Panels,
    sample::gather,
};
use crate::{
    executor::{Executor, Serial, map},
    rotation::SplitMix64,
};

/// Up to this many cells are trained at once; more are trained as a tree.
const FLAT_MAX: usize = 32;
/// Rows per wide cell that decide where the wide cells lie.
const WIDE_SAMPLE: usize = 256;
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
    all
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
