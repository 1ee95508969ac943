//! Which cells a query visits: centroids are coded like rows, so that choosing among a thousand
//! costs microseconds.
//!
//! Centroids have codes of eight bits, whose products with the query are one pass over them. Of more
//! than [`FLAT_CELLS`] cells the bounds of one-bit codes rule out most first. The
//! estimate of a centroid's score is all that the rows of its cell need: what it may be off by is
//! added to their margins ([`Probe::slack`]), and no centroid is read in full.
//!
//! Cells are ordered by what the best of their rows may be expected to score, not by their
//! centroid alone: of two cells at one distance the wider one holds more of a query's neighbours. On
//! 100,000 sentence embeddings in 1,024 cells that saves a tenth of the rows at the same recall.

use super::Codebook;
use crate::{
    BLOCK_ROWS, Metric,
    rabitq::{Bits, Blocks, Centre, Codec, Encoder, Estimate, Factors, Probe, Query, pack_block},
};

/// Beyond as many cells their eight-bit codes leave the cache, and one-bit codes choose first.
const FLAT_CELLS: usize = 2_048;
/// One-bit codes choose first if at most one cell in this many is wanted.
const FEW: usize = 6;
/// What the best rows of a cell are expected to gain over its centroid, in terms of the cell's
/// radius and the length of the query: measured, and flat from 0.2 to 0.4.
const REACH: f32 = 0.3;

/// The centroids of a codebook as codes, and rotated for coding rows.
#[derive(Clone, Debug)]
pub struct Router {
    codes: Vec<u8>,
    factors: Vec<Factors>,
    /// One-bit codes in blocks; empty where there are few cells.
    blocks: Vec<u8>,
    radii: Vec<f32>,
    origin: Centre,
    centres: Vec<Centre>,
    /// Of each centre the squared length and the product with the origin.
    measures: Vec<(f32, f32)>,
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
        let mut factors = Vec::with_capacity(book.cells());
        let mut encoder = codec.encoder();
        let centroids = book.centroids().chunks_exact(book.dim());
        for (centroid, code) in centroids.clone().zip(codes.chunks_exact_mut(code_len)) {
            // Centroids lie where they lie: under cosine, too, they are not stretched to length 1.
            encoder.set_row(centroid, 1.0);
            encoder.set_centre(&origin);
            factors.push(encoder.encode(Bits::Eight, code));
        }
        let blocks = if book.cells() > FLAT_CELLS {
            one_bit_blocks(book, codec.padded(), &mut encoder, &origin)
        } else {
            Vec::new()
        };
        let centres: Vec<Centre> = centroids.map(|centroid| codec.centre(centroid)).collect();
        let measures = centres.iter().map(Centre::measures).collect();
        Self { codes, factors, blocks, radii: book.radii().to_vec(), origin, centres, measures }
    }

    /// The centre of a cell, for coding its rows; `None` if there is no such cell.
    pub fn centre(&self, cell: u32) -> Option<&Centre> {
        self.centres.get(cell as usize)
    }

    /// The `count` cells in which the best rows for a query are most likely, the likeliest first,
    /// each with what the query has to do with its rows.
    ///
    /// # Panics
    /// If the query is of another dimension, which is a bug of the caller.
    pub fn route(&self, query: &Query, count: usize) -> Vec<(u32, Probe)> {
        let products = self.preselected(query, count).unwrap_or_else(|| self.all(query));
        let (origin, length) = (query.probe(&self.origin), query.squared().sqrt());
        let keys = (0..).zip(&products).map(|(at, (cell, product))| {
            let score = self.estimate(query, *cell, *product, &origin).score;
            key(self.appeal(query.metric(), length, *cell, score), at)
        });
        let chosen = best(keys.collect(), count).into_iter();
        let chosen = chosen.filter_map(|at| products.get(at as usize));
        chosen.map(|(cell, product)| (*cell, self.probe(query, *cell, *product, &origin))).collect()
    }

    /// Every cell, to be put in order as far as somebody asks: for searches that learn on the way how
    /// many cells they need.
    ///
    /// # Panics
    /// If the query is of another dimension, which is a bug of the caller.
    pub fn ranking<'a>(&'a self, query: &'a Query) -> Ranking<'a> {
        let products = self.all(query);
        let (origin, length) = (query.probe(&self.origin), query.squared().sqrt());
        let appeal = |(cell, product): &(u32, i32)| {
            let score = self.estimate(query, *cell, *product, &origin).score;
            key(self.appeal(query.metric(), length, *cell, score), *cell)
        };
        let keys = products.iter().map(appeal).collect();
        Ranking { router: self, query, origin, products, keys, ordered: 0 }
    }

    /// What a query has to do with the rows of every cell, in the order of the cells: for scoring
    /// rows that a filter chose, wherever they lie.
    ///
    /// # Panics
    /// If the query is of another dimension, which is a bug of the caller.
    pub fn probes(&self, query: &Query) -> Vec<Probe> {
        let origin = query.probe(&self.origin);
        let all = self.all(query).into_iter();
        all.map(|(cell, product)| self.probe(query, cell, product, &origin)).collect()
    }

    /// Every cell, and the product of its eight-bit code with the query.
    fn all(&self, query: &Query) -> Vec<(u32, i32)> {
        let mut products = vec![0; self.factors.len()];
        query.kernels().dot_u8_all(&self.codes, query.whole(), &mut products);
        (0..).zip(products).collect()
    }

    /// Like [`Self::all`], for the cells alone that may be among the `count` likeliest as far as the
    /// bounds of one-bit codes tell. `None` where looking at all is less work.
    fn preselected(&self, query: &Query, count: usize) -> Option<Vec<(u32, i32)>> {
        let worth_it = count > 0 && count <= self.factors.len() / FEW;
        if self.blocks.is_empty() || !worth_it {
            return None;
        }
        let blocks = Blocks::new(&self.blocks, query.whole().len(), self.factors.len()).ok()?;
        let (mut appeals, mut upper) = (Vec::with_capacity(self.factors.len()), Vec::new());
        let (origin, length) = (query.probe(&self.origin), query.squared().sqrt());
        blocks.scan_estimates(query, &origin, None, f32::NEG_INFINITY, |cell, estimate| {
            let appeal = self.appeal(query.metric(), length, cell as u32, estimate.score);
            appeals.push(if appeal.is_nan() { f32::NEG_INFINITY } else { appeal });
            upper.push(appeal + estimate.margin);
            f32::NEG_INFINITY
        });
        let (_, last, _) = appeals.select_nth_unstable_by(count - 1, |a, b| b.total_cmp(a));
        let last = *last;
        // Nothing is known about a cell whose bound is no number.
        let open = (0_u32..).zip(upper).filter(|(_, upper)| upper.is_nan() || *upper >= last);
        let cells: Vec<u32> = open.map(|(cell, _)| cell).collect();
        let mut products = vec![0; cells.len()];
        query.kernels().dot_u8_rows(&self.codes, query.whole(), &cells, &mut products);
        Some(cells.into_iter().zip(products).collect())
    }

    fn estimate(&self, query: &Query, cell: u32, product: i32, origin: &Probe) -> Estimate {
        query.estimate_of(Bits::Eight, product, self.factors[cell as usize], origin)
    }

    /// What the best rows of a cell may be expected to score, up to what is the same for all cells:
    /// see [`REACH`]. Under L2 the mean row lies farther than the centroid by the radius. `length` is
    /// that of the query.
    fn appeal(&self, metric: Metric, length: f32, cell: u32, score: f32) -> f32 {
        let radius = self.radii[cell as usize];
        match metric {
            Metric::Cosine | Metric::Dot => score + REACH * radius * length,
            Metric::L2 => score - radius * (radius - 2.0 * REACH * (-score).max(0.0).sqrt()),
        }
    }

    fn probe(&self, query: &Query, cell: u32, product: i32, origin: &Probe) -> Probe {
        let estimate = self.estimate(query, cell, product, origin);
        let cell = cell as usize;
        let estimated = query.probe_estimated(estimate, self.measures[cell]);
        estimated.unwrap_or_else(|| query.probe(&self.centres[cell]))
    }
}

/// How many cells a [`Ranking`] puts in order at first.
const FIRST_ORDERED: usize = 64;

/// The cells of a codebook by what the best of their rows may be expected to score, as
/// [`Router::route`] orders them.
#[derive(Clone, Debug)]
pub struct Ranking<'a> {
    router: &'a Router,
    query: &'a Query,
    origin: Probe,
    /// In the order of the cells.
    products: Vec<(u32, i32)>,
    /// The first of them are in order, and before all others.
    keys: Vec<u64>,
    ordered: usize,
}

impl Ranking<'_> {
    /// The cell in this place, the likeliest in place 0; `None` past the last.
    pub fn cell(&mut self, place: usize) -> Option<u32> {
        while place >= self.ordered && self.ordered < self.keys.len() {
            let rest = &mut self.keys[self.ordered..];
            let more = rest.len().min(self.ordered.max(FIRST_ORDERED));
            if more < rest.len() {
                rest.select_nth_unstable(more);
            }
            rest[..more].sort_unstable();
            self.ordered += more;
        }
        self.keys.get(place).map(|key| *key as u32)
    }

    /// What the query has to do with the rows of a cell; `None` if there is no such cell.
    pub fn probe(&self, cell: u32) -> Option<Probe> {
        let (_, product) = self.products.get(cell as usize)?;
        Some(self.router.probe(self.query, cell, *product, &self.origin))
    }
}

/// A number that is the smaller, the larger the score is, and then the smaller `at` is. A score
/// that is not a number is the smallest.
fn key(score: f32, at: u32) -> u64 {
    let bits = if score.is_nan() { f32::NEG_INFINITY } else { score }.to_bits();
    let rising = if bits >> 31 == 1 { !bits } else { bits | 1 << 31 };
    u64::from(!rising) << 32 | u64::from(at)
}

/// What the `count` smallest keys belong to, in their order.
fn best(mut keys: Vec<u64>, count: usize) -> Vec<u32> {
    if count < keys.len() {
        keys.select_nth_unstable(count);
        keys.truncate(count);
    }
    keys.sort_unstable();
    keys.into_iter().map(|key| key as u32).collect()
}

/// The centroids as blocks of one-bit codes.
fn one_bit_blocks(
    book: &Codebook,
    padded: usize,
    encoder: &mut Encoder<'_>,
    origin: &Centre,
) -> Vec<u8> {
    let mut blocks = Vec::new();
    for centroids in book.centroids().chunks(BLOCK_ROWS * book.dim()) {
        let mut code_of = |centroid: &[f32]| {
            let mut code = vec![0; Bits::One.code_len(padded)];
            encoder.set_row(centroid, 1.0);
            encoder.set_centre(origin);
            let factors = encoder.encode(Bits::One, &mut code);
            (code, factors)
        };
        let codes: Vec<_> = centroids.chunks_exact(book.dim()).map(&mut code_of).collect();
        let codes: Vec<_> = codes.iter().map(|(code, factors)| (&**code, *factors)).collect();
        pack_block(padded, &codes, &mut blocks);
    }
    blocks
}
