//! Randomness, as a component: salts, database ids, object names. Not for cryptography. A test
//! injects a seeded source, so that a run replays from its seed.

use parking_lot::Mutex;
use std::fmt::Debug;

/// A source of random bits.
pub trait Random: Send + Sync + Debug {
    /// The next 64 bits.
    fn next_u64(&self) -> u64;

    /// The next 128 bits.
    fn next_u128(&self) -> u128 {
        (u128::from(self.next_u64()) << 64) | u128::from(self.next_u64())
    }
}

/// A generator seeded from the operating system once, or from a given seed.
#[derive(Debug)]
pub struct SystemRandom(Mutex<fastrand::Rng>);

impl SystemRandom {
    /// Seeded by the operating system. Falls back to the address of a fresh allocation and the
    /// process id if the system has no entropy to give: salts need to differ, not to be secret.
    #[expect(clippy::disallowed_methods, reason = "this is the module that wraps the source")]
    pub fn new() -> Self {
        let mut seed = [0_u8; 8];
        if getrandom::fill(&mut seed).is_err() {
            let here = Box::new(0_u8);
            let address = std::ptr::from_ref(&*here).addr() as u64;
            seed = (address ^ (u64::from(std::process::id()) << 32)).to_le_bytes();
        }
        Self::from_seed(u64::from_le_bytes(seed))
    }

    /// A source whose whole sequence follows from `seed`.
    pub fn from_seed(seed: u64) -> Self {
        Self(Mutex::new(fastrand::Rng::with_seed(seed)))
    }
}

impl Default for SystemRandom {
    fn default() -> Self {
        Self::new()
    }
}

impl Random for SystemRandom {
    fn next_u64(&self) -> u64 {
        self.0.lock().u64(..)
    }
}
