//! The inner loops of search, chosen once for the machine: a table of functions per instruction set.
//!
//! # Protocol
//! A query asks [`Kernels::best`] once and keeps the table; an inner loop then costs one indirect
//! call for many rows. [`Kernels::available`] lists every level that this machine can run, slowest
//! first, for tests and benches.
//!
//! # Invariants
//! - Every level gives the same result for the same input, bit for bit: integer sums are exact,
//!   floating-point sums follow one order (see `portable`). So the answer of a search, its recall
//!   and codes on disk do not depend on the host.
//! - A table can be reached only on a machine that has its instructions: its fields are private and
//!   [`Kernels::available`] asks the processor. That is what makes the calls below sound.
//! - Slices of wrong lengths are refused here, so that no level can read out of bounds.

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
mod calls;
#[cfg(target_arch = "aarch64")]
mod neon;
pub(crate) mod portable;
pub(crate) mod rounded;
mod scalar;
mod table;
#[cfg(target_arch = "x86_64")]
mod vbmi;

pub use calls::Kernels;
pub use table::Level;

/// Rows of one block of one-bit codes.
pub const BLOCK_ROWS: usize = 32;
/// Bytes that four components of a block's rows take, and that their table of sums takes.
pub(crate) const GROUP_BYTES: usize = 16;
/// Groups whose bytes lie together in [`Layout::Rows`]: as many as make up a register.
pub(crate) const GROUPS: usize = 4;
/// Bytes of the factors of a block: three numbers of 32 bits per row.
pub(crate) const FACTOR_BYTES: usize = 3 * 4 * BLOCK_ROWS;
/// Groups whose sums fit 16 bits: 256 times at most 248.
pub(crate) const CHUNK_BYTES: usize = 256 * GROUP_BYTES;

/// How the codes of a block lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Layout {
    /// As in files: the bytes of all rows for one group of four components, then those for the next.
    /// Every level reads it well.
    Groups,
    /// For memory only: the bytes of one row for four groups, then those of the next row. Saves
    /// [`Level::Vbmi`] a permutation of each register; other levels read it a byte at a time.
    Rows,
}

impl Layout {
    /// Where the byte of a group lies that row `column` of 16 has its half in.
    pub(crate) fn place(self, group: usize, column: usize) -> usize {
        let four = group / GROUPS * (GROUPS * GROUP_BYTES);
        match self {
            Self::Groups => group * GROUP_BYTES + column,
            Self::Rows => four + column * GROUPS + group % GROUPS,
        }
    }
}

/// What a scan of blocks looks for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Scan<'a> {
    /// Sums of the query: see [`Kernels::block_sums`].
    pub(crate) tables: &'a [u8],
    /// What turns sums into scores.
    pub(crate) affine: portable::Affine,
    /// A row whose upper bound is below this is not looked for.
    pub(crate) threshold: f32,
    /// How the codes lie.
    pub(crate) layout: Layout,
}

/// The plain definitions that the tests compare every level with.
#[cfg(test)]
pub(crate) mod scalar_reference {
    /// The inner product, summed in f64.
    pub(crate) fn dot(a: &[f32], b: &[f32]) -> f64 {
        crate::kernel::scalar::dot(a, b)
    }
}

#[cfg(test)]
mod tests;
