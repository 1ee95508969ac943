//! The log sequence number: the one order of all writes of a database.

use std::fmt;

/// A log sequence number. Each commit batch (one frame of the log) has one; they are consecutive
/// and start at 1. [`Lsn::ZERO`] stands before the first.
///
/// ```
/// use akidb_wal::Lsn;
/// assert_eq!(Lsn::ZERO.next(), Lsn::new(1));
/// assert_eq!(Lsn::new(123).to_string(), "123");
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Lsn(u64);

impl Lsn {
    /// Before the first write.
    pub const ZERO: Self = Self(0);

    /// After every write: "everything so far" where an upper bound is asked for.
    pub const MAX: Self = Self(u64::MAX);

    /// The number as a value of this type.
    pub const fn new(lsn: u64) -> Self {
        Self(lsn)
    }

    /// The bare number.
    pub const fn get(self) -> u64 {
        self.0
    }

    /// The one that follows. [`Lsn::MAX`] follows itself.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }

    /// The one before. [`Lsn::ZERO`] stands before itself.
    #[must_use]
    pub const fn prev(self) -> Self {
        Self(self.0.saturating_sub(1))
    }
}

impl fmt::Display for Lsn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
