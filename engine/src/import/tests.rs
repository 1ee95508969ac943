//! Files as other tools write them, good and bad.

use super::*;
use crate::{ErrorKind, PointId};
use akidb_vfs::{
    FsOp,
    sim::{Fault, FaultKind, SimFs},
};
use arrow_array::{ArrayRef, RecordBatch, builder::*, *};
use arrow_schema::{DataType, Field};
use half::f16;
use parquet::{arrow::ArrowWriter, basic::Compression, file::properties::WriterProperties};
use serde_json::json;
use std::sync::Arc;
use uuid::Uuid;

const PATH: &str = "/in.parquet";

/// A disk with the table as a Parquet file.
fn disk_with(columns: Vec<(&str, ArrayRef)>, compression: Compression) -> SimFs {
    let batch = RecordBatch::try_from_iter(columns).unwrap();
    let properties = WriterProperties::builder().set_compression(compression).build();
    let mut writer = ArrowWriter::try_new(Vec::new(), batch.schema(), Some(properties)).unwrap();
    writer.write(&batch).unwrap();
    disk_with_bytes(&writer.into_inner().unwrap())
}

fn disk_with_bytes(bytes: &[u8]) -> SimFs {
    let disk = SimFs::new(1);
    disk.create_new(Path::new(PATH)).unwrap().write_all_at(bytes, 0).unwrap();
    disk
}

fn plain(columns: Vec<(&str, ArrayRef)>) -> SimFs {
    disk_with(columns, Compression::UNCOMPRESSED)
}

fn open(disk: &SimFs, options: &ImportOptions) -> Result<ParquetImport> {
    ParquetImport::open(disk, Path::new(PATH), options)
}

fn all(disk: &SimFs, options: &ImportOptions) -> Result<Vec<Point>> {
    let mut points = Vec::new();
    for batch in open(disk, options)?.batches()? {
        points.extend(batch?);
    }
    Ok(points)
}

#[track_caller]
fn refused(disk: &SimFs, options: &ImportOptions, parts: &[&str]) {
    let error = all(disk, options).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error}");
    let text = error.to_string();
    for part in parts.iter().chain(&[PATH]) {
        assert!(text.contains(part), "{part:?} is missing in {text:?}");
    }
}

fn texts(values: &[&str]) -> ArrayRef {
    Arc::new(StringArray::from(values.to_vec()))
}

fn vectors(rows: &[&[f32]]) -> ArrayRef {
    let mut builder = ListBuilder::new(Float32Builder::new());
    for row in rows {
        builder.values().append_slice(row);
        builder.append(true);
    }
    Arc::new(builder.finish())
}

fn options() -> ImportOptions {
    ImportOptions::default()
}

#[test]
fn half_floats_of_fixed_size_are_read_as_the_sample_data_has_them() {
    let item = Arc::new(Field::new("item", DataType::Float16, true));
    let halves = Float16Array::from(vec![f16::from_f32(0.5), f16::ONE, f16::NEG_ONE, f16::ZERO]);
    let fixed = FixedSizeListArray::new(item, 2, Arc::new(halves), None);
    let mut words = ListBuilder::new(StringBuilder::new());
    words.append_value([Some("dog"), Some("hound")]);
    words.append_value([Some("run")]);
    let disk = disk_with(
        vec![
            ("id", texts(&["n1", "v1"])),
            ("words", Arc::new(words.finish())),
            ("pointers", Arc::new(Int32Array::from(vec![3, -1]))),
            ("vector", Arc::new(fixed)),
        ],
        Compression::ZSTD(Default::default()),
    );
    let import = open(&disk, &options()).unwrap();
    assert_eq!((import.rows(), import.dim()), (2, 2));
    assert_eq!((import.id_column(), import.vector_column()), (Some("id"), "vector"));
    assert_eq!(import.metadata_columns().collect::<Vec<_>>(), ["words", "pointers"]);
    let points = all(&disk, &options()).unwrap();
    let first = Point::new("n1", [0.5, 1.0]);
    assert_eq!(points[0], first.meta(json!({"words": ["dog", "hound"], "pointers": 3})));
    assert_eq!(points[1].vector, [-1.0, 0.0]);
}

#[test]
fn doubles_numbers_and_uuids_are_read_too() {
    let mut doubles = ListBuilder::new(Float64Builder::new());
    doubles.values().append_slice(&[0.1, 0.2]);
    doubles.append(true);
    let doubles: ArrayRef = Arc::new(doubles.finish());
    let uuid = Uuid::from_u128(77);
    let mut uuids = FixedSizeBinaryBuilder::new(16);
    uuids.append_value(uuid.as_bytes()).unwrap();
    let uuids: ArrayRef = Arc::new(uuids.finish());
    for (ids, want) in [
        (uuids, PointId::Uuid(uuid)),
        (Arc::new(UInt64Array::from(vec![u64::MAX])) as ArrayRef, PointId::U64(u64::MAX)),
        (Arc::new(Int8Array::from(vec![7])) as ArrayRef, PointId::U64(7)),
    ] {
        let disk = plain(vec![("key", ids), ("numbers", Arc::clone(&doubles))]);
        let options = ImportOptions { id_column: Some("key".into()), ..options() };
        let points = all(&disk, &options).unwrap();
        assert_eq!(points, [Point::new(want, [0.1_f32, 0.2])], "the only list is the vector");
    }
}

#[test]
fn other_columns_become_metadata_or_are_reported() {
    let seen = TimestampMillisecondArray::from(vec![Some(1_500), None]).with_timezone("UTC");
    let disk = disk_with(
        vec![
            ("id", texts(&["a", "b"])),
            ("vector", vectors(&[&[1.0], &[2.0]])),
            ("seen", Arc::new(seen)),
            ("day", Arc::new(Date32Array::from(vec![-1, 1]))),
            ("share", Arc::new(Float64Array::from(vec![0.25, f64::NAN]))),
            ("good", Arc::new(BooleanArray::from(vec![true, false]))),
            ("blob", Arc::new(BinaryArray::from(vec![b"x".as_slice(), b"y"]))),
        ],
        Compression::SNAPPY,
    );
    let import = open(&disk, &options()).unwrap();
    let skipped: Vec<_> = import.skipped_columns().iter().map(|c| c.name.as_str()).collect();
    assert_eq!(skipped, ["blob"]);
    let points = all(&disk, &options()).unwrap();
    let first = json!({
        "seen": "1970-01-01T00:00:01.500Z", "day": "1969-12-31", "share": 0.25, "good": true,
    });
    assert_eq!(points[0].metadata, first);
    assert_eq!(points[1].metadata, json!({"day": "1970-01-02", "good": false}));
}

#[test]
fn rows_can_be_numbered_where_there_is_no_id() {
    let disk = plain(vec![("vector", vectors(&[&[1.0], &[2.0]]))]);
    refused(&disk, &options(), &["no column \"id\"", "vector (list of Float32)"]);
    let numbered = ImportOptions { number_rows: true, ..options() };
    let points = all(&disk, &numbered).unwrap();
    assert_eq!(points[1].id, PointId::U64(1));
}

#[test]
fn many_batches_keep_the_order_and_the_count() {
    let count = 3 * BATCH_ROWS as u64 + 1;
    let rows: Vec<[f32; 1]> = (0..count).map(|n| [n as f32]).collect();
    let rows: Vec<&[f32]> = rows.iter().map(<[f32; 1]>::as_slice).collect();
    let ids: ArrayRef = Arc::new(UInt64Array::from_iter_values(0..count));
    let points = all(&plain(vec![("id", ids), ("vector", vectors(&rows))]), &options()).unwrap();
    assert!(points.iter().map(|p| p.id.clone()).eq((0..count).map(PointId::U64)));
    assert_eq!(points.last().unwrap().vector, [(count - 1) as f32]);
}

#[test]
fn a_file_without_a_vector_column_is_refused_and_its_columns_are_named() {
    let disk = plain(vec![("id", texts(&["a"])), ("text", texts(&["x"]))]);
    refused(&disk, &options(), &["no vector column", "id (Utf8), text (Utf8)"]);
    let named = |name: &str| ImportOptions { vector_column: Some(name.into()), ..options() };
    refused(&disk, &named("text"), &["\"text\" is no list of floats"]);
    refused(&disk, &named("embedding"), &["no column \"embedding\""]);
}

#[test]
fn ragged_or_missing_vectors_and_ids_are_refused_by_row() {
    let ids = texts(&["a", "b", "c"]);
    let ragged = vectors(&[&[1.0, 2.0], &[1.0, 2.0], &[1.0]]);
    let disk = plain(vec![("id", Arc::clone(&ids)), ("vector", ragged)]);
    refused(&disk, &options(), &["row 2", "1 numbers", "2"]);

    let mut holes = ListBuilder::new(Float32Builder::new());
    holes.append_value([Some(1.0)]);
    holes.append_value([None]);
    holes.append_null();
    let disk = plain(vec![("id", ids), ("vector", Arc::new(holes.finish()))]);
    refused(&disk, &options(), &["row 1 has no vector"]);

    let good = vectors(&[&[1.0], &[2.0]]);
    let missing: ArrayRef = Arc::new(StringArray::from(vec![Some("a"), None]));
    refused(
        &plain(vec![("id", missing), ("vector", Arc::clone(&good))]),
        &options(),
        &["row 1 has no id"],
    );
    let negative: ArrayRef = Arc::new(Int64Array::from(vec![0, -5]));
    refused(&plain(vec![("id", negative), ("vector", good)]), &options(), &["row 1", "-5"]);
}

#[test]
fn files_that_are_not_parquet_or_have_no_rows_are_refused() {
    for bytes in [b"".as_slice(), b"PAR1", b"not a parquet file at all", &[0; 4096]] {
        refused(&disk_with_bytes(bytes), &options(), &["Parquet"]);
    }
    refused(&plain(vec![("id", texts(&[])), ("vector", vectors(&[]))]), &options(), &["no rows"]);
}

#[test]
fn damaged_files_give_errors_or_points_and_never_a_panic() {
    let rows: [&[f32]; 3] = [&[1.0, 2.0], &[3.0, 4.0], &[5.0, 6.0]];
    let columns = vec![("id", texts(&["a", "b", "c"])), ("vector", vectors(&rows))];
    let disk = plain(columns);
    let len = disk.metadata(Path::new(PATH)).unwrap().len;
    for at in 0..len {
        for mask in [0x01, 0x80] {
            let damaged = disk.fork(at);
            damaged.corrupt(Path::new(PATH), at, mask).unwrap();
            if let Err(error) = all(&damaged, &options()) {
                assert_eq!(error.kind(), ErrorKind::InvalidInput, "byte {at}: {error}");
            }
        }
        let cut = disk.fork(at);
        cut.truncate(Path::new(PATH), at).unwrap();
        refused(&cut, &options(), &[]);
    }
}

#[test]
fn a_failing_disk_is_not_blamed_on_the_file() {
    let disk = plain(vec![("id", texts(&["a"])), ("vector", vectors(&[&[1.0]]))]);
    let mut failures = 0;
    for nth in 1.. {
        let disk = disk.fork(nth);
        disk.inject(Fault::new(FaultKind::Eio).on(FsOp::Read).nth(nth));
        let Err(error) = all(&disk, &options()) else {
            break;
        };
        assert_eq!(error.kind(), ErrorKind::Unavailable, "read {nth}: {error}");
        failures += 1;
    }
    assert!(failures > 2, "open, first vector and batches all read: {failures}");
}

#[test]
fn a_path_where_nothing_is_is_not_found_rather_than_damaged() {
    let error = open(&SimFs::new(1), &options()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound, "{error}");
    assert!(error.to_string().contains(PATH) && error.to_string().contains("check the path"));
}
