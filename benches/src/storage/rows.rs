//! The rows that every engine writes: the same ids, vectors and metadata, from a fixed seed. A row
//! is about 1.7 kB: 384 numbers and a little metadata.

use serde_json::{Value, json};

/// Distinct vectors; rows take them in turn. Together far larger than a processor's cache.
const POOL: usize = 4096;
const TEXT: &str = "a few words of text, as long as the gloss of a word in a dictionary, so that \
                    the log has something to carry besides numbers";

/// A source of rows, shared by all writers.
#[derive(Debug)]
pub struct Rows {
    vectors: Vec<Vec<f32>>,
}

impl Rows {
    /// Rows of dimension `dim`.
    pub fn new(dim: usize) -> Self {
        let mut state = 0x2545_f491_4f6c_dd1d_u64;
        let mut uniform = move || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 40) as f32 / 8_388_608.0 - 1.0
        };
        Self { vectors: (0..POOL).map(|_| (0..dim).map(|_| uniform()).collect()).collect() }
    }

    /// The vector of row `n`.
    pub fn vector(&self, n: u64) -> &[f32] {
        &self.vectors[n as usize % POOL]
    }

    /// The metadata of row `n`.
    pub fn metadata(n: u64) -> Value {
        json!({ "group": n % 100, "text": TEXT })
    }

    /// Row `n` as the value of a key-value store: metadata with its length before it, then the
    /// numbers. Made anew for each write, as a program over such a store would.
    pub fn value(&self, n: u64) -> Vec<u8> {
        let metadata = Self::metadata(n).to_string();
        let vector = self.vector(n);
        let mut value = Vec::with_capacity(4 + metadata.len() + vector.len() * 4);
        value.extend_from_slice(&(metadata.len() as u32).to_le_bytes());
        value.extend_from_slice(metadata.as_bytes());
        value.extend(vector.iter().flat_map(|x| x.to_le_bytes()));
        value
    }
}

/// The key of row `n` in a key-value store.
pub fn key(n: u64) -> [u8; 8] {
    n.to_be_bytes()
}
