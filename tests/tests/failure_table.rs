//! The table in `docs/durability.md` of what survives which failure is what the failures leave.

use akidb_tests::evidence::failure_table;
use akidb_vfs::{RealFs, read_file};
use std::path::Path;

#[test]
fn d1_d2_d7_the_failure_table_is_what_the_failures_leave() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/durability.md");
    let page = String::from_utf8(read_file(&RealFs, &path).expect("the page")).expect("UTF-8");
    let shown = page.split_once("<!-- failures -->").and_then(|(_, rest)| {
        rest.split_once("<!-- /failures -->").map(|(table, _)| table.trim().to_owned())
    });
    let table = failure_table().expect("every promise is kept");
    assert_eq!(
        shown.as_deref(),
        Some(table.trim()),
        "put the output of `evidence failures` between the marks in docs/durability.md"
    );
}
