//! Eight-bit codes of consecutive rows with their factors, in memory that somebody else owns: what
//! decides among the rows that a scan of one-bit codes found, and what rows are scored by that a
//! filter picked one by one.
//!
//! # Layout
//! The codes lie one behind the other, a byte per component; apart from them the factors, 12 bytes
//! per row: `add`, `scale` and `error`, each an f32, little-endian.
//!
//! Readers trust the *lengths* only, which are checked: any content gives some estimate.

#![deny(clippy::indexing_slicing)]

use super::{Bits, Estimate, Factors, Probe, Query};

/// Bytes of the factors of a row.
pub const FACTORS_LEN: usize = 12;
/// Rows that are asked of memory before the first of them is looked at.
const BATCH: usize = 16;

impl Factors {
    /// The factors as bytes.
    pub fn to_bytes(self) -> [u8; FACTORS_LEN] {
        let mut bytes = [0; FACTORS_LEN];
        for (to, from) in bytes.chunks_exact_mut(4).zip([self.add, self.scale, self.error]) {
            to.copy_from_slice(&from.to_le_bytes());
        }
        bytes
    }

    /// What [`Self::to_bytes`] wrote.
    pub fn from_bytes(bytes: &[u8; FACTORS_LEN]) -> Self {
        let [add, scale, error] = [0, 4, 8].map(|at| {
            let word = bytes.get(at..).and_then(|rest| rest.first_chunk());
            f32::from_le_bytes(word.copied().unwrap_or_default())
        });
        Self { add, scale, error }
    }
}

/// Codes and factors that do not belong together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{codes} bytes of codes of {padded} components and {factors} bytes of factors are not of one number of rows"
)]
pub struct BadFineCodes {
    /// Bytes of codes.
    pub codes: usize,
    /// Bytes of factors.
    pub factors: usize,
    /// Components of a code.
    pub padded: usize,
}

/// Eight-bit codes of consecutive rows.
///
/// ```
/// use akidb_index::{Metric, rabitq::{Bits, CONFIDENCE, Codec, FineCodes}};
/// let codec = Codec::new(Metric::Dot, 2, 1);
/// let mut encoder = codec.encoder();
/// let (mut codes, mut factors) = (vec![0; codec.padded()], Vec::new());
/// encoder.set_row(&[3.0, 4.0], 0.2);
/// encoder.set_centre(&codec.origin_centre());
/// factors.extend(encoder.encode(Bits::Eight, &mut codes).to_bytes());
///
/// let fine = FineCodes::new(&codes, &factors, codec.padded())?;
/// let query = codec.query(&[1.0, 1.0], CONFIDENCE);
/// let probe = query.probe(&codec.origin_centre());
/// let mut found = Vec::new();
/// query.estimate_rows(&[(fine.row(0).unwrap(), probe)], &mut found);
/// assert!((found[0].score - 7.0).abs() <= found[0].margin);
/// # Ok::<(), akidb_index::rabitq::BadFineCodes>(())
/// ```
#[derive(Clone, Copy, Debug)]
pub struct FineCodes<'a> {
    codes: &'a [u8],
    factors: &'a [[u8; FACTORS_LEN]],
    padded: usize,
}

impl<'a> FineCodes<'a> {
    /// A view of as many rows as there are factors.
    ///
    /// # Errors
    /// If the codes are of another number of rows, or `padded` is no multiple of 64.
    pub fn new(codes: &'a [u8], factors: &'a [u8], padded: usize) -> Result<Self, BadFineCodes> {
        let (rows, rest) = factors.as_chunks::<FACTORS_LEN>();
        let want = rows.len().checked_mul(padded);
        let whole = rest.is_empty() && padded > 0 && padded.is_multiple_of(crate::PAD);
        if !whole || want != Some(codes.len()) {
            return Err(BadFineCodes { codes: codes.len(), factors: factors.len(), padded });
        }
        Ok(Self { codes, factors: rows, padded })
    }

    /// Rows.
    pub fn rows(&self) -> usize {
        self.factors.len()
    }

    /// Code and factors of a row; `None` past the last.
    pub fn get(&self, row: usize) -> Option<(&'a [u8], Factors)> {
        let (code, factors) = self.bytes(row)?;
        Some((code, Factors::from_bytes(factors)))
    }

    /// A row, of which nothing is read yet; `None` past the last.
    pub fn row(&self, row: usize) -> Option<FineRow<'a>> {
        self.bytes(row).map(|(code, factors)| FineRow { code, factors })
    }

    /// Code and factors of a row as they lie; `None` past the last.
    pub(super) fn bytes(&self, row: usize) -> Option<(&'a [u8], &'a [u8; FACTORS_LEN])> {
        let factors = self.factors.get(row)?;
        let start = row.checked_mul(self.padded)?;
        Some((self.codes.get(start..start.checked_add(self.padded)?)?, factors))
    }
}

/// Code and factors of one row, where they lie.
#[derive(Clone, Copy, Debug)]
pub struct FineRow<'a> {
    code: &'a [u8],
    factors: &'a [u8; FACTORS_LEN],
}

impl Query {
    /// Estimates scattered rows by their eight-bit codes, the next ones asked of memory while some
    /// are multiplied: what a filter of few matches does instead of a scan. With each row comes what the
    /// query has to do with its cell; the estimate of `rows[i]` is appended to `out` as the
    /// `i`-th, and is what [`Self::estimate`] gives.
    ///
    /// # Panics
    /// If the codes are of another dimension, which is a bug of the caller.
    pub fn estimate_rows(&self, rows: &[(FineRow<'_>, Probe)], out: &mut Vec<Estimate>) {
        let ask = |rows: &[(FineRow<'_>, Probe)]| {
            for (row, _) in rows {
                self.kernels().prefetch(row.code);
                self.kernels().prefetch(row.factors);
            }
        };
        let mut batches = rows.chunks(BATCH).peekable();
        batches.peek().copied().into_iter().for_each(ask);
        while let Some(batch) = batches.next() {
            batches.peek().copied().into_iter().for_each(ask);
            out.extend(batch.iter().map(|(row, probe)| {
                self.estimate(Bits::Eight, row.code, Factors::from_bytes(row.factors), probe)
            }));
        }
    }
}
