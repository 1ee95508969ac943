//! The scan of one-bit codes with AVX-512 and VBMI; everything else is [`super::avx512`]. Called
//! through [`super::Kernels`] only, which checks that the machine has the instructions and that
//! slices have the lengths.
//!
//! Sixty-four bytes of codes are four groups of components. VBMI moves bytes across a whole register:
//! first to put the bytes of a row side by side, then to look up four tables of 16 entries at once.
//! What was found lies four bytes to a row, which VNNI adds up in 32 bits. So nothing is widened,
//! folded or corrected for: eight instructions instead of eleven for each 64 bytes, and none behind
//! the last.

pub(super) use super::avx512::{
    dot_u4, dot_u8, dot_u8_four, fold, hadamard16, panel_sums, prefetch, score_block,
};
use super::avx512::{load, store_sums};
use super::{BLOCK_ROWS, GROUP_BYTES, GROUPS};
use std::arch::x86_64::{
    __m512i, _mm512_dpbusd_epi32, _mm512_permutexvar_epi8, _mm512_set1_epi8, _mm512_setzero_si512,
    _mm512_srli_epi16, _mm512_ternarylogic_epi32,
};

/// Codes that a register holds: those of four groups.
const WIDTH: usize = GROUPS * GROUP_BYTES;

/// Where the byte of a row and a group is taken from, to lie beside the other groups of its row.
const BY_ROW: [u8; WIDTH] = {
    let mut from = [0; WIDTH];
    let mut at = 0;
    while at < WIDTH {
        from[at] = (at % GROUPS * GROUP_BYTES + at / GROUPS) as u8;
        at += 1;
    }
    from
};

/// Which of the four tables in a register the byte of a row and a group looks up: the upper bits of
/// the place of an entry.
const TABLE_OF: [u8; WIDTH] = {
    let mut first = [0; WIDTH];
    let mut at = 0;
    while at < WIDTH {
        first[at] = (at % GROUPS * GROUP_BYTES) as u8;
        at += 1;
    }
    first
};

/// `a | (b & c)`, bit by bit.
const OR_AND: i32 = 0xF8;

/// See [`super::Kernels::block_sums`].
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx512vbmi")]
#[inline]
pub(super) fn block_sums(codes: &[u8], tables: &[u8], sums: &mut [u32; BLOCK_ROWS]) {
    let by_row = load(&BY_ROW);
    add_up(codes, tables, sums, |code| _mm512_permutexvar_epi8(by_row, code));
}

/// The same of codes in [`super::Layout::Rows`], which lie as they are added up.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx512vbmi")]
#[inline]
pub(super) fn block_sums_by_row(codes: &[u8], tables: &[u8], sums: &mut [u32; BLOCK_ROWS]) {
    add_up(codes, tables, sums, |code| code);
}

/// Adds up what codes pick, once `by_row` has put the bytes of each row side by side.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx512vbmi")]
#[inline]
fn add_up(
    codes: &[u8],
    tables: &[u8],
    sums: &mut [u32; BLOCK_ROWS],
    by_row: impl Fn(__m512i) -> __m512i,
) {
    let (table_of, nibble, ones) = (load(&TABLE_OF), _mm512_set1_epi8(15), _mm512_set1_epi8(1));
    let (codes, _) = codes.as_chunks::<WIDTH>();
    let (tables, _) = tables.as_chunks::<WIDTH>();
    let mut totals = [_mm512_setzero_si512(); 2];
    for (code, table) in codes.iter().zip(tables) {
        let (code, table) = (by_row(load(code)), load(table));
        let low = _mm512_ternarylogic_epi32::<OR_AND>(table_of, code, nibble);
        let high = _mm512_srli_epi16::<4>(code);
        let high = _mm512_ternarylogic_epi32::<OR_AND>(table_of, high, nibble);
        totals[0] = _mm512_dpbusd_epi32(totals[0], _mm512_permutexvar_epi8(low, table), ones);
        totals[1] = _mm512_dpbusd_epi32(totals[1], _mm512_permutexvar_epi8(high, table), ones);
    }
    for (sums, total) in sums.as_chunks_mut().0.iter_mut().zip(totals) {
        store_sums(sums, total);
    }
}
