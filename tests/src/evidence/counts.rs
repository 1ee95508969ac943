//! What a run did, by name. Written by the machines, added up by the runner.

use std::collections::BTreeMap;

/// Counters of one seed or of a whole run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    states: u64,
    by_name: BTreeMap<String, u64>,
}

impl Counts {
    /// Something whole was tried: one crash state recovered and checked, one kill survived.
    pub fn state(&mut self) {
        self.states += 1;
    }

    /// Adds to the counter `name`; with 0 it is at least listed.
    pub fn add(&mut self, name: &str, count: u64) {
        match self.by_name.get_mut(name) {
            Some(counter) => *counter += count,
            None => drop(self.by_name.insert(name.to_owned(), count)),
        }
    }

    /// The machine's own unit.
    pub fn states(&self) -> u64 {
        self.states
    }

    /// The counter `name`; 0 if nobody counted.
    pub fn get(&self, name: &str) -> u64 {
        self.by_name.get(name).copied().unwrap_or(0)
    }

    /// All counters.
    pub fn all(&self) -> &BTreeMap<String, u64> {
        &self.by_name
    }

    /// Adds all of another's.
    pub fn merge(&mut self, other: &Self) {
        self.states += other.states;
        for (name, count) in &other.by_name {
            self.add(name, *count);
        }
    }
}
