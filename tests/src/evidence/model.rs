//! T8, the model test for as long as wanted: random sequences of every verb, restart, crash and
//! failing call against the oracle. An even seed crashes between calls only; an odd one also
//! within calls, and makes calls fail. Every 16th sequence is long.

use super::{Counts, Machine, Options};
use crate::run::run_sequence;

/// The machine.
pub const MACHINE: Machine = Machine {
    name: "model",
    about: "random sequences of every verb, crash and fault against an oracle (T8)",
    unit: "steps",
    required: &[
        "restarts",
        "calls that failed",
        "writes lost",
        "flushes",
        "compactions",
        "demotions",
        "promotions",
        "restores",
        "fired: Eio",
        "fired: NoSpace",
        "fired: ShortWrite",
        "fired: Interrupted",
        "fired: TooManyFiles",
        "fired: SyncFailsCacheKept",
        "fired: SyncFailsCacheDropped",
    ],
    enough: 2000,
    cases: None,
    play,
};

fn play(seed: u64, _: &Options, counts: &mut Counts) -> Result<(), String> {
    let steps = if seed % 16 < 2 { 300 } else { 60 };
    let tally = run_sequence(seed, steps, !seed.is_multiple_of(2));
    (0..tally.steps).for_each(|_| counts.state());
    for (name, count) in [
        ("restarts", tally.restarts),
        ("calls that failed", tally.failures),
        ("writes lost", tally.lost),
        ("flushes", tally.flushes),
        ("compactions", tally.compactions),
        ("demotions", tally.demotions),
        ("promotions", tally.promotions),
        ("restores", tally.restores),
    ] {
        counts.add(name, count);
    }
    for (kind, count) in tally.faults {
        counts.add(&format!("fired: {kind:?}"), count);
    }
    Ok(())
}
