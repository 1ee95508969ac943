//! The integer kernels with AVX-512 and VNNI. Called through [`super::Kernels`] only, which checks
//! that the machine has the instructions and that slices have the lengths.

#![expect(unsafe_code, reason = "loads of registers from arrays; nothing else is unsafe here")]

use super::{
    BLOCK_ROWS, CHUNK_BYTES, FACTOR_BYTES, GROUP_BYTES,
    avx2::{add_sums, fold_halves, fold8, four_totals},
    portable::{Affine, LANES, PANEL},
    rounded::{QUAD, ROWS, Sums},
};
use std::arch::x86_64::{
    __m256i, __m512, __m512i, _CMP_NLT_UQ, _mm256_add_epi16, _mm256_add_epi32, _mm256_add_ps,
    _mm256_and_si256, _mm256_loadu_si256, _mm256_set1_epi8, _mm256_srli_epi16, _mm512_add_epi16,
    _mm512_add_epi32, _mm512_add_ps, _mm512_and_si512, _mm512_castps512_ps256,
    _mm512_castsi256_si512, _mm512_castsi512_ps, _mm512_castsi512_si256, _mm512_cmp_ps_mask,
    _mm512_cvtepi32_ps, _mm512_dpbusd_epi32, _mm512_extractf32x8_ps, _mm512_extracti64x4_epi64,
    _mm512_inserti64x4, _mm512_loadu_ps, _mm512_loadu_si512, _mm512_mask_sub_ps, _mm512_mul_ps,
    _mm512_permute_ps, _mm512_reduce_add_epi32, _mm512_set1_epi8, _mm512_set1_epi32,
    _mm512_set1_ps, _mm512_setzero_si512, _mm512_shuffle_epi8, _mm512_shuffle_f32x4,
    _mm512_srli_epi16, _mm512_storeu_ps, _mm512_storeu_si512, _mm512_sub_epi32,
};

pub(super) use super::avx2::{block_sums_by_row, prefetch};

/// Half of the rows of a block.
const HALF: usize = BLOCK_ROWS / 2;

/// Sixty-four bytes, as they lie in memory.
#[target_feature(enable = "avx512f")]
pub(super) fn load(bytes: &[u8; 64]) -> __m512i {
    // SAFETY: an array of 64 bytes is readable for 64 bytes, and the load asks for no alignment.
    unsafe { _mm512_loadu_si512(bytes.as_ptr().cast()) }
}

#[target_feature(enable = "avx512f")]
fn load_signed(bytes: &[i8; 64]) -> __m512i {
    // SAFETY: an array of 64 bytes is readable for 64 bytes, and the load asks for no alignment.
    unsafe { _mm512_loadu_si512(bytes.as_ptr().cast()) }
}

#[target_feature(enable = "avx512f")]
fn load_half(bytes: &[u8; 32]) -> __m256i {
    // SAFETY: an array of 32 bytes is readable for 32 bytes, and the load asks for no alignment.
    unsafe { _mm256_loadu_si256(bytes.as_ptr().cast()) }
}

/// See [`super::Kernels::block_sums`].
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
pub(super) fn block_sums(codes: &[u8], tables: &[u8], sums: &mut [u32; BLOCK_ROWS]) {
    *sums = [0; BLOCK_ROWS];
    let nibble = _mm512_set1_epi8(15);
    for (codes, tables) in codes.chunks(CHUNK_BYTES).zip(tables.chunks(CHUNK_BYTES)) {
        let mut all = [_mm512_setzero_si512(); 2];
        let mut odd = [_mm512_setzero_si512(); 2];
        let (codes, _) = codes.as_chunks::<{ 4 * GROUP_BYTES }>();
        let (tables, _) = tables.as_chunks::<{ 4 * GROUP_BYTES }>();
        for (code, table) in codes.iter().zip(tables) {
            let (code, table) = (load(code), load(table));
            let low = _mm512_and_si512(code, nibble);
            let high = _mm512_and_si512(_mm512_srli_epi16::<4>(code), nibble);
            for (half, index) in [low, high].into_iter().enumerate() {
                let picked = _mm512_shuffle_epi8(table, index);
                all[half] = _mm512_add_epi16(all[half], picked);
                odd[half] = _mm512_add_epi16(odd[half], _mm512_srli_epi16::<8>(picked));
            }
        }
        for (half, sums) in sums.chunks_exact_mut(HALF).enumerate() {
            let (all, odd) = (fold_quarters(all[half]), fold_quarters(odd[half]));
            add_sums(fold_halves(all), fold_halves(odd), sums);
        }
    }
}

/// Adds the two 256-bit halves, each 16 bits for itself.
#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
fn fold_quarters(v: __m512i) -> __m256i {
    _mm256_add_epi16(_mm512_castsi512_si256(v), _mm512_extracti64x4_epi64::<1>(v))
}

/// See [`super::Kernels::dot_u8`].
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
pub(super) fn dot_u8(code: &[u8], query: &[i8]) -> i32 {
    let mut sums = [_mm512_setzero_si512(); 2];
    let (code, _) = code.as_chunks::<64>();
    let (query, _) = query.as_chunks::<64>();
    // Two sums: the latency of one product-and-add is twice what the ports can start.
    for (i, (code, query)) in code.iter().zip(query).enumerate() {
        sums[i % 2] = _mm512_dpbusd_epi32(sums[i % 2], load(code), load_signed(query));
    }
    _mm512_reduce_add_epi32(_mm512_add_epi32(sums[0], sums[1]))
}

/// Four of [`dot_u8`], which share the loads of the query and the sums across registers.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
pub(super) fn dot_u8_four(codes: [&[u8]; 4], query: &[i8]) -> [i32; 4] {
    let (query, _) = query.as_chunks::<64>();
    let [a, b, c, d] = codes.map(|code| code.as_chunks::<64>().0);
    let mut sums = [_mm512_setzero_si512(); 4];
    for (query, ((a, b), (c, d))) in query.iter().zip(a.iter().zip(b).zip(c.iter().zip(d))) {
        let query = load_signed(query);
        for (sum, code) in sums.iter_mut().zip([a, b, c, d]) {
            *sum = _mm512_dpbusd_epi32(*sum, load(code), query);
        }
    }
    four_totals(sums.map(|sum| {
        let upper = _mm512_extracti64x4_epi64::<1>(sum);
        _mm256_add_epi32(_mm512_castsi512_si256(sum), upper)
    }))
}

/// See [`super::rounded::panel_sums`].
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
pub(super) fn panel_sums(rows: [&[u8]; ROWS], panel: &[i8], zeros: &[i32; PANEL]) -> Sums {
    let (low, high) = zeros.split_at(PANEL / 2);
    let zeros = [low, high].map(|half| load_whole(half.first_chunk().unwrap_or(&[0; 16])));
    let mut sums = [zeros; ROWS];
    let [a, b, c, d] = rows.map(|row| row.as_chunks::<QUAD>().0);
    let (cells, _) = panel.as_chunks::<{ PANEL * QUAD / 2 }>();
    let quads = a.iter().zip(b).zip(c.iter().zip(d));
    for (cells, ((a, b), (c, d))) in cells.chunks_exact(2).zip(quads) {
        let cells = [load_signed(&cells[0]), load_signed(&cells[1])];
        for (sums, quad) in sums.iter_mut().zip([a, b, c, d]) {
            let quad = _mm512_set1_epi32(i32::from_le_bytes(*quad));
            sums[0] = _mm512_dpbusd_epi32(sums[0], quad, cells[0]);
            sums[1] = _mm512_dpbusd_epi32(sums[1], quad, cells[1]);
        }
    }
    sums.map(|halves| {
        let mut out = [0; PANEL];
        for (out, half) in out.as_chunks_mut::<16>().0.iter_mut().zip(halves) {
            store_whole(out, half);
        }
        out
    })
}

#[target_feature(enable = "avx512f")]
fn load_whole(numbers: &[i32; 16]) -> __m512i {
    // SAFETY: an array of 64 bytes is readable for 64 bytes, and the load asks for no alignment.
    unsafe { _mm512_loadu_si512(numbers.as_ptr().cast()) }
}

/// The lanes of a register, as sums that are never negative.
#[target_feature(enable = "avx512f")]
pub(super) fn store_sums(sums: &mut [u32; 16], v: __m512i) {
    // SAFETY: the array is writable for 64 bytes, and the store asks for no alignment.
    unsafe { _mm512_storeu_si512(sums.as_mut_ptr().cast(), v) };
}

#[target_feature(enable = "avx512f")]
fn store_whole(numbers: &mut [i32; 16], v: __m512i) {
    // SAFETY: the array is writable for 64 bytes, and the store asks for no alignment.
    unsafe { _mm512_storeu_si512(numbers.as_mut_ptr().cast(), v) };
}

/// See [`super::Kernels::dot_u4`].
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
pub(super) fn dot_u4(code: &[u8], query: &[i8]) -> i32 {
    let nibble = _mm256_set1_epi8(15);
    let mut sum = _mm512_setzero_si512();
    let (code, _) = code.as_chunks::<32>();
    let (query, _) = query.as_chunks::<64>();
    for (code, query) in code.iter().zip(query) {
        let code = load_half(code);
        let low = _mm256_and_si256(code, nibble);
        let high = _mm256_and_si256(_mm256_srli_epi16::<4>(code), nibble);
        let levels = _mm512_inserti64x4::<1>(_mm512_castsi256_si512(low), high);
        sum = _mm512_dpbusd_epi32(sum, levels, load_signed(query));
    }
    _mm512_reduce_add_epi32(sum)
}

/// One level of the transform inside a register: `swapped` has the partner of each component, and
/// `SECOND` a bit for each component that is the second of its pair.
#[target_feature(enable = "avx512f")]
fn butterfly<const SECOND: u16>(v: __m512, swapped: __m512) -> __m512 {
    _mm512_mask_sub_ps(_mm512_add_ps(v, swapped), SECOND, swapped, v)
}

/// See [`super::portable::hadamard16`].
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
pub(super) fn hadamard16(chunks: &mut [[f32; 16]]) {
    for chunk in chunks {
        let v = load_floats(chunk);
        let v = butterfly::<0xAAAA>(v, _mm512_permute_ps::<0xB1>(v));
        let v = butterfly::<0xCCCC>(v, _mm512_permute_ps::<0x4E>(v));
        let v = butterfly::<0xF0F0>(v, _mm512_shuffle_f32x4::<0xB1>(v, v));
        let v = butterfly::<0xFF00>(v, _mm512_shuffle_f32x4::<0x4E>(v, v));
        store_floats(chunk, v);
    }
}

#[target_feature(enable = "avx512f")]
fn load_floats(floats: &[f32; 16]) -> __m512 {
    // SAFETY: an array of 64 bytes is readable for 64 bytes, and the load asks for no alignment.
    unsafe { _mm512_loadu_ps(floats.as_ptr()) }
}

#[target_feature(enable = "avx512f")]
fn store_floats(floats: &mut [f32; 16], v: __m512) {
    // SAFETY: the array is writable for 64 bytes, and the store asks for no alignment.
    unsafe { _mm512_storeu_ps(floats.as_mut_ptr(), v) };
}

/// See [`super::portable::fold`].
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
pub(super) fn fold(lanes: &[f32; LANES]) -> f32 {
    let (chunks, _) = lanes.as_chunks::<16>();
    let add = |i: usize, j: usize| _mm512_add_ps(load_floats(&chunks[i]), load_floats(&chunks[j]));
    let sixteen = _mm512_add_ps(add(0, 2), add(1, 3));
    let upper = _mm512_extractf32x8_ps::<1>(sixteen);
    fold8(_mm256_add_ps(_mm512_castps512_ps256(sixteen), upper))
}

/// Sixteen numbers of 32 bits, as they lie in memory.
#[target_feature(enable = "avx512f")]
fn load_words(words: &[u32; 16]) -> __m512i {
    // SAFETY: an array of 64 bytes is readable for 64 bytes, and the load asks for no alignment.
    unsafe { _mm512_loadu_si512(words.as_ptr().cast()) }
}

/// See [`super::portable::score_block`].
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
pub(super) fn score_block(
    sums: &[u32; BLOCK_ROWS],
    factors: &[u8; FACTOR_BYTES],
    affine: &Affine,
    threshold: f32,
    estimates: &mut [f32; BLOCK_ROWS],
) -> u32 {
    let (factors, _) = factors.as_chunks::<64>();
    let (sums, _) = sums.as_chunks::<16>();
    let (estimates, _) = estimates.as_chunks_mut::<16>();
    let factor = |which: usize| _mm512_castsi512_ps(load(&factors[which]));
    let mut mask = 0;
    for (half, (sums, out)) in sums.iter().zip(estimates).enumerate() {
        let sums = _mm512_sub_epi32(load_words(sums), _mm512_set1_epi32(affine.zero));
        let product = _mm512_mul_ps(_mm512_cvtepi32_ps(sums), _mm512_set1_ps(affine.unit));
        let scaled = _mm512_add_ps(factor(half), _mm512_mul_ps(factor(2 + half), product));
        let estimate = _mm512_add_ps(_mm512_set1_ps(affine.base), scaled);
        store_floats(out, estimate);
        let margin = _mm512_mul_ps(factor(4 + half), _mm512_set1_ps(affine.reach));
        let bound = _mm512_add_ps(estimate, margin);
        let near = _mm512_cmp_ps_mask::<_CMP_NLT_UQ>(bound, _mm512_set1_ps(threshold));
        mask |= u32::from(near) << (16 * half);
    }
    mask
}
