//! The exact pairwise kernels: inner product, squared Euclidean distance, inverse length.
//!
//! [`crate::Kernels`] has the vector code, picked for the machine at run time; it sums in f32, in an
//! order that all machines share. The plain loops in [`scalar`] sum in f64 and are both the oracle of
//! the tests (another is `simsimd`) and what [`crate::Scorer`] falls back to where an f32 sum leaves
//! its range. A score depends neither on where in memory a row lies nor on the machine.
//!
//! Vectors are finite by contract (the engine refuses others before they get here).

use crate::kernels::Kernels;

/// The inner product of two vectors of one length. Infinite or NaN if an f32 sum overflows.
///
/// # Panics
/// If the lengths differ, which is a bug of the caller.
pub fn dot(a: &[f32], b: &[f32]) -> f32 {
    Kernels::best().dot(a, b)
}

/// The squared Euclidean distance of two vectors of one length. Infinite if an f32 sum overflows.
///
/// # Panics
/// If the lengths differ, which is a bug of the caller.
pub fn l2_squared(a: &[f32], b: &[f32]) -> f32 {
    Kernels::best().l2_squared(a, b)
}

/// Partial sums of [`inv_norm`]; enough for wide registers without changing the order of sums.
const LANES: usize = 8;

/// One over the Euclidean length of a vector; 0 for a zero vector.
///
/// Infinite only for vectors so short (below about 3e-39) that the inverse leaves f32. Computed
/// once per row, when it is written, and stored: it must be the same on every machine, so it is
/// a sum in f64 in a fixed order and not a vector kernel.
pub fn inv_norm(v: &[f32]) -> f32 {
    let mut lanes = [0.0_f64; LANES];
    let mut add = |chunk: &[f32]| {
        for (lane, x) in lanes.iter_mut().zip(chunk) {
            *lane += f64::from(*x) * f64::from(*x);
        }
    };
    // Whole chunks by themselves: their fixed length is what makes vector code of the loop.
    let (chunks, rest) = v.as_chunks::<LANES>();
    chunks.iter().for_each(|chunk| add(chunk));
    add(rest);
    let squared: f64 = lanes.iter().sum();
    if squared == 0.0 { 0.0 } else { (1.0 / squared.sqrt()) as f32 }
}

/// Reference implementations: sequential sums in f64, whose range no finite f32 input leaves.
pub mod scalar {
    /// The inner product of two vectors of one length; the longer one is cut.
    pub fn dot(a: &[f32], b: &[f32]) -> f64 {
        a.iter().zip(b).map(|(x, y)| f64::from(*x) * f64::from(*y)).sum()
    }

    /// The squared Euclidean distance of two vectors of one length; the longer one is cut.
    pub fn l2_squared(a: &[f32], b: &[f32]) -> f64 {
        a.iter()
            .zip(b)
            .map(|(x, y)| {
                let d = f64::from(*x) - f64::from(*y);
                d * d
            })
            .sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Lengths around every vector width, and the dimensions people use.
    const LENGTHS: [usize; 14] = [1, 2, 3, 7, 8, 15, 16, 17, 63, 64, 65, 383, 1536, 4096];

    /// A pair of vectors of one awkward length, at an awkward alignment.
    fn pair() -> impl Strategy<Value = (Vec<f32>, Vec<f32>, usize)> {
        let component = prop_oneof![8 => -1.0_f32..1.0, 1 => -1e4_f32..1e4, 1 => Just(0.0)];
        (prop::sample::select(&LENGTHS[..]), 0_usize..4).prop_flat_map(move |(len, shift)| {
            let values = prop::collection::vec(component.clone(), len + shift);
            (values.clone(), values, Just(shift))
        })
    }

    /// What an f32 sum of these terms may be off by.
    fn tolerance(terms: impl Iterator<Item = f64>) -> f64 {
        terms.map(f64::abs).sum::<f64>() * 1e-5 + 1e-30
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(96))]

        #[test]
        fn the_inner_product_agrees_with_the_plain_loop((a, b, shift) in pair()) {
            let (a, b) = (&a[shift..], &b[shift..]);
            let bound = tolerance(a.iter().zip(b).map(|(x, y)| f64::from(*x) * f64::from(*y)));
            prop_assert!((f64::from(dot(a, b)) - scalar::dot(a, b)).abs() <= bound);
        }

        #[test]
        fn the_squared_distance_agrees_with_the_plain_loop((a, b, shift) in pair()) {
            let (a, b) = (&a[shift..], &b[shift..]);
            let exact = scalar::l2_squared(a, b);
            prop_assert!((f64::from(l2_squared(a, b)) - exact).abs() <= exact * 1e-5 + 1e-30);
        }

        #[test]
        fn a_copy_at_another_alignment_gives_the_same_bits((a, b, shift) in pair()) {
            let (a, b) = (&a[shift..], &b[shift..]);
            let (a2, b2) = (a.to_vec(), b.to_vec());
            prop_assert_eq!(dot(a, b).to_bits(), dot(&a2, &b2).to_bits());
            prop_assert_eq!(l2_squared(a, b).to_bits(), l2_squared(&a2, &b2).to_bits());
        }

        #[test]
        fn the_inverse_length_times_the_length_is_one((a, _, _) in pair()) {
            let norm = scalar::dot(&a, &a).sqrt();
            if norm > 0.0 {
                prop_assert!((f64::from(inv_norm(&a)) * norm - 1.0).abs() < 1e-6);
            }
        }
    }

    #[test]
    fn empty_and_zero_vectors_have_no_length_and_no_distance() {
        assert_eq!(dot(&[], &[]), 0.0);
        assert_eq!(l2_squared(&[], &[]), 0.0);
        assert_eq!(inv_norm(&[0.0, -0.0]), 0.0);
    }

    #[test]
    fn the_inverse_length_of_extreme_vectors_stays_finite() {
        assert!(inv_norm(&[f32::MAX; 8]) > 0.0);
        assert!(inv_norm(&[f32::MIN_POSITIVE; 8]).is_finite());
    }

    #[test]
    #[should_panic(expected = "one length")]
    fn unequal_lengths_are_a_bug_of_the_caller() {
        dot(&[1.0], &[1.0, 2.0]);
    }
}
