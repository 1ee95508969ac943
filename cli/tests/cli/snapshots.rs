//! Snapshots from the command line, and their copies in other stores.

use crate::{hit_ids, run, with_sample};
use akidb::vfs::{Fs, RealFs};
use serde_json::{Value, json};

#[test]
fn snapshots_are_made_listed_restored_and_deleted() {
    let dir = with_sample();
    let made = run(dir.path(), "snapshot create --dir DIR -C words first --json").json();
    assert_eq!(made["snapshot"]["rows"], 5000);
    run(dir.path(), "delete --dir DIR -C words n13766896").ok();
    let listed = run(dir.path(), "snapshot list --dir DIR --read-only --json").json();
    assert_eq!(listed["snapshots"], json!([made["snapshot"]]));
    let restored = run(dir.path(), "snapshot restore --dir DIR first --to before --json").json();
    assert_eq!(restored["rows"], 5000);
    run(dir.path(), "get --dir DIR -C before n13766896").ok();
    run(dir.path(), "snapshot delete --dir DIR first").ok();
    let text = run(dir.path(), "snapshot delete --dir DIR first").fails(1);
    assert!(text.contains("akidb snapshot list"), "{text}");
    assert_eq!(run(dir.path(), "snapshot list --dir DIR").ok(), "no snapshots\n");
}

#[test]
fn a_copy_in_another_store_becomes_a_collection_of_a_database_that_never_saw_its_own() {
    let (dir, backup, new) =
        (with_sample(), tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let place = format!("file:{}", backup.path().display());
    let made = run(dir.path(), "snapshot create --dir DIR -C words first --json").json();
    let line = format!("snapshot copy --dir DIR first --to {place} --key 2026/first.parquet");
    let copied = run(dir.path(), &format!("{line} --json")).json();
    assert_eq!((&copied["rows"], &copied["to"]), (&json!(5000), &json!(place)));
    assert_eq!(copied["bytes"], made["snapshot"]["bytes"]);
    let file = backup.path().join("2026/first.parquet");
    let len = RealFs.metadata(&file).expect("one Parquet file").len;
    assert_eq!(Some(len), copied["bytes"].as_u64());
    let text = run(dir.path(), &line).fails(1);
    assert!(text.contains("2026/first.parquet"), "a key that is taken stays as it is: {text}");
    let search = |dir: &std::path::Path, collection: &str| {
        let line = format!("search --dir DIR -C {collection} --id n13766896 -k 9 --exact --json");
        run(dir, &line).json()
    };
    let before = search(dir.path(), "words");
    drop(dir);

    let line =
        format!("snapshot restore --dir DIR/db 2026/first.parquet --from {place} --to again");
    let restored = run(new.path(), &format!("{line} --json")).json();
    assert_eq!((&restored["rows"], &restored["collection"]), (&json!(5000), &json!("again")));
    let after = search(&new.path().join("db"), "again");
    assert_eq!(hit_ids(&after), hit_ids(&before));
    let text = run(new.path(), &line).fails(1);
    assert!(text.contains("\"again\" exists"), "{text}");
}

#[test]
fn a_copy_is_called_as_its_snapshot_unless_a_key_is_given() {
    let (dir, backup) = (with_sample(), tempfile::tempdir().unwrap());
    run(dir.path(), "snapshot create --dir DIR -C words before-import").ok();
    let line =
        format!("snapshot copy --dir DIR before-import --to file:{}", backup.path().display());
    let copied = run(dir.path(), &format!("{line} --json")).json();
    assert_eq!(copied["key"], "before-import.parquet");
    assert!(RealFs.metadata(&backup.path().join("before-import.parquet")).is_ok());
    let text = run(dir.path(), &format!("{line} --key ../outside")).fails(1);
    assert!(text.contains("../outside"), "{text}");
}

#[test]
fn what_is_mistyped_around_a_copy_makes_nothing() {
    let (dir, elsewhere) = (with_sample(), tempfile::tempdir().unwrap());
    let place = format!("file:{}", elsewhere.path().join("backup").display());
    let text = run(dir.path(), &format!("snapshot copy --dir DIR first --to {place}")).fails(1);
    assert!(text.contains("akidb snapshot list"), "{text}");
    let line = format!("snapshot restore --dir DIR/new first.parquet --from {place} --to again");
    run(elsewhere.path(), &line).fails(1);
    assert_eq!(RealFs.list_dir(elsewhere.path()).unwrap_or_default(), [], "no store, no database");

    let place = format!("file:{}", elsewhere.path().display());
    let line = format!("snapshot restore --dir DIR/new nobody.parquet --from {place} --to again");
    let error = run(elsewhere.path(), &format!("{line} --json")).fails(1);
    let error: Value = serde_json::from_str(&error).expect("JSON");
    assert_eq!(error["error"]["kind"], "not_found", "{error}");
    assert!(RealFs.metadata(&elsewhere.path().join("new")).is_err());
    run(elsewhere.path(), &format!("{line} --over")).fails(2);
    run(dir.path(), "snapshot copy --dir DIR first --to ./backup").fails(2);
}
