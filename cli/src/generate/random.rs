//! Numbers from a seed that are the same on every machine: integers by SplitMix64, floats only by
//! operations that IEEE 754 rounds in one way (`+ - * /`, square root). No logarithm, power or
//! sine: those differ in the last digit between systems, and so would the files.

/// SplitMix64 (Steele, Lea, Flood 2014), whose state is a counter: any stream can be entered at any
/// place.
#[derive(Clone, Debug)]
pub(super) struct Stream(u64);

const STEP: u64 = 0x9e37_79b9_7f4a_7c15;

impl Stream {
    /// The stream number `index` of a kind, under a seed.
    pub(super) fn new(seed: u64, kind: u64, index: u64) -> Self {
        Self(mix(mix(mix(seed ^ STEP) ^ kind) ^ index))
    }

    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(STEP);
        mix(self.0)
    }

    /// Between 0 and 1, 1 excluded, in steps of 2^-53.
    pub(super) fn uniform(&mut self) -> f64 {
        (self.next() >> 11) as f64 / 9_007_199_254_740_992.0
    }

    /// All but normal, of mean 0 and variance 1: the sum of the eight bytes of a word, whose excess
    /// kurtosis is -0.15. Beyond 4.9 there is nothing.
    pub(super) fn normal(&mut self) -> f32 {
        /// The standard deviation of the sum of eight uniform bytes: the root of 8 * (256^2 - 1) / 12.
        const DEVIATION: f32 = 209.021_53;
        let sum: u32 = self.next().to_le_bytes().iter().map(|byte| u32::from(*byte)).sum();
        (sum as f32 - 1020.0) / DEVIATION
    }
}

fn mix(mut x: u64) -> u64 {
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

/// `x` to the power of `-quarters / 4`, by square roots.
pub(super) fn decay(x: f64, quarters: u32) -> f64 {
    let root = x.sqrt().sqrt();
    (0..quarters).fold(1.0, |power, _| power / root)
}

/// Turns `x` in place by an orthogonal map that belongs to a stream: random signs and a Hadamard
/// transform over the largest power of two at its beginning, then the same at its end, twice. Costs
/// `d log d` and works in every dimension.
pub(super) fn rotate(x: &mut [f32], mut signs: Stream) {
    let span = if x.is_empty() { 0 } else { 1 << x.len().ilog2() };
    for _ in 0..2 {
        for start in [0, x.len() - span] {
            flip(x, &mut signs);
            if let Some(part) = x.get_mut(start..start + span) {
                hadamard(part);
            }
        }
    }
}

fn flip(x: &mut [f32], signs: &mut Stream) {
    for part in x.chunks_mut(64) {
        let mut bits = signs.next();
        for value in part {
            if bits & 1 == 1 {
                *value = -*value;
            }
            bits >>= 1;
        }
    }
}

/// The orthonormal Walsh-Hadamard transform of a power of two of numbers.
fn hadamard(x: &mut [f32]) {
    let mut half = 1;
    while half < x.len() {
        for pair in x.chunks_exact_mut(half * 2) {
            let (low, high) = pair.split_at_mut(half);
            for (a, b) in low.iter_mut().zip(high) {
                (*a, *b) = (*a + *b, *a - *b);
            }
        }
        half *= 2;
    }
    let scale = 1.0 / (x.len() as f32).sqrt();
    x.iter_mut().for_each(|value| *value *= scale);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn normals_have_mean_zero_and_variance_one() {
        let mut stream = Stream::new(1, 2, 3);
        let values: Vec<f64> = (0..100_000).map(|_| f64::from(stream.normal())).collect();
        let mean = values.iter().sum::<f64>() / 1e5;
        let variance = values.iter().map(|x| x * x).sum::<f64>() / 1e5;
        assert!(mean.abs() < 0.01 && (variance - 1.0).abs() < 0.02, "{mean} {variance}");
    }

    #[test]
    fn a_rotation_keeps_lengths_in_every_dimension() {
        for dim in [1, 2, 3, 63, 64, 65, 384] {
            let mut stream = Stream::new(7, 0, dim);
            let before: Vec<f32> = (0..dim).map(|_| stream.normal()).collect();
            let mut after = before.clone();
            rotate(&mut after, stream);
            let length = |x: &[f32]| x.iter().map(|x| x * x).sum::<f32>().sqrt();
            assert!((length(&before) - length(&after)).abs() < 1e-3, "{dim}");
            assert!(dim < 2 || before != after);
        }
    }

    #[test]
    fn decay_is_a_power_of_quarters() {
        assert!((decay(16.0, 3) - 0.125).abs() < 1e-12);
        assert_eq!(decay(5.0, 0), 1.0);
    }
}
