//! The demo's searches: run all queries, show the clearest few, as people read search results.

use super::profile::Profile;
use crate::{
    database,
    error::{CliError, Result},
    output,
    search::HitReport,
    source::Query,
    units,
};
use akidb::{Filter, Hit, PointId, blocking::Collection};
use serde::Serialize;

/// How many queries are shown, and how many hits of each.
const SHOWN: usize = 4;
const HITS: usize = 3;

/// A query with its hits.
#[derive(Debug, Serialize)]
pub(super) struct Answer {
    query: String,
    hits: Vec<HitReport>,
}

/// The queries whose best hit scores highest: the ones whose meaning the rows cover.
pub(super) fn clearest(queries: &[Query], answers: &[Vec<Hit>]) -> Vec<Query> {
    let best = |hits: &[Hit]| hits.first().map_or(f32::NEG_INFINITY, |hit| hit.score);
    let mut order: Vec<(f32, &Query)> =
        answers.iter().map(|hits| best(hits)).zip(queries).collect();
    order.sort_by(|(a, _), (b, _)| b.total_cmp(a));
    order.into_iter().take(SHOWN).map(|(_, query)| query.clone()).collect()
}

/// Answers the queries with everything a person wants to see.
pub(super) fn answer(
    collection: &Collection,
    queries: &[Query],
    filter: Option<&Filter>,
) -> Result<Vec<Answer>> {
    let mut answers = Vec::new();
    for query in queries {
        let mut search = collection.search(&query.vector).k(HITS).with_metadata(true);
        if let Some(filter) = filter {
            search = search.filter(filter.clone());
        }
        let hits = search.run()?.into_iter().map(HitReport::from).collect();
        answers.push(Answer { query: query.text.clone(), hits });
    }
    Ok(answers)
}

/// A table: query, hits, texts, scores.
pub(super) fn table(answers: &[Answer], profile: &Profile) -> String {
    let mut table = output::table(["query", "hit", "text", "score"]);
    for (number, answer) in answers.iter().enumerate() {
        if number > 0 {
            table.add_row([""; 4]);
        }
        for (at, hit) in answer.hits.iter().enumerate() {
            let query = if at == 0 { units::clip(&answer.query, 40) } else { String::new() };
            table.add_row([
                query,
                database::id_text(&hit.id),
                units::clip(profile.text(&hit.metadata), 56),
                format!("{:.3}", hit.score),
            ]);
        }
    }
    output::align_right(&mut table, [3]);
    table.to_string()
}

/// The share of the exact answers' hits that other answers have too.
pub(super) fn recall(exact: &[Vec<Hit>], found: &[Vec<Hit>]) -> f64 {
    let has = |found: &[Hit], id: &PointId| found.iter().any(|hit| hit.id == *id);
    let both = exact.iter().zip(found);
    let common = both.map(|(exact, found)| exact.iter().filter(|hit| has(found, &hit.id)).count());
    let all: usize = exact.iter().map(Vec::len).sum();
    if all == 0 { 1.0 } else { common.sum::<usize>() as f64 / all as f64 }
}

/// Checks that the rows' way through the tiers changed no answer, not even a score's last bit.
pub(super) fn check_same(tier: &str, before: &[Vec<Hit>], after: &[Vec<Hit>]) -> Result<()> {
    let key = |hits: &Vec<Hit>| {
        hits.iter().map(|hit| (hit.id.clone(), hit.score.to_bits())).collect::<Vec<_>>()
    };
    let changed = before.iter().zip(after).filter(|(a, b)| key(a) != key(b)).count();
    if changed == 0 && before.len() == after.len() {
        return Ok(());
    }
    Err(CliError::Check { detail: format!("{changed} answers changed in {tier}") })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hits(ids: &[&str]) -> Vec<Hit> {
        let hit = |id: &&str| Hit { id: (*id).into(), score: 0.0, vector: None, metadata: None };
        ids.iter().map(hit).collect()
    }

    #[test]
    fn recall_is_of_all_hits_together_in_any_order() {
        let exact = [hits(&["a", "b", "c"]), hits(&["d"])];
        assert_eq!(recall(&exact, &[hits(&["c", "x", "a"]), hits(&["d"])]), 0.75);
        assert_eq!(recall(&[hits(&[])], &[hits(&[])]), 1.0);
    }
}
