//! A query, prepared once and asked about any number of codes: see [`super`].

use super::{Bits, Centre, Codec, Factors};
use crate::{
    Metric,
    kernels::{
        Kernels,
        portable::{Affine, ROUNDER},
    },
};

/// Standard deviations between an estimate and its bound, as the authors of RaBitQ chose them. A
/// true score lies above its bound for about 3 rows in 100; those among the nearest are what a
/// search may lose.
pub const CONFIDENCE: f32 = 1.9;
/// Components of the query in a table of sums are rounded to -31 ..= 31: four of them fit a byte.
const COARSE_MAX: i32 = 31;
/// What a sum of four such components is raised by.
const COARSE_ZERO: i32 = 4 * COARSE_MAX;
/// Components of the query beside codes of 4 and 8 bits are rounded to -127 ..= 127.
const FINE_MAX: i32 = 127;

/// A query rounded to whole numbers.
#[derive(Clone, Copy, Debug)]
struct Rounded {
    /// The query is about `step` times the whole numbers.
    step: f32,
    /// How far it is from that, as a length.
    error: f32,
}

/// A query: rotated, rounded, and as tables of sums.
#[derive(Clone, Debug)]
pub struct Query {
    metric: Metric,
    kernels: Kernels,
    confidence: f32,
    /// Relative to the origin.
    rotated: Box<[f32]>,
    /// The inner product of the query, as the caller gave it, with the origin.
    origin_product: f32,
    squared: f32,
    tables: Box<[u8]>,
    coarse: Rounded,
    whole: Box<[i8]>,
    whole_sum: i32,
    fine: Rounded,
}

/// What a query has to do with the rows of one centre.
#[derive(Clone, Copy, Debug)]
pub struct Probe {
    /// The part of every score that is the centre's.
    base: f32,
    /// The distance of query and centre, or a little more.
    distance: f32,
    /// How far off the base is at most: what is added to the margin of every row.
    slack: f32,
}

impl Probe {
    /// The score of the centre itself, in rank units; as estimated if the centre was.
    pub fn centre_score(&self) -> f32 {
        self.base
    }

    /// The distance between the query and the centre; not less than it, if the centre was estimated.
    pub fn distance(&self) -> f32 {
        self.distance
    }

    /// How far off the score of the centre is at most: 0 unless the centre was estimated.
    pub fn slack(&self) -> f32 {
        self.slack
    }
}

/// An estimated score.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Estimate {
    /// In rank units; higher is nearer.
    pub score: f32,
    /// How far off it is at most, at the query's confidence. Infinite or NaN if nothing is known.
    pub margin: f32,
}

impl Codec {
    /// Prepares a finite query. Under cosine its length does not count. `confidence` is how many
    /// standard deviations lie between an estimate and its bound: see [`CONFIDENCE`].
    ///
    /// # Panics
    /// If the query has another dimension, which is a bug of the caller.
    pub fn query(&self, query: &[f32], confidence: f32) -> Query {
        let scale = if self.metric() == Metric::Cosine { crate::inv_norm(query) } else { 1.0 };
        let mut rotated = vec![0.0; self.padded()].into_boxed_slice();
        self.rotate(query, scale, &mut rotated);
        let kernels = self.kernels();
        let squared = kernels.dot(&rotated, &rotated);
        let origin = &self.origin_rotated;
        let origin_product = kernels.dot(&rotated, origin) + kernels.dot(origin, origin);
        let (whole, fine) = round(kernels, &rotated, FINE_MAX);
        let (coarse_whole, coarse) = round(kernels, &rotated, COARSE_MAX);
        Query {
            metric: self.metric(),
            kernels,
            confidence,
            origin_product,
            squared,
            tables: tables(&coarse_whole),
            coarse,
            whole_sum: whole.iter().map(|x| i32::from(*x)).sum(),
            whole,
            fine,
            rotated,
        }
    }
}

impl Query {
    /// The query, rotated and relative to the origin: what cells are chosen by.
    pub fn rotated(&self) -> &[f32] {
        &self.rotated
    }

    /// The kernels of this query.
    pub fn kernels(&self) -> Kernels {
        self.kernels
    }

    /// Prepares the query for the rows of a centre.
    ///
    /// # Panics
    /// If the centre is of another codec's dimension, which is a bug of the caller.
    pub fn probe(&self, centre: &Centre) -> Probe {
        let squared_distance = self.kernels.l2_squared(&self.rotated, &centre.point);
        let base = match self.metric {
            Metric::L2 => -squared_distance,
            Metric::Cosine | Metric::Dot => {
                let product = self.kernels.dot(&self.rotated, &centre.point);
                product + centre.origin_product + self.origin_product
            }
        };
        Probe { base, distance: squared_distance.sqrt(), slack: 0.0 }
    }

    /// Prepares the query for the rows of a centre from an estimate of the centre's own score, which
    /// was made like that of a row of the origin's. `centre` is the squared length of the centre and
    /// its product with the origin. `None` if nothing is known about the centre.
    ///
    /// Bounds of rows stay right: what the estimate may be off by widens each.
    pub(crate) fn probe_estimated(&self, estimate: Estimate, centre: (f32, f32)) -> Option<Probe> {
        let Estimate { score, margin } = estimate;
        let squared_distance = match self.metric {
            Metric::L2 => margin - score,
            Metric::Cosine | Metric::Dot => {
                let product = score - centre.1 - self.origin_product;
                self.squared + centre.0 + 2.0 * (margin - product)
            }
        };
        let distance = squared_distance.max(0.0).sqrt();
        let known = margin.is_finite() && score.is_finite() && distance.is_finite();
        known.then_some(Probe { base: score, distance, slack: margin })
    }

    /// The metric of the codec.
    pub(crate) fn metric(&self) -> Metric {
        self.metric
    }

    /// The query rounded to whole numbers, as [`Kernels::dot_u8`] takes it.
    pub(crate) fn whole(&self) -> &[i8] {
        &self.whole
    }

    /// What the stored error of a row is multiplied with. Never 0, so that a row without bounds
    /// stays without.
    fn reach(&self, bits: Bits, probe: &Probe) -> f32 {
        let rounded = if bits == Bits::One { self.coarse } else { self.fine };
        let rounding = rounded.error / bits.rounding_allowed() as f32;
        self.confidence * probe.distance.max(rounding).max(f32::MIN_POSITIVE)
    }

    /// Estimates the score of one row from its code of 4 or 8 bits. (Codes of one bit are scanned
    /// in [`super::Blocks`]; a single one is decoded, which is slow.)
    ///
    /// # Panics
    /// If the code is not [`Bits::code_len`] long, which is a bug of the caller.
    pub fn estimate(&self, bits: Bits, code: &[u8], factors: Factors, probe: &Probe) -> Estimate {
        let product = match bits {
            Bits::One => return self.estimate_of_bit(code, factors, probe),
            Bits::Four => self.kernels.dot_u4(code, &self.whole),
            Bits::Eight => self.kernels.dot_u8(code, &self.whole),
        };
        self.estimate_of(bits, product, factors, probe)
    }

    /// The estimate from the inner product of a code of 4 or 8 bits with [`Self::whole`].
    pub(crate) fn estimate_of(
        &self,
        bits: Bits,
        product: i32,
        factors: Factors,
        probe: &Probe,
    ) -> Estimate {
        let levels = if bits == Bits::Four { 15 } else { 255 };
        // Twice the inner product, so that the half steps of the levels are whole numbers; in 64
        // bits, because that of 65,535 components is beyond 32.
        let doubled = 2 * i64::from(product) - levels * i64::from(self.whole_sum);
        self.estimated(bits, doubled as f32 * (0.5 * self.fine.step), factors, probe)
    }

    fn estimate_of_bit(&self, code: &[u8], factors: Factors, probe: &Probe) -> Estimate {
        let doubled = self.doubled_sum_of_signs(code);
        self.estimated(Bits::One, doubled as f32 * (0.5 * self.coarse.step), factors, probe)
    }

    fn estimated(&self, bits: Bits, product: f32, factors: Factors, probe: &Probe) -> Estimate {
        Estimate {
            score: probe.base + (factors.add + factors.scale * product),
            margin: factors.error * self.reach(bits, probe) + probe.slack,
        }
    }

    /// Twice the inner product of a one-bit code with the rounded query, from the tables.
    fn doubled_sum_of_signs(&self, code: &[u8]) -> i32 {
        assert_eq!(code.len() * 8, self.rotated.len(), "a code has its length");
        let (tables, _) = self.tables.as_chunks::<16>();
        let picked = code.iter().zip(tables.chunks_exact(2)).map(|(byte, tables)| {
            i32::from(tables[0][usize::from(byte & 15)])
                + i32::from(tables[1][usize::from(byte >> 4)])
        });
        picked.sum::<i32>() - self.zero()
    }

    /// The sum of table entries that stands for an inner product of 0.
    fn zero(&self) -> i32 {
        (self.tables.len() / 16) as i32 * COARSE_ZERO
    }

    /// The tables for [`Kernels::scan_blocks`].
    pub(super) fn tables(&self) -> &[u8] {
        &self.tables
    }

    /// What [`Kernels::scan_blocks`] makes of its sums.
    pub(super) fn affine(&self, probe: &Probe) -> Affine {
        Affine {
            zero: self.zero(),
            unit: 0.5 * self.coarse.step,
            base: probe.base,
            reach: self.reach(Bits::One, probe),
        }
    }

    /// The squared length of the query relative to the origin.
    pub fn squared(&self) -> f32 {
        self.squared
    }
}

/// The nearest whole numbers of at most `max`, and how good they are. A query beyond f32 becomes
/// zeros with an infinite error: nothing is known about any row then.
fn round(kernels: Kernels, rotated: &[f32], max: i32) -> (Box<[i8]>, Rounded) {
    let largest = rotated.iter().fold(0.0_f32, |m, x| m.max(x.abs()));
    let step = largest / max as f32;
    let inverse = 1.0 / step;
    let finite = rotated.iter().all(|x| x.is_finite());
    if !finite || !inverse.is_finite() {
        let error = if largest == 0.0 && finite { 0.0 } else { f32::INFINITY };
        return (vec![0; rotated.len()].into(), Rounded { step: 0.0, error });
    }
    let raised: Vec<f32> = rotated.iter().map(|x| x * inverse + ROUNDER).collect();
    let whole = raised.iter().map(|x| x.to_bits() as u8 as i8).collect();
    let restored: Vec<f32> = raised.iter().map(|x| (x - ROUNDER) * step).collect();
    (whole, Rounded { step, error: kernels.l2_squared(rotated, &restored).sqrt() })
}

/// For every four components the 16 sums that their signs can give, raised to be positive.
fn tables(whole: &[i8]) -> Box<[u8]> {
    let (groups, _) = whole.as_chunks::<4>();
    let mut tables = vec![[0_u8; 16]; groups.len()];
    for (table, group) in tables.iter_mut().zip(groups) {
        let lowest = group.iter().fold(COARSE_ZERO as u8, |sum, x| sum.wrapping_sub(*x as u8));
        *table = [lowest; 16];
        for (bit, x) in group.iter().enumerate() {
            let twice = (*x as u8).wrapping_mul(2);
            for (signs, sum) in table.iter_mut().enumerate() {
                // Sums modulo 256; the last one is the sum itself, which fits a byte.
                *sum = sum.wrapping_add(if signs >> bit & 1 == 1 { twice } else { 0 });
            }
        }
    }
    tables.into_flattened().into()
}
