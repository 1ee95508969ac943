//! Two or three machines race for one bucket (T10). A short run of the evidence machine `schedules`.

use akidb_tests::evidence::{Options, run, schedules};

/// Schedules of an ordinary run; `evidence schedules` goes on for hours.
const SCHEDULES: u64 = 1000;

#[test]
fn d9_of_machines_that_race_for_one_bucket_one_has_it_and_nothing_acknowledged_is_lost() {
    let options = Options { threads: 2, ..Options::short(0, SCHEDULES) };
    let report = run(&schedules::MACHINE, &options, &|_, _| {});
    assert!(report.passed(), "{report}");
}
