//! The settings of the log: plain data.

#![deny(clippy::indexing_slicing)]

use crate::{FRAME_PAYLOAD_MAX, Lsn};

/// Settings of a [`crate::Log`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogOptions {
    /// The bytes reserved for each WAL file. Default 64 MiB. Larger files roll less often and take
    /// longer to let go of; a group that is larger gets a file as large as it needs. The current
    /// file is carried over at each open, so its used part is also the most that an open writes.
    pub file_bytes: u64,
    /// The most payload bytes of one batch. Default 16 MiB, at most [`FRAME_PAYLOAD_MAX`] (64 MiB).
    pub frame_bytes_max: u32,
    /// How many bytes of zeros, at most, are written behind a small group that is synced, where the
    /// file had only been reserved; no more than the file holds already, or 64 KiB. A sync of blocks
    /// that were never written makes the file system note that they are now; behind the zeros the
    /// next syncs have nothing to note. Groups of more than a 32nd of this write none: the zeros
    /// would cost more than they save. Default 4 MiB; 0 switches it off. Each byte of a log of small
    /// groups is written twice, at no cost in syncs.
    pub zero_ahead_bytes: u64,
    /// The caller knows that the log was made before, so that a directory without any WAL file is
    /// a loss and not a beginning. Default false.
    pub must_exist: bool,
    /// Where a log that is not there yet begins: after this LSN. For a directory that is made for data
    /// whose log is elsewhere, or gone. Default 0.
    pub begins_after: Lsn,
}

impl Default for LogOptions {
    fn default() -> Self {
        Self {
            file_bytes: 64 << 20,
            frame_bytes_max: 16 << 20,
            zero_ahead_bytes: 4 << 20,
            must_exist: false,
            begins_after: Lsn::ZERO,
        }
    }
}

impl LogOptions {
    /// The limit that holds.
    pub(crate) fn payload_bytes_max(&self) -> u32 {
        self.frame_bytes_max.min(FRAME_PAYLOAD_MAX)
    }
}
