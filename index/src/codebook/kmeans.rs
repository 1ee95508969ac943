//! Lloyd's k-means: rows to the nearest centroid, centroids to the mean of their rows, again.

use super::{ITERATIONS, Panels};
use crate::rotation::SplitMix64;

/// What a centroid is stretched by when it is doubled: enough to tell the two apart.
const STRETCH: f32 = 1.0 / 1024.0;

/// Centroids of at most `cells` cells of the rows; as many as there are rows if those are fewer,
/// and one, at zero, if there is none.
pub(super) fn train(rows: &[f32], dim: usize, cells: usize, random: &mut SplitMix64) -> Vec<f32> {
    if rows.is_empty() {
        return vec![0.0; dim];
    }
    let cells = cells.min(rows.len() / dim).max(1);
    let mut centroids = super::sample(rows, dim, cells, random);
    for _ in 0..ITERATIONS {
        let nearest = Panels::new(&centroids, dim).nearest(rows);
        let mut sums = vec![0.0_f64; centroids.len()];
        let mut counts = vec![0_usize; cells];
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
        fill_empty(&mut centroids, dim, &mut counts);
    }
    centroids
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
