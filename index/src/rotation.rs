//! A random rotation that costs `d log d`: signs and Hadamard transforms, from a seed.
//!
//! RaBitQ codes (`rabitq`) are good for *any* data because the vector is turned into a
//! random direction first. A dense random matrix would need `d * d` products; here a vector goes
//! through four rounds of random sign flips and a fast Walsh-Hadamard transform. Where the padded
//! length is no power of two, a round transforms the longest power of two at the front or (every
//! second round) at the back and then mixes the two halves by a butterfly ("Kac's walk"), as the
//! RaBitQ authors' own library does.
//!
//! # Invariants
//! - The rotation keeps lengths and inner products, but for rounding.
//! - The same dimension, seed and vector give the same bits on every machine: signs come from
//!   SplitMix64, and every sum is an addition of two numbers whose order nothing may change.
//!   Codes on disk depend on it, so a change here is a new version of the format that stores them.

use crate::kernels::Kernels;

/// Vectors are padded with zeros to a multiple of this, so that codes fill whole machine words.
pub const PAD: usize = 64;
/// Rounds of signs and transform. Two already spread a unit vector; four make the error of the
/// codes indistinguishable from that of a dense random rotation.
pub(crate) const ROUNDS: usize = 4;

/// SplitMix64 (Steele, Lea, Flood 2014): the sequence of random words behind every seed here.
#[derive(Clone, Debug)]
pub(crate) struct SplitMix64(pub(crate) u64);

impl SplitMix64 {
    pub(crate) fn next_word(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// A number below `bound`, which is not 0.
    pub(crate) fn below(&mut self, bound: usize) -> usize {
        // The upper half of a product instead of a remainder, which favours small numbers.
        ((u128::from(self.next_word()) * bound as u128) >> 64) as usize
    }
}

/// A rotation of vectors of one dimension.
///
/// ```
/// use akidb_index::Rotation;
/// let rotation = Rotation::new(3, 42);
/// let mut out = vec![0.0; rotation.padded()];
/// rotation.apply(&[1.0, 2.0, 2.0], &mut out);
/// let length: f32 = out.iter().map(|x| x * x).sum::<f32>().sqrt();
/// assert!((length - 3.0).abs() < 1e-5);
/// ```
#[derive(Clone, Debug)]
pub struct Rotation {
    dim: usize,
    padded: usize,
    seed: u64,
    /// Per round and component: the sign bit to flip, or 0.
    signs: Box<[u32]>,
}

impl Rotation {
    /// The rotation of `dim` components that belongs to `seed`.
    ///
    /// # Panics
    /// If `dim` is 0, which is a bug of the caller: a collection has at least one component.
    pub fn new(dim: usize, seed: u64) -> Self {
        assert!(dim > 0, "a vector has at least one component");
        let padded = dim.next_multiple_of(PAD);
        let mut random = SplitMix64(seed);
        let mut signs = Vec::with_capacity(ROUNDS * padded);
        while signs.len() < ROUNDS * padded {
            let word = random.next_word();
            signs.extend((0..u64::BITS).map(|bit| ((word >> bit & 1) as u32) << 31));
        }
        Self { dim, padded, seed, signs: signs.into() }
    }

    /// Components of the vectors that go in.
    pub fn dim(&self) -> usize {
        self.dim
    }

    /// Components of the rotated vectors: `dim` rounded up to a multiple of [`PAD`].
    pub fn padded(&self) -> usize {
        self.padded
    }

    /// What the signs were drawn from.
    pub fn seed(&self) -> u64 {
        self.seed
    }

    /// What [`Kernels::rotate`] takes, for tests of one level.
    #[cfg(test)]
    pub(crate) fn signs(&self) -> &[u32] {
        &self.signs
    }

    /// Rotates `vector` (`dim` components) into `out` (`padded` components).
    ///
    /// # Panics
    /// If one of the lengths is another, which is a bug of the caller.
    pub fn apply(&self, vector: &[f32], out: &mut [f32]) {
        assert_eq!(vector.len(), self.dim, "the rotation takes vectors of its dimension");
        assert_eq!(out.len(), self.padded, "a rotated vector has the padded length");
        let (head, tail) = out.split_at_mut(self.dim);
        head.copy_from_slice(vector);
        tail.fill(0.0);
        self.apply_in_place(out);
    }

    /// Rotates a vector that is padded already.
    pub(crate) fn apply_in_place(&self, v: &mut [f32]) {
        assert_eq!(v.len(), self.padded, "a rotated vector has the padded length");
        Kernels::best().rotate(v, &self.signs);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::scalar_reference::dot;
    use proptest::prelude::*;

    const DIMS: [usize; 8] = [1, 2, 63, 65, 383, 384, 1536, 4096];

    fn rotated(rotation: &Rotation, v: &[f32]) -> Vec<f32> {
        let mut out = vec![f32::NAN; rotation.padded()];
        rotation.apply(v, &mut out);
        out
    }

    fn pair() -> impl Strategy<Value = (Vec<f32>, Vec<f32>, u64)> {
        prop::sample::select(&DIMS[..]).prop_flat_map(|d| {
            let v = prop::collection::vec(-1.0_f32..1.0, d);
            (v.clone(), v, any::<u64>())
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]

        #[test]
        fn lengths_and_inner_products_stay((a, b, seed) in pair()) {
            let rotation = Rotation::new(a.len(), seed);
            let (ra, rb) = (rotated(&rotation, &a), rotated(&rotation, &b));
            let scale = (dot(&a, &a) * dot(&b, &b)).sqrt() + 1e-12;
            prop_assert!((dot(&ra, &rb) - dot(&a, &b)).abs() <= scale * 1e-5);
            prop_assert!((dot(&ra, &ra) / dot(&a, &a).max(1e-30) - 1.0).abs() < 1e-5);
        }
    }

    #[test]
    fn one_component_spreads_over_all() {
        for dim in DIMS {
            let rotation = Rotation::new(dim, 7);
            let mut v = vec![0.0; dim];
            v[dim / 2] = 1.0;
            let out = rotated(&rotation, &v);
            let largest = out.iter().fold(0.0_f32, |m, x| m.max(x.abs()));
            let typical = (1.0 / out.len() as f32).sqrt();
            assert!(largest < 6.0 * typical, "{dim}: {largest} beside {typical}");
        }
    }

    #[test]
    fn seeds_give_rotations_that_do_not_resemble_each_other() {
        let v: Vec<f32> = (0..384).map(|i| (i as f32 * 0.37).sin()).collect();
        let (a, b) = (rotated(&Rotation::new(384, 1), &v), rotated(&Rotation::new(384, 2), &v));
        assert!((dot(&a, &b) / dot(&a, &a)).abs() < 0.25);
    }

    /// Codes on disk are made with these signs and sums: a change of one bit here orphans them.
    #[test]
    fn the_rotation_of_a_seed_is_fixed_for_ever() {
        let mut hash = 0xcbf2_9ce4_8422_2325_u64;
        for dim in DIMS {
            let v: Vec<f32> = (0..dim).map(|i| (i as f32 - 3.0) / 8.0).collect();
            for x in rotated(&Rotation::new(dim, 0xA51D), &v) {
                hash = (hash ^ u64::from(x.to_bits())).wrapping_mul(0x0100_0000_01b3);
            }
        }
        assert_eq!(hash, 0x674d_7fa1_3c2b_991d);
    }

    #[test]
    #[should_panic(expected = "at least one component")]
    fn no_component_is_a_bug_of_the_caller() {
        Rotation::new(0, 1);
    }
}
