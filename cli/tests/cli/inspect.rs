//! `inspect` knows every kind of file that a database leaves on disk.

use crate::{run, with_sample, write};
use akidb::vfs::{EntryKind, Fs, RealFs};
use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

/// Every file under `dir`.
fn files(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in RealFs.list_dir(dir).expect("the directory can be read") {
        let path = dir.join(&entry.name);
        match entry.kind {
            EntryKind::Dir => found.extend(files(&path)),
            _ => found.push(path),
        }
    }
    found
}

#[test]
fn every_file_of_a_database_is_described() {
    let dir = with_sample();
    // A segment with tombstones in one collection, a cold object in another.
    let db = akidb::blocking::Db::open(dir.path()).unwrap();
    let words = db.collection("words").unwrap();
    words.flush().unwrap();
    words.delete(["n13766896"]).run().unwrap();
    words.flush().unwrap();
    let cold = db.create_collection("cold", akidb::Schema::new(2, akidb::Metric::Dot)).unwrap();
    cold.upsert([akidb::Point::new(1, [0.5, 0.5])]).run().unwrap();
    cold.demote().unwrap();
    db.close().unwrap();

    let mut kinds: BTreeMap<String, usize> = BTreeMap::new();
    for file in files(dir.path()) {
        // The lock holds a line of text for people.
        if file.ends_with("LOCK") {
            continue;
        }
        let line = format!("inspect {} --json", file.display());
        let report = run(dir.path(), &line).json();
        assert_eq!(report["problems"].as_array().map(Vec::len), Some(0), "{report}");
        *kinds.entry(report["kind"].as_str().unwrap().to_owned()).or_default() += 1;
        let text = run(dir.path(), &format!("inspect {}", file.display())).ok();
        assert!(text.contains(report["kind"].as_str().unwrap()), "{text}");
    }
    let kinds: Vec<&str> = kinds.keys().map(String::as_str).collect();
    assert_eq!(kinds, ["WAL file", "cold object", "manifest", "segment", "tombstone file"]);
}

#[test]
fn a_file_of_somebody_else_is_refused_by_name() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("letter.txt");
    write(&file, b"Dear reader, this is no database file");
    let text = run(dir.path(), &format!("inspect {}", file.display())).fails(1);
    assert!(text.contains("letter.txt is not a file of AkiDB"), "{text}");
    assert!(text.contains("hint: inspect knows WAL files"), "{text}");
    let text = run(dir.path(), "inspect DIR").fails(1);
    assert!(text.contains("is a directory") && text.contains("akidb stats --dir"), "{text}");
}
