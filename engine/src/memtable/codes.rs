//! Codes of a memtable's rows, a chunk at a time, so that a search need not read every vector.
//!
//! A load without searches pays nothing for codes, and the log's thread never makes them. The first
//! search of a memtable asks for them; from then on writers make those of the chunks they filled,
//! each when its own write is done. A search makes those of one chunk at most, and reads the vectors
//! of what has none yet: after a load that nobody searched, the first searches catch up. There is no codebook here: all rows are coded around the origin.
//!
//! # Invariants
//! - The codes of a chunk are made once, of rows that are all published: they never change.
//! - The pool is charged for codes as long as the memtable holds them, and not after.

use super::{CHUNK_ROWS, MemRow};
use crate::error::{Error, Result};
use akidb_index::{
    BLOCK_ROWS,
    rabitq::{Bits, Blocks, CellCodes, Codec, FACTORS_LEN, FineCodes, block_len, pack_block},
};

/// The codes of a full chunk.
#[derive(Debug)]
pub(crate) struct ChunkCodes {
    padded: usize,
    blocks: Box<[u8]>,
    fine: Box<[u8]>,
    factors: Box<[u8]>,
}

impl ChunkCodes {
    /// Bytes of memory that the codes of one chunk take.
    pub(super) fn bytes(codec: &Codec) -> u64 {
        let row = codec.padded() + FACTORS_LEN;
        (CHUNK_ROWS * row + CHUNK_ROWS / BLOCK_ROWS * block_len(codec.padded())) as u64
    }

    /// Codes the rows of a chunk.
    pub(super) fn new<'r>(codec: &Codec, rows: impl Iterator<Item = &'r MemRow>) -> Self {
        let padded = codec.padded();
        let centre = codec.origin_centre();
        let mut encoder = codec.encoder();
        let (mut ones, mut fine, mut factors) = (Vec::new(), Vec::new(), Vec::new());
        for row in rows {
            encoder.set_row(&row.vector, row.inv_norm);
            encoder.set_centre(&centre);
            let mut one = vec![0; Bits::One.code_len(padded)];
            let one_factors = encoder.encode(Bits::One, &mut one);
            ones.push((one, one_factors));
            let start = fine.len();
            fine.resize(start + Bits::Eight.code_len(padded), 0);
            factors.extend(encoder.encode(Bits::Eight, &mut fine[start..]).to_bytes());
        }
        let mut blocks = Vec::with_capacity(ones.len() / BLOCK_ROWS * block_len(padded));
        for block in ones.chunks(BLOCK_ROWS) {
            let block: Vec<_> = block.iter().map(|(code, factors)| (&**code, *factors)).collect();
            pack_block(padded, &block, &mut blocks);
        }
        Self { padded, blocks: blocks.into(), fine: fine.into(), factors: factors.into() }
    }

    /// The codes of all rows.
    ///
    /// # Errors
    /// A bug, if the lengths do not fit each other.
    pub(crate) fn cell(&self) -> Result<CellCodes<'_>> {
        let fine = FineCodes::new(&self.fine, &self.factors, self.padded)
            .map_err(|_| Error::bug("fine codes of a chunk are not of its rows"))?;
        let blocks = Blocks::new(&self.blocks, self.padded, fine.rows())
            .map_err(|_| Error::bug("the codes of a chunk are not of its rows"))?;
        Ok(CellCodes { blocks, fine, mask: None })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Metric, PointId, ivf::metric_of, memtable::Stored};
    use akidb_index::rabitq::CONFIDENCE;
    use akidb_wal::Lsn;

    #[test]
    fn estimates_of_a_chunk_are_those_of_its_rows() {
        let codec = Codec::new(metric_of(Metric::Dot), 5, 3);
        let rows: Vec<MemRow> = (0..CHUNK_ROWS as u64)
            .map(|n| {
                let vector: Box<[f32]> =
                    (0..5).map(|d| ((n * 7 + d * 3) % 11) as f32 - 5.0).collect();
                MemRow::new(PointId::U64(n), Lsn::new(n + 1), vector.into(), 1.0, Stored::default())
            })
            .collect();
        let codes = ChunkCodes::new(&codec, rows.iter());
        let query = codec.query(&[1.0, -2.0, 0.5, 3.0, -1.0], CONFIDENCE);
        let probe = query.probe(&codec.origin_centre());
        for (at, row) in rows.iter().enumerate() {
            let (code, factors) = codes.cell().unwrap().fine.get(at).unwrap();
            let estimate = query.estimate(Bits::Eight, code, factors, &probe);
            let truth: f32 =
                row.vector.iter().zip([1.0, -2.0, 0.5, 3.0, -1.0]).map(|(x, y)| x * y).sum();
            assert!((estimate.score - truth).abs() < 0.5, "{} and {truth}", estimate.score);
        }
        assert!(codes.cell().unwrap().fine.get(CHUNK_ROWS).is_none());
        assert_eq!(codes.cell().unwrap().blocks.rows(), CHUNK_ROWS);
        let held = codes.blocks.len() + codes.fine.len() + codes.factors.len();
        assert_eq!(ChunkCodes::bytes(&codec), held as u64);
    }
}
