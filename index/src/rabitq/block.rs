//! One-bit codes of 32 rows side by side, with their factors: what a scan reads.
//!
//! # Layout of a block
//! For each group of four components 16 bytes: byte `j` holds the four bits of row `j` in its low
//! half (component `4g + i` in bit `i`) and those of row `16 + j` in its high half. Then 32 times
//! `add`, 32 times `scale`, 32 times `error`, each an f32, little-endian. A block of 384 components
//! has 1,920 bytes, 60 per row. Rows that are not there have codes and factors of zero bytes.
//!
//! That is [`Layout::Groups`], the only one in files. A copy in memory may be brought into another
//! ([`lay_out`]), in which the bytes of the codes lie in another order and all else is the same.
//!
//! Readers trust the *length* of the bytes only, which is checked: any content gives some estimate.

#![deny(clippy::indexing_slicing)]

use super::{Bits, Estimate, Factors, Probe, Query};
use crate::kernels::{BLOCK_ROWS, FACTOR_BYTES, GROUP_BYTES, GROUPS, Layout, Scan};

/// Blocks that are scanned before any of their rows is visited: what is found in one of them does
/// not make the machine throw away what it has begun of the next.
const BATCH: usize = 8;
/// What a scan found in some blocks, until their rows are visited. A search keeps it from cell to
/// cell: to clear it for each would take as long as a quarter of a block.
#[derive(Clone, Debug, Default)]
pub(super) struct Found {
    /// A bit for each row that is near.
    near: [u32; BATCH],
    scores: [[f32; BLOCK_ROWS]; BATCH],
}

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

/// Brings blocks of codes of `padded` components, as they lie in files, into another layout: for a
/// copy in memory that is then read by [`Blocks::laid_out`]. Which one, [`Codec::layout`] tells.
///
/// # Panics
/// If `padded` is no multiple of 64, or `blocks` are not whole: bugs of the caller.
///
/// ```
/// use akidb_index::{Metric, rabitq::{Blocks, Codec, Factors, lay_out, pack_block}};
/// let codec = Codec::new(Metric::Dot, 2, 1);
/// let (code, factors) = ([0xA5; 8], Factors { add: 1.0, scale: 2.0, error: 3.0 });
/// let mut copy = Vec::new();
/// pack_block(codec.padded(), &[(&code, factors)], &mut copy);
///
/// lay_out(codec.layout(), codec.padded(), &mut copy);
/// let blocks = Blocks::laid_out(codec.layout(), &copy, codec.padded(), 1)?;
/// let mut read = [0; 8];
/// assert_eq!(blocks.copy_row(0, &mut read), Some(factors));
/// assert_eq!(read, code);
/// # Ok::<(), akidb_index::rabitq::BadBlocks>(())
/// ```
///
/// [`Codec::layout`]: super::Codec::layout
pub fn lay_out(layout: Layout, padded: usize, blocks: &mut [u8]) {
    assert!(padded > 0 && padded.is_multiple_of(crate::PAD), "codes have whole words");
    assert_eq!(blocks.len() % block_len(padded), 0, "blocks are whole");
    if layout == Layout::Groups {
        return;
    }
    for block in blocks.chunks_exact_mut(block_len(padded)) {
        let Some((codes, _)) = block.split_last_chunk_mut::<FACTOR_BYTES>() else { continue };
        let (registers, _) = codes.as_chunks_mut::<{ GROUPS * GROUP_BYTES }>();
        for register in registers {
            let groups = *register;
            for (group, bytes) in groups.chunks_exact(GROUP_BYTES).enumerate() {
                for (column, byte) in bytes.iter().enumerate() {
                    if let Some(place) = register.get_mut(layout.place(group, column)) {
                        *place = *byte;
                    }
                }
            }
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
    layout: Layout,
}

impl<'a> Blocks<'a> {
    /// A view of the blocks of `rows` rows.
    ///
    /// # Errors
    /// If `bytes` is not as long as that many rows of `padded` components need, or `padded` is no
    /// multiple of 64.
    pub fn new(bytes: &'a [u8], padded: usize, rows: usize) -> Result<Self, BadBlocks> {
        Self::laid_out(Layout::Groups, bytes, padded, rows)
    }

    /// A view of a copy that [`lay_out`] brought into a layout. Every machine reads every layout, and
    /// gives the same estimates.
    ///
    /// # Errors
    /// Like [`Self::new`].
    pub fn laid_out(
        layout: Layout,
        bytes: &'a [u8],
        padded: usize,
        rows: usize,
    ) -> Result<Self, BadBlocks> {
        let want = rows.div_ceil(BLOCK_ROWS).saturating_mul(block_len(padded));
        if bytes.len() != want || padded == 0 || !padded.is_multiple_of(crate::PAD) {
            return Err(BadBlocks { rows, padded, want, got: bytes.len() });
        }
        Ok(Self { bytes, padded, rows, layout })
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
        threshold: f32,
        visit: impl FnMut(usize, Estimate) -> f32,
    ) {
        self.scan_with(&mut Found::default(), query, probe, mask, threshold, visit);
    }

    /// Like [`Self::scan_estimates`], with room that the caller has.
    pub(super) fn scan_with(
        &self,
        found: &mut Found,
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
        let (tables, affine, layout) = (query.tables(), query.affine(probe), self.layout);
        let mut scan = Scan { tables, affine, threshold, layout };
        for first in (0..blocks).step_by(BATCH) {
            let count = BATCH.min(blocks - first);
            let bytes = self.bytes.get(first * len..(first + count) * len).unwrap_or_default();
            let near = found.near.get_mut(..count).unwrap_or_default();
            for (number, near) in (first..).zip(near.iter_mut()) {
                let wanted = mask.and_then(|mask| mask.get(number)).copied().unwrap_or(u32::MAX);
                *near = wanted & present(self.rows - number * BLOCK_ROWS);
            }
            scan.threshold = threshold - slack;
            query.kernels().scan_blocks(&scan, bytes, near, &mut found.scores);
            let blocks = (first..).zip(bytes.chunks_exact(len));
            for ((number, block), (near, scores)) in blocks.zip(near.iter().zip(&found.scores)) {
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
        let (codes, factors) = block.split_last_chunk::<FACTOR_BYTES>()?;
        let (slot, shift) = (row % BLOCK_ROWS, row % BLOCK_ROWS / 16 * 4);
        let mut nibbles = (0..self.padded / 4).map_while(|group| {
            let byte = codes.get(self.layout.place(group, slot % 16))?;
            Some(byte >> shift & 15)
        });
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
