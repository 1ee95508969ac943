//! Whatever cells, masks and orders: a collector leaves open what a plain comparison of bounds does.

use super::*;
use crate::{Metric, TopK, rotation::SplitMix64};
use proptest::prelude::*;

const DIM: usize = 24;

/// Cells of rows around a place each, and their codes.
struct Cells {
    codec: Codec,
    cells: Vec<Cell>,
}

struct Cell {
    centre: Centre,
    blocks: Vec<u8>,
    codes: Vec<u8>,
    factors: Vec<u8>,
    mask: Vec<u32>,
    rows: usize,
}

impl Cells {
    fn new(metric: Metric, sizes: &[usize], seed: u64) -> Self {
        let codec = Codec::new(metric, DIM, 3);
        let random = &mut SplitMix64(seed);
        let cells = sizes.iter().map(|rows| Cell::new(&codec, *rows, random)).collect();
        Self { codec, cells }
    }
}

impl Cell {
    fn new(codec: &Codec, rows: usize, random: &mut SplitMix64) -> Self {
        let mut number = || random.below(2_001) as f32 / 1_000.0 - 1.0;
        let place: Vec<f32> = (0..DIM).map(|_| number()).collect();
        let centre = codec.centre(&place);
        let mut encoder = codec.encoder();
        let (mut ones, mut codes, mut factors) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..rows {
            let row: Vec<f32> = place.iter().map(|x| x + 0.5 * number()).collect();
            encoder.set_row(&row, crate::inv_norm(&row));
            encoder.set_centre(&centre);
            let mut one = vec![0; Bits::One.code_len(codec.padded())];
            let of_one = encoder.encode(Bits::One, &mut one);
            ones.push((one, of_one));
            let mut fine = vec![0; codec.padded()];
            factors.extend(encoder.encode(Bits::Eight, &mut fine).to_bytes());
            codes.extend(fine);
        }
        let mut blocks = Vec::new();
        for block in ones.chunks(32) {
            let block: Vec<_> = block.iter().map(|(code, factors)| (&**code, *factors)).collect();
            pack_block(codec.padded(), &block, &mut blocks);
        }
        let mask = (0..rows.div_ceil(32)).map(|_| random.next_word() as u32).collect();
        Self { centre, blocks, codes, factors, mask, rows }
    }

    fn codes(&self, masked: bool) -> CellCodes<'_> {
        let padded = DIM.next_multiple_of(crate::PAD);
        CellCodes {
            blocks: Blocks::new(&self.blocks, padded, self.rows).expect("whole blocks"),
            fine: FineCodes::new(&self.codes, &self.factors, padded).expect("whole codes"),
            mask: masked.then_some(&*self.mask),
        }
    }

    fn may_be_found(&self, row: usize, masked: bool) -> bool {
        !masked || self.mask[row / 32] >> (row % 32) & 1 == 1
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// With a confidence that makes bounds certain, nothing of the best is lost on the way.
    #[test]
    fn the_best_by_eight_bits_are_left_open(
        metric in prop::sample::select(vec![Metric::Cosine, Metric::Dot, Metric::L2]),
        sizes in prop::collection::vec(0_usize..150, 0..8),
        masked in any::<bool>(),
        k in 0_usize..40,
        seed in any::<u64>(),
    ) {
        let cells = Cells::new(metric, &sizes, seed);
        let random = &mut SplitMix64(!seed);
        let vector: Vec<f32> = (0..DIM).map(|_| random.below(2_001) as f32 - 1_000.0).collect();
        let query = cells.codec.query(&vector, 8.0);
        let (mut found, mut best) = (Collector::new(&query, k), TopK::new(k));
        for (number, cell) in cells.cells.iter().enumerate() {
            let (codes, probe) = (cell.codes(masked), query.probe(&cell.centre));
            found.scan(&codes, &probe, |row| Some((number, row)));
            let rows = (0..cell.rows).filter_map(|row| codes.fine.row(row));
            let rows: Vec<_> = rows.map(|row| (row, probe)).collect();
            let mut estimates = Vec::new();
            query.estimate_rows(&rows, &mut estimates);
            for (row, estimate) in estimates.iter().enumerate() {
                let (code, factors) = codes.fine.get(row).expect("a row of the cell");
                prop_assert_eq!(*estimate, query.estimate(Bits::Eight, code, factors, &probe));
                if cell.may_be_found(row, masked) {
                    best.push(estimate.score, (number, row));
                }
            }
        }
        prop_assert_eq!(found.scanned(), sizes.iter().sum::<usize>());
        let left = found.finish();
        for hit in best.into_sorted_vec() {
            prop_assert!(left.contains(&hit.item), "{hit:?} is not in {left:?}");
        }
        for (cell, row) in left {
            prop_assert!(cells.cells[cell].may_be_found(row, masked));
        }
    }
}

#[test]
fn most_rows_are_ruled_out_without_a_look_at_their_fine_codes() {
    let cells = Cells::new(Metric::L2, &[100; 40], 5);
    let query = cells.codec.query(&[0.4; DIM], CONFIDENCE);
    let mut order: Vec<_> =
        cells.cells.iter().map(|cell| query.probe(&cell.centre)).enumerate().collect();
    order.sort_by(|a, b| b.1.centre_score().total_cmp(&a.1.centre_score()));
    let mut found = Collector::new(&query, 10);
    for (number, probe) in order {
        found.scan(&cells.cells[number].codes(false), &probe, |row| Some((number, row)));
    }
    let (scanned, decided) = (found.scanned(), found.decided());
    assert!(scanned == 4_000 && decided < 200, "{decided} of {scanned} rows were decided");
    assert!(found.threshold() > f32::NEG_INFINITY);
}

#[test]
fn a_huge_k_leaves_every_row_open() {
    let cells = Cells::new(Metric::Dot, &[70, 400, 3], 8);
    let query = cells.codec.query(&[0.4; DIM], CONFIDENCE);
    let mut found = Collector::new(&query, usize::MAX);
    for (number, cell) in cells.cells.iter().enumerate() {
        found.scan(&cell.codes(false), &query.probe(&cell.centre), |row| Some((number, row)));
    }
    assert_eq!(found.finish().len(), 473);
}

#[test]
fn codes_and_factors_of_different_numbers_of_rows_are_refused() {
    assert_eq!(FineCodes::new(&[0; 128], &[0; 24], 64).map(|fine| fine.rows()), Ok(2));
    for (codes, factors, padded) in
        [(127, 24, 64), (128, 12, 64), (128, 25, 64), (96, 24, 48), (0, 0, 0)]
    {
        let bad = Err(BadFineCodes { codes, factors, padded });
        let (codes, factors) = (vec![0; codes], vec![0; factors]);
        assert_eq!(FineCodes::new(&codes, &factors, padded).map(|_| ()), bad);
    }
    let fine = FineCodes::new(&[7; 64], &[0; 12], 64).expect("one row");
    assert!(fine.get(0).is_some() && fine.get(1).is_none());
}
