//! The floating-point kernels, written once: plain Rust that each level of [`super`] compiles with
//! its own instruction set.
//!
//! # Invariants
//! - Every function is `#[inline(always)]`, so that it becomes part of a caller with
//!   `#[target_feature]` and is compiled for it.
//! - Sums run over [`LANES`] partial sums and are folded in one fixed order; a product is rounded
//!   before it is added (Rust contracts nothing to fused operations). So wide registers are used
//!   where there are any, and every level gives the same bits.

use super::{BLOCK_ROWS, FACTOR_BYTES};
use crate::rotation::ROUNDS;

/// Partial sums of a vector sum: four registers of 16, enough to hide the latency of an addition.
pub(crate) const LANES: usize = 64;

/// Folds the partial sums in the order every level shares.
#[inline(always)]
fn fold(mut lanes: [f32; LANES]) -> f32 {
    let mut half = LANES / 2;
    while half > 0 {
        let (low, high) = lanes.split_at_mut(half);
        low.iter_mut().zip(high).for_each(|(a, b)| *a += *b);
        half /= 2;
    }
    lanes[0]
}

/// Sums `term(a, b)` over two slices of one length.
#[inline(always)]
fn sum(a: &[f32], b: &[f32], term: impl Fn(f32, f32) -> f32) -> f32 {
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
    fold(lanes)
}

/// The inner product of two slices of one length.
#[inline(always)]
pub(super) fn dot(a: &[f32], b: &[f32]) -> f32 {
    sum(a, b, |x, y| x * y)
}

/// The squared Euclidean distance of two slices of one length.
#[inline(always)]
pub(super) fn l2_squared(a: &[f32], b: &[f32]) -> f32 {
    sum(a, b, |x, y| {
        let d = x - y;
        d * d
    })
}

/// One level of the Walsh-Hadamard transform inside 16 components, at distance `H`.
#[inline(always)]
fn butterfly16<const H: usize>(x: [f32; 16]) -> [f32; 16] {
    std::array::from_fn(|i| if i & H == 0 { x[i] + x[i ^ H] } else { x[i ^ H] - x[i] })
}

/// The Walsh-Hadamard transform in place; `v.len()` is a power of two of at least 16.
#[inline(always)]
fn hadamard(v: &mut [f32], factor: f32) {
    let (chunks, _) = v.as_chunks_mut::<16>();
    for chunk in chunks.iter_mut() {
        *chunk = butterfly16::<8>(butterfly16::<4>(butterfly16::<2>(butterfly16::<1>(*chunk))));
    }
    let mut half = 1;
    while half < chunks.len() {
        for pair in chunks.chunks_exact_mut(2 * half) {
            let (low, high) = pair.split_at_mut(half);
            for (a, b) in low.iter_mut().zip(high) {
                for i in 0..16 {
                    let (x, y) = (a[i], b[i]);
                    a[i] = x + y;
                    b[i] = x - y;
                }
            }
        }
        half *= 2;
    }
    v.iter_mut().for_each(|x| *x *= factor);
}

/// Rotates in place: see [`crate::Rotation`]. `signs` holds [`ROUNDS`] times `v.len()` sign bits.
#[inline(always)]
pub(super) fn rotate(v: &mut [f32], signs: &[u32]) {
    let padded = v.len();
    let power = 1_usize << padded.ilog2();
    let factor = (1.0 / (power as f64).sqrt()) as f32;
    for (round, signs) in signs.chunks_exact(padded).take(ROUNDS).enumerate() {
        for (x, sign) in v.iter_mut().zip(signs) {
            *x = f32::from_bits(x.to_bits() ^ sign);
        }
        let start = if round % 2 == 0 { 0 } else { padded - power };
        hadamard(&mut v[start..start + power], factor);
        if power != padded {
            let (low, high) = v.split_at_mut(padded / 2);
            for (a, b) in low.iter_mut().zip(high) {
                // Each butterfly lengthens by the root of two; see the factor of a quarter below.
                (*a, *b) = (*a + *b, *a - *b);
            }
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
pub(super) fn encode_bits(residual: &[f32], centre: &[f32], code: &mut [u8]) -> Sums {
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
        code_residual: sum(residual, residual, |x, _| x.abs() * 0.5),
        // The sign of the residual goes onto the centre's component.
        code_centre: sum(residual, centre, |x, c| {
            f32::from_bits(c.to_bits() ^ (x.to_bits() & 0x8000_0000)) * 0.5
        }),
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
    /// The level of one component, a whole number from 0 on.
    #[inline(always)]
    fn level(self, x: f32) -> f32 {
        (x * self.step_inverse + self.half).max(0.0).min(2.0 * self.half - 1.0) as i32 as f32
    }
}

/// Writes one byte per component, its level of `2 * half`, and sums up what the factors need. The
/// vector of the code has `level - half + 0.5` in each component.
#[inline(always)]
pub(super) fn encode_levels(
    residual: &[f32],
    centre: &[f32],
    grid: Grid,
    levels: &mut [u8],
) -> Sums {
    let value = |x| grid.level(x) - grid.half + 0.5;
    for (level, x) in levels.iter_mut().zip(residual) {
        *level = grid.level(*x) as i32 as u8;
    }
    Sums {
        code_squared: sum(residual, residual, |x, _| value(x) * value(x)),
        code_residual: sum(residual, residual, |x, _| value(x) * x),
        code_centre: sum(residual, centre, |x, c| value(x) * c),
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
