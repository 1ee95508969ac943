//! What was asked of the test store, and what came of it.

use super::{Fault, Verb};
use crate::{ObjectKey, StoreErrorKind};
use std::collections::BTreeMap;

/// One call that has ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    /// Which.
    pub verb: Verb,
    /// The object; `None` for calls on many.
    pub key: Option<ObjectKey>,
    /// Bytes that were handed over with it.
    pub bytes: u64,
    /// What was done to it.
    pub fault: Option<Fault>,
    /// How it failed, whether by that or by itself.
    pub failed: Option<StoreErrorKind>,
}

/// Sums over all calls.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Calls of each verb, those that failed too.
    pub calls: BTreeMap<Verb, u64>,
    /// Calls that were struck by a fault.
    pub faults: u64,
    /// Calls that failed, by a fault or by themselves.
    pub failed: u64,
    /// Bytes handed over.
    pub bytes: u64,
    /// Calls under way now.
    pub running: u64,
    /// The most calls that were ever under way at once.
    pub running_max: u64,
}

impl Counts {
    /// Calls of one verb.
    pub fn of(&self, verb: Verb) -> u64 {
        self.calls.get(&verb).copied().unwrap_or(0)
    }

    /// Calls of all verbs.
    pub fn total(&self) -> u64 {
        self.calls.values().sum()
    }
}

#[derive(Debug, Default)]
pub(super) struct History {
    pub(super) calls: Vec<Call>,
    pub(super) counts: Counts,
}

impl History {
    pub(super) fn begin(&mut self, verb: Verb, bytes: u64, fault: Option<Fault>) {
        let counts = &mut self.counts;
        *counts.calls.entry(verb).or_default() += 1;
        counts.faults += u64::from(fault.is_some());
        counts.bytes += bytes;
        counts.running += 1;
        counts.running_max = counts.running_max.max(counts.running);
    }

    pub(super) fn end(&mut self, call: Call) {
        self.counts.failed += u64::from(call.failed.is_some());
        self.calls.push(call);
    }
}
