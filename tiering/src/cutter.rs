//! Cuts a stream of bytes into parts of equal length for an upload. Pure: it holds less than a part
//! and what it was last handed, and makes no request.
//!
//! # Invariants
//! - All parts but the last have exactly the length that was chosen; the last one is not empty.
//!   Stores are strict about it: some demand equal parts, all demand 5 MiB of each but the last.
//! - The parts, joined, are the bytes.

use crate::{PART_NUMBER_MAX, PartLimits};
use bytes::{Bytes, BytesMut};

/// The length of parts that suits an object of about `len` bytes, from the length that is wanted,
/// within what the store takes.
pub(crate) fn part_bytes(wanted: u64, len: Option<u64>, limits: PartLimits) -> u64 {
    let parts_max = u64::from(limits.parts_max.clamp(1, PART_NUMBER_MAX));
    let needed = len.map_or(0, |len| len.div_ceil(parts_max));
    wanted.max(needed).max(limits.part_min).min(limits.part_max).max(1)
}

/// Bytes on their way into parts.
#[derive(Debug)]
pub(crate) struct Cutter {
    part: usize,
    /// Less than a part, copied together.
    begun: BytesMut,
    /// What was handed over last and is not looked at yet.
    rest: Bytes,
}

impl Cutter {
    /// For parts of this length.
    pub(crate) fn new(part: u64) -> Self {
        let part = usize::try_from(part).unwrap_or(usize::MAX).max(1);
        Self { part, begun: BytesMut::new(), rest: Bytes::new() }
    }

    /// Hands over the next bytes; only when [`Cutter::next_part`] has no part any more.
    pub(crate) fn push(&mut self, bytes: Bytes) {
        debug_assert!(self.rest.is_empty(), "parts are taken before more is handed over");
        self.rest = bytes;
    }

    /// A whole part, if there is one.
    pub(crate) fn next_part(&mut self) -> Option<Bytes> {
        if self.begun.is_empty() && self.rest.len() >= self.part {
            // A part within what was handed over is not copied.
            return Some(self.rest.split_to(self.part));
        }
        let take = self.rest.len().min(self.part - self.begun.len());
        self.begun.extend_from_slice(&self.rest.split_to(take));
        (self.begun.len() == self.part).then(|| self.begun.split().freeze())
    }

    /// What is left after the last whole part; `None` if nothing is.
    pub(crate) fn finish(mut self) -> Option<Bytes> {
        self.begun.extend_from_slice(&self.rest);
        (!self.begun.is_empty()).then(|| self.begun.freeze())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn parts_are_equal_but_for_the_last_and_make_the_whole(
            chunks in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..50), 0..20),
            part in 1_u64..40,
        ) {
            let whole = chunks.concat();
            let mut cutter = Cutter::new(part);
            let mut parts: Vec<Bytes> = Vec::new();
            for chunk in chunks {
                cutter.push(chunk.into());
                parts.extend(std::iter::from_fn(|| cutter.next_part()));
            }
            prop_assert!(parts.iter().all(|whole| whole.len() as u64 == part));
            let last = cutter.finish();
            prop_assert!(last.iter().all(|last| (1..part).contains(&(last.len() as u64))));
            parts.extend(last);
            prop_assert_eq!(parts.concat(), whole);
        }

        #[test]
        fn the_length_of_parts_is_one_that_the_store_takes(
            wanted in 0_u64..1 << 34,
            len in prop::option::of(0_u64..1 << 46),
        ) {
            let limits = PartLimits::S3;
            let part = part_bytes(wanted, len, limits);
            prop_assert!((limits.part_min..=limits.part_max).contains(&part));
            let largest = limits.part_max * u64::from(limits.parts_max);
            let len = len.unwrap_or(0).min(largest);
            prop_assert!(len.div_ceil(part) <= u64::from(limits.parts_max));
        }
    }
}
