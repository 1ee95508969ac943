//! The nearest of many cells for many rows: rounded components choose a few, exact ones decide.
//!
//! Comparing a row with a thousand centroids in f32 costs ten times what coding it does. So rows and
//! centroids are rounded relative to the origin (see `kernels::rounded`), and of each place in the
//! panels, 32 in all, the best cell is kept. Those whose score lies within what rounding may have
//! changed of the best one are then compared exactly.
//!
//! A row whose nearest cell shares its place in the panels with another that rounding put before it
//! gets a cell that is as near but for the rounding. That happens to a few rows in a thousand, on
//! every machine to the same ones.

use super::panels::squared_distance;
use crate::kernels::{
    Kernels,
    portable::{Nearest, PANEL, ROUNDER},
    rounded::{LaneBest, QUAD, RAISED, ROWS, Rounded},
};

/// With fewer cells all are compared exactly.
pub(super) const CELLS_MIN: usize = 128;
/// Components of a row are rounded to as much in either direction.
const ROW_MAX: f32 = 63.0;
/// Those of a centroid.
const CENTROID_MAX: f32 = 127.0;
/// Rows that are rounded at once.
const BATCH: usize = 256;
/// How far below the best score another may be that is better in truth: four standard deviations of
/// the difference of two, each of which is off by a twelfth of a square of the steps per component.
const WINDOW: f32 = 1.633;

/// The centroids of a codebook, rounded.
#[derive(Clone, Debug)]
pub(super) struct RoundedCells {
    dim: usize,
    /// `dim` in whole quads.
    padded: usize,
    origin: Vec<f32>,
    panels: Vec<i8>,
    zeros: Vec<i32>,
    scales: Vec<f32>,
    offsets: Vec<f32>,
    /// Half of the squared length of each centroid, as it lies.
    halves: Vec<f32>,
    /// The longest centroid relative to the origin, and the widest step.
    longest: f32,
    widest: f32,
}

/// A vector relative to the origin, rounded.
struct Whole {
    step: f32,
    squared: f32,
}

/// Rounds `vector - origin` to whole numbers of at most `max`. `None` if that leaves f32.
fn round(
    vector: &[f32],
    origin: &[f32],
    max: f32,
    mut put: impl FnMut(usize, i8),
) -> Option<Whole> {
    let apart = || vector.iter().zip(origin).map(|(x, origin)| x - origin);
    let (mut largest, mut squared) = (0.0_f32, 0.0_f32);
    for x in apart() {
        largest = largest.max(x.abs());
        squared += x * x;
    }
    let (step, inverse) = (largest / max, max / largest);
    if largest == 0.0 {
        (0..vector.len()).for_each(|at| put(at, 0));
        return Some(Whole { step: 0.0, squared });
    }
    if !squared.is_finite() || !inverse.is_finite() || step == 0.0 {
        return None;
    }
    for (at, x) in apart().enumerate() {
        put(at, (x * inverse + ROUNDER).to_bits() as u8 as i8);
    }
    Some(Whole { step, squared })
}

impl RoundedCells {
    /// Rounds finite centroids; `None` if they are few, or leave f32 relative to the origin.
    pub(super) fn new(centroids: &[f32], origin: &[f32]) -> Option<Self> {
        let (dim, kernels) = (origin.len(), Kernels::best());
        let cells = centroids.len() / dim;
        if cells < CELLS_MIN {
            return None;
        }
        let (padded, places) = (dim.next_multiple_of(QUAD), cells.next_multiple_of(PANEL));
        let mut rounded = Self {
            dim,
            padded,
            origin: origin.to_vec(),
            panels: vec![0; padded * places],
            zeros: vec![0; places],
            scales: vec![0.0; places],
            // Cells that are not there lose against every other.
            offsets: vec![f32::NEG_INFINITY; places],
            halves: Vec::with_capacity(cells),
            longest: 0.0,
            widest: 0.0,
        };
        for (cell, centroid) in centroids.chunks_exact(dim).enumerate() {
            let panel = &mut rounded.panels[cell / PANEL * PANEL * padded..];
            let mut sum = 0;
            let whole = round(centroid, origin, CENTROID_MAX, |at, x| {
                panel[(at / QUAD * PANEL + cell % PANEL) * QUAD + at % QUAD] = x;
                sum += i32::from(x);
            })?;
            rounded.zeros[cell] = -RAISED * sum;
            rounded.scales[cell] = whole.step;
            rounded.offsets[cell] = -0.5 * whole.squared;
            rounded.halves.push(0.5 * kernels.dot(centroid, centroid));
            rounded.longest = rounded.longest.max(whole.squared.sqrt());
            rounded.widest = rounded.widest.max(whole.step);
        }
        Some(rounded)
    }

    /// The nearest cell of each row, and the squared distance to it. `exact` finds that of a row
    /// which cannot be rounded.
    pub(super) fn nearest(
        &self,
        centroids: &[f32],
        rows: &[f32],
        exact: impl Fn(&[f32]) -> Nearest,
    ) -> Vec<(Nearest, f32)> {
        let mut found = Vec::with_capacity(rows.len() / self.dim);
        for rows in rows.chunks(BATCH * self.dim) {
            let (best, windows) = self.candidates(rows);
            for ((row, best), window) in rows.chunks_exact(self.dim).zip(&best).zip(windows) {
                let nearest = window.map(|window| self.decide(centroids, row, best, window));
                let nearest = nearest.unwrap_or_else(|| exact(row));
                found.push((nearest, squared_distance(row, nearest)));
            }
        }
        found
    }

    /// The best cells of each row by rounded components, and what rounding may have changed.
    fn candidates(&self, rows: &[f32]) -> (Vec<LaneBest>, Vec<Option<f32>>) {
        let count = rows.len() / self.dim;
        let padded = count.next_multiple_of(ROWS);
        let mut whole = vec![RAISED as u8; padded * self.padded];
        let (mut steps, mut windows) = (Vec::with_capacity(padded), Vec::with_capacity(count));
        for (row, whole) in rows.chunks_exact(self.dim).zip(whole.chunks_exact_mut(self.padded)) {
            let rounded = round(row, &self.origin, ROW_MAX, |at, x| {
                whole[at] = (x as u8).wrapping_add(RAISED as u8);
            });
            steps.push(rounded.as_ref().map_or(0.0, |rounded| rounded.step));
            windows.push(rounded.map(|rounded| {
                let row = (rounded.step * self.longest).powi(2);
                let centroid = self.widest * self.widest * rounded.squared;
                WINDOW * (row + centroid).sqrt()
            }));
        }
        steps.resize(padded, 0.0);
        let mut best = vec![LaneBest::NONE; padded];
        let Self { panels, zeros, scales, offsets, .. } = self;
        Kernels::best().lane_best(
            &whole,
            &steps,
            &Rounded { panels, zeros, scales, offsets },
            &mut best,
        );
        (best, windows)
    }

    /// The nearest of the cells that rounding left open; the first of equal ones.
    fn decide(&self, centroids: &[f32], row: &[f32], best: &LaneBest, window: f32) -> Nearest {
        let highest = best.scores.iter().fold(f32::NEG_INFINITY, |m, score| m.max(*score));
        let mut nearest = Nearest { score: f32::NEG_INFINITY, cell: 0 };
        for (score, cell) in best.scores.iter().zip(&best.cells) {
            if *score < highest - window {
                continue;
            }
            let centroid = centroids.get(*cell as usize * self.dim..).unwrap_or_default();
            let Some(half) = self.halves.get(*cell as usize) else { continue };
            let score = Kernels::best().dot(row, &centroid[..self.dim]) - half;
            if score > nearest.score || (score == nearest.score && *cell < nearest.cell) {
                nearest = Nearest { score, cell: *cell };
            }
        }
        nearest
    }
}
