//! Searches with filters: those that were given, and random ones of a known share, by a field that
//! has nothing to do with where a row lies.

use super::{
    curve::Wanted,
    effort::Effort,
    measure::{self, Case, Point, Task},
    truth::Truth,
};
use crate::{error::Result, generate::BUCKETS};
use akidb::{FieldDef, FieldType, Filter, Point as Row, field};
use serde::Serialize;
use serde_json::{Value, json};

/// The field that random filters ask for, uniform over the rows.
const BUCKET: &str = "bucket";

/// A filter, measured.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Filtered {
    pub(super) filter: Value,
    /// Rows that match, and their share of all.
    pub(super) matches: u64,
    pub(super) selectivity: f64,
    /// Recall against the exact answers with the same filter: at each recall target, then exact.
    pub(super) points: Vec<Point>,
}

/// The definition of the field of random filters.
pub(super) fn bucket_field() -> FieldDef {
    FieldDef { name: BUCKET.to_owned(), field_type: FieldType::Integer }
}

/// Gives row `n` its bucket.
pub(super) fn put_bucket(row: &mut Row, n: u64) {
    // The golden ratio spreads consecutive numbers evenly; which rows meet is as good as random.
    let bucket = (n + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
    if let Value::Object(metadata) = &mut row.metadata {
        metadata.insert(BUCKET.to_owned(), json!(bucket % BUCKETS));
    }
}

/// The filter that lets this share of the rows pass.
pub(super) fn random(share: f64) -> Filter {
    field(BUCKET).lt((share * BUCKETS as f64).round().max(1.0) as i64)
}

/// Measures the searches of `task` under each filter, all of them in turn.
pub(super) fn measure(
    task: Task<'_>,
    filters: &[Filter],
    wanted: &Wanted<'_>,
) -> Result<Vec<Filtered>> {
    let exact = |filter| measure::exact(Task { filter: Some(filter), ..task });
    let exact: Vec<(Point, Truth)> = filters.iter().map(exact).collect::<Result<_>>()?;
    let targets = wanted.recall_target.iter().map(|target| Effort::RecallTarget(*target as f32));
    let efforts: Vec<_> = targets.collect();
    let cases = filters.iter().zip(&exact).flat_map(|(filter, (_, truth))| {
        let task = Task { filter: Some(filter), truth, ..task };
        efforts.iter().map(move |effort| Case { task, effort: *effort, threads: 1 })
    });
    let mut points = measure::in_rounds(&cases.collect::<Vec<_>>(), wanted.rounds)?.into_iter();
    let rows = task.collection.count(None)?;
    let filtered = filters.iter().zip(exact).map(|(filter, (exact, _))| {
        let matches = task.collection.count(Some(filter))?;
        Ok(Filtered {
            filter: filter.to_json(),
            matches,
            selectivity: matches as f64 / rows.max(1) as f64,
            points: points.by_ref().take(efforts.len()).chain([exact]).collect(),
        })
    });
    filtered.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_are_spread_evenly() {
        let mut counts = [0; 10];
        for n in 0..10_000 {
            let mut row = Row::new(n, vec![1.0]).meta(json!({"a": 1}));
            put_bucket(&mut row, n);
            assert_eq!(row.metadata["a"], 1);
            counts[row.metadata[BUCKET].as_u64().unwrap() as usize / 1000] += 1;
        }
        assert!(counts.iter().all(|count| (900..1100).contains(count)), "{counts:?}");
    }
}
