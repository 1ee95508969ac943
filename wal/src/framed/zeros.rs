//! Zeros ahead of the frames, in a file whose blocks are reserved but were never written.
//!
//! The first sync after a write into such blocks makes the file system note that they hold data now,
//! with a write and a wait of its own that can cost more than the data. So every now and then a
//! group takes zeros along for the blocks behind it, and the groups that follow overwrite blocks
//! that were written before. Only small groups do: a large one would soon use the zeros up, and
//! their bytes cost more than they save. To a reader nothing changes: a reserved block reads as zeros.
//!
//! Decides only; called by the writer, which writes. Zeros never lie before the end of the group that
//! they go with, so they cannot overwrite a frame.

#![deny(clippy::indexing_slicing)]

use std::io::IoSlice;

/// What zeros are written from: a slice of this is repeated.
static ZEROS: [u8; 64 << 10] = [0; 64 << 10];

/// Ends of zeroed ranges are multiples of this, so that no block is half written.
const BLOCK: u64 = 4096;

/// Groups above this share of the zeros that they would take along take none.
const GROUP_SHARE: u64 = 32;

/// The least that is worth a write of its own.
const LEAST: u64 = 64 << 10;

#[derive(Debug)]
pub(super) struct ZeroAhead {
    /// How many bytes at a time at most; 0 for never.
    bytes: u64,
    /// The file ends here.
    limit: u64,
    /// Everything below was written: frames, or zeros.
    upto: u64,
}

impl ZeroAhead {
    pub(super) fn new(bytes: u64, limit: u64) -> Self {
        Self { bytes, limit, upto: 0 }
    }

    /// Adds zeros behind a group of `len` bytes at `offset`, if it is small and reaches into blocks
    /// that were never written. Returns where they end, for [`ZeroAhead::written`].
    pub(super) fn add(&self, offset: u64, len: u64, slices: &mut Vec<IoSlice<'_>>) -> Option<u64> {
        let start = offset + len;
        if start <= self.upto || len > self.bytes / GROUP_SHARE {
            return None;
        }
        // No more than the file holds already: who writes little is not to write megabytes of zeros.
        let size = self.bytes.min(start.max(LEAST));
        let end = (start + size).next_multiple_of(BLOCK).min(self.limit);
        let mut left = end.saturating_sub(start);
        while left > 0 {
            let size = usize::try_from(left).unwrap_or(usize::MAX).min(ZEROS.len());
            slices.push(IoSlice::new(ZEROS.get(..size).unwrap_or_default()));
            left -= size as u64;
        }
        Some(end)
    }

    /// The zeros that [`ZeroAhead::add`] added are in the file.
    pub(super) fn written(&mut self, upto: Option<u64>) {
        self.upto = upto.unwrap_or(self.upto);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(slices: &[IoSlice<'_>]) -> u64 {
        slices.iter().map(|slice| slice.len() as u64).sum()
    }

    #[test]
    fn zeros_fill_what_lies_between_the_group_and_a_block_end_once() {
        let mut zeros = ZeroAhead::new(200_000, 1 << 30);
        let mut slices = Vec::new();
        let end = zeros.add(5000, 100, &mut slices).unwrap();
        assert_eq!(end % BLOCK, 0);
        assert_eq!(bytes(&slices), end - 5100);
        zeros.written(Some(end));
        assert_eq!(zeros.add(5100, 100, &mut Vec::new()), None);
        assert!(zeros.add(end - 50, 100, &mut Vec::new()).is_some());
    }

    #[test]
    fn zeros_never_pass_the_end_of_the_file() {
        let zeros = ZeroAhead::new(100_000, 8192);
        let mut slices = Vec::new();
        assert_eq!(zeros.add(128, 100, &mut slices), Some(8192));
        assert_eq!(bytes(&slices), 8192 - 228);
    }

    #[test]
    fn zeros_grow_with_the_file_up_to_the_setting() {
        let zeros = ZeroAhead::new(4 << 20, 1 << 30);
        let added = |offset| bytes_added(&zeros, offset);
        assert_eq!(added(4096 - 100), LEAST);
        assert_eq!(added((1 << 20) - 100), 1 << 20);
        assert_eq!(added((64 << 20) - 100), 4 << 20);
    }

    fn bytes_added(zeros: &ZeroAhead, offset: u64) -> u64 {
        let mut slices = Vec::new();
        zeros.add(offset, 100, &mut slices);
        bytes(&slices)
    }

    #[test]
    fn large_groups_and_a_setting_of_zero_add_none() {
        assert_eq!(ZeroAhead::new(4096, 1 << 20).add(0, 129, &mut Vec::new()), None);
        assert_eq!(ZeroAhead::new(0, 1 << 20).add(0, 1, &mut Vec::new()), None);
    }
}
