//! The integer kernels with AVX2. Called through [`super::Kernels`] only, which checks that the
//! machine has the instructions and that slices have the lengths.

#![expect(unsafe_code, reason = "loads of registers from arrays; nothing else is unsafe here")]

pub(super) use super::portable::block_sums_by_row;
use super::{
    BLOCK_ROWS, CHUNK_BYTES, FACTOR_BYTES, GROUP_BYTES,
    portable::{Affine, LANES, PANEL},
    rounded::{QUAD, ROWS, Sums},
};
use std::arch::x86_64::{
    __m128i, __m256, __m256i, _CMP_NLT_UQ, _MM_HINT_T0, _mm_add_epi16, _mm_add_epi32, _mm_add_ps,
    _mm_add_ss, _mm_cvtss_f32, _mm_loadu_si128, _mm_movehdup_ps, _mm_movehl_ps, _mm_prefetch,
    _mm_slli_epi16, _mm_storeu_si128, _mm_sub_epi16, _mm_unpackhi_epi16, _mm_unpacklo_epi16,
    _mm256_add_epi16, _mm256_add_epi32, _mm256_add_ps, _mm256_and_si256, _mm256_castps256_ps128,
    _mm256_castsi256_ps, _mm256_castsi256_si128, _mm256_cmp_ps, _mm256_cvtepi8_epi16,
    _mm256_cvtepi32_ps, _mm256_cvtepu8_epi16, _mm256_cvtepu16_epi32, _mm256_extractf128_ps,
    _mm256_extracti128_si256, _mm256_hadd_epi32, _mm256_loadu_ps, _mm256_loadu_si256,
    _mm256_madd_epi16, _mm256_maddubs_epi16, _mm256_movemask_ps, _mm256_mul_ps, _mm256_permute_ps,
    _mm256_permute2f128_ps, _mm256_set1_epi8, _mm256_set1_epi16, _mm256_set1_epi32, _mm256_set1_ps,
    _mm256_setr_ps, _mm256_setzero_si256, _mm256_shuffle_epi8, _mm256_srli_epi16, _mm256_storeu_ps,
    _mm256_storeu_si256, _mm256_sub_epi32, _mm256_sub_ps, _mm256_xor_ps,
};

/// Half of the rows of a block: one register of bytes.
const HALF: usize = BLOCK_ROWS / 2;

#[target_feature(enable = "avx2")]
fn load(bytes: &[u8; 32]) -> __m256i {
    // SAFETY: an array of 32 bytes is readable for 32 bytes, and the load asks for no alignment.
    unsafe { _mm256_loadu_si256(bytes.as_ptr().cast()) }
}

#[target_feature(enable = "avx2")]
fn load_signed(bytes: &[i8; 32]) -> __m256i {
    // SAFETY: an array of 32 bytes is readable for 32 bytes, and the load asks for no alignment.
    unsafe { _mm256_loadu_si256(bytes.as_ptr().cast()) }
}

#[target_feature(enable = "avx2")]
fn load_half(bytes: &[u8; 16]) -> __m128i {
    // SAFETY: an array of 16 bytes is readable for 16 bytes, and the load asks for no alignment.
    unsafe { _mm_loadu_si128(bytes.as_ptr().cast()) }
}

#[target_feature(enable = "avx2")]
fn load_half_signed(bytes: &[i8; 16]) -> __m128i {
    // SAFETY: an array of 16 bytes is readable for 16 bytes, and the load asks for no alignment.
    unsafe { _mm_loadu_si128(bytes.as_ptr().cast()) }
}

/// The eight sums of 32 bits in a register.
#[target_feature(enable = "avx2")]
fn lanes(v: __m256i) -> [u32; 8] {
    let mut out = [0; 8];
    // SAFETY: the array is writable for 32 bytes, and the store asks for no alignment.
    unsafe { _mm256_storeu_si256(out.as_mut_ptr().cast(), v) };
    out
}

/// Adds 16 sums, of which `all` holds the bytes of even rows in the low and those of odd rows in
/// the high half of each 16 bits, and `odd` those of odd rows alone, to `sums`.
#[target_feature(enable = "avx2")]
pub(super) fn add_sums(all: __m128i, odd: __m128i, sums: &mut [u32]) {
    // What `odd` adds to the high byte is taken off again; both wrap, and the rest is exact.
    let even = _mm_sub_epi16(all, _mm_slli_epi16::<8>(odd));
    let halves = [_mm_unpacklo_epi16(even, odd), _mm_unpackhi_epi16(even, odd)];
    for (eight, sums) in halves.into_iter().zip(sums.chunks_exact_mut(8)) {
        for (sum, lane) in sums.iter_mut().zip(lanes(_mm256_cvtepu16_epi32(eight))) {
            *sum += lane;
        }
    }
}

/// See [`super::Kernels::block_sums`].
#[target_feature(enable = "avx2")]
pub(super) fn block_sums(codes: &[u8], tables: &[u8], sums: &mut [u32; BLOCK_ROWS]) {
    *sums = [0; BLOCK_ROWS];
    let nibble = _mm256_set1_epi8(15);
    for (codes, tables) in codes.chunks(CHUNK_BYTES).zip(tables.chunks(CHUNK_BYTES)) {
        let mut all = [_mm256_setzero_si256(); 2];
        let mut odd = [_mm256_setzero_si256(); 2];
        let (codes, _) = codes.as_chunks::<{ 2 * GROUP_BYTES }>();
        let (tables, _) = tables.as_chunks::<{ 2 * GROUP_BYTES }>();
        for (code, table) in codes.iter().zip(tables) {
            let (code, table) = (load(code), load(table));
            let low = _mm256_and_si256(code, nibble);
            let high = _mm256_and_si256(_mm256_srli_epi16::<4>(code), nibble);
            for (half, index) in [low, high].into_iter().enumerate() {
                let picked = _mm256_shuffle_epi8(table, index);
                all[half] = _mm256_add_epi16(all[half], picked);
                odd[half] = _mm256_add_epi16(odd[half], _mm256_srli_epi16::<8>(picked));
            }
        }
        for (half, sums) in sums.chunks_exact_mut(HALF).enumerate() {
            add_sums(fold_halves(all[half]), fold_halves(odd[half]), sums);
        }
    }
}

/// Adds the two 128-bit halves, each 16 bits for itself.
#[target_feature(enable = "avx2")]
pub(super) fn fold_halves(v: __m256i) -> __m128i {
    _mm_add_epi16(_mm256_castsi256_si128(v), _mm256_extracti128_si256::<1>(v))
}

/// The sum of the eight 32-bit lanes.
#[target_feature(enable = "avx2")]
fn total(v: __m256i) -> i32 {
    lanes(v).into_iter().fold(0, i32::wrapping_add_unsigned)
}

/// See [`super::Kernels::dot_u8`]. Products of bytes are widened first: `maddubs` would saturate.
#[target_feature(enable = "avx2")]
pub(super) fn dot_u8(code: &[u8], query: &[i8]) -> i32 {
    let mut sums = [_mm256_setzero_si256(); 2];
    let (code, _) = code.as_chunks::<16>();
    let (query, _) = query.as_chunks::<16>();
    for (code, query) in code.chunks_exact(2).zip(query.chunks_exact(2)) {
        for (sum, (code, query)) in sums.iter_mut().zip(code.iter().zip(query)) {
            let code = _mm256_cvtepu8_epi16(load_half(code));
            let query = _mm256_cvtepi8_epi16(load_half_signed(query));
            *sum = _mm256_add_epi32(*sum, _mm256_madd_epi16(code, query));
        }
    }
    total(_mm256_add_epi32(sums[0], sums[1]))
}

/// The sums of the lanes of each of four registers.
#[target_feature(enable = "avx2")]
pub(super) fn four_totals(sums: [__m256i; 4]) -> [i32; 4] {
    let pairs = [_mm256_hadd_epi32(sums[0], sums[1]), _mm256_hadd_epi32(sums[2], sums[3])];
    let halves = _mm256_hadd_epi32(pairs[0], pairs[1]);
    let upper = _mm256_extracti128_si256::<1>(halves);
    let four = _mm_add_epi32(_mm256_castsi256_si128(halves), upper);
    let mut out = [0; 4];
    // SAFETY: the array is writable for 16 bytes, and the store asks for no alignment.
    unsafe { _mm_storeu_si128(out.as_mut_ptr().cast(), four) };
    out
}

/// Four of [`dot_u8`], which share the widened query.
#[target_feature(enable = "avx2")]
pub(super) fn dot_u8_four(codes: [&[u8]; 4], query: &[i8]) -> [i32; 4] {
    let (query, _) = query.as_chunks::<16>();
    let [a, b, c, d] = codes.map(|code| code.as_chunks::<16>().0);
    let mut sums = [_mm256_setzero_si256(); 4];
    for (query, ((a, b), (c, d))) in query.iter().zip(a.iter().zip(b).zip(c.iter().zip(d))) {
        let query = _mm256_cvtepi8_epi16(load_half_signed(query));
        for (sum, code) in sums.iter_mut().zip([a, b, c, d]) {
            let code = _mm256_cvtepu8_epi16(load_half(code));
            *sum = _mm256_add_epi32(*sum, _mm256_madd_epi16(code, query));
        }
    }
    four_totals(sums)
}

/// See [`super::rounded::panel_sums`]. Two products of 127 and 127 fit 16 bits: nothing saturates.
#[target_feature(enable = "avx2")]
pub(super) fn panel_sums(rows: [&[u8]; ROWS], panel: &[i8], zeros: &[i32; PANEL]) -> Sums {
    let (zeros, _) = zeros.as_chunks::<8>();
    let zeros: [__m256i; PANEL / 8] = std::array::from_fn(|i| load_whole(&zeros[i]));
    let (cells, _) = panel.as_chunks::<32>();
    let ones = _mm256_set1_epi16(1);
    // Two rows at a time: the sums of four would not fit the registers.
    let pair = |a: &[u8], b: &[u8]| {
        let mut sums = [zeros; 2];
        let quads = a.as_chunks::<QUAD>().0.iter().zip(b.as_chunks::<QUAD>().0);
        for (cells, (a, b)) in cells.chunks_exact(PANEL / 8).zip(quads) {
            let quads = [a, b].map(|quad| _mm256_set1_epi32(i32::from_le_bytes(*quad)));
            for (part, cells) in cells.iter().enumerate() {
                let cells = load_signed(cells);
                for (sums, quad) in sums.iter_mut().zip(quads) {
                    let pairs = _mm256_maddubs_epi16(quad, cells);
                    sums[part] = _mm256_add_epi32(sums[part], _mm256_madd_epi16(pairs, ones));
                }
            }
        }
        sums.map(|parts| {
            let mut out = [0; PANEL];
            for (out, part) in out.chunks_exact_mut(8).zip(parts) {
                out.copy_from_slice(&lanes(part).map(u32::cast_signed));
            }
            out
        })
    };
    let ([a, b], [c, d]) = (pair(rows[0], rows[1]), pair(rows[2], rows[3]));
    [a, b, c, d]
}

#[target_feature(enable = "avx2")]
fn load_whole(numbers: &[i32; 8]) -> __m256i {
    // SAFETY: an array of 32 bytes is readable for 32 bytes, and the load asks for no alignment.
    unsafe { _mm256_loadu_si256(numbers.as_ptr().cast()) }
}

/// See [`super::Kernels::dot_u4`]. Two products of 15 and 127 fit 16 bits: nothing saturates.
#[target_feature(enable = "avx2")]
pub(super) fn dot_u4(code: &[u8], query: &[i8]) -> i32 {
    let (nibble, ones) = (_mm256_set1_epi8(15), _mm256_set1_epi16(1));
    let mut sum = _mm256_setzero_si256();
    let (code, _) = code.as_chunks::<32>();
    let (query, _) = query.as_chunks::<32>();
    for (code, query) in code.iter().zip(query.chunks_exact(2)) {
        let code = load(code);
        let low = _mm256_and_si256(code, nibble);
        let high = _mm256_and_si256(_mm256_srli_epi16::<4>(code), nibble);
        for (code, query) in [low, high].into_iter().zip(query) {
            let pairs = _mm256_maddubs_epi16(code, load_signed(query));
            sum = _mm256_add_epi32(sum, _mm256_madd_epi16(pairs, ones));
        }
    }
    total(sum)
}

/// One level of the transform inside a register: `swapped` has the partner of each component, and
/// `signs` a sign bit where the component is the second of its pair.
#[target_feature(enable = "avx2")]
fn butterfly(v: __m256, swapped: __m256, signs: __m256) -> __m256 {
    _mm256_add_ps(swapped, _mm256_xor_ps(v, signs))
}

/// The Walsh-Hadamard transform of eight components.
#[target_feature(enable = "avx2")]
fn hadamard8(v: __m256) -> __m256 {
    let (p, n) = (0.0, -0.0);
    let v = butterfly(v, _mm256_permute_ps::<0xB1>(v), _mm256_setr_ps(p, n, p, n, p, n, p, n));
    let v = butterfly(v, _mm256_permute_ps::<0x4E>(v), _mm256_setr_ps(p, p, n, n, p, p, n, n));
    let swapped = _mm256_permute2f128_ps::<0x01>(v, v);
    butterfly(v, swapped, _mm256_setr_ps(p, p, p, p, n, n, n, n))
}

/// See [`super::portable::hadamard16`].
#[target_feature(enable = "avx2")]
pub(super) fn hadamard16(chunks: &mut [[f32; 16]]) {
    for chunk in chunks {
        let (halves, _) = chunk.as_chunks_mut::<8>();
        let [low, high] = [0, 1].map(|half: usize| hadamard8(load_floats(&halves[half])));
        store_floats(&mut halves[0], _mm256_add_ps(low, high));
        store_floats(&mut halves[1], _mm256_sub_ps(low, high));
    }
}

#[target_feature(enable = "avx2")]
fn load_floats(floats: &[f32; 8]) -> __m256 {
    // SAFETY: an array of 32 bytes is readable for 32 bytes, and the load asks for no alignment.
    unsafe { _mm256_loadu_ps(floats.as_ptr()) }
}

#[target_feature(enable = "avx2")]
fn store_floats(floats: &mut [f32; 8], v: __m256) {
    // SAFETY: the array is writable for 32 bytes, and the store asks for no alignment.
    unsafe { _mm256_storeu_ps(floats.as_mut_ptr(), v) };
}

/// See [`super::portable::fold`].
#[target_feature(enable = "avx2")]
pub(super) fn fold(lanes: &[f32; LANES]) -> f32 {
    let (chunks, _) = lanes.as_chunks::<8>();
    let add = |i: usize, j: usize| _mm256_add_ps(load_floats(&chunks[i]), load_floats(&chunks[j]));
    let sixteen = [_mm256_add_ps(add(0, 4), add(2, 6)), _mm256_add_ps(add(1, 5), add(3, 7))];
    fold8(_mm256_add_ps(sixteen[0], sixteen[1]))
}

/// Folds eight partial sums.
#[target_feature(enable = "avx2")]
pub(super) fn fold8(v: __m256) -> f32 {
    let four = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps::<1>(v));
    let two = _mm_add_ps(four, _mm_movehl_ps(four, four));
    _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)))
}

/// Eight numbers of 32 bits, as they lie in memory.
#[target_feature(enable = "avx2")]
fn load_words(words: &[u32; 8]) -> __m256i {
    // SAFETY: an array of 32 bytes is readable for 32 bytes, and the load asks for no alignment.
    unsafe { _mm256_loadu_si256(words.as_ptr().cast()) }
}

/// See [`super::portable::score_block`].
#[target_feature(enable = "avx2")]
pub(super) fn score_block(
    sums: &[u32; BLOCK_ROWS],
    factors: &[u8; FACTOR_BYTES],
    affine: &Affine,
    threshold: f32,
    estimates: &mut [f32; BLOCK_ROWS],
) -> u32 {
    let (factors, _) = factors.as_chunks::<32>();
    let (sums, _) = sums.as_chunks::<8>();
    let (estimates, _) = estimates.as_chunks_mut::<8>();
    let factor = |which: usize| _mm256_castsi256_ps(load(&factors[which]));
    let mut mask = 0;
    for (part, (sums, out)) in sums.iter().zip(estimates).enumerate() {
        let sums = _mm256_sub_epi32(load_words(sums), _mm256_set1_epi32(affine.zero));
        let product = _mm256_mul_ps(_mm256_cvtepi32_ps(sums), _mm256_set1_ps(affine.unit));
        let scaled = _mm256_add_ps(factor(part), _mm256_mul_ps(factor(4 + part), product));
        let estimate = _mm256_add_ps(_mm256_set1_ps(affine.base), scaled);
        store_floats(out, estimate);
        let margin = _mm256_mul_ps(factor(8 + part), _mm256_set1_ps(affine.reach));
        let bound = _mm256_add_ps(estimate, margin);
        let near = _mm256_cmp_ps::<_CMP_NLT_UQ>(bound, _mm256_set1_ps(threshold));
        mask |= _mm256_movemask_ps(near).cast_unsigned() << (8 * part);
    }
    mask
}

/// Lines of a row that are asked for at most: then the machine sees by itself where it goes on.
const PREFETCH_LINES: usize = 32;

/// Asks memory for a row that is needed soon.
#[target_feature(enable = "avx2")]
pub(super) fn prefetch<T>(row: &[T]) {
    for line in row.chunks((64 / size_of::<T>()).max(1)).take(PREFETCH_LINES) {
        _mm_prefetch::<_MM_HINT_T0>(line.as_ptr().cast());
    }
}
