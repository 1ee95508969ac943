//! The seeds that once failed. One file per machine, one seed per line, with what it found behind
//! a `#`. Read by the runner; grows by hand when a failure is fixed.

use akidb_vfs::{RealFs, read_file};
use std::path::Path;

/// The seeds that `machine` plays before all others.
///
/// # Panics
/// When a line is no number: the file is part of the tests.
pub(super) fn regressions(machine: &str) -> Vec<u64> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("regressions");
    let Ok(bytes) = read_file(&RealFs, &dir.join(format!("{machine}.txt"))) else {
        return Vec::new();
    };
    let text = String::from_utf8(bytes).expect("regression files are text");
    let seed = |line: &str| line.split('#').next().unwrap_or_default().trim().to_owned();
    let seeds = text.lines().map(seed).filter(|line| !line.is_empty());
    seeds.map(|line| line.parse().expect("a regression line starts with a seed")).collect()
}
