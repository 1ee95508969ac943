//! Is there an order of all calls on a key, each between its invocation and its return, in which
//! every answer is right? (Linearizability: Herlihy and Wing 1990; keys are independent of each
//! other, so each is checked alone.) Pure. Called by the history machine for every key.
//!
//! The search is Wing and Gong's, with Lowe's two ideas: a call is put into the order only when
//! some return needs it (just in time), and of two partial orders with the same calls done and the
//! same value only one is followed (memo). A partial order is therefore no more than a
//! [`Candidate`]: the value, and which of the open calls are done. A client has one open call at a
//! time, so there are at most 2^clients times a few of them, and the search needs time linear in
//! the length of the history.

use super::record::{Action, Answer, Call, Value};
use std::collections::{BTreeMap, HashSet};

/// The most clients: a bit of [`Candidate::done`] each.
pub(super) const CLIENTS_MAX: usize = 32;

/// One way how it can have been until now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Candidate {
    value: Value,
    /// The clients whose open call has taken effect.
    done: u32,
}

/// The open calls by client.
type Open = BTreeMap<usize, (Action, Answer)>;

/// Checks the calls on one key, which had `before` when all of them began.
///
/// # Errors
/// The first return that no order explains, with what was before it.
pub(super) fn check(key: u64, before: Value, calls: &[Call]) -> Result<(), String> {
    let mut moments: Vec<(u64, bool, &Call, Answer)> = Vec::new();
    for call in calls {
        let Some(answer) = call.answer(key) else { continue };
        if call.client >= CLIENTS_MAX {
            return Err(format!("client {} has no bit", call.client));
        }
        moments.push((call.invoked, true, call, answer));
        moments.extend(call.returned.map(|moment| (moment, false, call, answer)));
    }
    moments.sort_unstable_by_key(|(moment, ..)| *moment);
    let mut open = Open::new();
    let mut candidates = HashSet::from([Candidate { value: before, done: 0 }]);
    for (at, (_, invocation, call, answer)) in moments.iter().enumerate() {
        let client = call.client;
        if *invocation {
            if open.insert(client, (call.action, *answer)).is_some() {
                return Err(format!("client {client} made two calls at once on key {key}"));
            }
            continue;
        }
        let kept = returned(client, &open, &candidates);
        if kept.is_empty() {
            let past: Vec<String> = moments.iter().take(at).map(told).collect();
            let values: Vec<Value> = candidates.iter().map(|candidate| candidate.value).collect();
            let recent = past.get(past.len().saturating_sub(24)..).unwrap_or_default().join("\n");
            return Err(format!(
                "key {key}: no order explains {call:?}\nit could have {values:?} when the calls \
                 {open:?} were open, after\n{recent}"
            ));
        }
        candidates = kept;
        open.remove(&client);
    }
    Ok(())
}

/// The ways that remain when `client`'s call has returned: those in which it took effect. Its bit
/// is free again.
fn returned(client: usize, open: &Open, candidates: &HashSet<Candidate>) -> HashSet<Candidate> {
    let bit = |client: &usize| 1_u32 << client;
    let mut seen = candidates.clone();
    let mut left: Vec<Candidate> = candidates.iter().copied().collect();
    let mut kept = HashSet::new();
    while let Some(candidate) = left.pop() {
        if candidate.done & bit(&client) != 0 {
            // Whatever else could take effect before can as well do so later.
            kept.insert(Candidate { done: candidate.done & !bit(&client), ..candidate });
            continue;
        }
        for (other, (action, answer)) in open {
            if candidate.done & bit(other) != 0 {
                continue;
            }
            if let Some(value) = action.step(*answer, candidate.value) {
                let next = Candidate { value, done: candidate.done | bit(other) };
                if seen.insert(next) {
                    left.push(next);
                }
            }
        }
    }
    kept
}

/// A moment for people.
fn told((moment, invocation, call, answer): &(u64, bool, &Call, Answer)) -> String {
    let (client, action) = (call.client, call.action);
    match invocation {
        true => format!("{moment} client {client} asks {action:?}"),
        false => format!("{moment} client {client} is told {action:?} {answer:?}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::evidence::history::record::Row;
    use proptest::prelude::*;

    const ONE: Value = Some(Row { version: 1, update: 0 });
    const TWO: Value = Some(Row { version: 2, update: 0 });

    /// A call of `client` on key 0 between two moments; the second is 0 when nothing came back.
    fn call(client: usize, times: (u64, u64), action: Action, answer: Answer) -> Call {
        let (invoked, returned) = (times.0, (times.1 > 0).then_some(times.1));
        Call { client, action, keys: vec![(0, answer)], invoked, returned, receipt: None }
    }

    fn get(client: usize, times: (u64, u64), value: Value) -> Call {
        call(client, times, Action::Get, Answer::Found(value))
    }

    fn done(client: usize, times: (u64, u64), action: Action) -> Call {
        call(client, times, action, Answer::Done)
    }

    fn fits(calls: &[Call]) -> bool {
        check(0, None, calls).is_ok()
    }

    #[test]
    fn overlapping_calls_may_take_effect_in_either_order() {
        for (seen, then) in [(ONE, TWO), (TWO, ONE)] {
            assert!(fits(&[
                done(0, (1, 8), Action::Upsert(1)),
                done(1, (2, 9), Action::Upsert(2)),
                get(2, (3, 4), seen),
                get(2, (5, 6), then),
            ]));
        }
    }

    #[test]
    fn a_stale_read_is_rejected() {
        let writes = [done(0, (1, 2), Action::Upsert(1)), done(0, (3, 4), Action::Upsert(2))];
        assert!(fits(&[writes.as_slice(), &[get(1, (5, 6), TWO)]].concat()));
        assert!(!fits(&[writes.as_slice(), &[get(1, (5, 6), ONE)]].concat()));
    }

    #[test]
    fn a_lost_write_is_rejected_even_when_its_neighbour_is_of_unknown_outcome() {
        let lost = [done(0, (1, 2), Action::Upsert(1)), get(1, (3, 4), None)];
        assert!(!fits(&lost));
        // A delete that nobody heard of explains it.
        let unknown = call(2, (1, 0), Action::Delete, Answer::Unknown);
        assert!(fits(&[lost.to_vec(), vec![unknown.clone()]].concat()));
        let late = call(2, (5, 0), Action::Delete, Answer::Unknown);
        assert!(!fits(&[lost.to_vec(), vec![late]].concat()), "it was asked for after the read");
        // But only once.
        let again = [done(0, (5, 6), Action::Upsert(2)), get(1, (7, 8), None)];
        assert!(!fits(&[lost.to_vec(), vec![unknown], again.to_vec()].concat()));
    }

    #[test]
    fn a_lost_update_is_rejected() {
        let updates = [
            done(0, (1, 2), Action::Upsert(1)),
            done(0, (3, 6), Action::Update(7)),
            done(1, (4, 5), Action::Upsert(2)),
        ];
        let seen = |row: Row| fits(&[updates.as_slice(), &[get(2, (7, 8), Some(row))]].concat());
        assert!(seen(Row { version: 2, update: 7 }), "updated after");
        assert!(seen(Row { version: 2, update: 0 }), "replaced after");
        assert!(!seen(Row { version: 1, update: 7 }), "the upsert is lost");
        assert!(!seen(Row { version: 1, update: 0 }), "both are lost");
    }

    #[test]
    fn a_deleted_row_that_is_back_is_rejected() {
        let deleted = [done(0, (1, 2), Action::Upsert(1)), done(0, (3, 4), Action::Delete)];
        assert!(fits(&[deleted.as_slice(), &[get(1, (5, 6), None)]].concat()));
        assert!(!fits(&[deleted.as_slice(), &[get(1, (5, 6), ONE)]].concat()));
        let seen_gone = [get(1, (5, 6), None), get(1, (7, 8), ONE)];
        assert!(!fits(&[deleted.as_slice(), &seen_gone].concat()));
    }

    #[test]
    fn two_readers_that_saw_two_writes_in_different_orders_are_rejected() {
        let writes = [done(0, (1, 20), Action::Upsert(1)), done(1, (2, 21), Action::Upsert(2))];
        let first = [get(2, (3, 4), ONE), get(2, (9, 10), TWO)];
        let agreeing = [get(3, (11, 12), TWO)];
        let differing = [get(3, (5, 6), TWO), get(3, (11, 12), ONE)];
        assert!(fits(&[writes.as_slice(), &first, &agreeing].concat()));
        assert!(!fits(&[writes.as_slice(), &first, &differing].concat()));
    }

    #[test]
    fn conditional_writes_are_held_to_their_conditions() {
        let insert = |answer| call(1, (3, 4), Action::Insert(2), answer);
        let update = |answer| call(1, (3, 4), Action::Update(2), answer);
        let there = done(0, (1, 2), Action::Upsert(1));
        assert!(fits(&[there.clone(), insert(Answer::Refused)]));
        assert!(!fits(&[there.clone(), insert(Answer::Done)]));
        assert!(!fits(&[there, update(Answer::Refused)]));
        assert!(fits(&[insert(Answer::Done)]));
        assert!(!fits(&[insert(Answer::Refused)]));
        assert!(fits(&[update(Answer::Refused)]));
        assert!(!fits(&[update(Answer::Done)]));
    }

    /// Calls that a register really answered, each at some moment within it: by construction there
    /// is an order. A step moves a client on: it asks, has its effect, is told.
    fn played(steps: &[(usize, u8)]) -> Vec<Call> {
        let (mut value, mut calls, mut open) = (None, Vec::<Call>::new(), BTreeMap::new());
        for (now, (client, what)) in (1..).zip(steps) {
            let Some((at, done)) = open.remove(client) else {
                let action = match what % 6 {
                    0 => Action::Upsert(now),
                    1 => Action::Insert(now),
                    2 => Action::Update(now),
                    3 => Action::Delete,
                    _ => Action::Get,
                };
                calls.push(call(*client, (now, 0), action, Answer::Unknown));
                open.insert(*client, (calls.len() - 1, false));
                continue;
            };
            if done {
                calls[at].returned = Some(now);
                continue;
            }
            let action = calls[at].action;
            let answers = [Answer::Found(value), Answer::Done, Answer::Refused];
            let fits = |answer: &&Answer| action.step(**answer, value).is_some();
            let skip = usize::from(action != Action::Get);
            let answer = *answers.iter().skip(skip).find(fits).unwrap();
            value = action.step(answer, value).unwrap();
            calls[at].keys = vec![(0, answer)];
            open.insert(*client, (at, true));
        }
        // What has not come back is of unknown outcome, whether it took effect or not.
        for call in calls.iter_mut().filter(|call| call.returned.is_none()) {
            call.keys = vec![(0, Answer::Unknown)];
        }
        calls.retain(|call| call.returned.is_some() || call.action != Action::Get);
        calls
    }

    proptest! {
        #[test]
        fn what_a_register_answered_is_accepted_and_a_read_of_what_nobody_wrote_is_not(
            steps in prop::collection::vec((0_usize..5, any::<u8>()), 1..200),
        ) {
            let mut calls = played(&steps);
            prop_assert_eq!(check(0, None, &calls), Ok(()));
            let read = calls.iter_mut().find(|call| {
                call.action == Action::Get && call.returned.is_some()
            });
            if let Some(read) = read {
                let nobody = Row { version: 0, update: 0 };
                read.keys = vec![(0, Answer::Found(Some(nobody)))];
                prop_assert!(check(0, None, &calls).is_err());
            }
        }
    }
}
