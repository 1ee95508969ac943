//! Lloyd's k-means: rows to the nearest centroid, centroids to the mean of their rows, again.

use super::{ITERATIONS, Panels};
use crate::rotation::SplitMix64;

/// What a centroid is stretched by when it is doubled: enough to tell the two apart.
const STRETCH: f32 = 1.0 / 1024.0;

/// What a training gives.
#[derive(Clone, Debug, Default)]
pub(super) struct Cells {
    pub(super) centroids: Vec<f32>,
    /// The root mean squared distance of the rows of each.
    pub(super) radii: Vec<f32>,
}

/// At most `cells` cells of the rows; as many as there are rows if those are fewer, and one, at
/// zero, if there is none.
pub(super) fn train(rows: &[f32], dim: usize, cells: usize, random: &mut SplitMix64) -> Cells {
    if rows.is_empty() {
        return Cells { centroids: vec![0.0; dim], radii: vec![0.0] };
    }
    let cells = cells.min(rows.len() / dim).max(1);
    let mut centroids = super::sample(rows, dim, cells, random);
    for _ in 0..ITERATIONS {
        let mut counts = move_to_means(&mut centroids, rows, dim);
        fill_empty(&mut centroids, dim, &mut counts);
    }
    let radii = radii(&centroids, rows, dim);
    Cells { centroids, radii }
}

/// Moves each centroid to the mean of its rows, of which it returns the number.
fn move_to_means(centroids: &mut [f32], rows: &[f32], dim: usize) -> Vec<usize> {
    let nearest = Panels::new(centroids, dim).nearest(rows);
    let mut sums = vec![0.0_f64; centroids.len()];
    let mut counts = vec![0_usize; centroids.len() / dim];
    for (row, nearest) in rows.chunks_exact(dim).zip(&nearest) {
        let cell = nearest.cell as usize;
        counts[cell] += 1;
        let sum = &mut sums[cell * dim..][..dim];
        sum.iter_mut().zip(row).for_each(|(sum, x)| *sum += f64::from(*x));
    }
    let means = centroids.chunks_exact_mut(dim).zip(sums.chunks_exact(dim)).zip(&counts);
    for ((centroid, sum), count) in means.filter(|(_, count)| **count > 0) {
        for (x, sum) in centroid.iter_mut().zip(sum) {
            *x = (sum / *count as f64) as f32;
        }
    }
    counts
}

/// The root mean squared distance of the rows of each cell.
fn radii(centroids: &[f32], rows: &[f32], dim: usize) -> Vec<f32> {
    let nearest = Panels::new(centroids, dim).nearest(rows);
    let mut sums = vec![(0.0_f64, 0_usize); centroids.len() / dim];
    for (row, nearest) in rows.chunks_exact(dim).zip(&nearest) {
        let (sum, count) = &mut sums[nearest.cell as usize];
        *sum += f64::from(super::squared_distance(row, *nearest));
        *count += 1;
    }
    // At most the largest number: the square of a finite row need not be finite.
    let radius = |(sum, count): &(f64, usize)| (sum / (*count).max(1) as f64).sqrt() as f32;
    sums.iter().map(|sum| radius(sum).min(f32::MAX)).collect()
}

/// Gives each empty cell half of the fullest one: both centroids move a little apart from where
/// that one was, and the next assignment divides its rows.
fn fill_empty(centroids: &mut [f32], dim: usize, counts: &mut [usize]) {
    for empty in 0..counts.len() {
        let fullest = (0..counts.len()).max_by_key(|cell| counts[*cell]).unwrap_or(0);
        if counts[empty] > 0 || counts[fullest] < 2 {
            continue;
        }
        for d in 0..dim {
            let x = centroids[fullest * dim + d];
            let apart = if d % 2 == 0 { STRETCH * x } else { -STRETCH * x };
            // Beyond the largest number there is none.
            centroids[empty * dim + d] = (x + apart).clamp(f32::MIN, f32::MAX);
            centroids[fullest * dim + d] = (x - apart).clamp(f32::MIN, f32::MAX);
        }
        counts[empty] = counts[fullest] / 2;
        counts[fullest] -= counts[empty];
    }
}
