//! From which write on a row version is hidden. Set by the one writer, read by scans that hold no
//! lock.

use crate::sync::AtomicU64;
use std::sync::atomic::Ordering;

/// The number of the write that hid a row version; none while it is the newest.
///
/// ```
/// let grave = akidb_handoff::Grave::new();
/// grave.bury(9);
/// assert!(grave.is_open_at(8) && !grave.is_open_at(9));
/// ```
#[derive(Debug)]
pub struct Grave(AtomicU64);

impl Grave {
    /// Of a version that nothing hides.
    #[must_use]
    pub fn new() -> Self {
        Self(AtomicU64::new(0))
    }

    /// Hides the version from every reader whose view is at `lsn` or later; `lsn` is above zero.
    pub fn bury(&self, lsn: u64) {
        // Release pairs with the Acquire in `is_open_at`. A reader orders itself against writes by
        // the collection's lock anyway; the pairing keeps this module right on its own.
        self.0.store(lsn, Ordering::Release);
    }

    /// True if a reader whose view is at `lsn` is not to miss the version on account of a later
    /// write.
    pub fn is_open_at(&self, lsn: u64) -> bool {
        let buried = self.0.load(Ordering::Acquire);
        buried == 0 || buried > lsn
    }

    /// True if any write hid the version.
    pub fn is_filled(&self) -> bool {
        self.0.load(Ordering::Acquire) != 0
    }
}

impl Default for Grave {
    fn default() -> Self {
        Self::new()
    }
}
