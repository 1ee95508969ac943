//! Each data command does its work and says so, to people and to machines.

use crate::{akidb, hit_ids, run, with_sample, write};
use serde_json::{Value, json};

#[test]
fn ingest_makes_a_collection_and_repeating_it_adds_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let line = "ingest --dir DIR -C words --data DATA --batch 700 --index pos:keyword --json";
    let first = run(dir.path(), line).json();
    assert_eq!(
        (&first["created"], &first["rows"], &first["dim"]),
        (&json!(true), &json!(5000), &json!(384))
    );
    let again = run(dir.path(), line).json();
    assert_eq!(again["created"], false);
    let stats = run(dir.path(), "stats --dir DIR --json").json();
    let found = run(dir.path(), "delete --dir DIR -C words nobody --json").json();
    assert_eq!(found["left_rows"], 5000, "{stats}");
}

#[test]
fn a_field_can_be_indexed_by_a_later_ingest() {
    let dir = with_sample();
    run(dir.path(), "ingest --dir DIR -C words --data DATA --index pointers:integer").ok();
    let stats = run(dir.path(), "stats --dir DIR --json").json();
    let fields = &stats["collections"][0]["schema"]["fields"];
    assert_eq!(
        *fields,
        json!([{"name": "pos", "type": "keyword"}, {"name": "pointers", "type": "integer"}])
    );
}

#[test]
fn a_row_finds_itself_first_and_its_vector_file_finds_the_same() {
    let dir = with_sample();
    let ids =
        hit_ids(&run(dir.path(), "search --dir DIR -C words --id n13766896 -k 5 --json").json());
    assert_eq!((ids[0].as_str(), ids.len()), ("n13766896", 5));

    let got = run(dir.path(), "get --dir DIR -C words n13766896 --vectors --json").json();
    let vector: Vec<f32> = serde_json::from_value(got["rows"][0]["vector"].clone()).unwrap();
    let as_json = dir.path().join("query.json");
    let as_floats = dir.path().join("query.f32");
    write(&as_json, got["rows"][0]["vector"].to_string().as_bytes());
    write(&as_floats, &vector.iter().flat_map(|x| x.to_le_bytes()).collect::<Vec<_>>());
    for file in [as_json, as_floats] {
        let line = format!("search --dir DIR -C words --vector {} -k 5 --json", file.display());
        assert_eq!(hit_ids(&run(dir.path(), &line).json()), ids);
    }
}

#[test]
fn a_filter_keeps_only_what_matches_and_explain_says_how() {
    let dir = with_sample();
    let filter = r#"{"field":"pos","eq":"verb"}"#;
    let line = "search --dir DIR -C words --id n13766896 -k 20 --explain --json --filter";
    let found = run(dir.path(), &format!("{line} {filter}")).json();
    let hits = found["hits"].as_array().unwrap();
    assert_eq!(hits.len(), 20);
    assert!(hits.iter().all(|hit| hit["metadata"]["pos"] == "verb"));
    let scored: u64 = found["explain"]["parts"]
        .as_array()
        .unwrap()
        .iter()
        .map(|p| p["scored"].as_u64().unwrap())
        .sum();
    assert_eq!(scored, 603);
    assert_eq!(found["explain"]["plan"], "exact");
}

#[test]
fn people_get_tables_with_texts_and_scores() {
    let dir = with_sample();
    let search = "search --dir DIR -C words --id n13766896 -k 3 --explain";
    for (effort, plan) in [("--recall 0.9", "plan: approximate"), ("--exact", "plan: exact")] {
        let text = run(dir.path(), &format!("{search} {effort}")).ok();
        for expected in ["score", "metadata", "n13766896", "1.0000", "scanned", plan] {
            assert!(text.contains(expected), "{expected} is missing in:\n{text}");
        }
    }
    let text = run(dir.path(), "stats --dir DIR").ok();
    for expected in ["words", "hot", "cosine", "5,000", "pos (keyword)", "opened in"] {
        assert!(text.contains(expected), "{expected} is missing in:\n{text}");
    }
    let text = run(dir.path(), "get --dir DIR -C words n13766896").ok();
    assert!(text.contains("dish, dishful") && !text.contains("vector"), "{text}");
}

#[test]
fn get_prints_what_exists_and_fails_for_what_does_not() {
    let dir = with_sample();
    let ran = run(dir.path(), "get --dir DIR -C words n13766896 nobody --json");
    assert_eq!(ran.code, Some(1));
    let got: Value = serde_json::from_str(&ran.stdout).unwrap();
    assert_eq!(got["rows"][0]["id"], "n13766896");
    assert_eq!(got["missing"], json!(["nobody"]));
    let error: Value = serde_json::from_str(&ran.stderr).unwrap();
    assert_eq!(error["error"]["kind"], "not_found");
}

#[test]
fn deleted_rows_are_gone_for_good() {
    let dir = with_sample();
    let by_id = run(dir.path(), "delete --dir DIR -C words n13766896 nobody --json").json();
    assert_eq!((&by_id["deleted_rows"], &by_id["left_rows"]), (&json!(1), &json!(4999)));
    let filter = r#"{"field":"pos","eq":"verb"}"#;
    let line = format!("delete --dir DIR -C words --json --filter {filter}");
    assert_eq!(run(dir.path(), &line).json()["deleted_rows"], 603);
    assert_eq!(run(dir.path(), &line).json()["deleted_rows"], 0);
    run(dir.path(), "get --dir DIR -C words n13766896").fails(1);
}

#[test]
fn stats_can_be_of_one_collection() {
    let dir = with_sample();
    run(dir.path(), "ingest --dir DIR -C more --data DATA").ok();
    let all = run(dir.path(), "stats --dir DIR --json").json();
    assert_eq!(all["collections"].as_array().unwrap().len(), 2);
    let one = run(dir.path(), "stats --dir DIR -C more --json").json();
    assert_eq!(one["collections"].as_array().unwrap().len(), 1);
    assert_eq!(one["collections"][0]["name"], "more");
    assert_eq!(one["recovery"]["created"], false);
}

#[test]
fn help_shows_examples_for_every_command() {
    for command in ["demo", "ingest", "search", "delete", "bench"] {
        let help = akidb([command, "--help"]).ok();
        assert!(help.contains("Examples:"), "{command}: {help}");
    }
    let help = akidb(["--help"]).ok();
    assert!(help.contains("Exit codes") && !help.contains("demo-writer"), "{help}");
}
