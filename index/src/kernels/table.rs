//! The tables of [`super`], one per level, and which of them this machine can run. Called by
//! [`super::calls`] only, which checks lengths.

use super::{
    BLOCK_ROWS, FACTOR_BYTES, Layout, Scan,
    portable::{self, Grid, Nearest, Sums},
    rounded::{self, LaneBest, Rounded},
    scalar,
};

#[cfg(target_arch = "aarch64")]
use super::neon;
#[cfg(target_arch = "x86_64")]
use super::{avx2, avx512, vbmi};

/// An instruction set that kernels are compiled for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Level {
    /// What the target always has.
    Scalar,
    /// x86-64 with AVX2.
    Avx2,
    /// x86-64 with AVX-512 F, BW, DQ, VL and VNNI (Cascade Lake and later).
    Avx512,
    /// The same with VBMI (Ice Lake, Zen 4 and later).
    Vbmi,
    /// 64-bit Arm with NEON, which all of them have.
    Neon,
}

/// Scores scattered rows: two operands, which rows, and where to.
type Scattered<A, B, S> = unsafe fn(&[A], &[B], &[u32], &mut [S]);

/// Finds the nearest cells: rows, panels, offsets, and where to.
type NearestOf = unsafe fn(&[f32], &[f32], &[f32], &mut [Nearest]);

/// Finds cells by rounded components: rows, their steps, centroids, and where to.
type LaneBestOf = unsafe fn(&[u8], &[f32], &Rounded<'_>, &mut [LaneBest]);

/// Scans blocks: what is looked for, the blocks, which rows are wanted, and where to.
type ScanOf = unsafe fn(&Scan<'_>, &[u8], &mut [u32], &mut [[f32; BLOCK_ROWS]]);

/// The loops of one level. Every function needs the instructions of the level, and slices of the
/// lengths that the method of the same name on [`Kernels`] asserts.
#[derive(Debug)]
pub(super) struct Table {
    pub(super) rotate: unsafe fn(&mut [f32], &[u32]),
    pub(super) dot: unsafe fn(&[f32], &[f32]) -> f32,
    pub(super) l2_squared: unsafe fn(&[f32], &[f32]) -> f32,
    pub(super) encode_bits: unsafe fn(&[f32], &[f32], &mut [u8]) -> Sums,
    pub(super) encode_levels: unsafe fn(&[f32], &[f32], Grid, &mut [u8]) -> Sums,
    pub(super) nearest: NearestOf,
    pub(super) lane_best: LaneBestOf,
    pub(super) block_sums: unsafe fn(&[u8], &[u8], &mut [u32; BLOCK_ROWS]),
    pub(super) scan_blocks: ScanOf,
    pub(super) dot_rows: Scattered<f32, f32, f32>,
    pub(super) l2_squared_rows: Scattered<f32, f32, f32>,
    pub(super) dot_u8_rows: Scattered<u8, i8, i32>,
    pub(super) dot_u8_all: unsafe fn(&[u8], &[i8], &mut [i32]),
    pub(super) dot_u8: unsafe fn(&[u8], &[i8]) -> i32,
    pub(super) dot_u4: unsafe fn(&[u8], &[i8]) -> i32,
    pub(super) prefetch: unsafe fn(&[u8]),
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
            fn scan_blocks(
                scan: &Scan<'_>,
                blocks: &[u8],
                near: &mut [u32],
                estimates: &mut [[f32; BLOCK_ROWS]],
            ) {
                let len = scan.tables.len() + FACTOR_BYTES;
                let mut rest = blocks;
                for (near, estimates) in near.iter_mut().zip(estimates) {
                    let Some((block, behind)) = rest.split_at_checked(len) else { return };
                    let Some((codes, factors)) = block.split_last_chunk() else { return };
                    rest = behind;
                    if *near != 0 {
                        let mut sums = [0; BLOCK_ROWS];
                        match scan.layout {
                            Layout::Groups => $own::block_sums(codes, scan.tables, &mut sums),
                            Layout::Rows => {
                                $own::block_sums_by_row(codes, scan.tables, &mut sums);
                            }
                        }
                        *near &= $own::score_block(
                            &sums,
                            factors,
                            &scan.affine,
                            scan.threshold,
                            estimates,
                        );
                    }
                }
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
            fn lane_best(
                rows: &[u8],
                steps: &[f32],
                rounded: &Rounded<'_>,
                best: &mut [LaneBest],
            ) {
                rounded::lane_best(rows, steps, rounded, best, |rows, panel, zeros| {
                    $own::panel_sums(rows, panel, zeros)
                });
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
                lane_best,
                block_sums: $own::block_sums,
                scan_blocks,
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
#[cfg(target_arch = "x86_64")]
table!(VBMI, vbmi, "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx512vbmi");
#[cfg(target_arch = "aarch64")]
table!(NEON, neon, "neon");

/// Every level of this machine, the plainest first.
pub(super) fn available() -> Vec<(Level, &'static Table)> {
    let mut all = vec![(Level::Scalar, &SCALAR)];
    #[cfg(target_arch = "x86_64")]
    {
        if std::arch::is_x86_feature_detected!("avx2") {
            all.push((Level::Avx2, &AVX2));
        }
        if has_avx512() {
            all.push((Level::Avx512, &AVX512));
            if std::arch::is_x86_feature_detected!("avx512vbmi") {
                all.push((Level::Vbmi, &VBMI));
            }
        }
    }
    #[cfg(target_arch = "aarch64")]
    if std::arch::is_aarch64_feature_detected!("neon") {
        all.push((Level::Neon, &NEON));
    }
    all
}

/// The fastest level of this machine.
pub(super) fn best() -> (Level, &'static Table) {
    #[cfg(target_arch = "x86_64")]
    {
        if has_avx512() {
            let vbmi = std::arch::is_x86_feature_detected!("avx512vbmi");
            return if vbmi { (Level::Vbmi, &VBMI) } else { (Level::Avx512, &AVX512) };
        }
        if std::arch::is_x86_feature_detected!("avx2") {
            return (Level::Avx2, &AVX2);
        }
    }
    #[cfg(target_arch = "aarch64")]
    if std::arch::is_aarch64_feature_detected!("neon") {
        return (Level::Neon, &NEON);
    }
    (Level::Scalar, &SCALAR)
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
