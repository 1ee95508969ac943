//! Which cells a query visits: centroids are coded like rows, so that choosing among a thousand
//! costs microseconds.

use super::Codebook;
use crate::{
    TopK,
    rabitq::{Bits, Centre, Codec, Factors, Probe, Query},
};

/// The centroids of a codebook as codes of eight bits, and rotated for the chosen ones.
#[derive(Clone, Debug)]
pub struct Router {
    code_len: usize,
    codes: Vec<u8>,
    factors: Vec<Factors>,
    origin: Centre,
    centres: Vec<Centre>,
}

impl Router {
    /// Codes the centroids of `book` with the codec that its rows are coded with.
    ///
    /// # Panics
    /// If codec and codebook are of different dimensions, which is a bug of the caller.
    pub fn new(book: &Codebook, codec: &Codec) -> Self {
        let origin = codec.origin_centre();
        let code_len = Bits::Eight.code_len(codec.padded());
        let mut codes = vec![0; book.cells() * code_len];
        let mut encoder = codec.encoder();
        let mut factors = Vec::with_capacity(book.cells());
        for (centroid, code) in
            book.centroids().chunks_exact(book.dim()).zip(codes.chunks_exact_mut(code_len))
        {
            // Centroids lie where they lie: under cosine, too, they are not stretched to length 1.
            encoder.set_row(centroid, 1.0);
            encoder.set_centre(&origin);
            factors.push(encoder.encode(Bits::Eight, code));
        }
        let centres = book.centroids().chunks_exact(book.dim()).map(|c| codec.centre(c)).collect();
        Self { code_len, codes, factors, origin, centres }
    }

    /// The centre of a cell, for coding its rows; `None` if there is no such cell.
    pub fn centre(&self, cell: u32) -> Option<&Centre> {
        self.centres.get(cell as usize)
    }

    /// The `count` cells that are nearest to a query, the nearest first, each with what the query
    /// has to do with its rows. Nearest is the least distance under L2 and the largest product
    /// under the other metrics.
    pub fn route(&self, query: &Query, count: usize) -> Vec<(u32, Probe)> {
        let probe = query.probe(&self.origin);
        let mut best = TopK::new(count);
        let codes = self.codes.chunks_exact(self.code_len).zip(&self.factors);
        for (cell, (code, factors)) in (0_u32..).zip(codes) {
            best.push(query.estimate(Bits::Eight, code, *factors, &probe).score, cell);
        }
        let chosen = best.into_sorted_vec().into_iter().map(|found| found.item);
        let mut cells: Vec<(u32, Probe)> = chosen
            .filter_map(|cell| Some((cell, query.probe(self.centres.get(cell as usize)?))))
            .collect();
        // The estimates chose the cells; their order is exact.
        cells.sort_by(|a, b| b.1.centre_score().total_cmp(&a.1.centre_score()));
        cells
    }
}
