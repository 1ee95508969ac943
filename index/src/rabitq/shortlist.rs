//! Which rows may be among the best, as far as bounds tell: what is left to score exactly.
//!
//! A scan offers the estimates of rows as it meets them; the shortlist tells it below which upper
//! bound a row cannot be among the `k` best any more, so that the scan skips most of them.
//!
//! # Invariants
//! - A row is left out only if `k` other rows have lower bounds above its upper bound (or the
//!   caller's floor is above it). So as long
//!   as bounds hold, the true best are on the list, in whatever order rows came.
//! - The list stays small: what later rows ruled out is dropped when it has grown to twice what was
//!   left after the last time.

use super::Estimate;
use crate::TopK;

/// The list may grow to this before it is looked through again.
const ROOM: usize = 64;

/// Rows that may be among the `k` best.
///
/// ```
/// use akidb_index::rabitq::{Estimate, Shortlist};
/// let mut list = Shortlist::new(1);
/// list.offer(10, Estimate { score: 0.9, margin: 0.1 });
/// list.offer(11, Estimate { score: 0.5, margin: 0.1 }); // 0.6 at most, row 10 has at least 0.8
/// list.offer(12, Estimate { score: 0.8, margin: 0.2 });
/// assert_eq!(list.into_undecided(), [10, 12]);
/// ```
#[derive(Clone, Debug)]
pub struct Shortlist<T> {
    k: usize,
    /// The best lower bounds.
    lower: TopK<T>,
    /// Upper bounds and rows.
    kept: Vec<(f32, T)>,
    room: usize,
    floor: f32,
}

impl<T: Ord + Copy> Shortlist<T> {
    /// An empty list for the `k` best; for `k` of 0 it stays empty.
    pub fn new(k: usize) -> Self {
        let floor = f32::NEG_INFINITY;
        Self { k, lower: TopK::new(k), kept: Vec::new(), room: ROOM, floor }
    }

    /// Leaves out rows below `floor`, too: the `k`-th best score that was found elsewhere.
    #[must_use]
    pub fn above(self, floor: f32) -> Self {
        Self { floor, ..self }
    }

    /// Offers a row, once; true if it may be among the best for now.
    pub fn offer(&mut self, row: T, estimate: Estimate) -> bool {
        let upper = estimate.score + estimate.margin;
        // Not `>=`: an upper bound that is not known (NaN) rules nothing out.
        if self.k == 0 || upper < self.threshold() {
            return false;
        }
        self.lower.push(estimate.score - estimate.margin, row);
        self.kept.push((upper, row));
        if self.kept.len() >= self.room {
            self.drop_ruled_out();
            self.room = ROOM.max(2 * self.kept.len());
        }
        true
    }

    /// A row whose upper bound is below this is not among the best. Give it to
    /// [`super::Blocks::scan`].
    pub fn threshold(&self) -> f32 {
        self.lower.threshold().map_or(self.floor, |lower| lower.max(self.floor))
    }

    fn drop_ruled_out(&mut self) {
        let threshold = self.threshold();
        self.kept.retain(|(upper, _)| upper.is_nan() || *upper >= threshold);
    }

    /// The rows that bounds cannot rule out, in the order they came: score them exactly.
    pub fn into_undecided(mut self) -> Vec<T> {
        self.drop_ruled_out();
        self.kept.into_iter().map(|(_, row)| row).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A true score, and an estimate whose margin covers it.
    fn row() -> impl Strategy<Value = (f32, Estimate)> {
        let margin = prop_oneof![6 => 0.0_f32..0.3, 1 => Just(f32::INFINITY), 1 => Just(f32::NAN)];
        (-1.0_f32..1.0, margin, -1.0_f32..1.0).prop_map(|(truth, margin, off)| {
            let off = if margin.is_finite() { off * margin * 0.999 } else { 0.0 };
            (truth, Estimate { score: truth + off, margin })
        })
    }

    proptest! {
        #[test]
        fn the_true_best_are_on_the_list(
            rows in prop::collection::vec(row(), 0..400),
            k in 0_usize..12,
        ) {
            let mut list = Shortlist::new(k);
            let mut best = TopK::new(k);
            for (row, (truth, estimate)) in rows.iter().enumerate() {
                // As a scan does: rows below the threshold are not even offered.
                let ruled_out = estimate.score + estimate.margin < list.threshold();
                if !ruled_out {
                    list.offer(row, *estimate);
                }
                best.push(*truth, row);
            }
            let left = list.into_undecided();
            for found in best.into_sorted_vec() {
                prop_assert!(left.contains(&found.item), "{found:?} is not in {left:?}");
            }
        }

        #[test]
        fn exact_estimates_leave_the_best_alone(
            scores in prop::collection::hash_set(0_u16..10_000, 0..300),
            k in 0_usize..12,
        ) {
            let mut list = Shortlist::new(k);
            for score in &scores {
                list.offer(*score, Estimate { score: f32::from(*score), margin: 0.0 });
            }
            let mut left = list.into_undecided();
            left.sort_unstable_by(|a, b| b.cmp(a));
            let mut all: Vec<u16> = scores.into_iter().collect();
            all.sort_unstable_by(|a, b| b.cmp(a));
            all.truncate(k);
            prop_assert_eq!(left, all);
        }
    }
}
