//! Real processes on a real disk, killed with SIGKILL while four writers write: whatever they had
//! acknowledged is found by the next process. A short run of the evidence machine `kill`.

use akidb_tests::evidence::{Counts, Options, kill, run};

fn lives(seed: u64, runs: u64) -> Counts {
    let mut options = Options::short(seed, runs);
    options.set.push(("child".to_owned(), env!("CARGO_BIN_EXE_evidence").to_owned()));
    let report = run(&kill::MACHINE, &options, &|_, _| {});
    report.assert_passed();
    report.counts
}

#[test]
fn d1_d2_what_was_acknowledged_survives_sigkill_under_four_writers() {
    let counts = lives(0, 20);
    assert!(counts.states() >= 20, "{counts:?}");
    for level in ["sync", "interval", "memory"] {
        assert!(counts.get(&format!("acknowledged at {level}")) > 0, "{counts:?}");
    }
}

#[test]
fn d3_recovery_that_is_killed_itself_loses_nothing() {
    let counts = lives(1000, 20);
    assert!(counts.get("kills within a recovery") > 0, "{counts:?}");
}
