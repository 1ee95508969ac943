//! Centroids side by side, for comparing rows with 32 of them at once.

use crate::kernels::{
    Kernels,
    portable::{Nearest, PANEL},
};

/// Centroids, 32 side by side: see [`Kernels::nearest`].
#[derive(Clone, Debug)]
pub(super) struct Panels {
    dim: usize,
    components: Vec<f32>,
    offsets: Vec<f32>,
}

impl Panels {
    pub(super) fn new(centroids: &[f32], dim: usize) -> Self {
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

    /// The nearest cell of each row.
    pub(super) fn nearest(&self, rows: &[f32]) -> Vec<Nearest> {
        let none = Nearest { score: f32::NEG_INFINITY, cell: 0 };
        let mut best = vec![none; rows.len() / self.dim];
        Kernels::best().nearest(rows, &self.components, &self.offsets, &mut best);
        best
    }
}

/// The squared distance of a row to its nearest centroid, from their product.
pub(super) fn squared_distance(row: &[f32], nearest: Nearest) -> f32 {
    (Kernels::best().dot(row, row) - 2.0 * nearest.score).max(0.0)
}
