//! RaBitQ: codes of 1, 4 or 8 bits per component whose estimates are unbiased and carry a bound.
//!
//! A row is coded as the direction from a centre (of its cell; the origin before there are cells)
//! to the row, after a random rotation. Let `r` be that residual, rotated; its code is a vector `u`
//! of small numbers that points about the same way: the signs of `r`, or the nearest levels of a
//! grid. The inner product of the residual with anything is then estimated by
//!
//! ```text
//! <r, q>  ~  <u, q> * |r|^2 / <u, r>
//! ```
//!
//! which is unbiased over the choice of the rotation, with a standard deviation of
//! `|r| * |q| * sqrt((1 - a^2) / a^2) / sqrt(d - 1)` where `a` is the cosine of `u` and `r`. From
//! it follow cosine, inner product and Euclidean distance alike. Per row, three numbers are stored
//! ([`Factors`]): what to add, what to multiply `<u, q>` with, and the standard deviation. They are
//! for the *raw* query: the part of a cell's centre in `<u, q - centre>` is folded into them, so
//! that one query's tables serve the rows of every cell.
//!
//! - J. Gao, C. Long: *RaBitQ: Quantizing High-Dimensional Vectors with a Theoretical Error Bound
//!   for Approximate Nearest Neighbor Search*, SIGMOD 2024.
//! - J. Gao, Y. Gou, Y. Xu, Y. Yang, C. Long, R. Wong: *Practical and Asymptotically Optimal
//!   Quantization of High-Dimensional Vectors in Euclidean Space for Approximate Nearest Neighbor
//!   Search*, SIGMOD 2025 (more bits per component).
//!
//! # Scores
//! Estimates are in *rank units*, higher is nearer: the cosine, the inner product, or the negated
//! *squared* distance.
//!
//! # Invariants
//! - A row whose factors leave f32, or are too small for it, has an infinite error
//!   ([`Factors::UNKNOWN`]): it is never pruned, whatever it holds.
//! - The same row, centre, origin and seed give the same code and factors on every machine.

mod block;
mod collector;
mod encode;
mod fine;
mod query;
mod shortlist;

pub use block::{BadBlocks, Blocks, block_len, lay_out, pack_block};
pub use collector::{CellCodes, Collector};
pub use encode::{Centre, Codec, Encoder, Factors};
pub use fine::{BadFineCodes, FACTORS_LEN, FineCodes, FineRow};
pub use query::{CONFIDENCE, Estimate, Probe, Query};
pub use shortlist::Shortlist;

/// Bits per component of a code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Bits {
    /// The sign: to scan with, in blocks of 32 rows.
    One,
    /// Sixteen levels: where memory is short.
    Four,
    /// 256 levels: to decide among what the scan found.
    Eight,
}

impl Bits {
    /// Bytes of a code of `padded` components (see [`crate::Rotation::padded`]).
    pub fn code_len(self, padded: usize) -> usize {
        match self {
            Self::One => padded / 8,
            Self::Four => padded / 2,
            Self::Eight => padded,
        }
    }

    /// The error of a rounded query, relative to the length of the query, that the stored error of
    /// a row already contains. A query that is rounded worse than this widens its bounds.
    fn rounding_allowed(self) -> f64 {
        match self {
            Self::One => 0.04,
            Self::Four | Self::Eight => 0.01,
        }
    }
}

#[cfg(test)]
mod collector_tests;
#[cfg(test)]
mod tests;
