//! Targets whose input is what approximate search reads: codebooks, and lists of codes.

use super::input::{Input, put};
use akidb_index::{
    Metric,
    codebook::{Codebook, Router},
    lists::{Lists, Places},
    rabitq::{Bits, Blocks, CONFIDENCE, Codec, block_len, pack_block},
};
use xxhash_rust::xxh3::Xxh3;

/// Rows of a block of codes.
const BLOCK_ROWS: usize = 32;
/// Components of the codes are at most this many times 64.
const WORDS_MAX: u8 = 3;

/// A codebook, whose id is made right.
pub(super) fn codebook(data: &[u8]) -> bool {
    let mut bytes = data.to_vec();
    if let (Some(head), Some(tail)) = (data.get(..16), data.get(24..)) {
        let mut hash = Xxh3::new();
        hash.update(head);
        hash.update(tail);
        put(&mut bytes, 16, &hash.digest().to_le_bytes());
    }
    let Ok(book) = Codebook::decode(&bytes) else { return false };
    assert!(book.encode() == bytes, "a codebook is written in another way than it was read");
    let found = book.assign(book.centroids());
    assert_eq!(found.len(), book.cells());
    assert!(found.iter().all(|found| (found.cell as usize) < book.cells()));
    for metric in [Metric::Cosine, Metric::Dot, Metric::L2] {
        let codec = book.codec(metric);
        let router = Router::new(&book, &codec);
        let cells = router.route(&codec.query(book.origin(), CONFIDENCE), book.cells());
        let mut cells: Vec<u32> = cells.into_iter().map(|(cell, _)| cell).collect();
        cells.sort_unstable();
        let all: Vec<u32> = (0..).take(book.cells()).collect();
        assert_eq!(cells, all, "each cell is visited once");
    }
    true
}

/// A byte of control, the words of a code, cells, a byte for each where it begins, the codes.
pub(super) fn lists(data: &[u8]) -> bool {
    let mut input = Input(data);
    let control = input.u8();
    let padded = 64 * (1 + usize::from(input.u8() % WORDS_MAX));
    let cells = usize::from(input.u8() % 16);
    let mut starts: Vec<u32> = (0..=cells).map(|_| u32::from(input.u8())).collect();
    if control & 1 != 0 {
        starts[0] = 0;
        starts.sort_unstable();
    }
    let mut bytes = input.0.to_vec();
    if control & 2 != 0 {
        let rows = starts.windows(2).map(|pair| pair[1].saturating_sub(pair[0]) as usize);
        let blocks: usize = rows.map(|rows| rows.div_ceil(BLOCK_ROWS)).sum();
        bytes.resize(blocks * block_len(padded), 0);
    }
    let Ok(places) = Places::new(starts.clone()) else { return false };
    let Ok(lists) = Lists::new(&places, &bytes, padded) else { return false };
    let mut before = 0;
    for cell in (0..).take(lists.cells()) {
        let (rows, blocks) = lists.cell(cell).expect("a cell below their number");
        assert_eq!((rows.start, rows.len()), (before, blocks.rows()));
        before = rows.end;
        scan(&blocks, padded);
        copy(&blocks, padded);
    }
    assert_eq!(Some(&before), starts.last());
    assert!(lists.cell(lists.cells() as u32).is_none());
    true
}

/// Every row is visited where nothing is ruled out, in order, and only wanted ones under a mask.
fn scan(blocks: &Blocks<'_>, padded: usize) {
    let codec = Codec::new(Metric::L2, padded, 1);
    let vector: Vec<f32> = (0_u8..).cycle().take(padded).map(f32::from).collect();
    let query = codec.query(&vector, CONFIDENCE);
    let probe = query.probe(&codec.origin_centre());
    let visit = |mask: Option<&[u32]>| {
        let mut rows = Vec::new();
        blocks.scan(&query, &probe, mask, f32::NEG_INFINITY, |row, _| {
            rows.push(row);
            f32::NEG_INFINITY
        });
        rows
    };
    assert_eq!(visit(None), (0..blocks.rows()).collect::<Vec<_>>());
    let mask = vec![0x5555_0000; blocks.rows().div_ceil(BLOCK_ROWS)];
    let even = |row: &usize| row % BLOCK_ROWS >= 16 && row.is_multiple_of(2);
    assert_eq!(visit(Some(&mask)), (0..blocks.rows()).filter(even).collect::<Vec<_>>());
}

/// Rows that are copied out and packed again are the same.
fn copy(blocks: &Blocks<'_>, padded: usize) {
    let row_of = |blocks: &Blocks<'_>, row| {
        let mut code = vec![0; Bits::One.code_len(padded)];
        let factors = blocks.copy_row(row, &mut code);
        (code, factors.expect("a row below their number"))
    };
    let rows: Vec<_> = (0..blocks.rows()).map(|row| row_of(blocks, row)).collect();
    let mut packed = Vec::new();
    for block in rows.chunks(BLOCK_ROWS) {
        let block: Vec<_> = block.iter().map(|(code, factors)| (&**code, *factors)).collect();
        pack_block(padded, &block, &mut packed);
    }
    let again = Blocks::new(&packed, padded, rows.len()).expect("whole blocks");
    for (row, (code, factors)) in rows.iter().enumerate() {
        let (code_again, again) = row_of(&again, row);
        assert_eq!(&code_again, code);
        let bits = |x: [f32; 3]| x.map(f32::to_bits);
        assert_eq!(
            bits([again.add, again.scale, again.error]),
            bits([factors.add, factors.scale, factors.error]),
        );
    }
}
