//! One-bit codes of 32 rows side by side, with their factors: what a scan reads.
//!
//! # Layout of a block
//! For each group of four components 16 bytes: byte `j` holds the four bits of row `j` in its low
//! half (component `4g + i` in bit `i`) and those of row `16 + j` in its high half. Then 32 times
//! `add`, 32 times `scale`, 32 times `error`, each an f32, little-endian. A block of 384 components
//! has 1,920 bytes, 60 per row. Rows that are not there have codes and factors of zero bytes.
//!
//! Readers trust the *length* of the bytes only, which is checked: any content gives some estimate.

#![deny(clippy::indexing_slicing)]

use super::{Bits, Estimate, Factors, Probe, Query};
use crate::kernels::{BLOCK_ROWS, FACTOR_BYTES, GROUP_BYTES, Scan};

/// Blocks that are scanned before any of their rows is visited: what is found in one of them does
/// not make the machine throw away what it has begun of the next.
const BATCH: usize = 8;
/// Bytes that memory is asked for ahead of a scan. Where that has begun, the machine sees by itself
/// where it goes on: to ask for all of it costs more than to wait for the rest.
const PREFETCH: usize = 768;

/// Bytes of a block of codes of `padded` components.
pub fn block_len(padded: usize) -> usize {
    padded / 4 * GROUP_BYTES + FACTOR_BYTES
}

/// Appends a block of at most 32 rows, each a code of [`Bits::One`] and its factors, to `out`.
///
/// # Panics
/// If there are more rows, or a code is not of `padded` components: bugs of the caller.
pub fn pack_block(padded: usize, rows: &[(&[u8], Factors)], out: &mut Vec<u8>) {
    assert!(rows.len() <= BLOCK_ROWS, "a block has 32 rows");
    let start = out.len();
    out.resize(start + block_len(padded), 0);
    let block = out.get_mut(start..).unwrap_or_default();
    let (codes, factors) = block.split_at_mut(padded / 4 * GROUP_BYTES);
    for (row, (code, _)) in rows.iter().enumerate() {
        assert_eq!(code.len(), Bits::One.code_len(padded), "a code has its length");
        let (column, shift) = (row % 16, row / 16 * 4);
        let nibbles = code.iter().flat_map(|byte| [byte & 15, byte >> 4]);
        for (group, nibble) in codes.chunks_exact_mut(GROUP_BYTES).zip(nibbles) {
            if let Some(byte) = group.get_mut(column) {
                *byte |= nibble << shift;
            }
        }
    }
    let values = [
        rows.iter().map(|row| row.1.add).collect::<Vec<_>>(),
        rows.iter().map(|row| row.1.scale).collect(),
        rows.iter().map(|row| row.1.error).collect(),
    ];
    for (array, values) in factors.chunks_exact_mut(4 * BLOCK_ROWS).zip(values) {
        for (bytes, value) in array.chunks_exact_mut(4).zip(values) {
            bytes.copy_from_slice(&value.to_le_bytes());
        }
    }
}

/// Blocks whose bytes are not as many as their rows need.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{rows} rows of {padded} components need {want} bytes of codes, there are {got}")]
pub struct BadBlocks {
    /// Rows that there should be.
    pub rows: usize,
    /// Components of a code.
    pub padded: usize,
    /// Bytes that those take.
    pub want: usize,
    /// Bytes that there are.
    pub got: usize,
}

/// Blocks of one-bit codes in memory that somebody else owns: a list, or a part of one.
///
/// ```
/// use akidb_index::{Metric, rabitq::{Bits, Blocks, CONFIDENCE, Codec, pack_block}};
/// let codec = Codec::new(Metric::Dot, 2, 1);
/// let centre = codec.origin_centre();
/// let mut encoder = codec.encoder();
/// let mut code = vec![0; Bits::One.code_len(codec.padded())];
/// encoder.set_row(&[3.0, 4.0], 0.2);
/// encoder.set_centre(&centre);
/// let factors = encoder.encode(Bits::One, &mut code);
/// let mut bytes = Vec::new();
/// pack_block(codec.padded(), &[(&code, factors)], &mut bytes);
///
/// let query = codec.query(&[1.0, 1.0], CONFIDENCE);
/// let probe = query.probe(&centre);
/// let blocks = Blocks::new(&bytes, codec.padded(), 1)?;
/// blocks.scan(&query, &probe, None, f32::NEG_INFINITY, |row, estimate| {
///     assert_eq!(row, 0);
///     println!("about {estimate}");
///     f32::NEG_INFINITY
/// });
/// # Ok::<(), akidb_index::rabitq::BadBlocks>(())
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Blocks<'a> {
    bytes: &'a [u8],
    padded: usize,
    rows: usize,
}

impl<'a> Blocks<'a> {
    /// A view of the blocks of `rows` rows.
    ///
    /// # Errors
    /// If `bytes` is not as long as that many rows of `padded` components need, or `padded` is no
    /// multiple of 64.
    pub fn new(bytes: &'a [u8], padded: usize, rows: usize) -> Result<Self, BadBlocks> {
        let want = rows.div_ceil(BLOCK_ROWS).saturating_mul(block_len(padded));
        if bytes.len() != want || padded == 0 || !padded.is_multiple_of(crate::PAD) {
            return Err(BadBlocks { rows, padded, want, got: bytes.len() });
        }
        Ok(Self { bytes, padded, rows })
    }

    /// Rows in the blocks.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Estimates the rows one after the other and calls `visit` with the number and the estimate
    /// of each whose upper bound is not below the threshold. `visit` returns the threshold from
    /// there on (it is looked at once per block). A row for which nothing is known is visited.
    ///
    /// `mask` has a bit per row, 32 to a word; rows whose bit is 0 are not visited, and blocks
    /// without a bit are not read.
    ///
    /// # Panics
    /// If the query is of another dimension, or the mask is shorter than the rows: bugs of the
    /// caller.
    pub fn scan(
        &self,
        query: &Query,
        probe: &Probe,
        mask: Option<&[u32]>,
        threshold: f32,
        mut visit: impl FnMut(usize, f32) -> f32,
    ) {
        self.scan_estimates(query, probe, mask, threshold, |row, found| visit(row, found.score));
    }

    /// Like [`Self::scan`], with the margin of each estimate.
    ///
    /// # Panics
    /// Like [`Self::scan`].
    pub fn scan_estimates(
        &self,
        query: &Query,
        probe: &Probe,
        mask: Option<&[u32]>,
        mut threshold: f32,
        mut visit: impl FnMut(usize, Estimate) -> f32,
    ) {
        assert_eq!(query.rotated().len(), self.padded, "a query has the dimension of the codes");
        let blocks = self.rows.div_ceil(BLOCK_ROWS);
        assert!(mask.is_none_or(|mask| mask.len() >= blocks), "a mask has a bit for every row");
        let (len, slack) = (block_len(self.padded), probe.slack());
        let mut scan = Scan { tables: query.tables(), affine: query.affine(probe), threshold };
        let (mut near, mut scores) = ([0; BATCH], [[0.0; BLOCK_ROWS]; BATCH]);
        for (batch, bytes) in self.bytes.chunks(BATCH * len).enumerate() {
            let first = batch * BATCH;
            let near = near.get_mut(..bytes.len() / len).unwrap_or_default();
            for (number, near) in (first..).zip(near.iter_mut()) {
                let wanted = mask.and_then(|mask| mask.get(number)).copied().unwrap_or(u32::MAX);
                *near = wanted & present(self.rows - number * BLOCK_ROWS);
            }
            scan.threshold = threshold - slack;
            query.kernels().scan_blocks(&scan, bytes, near, &mut scores);
            let found = bytes.chunks_exact(len).zip(near.iter().zip(&scores));
            for (number, (block, (near, scores))) in (first..).zip(found) {
                // Rows of the blocks before this one may have raised it.
                let now = threshold - slack;
                for (row, found) in estimates(*near, scores, block, scan.affine.reach) {
                    if found.score + found.margin < now {
                        continue;
                    }
                    let found = Estimate { margin: found.margin + slack, ..found };
                    threshold = visit(number * BLOCK_ROWS + row, found);
                }
            }
        }
    }

    /// Asks memory for the first of the blocks, which are to be scanned soon.
    pub fn prefetch(&self, query: &Query) {
        let begin = self.bytes.get(..PREFETCH).unwrap_or(self.bytes);
        query.kernels().prefetch(begin);
    }

    /// Copies the code of one row out and returns its factors; `None` if there is no such row.
    /// This is how rows move between lists without being coded again.
    ///
    /// # Panics
    /// If `code` is not [`Bits::code_len`] long, which is a bug of the caller.
    pub fn copy_row(&self, row: usize, code: &mut [u8]) -> Option<Factors> {
        assert_eq!(code.len(), Bits::One.code_len(self.padded), "a code has its length");
        let mut blocks = self.bytes.chunks_exact(block_len(self.padded));
        let block = blocks.nth(row / BLOCK_ROWS).filter(|_| row < self.rows)?;
        let (codes, factors) = block.split_last_chunk()?;
        let (slot, shift) = (row % BLOCK_ROWS, row % BLOCK_ROWS / 16 * 4);
        let bytes = codes.iter().skip(slot % 16).step_by(GROUP_BYTES);
        let mut nibbles = bytes.map(|byte| byte >> shift & 15);
        for byte in code.iter_mut() {
            *byte = nibbles.next()? | (nibbles.next()? << 4);
        }
        let value = |array| factor(factors, array, slot);
        Some(Factors { add: value(0)?, scale: value(1)?, error: value(ERROR)? })
    }
}

/// Which of the three arrays of factors holds the errors.
const ERROR: usize = 2;

/// One of the factors of a row of a block.
fn factor(factors: &[u8; FACTOR_BYTES], array: usize, slot: usize) -> Option<f32> {
    let (words, _) = factors.as_chunks::<4>();
    words.get(array * BLOCK_ROWS + slot).map(|bytes| f32::from_le_bytes(*bytes))
}

/// The rows whose bit is set, with their estimates. `reach` is what errors are multiplied with.
fn estimates(
    near: u32,
    scores: &[f32; BLOCK_ROWS],
    block: &[u8],
    reach: f32,
) -> impl Iterator<Item = (usize, Estimate)> {
    let mut left = near;
    std::iter::from_fn(move || {
        let row = left.trailing_zeros() as usize;
        left &= left.checked_sub(1)?;
        let error = factor(block.last_chunk()?, ERROR, row)?;
        Some((row, Estimate { score: *scores.get(row)?, margin: error * reach }))
    })
}

/// A bit for each of the rows that are left, as far as a block goes.
fn present(left: usize) -> u32 {
    if left >= BLOCK_ROWS { u32::MAX } else { (1 << left) - 1 }
}
