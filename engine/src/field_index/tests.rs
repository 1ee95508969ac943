//! The block form: what it answers, that its bytes stay what the documentation says, and that
//! hostile bytes are errors.

use super::{FieldIndexView, MemFieldIndex, Query, bool_key, float_key};
use crate::{FieldDef, FieldType, Metadata};
use proptest::prelude::*;
use roaring::RoaringBitmap;
use serde_json::{Value, json};
use std::ops::Bound;

const PAGE: &str = include_str!("../../../docs/format/field-index.md");
const GOLDEN: [(&str, &[u8]); 2] = [
    ("keyword", include_bytes!("../../tests/golden/field-index-keyword-v1.bin")),
    ("float", include_bytes!("../../tests/golden/field-index-float-v1.bin")),
];

fn index(field_type: FieldType, values: &[Value]) -> MemFieldIndex {
    let mut index = MemFieldIndex::new(FieldDef { name: "x".to_owned(), field_type });
    for (row, value) in (0..).zip(values) {
        index.insert(row, &Metadata::from_iter([("x".to_owned(), value.clone())]));
    }
    index
}

fn block(field_type: FieldType, values: &[Value]) -> Vec<u8> {
    index(field_type, values).encode(u32::try_from(values.len()).unwrap())
}

fn keyword_rows() -> Vec<Value> {
    vec![json!("noun"), json!(["dog", "pup"]), json!("verb"), json!("noun"), json!(null), json!(7)]
}

fn float_rows() -> Vec<Value> {
    vec![json!(1.5), json!(-2), json!("x"), json!(1.5)]
}

fn ask(block: &[u8], query: &Query) -> Vec<u32> {
    let view = FieldIndexView::open(block).unwrap();
    view.query(query).unwrap().iter().collect()
}

fn keys(keys: &[&str]) -> Query {
    Query::Keys(keys.iter().map(|key| key.as_bytes().into()).collect())
}

fn element(key: &str) -> Query {
    Query::Element(key.as_bytes().into())
}

/// One question of each kind, whatever the type of the index.
fn questions() -> Vec<Query> {
    let range = Query::KeyRange(Bound::Included((*b"dog").into()), Bound::Unbounded);
    vec![
        Query::Exists,
        keys(&["", "dog", "noun", "verb", "z"]),
        Query::Keys(vec![bool_key(false).into(), bool_key(true).into()]),
        range,
        element("dog"),
        element("pup"),
        Query::Numbers(vec![i64::MIN, -2, 0, float_key(1.5)]),
        Query::NumberRange(i64::MIN, i64::MAX),
        Query::NumberRange(0, float_key(1.5)),
    ]
}

/// The bytes of the `n`th hexdump of the page, checked against the offsets it prints.
fn page_example(n: usize) -> Vec<u8> {
    let dump = PAGE.split("```hexdump\n").nth(n + 1).unwrap();
    let dump = dump.split("```").next().unwrap();
    let mut bytes = Vec::new();
    for line in dump.lines() {
        let (offset, rest) = line.split_once(' ').unwrap_or((line, ""));
        assert_eq!(usize::from_str_radix(offset, 16), Ok(bytes.len()), "{line}");
        let hex = rest.split('|').next().unwrap();
        let hex = hex.split_whitespace();
        bytes.extend(hex.map(|byte| u8::from_str_radix(byte, 16).unwrap()));
    }
    bytes
}

#[test]
fn the_documented_examples_decode_to_what_the_page_says() {
    let keyword = page_example(0);
    assert_eq!(ask(&keyword, &keys(&["noun"])), [0, 3]);
    assert_eq!(ask(&keyword, &keys(&["verb"])), [2]);
    assert_eq!(ask(&keyword, &keys(&["dog"])), [0_u32; 0]);
    assert_eq!(ask(&keyword, &element("dog")), [1]);
    assert_eq!(ask(&keyword, &Query::Exists), [0, 1, 2, 3, 5]);
    assert_eq!(keyword, block(FieldType::Keyword, &keyword_rows()));

    let float = page_example(1);
    assert_eq!(ask(&float, &Query::Numbers(vec![float_key(1.5)])), [0, 3]);
    assert_eq!(ask(&float, &Query::NumberRange(i64::MIN, -1)), [1]);
    assert_eq!(ask(&float, &Query::Exists), [0, 1, 2, 3]);
    assert_eq!(float, block(FieldType::Float, &float_rows()));
}

/// Blocks written by version 1 open for ever, and version 1 still writes the same bytes.
#[test]
fn golden_blocks_open_and_are_written_again_byte_by_byte() {
    for (name, golden) in GOLDEN {
        let (field_type, rows) = match name {
            "keyword" => (FieldType::Keyword, keyword_rows()),
            _ => (FieldType::Float, float_rows()),
        };
        let view = FieldIndexView::open(golden).unwrap();
        assert_eq!((view.field_type(), view.rows() as usize), (field_type, rows.len()));
        assert_eq!(view.verify(), Ok(()));
        let mem = index(field_type, &rows);
        for question in questions() {
            assert_eq!(view.query(&question), Ok(mem.query(&question)), "{question:?}");
        }
        assert_eq!(block(field_type, &rows), golden, "{name}");
    }
}

fn value() -> impl Strategy<Value = Value> {
    let word = prop::sample::select(vec!["", "dog", "noun", "pup", "verb", "é"]);
    prop_oneof![
        4 => word.clone().prop_map(Value::from),
        2 => prop::collection::vec(word, 0..3).prop_map(Value::from),
        4 => (-3_i32..3).prop_map(Value::from),
        2 => Just(json!(1.5)),
        2 => any::<bool>().prop_map(Value::from),
        1 => Just(Value::Null),
    ]
}

fn field_type() -> impl Strategy<Value = FieldType> {
    prop::sample::select(vec![
        FieldType::Keyword,
        FieldType::Integer,
        FieldType::Float,
        FieldType::Bool,
        FieldType::Timestamp,
    ])
}

proptest! {
    #[test]
    fn a_block_answers_as_the_index_it_was_made_of(
        field_type in field_type(),
        rows in prop::collection::vec(value(), 0..300),
    ) {
        let mem = index(field_type, &rows);
        let block = block(field_type, &rows);
        let view = FieldIndexView::open(block).unwrap();
        prop_assert_eq!(view.verify(), Ok(()));
        for question in questions() {
            let expected = (0..).zip(&rows).filter(|(_, value)| {
                question.accepts(field_type, Some(value))
            });
            let expected: RoaringBitmap = expected.map(|(row, _)| row).collect();
            prop_assert_eq!(&mem.query(&question), &expected, "{:?}", &question);
            prop_assert_eq!(view.query(&question), Ok(expected), "{:?}", &question);
        }
    }

    #[test]
    fn random_bytes_behind_a_good_header_never_panic(
        field_type in field_type(),
        rows in prop::collection::vec(value(), 0..20),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
    ) {
        let mut block = block(field_type, &rows);
        for (at, byte) in changes {
            let at = at.index(block.len());
            block[at] = byte;
        }
        survive(&block);
    }
}

/// Asks everything of bytes that may be damaged: rows stay within the segment, and nothing
/// panics.
fn survive(block: &[u8]) {
    let Ok(view) = FieldIndexView::open(block) else {
        return;
    };
    for question in questions() {
        if let Ok(rows) = view.query(&question) {
            assert!(rows.max().is_none_or(|last| last < view.rows()));
        }
    }
    if let Err(error) = view.verify() {
        assert!(error.offset <= block.len() as u64, "{error}");
    }
}

fn hostile_samples() -> Vec<Vec<u8>> {
    let many = |n: u32| (0..n).map(|row| json!(format!("word {}", row % 40)));
    vec![
        block(FieldType::Keyword, &keyword_rows()),
        block(FieldType::Keyword, &many(90).collect::<Vec<_>>()),
        block(FieldType::Float, &float_rows()),
        block(FieldType::Bool, &[json!(true), json!(false), json!(true)]),
        block(FieldType::Timestamp, &[]),
    ]
}

#[test]
fn every_changed_byte_is_an_error_or_an_answer_but_no_panic() {
    for sample in hostile_samples() {
        for at in 0..sample.len() {
            for mask in [0x01, 0x80, 0xff] {
                let mut block = sample.clone();
                block[at] ^= mask;
                survive(&block);
            }
        }
    }
}

#[test]
fn every_truncation_and_every_longer_block_is_refused() {
    for sample in hostile_samples() {
        for len in 0..sample.len() {
            assert!(FieldIndexView::open(&sample[..len]).is_err(), "{len}");
        }
        let longer = [sample.as_slice(), &[0]].concat();
        assert!(FieldIndexView::open(longer).is_err());
    }
}

/// Counts and lengths near the end of 64 bits must not wrap into something that passes.
#[test]
fn huge_counts_and_lengths_are_refused() {
    for at in [16, 24, 32, 40, 48] {
        for huge in [u64::MAX, u64::MAX / 16, u64::MAX / 12 + 1, 1 << 60, 1 << 32] {
            let mut block = block(FieldType::Keyword, &keyword_rows());
            block[at..at + 8].copy_from_slice(&huge.to_le_bytes());
            assert!(FieldIndexView::open(block).is_err(), "{huge} at {at}");
        }
    }
}

#[test]
fn a_row_beyond_the_segment_is_damage() {
    for (sample, question) in [
        (block(FieldType::Keyword, &keyword_rows()), keys(&["noun"])),
        (block(FieldType::Float, &float_rows()), Query::NumberRange(i64::MIN, i64::MAX)),
    ] {
        let mut fewer = sample;
        fewer[8..12].copy_from_slice(&2_u32.to_le_bytes());
        let view = FieldIndexView::open(fewer).unwrap();
        assert!(view.query(&question).is_err());
        assert!(view.query(&Query::Exists).is_err());
        assert!(view.verify().is_err());
    }
}

/// A query does not look at the whole block; the full check finds what it cannot see.
#[test]
fn verify_finds_a_block_out_of_order() {
    let mut column = block(FieldType::Integer, &[json!(1), json!(2), json!(3)]);
    column[64..72].copy_from_slice(&5_i64.to_le_bytes());
    let view = FieldIndexView::open(column).unwrap();
    assert_eq!(view.verify().unwrap_err().detail, "the column is out of order");

    let mut words = block(FieldType::Keyword, &[json!("a"), json!("b")]);
    let keys_at = 64 + 3 * 16;
    words[keys_at..keys_at + 2].copy_from_slice(b"ba");
    let view = FieldIndexView::open(words).unwrap();
    assert_eq!(view.verify().unwrap_err().detail, "a key is malformed or out of order");
}

#[test]
fn an_index_reports_what_it_takes_in_memory() {
    let mut index = index(FieldType::Keyword, &[]);
    let empty = index.bytes();
    let row = |word: &str| Metadata::from_iter([("x".to_owned(), word.into())]);
    index.insert(0, &row(&"long ".repeat(100)));
    assert!(index.bytes() >= empty + 500);
    let one_key = index.bytes();
    index.insert(1, &row(&"long ".repeat(100)));
    assert!(index.bytes() < one_key + 100);
}
