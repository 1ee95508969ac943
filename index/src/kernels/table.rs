//! The tables of [`super`], one per level, and the checked way to call them.

#![expect(unsafe_code, reason = "calls of functions for instructions that the machine has")]

use super::{
    BLOCK_ROWS, FACTOR_BYTES, GROUP_BYTES,
    portable::{self, Affine, Grid, Nearest, PANEL, Sums},
    scalar,
};

#[cfg(target_arch = "aarch64")]
use super::neon;
#[cfg(target_arch = "x86_64")]
use super::{avx2, avx512};

/// An instruction set that kernels are compiled for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Level {
    /// What the target always has.
    Scalar,
    /// x86-64 with AVX2.
    Avx2,
    /// x86-64 with AVX-512 F, BW, DQ, VL and VNNI (Ice Lake, Zen 4 and later).
    Avx512,
    /// 64-bit Arm with NEON, which all of them have.
    Neon,
}

/// The codes of 32 rows and their factors.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Block<'a> {
    /// See [`Kernels::block_sums`].
    pub(crate) codes: &'a [u8],
    /// What to add, to multiply with, and the error, 32 of each, little-endian.
    pub(crate) factors: &'a [u8; FACTOR_BYTES],
}

/// Scores scattered rows: two operands, which rows, and where to.
type Scattered<A, B, S> = unsafe fn(&[A], &[B], &[u32], &mut [S]);

/// Finds the nearest cells: rows, panels, offsets, and where to.
type NearestOf = unsafe fn(&[f32], &[f32], &[f32], &mut [Nearest]);

/// The loops of one level. Every function needs the instructions of the level, and slices of the
/// lengths that the method of the same name on [`Kernels`] asserts.
#[derive(Debug)]
struct Table {
    rotate: unsafe fn(&mut [f32], &[u32]),
    dot: unsafe fn(&[f32], &[f32]) -> f32,
    l2_squared: unsafe fn(&[f32], &[f32]) -> f32,
    encode_bits: unsafe fn(&[f32], &[f32], &mut [u8]) -> Sums,
    encode_levels: unsafe fn(&[f32], &[f32], Grid, &mut [u8]) -> Sums,
    nearest: NearestOf,
    block_sums: unsafe fn(&[u8], &[u8], &mut [u32; BLOCK_ROWS]),
    scan_block: unsafe fn(Block<'_>, &[u8], &Affine, f32, &mut [f32; BLOCK_ROWS]) -> u32,
    dot_rows: Scattered<f32, f32, f32>,
    l2_squared_rows: Scattered<f32, f32, f32>,
    dot_u8_rows: Scattered<u8, i8, i32>,
    dot_u8_all: unsafe fn(&[u8], &[i8], &mut [i32]),
    dot_u8: unsafe fn(&[u8], &[i8]) -> i32,
    dot_u4: unsafe fn(&[u8], &[i8]) -> i32,
    prefetch: unsafe fn(&[u8]),
}

/// How many rows ahead the memory of scattered rows is asked for.
const AHEAD: usize = 2;

/// Codes of a byte per component that are multiplied at once.
const FOUR: usize = 4;

/// A row of a matrix; empty if none is named.
#[inline(always)]
fn row_of<'a, T>(rows: &'a [T], len: usize, row: Option<&u32>) -> &'a [T] {
    row.map_or(&[], |row| &rows[*row as usize * len..][..len])
}

/// Compiles the portable kernels for a set of instructions and makes a table of them.
macro_rules! table {
    ($name:ident, $own:ident $(, $feature:literal)?) => {
        static $name: Table = {
            $(#[target_feature(enable = $feature)])?
            fn rotate(v: &mut [f32], signs: &[u32]) {
                portable::rotate(v, signs, |chunks| $own::hadamard16(chunks));
            }
            $(#[target_feature(enable = $feature)])?
            fn dot(a: &[f32], b: &[f32]) -> f32 {
                $own::fold(&portable::dot(a, b))
            }
            $(#[target_feature(enable = $feature)])?
            fn l2_squared(a: &[f32], b: &[f32]) -> f32 {
                $own::fold(&portable::l2_squared(a, b))
            }
            $(#[target_feature(enable = $feature)])?
            fn encode_bits(residual: &[f32], centre: &[f32], code: &mut [u8]) -> Sums {
                portable::encode_bits(residual, centre, code, |lanes| $own::fold(lanes))
            }
            $(#[target_feature(enable = $feature)])?
            fn encode_levels(r: &[f32], c: &[f32], grid: Grid, levels: &mut [u8]) -> Sums {
                portable::encode_levels(r, c, grid, levels, |lanes| $own::fold(lanes))
            }
            $(#[target_feature(enable = $feature)])?
            fn scan_block(
                block: Block<'_>,
                tables: &[u8],
                affine: &Affine,
                threshold: f32,
                estimates: &mut [f32; BLOCK_ROWS],
            ) -> u32 {
                let mut sums = [0; BLOCK_ROWS];
                $own::block_sums(block.codes, tables, &mut sums);
                $own::score_block(&sums, block.factors, affine, threshold, estimates)
            }
            $(#[target_feature(enable = $feature)])?
            fn dot_rows(query: &[f32], rows: &[f32], wanted: &[u32], out: &mut [f32]) {
                for (at, out) in out.iter_mut().enumerate() {
                    $own::prefetch(row_of(rows, query.len(), wanted.get(at + AHEAD)));
                    *out = dot(query, row_of(rows, query.len(), wanted.get(at)));
                }
            }
            $(#[target_feature(enable = $feature)])?
            fn l2_squared_rows(query: &[f32], rows: &[f32], wanted: &[u32], out: &mut [f32]) {
                for (at, out) in out.iter_mut().enumerate() {
                    $own::prefetch(row_of(rows, query.len(), wanted.get(at + AHEAD)));
                    *out = l2_squared(query, row_of(rows, query.len(), wanted.get(at)));
                }
            }
            $(#[target_feature(enable = $feature)])?
            fn dot_u8_rows(codes: &[u8], query: &[i8], wanted: &[u32], out: &mut [i32]) {
                for (group, out) in out.chunks_mut(FOUR).enumerate() {
                    let row = |at: usize| {
                        row_of(codes, query.len(), wanted.get(group * FOUR + at))
                    };
                    for at in FOUR..2 * FOUR {
                        $own::prefetch(row(at));
                    }
                    if out.len() == FOUR {
                        let products = $own::dot_u8_four([row(0), row(1), row(2), row(3)], query);
                        out.copy_from_slice(&products);
                    } else {
                        for (at, out) in out.iter_mut().enumerate() {
                            *out = $own::dot_u8(row(at), query);
                        }
                    }
                }
            }
            $(#[target_feature(enable = $feature)])?
            fn dot_u8_all(codes: &[u8], query: &[i8], out: &mut [i32]) {
                for (codes, out) in codes.chunks(FOUR * query.len()).zip(out.chunks_mut(FOUR)) {
                    let row = |at: usize| &codes[at * query.len()..][..query.len()];
                    if out.len() == FOUR {
                        let products = $own::dot_u8_four([row(0), row(1), row(2), row(3)], query);
                        out.copy_from_slice(&products);
                    } else {
                        for (at, out) in out.iter_mut().enumerate() {
                            *out = $own::dot_u8(row(at), query);
                        }
                    }
                }
            }
            $(#[target_feature(enable = $feature)])?
            fn nearest(rows: &[f32], panels: &[f32], offsets: &[f32], best: &mut [Nearest]) {
                portable::nearest(rows, panels, offsets, best);
            }
            $(#[target_feature(enable = $feature)])?
            fn prefetch(bytes: &[u8]) {
                $own::prefetch(bytes);
            }
            Table {
                rotate,
                dot,
                l2_squared,
                encode_bits,
                encode_levels,
                nearest,
                block_sums: $own::block_sums,
                scan_block,
                dot_rows,
                l2_squared_rows,
                dot_u8_rows,
                dot_u8_all,
                dot_u8: $own::dot_u8,
                dot_u4: $own::dot_u4,
                prefetch,
            }
        };
    };
}

table!(SCALAR, scalar);
#[cfg(target_arch = "x86_64")]
table!(AVX2, avx2, "avx2");
#[cfg(target_arch = "x86_64")]
table!(AVX512, avx512, "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni");
#[cfg(target_arch = "aarch64")]
table!(NEON, neon, "neon");

/// The kernels of one level that this machine can run.
///
/// ```
/// use akidb_index::Kernels;
/// let kernels = Kernels::best();
/// assert_eq!(kernels.dot(&[1.0, 2.0], &[3.0, 4.0]), 11.0);
/// assert_eq!(kernels.dot_u8(&[255; 64], &[-1; 64]), -255 * 64);
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Kernels {
    level: Level,
    table: &'static Table,
}

impl Kernels {
    /// The fastest level of this machine.
    pub fn best() -> Self {
        #[cfg(target_arch = "x86_64")]
        {
            if has_avx512() {
                return Self { level: Level::Avx512, table: &AVX512 };
            }
            if std::arch::is_x86_feature_detected!("avx2") {
                return Self { level: Level::Avx2, table: &AVX2 };
            }
        }
        #[cfg(target_arch = "aarch64")]
        if std::arch::is_aarch64_feature_detected!("neon") {
            return Self { level: Level::Neon, table: &NEON };
        }
        Self { level: Level::Scalar, table: &SCALAR }
    }

    /// Every level of this machine, the plainest first.
    pub fn available() -> Vec<Self> {
        let mut all = vec![Self { level: Level::Scalar, table: &SCALAR }];
        #[cfg(target_arch = "x86_64")]
        {
            if std::arch::is_x86_feature_detected!("avx2") {
                all.push(Self { level: Level::Avx2, table: &AVX2 });
            }
            if has_avx512() {
                all.push(Self { level: Level::Avx512, table: &AVX512 });
            }
        }
        #[cfg(target_arch = "aarch64")]
        if std::arch::is_aarch64_feature_detected!("neon") {
            all.push(Self { level: Level::Neon, table: &NEON });
        }
        all
    }

    /// The level.
    pub fn level(self) -> Level {
        self.level
    }

    /// The inner product of two vectors, in an order of sums that every level shares. Infinite or
    /// NaN if a sum leaves the range of f32.
    ///
    /// # Panics
    /// If the lengths differ, which is a bug of the caller.
    pub fn dot(self, a: &[f32], b: &[f32]) -> f32 {
        assert_eq!(a.len(), b.len(), "kernels take vectors of one length");
        // SAFETY: the machine has the level's instructions, or this table could not be had.
        unsafe { (self.table.dot)(a, b) }
    }

    /// The squared Euclidean distance of two vectors, in an order of sums that every level shares.
    /// Infinite if a sum leaves the range of f32.
    ///
    /// # Panics
    /// If the lengths differ, which is a bug of the caller.
    pub fn l2_squared(self, a: &[f32], b: &[f32]) -> f32 {
        assert_eq!(a.len(), b.len(), "kernels take vectors of one length");
        // SAFETY: the machine has the level's instructions, or this table could not be had.
        unsafe { (self.table.l2_squared)(a, b) }
    }

    /// The inner products of a query with scattered rows of a matrix, the next rows asked of memory
    /// while one is summed. Row `wanted[i]` of `rows` goes to `out[i]`; each is what
    /// [`Self::dot`] gives.
    ///
    /// # Panics
    /// If `out` is not as long as `wanted`, or a wanted row is not in `rows`: bugs of the caller.
    pub fn dot_rows(self, query: &[f32], rows: &[f32], wanted: &[u32], out: &mut [f32]) {
        assert_eq!(wanted.len(), out.len(), "each wanted row has its place");
        // SAFETY: the machine has the level's instructions, or this table could not be had.
        unsafe { (self.table.dot_rows)(query, rows, wanted, out) }
    }

    /// The squared distances of a query to scattered rows of a matrix: see [`Self::dot_rows`].
    ///
    /// # Panics
    /// Like [`Self::dot_rows`].
    pub fn l2_squared_rows(self, query: &[f32], rows: &[f32], wanted: &[u32], out: &mut [f32]) {
        assert_eq!(wanted.len(), out.len(), "each wanted row has its place");
        // SAFETY: the machine has the level's instructions, or this table could not be had.
        unsafe { (self.table.l2_squared_rows)(query, rows, wanted, out) }
    }

    /// [`Self::dot_u8`] of a query with scattered codes, which lie one behind the other in `codes`:
    /// see [`Self::dot_rows`].
    ///
    /// # Panics
    /// Like [`Self::dot_rows`] and [`Self::dot_u8`].
    pub fn dot_u8_rows(self, codes: &[u8], query: &[i8], wanted: &[u32], out: &mut [i32]) {
        assert_eq!(wanted.len(), out.len(), "each wanted row has its place");
        assert_eq!(query.len() % 64, 0, "codes have whole words of 64 components");
        // SAFETY: the machine has the level's instructions, or this table could not be had.
        unsafe { (self.table.dot_u8_rows)(codes, query, wanted, out) }
    }

    /// [`Self::dot_u8`] of a query with each of the codes, which lie one behind the other.
    ///
    /// # Panics
    /// If there is not a place in `out` for each code, or like [`Self::dot_u8`].
    pub fn dot_u8_all(self, codes: &[u8], query: &[i8], out: &mut [i32]) {
        assert_eq!(codes.len(), query.len() * out.len(), "each code has its place");
        assert!(is_padded(query), "codes have whole words of 64 components");
        // SAFETY: the machine has the level's instructions, or this table could not be had.
        unsafe { (self.table.dot_u8_all)(codes, query, out) }
    }

    /// FastScan: adds up, for each of 32 rows, the table entries that its code picks.
    ///
    /// `codes` holds 16 bytes per group of four components: byte `j` has the four bits of row `j`
    /// below and those of row `16 + j` above. `tables` holds 16 sums per group, one per value of
    /// the four bits, each at most 248.
    ///
    /// # Panics
    /// If the lengths differ or are no multiple of 256 (64 components), which is a bug of the
    /// caller.
    pub fn block_sums(self, codes: &[u8], tables: &[u8], sums: &mut [u32; BLOCK_ROWS]) {
        assert_eq!(codes.len(), tables.len(), "a table belongs to codes of one dimension");
        assert_eq!(codes.len() % (16 * GROUP_BYTES), 0, "codes have whole words of 64 components");
        // SAFETY: the machine has the level's instructions, or this table could not be had.
        unsafe { (self.table.block_sums)(codes, tables, sums) }
    }

    /// The sum of `code[i] * query[i]`: a code of one byte per component.
    ///
    /// # Panics
    /// If the lengths differ or are no multiple of 64, which is a bug of the caller.
    pub fn dot_u8(self, code: &[u8], query: &[i8]) -> i32 {
        assert_eq!(code.len(), query.len(), "kernels take vectors of one length");
        assert_eq!(code.len() % 64, 0, "codes have whole words of 64 components");
        // SAFETY: the machine has the level's instructions, or this table could not be had.
        unsafe { (self.table.dot_u8)(code, query) }
    }

    /// The sum of the products of a code of half a byte per component and a query. Each 32 bytes
    /// hold 64 components: the first 32 in the low halves, the next 32 in the high ones.
    ///
    /// # Panics
    /// If the query is not twice as long as the code or no multiple of 64, which is a bug of the
    /// caller.
    pub fn dot_u4(self, code: &[u8], query: &[i8]) -> i32 {
        assert_eq!(code.len() * 2, query.len(), "kernels take vectors of one length");
        assert_eq!(query.len() % 64, 0, "codes have whole words of 64 components");
        // SAFETY: the machine has the level's instructions, or this table could not be had.
        unsafe { (self.table.dot_u4)(code, query) }
    }

    /// Estimates the scores of a block; see `portable::score_block` for the answer.
    ///
    /// # Panics
    /// Like [`Self::block_sums`].
    pub(crate) fn scan_block(
        self,
        block: Block<'_>,
        tables: &[u8],
        affine: &Affine,
        threshold: f32,
        estimates: &mut [f32; BLOCK_ROWS],
    ) -> u32 {
        assert_eq!(block.codes.len(), tables.len(), "a table belongs to codes of one dimension");
        assert_eq!(tables.len() % (16 * GROUP_BYTES), 0, "codes have whole words of 64 components");
        // SAFETY: the machine has the level's instructions, or this table could not be had.
        unsafe { (self.table.scan_block)(block, tables, affine, threshold, estimates) }
    }

    /// The nearest cell of each row: see `portable::nearest`.
    ///
    /// # Panics
    /// If there is no cell, or the lengths do not fit each other: bugs of the caller.
    pub(crate) fn nearest(
        self,
        rows: &[f32],
        panels: &[f32],
        offsets: &[f32],
        best: &mut [Nearest],
    ) {
        assert!(!offsets.is_empty() && offsets.len().is_multiple_of(PANEL), "panels are full");
        assert_eq!(panels.len() % offsets.len(), 0, "a panel has whole centroids");
        assert_eq!(rows.len(), best.len() * (panels.len() / offsets.len()), "a row has a place");
        // SAFETY: the machine has the level's instructions, or this table could not be had.
        unsafe { (self.table.nearest)(rows, panels, offsets, best) }
    }

    /// See [`crate::Rotation::apply`], which checks the lengths.
    pub(crate) fn rotate(self, v: &mut [f32], signs: &[u32]) {
        // SAFETY: the machine has the level's instructions, or this table could not be had.
        unsafe { (self.table.rotate)(v, signs) }
    }

    /// Asks memory for bytes that are needed soon; the first 2 KiB of them, behind which the machine
    /// sees by itself where it goes on.
    pub(crate) fn prefetch(self, bytes: &[u8]) {
        // SAFETY: the machine has the level's instructions, or this table could not be had.
        unsafe { (self.table.prefetch)(bytes) }
    }

    /// One bit per component of a residual, and the sums for its factors.
    pub(crate) fn encode_bits(self, residual: &[f32], centre: &[f32], code: &mut [u8]) -> Sums {
        // SAFETY: the machine has the level's instructions, or this table could not be had.
        unsafe { (self.table.encode_bits)(residual, centre, code) }
    }

    /// One byte per component of a residual, its level on the grid, and the sums for its factors.
    pub(crate) fn encode_levels(
        self,
        residual: &[f32],
        centre: &[f32],
        grid: Grid,
        levels: &mut [u8],
    ) -> Sums {
        // SAFETY: the machine has the level's instructions, or this table could not be had.
        unsafe { (self.table.encode_levels)(residual, centre, grid, levels) }
    }
}

/// True for the components of a code, which are whole words.
fn is_padded(query: &[i8]) -> bool {
    !query.is_empty() && query.len().is_multiple_of(crate::PAD)
}

/// True if the machine has every instruction of [`Level::Avx512`].
#[cfg(target_arch = "x86_64")]
fn has_avx512() -> bool {
    std::arch::is_x86_feature_detected!("avx512f")
        && std::arch::is_x86_feature_detected!("avx512bw")
        && std::arch::is_x86_feature_detected!("avx512dq")
        && std::arch::is_x86_feature_detected!("avx512vl")
        && std::arch::is_x86_feature_detected!("avx512vnni")
}
