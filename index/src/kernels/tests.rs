//! Every level that this machine has gives what the plain definitions give.

use super::{
    BLOCK_ROWS, Kernels, Layout, Level, Scan,
    portable::{Affine, Grid, Nearest, PANEL},
    rounded::{LaneBest, RAISED, Rounded},
    scalar_reference,
};
use crate::Rotation;
use proptest::prelude::*;
use simsimd::SpatialSimilarity;

/// Rotated lengths: below, at and above the 1,024 components whose sums fit 16 bits.
const PADDED: [usize; 7] = [64, 128, 384, 960, 1024, 1088, 4096];
/// Lengths of plain vectors, around every register.
const LENGTHS: [usize; 12] = [0, 1, 2, 15, 16, 17, 63, 64, 65, 383, 1536, 4096];

fn block() -> impl Strategy<Value = (Vec<u8>, Vec<u8>)> {
    prop::sample::select(&PADDED[..]).prop_flat_map(|d| {
        (prop::collection::vec(any::<u8>(), 4 * d), prop::collection::vec(0_u8..=248, 4 * d))
    })
}

fn codes() -> impl Strategy<Value = (Vec<u8>, Vec<i8>)> {
    prop::sample::select(&PADDED[..]).prop_flat_map(|d| {
        (prop::collection::vec(any::<u8>(), d), prop::collection::vec(-127_i8..=127, d))
    })
}

fn floats() -> impl Strategy<Value = (Vec<f32>, Vec<f32>)> {
    prop::sample::select(&LENGTHS[..]).prop_flat_map(|d| {
        let values = prop::collection::vec(-3.0_f32..3.0, d);
        (values.clone(), values)
    })
}

/// The sums of a block by the definition of its layout.
fn sums_by_definition(codes: &[u8], tables: &[u8]) -> [u32; BLOCK_ROWS] {
    std::array::from_fn(|row| {
        let groups = codes.chunks(16).zip(tables.chunks(16));
        let picked = groups.map(|(codes, table)| {
            let byte = codes[row % 16];
            u32::from(table[usize::from(if row < 16 { byte & 15 } else { byte >> 4 })])
        });
        picked.sum()
    })
}

fn every_level_and_layout() -> impl Iterator<Item = (Kernels, Layout)> {
    let layouts = [Layout::Groups, Layout::Rows];
    Kernels::available().into_iter().flat_map(move |kernels| layouts.map(|to| (kernels, to)))
}

/// A code of half bytes as one byte per component.
fn unpacked(code: &[u8]) -> Vec<u8> {
    let word = |word: &[u8]| -> Vec<u8> {
        word.iter().map(|b| b & 15).chain(word.iter().map(|b| b >> 4)).collect()
    };
    code.chunks(32).flat_map(word).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn block_sums_are_those_of_the_definition((codes, tables) in block()) {
        let want = sums_by_definition(&codes, &tables);
        for kernels in Kernels::available() {
            let mut sums = [7; BLOCK_ROWS];
            kernels.block_sums(&codes, &tables, &mut sums);
            prop_assert_eq!(sums, want, "{:?}", kernels.level());
        }
    }

    /// With factors that change nothing, an estimate is a sum.
    #[test]
    fn blocks_are_scanned_by_the_sums_of_the_definition(
        (codes, tables) in block(),
        wanted in prop::array::uniform3(prop_oneof![Just(0), any::<u32>()]),
    ) {
        let want = sums_by_definition(&codes, &tables);
        let (neutral, factors) = (
            Affine { zero: 0, unit: 1.0, base: 0.0, reach: 1.0 },
            [[0.0_f32; BLOCK_ROWS], [1.0; BLOCK_ROWS], [0.5; BLOCK_ROWS]].as_flattened().to_vec(),
        );
        let factors: Vec<u8> = factors.iter().flat_map(|x| x.to_le_bytes()).collect();
        for (kernels, layout) in every_level_and_layout() {
            let mut laid_out = codes.clone();
            for (at, byte) in codes.iter().enumerate() {
                laid_out[layout.place(at / 16, at % 16)] = *byte;
            }
            let blocks = [&laid_out[..], &factors].concat().repeat(3);
            let threshold = want[7] as f32;
            let scan = Scan { tables: &tables, affine: neutral, threshold, layout };
            let (mut near, mut estimates) = (wanted, [[-1.0; BLOCK_ROWS]; 3]);
            kernels.scan_blocks(&scan, &blocks, &mut near, &mut estimates);
            for block in 0..3 {
                let of_row = |row: usize| if wanted[block] == 0 { -1.0 } else { want[row] as f32 };
                prop_assert_eq!(estimates[block], std::array::from_fn(of_row));
                let above = (0..BLOCK_ROWS).filter(|row| want[*row] >= want[7]);
                let above = above.fold(0, |mask, row| mask | 1 << row);
                prop_assert_eq!(near[block], wanted[block] & above, "{:?}", kernels.level());
            }
        }
    }

    #[test]
    fn products_of_codes_are_those_of_the_definition((code, query) in codes()) {
        let product = |code: &[u8]| -> i32 {
            code.iter().zip(&query).map(|(c, q)| i32::from(*c) * i32::from(*q)).sum()
        };
        let half = &code[..code.len() / 2];
        for kernels in Kernels::available() {
            prop_assert_eq!(kernels.dot_u8(&code, &query), product(&code), "{:?}", kernels.level());
            let four = kernels.dot_u4(half, &query);
            prop_assert_eq!(four, product(&unpacked(half)), "{:?}", kernels.level());
        }
    }

    #[test]
    fn exact_kernels_give_the_same_bits_on_every_level((a, b) in floats()) {
        let all = Kernels::available();
        for kernels in &all {
            prop_assert_eq!(kernels.dot(&a, &b).to_bits(), all[0].dot(&a, &b).to_bits());
            let l2 = kernels.l2_squared(&a, &b);
            prop_assert_eq!(l2.to_bits(), all[0].l2_squared(&a, &b).to_bits());
        }
    }

    #[test]
    fn exact_kernels_agree_with_sums_in_double_precision((a, b) in floats()) {
        let slack = a.iter().zip(&b).map(|(x, y)| f64::from(x * y).abs()).sum::<f64>() * 1e-5;
        let want = scalar_reference::dot(&a, &b);
        prop_assert!((f64::from(Kernels::best().dot(&a, &b)) - want).abs() <= slack + 1e-12);
        let want = crate::kernel::scalar::l2_squared(&a, &b);
        let got = f64::from(Kernels::best().l2_squared(&a, &b));
        prop_assert!((got - want).abs() <= want * 1e-5 + 1e-12);
    }

    #[test]
    fn scattered_rows_are_summed_like_single_ones(
        (a, b) in floats(),
        wanted in prop::collection::vec(0_u32..2, 0..9),
    ) {
        let rows: Vec<f32> = a.iter().chain(&b).copied().collect();
        let row = |row: &u32| if *row == 0 { &a } else { &b };
        let bits = |values: &[f32]| values.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
        for kernels in Kernels::available() {
            let mut out = vec![f32::NAN; wanted.len()];
            kernels.dot_rows(&a, &rows, &wanted, &mut out);
            let want: Vec<f32> = wanted.iter().map(|r| kernels.dot(&a, row(r))).collect();
            prop_assert_eq!(bits(&out), bits(&want));
            kernels.l2_squared_rows(&a, &rows, &wanted, &mut out);
            let want: Vec<f32> = wanted.iter().map(|r| kernels.l2_squared(&a, row(r))).collect();
            prop_assert_eq!(bits(&out), bits(&want));
        }
    }

    #[test]
    fn scattered_codes_are_summed_like_single_ones(
        (code, query) in codes(),
        wanted in prop::collection::vec(0_u32..3, 0..9),
    ) {
        let codes = [code.clone(), vec![255; code.len()], vec![0; code.len()]].concat();
        for kernels in Kernels::available() {
            let mut out = vec![7; wanted.len()];
            kernels.dot_u8_rows(&codes, &query, &wanted, &mut out);
            let single = |row: &u32| {
                kernels.dot_u8(&codes[*row as usize * code.len()..][..code.len()], &query)
            };
            prop_assert_eq!(out, wanted.iter().map(single).collect::<Vec<_>>());
            let all: Vec<u32> = (0..3).chain(wanted.iter().copied()).collect();
            let lined = |row: &u32| &codes[*row as usize * code.len()..][..code.len()];
            let codes: Vec<u8> = all.iter().flat_map(lined).copied().collect();
            let mut out = vec![7; all.len()];
            kernels.dot_u8_all(&codes, &query, &mut out);
            prop_assert_eq!(out, all.iter().map(single).collect::<Vec<_>>());
        }
    }

    /// A second oracle, made by others.
    #[test]
    fn exact_kernels_agree_with_simsimd((a, b) in floats()) {
        let slack = a.iter().zip(&b).map(|(x, y)| f64::from(x * y).abs()).sum::<f64>() * 1e-5;
        let theirs = f32::dot(&a, &b).expect("the lengths are equal");
        prop_assert!((f64::from(Kernels::best().dot(&a, &b)) - theirs).abs() <= slack + 1e-12);
        let theirs = f32::l2sq(&a, &b).expect("the lengths are equal");
        let ours = f64::from(Kernels::best().l2_squared(&a, &b));
        prop_assert!((ours - theirs).abs() <= theirs * 1e-5 + 1e-12);
    }

    #[test]
    fn rotations_and_codes_are_the_same_on_every_level((v, c) in floats(), seed in any::<u64>()) {
        prop_assume!(!v.is_empty());
        let rotation = Rotation::new(v.len(), seed);
        let (mut want, mut centre) = (vec![0.0; rotation.padded()], vec![0.0; rotation.padded()]);
        rotation.apply(&v, &mut want);
        rotation.apply(&c, &mut centre);
        let grid = Grid { step_inverse: 30.0, half: 128.0 };
        let encoded = |kernels: Kernels| {
            let (mut bits, mut levels) = (vec![0; want.len() / 8], vec![0; want.len()]);
            let one = kernels.encode_bits(&want, &centre, &mut bits);
            let eight = kernels.encode_levels(&want, &centre, grid, &mut levels);
            (bits, levels, one, eight)
        };
        for kernels in Kernels::available() {
            let mut rotated = v.clone();
            rotated.resize(want.len(), 0.0);
            kernels.rotate(&mut rotated, rotation.signs());
            prop_assert_eq!(&rotated, &want, "{:?}", kernels.level());
            prop_assert_eq!(encoded(kernels), encoded(Kernels::available()[0]));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn the_nearest_cell_is_the_one_of_the_largest_score_on_every_level(
        (dim, count) in (1_usize..70, 0_usize..11),
        values in prop::collection::vec(-2.0_f32..2.0, 70 * (64 + 11)),
    ) {
        let (centroids, rows) = values.split_at(2 * PANEL * 70);
        let rows = &rows[..count * dim];
        let centroid = |cell: usize| &centroids[cell * dim..][..dim];
        let offsets: Vec<f32> = (0..2 * PANEL).map(|cell| centroid(cell)[0]).collect();
        let panels: Vec<f32> = (0..2)
            .flat_map(|panel| (0..dim).map(move |d| (panel, d)))
            .flat_map(|(panel, d)| (0..PANEL).map(move |i| centroid(panel * PANEL + i)[d]))
            .collect();
        let mut first = vec![Nearest { score: 0.0, cell: 9 }; count];
        Kernels::available()[0].nearest(rows, &panels, &offsets, &mut first);
        for (row, found) in rows.chunks(dim).zip(&first) {
            let score = |cell: usize| {
                scalar_reference::dot(row, centroid(cell)) + f64::from(offsets[cell])
            };
            let best = (0..2 * PANEL).map(score).fold(f64::MIN, f64::max);
            prop_assert!(score(found.cell as usize) >= best - 1e-4);
            prop_assert!((f64::from(found.score) - best).abs() < 1e-4);
        }
        for kernels in Kernels::available() {
            let mut found = vec![Nearest { score: 0.0, cell: 9 }; count];
            kernels.nearest(rows, &panels, &offsets, &mut found);
            prop_assert_eq!(&found, &first, "{:?}", kernels.level());
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn the_best_cell_of_each_lane_is_that_of_the_definition_on_every_level(
        (quads, panels, fours) in (1_usize..40, 1_usize..19, 1_usize..3),
        seed in any::<u64>(),
    ) {
        let random = &mut crate::rotation::SplitMix64(seed);
        let (dim, cells, count) = (4 * quads, PANEL * panels, 4 * fours);
        let rows: Vec<u8> = (0..count * dim).map(|_| random.below(128) as u8).collect();
        let centroids: Vec<i8> =
            (0..cells * dim).map(|_| (random.below(255) as i32 - 127) as i8).collect();
        let mut number = || random.below(1_000) as f32 / 500.0;
        let steps: Vec<f32> = (0..count).map(|_| number()).collect();
        let scales: Vec<f32> = (0..cells).map(|_| number()).collect();
        let offsets: Vec<f32> = (0..cells).map(|_| 100.0 * number()).collect();
        let centroid = |cell: usize| &centroids[cell * dim..][..dim];
        let panels: Vec<i8> = (0..panels)
            .flat_map(|panel| (0..quads).map(move |quad| (panel, quad)))
            .flat_map(|(panel, quad)| (0..PANEL).map(move |i| (panel * PANEL + i, quad)))
            .flat_map(|(cell, quad)| centroid(cell)[4 * quad..][..4].to_vec())
            .collect();
        let zeros: Vec<i32> = (0..cells)
            .map(|cell| -RAISED * centroid(cell).iter().map(|x| i32::from(*x)).sum::<i32>())
            .collect();
        let mut want = vec![LaneBest::NONE; count];
        for ((row, step), want) in rows.chunks(dim).zip(&steps).zip(&mut want) {
            for cell in 0..cells {
                let products = row.iter().zip(centroid(cell));
                let sum: i32 = products.map(|(x, c)| (i32::from(*x) - RAISED) * i32::from(*c)).sum();
                let score = (sum as f32 * step) * scales[cell] + offsets[cell];
                if score > want.scores[cell % PANEL] {
                    want.scores[cell % PANEL] = score;
                    want.cells[cell % PANEL] = cell as u32;
                }
            }
        }
        let rounded = Rounded { panels: &panels, zeros: &zeros, scales: &scales, offsets: &offsets };
        for kernels in Kernels::available() {
            let mut best = vec![LaneBest::NONE; count];
            kernels.lane_best(&rows, &steps, &rounded, &mut best);
            prop_assert_eq!(&best, &want, "{:?}", kernels.level());
        }
    }
}

#[test]
fn the_largest_sums_do_not_wrap() {
    const LONGEST: usize = 65_536;
    for kernels in Kernels::available() {
        let mut sums = [0; BLOCK_ROWS];
        kernels.block_sums(&[0xFF; 4 * LONGEST], &[248; 4 * LONGEST], &mut sums);
        assert_eq!(sums, [248 * 16_384; BLOCK_ROWS], "{:?}", kernels.level());
        assert_eq!(kernels.dot_u8(&[255; LONGEST], &[-127; LONGEST]), -255 * 127 * 65_536);
        assert_eq!(kernels.dot_u4(&[255; LONGEST / 2], &[127; LONGEST]), 15 * 127 * 65_536);
    }
}

/// What a machine says suits it, it has: [`Layout::Rows`] is slow where it was not made for.
#[test]
fn rows_suit_vbmi_alone() {
    for kernels in Kernels::available() {
        let rows = kernels.layout() == Layout::Rows;
        assert_eq!(rows, kernels.level() == Level::Vbmi, "{:?}", kernels.level());
    }
    let levels: Vec<_> = Kernels::available().iter().map(|kernels| kernels.level()).collect();
    assert_eq!(levels.last(), Some(&Kernels::best().level()), "the best is the last of {levels:?}");
}

#[test]
#[should_panic(expected = "whole words")]
fn codes_of_half_a_word_are_a_bug_of_the_caller() {
    Kernels::best().dot_u8(&[0; 32], &[0; 32]);
}
