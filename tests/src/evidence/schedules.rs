//! T10: two or three machines that want one bucket, in every order of their calls, with crashes,
//! stalls longer than the grace, lost answers, puts that arrive late, restores from the bucket and
//! copied directories. The schedule itself is `akidb::testing::schedule`.

use super::{Counts, Machine, Options};

/// The machine.
pub const MACHINE: Machine = Machine {
    name: "schedules",
    about: "writers and sweeps that race for one bucket, call by call (T10)",
    unit: "schedules",
    required: &[
        "acknowledged",
        "copies",
        "crashes",
        "fenced",
        "garbage deleted",
        "in doubt",
        "late puts",
        "opened",
        "restored",
        "swept",
    ],
    enough: 200,
    cases: None,
    play,
};

fn play(seed: u64, _: &Options, counts: &mut Counts) -> Result<(), String> {
    for (name, times) in akidb::testing::schedule(seed)? {
        counts.add(name, times);
    }
    counts.state();
    Ok(())
}
