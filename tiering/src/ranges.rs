//! Which requests serve a read of many ranges. A request over a network costs as much as tens of
//! kilobytes of transfer, so ranges that lie close together are read in one, gap included; and one
//! that is too long is not made longer, so that a few large ones still run side by side.
//!
//! Pure arithmetic over untrusted lengths. Called by stores over a network.

#![deny(clippy::indexing_slicing)]

use std::ops::Range;

/// Ranges to request, such that each of `ranges` that is not empty lies in one of them; sorted and
/// apart. Ranges with at most `gap` bytes between them share a request, unless it would be longer
/// than `most` bytes and they do not touch.
pub(crate) fn requests(ranges: &[Range<u64>], gap: u64, most: u64) -> Vec<Range<u64>> {
    let mut sorted: Vec<_> = ranges.iter().filter(|range| range.start < range.end).collect();
    sorted.sort_unstable_by_key(|range| (range.start, range.end));
    let mut requests: Vec<Range<u64>> = Vec::new();
    for range in sorted {
        match requests.last_mut() {
            Some(last) if joins(last, range, gap, most) => last.end = last.end.max(range.end),
            _ => requests.push(range.clone()),
        }
    }
    requests
}

fn joins(last: &Range<u64>, next: &Range<u64>, gap: u64, most: u64) -> bool {
    // A byte that is asked for twice must not be fetched twice: overlaps always join.
    next.start < last.end
        || (next.start - last.end <= gap && next.end.saturating_sub(last.start) <= most)
}

/// The part of the answer to `request` that holds `range`, as offsets into it.
pub(crate) fn within(request: &Range<u64>, range: &Range<u64>) -> Option<Range<usize>> {
    let start = range.start.checked_sub(request.start)?;
    let end = range.end.checked_sub(request.start)?;
    let fits = range.start <= range.end && range.end <= request.end;
    fits.then_some(usize::try_from(start).ok()?..usize::try_from(end).ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn close_ranges_share_a_request_and_far_ones_do_not() {
        let ranges = [50..60, 0..10, 15..20, 16..18];
        assert_eq!(requests(&ranges, 5, 100), [0..20, 50..60]);
        assert_eq!(requests(&ranges, 4, 100), [0..10, 15..20, 50..60]);
        assert_eq!(requests(&ranges, 100, 20), [0..20, 50..60]);
        assert_eq!(requests(&[3..3, 9..9], 5, 100), []);
    }

    proptest! {
        #[test]
        fn every_range_is_served_by_one_request_and_no_byte_twice(
            ranges in prop::collection::vec((0_u64..2000, 0_u64..300), 0..30),
            gap in 0_u64..100,
            most in 1_u64..1000,
        ) {
            let ranges: Vec<_> = ranges.into_iter().map(|(start, len)| start..start + len).collect();
            let found = requests(&ranges, gap, most);
            for pair in found.windows(2) {
                prop_assert!(pair[0].end <= pair[1].start);
            }
            for range in ranges.iter().filter(|range| !range.is_empty()) {
                let serving = found.iter().filter(|request| within(request, range).is_some());
                prop_assert_eq!(serving.count(), 1);
            }
            let asked = |byte: u64| ranges.iter().any(|range| range.contains(&byte));
            for request in &found {
                prop_assert!(asked(request.start) && asked(request.end - 1), "no byte too much at an end");
                let longest_gap = (request.clone())
                    .scan(0, |run, byte| { *run = if asked(byte) { 0 } else { *run + 1 }; Some(*run) })
                    .max();
                prop_assert!(longest_gap <= Some(gap));
            }
        }
    }
}
