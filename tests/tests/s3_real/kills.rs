//! Processes that are killed with SIGKILL while they write, demote, promote and snapshot in front of a real
//! server: a run of the evidence machine `kill` with its objects there.

use akidb_tests::evidence::{Counts, Options, kill, run};

#[expect(clippy::print_stderr, reason = "a run of minutes says how often it struck what")]
fn lives(seed: u64, runs: u64, set: &[(&str, &str)]) -> Counts {
    let mut options = Options::short(seed, runs);
    options.set = vec![
        ("child".to_owned(), env!("CARGO_BIN_EXE_evidence").to_owned()),
        ("store".to_owned(), "s3".to_owned()),
    ];
    options.set.extend(set.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())));
    let report = run(&kill::MACHINE, &options, &|_, _| {});
    eprintln!("{report}");
    report.assert_passed();
    report.counts
}

#[test]
#[ignore = "needs a server: scripts/s3-real.sh"]
fn what_was_acknowledged_survives_kills_and_the_bucket_alone_gives_it_too() {
    let counts = lives(0, 10, &[]);
    assert!(counts.states() >= 20, "{counts:?}");
    for struck in ["kills within a move", "kills within a recovery"] {
        assert!(counts.get(struck) > 0, "{counts:?}");
    }
    let restored = counts.get("databases restored from the bucket alone");
    assert!(restored >= 20, "{counts:?}");
}

#[test]
#[ignore = "needs a server: scripts/s3-real.sh"]
fn kills_between_the_parts_of_large_objects_lose_nothing_and_leave_no_upload_open() {
    let counts = lives(0, 8, &[("large", "yes")]);
    assert!(counts.states() >= 20, "{counts:?}");
}
