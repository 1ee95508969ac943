//! Limits and namespaces from the command line: what would pass one is refused with a code of its own,
//! and nothing of it is written; what is taken shows in `stats`.

use crate::{Ran, run, with_sample};
use serde_json::{Value, json};
use std::path::Path;

/// The kind and the hint of a refusal by a limit.
fn refused(ran: Ran) -> (String, String) {
    let error: Value = serde_json::from_str(&ran.fails(5)).expect("JSON");
    let text = |key: &str| error["error"][key].as_str().expect("a text").to_owned();
    (text("kind"), text("hint"))
}

fn stats(dir: &Path, options: &str) -> Value {
    run(dir, &format!("stats --dir DIR --read-only --json{options}")).json()
}

const INGEST: &str = "ingest --dir DIR --data DATA --json -C";

#[test]
fn a_collection_too_many_is_refused_with_code_5_and_not_made() {
    let dir = with_sample();
    let (kind, hint) = refused(run(dir.path(), &format!("{INGEST} more --collections-max 1")));
    assert_eq!(kind, "quota_exceeded");
    assert!(hint.contains("--collections-max") && hint.contains("akidb stats"), "{hint}");
    let found = stats(dir.path(), " --collections-max 1");
    assert_eq!(
        (&found["usage"]["collections"], &found["limits"]["collections_max"]),
        (&json!(1), &json!(1))
    );
    // Rows of a collection that is there are no more collections.
    run(dir.path(), &format!("{INGEST} words --collections-max 1")).ok();
    run(dir.path(), &format!("{INGEST} more --collections-max 2")).ok();
}

#[test]
fn rows_beyond_the_storage_limit_are_refused_and_what_is_there_is_within_it() {
    let dir = tempfile::tempdir().unwrap();
    let limit = 5_000_000;
    let line = format!("{INGEST} words --batch 100 --storage-max 5MB");
    let (kind, hint) = refused(run(dir.path(), &line));
    assert_eq!(kind, "quota_exceeded");
    assert!(hint.contains("--storage-max"), "{hint}");
    let found = stats(dir.path(), " --storage-max 5MB");
    let used = found["usage"]["storage_bytes"].as_u64().expect("a number");
    assert!(used > limit * 9 / 10 && used <= limit, "{used}");
    assert_eq!(found["limits"]["storage_bytes_max"], limit);
    let rows = found["collections"][0]["local_rows"].as_u64().expect("a number");
    assert!((100..5000).contains(&rows) && rows.is_multiple_of(100), "{rows}");
    let line = "snapshot create --dir DIR -C words first --storage-max 5MB --json";
    assert_eq!(refused(run(dir.path(), line)).0, "quota_exceeded");
    run(dir.path(), &format!("{INGEST} words")).ok();
}

/// More rows than memory has room for go to segments on their way.
#[test]
fn an_ingest_within_a_memory_limit_flushes_and_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let line = format!("{INGEST} words --batch 100 --memory-max 3MB");
    assert_eq!(run(dir.path(), &line).json()["rows"], 5000);
    let found = stats(dir.path(), "");
    assert_eq!(found["collections"][0]["local_rows"], 5000);
    assert!(found["collections"][0]["segments"].as_array().is_some_and(|all| !all.is_empty()));
    // So does a restore from a copy, which writes the rows as an ingest does.
    let place = format!("file:{}", dir.path().join("backup").display());
    run(dir.path(), "snapshot create --dir DIR -C words first").ok();
    run(dir.path(), &format!("snapshot copy --dir DIR first --to {place}")).ok();
    let line = format!("snapshot restore --dir DIR/new first.parquet --from {place} --to words");
    let restored = run(dir.path(), &format!("{line} --memory-max 3MB --json")).json();
    assert_eq!(restored["rows"], 5000);
    // One batch that is larger than the limit never fits.
    let (kind, hint) = refused(run(dir.path(), &format!("{INGEST} words --memory-max 100kB")));
    assert_eq!(kind, "quota_exceeded");
    assert!(hint.contains("--memory-max"), "{hint}");
}

#[test]
fn a_namespace_has_its_own_share_and_is_kept() {
    let dir = tempfile::tempdir().unwrap();
    let limited = "--namespace-collections-max 1";
    let made = run(dir.path(), &format!("{INGEST} a --namespace red {limited}")).json();
    assert_eq!(made["namespace"], "red");
    run(dir.path(), &format!("{INGEST} b --namespace blue {limited}")).ok();
    let (_, hint) = refused(run(dir.path(), &format!("{INGEST} c --namespace red {limited}")));
    assert!(hint.contains("--namespace-collections-max"), "{hint}");

    let found = stats(dir.path(), &format!(" {limited}"));
    let names: Vec<_> = found["namespaces"].as_array().expect("a list").iter().collect();
    assert_eq!((&names[0]["name"], &names[1]["name"]), (&json!("blue"), &json!("red")));
    assert_eq!(names[1]["usage"]["collections"], 1);
    assert_eq!(names[1]["limits"]["collections_max"], 1);
    let text = run(dir.path(), &format!("stats --dir DIR --read-only {limited}")).ok();
    assert!(text.contains("namespace red") && text.contains("1 of 1"), "{text}");
    assert!(text.contains("a (namespace red)"), "{text}");

    let error = run(dir.path(), &format!("{INGEST} a --namespace blue")).fails(1);
    let error: Value = serde_json::from_str(&error).expect("JSON");
    assert_eq!(error["error"]["kind"], "invalid_input", "{error}");
    // Without the option it goes where it is.
    assert_eq!(run(dir.path(), &format!("{INGEST} a")).json()["namespace"], "red");
}
