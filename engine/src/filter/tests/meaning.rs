//! Every way to answer a filter gives the rows that the oracle expects.

use super::{
    oracle::{TIMES, expects, numbers},
    source::{Rows, metadata},
};
use crate::{
    FieldDef, FieldType, Filter, FilterValue, Metadata, Metric, Schema, field,
    filter::CompiledFilter,
};
use proptest::prelude::*;
use roaring::RoaringBitmap;
use serde_json::{Value, json};
use std::ops::Bound;

const FIELDS: [&str; 7] = ["k", "i", "f", "b", "t", "raw", "other"];
const WORDS: [&str; 5] = ["", "a", "b", "ba", "é"];

fn schema() -> Schema {
    Schema::new(2, Metric::Dot)
        .field("k", FieldType::Keyword)
        .field("i", FieldType::Integer)
        .field("f", FieldType::Float)
        .field("b", FieldType::Bool)
        .field("t", FieldType::Timestamp)
}

fn scalar() -> impl Strategy<Value = Value> {
    prop_oneof![
        3 => prop::sample::select(numbers()),
        3 => prop::sample::select(WORDS.as_slice()).prop_map(Value::from),
        2 => prop::sample::select(TIMES.as_slice()).prop_map(|(text, _)| text.into()),
        1 => any::<bool>().prop_map(Value::from),
    ]
}

fn value() -> impl Strategy<Value = Value> {
    prop_oneof![
        8 => scalar(),
        2 => prop::collection::vec(scalar(), 0..4).prop_map(Value::from),
        1 => Just(Value::Null),
        1 => Just(json!({"a": "a"})),
        1 => Just(json!([["a"], "b"])),
    ]
}

fn row() -> impl Strategy<Value = Metadata> {
    let entry = (prop::sample::select(FIELDS.as_slice()), value());
    prop::collection::vec(entry, 0..9).prop_map(|entries| {
        let entries = entries.into_iter();
        entries.map(|(key, value)| (key.to_owned(), value)).collect()
    })
}

/// A literal that the field accepts.
fn literal(field: &'static str) -> BoxedStrategy<FilterValue> {
    let number = prop::sample::select(numbers()).prop_map(|number| {
        let whole = number.as_i64().map(FilterValue::from);
        let whole = whole.or_else(|| number.as_u64().map(FilterValue::from));
        whole.unwrap_or_else(|| number.as_f64().unwrap().into())
    });
    let word = prop::sample::select(WORDS.as_slice()).prop_map(FilterValue::from);
    let time = prop::sample::select(TIMES.as_slice()).prop_map(|(text, _)| text.into());
    let flag = any::<bool>().prop_map(FilterValue::from);
    match field {
        "k" => word.boxed(),
        "i" | "f" => number.boxed(),
        "b" => flag.boxed(),
        "t" => time.boxed(),
        _ => prop_oneof![word, number, time, flag].boxed(),
    }
}

fn end(field: &'static str) -> impl Strategy<Value = Bound<FilterValue>> {
    prop_oneof![literal(field).prop_map(Bound::Included), literal(field).prop_map(Bound::Excluded),]
}

fn condition() -> impl Strategy<Value = Filter> {
    prop::sample::select(FIELDS.as_slice()).prop_flat_map(|name| {
        let mut kinds = vec![
            literal(name).prop_map(move |v| field(name).eq(v)).boxed(),
            literal(name).prop_map(move |v| field(name).ne(v)).boxed(),
            prop::collection::vec(literal(name), 0..4)
                .prop_map(move |values| field(name).is_in(values))
                .boxed(),
            any::<bool>()
                .prop_map(move |exists| Filter::Exists { field: name.to_owned(), exists })
                .boxed(),
        ];
        if name != "b" {
            let one = end(name).prop_map(move |lower| Filter::Range {
                field: name.to_owned(),
                lower,
                upper: Bound::Unbounded,
            });
            let other = end(name).prop_map(move |upper| Filter::Range {
                field: name.to_owned(),
                lower: Bound::Unbounded,
                upper,
            });
            let both = (end(name), end(name)).prop_map(move |(lower, upper)| Filter::Range {
                field: name.to_owned(),
                lower,
                upper,
            });
            kinds.extend([one.boxed(), other.boxed(), both.boxed()]);
        }
        if !["i", "f", "b", "t"].contains(&name) {
            let word = prop::sample::select(WORDS.as_slice());
            kinds.push(word.prop_map(move |word| field(name).contains(word)).boxed());
        }
        prop::strategy::Union::new(kinds)
    })
}

pub(super) fn filter() -> impl Strategy<Value = Filter> {
    condition().prop_recursive(4, 16, 4, |part| {
        prop_oneof![
            prop::collection::vec(part.clone(), 0..4).prop_map(Filter::And),
            prop::collection::vec(part.clone(), 0..4).prop_map(Filter::Or),
            part.prop_map(|part| !part),
        ]
    })
}

/// Which fields have an index in memory, which a block, which none.
fn placed(places: &[u8]) -> (Vec<FieldDef>, Vec<FieldDef>) {
    let fields = schema().fields;
    let at = |place: u8| {
        let fields = fields.iter().zip(places);
        let chosen = fields.filter(|(_, found)| **found == place);
        chosen.map(|(def, _)| def.clone()).collect()
    };
    (at(1), at(2))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn indexes_scans_and_single_rows_agree_with_the_oracle(
        rows in prop::collection::vec(row(), 0..40),
        filter in filter(),
        places in prop::collection::vec(0_u8..3, 5),
        dead in prop::option::of(prop::collection::vec(0_u32..40, 0..10)),
    ) {
        let schema = schema();
        let count = u32::try_from(rows.len()).unwrap();
        let universe = dead.map(|dead| {
            let mut alive: RoaringBitmap = (0..count).collect();
            alive -= RoaringBitmap::from_iter(dead);
            alive
        });
        let alive = |row: &u32| universe.as_ref().is_none_or(|alive| alive.contains(*row));
        let expected = (0..count).zip(&rows).filter(|(_, row)| expects(&filter, &schema, row));
        let expected = expected.map(|(row, _)| row).filter(alive).collect::<RoaringBitmap>();

        let compiled = CompiledFilter::new(&filter, &schema).unwrap();
        let single = (0..count).zip(&rows).filter(|(_, row)| compiled.matches(row));
        let single = single.map(|(row, _)| row).filter(alive).collect::<RoaringBitmap>();
        prop_assert_eq!(&single, &expected, "row by row");

        let (mem, blocks) = placed(&places);
        let source = Rows::new(rows, &mem, &blocks);
        let evaluated = source.evaluate(&filter, &schema, universe.as_ref()).unwrap();
        prop_assert_eq!(&evaluated.rows, &expected, "by {:?}", evaluated.plan);
    }
}

/// The rules a reader of the documentation would try first, one by one.
#[test]
fn the_documented_rules_hold() {
    let row = metadata(json!({
        "k": "noun", "i": 3, "f": 0.5, "b": true, "t": "2026-01-01T00:00:00Z",
        "raw": 9_007_199_254_740_993_i64, "list": ["dog", 7], "none": null,
    }));
    let yes = [
        field("k").eq("noun"),
        field("k").between("n".."o"),
        field("i").eq(3.0),
        field("i").gt(2.5),
        field("f").lt(1),
        field("t").eq("2026-01-01T01:00:00+01:00"),
        field("raw").gt(9_007_199_254_740_992.0),
        field("list").contains("dog"),
        field("list").exists(),
        field("absent").ne("noun"),
        !field("none").exists(),
        field("raw").ne("text"),
        Filter::and([]),
    ];
    let no = [
        field("k").eq("nou"),
        field("i").eq(2.5),
        field("i").between((Bound::Included(5), Bound::Excluded(4))),
        field("i").gt(i64::MAX),
        field("i").lt(i64::MIN),
        field("raw").eq(9_007_199_254_740_992.0),
        field("raw").gt("text"),
        field("list").eq("dog"),
        field("list").contains("7"),
        field("k").contains("noun"),
        field("absent").lt(1),
        field("other").is_in(Vec::<i64>::new()),
        Filter::or([]),
    ];
    for (filters, expected) in [(yes, true), (no, false)] {
        for filter in filters {
            let compiled = CompiledFilter::new(&filter, &schema()).unwrap();
            assert_eq!(compiled.matches(&row), expected, "{filter}");
        }
    }
}

/// A field can be declared after rows were written; what was another type then stays unmatched.
#[test]
fn a_value_of_another_type_than_declared_only_exists() {
    let row = metadata(json!({"k": 5, "i": "5", "f": "x", "b": "true", "t": 0}));
    for filter in [
        field("k").gte(""),
        field("i").gte(i64::MIN),
        field("f").gte(f64::MIN),
        field("b").is_in([true, false]),
        field("t").gte("0000-01-01T00:00:00Z"),
    ] {
        let compiled = CompiledFilter::new(&filter, &schema()).unwrap();
        assert!(!compiled.matches(&row), "{filter}");
    }
    for def in schema().fields {
        let compiled = CompiledFilter::new(&field(def.name).exists(), &schema()).unwrap();
        assert!(compiled.matches(&row));
    }
}
