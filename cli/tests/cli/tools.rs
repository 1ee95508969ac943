//! `verify` and `wal dump`: what they print, and the exit codes that scripts go by.

use crate::{run, with_sample, write};
use akidb::vfs::{Fs, RealFs, read_file};
use std::path::{Path, PathBuf};

fn only_file(dir: &Path, part: &str) -> PathBuf {
    let entries = RealFs.list_dir(dir).expect("the directory can be read");
    let names: Vec<_> = entries.into_iter().map(|entry| entry.name).collect();
    let found: Vec<_> =
        names.iter().filter(|name| name.to_string_lossy().ends_with(part)).collect();
    let [name] = found[..] else { panic!("{part} in {names:?}") };
    dir.join(name)
}

fn flip(file: &Path, offset: usize) {
    let mut bytes = read_file(&RealFs, file).expect("it can be read");
    bytes[offset] ^= 1;
    write(file, &bytes);
}

#[test]
fn verify_says_sound_with_code_0() {
    let dir = with_sample();
    for line in ["verify DIR --json", "verify DIR --deep --json"] {
        let report = run(dir.path(), line).json();
        assert_eq!((&report["sound"], &report["findings"]), (&true.into(), &serde_json::json!([])));
    }
    let text = run(dir.path(), "verify DIR").ok();
    assert!(text.starts_with("sound; read "), "{text}");
}

#[test]
fn verify_tells_damage_that_costs_rows_from_damage_that_does_not() {
    let dir = with_sample();
    let db = akidb::blocking::Db::open(dir.path()).unwrap();
    db.collection("words").unwrap().flush().unwrap();
    db.close().unwrap();
    let segment = only_file(&dir.path().join("segments"), ".seg");
    let whole = read_file(&RealFs, &segment).unwrap();
    let inspected = run(dir.path(), &format!("inspect {}", segment.display())).ok();
    let offset = |block: &str| -> usize {
        let line = inspected.lines().find(|line| line.contains(block)).expect("such a block");
        let mut words = line.split_whitespace().skip_while(|word| *word != "offset");
        words.nth(1).and_then(|word| word.parse().ok()).expect("a number")
    };

    flip(&segment, offset("id index") + 9);
    let ran = run(dir.path(), "verify DIR");
    assert_eq!(ran.code, Some(3), "{} {}", ran.stdout, ran.stderr);
    assert!(ran.stdout.contains("damage: ") && ran.stdout.contains("akidb repair --plan"));

    write(&segment, &whole);
    flip(&segment, offset("vectors") + 70_000);
    let ran = run(dir.path(), "verify DIR --json");
    assert_eq!(ran.code, Some(4), "{} {}", ran.stdout, ran.stderr);
    let report: serde_json::Value = serde_json::from_str(&ran.stdout).unwrap();
    let finding = &report["findings"][0];
    assert_eq!(
        (&finding["severity"], &finding["kind"]),
        (&"loss".into(), &"segment_damaged".into())
    );
    assert_eq!(finding["collection"], "words");
    // An extent of 64 KiB holds parts of 44 vectors of 1,536 bytes.
    assert!((42..=44).contains(&finding["rows"].as_u64().unwrap()), "{finding}");
}

#[test]
fn verify_without_a_database_fails_and_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let text = run(dir.path(), "verify DIR").fails(1);
    assert!(text.contains("there is no database in"), "{text}");
    let text = run(dir.path(), "verify DIR/nowhere --json").fails(1);
    assert!(text.contains("\"kind\":\"not_found\""), "{text}");
    run(dir.path(), "verify").fails(2);
    run(dir.path(), "verify DIR --depth").fails(2);
}

#[test]
fn the_log_is_dumped_by_frame_by_lsn_and_by_row() {
    let dir = with_sample();
    run(dir.path(), "delete --dir DIR -C words n13766896").ok();
    let dump = run(dir.path(), "wal dump DIR --json").json();
    let frames = dump["files"][0]["frames"].as_array().unwrap();
    let data: Vec<_> = frames.iter().filter(|frame| frame["kind"] == "data").collect();
    let lsns: Vec<u64> = data.iter().map(|frame| frame["lsn"].as_u64().unwrap()).collect();
    assert_eq!(lsns, (1..=lsns.len() as u64).collect::<Vec<_>>());

    let last = lsns.len();
    let line = format!("wal dump DIR/wal --from {last} --to {last} --rows");
    let line = line.replace("DIR/wal", &dir.path().join("wal").display().to_string());
    let text = run(dir.path(), &line).ok();
    assert!(text.contains("delete 1 ids, first n13766896"), "{text}");
    assert!(text.contains("n13766896  deleted") && !text.contains("upsert"), "{text}");

    let file = only_file(&dir.path().join("wal"), ".wal");
    flip(&file, data[1]["offset"].as_u64().unwrap() as usize + 60);
    let ran = run(dir.path(), "wal dump DIR");
    assert_eq!(ran.code, Some(1), "{}", ran.stdout);
    let damaged = ran.stdout.lines().filter(|line| line.contains("DAMAGED")).count();
    let good = ran.stdout.lines().filter(|line| line.contains("  data  ")).count();
    assert_eq!((damaged, good), (1, last - 1), "{}", ran.stdout);
    assert!(ran.stderr.contains("1 of 1 files of the log are damaged"), "{}", ran.stderr);
}

#[test]
fn a_dump_of_nothing_fails_and_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let text = run(dir.path(), "wal dump DIR").fails(1);
    assert!(text.contains("there is no database in"), "{text}");
    run(dir.path(), "wal dump nowhere").fails(1);
    run(dir.path(), "wal").fails(2);
    run(dir.path(), "wal dump DIR --from x").fails(2);
}
