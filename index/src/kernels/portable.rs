//! The floating-point kernels, written once: plain Rust that each level of [`super`] compiles with
//! its own instruction set.
//!
//! # Invariants
//! - Every function is `#[inline(always)]`, so that it becomes part of a caller with
//!   `#[target_feature]` and is compiled for it.
//! - Sums run over [`LANES`] partial sums and are folded in one fixed order; a product is rounded
//!   before it is added (Rust contracts nothing to fused operations). So wide registers are used
//!   where there are any, and every level gives the same bits.

use super::{BLOCK_ROWS, FACTOR_BYTES, GROUP_BYTES, GROUPS};
use crate::rotation::ROUNDS;

/// Partial sums of a vector sum: four registers of 16, enough to hide the latency of an addition.
pub(crate) const LANES: usize = 64;

/// Folds partial sums in the order that every level shares: the upper half onto the lower one,
/// until one is left. For levels without instructions of their own for it.
#[inline(always)]
pub(super) fn fold(lanes: &[f32; LANES]) -> f32 {
    let mut lanes = *lanes;
    let mut half = LANES / 2;
    while half > 0 {
        let (low, high) = lanes.split_at_mut(half);
        low.iter_mut().zip(high).for_each(|(a, b)| *a += *b);
        half /= 2;
    }
    lanes[0]
}

/// Partial sums of `term(a, b)` over two slices of one length.
#[inline(always)]
fn sum(a: &[f32], b: &[f32], term: impl Fn(f32, f32) -> f32) -> [f32; LANES] {
    let mut lanes = [0.0_f32; LANES];
    let (a_chunks, a_rest) = a.as_chunks::<LANES>();
    let (b_chunks, b_rest) = b.as_chunks::<LANES>();
    for (x, y) in a_chunks.iter().zip(b_chunks) {
        for lane in 0..LANES {
            lanes[lane] += term(x[lane], y[lane]);
        }
    }
    for (lane, (x, y)) in lanes.iter_mut().zip(a_rest.iter().zip(b_rest)) {
        *lane += term(*x, *y);
    }
    lanes
}

/// Partial sums of the inner product of two slices of one length.
#[inline(always)]
pub(super) fn dot(a: &[f32], b: &[f32]) -> [f32; LANES] {
    sum(a, b, |x, y| x * y)
}

/// Partial sums of the squared Euclidean distance of two slices of one length.
#[inline(always)]
pub(super) fn l2_squared(a: &[f32], b: &[f32]) -> [f32; LANES] {
    sum(a, b, |x, y| {
        let d = x - y;
        d * d
    })
}

/// One level of the Walsh-Hadamard transform inside 16 components, at distance `H`.
#[inline(always)]
fn butterfly16<const H: usize>(x: &[f32; 16]) -> [f32; 16] {
    std::array::from_fn(|i| if i & H == 0 { x[i] + x[i ^ H] } else { x[i ^ H] - x[i] })
}

/// The Walsh-Hadamard transform of each 16 components, for levels without shuffles of their own.
#[inline(always)]
pub(super) fn hadamard16(chunks: &mut [[f32; 16]]) {
    for chunk in chunks {
        let near = butterfly16::<2>(&butterfly16::<1>(chunk));
        *chunk = butterfly16::<8>(&butterfly16::<4>(&near));
    }
}

/// Sums and differences of two halves, in place.
#[inline(always)]
fn mix(low: &mut [f32], high: &mut [f32]) {
    for (a, b) in low.iter_mut().zip(high) {
        (*a, *b) = (*a + *b, *a - *b);
    }
}

/// The Walsh-Hadamard transform in place; `v.len()` is a power of two of at least 16.
#[inline(always)]
fn hadamard(v: &mut [f32], factor: f32, inside: impl Fn(&mut [[f32; 16]])) {
    inside(v.as_chunks_mut::<16>().0);
    // By components and not by chunks: else the compiler gathers the chunks it steps over.
    let mut half = 16;
    while half < v.len() {
        for pair in v.chunks_exact_mut(2 * half) {
            let (low, high) = pair.split_at_mut(half);
            mix(low, high);
        }
        half *= 2;
    }
    v.iter_mut().for_each(|x| *x *= factor);
}

/// Rotates in place: see [`crate::Rotation`]. `signs` holds [`ROUNDS`] times `v.len()` sign bits;
/// `inside` transforms each 16 components.
#[inline(always)]
pub(super) fn rotate(v: &mut [f32], signs: &[u32], inside: impl Fn(&mut [[f32; 16]])) {
    let padded = v.len();
    let power = 1_usize << padded.ilog2();
    let factor = (1.0 / (power as f64).sqrt()) as f32;
    for (round, signs) in signs.chunks_exact(padded).take(ROUNDS).enumerate() {
        for (x, sign) in v.iter_mut().zip(signs) {
            *x = f32::from_bits(x.to_bits() ^ sign);
        }
        let start = if round % 2 == 0 { 0 } else { padded - power };
        hadamard(&mut v[start..start + power], factor, &inside);
        if power != padded {
            let (low, high) = v.split_at_mut(padded / 2);
            // Lengthens by the root of two each time; see the factor of a quarter below.
            mix(low, high);
        }
    }
    if power != padded {
        v.iter_mut().for_each(|x| *x *= 0.25);
    }
}

/// What a residual and its one-bit code have in common: see `rabitq`.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Sums {
    /// The squared length of the code's vector.
    pub(crate) code_squared: f32,
    /// The inner product of the code's vector with the residual.
    pub(crate) code_residual: f32,
    /// The inner product of the code's vector with the centre.
    pub(crate) code_centre: f32,
}

/// Writes one bit per component, 1 where it is not negative, and sums up what the factors need.
/// The vector of the code has plus or minus a half in each component.
#[inline(always)]
pub(super) fn encode_bits(
    residual: &[f32],
    centre: &[f32],
    code: &mut [u8],
    fold: impl Fn(&[f32; LANES]) -> f32,
) -> Sums {
    let (chunks, _) = residual.as_chunks::<8>();
    for (byte, chunk) in code.iter_mut().zip(chunks) {
        let mut bits = 0;
        for (i, x) in chunk.iter().enumerate() {
            bits |= (((x.to_bits() >> 31) as u8) ^ 1) << i;
        }
        *byte = bits;
    }
    Sums {
        code_squared: residual.len() as f32 * 0.25,
        code_residual: fold(&sum(residual, residual, |x, _| x.abs() * 0.5)),
        // The sign of the residual goes onto the centre's component.
        code_centre: fold(&sum(residual, centre, |x, c| {
            f32::from_bits(c.to_bits() ^ (x.to_bits() & 0x8000_0000)) * 0.5
        })),
    }
}

/// The levels that a component may take.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Grid {
    /// One over the width of a level.
    pub(crate) step_inverse: f32,
    /// Levels below zero, and as many above.
    pub(crate) half: f32,
}

impl Grid {
    /// The level of one component, raised by [`ROUNDER`]: the level is in the lowest bits.
    #[inline(always)]
    fn raised(self, x: f32) -> f32 {
        let level = x * self.step_inverse + (self.half - 0.5);
        // Comparisons rather than `max` and `min`: they are one instruction, and NaN becomes 0.
        let level = if level > 0.0 { level } else { 0.0 };
        let last = 2.0 * self.half - 1.0;
        let level = if level < last { level } else { last };
        level + ROUNDER
    }
}

/// Added to a small number it leaves the nearest whole number in the lowest bits, without a
/// conversion that would cost more.
pub(crate) const ROUNDER: f32 = 12_582_912.0;
/// Partial sums where three sums run at once.
const FEWER_LANES: usize = 32;

/// Writes one byte per component, its level, and sums up what the factors need. The vector of the
/// code has `level - half + 0.5` in each component. Lengths are multiples of 64.
#[inline(always)]
pub(super) fn encode_levels(
    residual: &[f32],
    centre: &[f32],
    grid: Grid,
    levels: &mut [u8],
    fold: impl Fn(&[f32; LANES]) -> f32,
) -> Sums {
    let (residual, _) = residual.as_chunks::<FEWER_LANES>();
    let (centre, _) = centre.as_chunks::<FEWER_LANES>();
    let (levels, _) = levels.as_chunks_mut::<FEWER_LANES>();
    let mut sums = [[0.0_f32; FEWER_LANES]; 3];
    let [squared, along, centred] = &mut sums;
    for ((residual, centre), levels) in residual.iter().zip(centre).zip(levels) {
        for i in 0..FEWER_LANES {
            let raised = grid.raised(residual[i]);
            levels[i] = raised.to_bits() as u8;
            let value = (raised - ROUNDER) - (grid.half - 0.5);
            squared[i] += value * value;
            along[i] += value * residual[i];
            centred[i] += value * centre[i];
        }
    }
    let [code_squared, code_residual, code_centre] =
        sums.map(|lanes| fold(&std::array::from_fn(|i| lanes.get(i).copied().unwrap_or(0.0))));
    Sums { code_squared, code_residual, code_centre }
}

/// What `block_sums` of each level does, of codes in [`super::Layout::Rows`]. For levels that are
/// not better off with that: codes are laid out so only where they are, and where tests compare.
#[inline(always)]
pub(super) fn block_sums_by_row(codes: &[u8], tables: &[u8], sums: &mut [u32; BLOCK_ROWS]) {
    *sums = [0; BLOCK_ROWS];
    let (low, high) = sums.split_at_mut(BLOCK_ROWS / 2);
    let (codes, _) = codes.as_chunks::<{ GROUPS * GROUP_BYTES }>();
    let (tables, _) = tables.as_chunks::<GROUP_BYTES>();
    for (codes, tables) in codes.iter().zip(tables.chunks_exact(GROUPS)) {
        let rows = codes.chunks_exact(GROUPS).zip(low.iter_mut().zip(high.iter_mut()));
        for (bytes, (low, high)) in rows {
            for (byte, table) in bytes.iter().zip(tables) {
                *low += u32::from(table[usize::from(byte & 15)]);
                *high += u32::from(table[usize::from(byte >> 4)]);
            }
        }
    }
}

/// What turns the sums of a block into estimates: see [`crate::rabitq::Probe`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Affine {
    /// The sum that stands for an inner product of 0.
    pub(crate) zero: i32,
    /// What one unit of a sum is worth.
    pub(crate) unit: f32,
    /// Added to every estimate.
    pub(crate) base: f32,
    /// What the stored error of a row is multiplied with.
    pub(crate) reach: f32,
}

/// One of the three arrays of factors behind the codes of a block.
#[inline(always)]
fn factor_array(factors: &[u8; FACTOR_BYTES], which: usize) -> [f32; BLOCK_ROWS] {
    let (words, _) = factors.as_chunks::<4>();
    std::array::from_fn(|row| f32::from_le_bytes(words[which * BLOCK_ROWS + row]))
}

/// Turns the sums of a block into estimates. Bit `i` of the answer is set unless the upper bound
/// of row `i` is below the threshold; so it is set where the bound is unknown (NaN).
#[inline(always)]
pub(super) fn score_block(
    sums: &[u32; BLOCK_ROWS],
    factors: &[u8; FACTOR_BYTES],
    affine: &Affine,
    threshold: f32,
    estimates: &mut [f32; BLOCK_ROWS],
) -> u32 {
    let add = factor_array(factors, 0);
    let scale = factor_array(factors, 1);
    let error = factor_array(factors, 2);
    let mut below = [false; BLOCK_ROWS];
    for row in 0..BLOCK_ROWS {
        let product = (sums[row].cast_signed() - affine.zero) as f32 * affine.unit;
        let estimate = affine.base + (add[row] + scale[row] * product);
        estimates[row] = estimate;
        below[row] = estimate + error[row] * affine.reach < threshold;
    }
    let mut mask = 0_u32;
    for (row, below) in below.into_iter().enumerate() {
        mask |= u32::from(!below) << row;
    }
    mask
}

/// Cells whose centroids lie side by side in a panel, component by component.
pub(crate) const PANEL: usize = 32;
/// Rows that a panel is multiplied with at once.
const ROWS: usize = 4;

/// The nearest cell of a row: the one of the largest score, the first of equal ones.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Nearest {
    /// The inner product of row and centroid, less half the squared length of the centroid.
    pub(crate) score: f32,
    /// The number of the cell.
    pub(crate) cell: u32,
}

/// Adds one component of a row times that of every centroid of a panel.
#[inline(always)]
fn add_scaled(sums: &mut [f32; PANEL], x: f32, centroids: &[f32; PANEL]) {
    for (sum, centroid) in sums.iter_mut().zip(centroids) {
        *sum += x * centroid;
    }
}

/// Inner products of four rows with the centroids of a panel: a matrix product whose results stay
/// in registers.
#[inline(always)]
fn panel_products(rows: [&[f32]; ROWS], panel: &[f32]) -> [[f32; PANEL]; ROWS] {
    // Four arrays by name: what is indexed by a variable would lie in memory.
    let mut sums = ([0.0_f32; PANEL], [0.0_f32; PANEL], [0.0_f32; PANEL], [0.0_f32; PANEL]);
    let (panel, _) = panel.as_chunks::<PANEL>();
    let components = rows[0].iter().zip(rows[1]).zip(rows[2].iter().zip(rows[3]));
    for (centroids, ((a, b), (c, d))) in panel.iter().zip(components) {
        add_scaled(&mut sums.0, *a, centroids);
        add_scaled(&mut sums.1, *b, centroids);
        add_scaled(&mut sums.2, *c, centroids);
        add_scaled(&mut sums.3, *d, centroids);
    }
    sums.into()
}

/// Finds the nearest cell of each row. `panels` holds the centroids, [`PANEL`] to a panel, each
/// component of all of them side by side; `offsets` what to add to the product of each.
#[inline(always)]
pub(super) fn nearest(rows: &[f32], panels: &[f32], offsets: &[f32], best: &mut [Nearest]) {
    let dim = panels.len() / offsets.len();
    for (rows, best) in rows.chunks(ROWS * dim).zip(best.chunks_mut(ROWS)) {
        // A short last group works on its last row more than once.
        let row = |i: usize| &rows[i.min(best.len() - 1) * dim..][..dim];
        let group = [row(0), row(1), row(2), row(3)];
        best.fill(Nearest { score: f32::NEG_INFINITY, cell: 0 });
        let panels = panels.chunks_exact(PANEL * dim).zip(offsets.chunks_exact(PANEL));
        for (number, (panel, offsets)) in panels.enumerate() {
            let sums = panel_products(group, panel);
            for (best, sums) in best.iter_mut().zip(&sums) {
                for (i, (sum, offset)) in sums.iter().zip(offsets).enumerate() {
                    let score = sum + offset;
                    if score > best.score {
                        *best = Nearest { score, cell: (number * PANEL + i) as u32 };
                    }
                }
            }
        }
    }
}

/// Asks memory for a row that is needed soon: nothing, on levels that cannot.
#[inline(always)]
pub(super) fn prefetch<T>(_row: &[T]) {}
