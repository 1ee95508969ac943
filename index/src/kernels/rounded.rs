//! Which cells a row may be nearest to, by rounded components: four times the products per
//! instruction of the exact comparison, which then has to look at a few cells only.
//!
//! Rows are rounded to 7 bits and centroids to signed 8, so that no level saturates: two products
//! of them fit 16 bits. The sums are whole numbers, and what is made of them is written once; so
//! every level gives the same. Called through [`super::Kernels`] only.

use super::portable::PANEL;

/// Rows that a panel is multiplied with at once.
pub(crate) const ROWS: usize = 4;
/// Components of a cell that lie together in a panel: one lane of 32 bits.
pub(crate) const QUAD: usize = 4;
/// What a rounded component of a row is raised by, to be positive.
pub(crate) const RAISED: i32 = 64;
/// Panels that stay in the cache while all rows pass: 200 KB at 384 components.
const PANELS_AT_ONCE: usize = 16;

/// Rounded centroids, [`PANEL`] to a panel. In a panel the first [`QUAD`] components of all its
/// cells come first, then the next ones.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rounded<'a> {
    pub(crate) panels: &'a [i8],
    /// What the sum of a cell begins at, to undo [`RAISED`].
    pub(crate) zeros: &'a [i32],
    /// What one unit of a cell's components is worth.
    pub(crate) scales: &'a [f32],
    /// Added to the score of a cell.
    pub(crate) offsets: &'a [f32],
}

/// For each place in a panel the best score there, and its cell.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct LaneBest {
    pub(crate) scores: [f32; PANEL],
    pub(crate) cells: [u32; PANEL],
}

impl LaneBest {
    /// Nothing yet.
    pub(crate) const NONE: Self = Self { scores: [f32::NEG_INFINITY; PANEL], cells: [0; PANEL] };
}

/// Products of rounded rows with the cells of a panel.
pub(super) type Sums = [[i32; PANEL]; ROWS];

/// The products by definition.
#[inline(always)]
pub(super) fn panel_sums(rows: [&[u8]; ROWS], panel: &[i8], zeros: &[i32; PANEL]) -> Sums {
    rows.map(|row| {
        let mut sums = *zeros;
        let (quads, _) = row.as_chunks::<QUAD>();
        let (cells, _) = panel.as_chunks::<{ PANEL * QUAD }>();
        for (quad, cells) in quads.iter().zip(cells) {
            for (sum, cell) in sums.iter_mut().zip(cells.as_chunks::<QUAD>().0) {
                for (x, c) in quad.iter().zip(cell) {
                    *sum += i32::from(*x) * i32::from(*c);
                }
            }
        }
        sums
    })
}

/// Takes scores of a panel's cells, the first of which has the number `first`.
#[inline(always)]
fn keep(
    sums: &[i32; PANEL],
    step: f32,
    scales: &[f32],
    offsets: &[f32],
    first: u32,
    best: &mut LaneBest,
) {
    let lanes = sums.iter().zip(scales.iter().zip(offsets));
    let kept = best.scores.iter_mut().zip(best.cells.iter_mut());
    for (lane, ((sum, (scale, offset)), (kept, cell))) in lanes.zip(kept).enumerate() {
        let score = (*sum as f32 * step) * scale + offset;
        let better = score > *kept;
        *kept = if better { score } else { *kept };
        *cell = if better { first + lane as u32 } else { *cell };
    }
}

/// Finds for each row the best cell at each place of the panels. `rows` holds as many rows as there
/// are `steps`, a multiple of [`ROWS`], each a byte per component; a step is what one unit of a
/// row's components is worth.
#[inline(always)]
pub(super) fn lane_best(
    rows: &[u8],
    steps: &[f32],
    rounded: &Rounded<'_>,
    best: &mut [LaneBest],
    products: impl Fn([&[u8]; ROWS], &[i8], &[i32; PANEL]) -> Sums,
) {
    let dim = rows.len() / steps.len();
    let (zeros, _) = rounded.zeros.as_chunks::<PANEL>();
    for (block, panels) in rounded.panels.chunks(PANELS_AT_ONCE * PANEL * dim).enumerate() {
        let first_panel = block * PANELS_AT_ONCE;
        let groups = rows.chunks_exact(ROWS * dim).zip(steps.chunks_exact(ROWS));
        for ((rows, steps), best) in groups.zip(best.chunks_exact_mut(ROWS)) {
            let row = |i: usize| &rows[i * dim..][..dim];
            for (number, panel) in panels.chunks_exact(PANEL * dim).enumerate() {
                let number = first_panel + number;
                let sums = products([row(0), row(1), row(2), row(3)], panel, &zeros[number]);
                let first = number * PANEL;
                let (scales, offsets) = (&rounded.scales[first..], &rounded.offsets[first..]);
                for ((sums, step), best) in sums.iter().zip(steps).zip(best.iter_mut()) {
                    keep(sums, *step, scales, offsets, first as u32, best);
                }
            }
        }
    }
}
