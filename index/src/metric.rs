//! What nearness means, and the score of a row: one prepared [`Scorer`] per query.
//!
//! # Invariants
//! - A higher score is nearer, in every metric.
//! - A score of finite inputs is finite, never NaN and never -0.0: where an f32 sum leaves its
//!   range, the sum is taken again in f64 and the score is clamped to f32. Without this the
//!   squares of small components would vanish and different rows would tie at distance 0.
//! - Equal bytes give equal scores, whichever tier, file or buffer the row is read from.

use crate::kernel::{self, scalar};

/// Below this an f32 sum of squares may have lost terms to underflow. A relative error of 1e-7 in
/// the sum needs terms well above the smallest subnormal (1.4e-45) times the longest vector.
const L2_SQUARED_TRUSTED_MIN: f32 = 1e-30;

/// How nearness is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Metric {
    /// The cosine similarity, -1 to 1.
    Cosine,
    /// The inner product.
    Dot,
    /// The Euclidean distance, negated: 0 is a perfect match.
    L2,
}

/// A query, prepared to score rows.
///
/// ```
/// use akidb_index::{Metric, Scorer};
/// let scorer = Scorer::new(Metric::L2, &[0.0, 0.0]);
/// assert_eq!(scorer.score(&[3.0, 4.0], 0.2), -5.0);
/// ```
#[derive(Clone, Debug)]
pub struct Scorer {
    metric: Metric,
    /// Scaled to unit length under cosine, so that products of a tiny query with a tiny row
    /// cannot all underflow to a similarity of 0.
    query: Box<[f32]>,
}

impl Scorer {
    /// Prepares a finite query.
    pub fn new(metric: Metric, query: &[f32]) -> Self {
        let query = match metric {
            Metric::Cosine => unit(query),
            Metric::Dot | Metric::L2 => query.into(),
        };
        Self { metric, query }
    }

    /// The metric.
    pub fn metric(&self) -> Metric {
        self.metric
    }

    /// The length of the query, which every row must have.
    pub fn dim(&self) -> usize {
        self.query.len()
    }

    /// The score of a finite row; higher is nearer. `row_inv_norm` is [`crate::inv_norm`] of the row; it
    /// counts under [`Metric::Cosine`] only, where a zero row scores 0.
    ///
    /// # Panics
    /// If the row has another length than the query, which is a bug of the caller.
    pub fn score(&self, row: &[f32], row_inv_norm: f32) -> f32 {
        let score = match self.metric {
            Metric::Cosine => self.cosine(row, row_inv_norm),
            Metric::Dot => self.inner_product(row),
            Metric::L2 => -self.distance(row),
        };
        score + 0.0 // -0.0 would rank below 0.0 in a total order
    }

    fn cosine(&self, row: &[f32], row_inv_norm: f32) -> f32 {
        let product = kernel::dot(&self.query, row);
        let cosine = if product.is_finite() {
            product * row_inv_norm
        } else {
            (scalar::dot(&self.query, row) * f64::from(row_inv_norm)) as f32
        };
        cosine.clamp(-1.0, 1.0)
    }

    fn inner_product(&self, row: &[f32]) -> f32 {
        let product = kernel::dot(&self.query, row);
        if product.is_finite() { product } else { to_f32(scalar::dot(&self.query, row)) }
    }

    fn distance(&self, row: &[f32]) -> f32 {
        let squared = kernel::l2_squared(&self.query, row);
        if squared.is_finite() && squared >= L2_SQUARED_TRUSTED_MIN {
            squared.sqrt()
        } else {
            to_f32(scalar::l2_squared(&self.query, row).sqrt())
        }
    }
}

/// The query at unit length; a zero query stays zero.
fn unit(query: &[f32]) -> Box<[f32]> {
    let norm = scalar::dot(query, query).sqrt();
    if norm == 0.0 {
        return query.into();
    }
    query.iter().map(|x| (f64::from(*x) / norm) as f32).collect()
}

/// The nearest finite f32.
fn to_f32(x: f64) -> f32 {
    x.clamp(f64::from(f32::MIN), f64::from(f32::MAX)) as f32
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inv_norm;
    use proptest::prelude::*;

    const METRICS: [Metric; 3] = [Metric::Cosine, Metric::Dot, Metric::L2];

    fn exact(metric: Metric, query: &[f32], row: &[f32]) -> f64 {
        let norm = |v: &[f32]| scalar::dot(v, v).sqrt();
        match metric {
            Metric::Cosine if norm(query) * norm(row) == 0.0 => 0.0,
            Metric::Cosine => scalar::dot(query, row) / (norm(query) * norm(row)),
            Metric::Dot => scalar::dot(query, row),
            Metric::L2 => -scalar::l2_squared(query, row).sqrt(),
        }
    }

    fn vectors() -> impl Strategy<Value = (Vec<f32>, Vec<f32>)> {
        prop::sample::select(vec![1_usize, 2, 63, 65, 383]).prop_flat_map(|d| {
            (prop::collection::vec(-2.0_f32..2.0, d), prop::collection::vec(-2.0_f32..2.0, d))
        })
    }

    proptest! {
        #[test]
        fn scores_agree_with_the_definitions((query, row) in vectors()) {
            for metric in METRICS {
                let score = Scorer::new(metric, &query).score(&row, inv_norm(&row));
                let want = exact(metric, &query, &row);
                let slack = 1e-5 * (1.0 + want.abs()) * (1.0 + query.len() as f64 / 64.0);
                prop_assert!((f64::from(score) - want).abs() <= slack, "{metric:?} {score} {want}");
            }
        }

        #[test]
        fn any_finite_input_has_a_finite_score(
            query in prop::collection::vec(any::<f32>(), 9),
            row in prop::collection::vec(any::<f32>(), 9),
        ) {
            let finite = |v: Vec<f32>| -> Vec<f32> {
                v.into_iter().map(|x| if x.is_finite() { x } else { f32::MAX }).collect()
            };
            let (query, row) = (finite(query), finite(row));
            let inv = inv_norm(&row);
            prop_assume!(inv.is_finite());
            for metric in METRICS {
                let score = Scorer::new(metric, &query).score(&row, inv);
                prop_assert!(score.is_finite(), "{metric:?} gave {score}");
                prop_assert!(score != 0.0 || score.is_sign_positive(), "{metric:?} gave -0");
            }
        }

        #[test]
        fn cosine_ignores_length((query, row) in vectors(), exponent in -60_i32..60) {
            let scale = 2.0_f32.powi(exponent);
            let scaled: Vec<f32> = row.iter().map(|x| x * scale).collect();
            let scorer = Scorer::new(Metric::Cosine, &query);
            let (a, b) = (scorer.score(&row, inv_norm(&row)),
                          scorer.score(&scaled, inv_norm(&scaled)));
            prop_assert!((a - b).abs() < 1e-5, "{a} {b}");
        }
    }

    #[test]
    fn a_row_is_its_own_best_match() {
        let v = [0.3, -0.4, 0.5];
        assert!(Scorer::new(Metric::Cosine, &v).score(&v, inv_norm(&v)) > 0.999_999);
        assert_eq!(Scorer::new(Metric::L2, &v).score(&v, inv_norm(&v)).to_bits(), 0);
    }

    #[test]
    fn distances_of_tiny_vectors_do_not_collapse_to_zero() {
        let score = Scorer::new(Metric::L2, &[0.0, 0.0]).score(&[3e-25, 4e-25], 0.0);
        assert!((score / -5e-25 - 1.0).abs() < 1e-6, "{score}");
    }

    #[test]
    fn sums_beyond_f32_are_clamped_and_keep_their_sign() {
        let huge = [f32::MAX; 4];
        let opposite = [f32::MIN; 4];
        assert_eq!(Scorer::new(Metric::Dot, &huge).score(&huge, 0.0), f32::MAX);
        assert_eq!(Scorer::new(Metric::Dot, &huge).score(&opposite, 0.0), f32::MIN);
        assert_eq!(Scorer::new(Metric::L2, &huge).score(&opposite, 0.0), f32::MIN);
        let cosine = Scorer::new(Metric::Cosine, &huge).score(&opposite, inv_norm(&opposite));
        assert!((cosine + 1.0).abs() < 1e-3, "{cosine}");
    }
}
