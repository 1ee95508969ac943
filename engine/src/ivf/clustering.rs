//! One clustering, its bytes, and which ones a collection has in memory.
//!
//! # Invariants
//! - The id is the codebook's: equal ids mean equal centroids, rotation and origin, hence codes
//!   that may stand side by side.
//! - The bytes of a clustering are those it was read from, so that a merge copies them unchanged.

#![deny(clippy::indexing_slicing)]

use crate::schema::Metric;
use akidb_index::{
    Executor,
    codebook::{BadCodebook, Codebook, Router},
    rabitq::Codec,
};
use parking_lot::Mutex;
use std::{
    fmt,
    sync::{Arc, Weak},
};

/// Rows per cell that a codebook is trained for. Small cells cost little, because choosing among
/// them does: see `docs/design/013-cells.md`.
const ROWS_PER_CELL: u64 = 96;
/// With more cells than this, they grow with the rows to the power of three quarters: choosing among
/// them and training them cost more with each, and the sample has its limit.
const CELLS_IN_PROPORTION: u64 = 1_024;
/// The most cells: choosing among more would cost more than it saves.
const CELLS_MAX: u64 = 16_384;
/// The most bytes that centroids may take in each segment.
const CENTROID_BYTES_MAX: u64 = 64 << 20;
/// What the signs of the rotation and the order of the sample are drawn from.
const SEED: u64 = 0x616b_6964_625f_6976;

/// The engine's metric as the index knows it.
pub(crate) fn metric_of(metric: Metric) -> akidb_index::Metric {
    match metric {
        Metric::Cosine => akidb_index::Metric::Cosine,
        Metric::Dot => akidb_index::Metric::Dot,
        Metric::L2 => akidb_index::Metric::L2,
    }
}

/// How many cells suit so many rows of `dim` numbers.
pub(crate) fn cells_for(rows: u64, dim: u32) -> u64 {
    let most = (CENTROID_BYTES_MAX / (4 * u64::from(dim.max(1)))).clamp(1, CELLS_MAX);
    let cells = (rows / ROWS_PER_CELL).max(1);
    let beyond = (cells as f64 / CELLS_IN_PROPORTION as f64).max(1.0);
    // Roots, not a power: they are the same bits on every machine.
    let slower = CELLS_IN_PROPORTION as f64 * beyond.sqrt() * beyond.sqrt().sqrt();
    cells.min(slower as u64).min(most)
}

/// Bytes that are not a clustering of the collection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum BadClustering {
    /// They are no codebook.
    #[error(transparent)]
    Codebook(#[from] BadCodebook),
    /// They are of other vectors.
    #[error("the codebook is of {found} dimensions, the collection of {dim}")]
    Dim {
        /// Dimensions of the codebook.
        found: usize,
        /// Dimensions of the collection.
        dim: u32,
    },
}

/// A codebook, the codec of its rows, and the router over its cells.
pub(crate) struct Clustering {
    bytes: Box<[u8]>,
    book: Codebook,
    codec: Codec,
    router: Router,
}

impl fmt::Debug for Clustering {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Clustering")
            .field("id", &format_args!("{:016x}", self.id()))
            .field("cells", &self.book.cells())
            .finish_non_exhaustive()
    }
}

impl Clustering {
    /// Trains about `cells` cells on finite rows, which lie one behind the other; under cosine
    /// they have unit length.
    pub(crate) fn train(
        executor: &dyn Executor,
        metric: Metric,
        dim: u32,
        rows: &[f32],
        cells: usize,
    ) -> Self {
        let book = Codebook::train_on(executor, rows, dim as usize, cells, SEED);
        Self::assemble(book.encode().into(), book, metric)
    }

    /// Reads a clustering of vectors of `dim` numbers from the bytes of a segment's block.
    pub(crate) fn decode(bytes: &[u8], metric: Metric, dim: u32) -> Result<Self, BadClustering> {
        let book = Codebook::decode(bytes)?;
        if book.dim() != dim as usize {
            return Err(BadClustering::Dim { found: book.dim(), dim });
        }
        Ok(Self::assemble(bytes.into(), book, metric))
    }

    fn assemble(bytes: Box<[u8]>, book: Codebook, metric: Metric) -> Self {
        let codec = book.codec(metric_of(metric));
        let router = Router::new(&book, &codec);
        Self { bytes, book, codec, router }
    }

    /// Equal ids mean equal clusterings.
    pub(crate) fn id(&self) -> u64 {
        self.book.id()
    }

    /// What [`Self::decode`] reads.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    pub(crate) fn book(&self) -> &Codebook {
        &self.book
    }

    pub(crate) fn codec(&self) -> &Codec {
        &self.codec
    }

    pub(crate) fn router(&self) -> &Router {
        &self.router
    }

    /// How many cells there are.
    pub(crate) fn cells(&self) -> u32 {
        u32::try_from(self.book.cells()).expect("cells are counted by 32 bits in the bytes")
    }
}

/// The clusterings that a collection has in memory: each once, as long as a part uses it.
#[derive(Debug, Default)]
pub(crate) struct Clusterings {
    known: Mutex<Vec<Weak<Clustering>>>,
}

impl Clusterings {
    /// The clustering of these bytes: the one in memory, or a new one.
    pub(crate) fn resolve(
        &self,
        bytes: &[u8],
        metric: Metric,
        dim: u32,
    ) -> Result<Arc<Clustering>, BadClustering> {
        let same = |one: &Arc<Clustering>| *one.bytes == *bytes;
        let mut known = self.known.lock();
        known.retain(|one| one.strong_count() > 0);
        if let Some(found) = known.iter().filter_map(Weak::upgrade).find(same) {
            return Ok(found);
        }
        let new = Arc::new(Clustering::decode(bytes, metric, dim)?);
        known.push(Arc::downgrade(&new));
        Ok(new)
    }

    /// Takes in a clustering that was just trained.
    pub(crate) fn insert(&self, new: Clustering) -> Arc<Clustering> {
        let new = Arc::new(new);
        self.known.lock().push(Arc::downgrade(&new));
        new
    }

    /// Those that suit rows that want `cells`: with at least half of them, or a search would scan
    /// twice what it must, and at most four times as many, or most cells of a small segment would
    /// hold a few rows each. The one of the most cells first.
    pub(crate) fn fitting(&self, cells: u64) -> Vec<Arc<Clustering>> {
        let fits = |one: &Arc<Clustering>| {
            (cells.div_ceil(2)..=cells.saturating_mul(4)).contains(&u64::from(one.cells()))
        };
        let known = self.known.lock();
        let mut fitting: Vec<_> = known.iter().filter_map(Weak::upgrade).filter(fits).collect();
        // In the same order at any time: that of the list is that of opening.
        fitting.sort_by_key(|one| std::cmp::Reverse((one.cells(), one.id())));
        fitting
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use akidb_index::Serial;
    use proptest::prelude::*;

    fn trained() -> Clustering {
        let rows: Vec<f32> = (0..600).map(|i| (i * 37 % 101) as f32 / 50.0 - 1.0).collect();
        Clustering::train(&Serial, Metric::L2, 3, &rows, 4)
    }

    #[test]
    fn a_clustering_is_read_back_as_it_was_written() {
        let one = trained();
        let other = Clustering::decode(one.bytes(), Metric::L2, 3).unwrap();
        assert_eq!((one.id(), one.book(), one.bytes()), (other.id(), other.book(), other.bytes()));
        let rotated =
            |one: &Clustering| one.codec().query(&[1.0, 2.0, 3.0], 1.9).rotated().to_vec();
        assert_eq!(rotated(&one), rotated(&other));
    }

    #[test]
    fn what_is_wrong_with_the_bytes_is_said() {
        let good = trained().bytes().to_vec();
        let decode = |bytes: &[u8], dim| Clustering::decode(bytes, Metric::L2, dim).map(|_| ());
        assert_eq!(decode(&good, 4), Err(BadClustering::Dim { found: 3, dim: 4 }));
        assert!(matches!(decode(&good[..9], 3), Err(BadClustering::Codebook(_))));
    }

    #[test]
    fn equal_bytes_are_one_clustering_and_the_finest_that_fits_comes_first() {
        let known = Clusterings::default();
        let coarse = known.insert(trained());
        let again = known.resolve(coarse.bytes(), Metric::L2, 3).unwrap();
        assert!(Arc::ptr_eq(&coarse, &again));
        let rows: Vec<f32> = (0..600).map(|i| (i * 17 % 103) as f32).collect();
        let fine = known.insert(Clustering::train(&Serial, Metric::L2, 3, &rows, 9));
        for (cells, found) in [(1, Some(&coarse)), (3, Some(&fine)), (8, Some(&fine)), (30, None)] {
            let fitting = known.fitting(cells);
            assert_eq!(fitting.first().map(|one| one.id()), found.map(|one| one.id()), "{cells}");
        }
        drop((coarse, again));
        assert!(known.fitting(1).is_empty());
    }

    proptest! {
        #[test]
        fn cells_are_within_their_limits(rows in any::<u64>(), dim in 1_u32..=65_535) {
            let cells = cells_for(rows, dim);
            prop_assert!((1..=CELLS_MAX).contains(&cells));
            prop_assert!(cells * 4 * u64::from(dim) <= CENTROID_BYTES_MAX || cells == 1);
        }
    }
}
