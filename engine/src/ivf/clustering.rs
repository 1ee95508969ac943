//! One clustering, its bytes, and which ones a collection has in memory.
//!
//! # Invariants
//! - The id is the hash of the bytes: equal ids mean equal centroids, rotation and origin, hence codes
//!   that may stand side by side.
//! - The bytes of a clustering are those it was read from, so that a merge copies them unchanged.

#![deny(clippy::indexing_slicing)]

use crate::{cursor::Cursor, schema::Metric};
use akidb_index::{
    codebook::{Codebook, Router},
    rabitq::Codec,
};
use parking_lot::Mutex;
use std::{
    fmt,
    sync::{Arc, Weak},
};

/// The version of the bytes.
const VERSION: u32 = 1;
/// Rows per cell that a codebook is trained for. Small cells cost little, because choosing among
/// them does: see `docs/design/013-cells.md`.
const ROWS_PER_CELL: u64 = 96;
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
    (rows / ROWS_PER_CELL).clamp(1, most)
}

/// Bytes that are not a clustering.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum BadClustering {
    #[error("the codebook is cut off")]
    Short,
    #[error("the codebook has version {0}")]
    Version(u32),
    #[error("the codebook has {0} dimensions")]
    Dim(u32),
    #[error("the codebook has no cells, or more than can be")]
    Cells,
    #[error("the codebook holds a number that is not finite")]
    NotFinite,
}

/// A codebook, the codec of its rows, and the router over its cells.
pub(crate) struct Clustering {
    id: u64,
    bytes: Box<[u8]>,
    book: Codebook,
    codec: Codec,
    router: Router,
}

impl fmt::Debug for Clustering {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Clustering")
            .field("id", &format_args!("{:016x}", self.id))
            .field("cells", &self.book.cells())
            .finish_non_exhaustive()
    }
}

impl Clustering {
    /// Trains about `cells` cells on finite rows, which lie one behind the other; under cosine
    /// they have unit length.
    pub(crate) fn train(metric: Metric, dim: u32, rows: &[f32], cells: usize) -> Self {
        let book = Codebook::train(rows, dim as usize, cells, SEED);
        let origin = mean(rows, dim as usize);
        Self::assemble(encode(&book, &origin), book, metric, &origin)
    }

    /// Reads a clustering from the bytes of a segment's block, whose checksum was compared.
    pub(crate) fn decode(bytes: &[u8], metric: Metric, dim: u32) -> Result<Self, BadClustering> {
        let mut fields = Cursor::new(bytes, 0);
        let mut number = || fields.u32().ok_or(BadClustering::Short);
        let (version, found, cells, reserved) = (number()?, number()?, number()?, number()?);
        if version != VERSION || reserved != 0 {
            return Err(BadClustering::Version(version));
        }
        if found != dim {
            return Err(BadClustering::Dim(found));
        }
        let rest = fields.take(fields.remaining()).ok_or(BadClustering::Short)?;
        let len = |vectors: u64| vectors.checked_mul(4 * u64::from(dim));
        if cells == 0 || len(u64::from(cells) + 1) != Some(rest.len() as u64) {
            return Err(BadClustering::Cells);
        }
        let numbers: Vec<f32> =
            rest.as_chunks().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect();
        if !numbers.iter().all(|number| number.is_finite()) {
            return Err(BadClustering::NotFinite);
        }
        let (origin, centroids) =
            numbers.split_at_checked(dim as usize).ok_or(BadClustering::Short)?;
        let book = Codebook::from_centroids(centroids.to_vec(), dim as usize);
        Ok(Self::assemble(bytes.into(), book, metric, origin))
    }

    fn assemble(bytes: Box<[u8]>, book: Codebook, metric: Metric, origin: &[f32]) -> Self {
        let codec = Codec::new(metric_of(metric), book.dim(), SEED).with_origin(origin);
        let router = Router::new(&book, &codec);
        Self { id: xxhash_rust::xxh3::xxh3_64(&bytes), bytes, book, codec, router }
    }

    /// Equal ids mean equal clusterings.
    pub(crate) fn id(&self) -> u64 {
        self.id
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

/// The mean of rows: what codes and queries are rounded relative to.
fn mean(rows: &[f32], dim: usize) -> Vec<f32> {
    let mut sums = vec![0.0_f64; dim];
    for row in rows.chunks_exact(dim) {
        sums.iter_mut().zip(row).for_each(|(sum, x)| *sum += f64::from(*x));
    }
    let count = (rows.len() / dim).max(1) as f64;
    sums.into_iter().map(|sum| (sum / count) as f32).collect()
}

fn encode(book: &Codebook, origin: &[f32]) -> Box<[u8]> {
    let head = |number: usize| {
        u32::try_from(number).expect("dimensions and cells fit 32 bits").to_le_bytes()
    };
    let mut out = Vec::with_capacity(16 + 4 * (origin.len() + book.centroids().len()));
    out.extend_from_slice(&VERSION.to_le_bytes());
    out.extend_from_slice(&head(book.dim()));
    out.extend_from_slice(&head(book.cells()));
    out.extend_from_slice(&[0; 4]);
    out.extend(origin.iter().chain(book.centroids()).flat_map(|x| x.to_le_bytes()));
    out.into()
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
        let id = xxhash_rust::xxh3::xxh3_64(bytes);
        let mut known = self.known.lock();
        known.retain(|one| one.strong_count() > 0);
        if let Some(found) = known.iter().filter_map(Weak::upgrade).find(|one| one.id == id) {
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

    /// The one of the most cells that suits rows that want `cells`: with at least half of them, or a
    /// search would scan twice what it must, and at most four times as many, or most cells of a
    /// small segment would hold a few rows each.
    pub(crate) fn fitting(&self, cells: u64) -> Option<Arc<Clustering>> {
        let fits = |one: &Arc<Clustering>| {
            (cells.div_ceil(2)..=cells.saturating_mul(4)).contains(&u64::from(one.cells()))
        };
        let known = self.known.lock();
        // Of equal ones the same at any time: the order of the list is that of opening.
        known.iter().filter_map(Weak::upgrade).filter(fits).max_by_key(|one| (one.cells(), one.id))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn trained() -> Clustering {
        let rows: Vec<f32> = (0..600).map(|i| (i * 37 % 101) as f32 / 50.0 - 1.0).collect();
        Clustering::train(Metric::L2, 3, &rows, 4)
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
        assert_eq!(decode(&good[..9], 3), Err(BadClustering::Short));
        assert_eq!(decode(&good[..good.len() - 1], 3), Err(BadClustering::Cells));
        assert_eq!(decode(&good, 4), Err(BadClustering::Dim(3)));
        let mut bad = good.clone();
        bad[0] = 9;
        assert_eq!(decode(&bad, 3), Err(BadClustering::Version(9)));
        let mut bad = good;
        bad[20..24].copy_from_slice(&f32::NAN.to_le_bytes());
        assert_eq!(decode(&bad, 3), Err(BadClustering::NotFinite));
    }

    #[test]
    fn equal_bytes_are_one_clustering_and_the_finest_that_fits_is_taken() {
        let known = Clusterings::default();
        let coarse = known.insert(trained());
        let again = known.resolve(coarse.bytes(), Metric::L2, 3).unwrap();
        assert!(Arc::ptr_eq(&coarse, &again));
        let rows: Vec<f32> = (0..600).map(|i| (i * 17 % 103) as f32).collect();
        let fine = known.insert(Clustering::train(Metric::L2, 3, &rows, 9));
        for (cells, found) in [(1, Some(&coarse)), (3, Some(&fine)), (8, Some(&fine)), (30, None)] {
            let fitting = known.fitting(cells);
            assert_eq!(fitting.as_ref().map(|one| one.id()), found.map(|one| one.id()), "{cells}");
        }
        drop((coarse, again));
        assert!(known.fitting(1).is_none());
    }

    proptest! {
        #[test]
        fn any_bytes_are_refused_or_safe(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            if let Ok(one) = Clustering::decode(&bytes, Metric::Dot, 2) {
                prop_assert!(one.cells() > 0);
            }
        }

        #[test]
        fn cells_are_within_their_limits(rows in any::<u64>(), dim in 1_u32..=65_535) {
            let cells = cells_for(rows, dim);
            prop_assert!((1..=CELLS_MAX).contains(&cells));
            prop_assert!(cells * 4 * u64::from(dim) <= CENTROID_BYTES_MAX || cells == 1);
        }
    }
}
