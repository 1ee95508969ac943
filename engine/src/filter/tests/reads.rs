//! What evaluation reads, what it says it did, and that failures come through.

use super::source::{Rows, metadata};
use crate::{ErrorKind, FieldType, Filter, FilterStep, FilterStrategy, Metric, Schema, field};
use serde_json::json;

const ROWS: u32 = 100;

fn schema() -> Schema {
    Schema::new(2, Metric::Dot).field("tens", FieldType::Integer).field("pos", FieldType::Keyword)
}

/// Rows 0 to 99 with their tens, a word and two fields that have no index.
fn rows() -> Rows {
    let rows = (0..ROWS).map(|row| {
        let pos = if row % 2 == 0 { "noun" } else { "verb" };
        metadata(json!({"tens": row / 10, "pos": pos, "row": row, "seven": row % 7}))
    });
    Rows::new(rows.collect(), &schema().fields[..1], &schema().fields[1..])
}

fn steps(plan: &[FilterStep]) -> Vec<(&str, FilterStrategy, u64)> {
    plan.iter().map(|step| (step.condition.as_str(), step.strategy, step.rows)).collect()
}

#[test]
fn indexed_conditions_read_no_metadata() {
    let source = rows();
    let filter = field("tens").eq(3) & (field("pos").eq("noun") | !field("tens").exists());
    let found = source.evaluate(&filter, &schema(), None).unwrap();
    assert_eq!(found.rows.iter().collect::<Vec<_>>(), [30, 32, 34, 36, 38]);
    assert!(source.read.borrow().is_empty());
}

#[test]
fn conditions_without_an_index_read_each_remaining_row_once() {
    let source = rows();
    let filter = Filter::and([field("seven").eq(0), field("row").gte(35), field("tens").eq(3)]);
    let found = source.evaluate(&filter, &schema(), None).unwrap();
    assert_eq!(found.rows.iter().collect::<Vec<_>>(), [35]);
    assert_eq!(*source.read.borrow(), (30..40).collect::<Vec<_>>());
    assert_eq!(
        steps(&found.plan),
        [
            (r#"{"eq":3,"field":"tens"}"#, FilterStrategy::Index, 10),
            (r#"{"eq":0,"field":"seven"}"#, FilterStrategy::Scan, 10),
            (r#"{"field":"row","gte":35}"#, FilterStrategy::Scan, 10),
        ]
    );
}

#[test]
fn an_or_reads_only_rows_that_no_index_has_taken() {
    let source = rows();
    let filter = field("row").eq(99) | field("tens").lt(9);
    let found = source.evaluate(&filter, &schema(), None).unwrap();
    assert_eq!(found.rows.len(), 91);
    assert_eq!(*source.read.borrow(), (90..100).collect::<Vec<_>>());
}

/// Opening can mean reading the whole block from disk.
#[test]
fn the_index_of_a_field_is_opened_once_for_all_its_conditions() {
    let source = rows();
    let filter = Filter::or((0..20).map(|n| field("tens").eq(n)));
    assert_eq!(source.evaluate(&filter, &schema(), None).unwrap().rows.len(), 100);
    assert_eq!(*source.opened.borrow(), ["tens"]);
}

#[test]
fn conditions_that_cannot_matter_are_skipped_and_named() {
    let source = rows();
    let filter = field("tens").eq(11) & field("pos").eq("noun") & field("row").eq(5);
    let found = source.evaluate(&filter, &schema(), None).unwrap();
    assert!(found.rows.is_empty() && source.read.borrow().is_empty());
    let strategies = found.plan.iter().map(|step| step.strategy);
    assert_eq!(
        strategies.collect::<Vec<_>>(),
        [FilterStrategy::Index, FilterStrategy::Skipped, FilterStrategy::Skipped]
    );
}

#[test]
fn a_long_condition_is_cut_in_the_plan() {
    let filter = field("tens").is_in(0..900);
    let found = rows().evaluate(&filter, &schema(), None).unwrap();
    assert!(found.plan[0].condition.len() < 300);
    assert!(found.plan[0].condition.ends_with("..."));
}

#[test]
fn a_row_that_cannot_be_read_fails_the_filter() {
    let mut source = rows();
    source.unreadable = Some(42);
    let filter = field("row").eq(1);
    let error = source.evaluate(&filter, &schema(), None).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Closed);
}

#[test]
fn a_damaged_index_is_corruption_of_its_file() {
    let mut source = rows();
    let block = source.blocks.get_mut("pos").unwrap();
    block.truncate(block.len() - 1);
    let filter = field("pos").eq("noun");
    let error = source.evaluate(&filter, &schema(), None).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corruption);
    assert!(error.to_string().contains("pos.block"), "{error}");
}
