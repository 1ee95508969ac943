//! The demo, end to end.

use crate::{run, sample, sample_queries};
use serde_json::Value;

#[test]
fn the_demo_tells_its_whole_story() {
    let dir = tempfile::tempdir().unwrap();
    let text = run(dir.path(), "demo").ok();
    for expected in [
        "1. Ingest: 5,000 rows",
        "query",
        "score",
        "pos = verb (603 rows match)",
        "killed (SIGKILL)",
        "byte for byte",
        "flushed",
        "compacted into one segment",
        "moved to the object store",
        "the same answers, bit for bit, in every tier",
        "Parquet object",
        "search p50",
        "recall",
    ] {
        assert!(text.contains(expected), "{expected} is missing in:\n{text}");
    }
}

#[test]
fn for_machines_it_is_one_object() {
    let dir = tempfile::tempdir().unwrap();
    let result = run(dir.path(), "demo --json").json();
    assert_eq!(result["command"], "demo");
    let crash = &result["crash"];
    assert!(crash["acknowledged_rows"].as_u64().unwrap() >= 2000, "{crash}");
    assert_eq!(crash["acknowledged_rows"], crash["recovered_rows"]);
    let tiers: Vec<&str> = result["tiers"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|tier| tier["tier"].as_str())
        .collect();
    assert_eq!(tiers, ["log", "warm", "warm", "cold", "warm"]);
    for tier in result["tiers"].as_array().unwrap() {
        let recall = tier["search_recall"].as_f64();
        assert_eq!(recall.is_some(), tier["tier"] != "cold", "{tier}");
        assert!(recall.is_none_or(|recall| recall > 0.8 && recall <= 1.0), "{tier}");
    }
    let filtered = result["filtered_answers"].as_array().unwrap();
    let verbs = |answer: &Value| {
        answer["hits"].as_array().unwrap().iter().all(|hit| hit["metadata"]["pos"] == "verb")
    };
    assert!(!filtered.is_empty() && filtered.iter().all(verbs));
}

#[test]
fn a_kept_demo_is_a_database_with_a_parquet_object_that_searches() {
    let dir = tempfile::tempdir().unwrap();
    let kept = dir.path().join("kept");
    // A file of queries is a file of vectors like any other, and has no categories to filter by.
    let line = format!(
        "demo --dir DIR --data {} --queries {} --id-column gloss_id",
        sample_queries().display(),
        sample_queries().display()
    );
    let text = run(&kept, &line).ok();
    assert!(text.contains("kept in"), "{text}");
    let stats = run(&kept, "stats --dir DIR --json").json();
    assert_eq!(stats["collections"][0]["tier"], "cold");
    let found = run(&kept, "search --dir DIR -C demo --id n13766896 -k 1 --json").json();
    assert_eq!(found["hits"][0]["id"], "n13766896");
}

#[test]
fn data_without_queries_is_searched_by_its_own_rows() {
    let dir = tempfile::tempdir().unwrap();
    let line = format!("demo --json --data {}", sample().display());
    let result = run(dir.path(), &line).json();
    let best = &result["answers"][0]["hits"][0];
    assert!((best["score"].as_f64().unwrap() - 1.0).abs() < 1e-5, "{best}");
}
