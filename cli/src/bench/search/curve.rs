//! The curve of recall against queries per second: which points it has, and where it first reaches
//! the recalls that are compared everywhere.

use super::{
    effort::Effort,
    measure::{self, Case, Point, Rounds, Task},
};
use crate::error::Result;
use serde::Serialize;

/// Recalls that figures are given at.
const MARKS: [f64; 4] = [0.90, 0.95, 0.98, 0.99];
/// Each number of cells is this much larger than the one before, but at least by one.
const GROWTH: f64 = 1.4;
/// Nothing has more cells.
const NPROBE_MAX: usize = 65_536;
/// After this many steps without a change the curve has ended: all cells were probed.
const FLAT: usize = 2;

/// Where the curve first reaches a recall.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Mark {
    pub(super) mark: f64,
    pub(super) threads: usize,
    /// `None` if no point reached it.
    pub(super) nprobe: Option<usize>,
    pub(super) recall: Option<f64>,
    pub(super) qps: Option<f64>,
    pub(super) p50_us: Option<f64>,
    pub(super) p95_us: Option<f64>,
    pub(super) p99_us: Option<f64>,
}

/// What the user asks of a curve.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wanted<'a> {
    /// Empty: chosen here.
    pub(super) nprobe: &'a [usize],
    pub(super) recall_target: &'a [f64],
    pub(super) threads: &'a [usize],
    pub(super) rounds: Rounds,
}

/// Measures the curve: numbers of cells, recall targets, and the exact search, for each number of
/// threads.
pub(super) fn curve(task: Task<'_>, wanted: &Wanted<'_>) -> Result<Vec<Point>> {
    let probes = match wanted.nprobe {
        [] => probes(task)?,
        given => given.to_vec(),
    };
    let efforts = probes
        .into_iter()
        .map(Effort::Nprobe)
        .chain(wanted.recall_target.iter().map(|target| Effort::RecallTarget(*target as f32)))
        .chain([Effort::Exact]);
    let efforts: Vec<_> = efforts.collect();
    let with = |threads: &usize| {
        let threads = *threads;
        efforts.iter().map(move |effort| Case { task, effort: *effort, threads })
    };
    let cases: Vec<_> = wanted.threads.iter().flat_map(with).collect();
    measure::in_rounds(&cases, wanted.rounds)
}

/// Numbers of cells, growing until more find nothing more, and the least that reaches each mark.
fn probes(task: Task<'_>) -> Result<Vec<usize>> {
    let recall = |nprobe| {
        let case = Case { task, effort: Effort::Nprobe(nprobe), threads: 1 };
        measure::recall(&case)
    };
    let mut grid: Vec<(usize, f64)> = Vec::new();
    let (mut next, mut flat) = (1, 0);
    while flat < FLAT && next <= NPROBE_MAX {
        let found = recall(next)?;
        let same = grid.last().is_some_and(|(_, before)| *before >= found);
        flat = if same { flat + 1 } else { 0 };
        grid.push((next, found));
        next = ((next as f64 * GROWTH) as usize).max(next + 1);
    }
    // The last ones were there to see that nothing changes any more.
    grid.truncate(grid.len() - flat);
    let mut probes: Vec<usize> = grid.iter().map(|(nprobe, _)| *nprobe).collect();
    for mark in MARKS {
        if let Some(least) = least(&grid, mark, recall)? {
            probes.push(least);
        }
    }
    probes.sort_unstable();
    probes.dedup();
    Ok(probes)
}

/// The least number of cells that reaches a recall, by halving between two points of the grid; `None`
/// if the grid never does.
fn least(
    grid: &[(usize, f64)],
    mark: f64,
    recall: impl Fn(usize) -> Result<f64>,
) -> Result<Option<usize>> {
    let Some(at) = grid.iter().position(|(_, found)| *found >= mark) else {
        return Ok(None);
    };
    let bound = |at: Option<usize>| at.and_then(|at| grid.get(at)).map_or(0, |(nprobe, _)| *nprobe);
    let (mut below, mut reached) = (bound(at.checked_sub(1)), bound(Some(at)));
    while reached - below > 1 {
        let middle = below + (reached - below) / 2;
        if recall(middle)? >= mark { reached = middle } else { below = middle }
    }
    Ok(Some(reached))
}

/// Where the curve of so many threads first reaches each mark.
pub(super) fn marks(points: &[Point], threads: &[usize]) -> Vec<Mark> {
    let of = |threads: usize, mark: f64| {
        let probing = points.iter().filter(|point| point.params.nprobe.is_some());
        let first = probing
            .filter(|point| point.params.threads == threads && point.recall >= mark)
            .min_by_key(|point| point.params.nprobe);
        Mark {
            mark,
            threads,
            nprobe: first.and_then(|point| point.params.nprobe),
            recall: first.map(|point| point.recall),
            qps: first.map(|point| point.qps),
            p50_us: first.map(|point| point.latency.p50_us),
            p95_us: first.map(|point| point.latency.p95_us),
            p99_us: first.map(|point| point.latency.p99_us),
        }
    };
    threads.iter().flat_map(|threads| MARKS.map(|mark| of(*threads, mark))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_least_number_of_cells_is_found_between_two_points() {
        let recall = |nprobe: usize| Ok(nprobe as f64 / 100.0);
        let grid = [(10, 0.10), (80, 0.80), (100, 1.0)];
        assert_eq!(least(&grid, 0.93, recall).unwrap(), Some(93));
        assert_eq!(least(&grid, 0.05, recall).unwrap(), Some(5));
        assert_eq!(least(&grid[..2], 0.93, recall).unwrap(), None);
    }
}
