//! Rows for the write and recovery benchmarks: the same for the same seed, and cheap enough that
//! making them is not what is measured.

use akidb::{
    Point,
    vfs::{Random, SystemRandom},
};
use serde_json::{Value, json};
use std::ops::Range;

/// Fixed, so that two runs write the same bytes.
const SEED: u64 = 0x0061_6b69_6462;
/// Distinct vectors; rows take them in turn. Enough to be far larger than a processor's cache.
const POOL: usize = 4096;
/// Distinct metadata.
const GROUPS: usize = 100;
/// Brings a row of 384 numbers to about 1.7 kB, the row of the project's targets.
const TEXT: &str = "a few words of text, as long as the gloss of a word in a dictionary, so that \
                    the log has something to carry besides numbers";

/// A source of rows, shared by all writers.
#[derive(Debug)]
pub(super) struct Rows {
    dim: u32,
    vectors: Vec<Vec<f32>>,
}

impl Rows {
    pub(super) fn new(dim: u32, rows: usize) -> Self {
        let random = SystemRandom::from_seed(SEED);
        let vectors = (0..POOL.min(rows)).map(|_| unit_vector(&random, dim)).collect();
        Self { dim, vectors }
    }

    /// Row `n`: its id is `n`.
    pub(super) fn row(&self, n: usize) -> Point {
        let vector = self.vectors.get(n % self.vectors.len()).cloned().unwrap_or_default();
        Point::new(n as u64, vector).meta(metadata(n))
    }

    /// The bytes of these rows as their owner counts them: ids, vectors, and metadata as JSON text.
    pub(super) fn bytes(&self, rows: Range<usize>) -> u64 {
        let groups: Vec<_> = (0..GROUPS).map(|n| metadata(n).to_string().len() as u64).collect();
        let fixed = size_of::<u64>() as u64 + u64::from(self.dim) * 4;
        rows.map(|n| fixed + groups.get(n % GROUPS).copied().unwrap_or_default()).sum()
    }
}

fn metadata(n: usize) -> Value {
    json!({ "group": n % GROUPS, "text": TEXT })
}

fn unit_vector(random: &dyn Random, dim: u32) -> Vec<f32> {
    let mut vector: Vec<f32> = (0..dim).map(|_| uniform(random)).collect();
    let norm = vector.iter().map(|x| x * x).sum::<f32>().sqrt();
    // A vector of zeros, all but impossible, has no direction for cosine to measure.
    if norm > 0.0 {
        vector.iter_mut().for_each(|x| *x /= norm);
    } else {
        vector.fill(1.0);
    }
    vector
}

/// Between -1 and 1, from the upper 24 bits, which a float holds exactly.
fn uniform(random: &dyn Random) -> f32 {
    let bits = (random.next_u64() >> 40) as f32;
    bits / 8_388_608.0 - 1.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_repeat_from_run_to_run_and_differ_from_each_other() {
        let (a, b) = (Rows::new(8, 10), Rows::new(8, 10));
        assert_eq!(a.row(3), b.row(3));
        assert_ne!(a.row(3).vector, a.row(4).vector);
        let norm: f32 = a.row(5).vector.iter().map(|x| x * x).sum();
        assert!((norm - 1.0).abs() < 1e-5);
    }

    #[test]
    fn bytes_are_those_of_ids_vectors_and_metadata() {
        let rows = Rows::new(8, 200);
        let row = |n| rows.row(n).metadata.to_string().len() as u64 + 8 + 8 * 4;
        assert_eq!(rows.bytes(95..103), (95..103).map(row).sum::<u64>());
    }
}
