//! The integer kernels with NEON. Called through [`super::Kernels`] only, which checks that slices
//! have the lengths.

#![expect(unsafe_code, reason = "loads of registers from arrays; nothing else is unsafe here")]

use super::{BLOCK_ROWS, CHUNK_BYTES, GROUP_BYTES};
pub(super) use super::{
    portable::{block_sums_by_row, fold, hadamard16, prefetch, score_block},
    rounded::panel_sums,
};
use std::arch::aarch64::{
    int8x16_t, int32x4_t, uint8x16_t, vaddq_s32, vaddvq_s32, vaddw_high_u8, vaddw_u8, vandq_u8,
    vdupq_n_s32, vdupq_n_u8, vdupq_n_u16, vget_high_s16, vget_low_s8, vget_low_s16, vget_low_u8,
    vld1q_s8, vld1q_u8, vmlal_s16, vmovl_high_s8, vmovl_high_u8, vmovl_s8, vmovl_u8, vqtbl1q_u8,
    vreinterpretq_s16_u16, vshrq_n_u8, vst1q_u16,
};

#[target_feature(enable = "neon")]
fn load(bytes: &[u8; 16]) -> uint8x16_t {
    // SAFETY: an array of 16 bytes is readable for 16 bytes.
    unsafe { vld1q_u8(bytes.as_ptr()) }
}

#[target_feature(enable = "neon")]
fn load_signed(bytes: &[i8; 16]) -> int8x16_t {
    // SAFETY: an array of 16 bytes is readable for 16 bytes.
    unsafe { vld1q_s8(bytes.as_ptr()) }
}

/// See [`super::Kernels::block_sums`].
#[target_feature(enable = "neon")]
pub(super) fn block_sums(codes: &[u8], tables: &[u8], sums: &mut [u32; BLOCK_ROWS]) {
    *sums = [0; BLOCK_ROWS];
    let nibble = vdupq_n_u8(15);
    for (codes, tables) in codes.chunks(CHUNK_BYTES).zip(tables.chunks(CHUNK_BYTES)) {
        let mut eights = [vdupq_n_u16(0); BLOCK_ROWS / 8];
        let (codes, _) = codes.as_chunks::<GROUP_BYTES>();
        let (tables, _) = tables.as_chunks::<GROUP_BYTES>();
        for (code, table) in codes.iter().zip(tables) {
            let (code, table) = (load(code), load(table));
            let low = vqtbl1q_u8(table, vandq_u8(code, nibble));
            let high = vqtbl1q_u8(table, vshrq_n_u8::<4>(code));
            eights[0] = vaddw_u8(eights[0], vget_low_u8(low));
            eights[1] = vaddw_high_u8(eights[1], low);
            eights[2] = vaddw_u8(eights[2], vget_low_u8(high));
            eights[3] = vaddw_high_u8(eights[3], high);
        }
        for (eight, sums) in eights.into_iter().zip(sums.chunks_exact_mut(8)) {
            let mut lanes = [0_u16; 8];
            // SAFETY: the array is writable for eight numbers of 16 bits.
            unsafe { vst1q_u16(lanes.as_mut_ptr(), eight) };
            sums.iter_mut().zip(lanes).for_each(|(sum, lane)| *sum += u32::from(lane));
        }
    }
}

/// Adds 16 products to four sums.
#[target_feature(enable = "neon")]
fn add_products(sums: int32x4_t, code: uint8x16_t, query: int8x16_t) -> int32x4_t {
    let (code_low, code_high) = (
        vreinterpretq_s16_u16(vmovl_u8(vget_low_u8(code))),
        vreinterpretq_s16_u16(vmovl_high_u8(code)),
    );
    let (query_low, query_high) = (vmovl_s8(vget_low_s8(query)), vmovl_high_s8(query));
    let sums = vmlal_s16(sums, vget_low_s16(code_low), vget_low_s16(query_low));
    let sums = vmlal_s16(sums, vget_high_s16(code_low), vget_high_s16(query_low));
    let sums = vmlal_s16(sums, vget_low_s16(code_high), vget_low_s16(query_high));
    vmlal_s16(sums, vget_high_s16(code_high), vget_high_s16(query_high))
}

/// See [`super::Kernels::dot_u8`].
#[target_feature(enable = "neon")]
pub(super) fn dot_u8(code: &[u8], query: &[i8]) -> i32 {
    let mut sums = [vdupq_n_s32(0); 2];
    let (code, _) = code.as_chunks::<16>();
    let (query, _) = query.as_chunks::<16>();
    for (i, (code, query)) in code.iter().zip(query).enumerate() {
        sums[i % 2] = add_products(sums[i % 2], load(code), load_signed(query));
    }
    vaddvq_s32(vaddq_s32(sums[0], sums[1]))
}

/// Four of [`dot_u8`].
#[target_feature(enable = "neon")]
pub(super) fn dot_u8_four(codes: [&[u8]; 4], query: &[i8]) -> [i32; 4] {
    codes.map(|code| dot_u8(code, query))
}

/// See [`super::Kernels::dot_u4`].
#[target_feature(enable = "neon")]
pub(super) fn dot_u4(code: &[u8], query: &[i8]) -> i32 {
    let nibble = vdupq_n_u8(15);
    let mut sums = [vdupq_n_s32(0); 2];
    let (code, _) = code.as_chunks::<16>();
    let (query, _) = query.as_chunks::<16>();
    for (code, query) in code.chunks_exact(2).zip(query.chunks_exact(4)) {
        for (i, code) in code.iter().enumerate() {
            let code = load(code);
            sums[0] = add_products(sums[0], vandq_u8(code, nibble), load_signed(&query[i]));
            sums[1] = add_products(sums[1], vshrq_n_u8::<4>(code), load_signed(&query[2 + i]));
        }
    }
    vaddvq_s32(vaddq_s32(sums[0], sums[1]))
}
