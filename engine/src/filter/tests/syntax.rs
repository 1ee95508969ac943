//! Filters as JSON.

use super::meaning;
use crate::{Filter, InputError, field};
use proptest::prelude::*;
use serde_json::{Value, json};

proptest! {
    #[test]
    fn json_and_back_is_the_same_filter(filter in meaning::filter()) {
        prop_assert_eq!(&Filter::from_json(&filter.to_json()).unwrap(), &filter);
        prop_assert_eq!(&filter.to_string().parse::<Filter>().unwrap(), &filter);
    }
}

#[test]
fn each_operator_reads_as_the_builder_writes_it() {
    let cases = [
        (json!({"field": "pos", "eq": "noun"}), field("pos").eq("noun")),
        (json!({"field": "pos", "ne": "noun"}), field("pos").ne("noun")),
        (json!({"field": "year", "gte": 1990, "lt": 2000}), field("year").between(1990..2000)),
        (json!({"field": "year", "gt": 0.5}), field("year").gt(0.5)),
        (json!({"field": "year", "lte": 7}), field("year").lte(7)),
        (json!({"field": "x", "exists": true}), field("x").exists()),
        (json!({"field": "words", "contains": "dog"}), field("words").contains("dog")),
        (
            json!({"field": "pos", "in": ["noun", true, 1]}),
            Filter::In {
                field: "pos".to_owned(),
                values: vec!["noun".into(), true.into(), 1.into()],
            },
        ),
        (
            json!({"and": [{"field": "a", "eq": 1}, {"not": {"or": []}}]}),
            field("a").eq(1) & !Filter::or([]),
        ),
    ];
    for (json, filter) in cases {
        assert_eq!(Filter::from_json(&json).unwrap(), filter, "{json}");
        assert_eq!(filter.to_json(), json);
    }
}

#[test]
fn what_is_no_filter_is_refused_with_its_place() {
    let cases: [(Value, &str); 17] = [
        (json!(5), "$"),
        (json!({}), "$"),
        (json!({"and": [], "or": []}), "$"),
        (json!({"xor": []}), "$.xor"),
        (json!({"and": {}}), "$.and"),
        (json!({"and": [{"or": [1]}]}), "$.and[0].or[0]"),
        (json!({"not": []}), "$.not"),
        (json!({"field": 5, "eq": 5}), "$.field"),
        (json!({"field": "a"}), "$"),
        (json!({"field": "a", "equals": 5}), "$.equals"),
        (json!({"field": "a", "eq": null}), "$.eq"),
        (json!({"field": "a", "eq": [1]}), "$.eq"),
        (json!({"field": "a", "in": [1, {}]}), "$.in[1]"),
        (json!({"field": "a", "exists": 1}), "$.exists"),
        (json!({"field": "a", "contains": 1}), "$.contains"),
        (json!({"field": "a", "gt": 1, "gte": 2}), "$"),
        (json!({"field": "a", "eq": 1, "exists": true}), "$"),
    ];
    for (json, place) in cases {
        match Filter::from_json(&json) {
            Err(InputError::FilterSyntax { path, .. }) => assert_eq!(path, place, "{json}"),
            other => panic!("{json} gave {other:?}"),
        }
    }
    assert!(matches!("{".parse::<Filter>(), Err(InputError::FilterSyntax { .. })));
}
