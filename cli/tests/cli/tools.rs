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
    let db = akidb::blocking::Db::open(dir.path()).expect("it opens");
    db.collection("words").expect("it is there").flush().expect("it flushes");
    db.close().expect("it closes");
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

/// The sample, flushed to one segment and gone from the log, with a byte flipped in this block of
/// the segment.
fn damaged(block: &str, at: usize) -> tempfile::TempDir {
    let dir = with_sample();
    for _ in 0..2 {
        // The second time the log begins with a new file, and the old one is not needed.
        let db = akidb::blocking::Db::open(dir.path()).expect("it opens");
        db.collection("words").expect("it is there").flush().expect("it flushes");
        db.close().expect("it closes");
    }
    let segment = only_file(&dir.path().join("segments"), ".seg");
    let inspected = run(dir.path(), &format!("inspect {}", segment.display())).ok();
    let line = inspected.lines().find(|line| line.contains(block)).expect("such a block");
    let mut words = line.split_whitespace().skip_while(|word| *word != "offset");
    let offset: usize = words.nth(1).and_then(|word| word.parse().ok()).expect("a number");
    flip(&segment, offset + at);
    dir
}

#[test]
fn repair_plans_first_and_changes_nothing_then_does_it() {
    let dir = damaged("id index", 9);
    let ran = run(dir.path(), "repair DIR");
    assert_eq!(ran.code, Some(3), "{} {}", ran.stdout, ran.stderr);
    assert!(ran.stdout.contains("nothing is lost") && ran.stdout.contains("--apply"));
    let plan = run(dir.path(), "repair DIR --plan --json");
    assert_eq!(plan.code, Some(3), "{}", plan.stderr);
    assert_eq!(run(dir.path(), "verify DIR").code, Some(3));

    let done = run(dir.path(), "repair DIR --apply --json").json();
    assert_eq!((&done["applied"], &done["losses"]), (&true.into(), &serde_json::json!([])));
    let report = Path::new(done["kept_in"].as_str().unwrap()).join("report.json");
    assert!(String::from_utf8(read_file(&RealFs, &report).unwrap()).unwrap().contains("steps"));
    run(dir.path(), "verify DIR --deep").ok();
    let text = run(dir.path(), "repair DIR").ok();
    assert!(text.contains("nothing to repair"), "{text}");
    run(dir.path(), "get --dir DIR -C words n13766896").ok();
}

#[test]
fn what_is_lost_is_named_by_the_plan_and_left_out_by_a_read_that_allows_it() {
    let dir = damaged("vectors", 70_000);
    let ran = run(dir.path(), "repair DIR --json");
    assert_eq!(ran.code, Some(4), "{} {}", ran.stdout, ran.stderr);
    let plan: serde_json::Value = serde_json::from_str(&ran.stdout).unwrap();
    let lost = plan["losses"][0]["ids"].as_array().unwrap();
    assert_eq!(plan["losses"][0]["rows"], lost.len());
    let id = lost[0].as_str().unwrap();

    // Exact, so that the damaged rows are read whichever cells are near.
    let search = "search --dir DIR -C words --id n13766896 -k 3 --exact";
    let text = run(dir.path(), &format!("{search} --read-only")).fails(1);
    assert!(text.contains("do not match their checksum") || text.contains("checksum"), "{text}");
    let ran = run(dir.path(), &format!("{search} --read-only --allow-damage"));
    assert!(ran.stderr.contains("warning: lost: "), "{}", ran.stderr);
    assert!(ran.ok().contains("n13766896"));
    let get = format!("get --dir DIR -C words {id} --read-only --allow-damage");
    assert!(run(dir.path(), &get).fails(1).contains("do not exist"));
}

#[test]
fn a_database_that_is_open_elsewhere_is_read_and_not_repaired() {
    let dir = with_sample();
    let db = akidb::blocking::Db::open(dir.path()).expect("it opens");
    run(dir.path(), "get --dir DIR -C words n13766896").fails(1);
    run(dir.path(), "get --dir DIR -C words n13766896 --read-only").ok();
    run(dir.path(), "stats --dir DIR --read-only").ok();
    run(dir.path(), "verify DIR").ok();
    run(dir.path(), "repair DIR").ok();
    let text = run(dir.path(), "repair DIR --apply").fails(1);
    assert!(text.contains("held") || text.contains("open") || text.contains("process"), "{text}");
    db.close().expect("it closes");
    run(dir.path(), "get --dir DIR -C words n13766896 --allow-damage").fails(2);
    run(dir.path(), "repair DIR --plan --apply").fails(2);
    run(dir.path(), "repair").fails(2);
    let empty = tempfile::tempdir().unwrap();
    for line in ["repair DIR", "repair DIR --apply", "stats --dir DIR --read-only"] {
        run(empty.path(), line).fails(1);
    }
    assert!(RealFs.list_dir(empty.path()).unwrap().is_empty(), "something was made");
}
