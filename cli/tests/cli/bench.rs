//! The JSON of `bench` is an interface: these keys, these types.

use crate::run;
use serde_json::Value;

/// Every measurement says what, by which version and where.
fn check_envelope(value: &Value, command: &str) {
    assert_eq!(value["command"], command);
    assert_eq!(value["version"], env!("CARGO_PKG_VERSION"));
    assert!(matches!(value["build"].as_str(), Some("debug" | "release")));
    assert!(value["machine"]["cores"].as_u64().is_some_and(|cores| cores > 0));
    assert!(value["machine"]["os"].is_string());
}

fn check_positive(value: &Value, keys: &[&str]) {
    for key in keys {
        let number = value[*key].as_f64();
        assert!(number.is_some_and(|number| number > 0.0), "{key} is {} in {value}", value[*key]);
    }
}

fn check_percentiles(value: &Value) {
    check_positive(value, &["p50_us", "p95_us", "p99_us"]);
    let at = |key: &str| value[key].as_f64().expect("it is a number");
    assert!(at("p50_us") <= at("p95_us") && at("p95_us") <= at("p99_us"), "{value}");
}

#[test]
fn write_reports_rates_and_latencies_at_every_durability() {
    let dir = tempfile::tempdir().unwrap();
    for durability in ["sync", "interval:10", "memory"] {
        let line = format!(
            "bench write --writers 3 --batch 7 --rows 100 --dim 16 --durability {durability} --json"
        );
        let result = run(dir.path(), &line).json();
        check_envelope(&result, "bench write");
        check_percentiles(&result);
        check_positive(
            &result,
            &["rows_per_s", "batches_per_s", "bytes_per_row_disk", "elapsed_s"],
        );
        assert_eq!(result["rows"], 100);
        assert_eq!(result["writers"], 3);
        assert_eq!(result["batches"], 15);
        check_positive(
            &result,
            &["rounds", "bare_rows_per_s", "ratio_to_bare", "bare_reserved_rows_per_s"],
        );
        check_positive(&result, &["bare_append_rows_per_s", "bare_zeroed_rows_per_s"]);
        assert!(result.get("write_amplification").is_some());
        if cfg!(target_os = "linux") {
            check_positive(&result, &["peak_rss_bytes"]);
        }
    }
}

#[test]
fn write_keeps_the_database_it_was_given_a_place_for() {
    let dir = tempfile::tempdir().unwrap();
    run(dir.path(), "bench write --dir DIR --rows 10 --dim 4 --json").json();
    let stats = run(dir.path(), "stats --dir DIR --json").json();
    assert_eq!(stats["collections"][0]["local_rows"], 10);
}

#[test]
fn exact_search_of_the_sample_finds_the_exact_neighbours() {
    let dir = tempfile::tempdir().unwrap();
    let line = "bench search --data DATA --queries QUERIES --k 10 --threads 2 --json";
    let result = run(dir.path(), line).json();
    check_envelope(&result, "bench search");
    check_positive(
        &result,
        &[
            "build_s",
            "ingest_rows_per_s",
            "flush_rows_per_s",
            "bytes_per_row_disk",
            "demote_rows_per_s",
        ],
    );
    assert_eq!((result["rows"].as_u64(), result["queries"].as_u64()), (Some(5000), Some(100)));
    let points = result["points"].as_array().unwrap();
    assert_eq!(points.len(), 1);
    check_percentiles(&points[0]);
    check_positive(&points[0], &["qps"]);
    assert_eq!(points[0]["params"]["k"], 10);
    assert_eq!(points[0]["params"]["threads"], 2);
    // The last digit of a score may differ from the file's arithmetic and swap the tenth and
    // eleventh.
    assert!(points[0]["recall"].as_f64().unwrap() >= 0.999, "{}", points[0]);
    let tiers: Vec<&str> = result["tiers"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|tier| tier["tier"].as_str())
        .collect();
    assert_eq!(tiers, ["log", "warm", "cold"]);
}

#[test]
fn recovery_brings_back_every_row_of_a_killed_writer() {
    let dir = tempfile::tempdir().unwrap();
    let result = run(dir.path(), "bench recovery --rows 500 --dim 16 --batch 50 --json").json();
    check_envelope(&result, "bench recovery");
    check_positive(&result, &["rows_per_s", "mb_per_s", "wal_bytes", "open_s"]);
    assert_eq!((result["rows"].as_u64(), result["dim"].as_u64()), (Some(500), Some(16)));
}
