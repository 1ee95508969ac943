//! After a crash: are the rows those after all writes up to one LSN, and was nothing promised
//! beyond it? Pure. Called by the history machine after every open.

use super::record::{Answer, Call, Level, Rows};
use std::collections::BTreeMap;

/// The calls between two opens, and what the second found.
#[derive(Debug)]
pub(super) struct Epoch<'a> {
    /// The rows that the first open found, and its last LSN.
    pub(super) before: &'a Rows,
    pub(super) first_lsn: u64,
    pub(super) calls: &'a [Call],
    /// What was acknowledged at this level or above must be there.
    pub(super) kept: Level,
    /// The rows that the second open found, and its last LSN.
    pub(super) found: &'a Rows,
    pub(super) last_lsn: u64,
}

/// What became of the writes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Fates {
    /// Acknowledged, and not there.
    pub(super) lost: usize,
    /// Of unknown outcome, and there.
    pub(super) unknown_kept: usize,
}

impl Epoch<'_> {
    /// Compares.
    ///
    /// # Errors
    /// The rule that was broken.
    pub(super) fn check(&self) -> Result<Fates, String> {
        let by_lsn = self.by_lsn()?;
        self.in_order(&by_lsn)?;
        for (lsn, call) in by_lsn.range(self.last_lsn.saturating_add(1)..) {
            let promised = call.receipt.is_some_and(|told| told.level >= self.kept);
            if promised {
                let last = self.last_lsn;
                return Err(format!("recovery ends at LSN {last}; promised at {lsn}: {call:?}"));
            }
        }
        let kept = by_lsn.range(..=self.last_lsn).count();
        let nameless: Vec<u64> = (self.first_lsn.saturating_add(1)..=self.last_lsn)
            .filter(|lsn| !by_lsn.contains_key(lsn))
            .collect();
        let unknown: Vec<&Call> = self.calls.iter().filter(|call| call.is_unknown()).collect();
        if !self.explained(&by_lsn, &nameless, &unknown) {
            return Err(format!(
                "the rows are not those after LSN {}: found {:?}, before {:?} at {}; nobody was \
                 told of {nameless:?}, of unknown outcome are {unknown:?}; the last writes are {:?}",
                self.last_lsn,
                self.found,
                self.before,
                self.first_lsn,
                by_lsn.range(..=self.last_lsn).rev().take(12).collect::<Vec<_>>()
            ));
        }
        Ok(Fates { lost: by_lsn.len() - kept, unknown_kept: nameless.len() })
    }

    /// The acknowledged writes.
    fn by_lsn(&self) -> Result<BTreeMap<u64, &Call>, String> {
        let mut by_lsn = BTreeMap::new();
        for call in self.calls {
            let Some(told) = call.receipt else { continue };
            if told.lsn <= self.first_lsn {
                return Err(format!("an LSN from before LSN {}: {call:?}", self.first_lsn));
            }
            if let Some(other) = by_lsn.insert(told.lsn, call) {
                return Err(format!("two writes with one LSN: {other:?} and {call:?}"));
            }
        }
        Ok(by_lsn)
    }

    /// A write that was acknowledged before another was asked for has the lower LSN.
    fn in_order(&self, by_lsn: &BTreeMap<u64, &Call>) -> Result<(), String> {
        let mut earliest: Option<(u64, &Call)> = None;
        for call in by_lsn.values().rev() {
            if let Some((returned, later)) = earliest
                && returned < call.invoked
            {
                return Err(format!("LSNs against the order of time: {later:?} and {call:?}"));
            }
            let Some(returned) = call.returned else { continue };
            if earliest.is_none_or(|(known, _)| returned < known) {
                earliest = Some((returned, call));
            }
        }
        Ok(())
    }

    /// Can the LSNs that nobody was told of be given to calls of unknown outcome, each at most
    /// once and all LSNs, so that the rows are those found? There is at most one such call per
    /// client: trying all ways is cheap.
    fn explained(
        &self,
        by_lsn: &BTreeMap<u64, &Call>,
        nameless: &[u64],
        unknown: &[&Call],
    ) -> bool {
        let Some((lsn, rest)) = nameless.split_first() else {
            return self.replayed(by_lsn).is_some_and(|rows| rows == *self.found);
        };
        (0..unknown.len()).any(|at| {
            let mut left = unknown.to_vec();
            let call = left.remove(at);
            let mut with = by_lsn.clone();
            with.insert(*lsn, call);
            self.in_order(&with).is_ok() && self.explained(&with, rest, &left)
        })
    }

    /// The rows after the writes up to the last LSN, if each was possible when it came.
    fn replayed(&self, by_lsn: &BTreeMap<u64, &Call>) -> Option<Rows> {
        let mut rows = self.before.clone();
        for call in by_lsn.range(..=self.last_lsn).map(|(_, call)| call) {
            for (key, _) in &call.keys {
                // Only what was done has an LSN.
                match call.action.step(Answer::Done, rows.get(key).copied())? {
                    Some(row) => drop(rows.insert(*key, row)),
                    None => drop(rows.remove(key)),
                }
            }
        }
        Some(rows)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::evidence::history::record::{Action, Row, Told};

    /// The write number `n` of one client, after all before it.
    fn write(n: u64, action: Action, keys: &[u64], level: Option<Level>) -> Call {
        Call {
            client: 0,
            action,
            keys: keys.iter().map(|key| (*key, Answer::Done)).collect(),
            invoked: n * 2,
            returned: level.map(|_| n * 2 + 1),
            receipt: level.map(|level| Told { lsn: n, level }),
        }
    }

    fn rows(rows: &[(u64, u64)]) -> Rows {
        rows.iter().map(|(key, version)| (*key, Row { version: *version, update: 0 })).collect()
    }

    fn check(calls: &[Call], found: &[(u64, u64)], last_lsn: u64) -> Result<Fates, String> {
        let (before, found) = (Rows::new(), rows(found));
        let (kept, first_lsn) = (Level::Sync, 0);
        Epoch { before: &before, first_lsn, calls, kept, found: &found, last_lsn }.check()
    }

    fn three() -> Vec<Call> {
        vec![
            write(1, Action::Upsert(1), &[1, 2], Some(Level::Memory)),
            write(2, Action::Delete, &[1], Some(Level::Sync)),
            write(3, Action::Upsert(3), &[3, 4], Some(Level::Memory)),
        ]
    }

    #[test]
    fn a_prefix_with_all_that_was_promised_is_accepted() {
        let lost = Fates { lost: 1, unknown_kept: 0 };
        assert_eq!(check(&three(), &[(2, 1)], 2), Ok(lost));
        assert_eq!(check(&three(), &[(2, 1), (3, 3), (4, 3)], 3), Ok(Fates::default()));
    }

    #[test]
    fn a_lost_promise_half_a_batch_and_a_deleted_row_that_is_back_are_rejected() {
        assert!(check(&three(), &[(1, 1), (2, 1)], 1).is_err(), "the delete was promised");
        assert!(check(&three(), &[(2, 1), (3, 3)], 3).is_err(), "half of a batch");
        assert!(check(&three(), &[(1, 1), (2, 1)], 2).is_err(), "the deleted row is back");
        assert!(check(&three(), &[(2, 1), (3, 3), (4, 3)], 2).is_err(), "more than it says");
        assert!(check(&three(), &[(2, 1)], 4).is_err(), "an LSN that nobody can have");
    }

    #[test]
    fn lsns_that_repeat_or_go_against_the_order_of_time_are_rejected() {
        let mut calls = three();
        calls[2].receipt = Some(Told { lsn: 2, level: Level::Memory });
        assert!(check(&calls, &[(2, 1)], 2).is_err());
        let mut calls = three();
        calls.swap(0, 1);
        for (call, lsn) in calls.iter_mut().zip(1..) {
            call.receipt = Some(Told { lsn, level: Level::Memory });
        }
        assert!(check(&calls, &[(1, 1), (2, 1)], 2).is_err(), "reordered");
    }

    #[test]
    fn a_write_of_unknown_outcome_explains_a_nameless_lsn_but_only_one_and_only_after_it_began() {
        let mut calls = three();
        calls.push(write(4, Action::Upsert(9), &[9], None));
        let all = [(2, 1), (3, 3), (4, 3)];
        let with = [all.as_slice(), &[(9, 9)]].concat();
        assert_eq!(check(&calls, &with, 4), Ok(Fates { lost: 0, unknown_kept: 1 }));
        assert_eq!(check(&calls, &all, 3), Ok(Fates::default()));
        assert!(check(&calls, &with, 3).is_err(), "it is there, and no LSN is its");
        assert!(check(&calls, &all, 4).is_err(), "an LSN, and it is not there");
        let later = calls.remove(1);
        let lsns: Vec<u64> = calls.iter().filter_map(|c| c.receipt).map(|told| told.lsn).collect();
        assert_eq!((later.receipt.map(|told| told.lsn), lsns), (Some(2), vec![1, 3]));
        let early = rows(&[(1, 1), (2, 1), (3, 3), (4, 3), (9, 9)]);
        let early: Vec<(u64, u64)> = early.iter().map(|(key, row)| (*key, row.version)).collect();
        assert!(check(&calls, &early, 3).is_err(), "LSN 2 was given before it was asked for");
    }
}
