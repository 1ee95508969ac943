//! Which items travel together: they are collected per group and leave as a batch by count, by
//! bytes, by age or on demand.
//!
//! Owns the open batches and nothing else: it reads no clock, bounds no memory and makes no request,
//! so that a property test can play every sequence. [`Shipper`](crate::Shipper) drives it.
//!
//! # Invariants
//! - Every item leaves in exactly one batch, and those of a group in the order in which they came.
//! - A batch has at most `items_max` items, and at most `bytes_max` bytes unless it is one item.
//! - Asked at any time, [`Batcher::due`] leaves nothing behind that has waited for `age_max_ms`.
//! - Switched off, each item is a batch.

use serde::{Deserialize, Serialize};
use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

/// When a batch leaves. Plain data.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct BatchSettings {
    /// Whether items wait for each other at all. Default: true.
    pub enabled: bool,
    /// A batch of this many items leaves. Default: 10; 0 counts as 1. Raise it for fewer requests;
    /// items wait longer, and one failure concerns more of them.
    pub items_max: u32,
    /// A batch of this many bytes leaves. Default: 16 MiB, what goes in one put by default.
    pub bytes_max: u64,
    /// A batch leaves after so many milliseconds, however small it is. Default: 5,000.
    pub age_max_ms: u64,
}

impl Default for BatchSettings {
    fn default() -> Self {
        Self { enabled: true, items_max: 10, bytes_max: 16 << 20, age_max_ms: 5_000 }
    }
}

/// Why a batch left.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum BatchReason {
    /// It had all the items that it may have.
    Count,
    /// It had, or with one more item would have had, too many bytes.
    Bytes,
    /// Its first item had waited for long enough.
    Age,
    /// Somebody asked for it.
    Demand,
    /// Batching is switched off.
    Off,
}

/// Items that travel together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Batch<G, T> {
    /// What they have in common.
    pub group: G,
    /// In the order in which they came.
    pub items: Vec<T>,
    /// The bytes of all.
    pub bytes: u64,
    /// Why they leave now.
    pub reason: BatchReason,
}

/// Collects items into batches.
///
/// ```
/// use akidb_tiering::{BatchSettings, Batcher};
/// use std::time::Duration;
///
/// let mut batcher = Batcher::new(BatchSettings::default());
/// let mut sizes = Vec::new();
/// for item in 0..25 {
///     let full = batcher.push("docs", item, 100, Duration::ZERO);
///     sizes.extend(full.iter().map(|batch| batch.items.len()));
/// }
/// let late = batcher.due(Duration::from_secs(5));
/// sizes.extend(late.iter().map(|batch| batch.items.len()));
/// assert_eq!(sizes, [10, 10, 5]);
/// ```
#[derive(Debug)]
pub struct Batcher<G, T> {
    settings: BatchSettings,
    open: BTreeMap<G, Open<T>>,
    /// The open batches by the time of their first item.
    ages: BTreeSet<(Duration, G)>,
}

#[derive(Debug)]
struct Open<T> {
    items: Vec<T>,
    bytes: u64,
    since: Duration,
}

impl<G: Ord + Clone, T> Batcher<G, T> {
    /// With no batch open.
    #[must_use]
    pub fn new(settings: BatchSettings) -> Self {
        Self { settings, open: BTreeMap::new(), ages: BTreeSet::new() }
    }

    /// Adds an item of so many bytes at `now`, which never goes back. Returns what leaves because of
    /// it: the batch that it did not fit into, the batch that it filled, or both.
    #[must_use = "what is returned is not kept"]
    pub fn push(&mut self, group: G, item: T, bytes: u64, now: Duration) -> Vec<Batch<G, T>> {
        if !self.settings.enabled {
            return vec![Batch { group, items: vec![item], bytes, reason: BatchReason::Off }];
        }
        let mut left = Vec::new();
        let held = self.open.get(&group).map_or(0, |open| open.bytes);
        if held.saturating_add(bytes) > self.settings.bytes_max {
            left.extend(self.take(&group, BatchReason::Bytes));
        }
        let open = self.open.entry(group.clone()).or_insert_with(|| {
            self.ages.insert((now, group.clone()));
            Open { items: Vec::new(), bytes: 0, since: now }
        });
        open.items.push(item);
        open.bytes = open.bytes.saturating_add(bytes);
        let count = open.items.len() as u64;
        if count >= u64::from(self.settings.items_max) {
            left.extend(self.take(&group, BatchReason::Count));
        } else if open.bytes >= self.settings.bytes_max {
            left.extend(self.take(&group, BatchReason::Bytes));
        }
        left
    }

    /// What has waited for long enough, the oldest first.
    #[must_use = "what is returned is not kept"]
    pub fn due(&mut self, now: Duration) -> Vec<Batch<G, T>> {
        let mut left = Vec::new();
        while let Some((since, group)) = self.ages.first().cloned() {
            if now < self.leaves_at(since) {
                break;
            }
            left.extend(self.take(&group, BatchReason::Age));
        }
        left
    }

    /// When [`Batcher::due`] has something next; `None` while no batch is open.
    pub fn next_due(&self) -> Option<Duration> {
        self.ages.first().map(|(since, _)| self.leaves_at(*since))
    }

    /// What a group has.
    #[must_use = "what is returned is not kept"]
    pub fn flush(&mut self, group: &G) -> Option<Batch<G, T>> {
        self.take(group, BatchReason::Demand)
    }

    /// What all groups have, the oldest first.
    #[must_use = "what is returned is not kept"]
    pub fn flush_all(&mut self) -> Vec<Batch<G, T>> {
        let groups: Vec<_> = self.ages.iter().map(|(_, group)| group.clone()).collect();
        groups.iter().filter_map(|group| self.flush(group)).collect()
    }

    /// How many items wait.
    pub fn len(&self) -> usize {
        self.open.values().map(|open| open.items.len()).sum()
    }

    /// True if nothing waits.
    pub fn is_empty(&self) -> bool {
        self.open.is_empty()
    }

    fn leaves_at(&self, since: Duration) -> Duration {
        since.saturating_add(Duration::from_millis(self.settings.age_max_ms))
    }

    fn take(&mut self, group: &G, reason: BatchReason) -> Option<Batch<G, T>> {
        let (group, Open { items, bytes, since }) = self.open.remove_entry(group)?;
        self.ages.remove(&(since, group.clone()));
        Some(Batch { group, items, bytes, reason })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[derive(Clone, Debug)]
    enum Step {
        Push { group: u8, bytes: u64 },
        Wait(u64),
        Flush(u8),
        FlushAll,
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            8 => (0_u8..4, 0_u64..70).prop_map(|(group, bytes)| Step::Push { group, bytes }),
            3 => (0_u64..4_000).prop_map(Step::Wait),
            1 => (0_u8..4).prop_map(Step::Flush),
            1 => Just(Step::FlushAll),
        ];
        prop::collection::vec(step, 0..120)
    }

    /// An item knows its number and its size.
    type Item = (usize, u64);

    proptest! {
        #[test]
        fn every_item_leaves_once_in_order_in_time_and_in_a_batch_that_is_not_too_large(
            steps in steps(),
            enabled in prop::bool::weighted(0.9),
            items_max in 0_u32..6,
            bytes_max in 0_u64..150,
            age_max_ms in 0_u64..6_000,
        ) {
            let settings = BatchSettings { enabled, items_max, bytes_max, age_max_ms };
            let mut batcher: Batcher<u8, Item> = Batcher::new(settings);
            let (mut now, mut came) = (Duration::ZERO, Vec::new());
            let mut left: Vec<Batch<u8, Item>> = Vec::new();
            for step in steps {
                match step {
                    Step::Push { group, bytes } => {
                        let item = (came.len(), bytes);
                        came.push((group, item, now));
                        left.extend(batcher.push(group, item, bytes, now));
                    }
                    Step::Wait(ms) => now += Duration::from_millis(ms),
                    Step::Flush(group) => left.extend(batcher.flush(&group)),
                    Step::FlushAll => {
                        left.extend(batcher.flush_all());
                        prop_assert!(batcher.is_empty() && batcher.next_due().is_none());
                    }
                }
                left.extend(batcher.due(now));
                prop_assert!(batcher.next_due().is_none_or(|due| due > now));
                let gone: usize = left.iter().map(|batch| batch.items.len()).sum();
                prop_assert_eq!(batcher.len(), came.len() - gone);
                let age_max = Duration::from_millis(age_max_ms);
                let waits = |number| !left.iter().any(|b| b.items.iter().any(|i| i.0 == number));
                let late = came.iter().any(|(_, (n, _), at)| now >= *at + age_max && waits(*n));
                prop_assert!(!late);
            }
            left.extend(batcher.flush_all());
            for batch in &left {
                let bytes: u64 = batch.items.iter().map(|(_, bytes)| bytes).sum();
                prop_assert_eq!(batch.bytes, bytes);
                prop_assert!(batch.items.len() as u32 <= items_max.max(1));
                prop_assert!(bytes <= bytes_max || batch.items.len() == 1);
                prop_assert!(enabled || batch.reason == BatchReason::Off);
            }
            for group in 0..4 {
                let of_group = left.iter().filter(|batch| batch.group == group);
                let found: Vec<_> = of_group.flat_map(|batch| batch.items.clone()).collect();
                let expected: Vec<_> =
                    came.iter().filter(|item| item.0 == group).map(|item| item.1).collect();
                prop_assert_eq!(found, expected);
            }
        }
    }

    #[test]
    fn batches_leave_by_count_by_bytes_and_on_demand_and_say_so() {
        let settings = BatchSettings { items_max: 3, bytes_max: 100, ..Default::default() };
        let mut batcher = Batcher::new(settings);
        let mut push = |bytes| {
            let left = batcher.push('a', (), bytes, Duration::ZERO);
            left.iter().map(|batch| (batch.items.len(), batch.reason)).collect::<Vec<_>>()
        };
        assert_eq!([push(1), push(1)], [vec![], vec![]]);
        assert_eq!(push(1), [(3, BatchReason::Count)]);
        assert_eq!(push(90), []);
        assert_eq!(push(20), [(1, BatchReason::Bytes)], "the second did not fit");
        assert_eq!(push(80), [(2, BatchReason::Bytes)], "it just fits");
        assert_eq!(push(60), []);
        let both = [(1, BatchReason::Bytes), (1, BatchReason::Bytes)];
        assert_eq!(push(500), both, "it fits nowhere");
        assert_eq!(push(5), []);
        let rest = batcher.flush_all();
        assert_eq!((rest.len(), rest[0].reason), (1, BatchReason::Demand));
    }
}
