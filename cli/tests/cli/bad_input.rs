//! Wrong input gets an exit code, a message that names it, and a hint; and changes nothing.

use crate::{akidb, run, sample, with_sample, write};
use akidb::vfs::{Fs, RealFs, read_file};
use serde_json::Value;

#[test]
fn a_wrong_command_line_is_code_2_with_a_suggestion() {
    let text = akidb(["serch"]).fails(2);
    assert!(text.contains("search"), "{text}");
    let text = akidb(["search", "--dir", "d", "--colection", "c"]).fails(2);
    assert!(text.contains("--collection"), "{text}");
    akidb(Vec::<&str>::new()).fails(2);
}

#[test]
fn option_values_are_checked_before_anything_is_opened() {
    let dir = tempfile::tempdir().unwrap();
    for (line, says) in [
        ("ingest --dir DIR -C c --data DATA --index pos", "pos:keyword"),
        ("ingest --dir DIR -C c --data DATA --index pos:text", "keyword, integer"),
        ("ingest --dir DIR -C c --data DATA --metric hamming", "cosine, dot or l2"),
        ("ingest --dir DIR -C c --data DATA --durability never", "interval"),
        ("ingest --dir DIR -C c --data DATA --batch 0", "1 or more"),
        ("search --dir DIR -C c --id a --filter {pos}", "not JSON"),
        (r#"search --dir DIR -C c --id a --filter {"field":"pos","equals":1}"#, "equals"),
        ("bench write --dim 70000", "65535"),
    ] {
        let text = run(dir.path(), line).fails(2);
        assert!(text.contains(says), "{line}: {text}");
    }
    assert!(RealFs.list_dir(dir.path()).unwrap().is_empty());
}

#[test]
fn reading_commands_make_no_database() {
    let dir = tempfile::tempdir().unwrap();
    let missing = dir.path().join("typo");
    for line in ["stats --dir DIR", "get --dir DIR -C c 1", "search --dir DIR -C c --id 1"] {
        let text = run(&missing, line).fails(1);
        assert!(text.contains("there is no database") && text.contains("hint:"), "{text}");
    }
    assert!(RealFs.metadata(&missing).is_err());
}

#[test]
fn an_unknown_collection_lists_those_that_exist() {
    let dir = with_sample();
    let text = run(dir.path(), "search --dir DIR -C wodrs --id a").fails(1);
    assert!(text.contains("did you mean \"words\"?"), "{text}");
    let text = run(dir.path(), "stats --dir DIR -C elsewhere --json").fails(1);
    let error: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(error["error"]["kind"], "not_found");
    assert_eq!(error["error"]["hint"], "there are: words");
}

#[test]
fn a_file_that_is_not_parquet_says_so_and_makes_no_database() {
    let dir = tempfile::tempdir().unwrap();
    let (text_file, cut_file) = (dir.path().join("rows.csv"), dir.path().join("cut.parquet"));
    write(&text_file, b"id,vector\n1,\"[0.5, 0.25]\"\n");
    let whole = read_file(&RealFs, &sample()).unwrap();
    write(&cut_file, &whole[..whole.len() / 2]);
    let db = dir.path().join("db");
    for file in [text_file, cut_file] {
        let line = format!("ingest --dir DIR -C c --data {}", file.display());
        let text = run(&db, &line).fails(1);
        assert!(text.contains("Parquet") && text.contains("hint:"), "{text}");
    }
    assert!(RealFs.metadata(&db).is_err());
}

#[test]
fn a_missing_file_is_named() {
    let dir = tempfile::tempdir().unwrap();
    for line in ["ingest --dir DIR -C c --data nowhere.parquet", "inspect nowhere.seg"] {
        let text = run(dir.path(), line).fails(1);
        assert!(text.contains("nowhere."), "{text}");
    }
}

#[test]
fn a_wrong_column_names_those_that_exist() {
    let dir = tempfile::tempdir().unwrap();
    let line = "ingest --dir DIR -C c --data DATA --vector-column embedding";
    let text = run(dir.path(), line).fails(1);
    assert!(text.contains("embedding") && text.contains("lexname"), "{text}");
}

#[test]
fn a_wrong_query_is_explained() {
    let dir = with_sample();
    let text_file = dir.path().join("query.json");
    let odd_file = dir.path().join("query.f32");
    write(&text_file, b"\"not a vector\"");
    write(&odd_file, &[0; 7]);
    for file in [text_file, odd_file] {
        let line = format!("search --dir DIR -C words --vector {}", file.display());
        let text = run(dir.path(), &line).fails(1);
        assert!(text.contains("does not hold a vector"), "{text}");
    }
    let short_file = dir.path().join("short.json");
    write(&short_file, b"[0.5, 0.25]");
    let line = format!("search --dir DIR -C words --vector {}", short_file.display());
    let text = run(dir.path(), &line).fails(1);
    assert!(text.contains("384"), "{text}");
    let text = run(dir.path(), "search --dir DIR -C words --id nobody").fails(1);
    assert!(text.contains("there is no row \"nobody\""), "{text}");
    run(dir.path(), "search --dir DIR -C words --id n13766896 -k 0").fails(1);
    let line = r#"search --dir DIR -C words --id n13766896 --filter {"field":"pos","eq":1}"#;
    let text = run(dir.path(), line).fails(1);
    assert!(text.contains("pos") && text.contains("keyword"), "{text}");
}

#[test]
fn a_collection_keeps_its_metric_and_its_name_rule() {
    let dir = with_sample();
    let text = run(dir.path(), "ingest --dir DIR -C words --data DATA --metric l2").fails(1);
    assert!(text.contains("cosine") && text.contains("l2"), "{text}");
    for name in ["..", "a/b", "Words"] {
        let text = run(dir.path(), &format!("ingest --dir DIR -C {name} --data DATA")).fails(1);
        assert!(text.contains("cannot be a name"), "{text}");
    }
}

#[test]
fn a_directory_with_other_files_is_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    write(&dir.path().join("letter.txt"), b"Dear reader");
    for line in ["demo --dir DIR", "bench write --dir DIR --rows 1"] {
        let text = run(dir.path(), line).fails(1);
        assert!(text.contains("is not empty"), "{text}");
    }
    run(dir.path(), "ingest --dir DIR -C c --data DATA").fails(1);
    assert_eq!(RealFs.list_dir(dir.path()).unwrap().len(), 1);
}

#[test]
fn a_database_that_is_open_elsewhere_says_by_whom() {
    let dir = with_sample();
    let held = akidb::blocking::Db::open(dir.path()).unwrap();
    let text = run(dir.path(), "stats --dir DIR").fails(1);
    assert!(text.contains("open elsewhere"), "{text}");
    held.close().unwrap();
    run(dir.path(), "stats --dir DIR").ok();
}
