//! What a cold object costs: 10,000 rows of 512 components with metadata, to Parquet and back, and
//! the size of it beside the same rows as JSON.
//!
//! `cargo bench -p akidb --features testing --bench cold`

#![expect(missing_docs, reason = "criterion's macro makes a public function without any")]

use akidb::{FieldType, Metadata, Metric, PointId, Record, Schema, testing};
use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use serde_json::{Value, json};
use std::hint::black_box;

const ROWS: u64 = 10_000;
const DIM: u32 = 512;

fn schema() -> Schema {
    Schema::new(DIM, Metric::Cosine)
        .field("topic", FieldType::Keyword)
        .field("year", FieldType::Integer)
        .field("score", FieldType::Float)
        .field("public", FieldType::Bool)
        .field("seen", FieldType::Timestamp)
}

/// As an application has them: five indexed fields, and a text of some two hundred bytes that is not.
fn metadata(n: u64) -> Metadata {
    let topics = ["storage", "networks", "languages", "graphics", "theory"];
    let words = ["log", "segment", "merge", "flush", "vector", "index", "cell", "code", "row"];
    let word =
        |i: u64| words[(n.wrapping_mul(2_654_435_761).wrapping_add(i * i * 97) % 9) as usize];
    let text: Vec<&str> = (0..40).map(word).collect();
    let value = json!({
        "topic": topics[(n % 5) as usize],
        "year": 1990 + n % 36,
        "score": (n as f64 * 0.37).sin(),
        "public": n.is_multiple_of(3),
        "seen": format!("2026-{:02}-{:02}T08:30:00Z", 1 + n % 12, 1 + n % 28),
        "text": text.join(" "),
        "source": {"page": n % 400, "book": format!("b{:04}", n % 1_000)},
    });
    match value {
        Value::Object(map) => map,
        _ => Metadata::new(),
    }
}

fn rows() -> Vec<Record> {
    let component = |n: u64, i: u64| ((n * 97 + i * 31) as f32 * 0.618).sin();
    let row = |n: u64| Record {
        id: PointId::from(format!("doc-{n:08}")),
        vector: (0..u64::from(DIM)).map(|i| component(n, i)).collect(),
        metadata: metadata(n),
        lsn: n + 1,
    };
    (0..ROWS).map(row).collect()
}

/// As lines of JSON, with each number as short as it can be.
fn as_json(rows: &[Record]) -> usize {
    let text = |row: &Record| -> serde_json::Result<String> {
        let vector = serde_json::to_string(&row.vector)?;
        let metadata = serde_json::to_string(&row.metadata)?;
        Ok(format!(r#"{{"id":"{}","vector":{vector},"metadata":{metadata}}}"#, row.id))
    };
    rows.iter().map(|row| text(row).expect("rows are JSON").len() + 1).sum()
}

#[expect(clippy::print_stdout, reason = "a bench tells the sizes beside the times")]
fn cold(criterion: &mut Criterion) {
    let (schema, rows) = (schema(), rows());
    let object = testing::cold_encode(&schema, rows.clone()).expect("rows are encoded");
    let (parquet, json) = (object.len(), as_json(&rows));
    println!("{ROWS} x {DIM}: Parquet {parquet} bytes, JSON {json} bytes");
    let mut group = criterion.benchmark_group("cold");
    group.sample_size(20);
    group.bench_function("encode 10,000 x 512", |bencher| {
        let encode = |rows| testing::cold_encode(&schema, rows).expect("rows are encoded");
        bencher.iter_batched(|| rows.clone(), encode, BatchSize::PerIteration);
    });
    group.bench_function("decode 10,000 x 512", |bencher| {
        let decode = || testing::cold_decode(black_box(&object), &schema).expect("rows are read");
        bencher.iter_with_large_drop(decode);
    });
    group.finish();
}

criterion_group!(benches, cold);
criterion_main!(benches);
