//! The `akidb` command as a stranger meets it: the real binary, its output and exit codes.

mod bad_input;
mod bench;
mod commands;
mod demo;
mod inspect;
mod limits;
#[cfg(feature = "bench-s3")]
mod over_s3;
mod snapshots;
mod tiers;
mod tools;

use akidb::vfs::{RealFs, write_file_durably};
use serde_json::Value;
use std::{
    ffi::OsStr,
    path::{Path, PathBuf},
    process::Command,
};

/// How a run of the command ended.
struct Ran {
    code: Option<i32>,
    stdout: String,
    stderr: String,
}

impl Ran {
    /// The command did what it was told; returns what it printed.
    fn ok(self) -> String {
        assert_eq!(self.code, Some(0), "it failed: {}", self.stderr);
        self.stdout
    }

    /// The command did what it was told and printed exactly one JSON object.
    fn json(self) -> Value {
        let text = self.ok();
        assert_eq!(text.lines().count(), 1, "more than one line: {text}");
        let value: Value = serde_json::from_str(&text).expect("the output is JSON");
        assert!(value.is_object(), "{value}");
        value
    }

    /// The command ended with this code; returns what it said on standard error.
    fn fails(self, code: i32) -> String {
        assert_eq!(self.code, Some(code), "printed {}, said {}", self.stdout, self.stderr);
        self.stderr
    }
}

fn akidb<S: AsRef<OsStr>>(args: impl IntoIterator<Item = S>) -> Ran {
    let output =
        Command::new(env!("CARGO_BIN_EXE_akidb")).args(args).output().expect("the binary runs");
    Ran {
        code: output.status.code(),
        stdout: String::from_utf8(output.stdout).expect("the output is UTF-8"),
        stderr: String::from_utf8(output.stderr).expect("errors are UTF-8"),
    }
}

/// Runs a command line that is given as one text; `DIR`, `DIR/...`, `DATA` and `QUERIES` in it become
/// paths.
fn run(dir: &Path, line: &str) -> Ran {
    let words = line.split(' ').map(|word| match word {
        "DIR" => dir.display().to_string(),
        "DATA" => sample().display().to_string(),
        "QUERIES" => sample_queries().display().to_string(),
        other => match other.strip_prefix("DIR/") {
            Some(file) => dir.join(file).display().to_string(),
            None => other.to_owned(),
        },
    });
    akidb(words)
}

fn data_file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../data").join(name)
}

fn sample() -> PathBuf {
    data_file("wordnet-5k.parquet")
}

fn sample_queries() -> PathBuf {
    data_file("wordnet-queries-100.parquet")
}

/// A database with the sample in collection `words`.
fn with_sample() -> tempfile::TempDir {
    let dir = tempfile::tempdir().expect("there is a temporary directory");
    run(dir.path(), "ingest --dir DIR -C words --data DATA --index pos:keyword").ok();
    dir
}

fn write(path: &Path, bytes: &[u8]) {
    write_file_durably(&RealFs, path, bytes).expect("the file can be written");
}

/// The ids of the hits in the JSON of a search.
fn hit_ids(found: &Value) -> Vec<String> {
    let hits = found["hits"].as_array().expect("there is a list of hits");
    hits.iter().map(|hit| hit["id"].as_str().unwrap_or_default().to_owned()).collect()
}
