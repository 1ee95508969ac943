//! The bytes of format version 1, checked in: they open for ever, the writer still makes them, and
//! the documentation's example is them. `AKIDB_BLESS=1` writes them anew, for a new version.

use super::*;
use akidb_vfs::{RealFs, read_file, write_file_durably};
use std::path::PathBuf;

/// Compares bytes with a golden file.
#[track_caller]
pub(crate) fn check_golden(name: &str, actual: &[u8]) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name);
    if std::env::var_os("AKIDB_BLESS").is_some() {
        write_file_durably(&RealFs, &path, actual).unwrap();
    }
    let golden = read_file(&RealFs, &path).unwrap();
    assert!(golden == actual, "{name} is not what the writer makes");
}

/// The bytes of the first `hexdump -C` in a page of `docs/format`: 16 bytes a line, a `*` for
/// repeated lines, the length at the end.
#[track_caller]
pub(crate) fn example_in(page: &str) -> Vec<u8> {
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/format").join(page);
    let text = String::from_utf8(read_file(&RealFs, &docs).unwrap()).unwrap();
    let (_, rest) = text.split_once("```hexdump\n").expect("the page has an example");
    let (dump, _) = rest.split_once("```").expect("the example ends");
    let mut bytes: Vec<u8> = Vec::new();
    for line in dump.lines().filter(|line| *line != "*") {
        let (offset, rest) = line.split_at(8);
        let offset = usize::from_str_radix(offset, 16).unwrap();
        let repeated = bytes.len().saturating_sub(16)..bytes.len();
        while bytes.len() < offset {
            bytes.extend_from_within(repeated.clone());
        }
        assert_eq!(bytes.len(), offset, "the lines of the example follow each other");
        let hex = rest.split_once('|').map_or(rest, |(hex, _)| hex);
        let values = hex.split_whitespace().map(|byte| u8::from_str_radix(byte, 16).unwrap());
        bytes.extend(values);
    }
    bytes
}

fn golden_meta(bytes: &[u8]) -> SegmentMeta {
    SegmentMeta {
        number: 9,
        len: bytes.len() as u64,
        crc32: crc32fast::hash(bytes),
        rows: 3,
        deletes: 1,
        min_lsn: 11,
        max_lsn: 14,
        fields: vec![small().fields[0].0.clone()],
    }
}

#[test]
fn the_writer_makes_the_golden_bytes() {
    let fs = disk(1);
    let meta = write(&fs, 9, 3, &small()).unwrap();
    let bytes = read_file(&fs, &Path::new(DIR).join("000000000009.seg")).unwrap();
    assert_eq!(meta, golden_meta(&bytes));
    check_golden("segment-v1.seg", &bytes);
}

#[test]
fn the_golden_file_opens_on_a_real_disk() {
    let golden: PathBuf = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/segment-v1.seg");
    let bytes = read_file(&RealFs, &golden).unwrap();
    let dir = tempfile::tempdir().unwrap();
    write_file_durably(&RealFs, &dir.path().join("000000000009.seg"), &bytes).unwrap();
    for mode in BOTH_MODES {
        let meta = golden_meta(&bytes);
        let segment = Segment::open(&RealFs, dir.path(), &meta, params(3), mode).unwrap();
        assert_eq!(read(&segment).unwrap(), small());
        segment.verify().unwrap();
    }
}

#[test]
fn the_example_in_the_documentation_is_the_golden_file() {
    check_golden("segment-v1.seg", &example_in("segment.md"));
}
