//! From a row to its code: see [`super`]. Called when rows are inserted, flushed and merged.

use super::Bits;
use crate::{
    Layout, Metric, Rotation,
    kernels::{
        Kernels,
        portable::{Grid, Sums},
    },
};

/// Squared lengths outside of this are not trusted in f32: sums of smaller squares lose terms to
/// underflow, products of larger ones overflow.
const TRUSTED_SQUARES: std::ops::Range<f32> = 1e-30..1e30;
/// Widths of the 16 levels, in standard deviations of a component, of which the best is taken: the
/// optimum for normally distributed components lies at 0.335, that of one vector a little aside.
const FOUR_BIT_STEPS: [f32; 5] = [0.26, 0.30, 0.335, 0.37, 0.42];

/// The three numbers beside a code. `estimate = base + add + scale * <code, query>`.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Factors {
    /// What to add to the part of the cell.
    pub add: f32,
    /// What to multiply the inner product of code and query with; never negative.
    pub scale: f32,
    /// The standard deviation of the estimate, for a query at distance 1 of the centre.
    pub error: f32,
}

impl Factors {
    /// Nothing is known about the row: it must be scored exactly.
    pub const UNKNOWN: Self = Self { add: 0.0, scale: 0.0, error: f32::INFINITY };
}

/// What all codes of a collection share: the metric, the rotation and the origin.
///
/// ```
/// use akidb_index::{Metric, rabitq::{Bits, Codec, CONFIDENCE}};
/// let codec = Codec::new(Metric::L2, 4, 7);
/// let centre = codec.origin_centre();
/// let mut encoder = codec.encoder();
/// let mut code = vec![0; Bits::Eight.code_len(codec.padded())];
/// encoder.set_row(&[1.0, 2.0, 3.0, 4.0], 0.0);
/// encoder.set_centre(&centre);
/// let factors = encoder.encode(Bits::Eight, &mut code);
///
/// let query = codec.query(&[1.0, 2.0, 3.0, 5.0], CONFIDENCE);
/// let found = query.estimate(Bits::Eight, &code, factors, &query.probe(&centre));
/// assert!((found.score - -1.0).abs() <= found.margin); // the negated squared distance
/// ```
#[derive(Clone, Debug)]
pub struct Codec {
    metric: Metric,
    rotation: Rotation,
    kernels: Kernels,
    origin: Box<[f32]>,
    /// The origin, rotated.
    pub(super) origin_rotated: Box<[f32]>,
}

impl Codec {
    /// The codec of vectors of `dim` components, around the zero vector.
    ///
    /// # Panics
    /// If `dim` is 0, which is a bug of the caller.
    pub fn new(metric: Metric, dim: usize, seed: u64) -> Self {
        let rotation = Rotation::new(dim, seed);
        let zeros = |len| vec![0.0; len].into_boxed_slice();
        let (origin, origin_rotated) = (zeros(dim), zeros(rotation.padded()));
        Self { metric, rotation, kernels: Kernels::best(), origin, origin_rotated }
    }

    /// The same around another origin, such as the mean of all rows. Vectors and queries are
    /// rounded relative to it, so that data far from zero loses no precision.
    ///
    /// # Panics
    /// If the origin has another dimension, which is a bug of the caller.
    #[must_use]
    pub fn with_origin(mut self, origin: &[f32]) -> Self {
        self.rotation.apply(origin, &mut self.origin_rotated);
        self.origin = origin.into();
        self
    }

    /// The metric.
    pub fn metric(&self) -> Metric {
        self.metric
    }

    /// Components of a vector.
    pub fn dim(&self) -> usize {
        self.rotation.dim()
    }

    /// Components of a rotated vector, and of a code.
    pub fn padded(&self) -> usize {
        self.rotation.padded()
    }

    /// The layout of one-bit codes in memory that this machine scans fastest: see
    /// [`super::lay_out`].
    pub fn layout(&self) -> Layout {
        self.kernels.layout()
    }

    pub(super) fn kernels(&self) -> Kernels {
        self.kernels
    }

    /// The same codec on another level, for tests that compare levels.
    #[cfg(test)]
    pub(super) fn on(mut self, kernels: Kernels) -> Self {
        self.kernels = kernels;
        self
    }

    /// Rotates `vector * scale - origin` into `out`.
    pub(super) fn rotate(&self, vector: &[f32], scale: f32, out: &mut [f32]) {
        assert_eq!(vector.len(), self.dim(), "the codec takes vectors of its dimension");
        let (head, tail) = out.split_at_mut(self.dim());
        for (out, (x, origin)) in head.iter_mut().zip(vector.iter().zip(&self.origin)) {
            *out = x * scale - origin;
        }
        tail.fill(0.0);
        self.rotation.apply_in_place(out);
    }

    /// Prepares a centre for coding and for queries. Under cosine it lies among vectors of unit
    /// length, but need not have that length itself.
    ///
    /// # Panics
    /// If the centre has another dimension, which is a bug of the caller.
    pub fn centre(&self, centre: &[f32]) -> Centre {
        let mut point = vec![0.0; self.padded()].into_boxed_slice();
        self.rotate(centre, 1.0, &mut point);
        let origin_product = self.kernels.dot(&point, &self.origin_rotated);
        Centre { point, origin_product }
    }

    /// The origin as a centre, for rows that belong to no cell yet.
    pub fn origin_centre(&self) -> Centre {
        Centre { point: vec![0.0; self.padded()].into(), origin_product: 0.0 }
    }

    /// Something that codes rows, one after the other, without allocating for each.
    pub fn encoder(&self) -> Encoder<'_> {
        let zeros = vec![0.0; self.padded()];
        let levels = vec![0; self.padded()];
        Encoder {
            codec: self,
            row: zeros.clone(),
            centre: zeros.clone(),
            residual: zeros,
            best_levels: levels.clone(),
            levels,
            measures: Measures::default(),
        }
    }
}

/// The centre of a cell, rotated.
#[derive(Clone, Debug)]
pub struct Centre {
    /// Relative to the origin.
    pub(super) point: Box<[f32]>,
    /// The inner product with the origin.
    pub(super) origin_product: f32,
}

impl Centre {
    /// The squared length, and the product with the origin.
    pub(crate) fn measures(&self) -> (f32, f32) {
        (Kernels::best().dot(&self.point, &self.point), self.origin_product)
    }
}

/// Inner products of a residual.
#[derive(Clone, Copy, Debug, Default)]
struct Measures {
    squared: f32,
    /// With the centre, as it lies in the space of the caller.
    centre: f32,
    largest: f32,
}

/// Codes rows. First [`Self::set_row`], then [`Self::set_centre`], then [`Self::encode`] as often
/// as there are widths; a row can be coded for several centres.
#[derive(Clone, Debug)]
pub struct Encoder<'a> {
    codec: &'a Codec,
    row: Vec<f32>,
    centre: Vec<f32>,
    residual: Vec<f32>,
    levels: Vec<u8>,
    best_levels: Vec<u8>,
    measures: Measures,
}

impl Encoder<'_> {
    /// Rotates a finite row. `inv_norm` is [`crate::inv_norm`] of it and counts under
    /// [`Metric::Cosine`] only.
    ///
    /// # Panics
    /// If the row has another dimension than the codec, which is a bug of the caller.
    pub fn set_row(&mut self, row: &[f32], inv_norm: f32) {
        let scale = if self.codec.metric == Metric::Cosine { inv_norm } else { 1.0 };
        self.codec.rotate(row, scale, &mut self.row);
    }

    /// The row, rotated and relative to the origin: what cells are chosen by.
    pub fn rotated(&self) -> &[f32] {
        &self.row
    }

    /// Takes the residual of the row to `centre`.
    ///
    /// # Panics
    /// If the centre is of another codec's dimension, which is a bug of the caller.
    pub fn set_centre(&mut self, centre: &Centre) {
        self.centre.copy_from_slice(&centre.point);
        for (out, (x, c)) in self.residual.iter_mut().zip(self.row.iter().zip(&self.centre)) {
            *out = x - c;
        }
        let kernels = self.codec.kernels;
        self.measures = Measures {
            squared: kernels.dot(&self.residual, &self.residual),
            centre: kernels.dot(&self.residual, &self.centre)
                + kernels.dot(&self.residual, &self.codec.origin_rotated),
            largest: self.residual.iter().fold(0.0, |max, x| max.max(x.abs())),
        };
    }

    /// Writes the code of the residual and returns its factors.
    ///
    /// # Panics
    /// If `code` is not [`Bits::code_len`] long, which is a bug of the caller.
    pub fn encode(&mut self, bits: Bits, code: &mut [u8]) -> Factors {
        assert_eq!(code.len(), bits.code_len(self.codec.padded()), "a code has its length");
        // The square too: a maximum passes over NaN, which a rotation beyond f32 is full of.
        if self.measures.largest == 0.0 && self.measures.squared == 0.0 {
            code.fill(0);
            return Factors::default();
        }
        if !TRUSTED_SQUARES.contains(&self.measures.squared) {
            code.fill(0);
            return Factors::UNKNOWN;
        }
        let sums = match bits {
            Bits::One => self.codec.kernels.encode_bits(&self.residual, &self.centre, code),
            Bits::Four => {
                let sums = self.best_of_sixteen();
                pack_halves(&self.best_levels, code);
                sums
            }
            Bits::Eight => {
                let grid = Grid { step_inverse: 127.5 / self.measures.largest, half: 128.0 };
                self.codec.kernels.encode_levels(&self.residual, &self.centre, grid, code)
            }
        };
        self.factors(bits, sums)
    }

    /// Leaves the levels of half a byte that point best along the residual in `best_levels`.
    fn best_of_sixteen(&mut self) -> Sums {
        let deviation = (self.measures.squared / self.residual.len() as f32).sqrt();
        let mut best: Option<Sums> = None;
        for step in FOUR_BIT_STEPS {
            let grid = Grid { step_inverse: 1.0 / (step * deviation), half: 8.0 };
            let sums = self.codec.kernels.encode_levels(
                &self.residual,
                &self.centre,
                grid,
                &mut self.levels,
            );
            if best.is_none_or(|best| alignment(sums) > alignment(best)) {
                best = Some(sums);
                std::mem::swap(&mut self.levels, &mut self.best_levels);
            }
        }
        best.unwrap_or_default()
    }

    /// Folds residual, code and centre into what a query needs.
    fn factors(&self, bits: Bits, sums: Sums) -> Factors {
        let squared = f64::from(self.measures.squared);
        let scale = squared / f64::from(sums.code_residual);
        let centre = scale * f64::from(sums.code_centre);
        let cosine_squared = (alignment(sums) / squared).min(1.0);
        let spread = 1.0 - cosine_squared + bits.rounding_allowed().powi(2);
        let deviation =
            (squared / cosine_squared * spread / (self.residual.len() - 1) as f64).sqrt();
        let (add, scale, error) = match self.codec.metric {
            Metric::Cosine | Metric::Dot => {
                (f64::from(self.measures.centre) - centre, scale, deviation)
            }
            Metric::L2 => (-(squared + 2.0 * centre), 2.0 * scale, 2.0 * deviation),
        };
        let factors = Factors { add: add as f32, scale: scale as f32, error: error as f32 };
        let sound = factors.add.is_finite() && factors.scale.is_finite() && factors.error > 0.0;
        if sound { factors } else { Factors::UNKNOWN }
    }
}

/// The squared inner product of a residual with the direction of its code.
fn alignment(sums: Sums) -> f64 {
    f64::from(sums.code_residual).powi(2) / f64::from(sums.code_squared)
}

/// Two levels to a byte, as [`Kernels::dot_u4`] reads them.
fn pack_halves(levels: &[u8], code: &mut [u8]) {
    let (words, _) = levels.as_chunks::<64>();
    let (codes, _) = code.as_chunks_mut::<32>();
    for (word, code) in words.iter().zip(codes) {
        let (low, high) = word.split_at(32);
        for (byte, (low, high)) in code.iter_mut().zip(low.iter().zip(high)) {
            *byte = low | (high << 4);
        }
    }
}
