//! The model test: random sequences of every verb, restart, crash and fault on a simulated
//! machine, against an oracle. Each sequence follows from one seed.
//!
//! `AKIDB_SEED=7 cargo test -p akidb-tests --test model` replays one; `AKIDB_SEQUENCES=50000` runs
//! more, and `evidence model` goes on for hours.

use akidb_tests::run::{Tally, run_sequence};
use std::env::var;

/// Short sequences of each test below in an ordinary run; fewer of the long ones, for as many steps.
const SEQUENCES: u64 = 3000;

/// Steps of a short sequence.
const SHORT: u64 = 60;

/// Runs the seeds of one test, or the one that the environment names.
fn run(name: &str, first: u64, steps: usize, faults: bool) -> Tally {
    let number = |key| var(key).ok().and_then(|text| text.parse::<u64>().ok());
    let count = number("AKIDB_SEQUENCES").unwrap_or(SEQUENCES) * SHORT / steps as u64;
    let mut tally = Tally::default();
    match number("AKIDB_SEED") {
        Some(seed) if (first..first + (1 << 32)).contains(&seed) => {
            tally.add(&run_sequence(seed, steps, faults));
        }
        Some(_) => {}
        None => (first..first + count).for_each(|seed| {
            tally.add(&run_sequence(seed, steps, faults));
        }),
    }
    #[expect(clippy::print_stdout, reason = "how much was tried is the worth of the test")]
    {
        println!("{name}: {tally:?}");
    }
    tally
}

/// Every path was reached, else the run proves little.
fn assert_thorough(tally: &Tally) {
    if tally.sequences < SEQUENCES {
        return;
    }
    for (what, count) in [
        ("restarts", tally.restarts),
        ("lost writes", tally.lost),
        ("flushes", tally.flushes),
        ("compactions", tally.compactions),
        ("demotions", tally.demotions),
        ("promotions", tally.promotions),
        ("restores", tally.restores),
    ] {
        assert!(count >= 20, "only {count} {what}: {tally:?}");
    }
}

#[test]
fn d3_every_verb_agrees_with_the_oracle_across_restarts_and_crashes() {
    assert_thorough(&run("restarts and crashes", 0, 60, false));
}

#[test]
fn d3_long_lives_agree_with_the_oracle() {
    let tally = run("long lives", 1 << 32, 300, false);
    assert!(tally.sequences == 0 || tally.steps > 0);
}

#[test]
fn d5_d6_d12_crashes_and_failures_inside_calls_agree_with_the_oracle() {
    let tally = run("crashes and faults within calls", 1 << 33, 60, true);
    assert_thorough(&tally);
    assert!(tally.sequences < SEQUENCES || tally.failures >= 100, "{tally:?}");
}
