//! What is refused before anything runs: size, and literals that do not fit a field's type.

use crate::{
    FILTER_CONDITIONS_MAX, FILTER_DEPTH_MAX, FieldType, Filter, InputError, Metric, Schema, field,
};
use serde_json::json;
use std::ops::Bound;

fn schema() -> Schema {
    Schema::new(2, Metric::Dot)
        .field("k", FieldType::Keyword)
        .field("i", FieldType::Integer)
        .field("f", FieldType::Float)
        .field("b", FieldType::Bool)
        .field("t", FieldType::Timestamp)
}

fn nested(levels: usize) -> Filter {
    (1..levels).fold(field("a").eq(1), |filter, _| !filter)
}

#[test]
fn depth_is_limited_for_trees_and_for_json() {
    assert_eq!(nested(FILTER_DEPTH_MAX).validate(&schema()), Ok(()));
    let deep = nested(FILTER_DEPTH_MAX + 1);
    let too_deep = InputError::FilterTooDeep { max: FILTER_DEPTH_MAX };
    assert_eq!(deep.validate(&schema()), Err(too_deep.clone()));
    assert_eq!(Filter::from_json(&deep.to_json()), Err(too_deep.clone()));

    let bottomless = (0..100_000).fold(json!({"field": "a", "eq": 1}), |json, _| {
        let mut outer = serde_json::Map::new();
        outer.insert("not".to_owned(), json);
        outer.into()
    });
    assert_eq!(Filter::from_json(&bottomless), Err(too_deep));
    // Dropping the value would recurse as deep as it nests; that is not what is tested here.
    let mut rest = bottomless;
    while let Some(inner) = rest.get_mut("not") {
        rest = inner.take();
    }
}

#[test]
fn conditions_are_counted_with_each_element_of_in() {
    let too_large = Err(InputError::FilterTooLarge { max: FILTER_CONDITIONS_MAX });
    let max = FILTER_CONDITIONS_MAX;
    let chain = |n: usize| Filter::and((0..n).map(|i| field("a").eq(i as u64)));
    assert_eq!(chain(max).validate(&schema()), Ok(()));
    assert_eq!(chain(max + 1).validate(&schema()), too_large);

    let list = |n: usize| field("a").is_in((0..n).map(|i| i as u64));
    assert_eq!(list(max).validate(&schema()), Ok(()));
    assert_eq!(list(max + 1).validate(&schema()), too_large);
    assert_eq!((list(max) | list(0)).validate(&schema()), too_large);

    let hollow = Filter::or((0..=max).map(|_| Filter::and([])));
    assert_eq!(hollow.validate(&schema()), too_large);
}

#[test]
fn a_literal_must_fit_the_type_of_an_indexed_field() {
    let cases = [
        (field("k").eq(5), "eq", "a number"),
        (field("k").is_in([true]), "in", "a boolean"),
        (field("k").between(1..), "gte", "a number"),
        (field("i").eq("5"), "eq", "a string"),
        (field("i").ne(true), "ne", "a boolean"),
        (field("i").contains("5"), "contains", "a string"),
        (field("f").lt("5"), "lt", "a string"),
        (field("b").eq("true"), "eq", "a string"),
        (field("b").lte(true), "lte", "a boolean"),
        (field("t").gt(5), "gt", "a number"),
        (field("t").eq("yesterday"), "eq", "a string that is no RFC 3339 time"),
    ];
    for (filter, expected_operator, expected_found) in cases {
        match (Filter::and([filter.clone()])).validate(&schema()) {
            Err(InputError::FilterType { operator, found, .. }) => {
                assert_eq!((operator, found), (expected_operator, expected_found));
            }
            other => panic!("{filter} gave {other:?}"),
        }
    }
    for fine in [
        field("f").eq(5),
        field("i").eq(5.5),
        field("i").lt(u64::MAX),
        field("k").between("a".."b"),
        field("t").gte("2026-01-01T00:00:00Z"),
        field("anything").eq(5) | field("anything").eq("x") | field("anything").lt(true),
    ] {
        assert_eq!(fine.validate(&schema()), Ok(()), "{fine}");
    }
}

#[test]
fn what_json_cannot_say_is_refused() {
    let endless =
        Filter::Range { field: "a".to_owned(), lower: Bound::Unbounded, upper: Bound::Unbounded };
    for filter in [
        endless,
        field("a").eq(f64::NAN),
        field("f").lt(f64::INFINITY),
        field("a").is_in([1.0, f64::NAN]),
    ] {
        assert!(
            matches!(filter.validate(&schema()), Err(InputError::FilterSyntax { .. })),
            "{filter}"
        );
    }
}
