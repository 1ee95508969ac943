//! Where the time of a query goes, and what it looked at: the means of what `explain` says.

use akidb::{Explain, PartExplain};
use serde::Serialize;
use std::collections::BTreeSet;

/// Means over queries: counts over all, times over the 95 % that took least, because what the others
/// waited for is mostly the machine.
#[derive(Clone, Debug, Default, Serialize)]
pub(super) struct Stages {
    /// In the order in which they run; together the time of a query.
    pub(super) stages: Vec<Stage>,
    pub(super) cells_probed_per_query: f64,
    /// By their codes of one bit.
    pub(super) rows_scanned_per_query: f64,
    /// By their codes of eight bits.
    pub(super) rows_decided_per_query: f64,
    /// By their vectors.
    pub(super) rows_scored_per_query: f64,
}

/// A stage of a search.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Stage {
    pub(super) stage: &'static str,
    pub(super) us: f64,
    /// Of the whole query, 0 to 1.
    pub(super) share: f64,
}

/// A number that a part reports.
type Of = fn(&PartExplain) -> u64;

/// Name and time, in microseconds, of each stage that a part reports.
const STAGES: [(&str, Of); 4] = [
    ("filter", |part| part.filter_us),
    ("route", |part| part.route_us),
    ("scan", |part| part.scan_us),
    ("score", |part| part.score_us),
];

impl Stages {
    pub(super) fn mean(explains: &[Explain]) -> Self {
        let all: Vec<&Explain> = explains.iter().collect();
        let count = |of: Of| mean(&all, of);
        let mut usual = all.clone();
        usual.sort_by_key(|explain| explain.total_us);
        usual.truncate((all.len() * 19).div_ceil(20));
        let totals = usual.iter().map(|explain| explain.total_us).sum::<u64>();
        let total = totals as f64 / usual.len().max(1) as f64;
        let mut stages: Vec<_> =
            STAGES.iter().map(|(stage, of)| (*stage, mean(&usual, *of))).collect();
        let known: f64 = stages.iter().map(|(_, us)| us).sum();
        stages.push(("rest", (total - known).max(0.0)));
        let share = |us| if total > 0.0 { us / total.max(known) } else { 0.0 };
        let stages = stages.into_iter().map(|(stage, us)| Stage { stage, us, share: share(us) });
        Self {
            stages: stages.collect(),
            cells_probed_per_query: count(|part| part.cells),
            rows_scanned_per_query: count(|part| part.scanned),
            rows_decided_per_query: count(|part| part.decided),
            rows_scored_per_query: count(|part| part.scored),
        }
    }
}

/// Of a query: the sum over its parts.
fn mean(explains: &[&Explain], of: Of) -> f64 {
    let parts = explains.iter().flat_map(|explain| &explain.parts);
    parts.map(of).sum::<u64>() as f64 / explains.len().max(1) as f64
}

/// What the engine did, in its words: the plans of all parts of all queries, each once.
pub(super) fn plans(explains: &[Explain]) -> String {
    let parts = explains.iter().flat_map(|explain| &explain.parts);
    let plans: BTreeSet<&str> = parts.map(|part| part.plan).collect();
    plans.into_iter().collect::<Vec<_>>().join("+")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn explain(plan: &'static str, scan_us: u64, scored: u64, total_us: u64) -> Explain {
        let part = PartExplain { plan, scan_us, scored, ..PartExplain::default() };
        Explain { lsn: 0, plan, parts: vec![part], threads: 1, promoted: false, total_us }
    }

    #[test]
    fn stages_are_means_and_their_shares_sum_to_one() {
        let explains = [explain("cells", 30, 10, 50), explain("cells", 50, 30, 110)];
        let mut explains: Vec<_> = explains.iter().cycle().take(38).cloned().collect();
        // Two that waited for the machine do not tell where a query's time goes.
        explains.extend([explain("cells", 9000, 20, 9000), explain("cells", 9000, 20, 9000)]);
        let stages = Stages::mean(&explains);
        let scan = &stages.stages[2];
        assert_eq!((scan.stage, scan.us, scan.share), ("scan", 40.0, 0.5));
        assert_eq!(stages.rows_scored_per_query, 20.0);
        let sum: f64 = stages.stages.iter().map(|stage| stage.share).sum();
        assert!((sum - 1.0).abs() < 1e-9);
    }

    #[test]
    fn of_no_query_there_is_no_time() {
        assert!(Stages::mean(&[]).stages.iter().all(|stage| stage.us == 0.0));
    }

    #[test]
    fn each_plan_is_named_once() {
        let explains = [explain("codes", 0, 0, 0), explain("cells", 0, 0, 0)];
        assert_eq!(plans(&[explains.clone(), explains].concat()), "cells+codes");
    }
}
