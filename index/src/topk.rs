//! The k best of a stream, in one total order that every tier shares.
//!
//! # Invariants
//! - Order: higher score first; among equal scores the smaller item first. So the k best of a
//!   union do not depend on how its parts were cut, ordered or merged, which lets memtables,
//!   segments and cold objects be searched apart.
//! - A NaN score ranks behind all others instead of poisoning the order.

use std::{cmp::Ordering, collections::BinaryHeap};

/// Room is taken as results arrive beyond this: `k` may be a limit that few searches reach.
const RESERVED_MAX: usize = 1024;

/// An item and its score. "Less" is better: sorting puts the best first.
#[derive(Clone, Copy, Debug)]
pub struct Scored<T> {
    /// Higher is nearer.
    pub score: f32,
    /// The caller's item; among equal scores the smaller one is better.
    pub item: T,
}

impl<T: Ord> Ord for Scored<T> {
    fn cmp(&self, other: &Self) -> Ordering {
        other.score.total_cmp(&self.score).then_with(|| self.item.cmp(&other.item))
    }
}

impl<T: Ord> PartialOrd for Scored<T> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<T: Ord> PartialEq for Scored<T> {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl<T: Ord> Eq for Scored<T> {}

/// Keeps the `k` best of what it is given.
///
/// ```
/// use akidb_index::TopK;
/// let mut best = TopK::new(2);
/// best.push(0.5, "b");
/// best.push(0.9, "c");
/// best.push(0.5, "a"); // ties with "b", and "a" is smaller
/// assert_eq!(best.threshold(), Some(0.5));
/// let items: Vec<_> = best.into_sorted_vec().into_iter().map(|s| s.item).collect();
/// assert_eq!(items, ["c", "a"]);
/// ```
#[derive(Clone, Debug)]
pub struct TopK<T> {
    k: usize,
    /// The worst kept entry is on top.
    heap: BinaryHeap<Scored<T>>,
}

impl<T: Ord> TopK<T> {
    /// An empty collector of the `k` best; `k` of 0 keeps nothing.
    pub fn new(k: usize) -> Self {
        Self { k, heap: BinaryHeap::with_capacity(k.min(RESERVED_MAX)) }
    }

    /// Offers an item; true if it is, for now, among the `k` best.
    pub fn push(&mut self, score: f32, item: T) -> bool {
        // -0.0 and 0.0 must tie; a NaN must lose.
        let score = if score.is_nan() { f32::NEG_INFINITY } else { score + 0.0 };
        let entry = Scored { score, item };
        if self.heap.len() < self.k {
            self.heap.push(entry);
            return true;
        }
        match self.heap.peek_mut() {
            Some(mut worst) if entry < *worst => {
                *worst = entry;
                true
            }
            _ => false,
        }
    }

    /// The score of the worst kept item once `k` are kept. An item of a lower score cannot enter,
    /// one of an equal score only if it is smaller. `None` while there is room.
    pub fn threshold(&self) -> Option<f32> {
        if self.heap.len() < self.k { None } else { self.heap.peek().map(|worst| worst.score) }
    }

    /// How many items are kept.
    pub fn len(&self) -> usize {
        self.heap.len()
    }

    /// True when nothing is kept.
    pub fn is_empty(&self) -> bool {
        self.heap.is_empty()
    }

    /// Offers everything that `other` kept.
    pub fn merge(&mut self, other: Self) {
        for entry in other.heap {
            self.push(entry.score, entry.item);
        }
    }

    /// The kept items, best first.
    pub fn into_sorted_vec(self) -> Vec<Scored<T>> {
        self.heap.into_sorted_vec()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Few distinct scores, so that ties are the rule.
    fn entries() -> impl Strategy<Value = Vec<(f32, u32)>> {
        let score = prop_oneof![
            prop::sample::select(vec![-1.0_f32, -0.0, 0.0, 0.5]),
            any::<f32>().prop_filter("scores are numbers", |s| !s.is_nan()),
        ];
        prop::collection::vec((score, 0_u32..50), 0..60)
    }

    fn collect(k: usize, entries: &[(f32, u32)]) -> TopK<u32> {
        let mut best = TopK::new(k);
        for (score, item) in entries {
            best.push(*score, *item);
        }
        best
    }

    fn pairs(best: TopK<u32>) -> Vec<(f32, u32)> {
        best.into_sorted_vec().into_iter().map(|s| (s.score, s.item)).collect()
    }

    proptest! {
        #[test]
        fn it_keeps_what_a_full_sort_would_put_first(all in entries(), k in 0_usize..20) {
            let mut sorted: Vec<(f32, u32)> = all.iter().map(|(s, i)| (s + 0.0, *i)).collect();
            sorted.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
            sorted.truncate(k);
            prop_assert_eq!(pairs(collect(k, &all)), sorted);
        }

        #[test]
        fn parts_merge_to_the_whole_wherever_they_are_cut(
            all in entries(), k in 0_usize..20, cut in any::<prop::sample::Index>()
        ) {
            let cut = cut.index(all.len() + 1);
            let mut merged = collect(k, &all[cut..]);
            merged.merge(collect(k, &all[..cut]));
            prop_assert_eq!(pairs(merged), pairs(collect(k, &all)));
        }

        #[test]
        fn nothing_below_the_threshold_enters(all in entries(), k in 1_usize..20, score in any::<f32>()) {
            let mut best = collect(k, &all);
            if let Some(threshold) = best.threshold() && score < threshold {
                prop_assert!(!best.push(score, 0));
            }
        }
    }

    #[test]
    fn a_nan_loses_to_everything_and_does_not_panic() {
        let mut best = TopK::new(1);
        best.push(f32::NAN, 1);
        assert!(best.push(f32::MIN, 2));
        assert!(!best.push(-f32::NAN, 3));
        assert_eq!(best.into_sorted_vec()[0].item, 2);
    }

    #[test]
    fn a_huge_k_reserves_no_memory_up_front() {
        let mut best = TopK::new(usize::MAX);
        best.push(1.0, 1);
        assert_eq!((best.len(), best.is_empty(), best.threshold()), (1, false, None));
    }
}
