//! How well a codebook still fits: rows that lie farther from their centroids than those of the
//! training, and cells that have outgrown the others.
//!
//! Both cost recall at the same number of probed cells, and bounds of codes widen with the distance.
//! The thresholds are advice for whoever decides on training anew; SPFresh (Xu et al., SOSP 2023)
//! splits and reassigns cells for the same two reasons.

use super::{Assignment, Codebook};

/// A codebook whose rows lie this many times as far off as those of the training, by their squares,
/// should be trained anew.
pub const STALE_SPREAD: f64 = 1.15;
/// So should one whose largest cell has this many times the rows of the mean one.
pub const STALE_SKEW: f64 = 4.0;

/// How rows fit into the cells that they were assigned to.
///
/// ```
/// use akidb_index::codebook::Codebook;
/// let rows = [0.0, 0.2, 0.1, 9.1, 9.0, 9.2];
/// let book = Codebook::train(&rows, 1, 2, 42);
/// assert!((book.drift(&book.assign(&rows)).spread - 1.0).abs() < 1e-3);
///
/// let moved = rows.map(|x| x + 3.0);
/// let drift = book.drift(&book.assign(&moved));
/// assert!(drift.spread > 100.0 && drift.is_stale());
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Drift {
    /// The mean squared distance of the rows to their centroids.
    pub mean_squared_distance: f64,
    /// That, over what it would be if the rows of each cell lay as far off as those of the training
    /// did. 1 where the radii are not known.
    pub spread: f64,
    /// Rows of the largest cell over rows of the mean one; at least 1.
    pub skew: f64,
    /// The Gini coefficient of the sizes of the cells: 0 if all are alike, towards 1 if a few have
    /// all rows.
    pub gini: f64,
}

impl Drift {
    /// True if the codebook should be trained anew: see [`STALE_SPREAD`] and [`STALE_SKEW`].
    /// Of a few rows the skew is chance: see [`Codebook::drift`].
    pub fn is_stale(&self) -> bool {
        self.spread > STALE_SPREAD || self.skew > STALE_SKEW
    }
}

impl Codebook {
    /// Measures how rows fit that this codebook assigned. Rows of a few thousand per hundred cells
    /// tell enough; of fewer the sizes of cells are mostly chance.
    ///
    /// # Panics
    /// If a row is assigned to no cell of this codebook, which is a bug of the caller.
    pub fn drift(&self, assigned: &[Assignment]) -> Drift {
        let mut sizes = vec![0_u64; self.cells()];
        let (mut squared, mut known, mut expected) = (0.0_f64, 0.0_f64, 0.0_f64);
        for assignment in assigned {
            let cell = assignment.cell as usize;
            let (distance, radius) = (f64::from(assignment.squared_distance), self.radii[cell]);
            sizes[cell] += 1;
            squared += distance;
            if radius > 0.0 {
                known += distance;
                expected += f64::from(radius).powi(2);
            }
        }
        let rows = assigned.len().max(1) as f64;
        let mean = rows / sizes.len() as f64;
        let largest = sizes.iter().max().copied().unwrap_or(0) as f64;
        Drift {
            mean_squared_distance: squared / rows,
            spread: if expected > 0.0 { known / expected } else { 1.0 },
            skew: (largest / mean).max(1.0),
            gini: gini(&mut sizes),
        }
    }
}

/// The Gini coefficient of sizes, which it sorts.
fn gini(sizes: &mut [u64]) -> f64 {
    sizes.sort_unstable();
    let (cells, rows) = (sizes.len() as f64, sizes.iter().sum::<u64>() as f64);
    if rows == 0.0 {
        return 0.0;
    }
    let ranked: f64 = (1_u64..).zip(&*sizes).map(|(rank, size)| rank as f64 * *size as f64).sum();
    (2.0 * ranked / (cells * rows) - (cells + 1.0) / cells).max(0.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn in_cells(cells: &[u32]) -> Vec<Assignment> {
        cells.iter().map(|cell| Assignment { cell: *cell, squared_distance: 0.5 }).collect()
    }

    fn book(cells: usize) -> Codebook {
        let centroids = (0_u16..).take(cells).map(f32::from).collect();
        Codebook::from_centroids(centroids, 1)
    }

    #[test]
    fn no_rows_are_not_stale() {
        let drift = book(3).drift(&[]);
        assert_eq!((drift.spread, drift.skew, drift.gini), (1.0, 1.0, 0.0));
        assert!(!drift.is_stale());
    }

    #[test]
    fn a_cell_with_all_rows_is_noticed() {
        let drift = book(8).drift(&in_cells(&[5; 40]));
        assert_eq!((drift.skew, drift.mean_squared_distance), (8.0, 0.5));
        assert!((drift.gini - 7.0 / 8.0).abs() < 1e-12 && drift.is_stale());
    }

    proptest! {
        #[test]
        fn measures_stay_in_their_ranges_and_do_not_mind_the_order_of_cells(
            cells in prop::collection::vec(0_u32..9, 0..200),
        ) {
            let drift = book(9).drift(&in_cells(&cells));
            prop_assert!((1.0..=9.0).contains(&drift.skew));
            prop_assert!((0.0..1.0).contains(&drift.gini));
            let mirrored: Vec<u32> = cells.iter().map(|cell| 8 - cell).collect();
            prop_assert_eq!(book(9).drift(&in_cells(&mirrored)), drift);
        }

        /// Twice as many rows everywhere change nothing, and rows of one size everywhere are even.
        #[test]
        fn only_shares_count(cells in prop::collection::vec(0_u32..9, 1..100)) {
            let once = book(9).drift(&in_cells(&cells));
            let twice = book(9).drift(&in_cells(&[&*cells, &*cells].concat()));
            prop_assert!((once.gini - twice.gini).abs() < 1e-12);
            prop_assert!((once.skew - twice.skew).abs() < 1e-12);
            let even: Vec<u32> = (0..9).collect();
            prop_assert_eq!(book(9).drift(&in_cells(&even)).skew, 1.0);
        }
    }
}
