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
//!   [`SAMPLE_PER_CELL`] rows per cell are looked at, [`ITERATIONS`] times.
//! - Cells may be empty (of rows that are all alike), never not a number, as long as rows are finite.

mod bytes;
mod kmeans;
mod route;

use crate::{
    Metric,
    kernels::{
        Kernels,
        portable::{Nearest, PANEL},
    },
    rabitq::Codec,
    rotation::SplitMix64,
};
pub use bytes::{BadCodebook, DIM_MAX};
pub use route::Router;
use std::sync::OnceLock;

/// Rows that the training looks at, per cell.
pub const SAMPLE_PER_CELL: usize = 64;
/// Rounds of assignment and averaging on each level of the tree.
pub const ITERATIONS: usize = 10;
/// Up to this many cells are trained at once; more are trained as a tree.
const FLAT_MAX: usize = 32;

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
        assert!(
            (1..=DIM_MAX).contains(&dim) && rows.len().is_multiple_of(dim),
            "rows are whole vectors of 1 to {DIM_MAX} components"
        );
        let random = &mut SplitMix64(seed);
        let cells = cells.min(rows.len() / dim).max(1);
        let sample = sample(rows, dim, cells * SAMPLE_PER_CELL, random);
        let cells = if cells <= FLAT_MAX {
            kmeans::train(&sample, dim, cells, random)
        } else {
            tree(&sample, dim, cells, random)
        };
        let trained_rows = (sample.len() / dim) as u64;
        Self::from_parts(cells.centroids, cells.radii, mean(&sample, dim), seed, trained_rows)
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
        let panels = OnceLock::new();
        let mut book = Self { dim, centroids, radii, origin, seed, trained_rows, id: 0, panels };
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

    /// The nearest cell of each of the rows, which lie one behind the other. Rows do not depend on
    /// each other: a caller with threads cuts the rows into parts.
    ///
    /// # Panics
    /// If the rows are not whole vectors, which is a bug of the caller.
    pub fn assign(&self, rows: &[f32]) -> Vec<Assignment> {
        assert!(rows.len().is_multiple_of(self.dim), "rows are whole vectors");
        let assignment = |(row, nearest): (&[f32], Nearest)| Assignment {
            cell: nearest.cell,
            squared_distance: squared_distance(row, nearest),
        };
        let panels = self.panels.get_or_init(|| Panels::new(&self.centroids, self.dim));
        let nearest = panels.nearest(rows);
        rows.chunks_exact(self.dim).zip(nearest).map(assignment).collect()
    }
}

/// Centroids, 32 side by side: see [`Kernels::nearest`].
#[derive(Clone, Debug, PartialEq)]
struct Panels {
    dim: usize,
    components: Vec<f32>,
    offsets: Vec<f32>,
}

impl Panels {
    fn new(centroids: &[f32], dim: usize) -> Self {
        let cells = centroids.len() / dim;
        let padded = cells.next_multiple_of(PANEL);
        let mut components = vec![0.0; padded * dim];
        // Cells that are not there lose against every other.
        let mut offsets = vec![f32::NEG_INFINITY; padded];
        for (cell, centroid) in centroids.chunks_exact(dim).enumerate() {
            let panel = &mut components[cell / PANEL * PANEL * dim..][..PANEL * dim];
            for (column, x) in panel.chunks_exact_mut(PANEL).zip(centroid) {
                column[cell % PANEL] = *x;
            }
            offsets[cell] = -0.5 * Kernels::best().dot(centroid, centroid);
        }
        Self { dim, components, offsets }
    }

    fn nearest(&self, rows: &[f32]) -> Vec<Nearest> {
        let none = Nearest { score: f32::NEG_INFINITY, cell: 0 };
        let mut best = vec![none; rows.len() / self.dim];
        Kernels::best().nearest(rows, &self.components, &self.offsets, &mut best);
        best
    }
}

/// At most `most` of the rows, each once, in an order that the seed decides.
fn sample(rows: &[f32], dim: usize, most: usize, random: &mut SplitMix64) -> Vec<f32> {
    let count = rows.len() / dim;
    let mut numbers: Vec<u32> = (0..count as u32).collect();
    let taken = most.min(count);
    for at in 0..taken {
        let other = at + random.below(count - at);
        numbers.swap(at, other);
    }
    let row = |number: &u32| &rows[*number as usize * dim..][..dim];
    numbers[..taken].iter().flat_map(row).copied().collect()
}

/// The squared distance of a row to its nearest centroid, from their product.
fn squared_distance(row: &[f32], nearest: Nearest) -> f32 {
    (Kernels::best().dot(row, row) - 2.0 * nearest.score).max(0.0)
}

/// The mean of the rows; zero if there is none.
fn mean(rows: &[f32], dim: usize) -> Vec<f32> {
    let mut sums = vec![0.0_f64; dim];
    for row in rows.chunks_exact(dim) {
        sums.iter_mut().zip(row).for_each(|(sum, x)| *sum += f64::from(*x));
    }
    let count = (rows.len() / dim).max(1) as f64;
    sums.iter().map(|sum| (sum / count) as f32).collect()
}

/// Trains wide cells first, then cuts each into as many cells as its share of the sample.
fn tree(sample: &[f32], dim: usize, cells: usize, random: &mut SplitMix64) -> kmeans::Cells {
    let wide = kmeans::train(sample, dim, cells.isqrt(), random);
    let mut members = vec![Vec::new(); wide.radii.len()];
    let nearest = Panels::new(&wide.centroids, dim).nearest(sample);
    for (row, nearest) in sample.chunks_exact(dim).zip(nearest) {
        members[nearest.cell as usize].extend_from_slice(row);
    }
    let rows = sample.len() / dim;
    let (mut before, mut given) = (0, 0);
    let mut all = kmeans::Cells::default();
    for members in members.iter().filter(|members| !members.is_empty()) {
        // Shares are cut from the whole, so that what is rounded off here is given there.
        before += members.len() / dim;
        let share = (before * cells / rows).saturating_sub(given).max(1);
        let narrow = kmeans::train(members, dim, share, random);
        given += narrow.radii.len();
        all.centroids.extend(narrow.centroids);
        all.radii.extend(narrow.radii);
    }
    all
}

#[cfg(test)]
mod bytes_tests;
#[cfg(test)]
mod tests;
