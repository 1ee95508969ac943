//! Cells: where in space a collection's rows lie, from a sample of them.
//!
//! A codebook is a list of centroids. Rows are ordered by the nearest one, so that a query reads
//! the cells around it and leaves the others alone. It is trained as a tree of two levels (a few
//! wide cells, each cut by itself), because one flat training costs the square of the cells; what
//! comes out is flat again, and the cells of a wide one have neighbouring numbers.
//!
//! Under every metric a row belongs to the cell of the least *Euclidean* distance; under cosine the
//! caller gives rows of unit length.
//!
//! # Invariants
//! - The same sample, seed and number of cells give the same centroids on every machine.
//! - Time and memory of the training are bounded by the cells, not by the collection: at most
//!   [`SAMPLE_PER_CELL`] rows per cell are looked at, about a dozen times.
//! - Cells may be empty (of rows that are all alike), never not a number, as long as rows are finite.

mod bytes;
mod drift;
mod kmeans;
mod nearest;
mod panels;
mod route;
mod sample;
mod tree;

use crate::{
    Metric,
    executor::{Executor, Serial, map},
    kernels::portable::Nearest,
    rabitq::Codec,
    rotation::SplitMix64,
};
pub use bytes::{BadCodebook, DIM_MAX};
pub use drift::{Drift, STALE_SKEW, STALE_SPREAD};
use nearest::RoundedCells;
use panels::{Panels, squared_distance};
pub use route::{Ranking, Router};
use std::sync::OnceLock;

/// Rows that the training looks at, per cell.
pub const SAMPLE_PER_CELL: usize = 64;
/// Rounds of assignment and averaging on each level of the tree, before all cells are trained at once.
pub const ITERATIONS: usize = 4;
/// Rows of a task of an assignment.
const TASK_ROWS: usize = 1_024;

/// Which cell a row belongs to.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Assignment {
    /// The number of the cell.
    pub cell: u32,
    /// The squared distance of the row to its centroid; its mean tells how well cells still fit.
    pub squared_distance: f32,
}

/// The centroids of a collection, and what else its codes depend on: the seed of the rotation and
/// the origin. Two segments whose codebooks have the same [`Codebook::id`] have comparable codes and
/// the same cells, and are merged by putting the rows of each cell together.
///
/// ```
/// use akidb_index::codebook::Codebook;
/// let rows = [0.0, 0.1, 0.0, -0.1, 9.0, 9.1, 9.0, 8.9];
/// let book = Codebook::train(&rows, 2, 2, 42);
/// let cells = book.assign(&rows);
/// assert_eq!(cells[0].cell, cells[1].cell);
/// assert_ne!(cells[0].cell, cells[2].cell);
/// ```
#[derive(Clone, Debug)]
pub struct Codebook {
    dim: usize,
    centroids: Vec<f32>,
    /// The root mean squared distance of the training rows of each cell; 0 if there were none.
    radii: Vec<f32>,
    /// The mean of the sample: what codes and queries are rounded relative to.
    origin: Vec<f32>,
    seed: u64,
    trained_rows: u64,
    /// The hash of all of the above.
    id: u64,
    /// The centroids again, as the matrix product reads them: made when rows are first assigned,
    /// because most codebooks are only searched by.
    panels: OnceLock<Panels>,
    /// And rounded, where there are many.
    rounded: OnceLock<Option<RoundedCells>>,
}

impl PartialEq for Codebook {
    fn eq(&self, other: &Self) -> bool {
        (self.dim, self.id, self.seed, self.trained_rows, &self.origin, &self.centroids)
            == (
                other.dim,
                other.id,
                other.seed,
                other.trained_rows,
                &other.origin,
                &other.centroids,
            )
    }
}

impl Codebook {
    /// Trains about `cells` cells on finite rows of `dim` components, which lie one behind the other. Of
    /// more than [`SAMPLE_PER_CELL`] rows per cell a sample is taken. There are no more cells than
    /// rows and at least one; wide cells of few rows may bring up to the root of `cells` more. The
    /// origin is the mean of the sample; the seed is also that of the rotation ([`Self::codec`]).
    ///
    /// # Panics
    /// If `dim` is 0 or more than [`DIM_MAX`] or the rows are not whole: bugs of the caller.
    pub fn train(rows: &[f32], dim: usize, cells: usize, seed: u64) -> Self {
        Self::train_on(&Serial, rows, dim, cells, seed)
    }

    /// [`Self::train`] on the threads of an executor, with the same result.
    ///
    /// # Panics
    /// Like [`Self::train`].
    pub fn train_on(
        executor: &dyn Executor,
        rows: &[f32],
        dim: usize,
        cells: usize,
        seed: u64,
    ) -> Self {
        assert!((1..=DIM_MAX).contains(&dim), "a vector has 1 to {DIM_MAX} components");
        assert!(rows.len().is_multiple_of(dim), "rows are whole vectors");
        let random = &mut SplitMix64(seed);
        let count = rows.len() / dim;
        let cells = cells.min(count).max(1);
        let numbers = sample::sample(count, cells * SAMPLE_PER_CELL, random);
        let origin = sample::mean(executor, rows, dim, &numbers);
        let cells = tree::train(executor, rows, dim, &numbers, cells, random);
        Self::from_parts(cells.centroids, cells.radii, origin, seed, numbers.len() as u64)
    }

    /// A codebook of finite centroids that were trained elsewhere, with the origin at zero, unknown
    /// radii and the seed 0.
    ///
    /// # Panics
    /// If there is none, or they are not whole vectors of 1 to [`DIM_MAX`] components: bugs of the
    /// caller.
    pub fn from_centroids(centroids: Vec<f32>, dim: usize) -> Self {
        let radii = vec![0.0; centroids.len() / dim.max(1)];
        Self::from_parts(centroids, radii, vec![0.0; dim], 0, 0)
    }

    fn from_parts(
        centroids: Vec<f32>,
        radii: Vec<f32>,
        origin: Vec<f32>,
        seed: u64,
        trained_rows: u64,
    ) -> Self {
        let dim = origin.len();
        assert!((1..=DIM_MAX).contains(&dim), "a centroid has 1 to {DIM_MAX} components");
        assert!(!centroids.is_empty(), "a codebook has a cell");
        assert!(centroids.len().is_multiple_of(dim), "centroids are whole vectors");
        let (panels, rounded) = (OnceLock::new(), OnceLock::new());
        let mut book =
            Self { dim, centroids, radii, origin, seed, trained_rows, id: 0, panels, rounded };
        book.id = bytes::id(&book.encode());
        book
    }

    /// A hash of all that the codebook holds: codebooks of one id are the same one.
    pub fn id(&self) -> u64 {
        self.id
    }

    /// The seed of the training, and of the rotation in front of the codes.
    pub fn seed(&self) -> u64 {
        self.seed
    }

    /// The mean of the rows that it was trained on.
    pub fn origin(&self) -> &[f32] {
        &self.origin
    }

    /// The root mean squared distance of the training rows of each cell to its centroid; 0 if there
    /// were none.
    pub fn radii(&self) -> &[f32] {
        &self.radii
    }

    /// How many rows the training looked at.
    pub fn trained_rows(&self) -> u64 {
        self.trained_rows
    }

    /// The codec that rows of these cells are coded with: of this seed, around this origin.
    pub fn codec(&self, metric: Metric) -> Codec {
        Codec::new(metric, self.dim, self.seed).with_origin(&self.origin)
    }

    /// Components of a centroid.
    pub fn dim(&self) -> usize {
        self.dim
    }

    /// How many cells there are.
    pub fn cells(&self) -> usize {
        self.centroids.len() / self.dim
    }

    /// The centroids, one behind the other, in the order of their cells.
    pub fn centroids(&self) -> &[f32] {
        &self.centroids
    }

    /// The centroid of one cell; `None` if there is no such cell.
    pub fn centroid(&self, cell: u32) -> Option<&[f32]> {
        self.centroids.chunks_exact(self.dim).nth(cell as usize)
    }

    /// The nearest cell of each of the rows, which lie one behind the other.
    ///
    /// # Panics
    /// If the rows are not whole vectors, which is a bug of the caller.
    pub fn assign(&self, rows: &[f32]) -> Vec<Assignment> {
        self.assign_on(&Serial, rows)
    }

    /// [`Self::assign`] on the threads of an executor, with the same result.
    ///
    /// # Panics
    /// Like [`Self::assign`].
    pub fn assign_on(&self, executor: &dyn Executor, rows: &[f32]) -> Vec<Assignment> {
        assert!(rows.len().is_multiple_of(self.dim), "rows are whole vectors");
        let rounded = self.rounded.get_or_init(|| RoundedCells::new(&self.centroids, &self.origin));
        let parts: Vec<&[f32]> = rows.chunks(TASK_ROWS * self.dim).collect();
        let assigned = map(executor, parts.len(), |part| match rounded {
            Some(rounded) => {
                rounded.nearest(&self.centroids, parts[part], |row| self.panels().nearest_of(row))
            }
            None => {
                let found =
                    parts[part].chunks_exact(self.dim).zip(self.panels().nearest(parts[part]));
                found.map(|(row, nearest)| (nearest, squared_distance(row, nearest))).collect()
            }
        });
        let assignment = |(nearest, squared_distance): (Nearest, f32)| Assignment {
            cell: nearest.cell,
            squared_distance,
        };
        assigned.into_iter().flatten().map(assignment).collect()
    }

    fn panels(&self) -> &Panels {
        self.panels.get_or_init(|| Panels::new(&self.centroids, self.dim))
    }
}

#[cfg(test)]
mod bytes_tests;
#[cfg(test)]
mod tests;
