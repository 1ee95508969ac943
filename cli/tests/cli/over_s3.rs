//! The commands with a bucket as object store, against an S3 server on loopback, and what is measured
//! there.

use crate::{Ran, with_sample};
use akidb::vfs::{RealFs, read_file};
use akidb_s3server::{ACCESS_KEY, Fault, REGION, S3Server, SECRET_KEY, Seen, Strike};
use serde_json::{Value, json};
use std::{path::Path, process::Command};

/// Runs a command with the bucket of `server`, and credentials as AWS's tools find them.
fn run(server: &S3Server, dir: &Path, line: &str) -> Ran {
    run_at(server, "s3://rows/here", dir, line)
}

/// The same with another store for the database itself.
fn run_at(server: &S3Server, store: &str, dir: &Path, line: &str) -> Ran {
    let dir = dir.display().to_string();
    let words = line.split(' ').map(|word| if word == "DIR" { &*dir } else { word });
    let output = Command::new(env!("CARGO_BIN_EXE_akidb"))
        .args(words)
        .args(["--store", store, "--endpoint", &server.endpoint()])
        .args(["--region", REGION, "--s3-allow-http"])
        .env("AWS_ACCESS_KEY_ID", ACCESS_KEY)
        .env("AWS_SECRET_ACCESS_KEY", SECRET_KEY)
        .output()
        .expect("the binary runs");
    Ran {
        code: output.status.code(),
        stdout: String::from_utf8(output.stdout).expect("the output is UTF-8"),
        stderr: String::from_utf8(output.stderr).expect("errors are UTF-8"),
    }
}

fn server() -> S3Server {
    S3Server::start("rows").expect("a free port")
}

#[test]
fn a_collection_goes_to_the_bucket_and_a_search_brings_it_back() {
    let (server, dir) = (server(), with_sample());
    let moved = run(&server, dir.path(), "tier move --dir DIR -C words cold --json").json();
    assert_eq!((&moved["tier"], &moved["rows"]), (&json!("cold"), &json!(5000)));
    let below =
        |seen: &Seen| seen.target.starts_with("/rows/here/") && seen.target.contains("/c0/");
    assert!(server.seen().iter().any(below));
    let search = "search --dir DIR -C words --id n13766896 -k 1 --read-only --json";
    let found = run(&server, dir.path(), search).json();
    assert_eq!(found["hits"][0]["id"], "n13766896");
    run(&server, dir.path(), "search --dir DIR -C words --id n13766896 -k 1").ok();
    let listed = run(&server, dir.path(), "tier list --dir DIR --json").json();
    assert_eq!(listed["collections"][0]["tier"], "warm");
}

#[test]
fn a_server_that_ignores_conditions_is_named_and_refused_to_several_writers() {
    let (server, dir) = (server(), tempfile::tempdir().expect("a directory"));
    let text = run(&server, dir.path(), "store check").ok();
    assert!(text.contains("s3://rows/here") && text.contains("several writers may"), "{text}");
    server.ignore_conditions();
    let checked = run(&server, dir.path(), "store check --json");
    assert_eq!(checked.code, Some(3), "{}", checked.stderr);
    let checked: Value = serde_json::from_str(&checked.stdout).expect("JSON");
    let lacks = |name: &str| {
        let all = checked["capabilities"].as_array().expect("a list");
        all.iter().any(|one| one["name"] == name && one["there"] == false)
    };
    assert!(lacks("if-absent") && lacks("if-match"), "{checked}");
    assert_eq!((server.objects(), server.uploads()), (0, 0), "the check leaves nothing");
}

#[test]
fn what_the_store_refuses_for_good_is_a_dead_letter_that_can_be_retried_and_dropped() {
    let (server, dir) = (server(), with_sample());
    let run = |line: &str| run(&server, dir.path(), line);
    run("tier move --dir DIR -C words warm").ok();
    let puts = Strike::always().of("PUT").to(".parquet");
    server.fail(puts, Fault::status(403, "AccessDenied"));
    let text = run("tier run --dir DIR --warm-idle 0s").fails(1);
    assert!(text.contains("akidb store check"), "{text}");
    let listed = run("dlq list --dir DIR --json").json();
    let letter = &listed["dead_letters"][0];
    assert_eq!((&letter["collection"], &letter["to"]), (&json!("words"), &json!("cold")));
    let id = letter["id"].as_u64().expect("a number");
    let text = run("dlq list --dir DIR").ok();
    assert!(text.contains("words") && text.contains("AccessDenied"), "{text}");

    run(&format!("dlq retry --dir DIR {id}")).fails(1);
    server.heal();
    assert_eq!(run("dlq retry --dir DIR --all").ok(), format!("{id}: moved\n"));
    assert_eq!(run("dlq list --dir DIR --json").json()["dead_letters"], json!([]));
    let listed = run("tier list --dir DIR --json").json();
    assert_eq!(listed["collections"][0]["tier"], "cold");
}

#[test]
fn a_snapshot_is_copied_to_another_prefix_and_restored_from_it() {
    let (server, dir, new) = (server(), with_sample(), tempfile::tempdir().expect("a directory"));
    run(&server, dir.path(), "snapshot create --dir DIR -C words first").ok();
    let line = "snapshot copy --dir DIR first --to s3://rows/backup --key first.parquet --json";
    let copied = run(&server, dir.path(), line).json();
    assert_eq!(copied["to"], "s3://rows/backup");
    assert!(server.seen().iter().any(|seen| seen.target.starts_with("/rows/backup/first.parquet")));
    let taken = run(&server, dir.path(), line).fails(1);
    let taken: Value = serde_json::from_str(&taken).expect("JSON");
    assert_eq!(taken["error"]["kind"], "already_exists", "{taken}");
    // By a machine that uses another store for itself.
    let own = format!("file:{}", new.path().join("bucket").display());
    let line = "snapshot restore --dir DIR first.parquet --from s3://rows/backup --to again --json";
    let database = new.path().join("db");
    assert_eq!(run_at(&server, &own, &database, line).json()["rows"], 5000);
}

#[test]
fn wrong_buckets_and_credentials_are_told_apart() {
    let (server, dir) = (server(), tempfile::tempdir().expect("a directory"));
    for (store, key, kind) in
        [("s3://other", SECRET_KEY, "invalid_input"), ("s3://rows", "wrong", "permission_denied")]
    {
        let output = Command::new(env!("CARGO_BIN_EXE_akidb"))
            .args(["store", "check", "--json", "--store", store, "--s3-allow-http"])
            .args(["--endpoint", &server.endpoint(), "--region", REGION])
            .env("AWS_ACCESS_KEY_ID", ACCESS_KEY)
            .env("AWS_SECRET_ACCESS_KEY", key)
            .current_dir(dir.path())
            .output()
            .expect("the binary runs");
        assert_eq!(output.status.code(), Some(1));
        let error: Value = serde_json::from_slice(&output.stderr).expect("JSON");
        assert_eq!(error["error"]["kind"], kind, "{error}");
    }
}

#[test]
fn shipping_is_measured_at_both_levels_and_in_every_mode() {
    let dir = tempfile::tempdir().expect("a directory");
    let picture = dir.path().join("shipping.svg");
    for trouble in ["", " --fail-percent 5 --throttle"] {
        let line = format!(
            "bench ship --collections 12 --rows 5 --dim 8 --latency-ms 1 --concurrency 1,3 --batch 4 \
             --flushed{trouble} --svg {} --json",
            picture.display()
        );
        let result = crate::akidb(line.split_whitespace()).json();
        let points = result["points"].as_array().expect("a list");
        let modes: Vec<_> =
            points.iter().map(|point| (point["level"].as_str(), point["mode"].as_str())).collect();
        let expected = [
            ("store", "one"),
            ("store", "parallel"),
            ("store", "batched"),
            ("store", "both"),
            ("engine", "one"),
            ("engine", "parallel"),
            ("engine", "batched"),
            ("engine", "both"),
        ];
        assert_eq!(modes, expected.map(|(level, mode)| (Some(level), Some(mode))));
        for point in points {
            let sum = point["collections"].as_u64().zip(point["failed"].as_u64());
            assert_eq!(sum.map(|(shipped, failed)| shipped + failed), Some(12), "{point}");
            assert!(point["collections_per_s"].as_f64() > Some(0.0), "{point}");
            assert!(!trouble.is_empty() || point["failed"] == 0, "{point}");
            if cfg!(target_os = "linux") {
                assert!(point["peak_rss_bytes"].as_u64() > Some(0), "{point}");
            }
        }
        let svg = read_file(&RealFs, &picture).expect("a picture");
        let svg = String::from_utf8(svg).expect("it is text");
        assert!(svg.ends_with("</svg>\n"));
        for text in [
            "uploads at once",
            "an object each",
            "4 in an object",
            "demotions of a database",
            "demotions, 4 in a pack",
        ] {
            assert!(svg.contains(text), "{text}");
        }
        // 12 collections in fours are 3 objects, each put and verified.
        let batched = points.iter().find(|point| point["mode"] == "batched").expect("a point");
        assert!(!trouble.is_empty() || batched["requests"] == 6, "{batched}");
    }
}
