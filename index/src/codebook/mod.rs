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

mod kmeans;
mod route;

use crate::{
    kernels::{
        Kernels,
        portable::{Nearest, PANEL},
    },
    rotation::SplitMix64,
};
pub use route::Router;

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

/// The centroids of a collection.
///
/// ```
/// use akidb_index::codebook::Codebook;
/// let rows = [0.0, 0.1, 0.0, -0.1, 9.0, 9.1, 9.0, 8.9];
/// let book = Codebook::train(&rows, 2, 2, 42);
/// let cells = book.assign(&rows);
/// assert_eq!(cells[0].cell, cells[1].cell);
/// assert_ne!(cells[0].cell, cells[2].cell);
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Codebook {
    dim: usize,
    centroids: Vec<f32>,
    /// The centroids again, as the matrix product reads them.
    panels: Panels,
}

impl Codebook {
    /// Trains about `cells` cells on finite rows of `dim` components, which lie one behind the other. Of
    /// more than [`SAMPLE_PER_CELL`] rows per cell a sample is taken. There are no more cells than
    /// rows and at least one; wide cells of few rows may bring up to the root of `cells` more.
    ///
    /// # Panics
    /// If `dim` is 0 or the rows are not whole, which are bugs of the caller.
    pub fn train(rows: &[f32], dim: usize, cells: usize, seed: u64) -> Self {
        assert!(dim > 0 && rows.len().is_multiple_of(dim), "rows are whole vectors");
        let random = &mut SplitMix64(seed);
        let cells = cells.min(rows.len() / dim).max(1);
        let sample = sample(rows, dim, cells * SAMPLE_PER_CELL, random);
        let centroids = if cells <= FLAT_MAX {
            kmeans::train(&sample, dim, cells, random)
        } else {
            tree(&sample, dim, cells, random)
        };
        Self::from_centroids(centroids, dim)
    }

    /// A codebook of centroids that were trained before.
    ///
    /// # Panics
    /// If there is none, or they are not whole vectors: bugs of the caller.
    pub fn from_centroids(centroids: Vec<f32>, dim: usize) -> Self {
        assert!(!centroids.is_empty(), "a codebook has a cell");
        let panels = Panels::new(&centroids, dim);
        Self { dim, centroids, panels }
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
        let kernels = Kernels::best();
        let assignment = |(row, nearest): (&[f32], Nearest)| Assignment {
            cell: nearest.cell,
            squared_distance: (kernels.dot(row, row) - 2.0 * nearest.score).max(0.0),
        };
        let nearest = self.panels.nearest(rows);
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

/// Trains wide cells first, then cuts each into as many cells as its share of the sample.
fn tree(sample: &[f32], dim: usize, cells: usize, random: &mut SplitMix64) -> Vec<f32> {
    let wide = kmeans::train(sample, dim, cells.isqrt(), random);
    let mut members = vec![Vec::new(); wide.len() / dim];
    for (row, nearest) in sample.chunks_exact(dim).zip(Panels::new(&wide, dim).nearest(sample)) {
        members[nearest.cell as usize].extend_from_slice(row);
    }
    let rows = sample.len() / dim;
    let (mut before, mut given) = (0, 0);
    let mut centroids = Vec::with_capacity(cells * dim);
    for members in members.iter().filter(|members| !members.is_empty()) {
        // Shares are cut from the whole, so that what is rounded off here is given there.
        before += members.len() / dim;
        let share = (before * cells / rows).saturating_sub(given).max(1);
        let narrow = kmeans::train(members, dim, share, random);
        given += narrow.len() / dim;
        centroids.extend_from_slice(&narrow);
    }
    centroids
}

#[cfg(test)]
mod tests;
