//! The integer kernels without vector instructions: what a machine without them runs, and the
//! definition that every other level is tested against. Called through [`super::Kernels`] only.

use super::{BLOCK_ROWS, GROUP_BYTES};
pub(super) use super::{
    portable::{block_sums_by_row, fold, hadamard16, prefetch, score_block},
    rounded::panel_sums,
};

/// See [`super::Kernels::block_sums`].
pub(super) fn block_sums(codes: &[u8], tables: &[u8], sums: &mut [u32; BLOCK_ROWS]) {
    *sums = [0; BLOCK_ROWS];
    let (low, high) = sums.split_at_mut(BLOCK_ROWS / 2);
    let (codes, _) = codes.as_chunks::<GROUP_BYTES>();
    let (tables, _) = tables.as_chunks::<GROUP_BYTES>();
    for (group, table) in codes.iter().zip(tables) {
        for ((byte, low), high) in group.iter().zip(&mut *low).zip(&mut *high) {
            *low += u32::from(table[usize::from(byte & 15)]);
            *high += u32::from(table[usize::from(byte >> 4)]);
        }
    }
}

/// See [`super::Kernels::dot_u8`].
pub(super) fn dot_u8(code: &[u8], query: &[i8]) -> i32 {
    code.iter().zip(query).map(|(c, q)| i32::from(*c) * i32::from(*q)).sum()
}

/// Four of [`dot_u8`].
pub(super) fn dot_u8_four(codes: [&[u8]; 4], query: &[i8]) -> [i32; 4] {
    codes.map(|code| dot_u8(code, query))
}

/// See [`super::Kernels::dot_u4`].
pub(super) fn dot_u4(code: &[u8], query: &[i8]) -> i32 {
    let (code, _) = code.as_chunks::<32>();
    let (query, _) = query.as_chunks::<64>();
    let word = |(code, query): (&[u8; 32], &[i8; 64])| -> i32 {
        let (low, high) = query.split_at(32);
        let products = code.iter().zip(low.iter().zip(high)).map(|(c, (l, h))| {
            i32::from(c & 15) * i32::from(*l) + i32::from(c >> 4) * i32::from(*h)
        });
        products.sum()
    };
    code.iter().zip(query).map(word).sum()
}
