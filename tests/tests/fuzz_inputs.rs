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

/// Every input of a kind, with its target.
fn all(kind: &str) -> Vec<(&'static Target, String, Vec<u8>)> {
    let of = |target| {
        let inputs = inputs(&folder(kind, target)).into_iter();
        inputs.map(move |(name, bytes)| (target, name, bytes))
    };
    TARGETS.iter().flat_map(of).collect()
}

#[test]
fn every_seed_passes_and_a_golden_one_is_taken() {
    let seeds = all("corpus");
    assert!(seeds.len() >= 2 * TARGETS.len());
    for (target, name, bytes) in seeds {
        println!("{}/{name}: {}", target.name, target.promise);
        let taken = (target.run)(&bytes);
        assert!(taken || !name.contains("golden"), "a good file is refused");
    }
}

#[test]
fn every_input_that_once_failed_passes() {
    for (target, name, bytes) in all("regressions") {
        println!("{}/{name}: {}", target.name, target.promise);
        (target.run)(&bytes);
    }
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

/// Cut and with a byte changed at many places: the smallest fuzzer there is. Some of the changed
/// ones must be taken, or the checksums were not made right and no decoder was reached.
#[test]
fn seeds_that_are_cut_or_changed_are_refused_or_right() {
    for target in TARGETS.iter().filter(|target| target.name != "operations") {
        let (mut whole, mut changed) = (0, 0);
        for (_, bytes) in (target.seeds)() {
            whole += usize::from((target.run)(&bytes));
            let step = 1 + bytes.len() / 60;
            for at in (0..bytes.len()).step_by(step) {
                (target.run)(&bytes[..at]);
                let mut other = bytes.clone();
                other[at] ^= 1;
                changed += usize::from((target.run)(&other));
            }
        }
        println!("{}: took {whole} seeds and {changed} changed ones", target.name);
        assert!(whole > 0 && changed > 0, "{} takes nothing", target.name);
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
