//! The JSON of `bench` is an interface: these keys, these types.

use crate::run;
use akidb::vfs::{RealFs, read_file};
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
fn search_reports_the_curve_and_exact_search_finds_the_exact_neighbours() {
    let dir = tempfile::tempdir().unwrap();
    let line = "bench search --data DATA --queries QUERIES --k 10 --threads 2 --rounds 2 \
                --nprobe 2,8 --point-ms 1 --json";
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
    if cfg!(target_os = "linux") {
        check_positive(&result["memory"], &["anonymous_bytes_per_row", "mapped_bytes_per_row"]);
    }
    let points = result["points"].as_array().unwrap();
    for point in points {
        check_percentiles(point);
        check_positive(point, &["qps"]);
        assert_eq!(point["params"]["k"], 10);
        assert_eq!(point["params"]["threads"], 2);
        assert_eq!(point["short_answers"], 0);
        let shares = point["stages"].as_array().unwrap().iter();
        let sum: f64 = shares.map(|stage| stage["share"].as_f64().unwrap()).sum();
        assert!((sum - 1.0).abs() < 1e-6, "{point}");
    }
    let of = |key: &'static str| points.iter().filter(move |p| !p["params"][key].is_null());
    assert_eq!(of("nprobe").count(), 2);
    assert_eq!(of("recall_target").count(), 4);
    assert!(of("nprobe").all(|point| point["qps_rounds"].as_array().unwrap().len() == 2));
    // The last digit of a score may differ from the file's arithmetic and swap the tenth and
    // eleventh.
    let exact = points.last().unwrap();
    assert!(exact["recall"].as_f64().unwrap() >= 0.999, "{exact}");
    assert_eq!(result["at_recall"].as_array().unwrap().len(), 4);
    let tiers: Vec<&str> = result["tiers"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|tier| tier["tier"].as_str())
        .collect();
    assert_eq!(tiers, ["log", "warm", "cold"]);
}

#[test]
fn search_measures_filters_memtables_and_ingest_where_asked() {
    let dir = tempfile::tempdir().unwrap();
    let line = "bench search --generate 5000 --dim 24 --query-count 20 --k 5 --rounds 1 \
                --point-ms 1 --no-tiers --recall-target 0.9 --random-filter 0.5,0.01 \
                --memtable-rows 500,4000 --ingest --svg DIR/curve.svg --json";
    let result = run(dir.path(), line).json();
    assert_eq!((result["rows"].as_u64(), result["dim"].as_u64()), (Some(5000), Some(24)));
    // Growing numbers of cells, a target, and exact, whose neighbours the bench found by itself.
    let points = result["points"].as_array().unwrap();
    assert_eq!(points.last().unwrap()["recall"], 1.0);
    let cells: Vec<u64> =
        points.iter().filter_map(|point| point["params"]["nprobe"].as_u64()).collect();
    assert!(cells.len() > 4 && cells.is_sorted(), "{cells:?}");
    assert_eq!(cells.len() + 2, points.len());
    for mark in result["at_recall"].as_array().unwrap() {
        assert!(mark["recall"].as_f64() >= mark["mark"].as_f64(), "{mark}");
    }
    let filters = result["filters"].as_array().unwrap();
    let share = |at: usize| filters[at]["selectivity"].as_f64().unwrap();
    assert!((0.4..0.6).contains(&share(0)) && (0.002..0.02).contains(&share(1)), "{filters:?}");
    for filter in filters {
        let points = filter["points"].as_array().unwrap();
        assert_eq!(points.len(), 2);
        assert!(points.iter().all(|point| point["short_answers"] == 0), "{filter}");
        assert_eq!(points[1]["recall"], 1.0);
    }
    let memtables = result["memtables"].as_array().unwrap();
    assert_eq!((&memtables[0]["rows"], &memtables[1]["rows"]), (&500.into(), &4000.into()));
    for memtable in memtables {
        check_positive(memtable, &["insert_rows_per_s", "bytes_per_row_memory"]);
        check_positive(memtable, &["flush_s", "flush_rows_per_s", "merge_rows_per_s"]);
        assert_eq!(memtable["points"][1]["recall"], 1.0);
    }
    assert_eq!(result["ingest"]["rows"], 5000);
    check_positive(&result["ingest"], &["rows_per_s"]);
    let svg =
        String::from_utf8(read_file(&RealFs, &dir.path().join("curve.svg")).unwrap()).unwrap();
    assert!(svg.contains("recall against queries per second") && svg.ends_with("</svg>\n"));
}

#[test]
fn a_generated_file_is_the_same_each_time_and_can_be_ingested() {
    let dir = tempfile::tempdir().unwrap();
    let make = |name: &str, rows: usize| {
        let line =
            format!("gen --rows {rows} --dim 12 --seed 7 --queries 5 DIR/{name}.parquet --json");
        let made = run(dir.path(), &line).json();
        assert_eq!(
            (made["command"].as_str(), made["rows"].as_u64()),
            (Some("gen"), Some(rows as u64))
        );
        check_positive(&made, &["bytes", "rows_per_s"]);
        read_file(&RealFs, &dir.path().join(format!("{name}.parquet"))).unwrap()
    };
    assert_eq!(make("a", 300), make("b", 300));
    let line = "ingest --dir DIR/db -C rows --data DIR/a.parquet --index bucket:integer --json";
    let ingested = run(dir.path(), line).json();
    assert_eq!((ingested["rows"].as_u64(), ingested["dim"].as_u64()), (Some(300), Some(12)));
    let row = run(dir.path(), "get --dir DIR/db -C rows 0 --json").json();
    assert!(row.to_string().contains("\"topic\""), "{row}");
    // An existing file is not replaced.
    assert!(run(dir.path(), "gen --rows 10 DIR/a.parquet").fails(1).contains("a.parquet"));
}

#[test]
fn recovery_brings_back_every_row_of_a_killed_writer() {
    let dir = tempfile::tempdir().unwrap();
    let result = run(dir.path(), "bench recovery --rows 500 --dim 16 --batch 50 --json").json();
    check_envelope(&result, "bench recovery");
    check_positive(&result, &["rows_per_s", "mb_per_s", "wal_bytes", "open_s"]);
    assert_eq!((result["rows"].as_u64(), result["dim"].as_u64()), (Some(500), Some(16)));
}

#[test]
fn moves_between_tiers_are_timed_there_and_back() {
    let dir = tempfile::tempdir().unwrap();
    let line = "bench tier --dir DIR --rows 300 --dim 8 --rounds 2 --json";
    let result = run(dir.path(), line).json();
    check_envelope(&result, "bench tier");
    check_positive(&result, &["segment_bytes", "object_bytes"]);
    let moves = result["moves"].as_array().unwrap();
    let local = moves.iter().filter(|moves| moves["store"] == "local");
    let timed: Vec<_> = local
        .map(|moves| {
            check_positive(moves, &["median_ms"]);
            let times = moves["ms"].as_array().unwrap().len();
            (moves["from"].as_str().unwrap(), moves["to"].as_str().unwrap(), times)
        })
        .collect();
    // Two rounds, in each of which it goes from hot to warm and back twice.
    let expected =
        [("warm", "hot", 4), ("hot", "warm", 4), ("warm", "cold", 2), ("cold", "warm", 2)];
    assert!(expected.iter().all(|one| timed.contains(one)), "{timed:?}");
}
