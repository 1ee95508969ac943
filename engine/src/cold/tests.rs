//! The format as promises: exact rows back, or an error; plain Parquet to everybody else.

use super::{
    chunks::{EncodedChunks, Totals},
    *,
};
use crate::{
    ErrorKind, FieldType, Metric, Record,
    error::{Error, Result},
};
use arrow_array::cast::AsArray;
use bytes::Bytes;
use parquet::{arrow::arrow_reader::ParquetRecordBatchReaderBuilder, basic::Compression};
use proptest::prelude::*;
use serde_json::{Value, json};
use std::ops::Range;

const KEY: &str = "db/c1/x.parquet";

fn context(schema: &Schema) -> ColdContext<'_> {
    ColdContext { database: Uuid::from_u128(0xA41D), collection: 7, schema, rows: 5_000 }
}

fn encode_rows(schema: &Schema, rows: &[ColdRow]) -> (Bytes, Totals) {
    let few = ColdContext { rows: rows.len() as u64, ..context(schema) };
    encode(&few, rows.iter().cloned().map(Ok)).unwrap()
}

/// The rows of an object, whole and from ranges alike; an error if either way gives one.
fn decode(bytes: impl Into<Bytes>, schema: &Schema) -> Result<Vec<Record>> {
    let bytes = bytes.into();
    let ranged = decode_ranges(&bytes, schema);
    let whole = decode_whole(bytes, schema);
    let ranged = ranged?;
    let rows = whole.as_ref().map(|rows| exact_out(rows.clone()));
    assert_eq!(rows.ok(), Some(exact_out(ranged)), "less of an object cannot tell more");
    whole
}

fn decode_whole(bytes: Bytes, schema: &Schema) -> Result<Vec<Record>> {
    let mut rows = Vec::new();
    for batch in ColdReader::open(bytes, KEY, schema)? {
        rows.extend(batch?);
    }
    Ok(rows)
}

/// Each row group from its own bytes, which come in small pieces, as those of the footer do.
fn decode_ranges(bytes: &Bytes, schema: &Schema) -> Result<Vec<Record>> {
    let len = bytes.len() as u64;
    let window = |range: Range<u64>| {
        let pieces = range.clone().step_by(99).map(|at| {
            let end = range.end.min(at + 99).min(len);
            (at, bytes.slice(at as usize..end as usize))
        });
        Window::new(len, pieces.collect())
    };
    let footer = footer_bytes(bytes, len).unwrap_or_default();
    let object = ColdRanges::open(&window(len - footer..len), KEY, Some(schema))?;
    let mut rows = Vec::new();
    for (index, extent) in object.extents().iter().enumerate() {
        rows.extend(object.group(index, window(extent.clone()))?);
    }
    Ok(rows)
}

/// Rows as comparable text and bits: `==` would take -0.0 for 0.0.
fn exact(rows: impl IntoIterator<Item = (PointId, u64, Vec<f32>, Metadata)>) -> Vec<Exact> {
    let bits = |v: Vec<f32>| v.into_iter().map(f32::to_bits).collect();
    rows.into_iter()
        .map(|(id, lsn, vector, metadata)| {
            (id, lsn, bits(vector), Value::Object(metadata).to_string())
        })
        .collect()
}

type Exact = (PointId, u64, Vec<u32>, String);

fn exact_in(rows: &[ColdRow]) -> Vec<Exact> {
    exact(rows.iter().cloned().map(|r| (r.id, r.lsn, r.vector, r.metadata)))
}

fn exact_out(rows: Vec<Record>) -> Vec<Exact> {
    exact(rows.into_iter().map(|r| (r.id, r.lsn, r.vector, r.metadata)))
}

fn row(id: impl Into<PointId>, lsn: u64, vector: &[f32], metadata: Value) -> ColdRow {
    let Value::Object(metadata) = metadata else { panic!("tests give objects") };
    ColdRow { id: id.into(), lsn, vector: vector.to_vec(), metadata }
}

/// A schema with every type, and a name that collides with a column of the format.
fn full_schema() -> Schema {
    Schema::new(3, Metric::Cosine)
        .field("pos", FieldType::Keyword)
        .field("count", FieldType::Integer)
        .field("weight", FieldType::Float)
        .field("checked", FieldType::Bool)
        .field("seen", FieldType::Timestamp)
        .field("id", FieldType::Keyword)
}

fn sample_rows() -> Vec<ColdRow> {
    vec![
        row(7_u64, 11, &[1.0, -0.0, 0.5], json!({"pos": "noun", "count": 3, "text": "dog"})),
        row("7", 12, &[0.0, 1.0, f32::MIN_POSITIVE], json!({"pos": ["a", "b"], "weight": 1})),
        row(
            Uuid::from_u128(9),
            10,
            &[f32::MAX, 2.0, 3.0],
            json!({
                "seen": "2026-11-21T11:30:00+02:00", "checked": true, "weight": -0.0, "id": "mine",
                "nested": {"deep": [1, null, {"x": 0.1}]},
            }),
        ),
        row("n02084071", 13, &[1.0, 1.0, 1.0], json!({})),
        row(u64::MAX, u64::MAX, &[1.0; 3], json!({"seen": "2026-11-21T09:30:00.5Z", "pos": null})),
    ]
}

fn any_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<f64>().prop_map(|x| json!(x)),
        (-3_i64..3).prop_map(|x| json!(x as f64)),
        "\\PC{0,8}".prop_map(Value::from),
        (any::<i64>(), 0_u8..3).prop_map(|(t, digits)| {
            let text = timestamp_text(t.rem_euclid(4_000_000_000_000_000)).unwrap();
            Value::from(if digits == 0 { text } else { text.replace('Z', "+01:00") })
        }),
    ];
    leaf.prop_recursive(2, 8, 3, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..3).prop_map(Value::from),
            prop::collection::btree_map("[a-c]", inner, 0..3)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

fn any_rows() -> impl Strategy<Value = Vec<ColdRow>> {
    let id = prop_oneof![
        any::<u64>().prop_map(PointId::U64),
        any::<u128>().prop_map(|n| PointId::Uuid(Uuid::from_u128(n))),
        "\\PC{1,12}".prop_map(PointId::from),
    ];
    let float = any::<f32>().prop_filter("vectors are finite", |x| x.is_finite());
    let key = prop_oneof![
        prop::sample::select(vec!["pos", "count", "weight", "checked", "seen", "id", "vector"])
            .prop_map(str::to_owned),
        "\\PC{0,6}",
    ];
    let metadata = prop::collection::btree_map(key, any_value(), 0..7);
    let row = (id, any::<u64>(), prop::collection::vec(float, 3), metadata).prop_map(
        |(id, lsn, vector, metadata)| ColdRow {
            id,
            lsn,
            vector,
            metadata: metadata.into_iter().collect(),
        },
    );
    prop::collection::vec(row, 0..12)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn every_row_comes_back_exactly(rows in any_rows()) {
        let schema = full_schema();
        let (bytes, totals) = encode_rows(&schema, &rows);
        prop_assert_eq!(totals.rows, rows.len() as u64);
        prop_assert_eq!(totals.min_lsn, rows.iter().map(|r| r.lsn).min().unwrap_or(0));
        prop_assert_eq!(totals.max_lsn, rows.iter().map(|r| r.lsn).max().unwrap_or(0));
        prop_assert_eq!(exact_out(decode(bytes, &schema).unwrap()), exact_in(&rows));
    }

    #[test]
    fn hostile_bytes_are_refused_or_decode_to_the_same_rows(
        flips in prop::collection::vec((any::<prop::sample::Index>(), 1_u8..), 2..6)
    ) {
        let (schema, rows) = (full_schema(), sample_rows());
        let mut bytes = encode_rows(&schema, &rows).0.to_vec();
        for (at, mask) in flips {
            let at = at.index(bytes.len());
            bytes[at] ^= mask;
        }
        if let Ok(found) = decode(bytes, &schema) {
            prop_assert_eq!(exact_out(found), exact_in(&rows));
        }
    }
}

#[test]
fn every_flipped_byte_gives_an_error_or_the_same_rows() {
    let (schema, rows) = (full_schema(), sample_rows());
    let good = encode_rows(&schema, &rows).0;
    let mut refused = 0;
    for at in 0..good.len() {
        for mask in [0x01, 0x80, 0xff] {
            let mut bytes = good.to_vec();
            bytes[at] ^= mask;
            match decode(bytes, &schema) {
                Ok(found) => assert_eq!(exact_out(found), exact_in(&rows), "byte {at} ^ {mask:#x}"),
                Err(error) => {
                    let kinds = [ErrorKind::Corruption, ErrorKind::Incompatible];
                    assert!(kinds.contains(&error.kind()), "byte {at} ^ {mask:#x}: {error}");
                    refused += 1;
                }
            }
        }
    }
    assert!(refused > good.len(), "most flips must be noticed: {refused}");
}

#[test]
fn every_truncation_is_refused() {
    let (schema, rows) = (full_schema(), sample_rows());
    let good = encode_rows(&schema, &rows).0;
    for len in 0..good.len() {
        let error = decode(good.slice(..len), &schema).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corruption, "cut to {len}: {error}");
        assert!(error.to_string().contains(KEY), "{error}");
    }
}

#[test]
fn many_rows_are_cut_into_row_groups_and_come_back_in_order() {
    let schema = Schema::new(2, Metric::Dot).field("n", FieldType::Integer);
    let count = 2 * GROUP_ROWS_MAX as u64 + 5;
    let make = |n: u64| row(n, n + 1, &[n as f32, 1.0], json!({"n": n}));
    let (bytes, _) = encode(&context(&schema), (0..count).map(|n| Ok(make(n)))).unwrap();
    let reader = ColdReader::open(bytes, KEY, &schema).unwrap();
    let batches: Vec<Vec<Record>> = reader.map(Result::unwrap).collect();
    let sizes: Vec<usize> = batches.iter().map(Vec::len).collect();
    assert_eq!(sizes, [GROUP_ROWS_MAX, GROUP_ROWS_MAX, 5]);
    for (n, record) in batches.into_iter().flatten().enumerate() {
        let want = make(n as u64);
        assert_eq!((record.id, record.vector), (want.id, want.vector));
        assert_eq!(record.metadata, want.metadata);
    }
}

/// All chunks, and what they add up to.
fn chunks_of(schema: &Schema, rows: impl Iterator<Item = Result<ColdRow>>) -> (Vec<Bytes>, Totals) {
    let chunks = EncodedChunks::start(&context(schema), rows).unwrap();
    let handle = chunks.totals();
    let mut ready = Vec::new();
    for chunk in chunks {
        ready.push(chunk.unwrap());
    }
    (ready, handle.get().unwrap())
}

#[test]
fn an_object_comes_in_chunks_while_its_rows_are_read_and_is_the_same_object() {
    let schema = Schema::new(4, Metric::Dot).field("n", FieldType::Integer);
    for count in [0, 1, GROUP_ROWS_MAX as u64, 3 * GROUP_ROWS_MAX as u64 + 5] {
        let rows = || {
            let vector = |n: u64| [n as f32, 1.0, (n * n) as f32, -1.0];
            (0..count).map(move |n| Ok(row(n, n + 3, &vector(n), json!({"n": n, "text": n % 9}))))
        };
        let (whole, expected) = encode(&context(&schema), rows()).unwrap();
        let (chunks, totals) = chunks_of(&schema, rows());
        assert!(chunks.iter().all(|chunk| !chunk.is_empty()));
        assert_eq!(chunks.len() as u64, count / GROUP_ROWS_MAX as u64 + 1, "each group, the rest");
        assert_eq!(chunks.concat(), whole);
        let (len, crc32) = (whole.len() as u64, crc32fast::hash(&whole));
        let Totals { rows, min_lsn, max_lsn, .. } = expected;
        assert_eq!(totals, Totals { len, crc32, rows, min_lsn, max_lsn });
        assert_eq!((rows, max_lsn), (count, if count == 0 { 0 } else { count + 2 }));
    }
}

#[test]
fn rows_are_read_when_their_bytes_are_asked_for_and_totals_told_at_the_end() {
    let schema = Schema::new(1, Metric::Dot);
    let read = std::cell::Cell::new(0);
    let count = 2 * GROUP_ROWS_MAX as u64;
    let rows = (0..count).map(|n| {
        read.set(n + 1);
        Ok(row(n, n, &[1.0], json!({"text": format!("{:032x}", n.wrapping_mul(1 << 57 | 977))})))
    });
    let mut chunks = EncodedChunks::start(&context(&schema), rows).unwrap();
    let totals = chunks.totals();
    for so_far in [GROUP_ROWS_MAX as u64, count, count] {
        assert!(totals.get().is_none());
        assert!(chunks.next().unwrap().is_ok());
        assert_eq!(read.get(), so_far);
    }
    assert_eq!(totals.get().map(|totals| totals.rows), Some(count));
    assert!(chunks.next().is_none());
}

#[test]
fn chunks_end_with_the_first_error_and_have_no_totals() {
    let schema = Schema::new(1, Metric::Dot);
    let good = (0..GROUP_ROWS_MAX as u64 + 1).map(|n| Ok(row(n, n, &[1.0], json!({}))));
    let rows = good.chain([Err(Error::bug("unreadable row")), Ok(row(1, 1, &[1.0], json!({})))]);
    let mut chunks = EncodedChunks::start(&context(&schema), rows).unwrap();
    let totals = chunks.totals();
    assert!(chunks.next().unwrap().is_ok());
    assert!(chunks.next().unwrap().unwrap_err().to_string().contains("unreadable row"));
    assert!(chunks.next().is_none() && totals.get().is_none());
}

#[test]
fn chunks_can_be_handed_to_an_upload() {
    fn uploadable<'a>(chunks: impl Iterator<Item = Result<Bytes>> + Send + 'a) -> usize {
        chunks.count()
    }
    let schema = full_schema();
    let rows = sample_rows().into_iter().map(Ok);
    assert_eq!(uploadable(EncodedChunks::start(&context(&schema), rows).unwrap()), 1);
}

#[test]
fn few_rows_have_their_metadata_compressed_alone_and_vectors_never_are() {
    let schema = Schema::new(1, Metric::Dot);
    for (rows, others) in [(1_023, false), (1_024, true)] {
        let context = ColdContext { rows, ..context(&schema) };
        let rows = (0..rows).map(|n| Ok(row(n, n, &[1.0], json!({}))));
        let (bytes, _) = encode(&context, rows).unwrap();
        let file = ParquetRecordBatchReaderBuilder::try_new(bytes).unwrap();
        for column in file.metadata().row_group(0).columns() {
            let expected = match column.column_path().parts()[0].as_str() {
                columns::VECTOR => false,
                columns::METADATA => true,
                _ => others,
            };
            let compressed = column.compression() != Compression::UNCOMPRESSED;
            assert_eq!(compressed, expected, "{}", column.column_path());
        }
    }
}

#[test]
fn large_metadata_ends_a_row_group_early() {
    let schema = Schema::new(1, Metric::Dot);
    let text = "x".repeat(GROUP_BYTES_MAX / 3);
    let rows = (0..5_u64).map(|n| Ok(row(n, n, &[1.0], json!({"text": text}))));
    let (bytes, _) = encode(&context(&schema), rows).unwrap();
    let reader = ColdReader::open(bytes, KEY, &schema).unwrap();
    assert_eq!(reader.map(|batch| batch.unwrap().len()).collect::<Vec<_>>(), [3, 2]);
}

#[test]
fn other_readers_see_a_plain_typed_table() {
    let (schema, rows) = (full_schema(), sample_rows());
    let bytes = encode_rows(&schema, &rows).0;
    let builder = ParquetRecordBatchReaderBuilder::try_new(bytes).unwrap();
    let file = builder.metadata().file_metadata();
    assert_eq!(file.created_by(), Some(concat!("akidb ", env!("CARGO_PKG_VERSION"))));
    let keys: Vec<&str> =
        file.key_value_metadata().unwrap().iter().map(|pair| pair.key.as_str()).collect();
    assert!(keys.iter().all(|key| key.starts_with("akidb.")), "{keys:?}");
    let batch = builder.build().unwrap().next().unwrap().unwrap();
    let names: Vec<String> = batch.schema().fields().iter().map(|f| f.name().clone()).collect();
    let want = [
        "id", "id_kind", "vector", "lsn", "pos", "count", "weight", "checked", "seen", "_id",
        "metadata",
    ];
    assert_eq!(names, want);
    let text = |name: &str, row| batch[name].as_string::<i32>().value(row).to_owned();
    assert_eq!((text("id", 0), text("id_kind", 0)), ("7".to_owned(), "u64".to_owned()));
    assert_eq!((text("id", 1), text("id_kind", 1)), ("7".to_owned(), "str".to_owned()));
    assert_eq!(text("id", 2), Uuid::from_u128(9).to_string());
    assert_eq!(text("pos", 0), "noun");
    assert_eq!(text("metadata", 0), r#"{"text":"dog"}"#, "indexed fields leave the JSON");
    assert_eq!(text("_id", 2), "mine");
}

#[test]
fn an_object_outlives_fields_that_are_added_later() {
    let old = Schema::new(3, Metric::Cosine).field("pos", FieldType::Keyword);
    let bytes = encode_rows(&old, &sample_rows()).0;
    let found = decode(bytes, &full_schema()).unwrap();
    assert_eq!(exact_out(found), exact_in(&sample_rows()));
}

#[test]
fn an_object_of_another_collection_shape_is_refused() {
    let bytes = encode_rows(&full_schema(), &sample_rows()).0;
    for other in [Schema::new(4, Metric::Cosine), Schema::new(3, Metric::L2)] {
        let error = decode(bytes.clone(), &other).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corruption, "{error}");
    }
}

#[test]
fn the_first_error_of_the_rows_is_returned() {
    let schema = full_schema();
    let rows = [Ok(sample_rows().remove(0)), Err(Error::bug("unreadable row"))];
    let error = encode(&context(&schema), rows).unwrap_err();
    assert!(error.to_string().contains("unreadable row"), "{error}");
}

/// The object that `docs/format/cold.md` describes, as version 1 wrote it.
const GOLDEN: Bytes = Bytes::from_static(include_bytes!("../../tests/golden/cold_v1.parquet"));

#[test]
fn the_golden_object_of_version_1_opens() {
    let found = decode(GOLDEN, &full_schema()).unwrap();
    assert_eq!(exact_out(found), exact_in(&sample_rows()));
}

#[test]
fn the_format_page_quotes_the_golden_object_as_it_is() {
    let page = include_str!("../../../docs/format/cold.md");
    let builder = ParquetRecordBatchReaderBuilder::try_new(GOLDEN).unwrap();
    for pair in builder.metadata().file_metadata().key_value_metadata().unwrap() {
        let line = format!("{} = {}", pair.key, pair.value.as_deref().unwrap_or_default());
        assert!(page.lines().any(|l| l == line), "docs/format/cold.md lacks the line {line}");
    }
    let tail = &GOLDEN[GOLDEN.len() - guard::TAIL_BYTES..];
    let hex: Vec<String> = tail.iter().map(|byte| format!("{byte:02x}")).collect();
    assert!(page.contains(&hex.join(" ")), "docs/format/cold.md lacks the tail {hex:?}");
}
