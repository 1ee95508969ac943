//! The chance of a schedule, all of it from one seed.

use akidb_vfs::{Random, SystemRandom};

/// A seeded source of choices.
#[derive(Debug)]
pub(super) struct Dice(SystemRandom);

impl Dice {
    pub(super) fn new(seed: u64) -> Self {
        Self(SystemRandom::from_seed(seed))
    }

    /// A number from 0 to `end`, which is left out and is not 0.
    pub(super) fn below(&self, end: u64) -> u64 {
        self.0.next_u64() % end
    }

    /// True once in so many times.
    pub(super) fn one_in(&self, times: u64) -> bool {
        self.below(times) == 0
    }

    /// The seed of another source.
    pub(super) fn seed(&self) -> u64 {
        self.0.next_u64()
    }
}
