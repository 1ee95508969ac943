//! What was called: the last calls, for failure messages, and a hash of all that changed the
//! disk, to tell whether two runs were the same.

use crate::FsOp;
use std::{collections::VecDeque, fmt, path::Path, sync::Arc};

/// How many calls are remembered unless more are asked for.
const TRACE_MAX: usize = 64;

/// One call on a simulated disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TraceEntry {
    /// The call.
    pub op: FsOp,
    /// The path it was about.
    pub path: Arc<Path>,
    /// The byte offset, where the call had one.
    pub offset: Option<u64>,
    /// The number of bytes, where the call had one; else 0.
    pub len: u64,
}

impl fmt::Display for TraceEntry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} {}", self.op, self.path.display())?;
        match self.offset {
            Some(offset) => write!(f, " [{offset}, +{}]", self.len),
            None => Ok(()),
        }
    }
}

#[derive(Clone, Debug)]
pub(super) struct Trace {
    last: VecDeque<TraceEntry>,
    max: usize,
    hash: u64,
}

impl Default for Trace {
    fn default() -> Self {
        Self { last: VecDeque::new(), max: TRACE_MAX, hash: 0 }
    }
}

impl Trace {
    pub(super) fn remember(&mut self, count: usize) {
        self.max = count.max(1);
    }

    pub(super) fn record(&mut self, entry: TraceEntry) {
        if self.last.len() >= self.max {
            self.last.pop_front();
        }
        self.last.push_back(entry);
    }

    /// Takes a call into the hash. Calls that change nothing stay out of it: readers on other
    /// threads must not make two equal runs look different.
    pub(super) fn hash_call(&mut self, op: FsOp, path: &Path, offset: Option<u64>, len: u64) {
        self.mix(op as u64);
        self.hash_bytes(path.as_os_str().as_encoded_bytes());
        self.mix(offset.unwrap_or(u64::MAX));
        self.mix(len);
    }

    /// Takes written bytes into the hash.
    pub(super) fn hash_bytes(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.mix(u64::from_le_bytes(word));
        }
        self.mix(bytes.len() as u64);
    }

    pub(super) fn last(&self) -> Vec<TraceEntry> {
        self.last.iter().cloned().collect()
    }

    pub(super) fn hash(&self) -> u64 {
        self.hash
    }

    fn mix(&mut self, word: u64) {
        // FxHash's step: one rotation and one multiplication spread every bit upwards.
        self.hash = (self.hash.rotate_left(5) ^ word).wrapping_mul(0x51_7c_c1_b7_27_22_0a_95);
    }
}
