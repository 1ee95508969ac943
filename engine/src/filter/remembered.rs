//! Answers of filters that are asked again and again, remembered per segment.
//!
//! A segment never changes, and its rows are only ever hidden: an answer holds as long as no further
//! row of the segment is hidden. An answer is remembered from the second time on that a filter is asked,
//! so that filters of one use (a tenant, a document) do not push out those that serve every query.
//!
//! Called by searches. Memory comes out of a budget of the database.

use super::{Answer, CompiledFilter, FilterStep};
use crate::budget::{Budget, Claimed};
use parking_lot::Mutex;
use std::{collections::VecDeque, sync::Arc};

/// Answers of one segment, and filters seen once, that are kept.
const KEPT: usize = 8;
/// Filters of more conditions are not remembered: comparing them would cost too much.
const CONDITIONS_MAX: usize = 16;

#[derive(Debug)]
struct Known {
    filter: CompiledFilter,
    /// How many rows were hidden. Hidden rows only become more, so the number says which.
    hidden: u64,
    answer: Arc<Answer>,
    plan: Vec<FilterStep>,
    _claimed: Claimed,
}

/// What a segment remembers.
#[derive(Debug, Default)]
pub(crate) struct Remembered {
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    /// The latest used first.
    known: VecDeque<Known>,
    seen: VecDeque<CompiledFilter>,
}

impl Remembered {
    /// The answer to a filter when so many rows are hidden, and how it was found, if it is remembered.
    pub(crate) fn find(
        &self,
        filter: &CompiledFilter,
        hidden: u64,
    ) -> Option<(Arc<Answer>, Vec<FilterStep>)> {
        let known = &mut self.inner.lock().known;
        let fits = |one: &Known| one.hidden == hidden && one.filter == *filter;
        let at = known.iter().position(fits)?;
        known.swap(0, at);
        known.front().map(|one| (one.answer.clone(), one.plan.clone()))
    }

    /// Takes note of an answer; keeps it if its filter was asked before and the budget allows.
    pub(crate) fn note(
        &self,
        filter: &CompiledFilter,
        hidden: u64,
        answer: &Arc<Answer>,
        budget: &Arc<Budget>,
    ) {
        if filter.conditions() > CONDITIONS_MAX {
            return;
        }
        let Inner { known, seen } = &mut *self.inner.lock();
        let older = known.iter().position(|one| one.filter == *filter);
        let before = seen.iter().position(|one| one == filter);
        match (older, before) {
            (None, None) => {
                seen.truncate(KEPT - 1);
                seen.push_front(filter.clone());
                return;
            }
            // A reader of an older view does not put its answer in the place of a newer one.
            (Some(at), _) if known.get(at).is_some_and(|one| one.hidden > hidden) => return,
            (Some(at), _) => drop(known.remove(at)),
            (None, Some(at)) => drop(seen.remove(at)),
        }
        known.truncate(KEPT - 1);
        let mut claimed = budget.claim(answer.bytes());
        while claimed.is_none() && known.pop_back().is_some() {
            claimed = budget.claim(answer.bytes());
        }
        if let Some(claimed) = claimed {
            let (filter, answer, plan) = (filter.clone(), answer.clone(), answer.remembered_plan());
            known.push_front(Known { filter, hidden, answer, plan, _claimed: claimed });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Metric, Schema, field, filter::Evaluated};
    use roaring::RoaringBitmap;

    fn filter(n: i64) -> CompiledFilter {
        let schema = Schema::new(2, Metric::Dot);
        CompiledFilter::new(&field("n").eq(n), &schema).expect("a good filter")
    }

    fn answer(rows: &[u32]) -> Arc<Answer> {
        let rows: RoaringBitmap = rows.iter().copied().collect();
        Arc::new(Answer::new(Evaluated { rows, plan: Vec::new() }, 1_000))
    }

    fn rows(found: Option<(Arc<Answer>, Vec<FilterStep>)>) -> Option<Vec<u32>> {
        found.map(|(answer, _)| answer.rows().iter().collect())
    }

    #[test]
    fn the_second_answer_is_kept_and_holds_until_a_row_is_hidden() {
        let (kept, budget) = (Remembered::default(), Budget::new(1 << 20));
        kept.note(&filter(1), 0, &answer(&[1, 2]), &budget);
        assert_eq!(rows(kept.find(&filter(1), 0)), None, "asked once");
        assert_eq!(budget.used(), 0);
        kept.note(&filter(1), 0, &answer(&[1, 2]), &budget);
        assert_eq!(rows(kept.find(&filter(1), 0)), Some(vec![1, 2]));
        assert_eq!(rows(kept.find(&filter(2), 0)), None, "another filter");
        assert_eq!(rows(kept.find(&filter(1), 1)), None, "a row is hidden");
        kept.note(&filter(1), 1, &answer(&[2]), &budget);
        assert_eq!(rows(kept.find(&filter(1), 1)), Some(vec![2]));
        kept.note(&filter(1), 0, &answer(&[1, 2]), &budget);
        assert_eq!(rows(kept.find(&filter(1), 1)), Some(vec![2]), "an older view came later");
        drop(kept);
        assert_eq!(budget.used(), 0);
    }

    #[test]
    fn few_are_kept_and_those_in_use_stay() {
        let (kept, budget) = (Remembered::default(), Budget::new(1 << 20));
        for n in 0..30 {
            for _ in 0..2 {
                kept.note(&filter(n), 0, &answer(&[n as u32]), &budget);
            }
            assert!(kept.find(&filter(0), 0).is_some(), "after {n}");
        }
        let left = (0..30).filter(|n| kept.find(&filter(*n), 0).is_some()).count();
        assert_eq!(left, KEPT);
        for n in 100..200 {
            kept.note(&filter(n), 0, &answer(&[]), &budget);
        }
        let after = (0..30).filter(|n| kept.find(&filter(*n), 0).is_some()).count();
        assert_eq!(after, KEPT, "filters of one use push nothing out");
    }

    #[test]
    fn a_budget_that_is_used_up_keeps_the_newest_or_nothing() {
        let one = answer(&[1]).bytes();
        let (kept, budget) = (Remembered::default(), Budget::new(one + one / 2));
        for n in 0..3 {
            for _ in 0..2 {
                kept.note(&filter(n), 0, &answer(&[1]), &budget);
            }
            assert!(kept.find(&filter(n), 0).is_some());
            assert_eq!(budget.used(), one);
        }
        let (kept, none) = (Remembered::default(), Budget::new(one - 1));
        for _ in 0..3 {
            kept.note(&filter(1), 0, &answer(&[1]), &none);
        }
        assert!(kept.find(&filter(1), 0).is_none());
    }
}
