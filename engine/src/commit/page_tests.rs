//! The page `docs/format/log-records.md` and the golden file of version 1 show one record, and it
//! is what the encoder makes and the decoder reads.

use super::payload::{LogRecord, LoggedRow, decode, encode_upsert};
use crate::{PointId, segment::tests::golden::check_golden};

const PAGE: &str = include_str!("../../../docs/format/log-records.md");
const GOLDEN: &[u8] = include_bytes!("../../tests/golden/log-record-v1.bin");

fn example() -> LogRecord {
    let row = |id: PointId, metadata: &[u8], vector: &[f32]| LoggedRow {
        id,
        metadata: metadata.to_vec(),
        vector: vector.to_vec(),
    };
    let rows = vec![
        row(42.into(), b"{}", &[1.0, -0.5]),
        row("dog".into(), br#"{"pos":"noun"}"#, &[0.0, -0.0]),
    ];
    LogRecord::Upsert { collection: 7, rows }
}

/// The bytes of the page's `hex` block: what stands before the first two spaces of each line.
fn example_on_the_page() -> Vec<u8> {
    let block = PAGE.split("```hex\n").nth(1).and_then(|rest| rest.split("```").next()).unwrap();
    let hex = block.lines().flat_map(|line| line.split("  ").next().unwrap_or_default().split(' '));
    hex.map(|byte| u8::from_str_radix(byte, 16).unwrap()).collect()
}

#[test]
fn the_page_and_the_golden_file_show_the_same_record() {
    assert_eq!(example_on_the_page(), GOLDEN, "docs/format/log-records.md and the golden file");
    assert_eq!(decode(GOLDEN).unwrap(), example());
}

#[test]
fn the_encoder_makes_the_golden_record() {
    let LogRecord::Upsert { collection, rows } = example() else { unreachable!() };
    let rows = rows.iter().map(|row| (&row.id, &row.metadata[..], &row.vector[..]));
    check_golden("log-record-v1.bin", &encode_upsert(collection, 2, rows));
}
