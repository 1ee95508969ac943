//! Plays every fuzzing input that is checked in, without a fuzzer: what a run begins with
//! (`fuzz/corpus`) and what once failed (`fuzz/regressions`). `AKIDB_BLESS=1` writes the first.

use akidb_tests::fuzz::{TARGETS, Target};
use akidb_vfs::{EntryKind, Fs, RealFs, read_file, write_file_durably};
use std::path::{Path, PathBuf};

fn folder(kind: &str, target: &Target) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz").join(kind).join(target.name)
}

/// The inputs in a folder, by name. Git keeps no empty folder, so one that is not there is empty.
fn inputs(folder: &Path) -> Vec<(String, Vec<u8>)> {
    let Ok(entries) = RealFs.list_dir(folder) else { return Vec::new() };
    let files = entries.into_iter().filter(|entry| entry.kind == EntryKind::File);
    let mut found: Vec<_> = files
        .map(|entry| {
            let bytes = read_file(&RealFs, &folder.join(&entry.name)).expect("it is readable");
            (entry.name.to_string_lossy().into_owned(), bytes)
        })
        .collect();
    found.sort();
    found
}

fn play(kind: &str) -> usize {
    let mut played = 0;
    for target in &TARGETS {
        for (name, bytes) in inputs(&folder(kind, target)) {
            println!("{kind}/{}/{name}: {}", target.name, target.promise);
            (target.run)(&bytes);
            played += 1;
        }
    }
    played
}

#[test]
fn every_seed_passes() {
    assert!(play("corpus") >= 2 * TARGETS.len());
}

#[test]
fn every_input_that_once_failed_passes() {
    play("regressions");
}

#[test]
fn the_seeds_are_made_from_the_golden_files() {
    for target in &TARGETS {
        let folder = folder("corpus", target);
        for (name, bytes) in (target.seeds)() {
            let path = folder.join(format!("seed-{name}"));
            if std::env::var_os("AKIDB_BLESS").is_some() {
                RealFs.create_dir_all(&folder).expect("the checkout is writable");
                write_file_durably(&RealFs, &path, &bytes).expect("the checkout is writable");
            }
            let there = read_file(&RealFs, &path).expect("bless to write it");
            assert!(there == bytes, "{}: not what the golden files give", path.display());
        }
    }
}

/// Cut at every length, and with a byte changed at every place: the smallest fuzzer there is.
#[test]
fn seeds_that_are_cut_or_changed_are_refused_or_right() {
    for target in TARGETS.iter().filter(|target| target.name != "operations") {
        for (_, bytes) in (target.seeds)() {
            let step = 1 + bytes.len() / 60;
            for at in (0..bytes.len()).step_by(step) {
                (target.run)(&bytes[..at]);
                let mut changed = bytes.clone();
                changed[at] ^= 0x81;
                (target.run)(&changed);
            }
        }
    }
}

#[test]
fn every_target_is_a_program_of_the_fuzzer() {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/Cargo.toml");
    let manifest = String::from_utf8(read_file(&RealFs, &manifest).expect("it is there"));
    let manifest = manifest.expect("it is text");
    let named = manifest.lines().filter_map(|line| line.strip_prefix("path = \"targets/"));
    let named: Vec<_> = named.filter_map(|line| line.strip_suffix(".rs\"")).collect();
    assert_eq!(named, TARGETS.map(|target| target.name));
}
