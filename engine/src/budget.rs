//! A bound on memory that many hold parts of: who wants some claims it first and goes without if there
//! is none. For what can be done without, such as copies and remembered answers; memtables, whose
//! writers must wait instead, have `commit::MemoryPool`.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

/// So many bytes, and how many of them are taken.
#[derive(Debug)]
pub(crate) struct Budget {
    used: AtomicU64,
    limit: u64,
}

impl Budget {
    pub(crate) fn new(limit: u64) -> Arc<Self> {
        Arc::new(Self { used: AtomicU64::new(0), limit })
    }

    /// Bytes that are taken.
    pub(crate) fn used(&self) -> u64 {
        self.used.load(Ordering::Relaxed)
    }

    /// Takes bytes; `None` if there are not as many left.
    pub(crate) fn claim(self: &Arc<Self>, bytes: u64) -> Option<Claimed> {
        let taken = |used: u64| used.checked_add(bytes).filter(|used| *used <= self.limit);
        let claimed = self.used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, taken);
        claimed.is_ok().then(|| Claimed { budget: self.clone(), bytes })
    }
}

/// Bytes of a budget, given back when this is dropped.
#[derive(Debug)]
pub(crate) struct Claimed {
    budget: Arc<Budget>,
    bytes: u64,
}

impl Claimed {
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }
}

impl Drop for Claimed {
    fn drop(&mut self) {
        self.budget.used.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn no_more_is_taken_than_there_is_and_all_comes_back(
            limit in 0_u64..1_000,
            wants in prop::collection::vec((0_u64..500, any::<bool>()), 0..40),
        ) {
            let budget = Budget::new(limit);
            let mut held: Vec<Claimed> = Vec::new();
            for (bytes, give_back) in wants {
                if give_back {
                    held.pop();
                }
                let sum: u64 = held.iter().map(Claimed::bytes).sum();
                prop_assert_eq!(budget.used(), sum);
                let claimed = budget.claim(bytes);
                prop_assert_eq!(claimed.is_some(), sum + bytes <= limit);
                held.extend(claimed);
            }
            drop(held);
            prop_assert_eq!(budget.used(), 0);
        }
    }
}
