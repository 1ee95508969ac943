//! The machine that damages: in small directories every byte is flipped, every file cut at every
//! length and grown, every block lost or misplaced, every file exchanged, deleted, doubled or
//! replaced by an older version of itself. All must be named, or harmless.
//!
//! A case is up to 64 damages to one file. Cases are shuffled, so that a run cut short has tried a
//! bit of everything; without a budget all are tried. Own option: `find=TEXT`
//! plays only damages whose description contains the text, and misses what a full run must meet.

mod check;
mod damage;
mod golden;

use super::{Counts, Machine, Options, runner::panic_text};
use crate::run::disk_part;
use check::{Verdict, judge};
use damage::{Case, Damage, cases};
use std::panic::{AssertUnwindSafe, catch_unwind};

/// The machine.
pub(super) const MACHINE: Machine = Machine {
    name: "corruption",
    about: "damages every byte, length, block and file of small directories; named or harmless",
    unit: "damaged directories",
    required: &[
        "named at open",
        "named when read",
        "named with an offset",
        "harmless",
        "limit: the log was not sealed",
        "limit: the newest log file is gone",
        "limit: the newest log file is an earlier copy",
        "limit: the end of the log is gone with its seal",
    ],
    // Nearly all: what is required is rare.
    enough: 36_000,
    cases: Some(|_| cases().len() as u64),
    play,
};

/// Shuffles `count` cases: a step that shares no factor with it visits each once.
fn shuffled(case: u64, count: u64) -> usize {
    const STEP: u128 = 1_000_003;
    usize::try_from(u128::from(case) * STEP % u128::from(count.max(1))).unwrap_or(0)
}

fn play(case: u64, options: &Options, counts: &mut Counts) -> Result<(), String> {
    let all = cases();
    let case = &all[shuffled(case, all.len() as u64)];
    for damage in &case.damages {
        let what = describe(case, *damage);
        if options.get("find").is_some_and(|text| !what.contains(text)) {
            continue;
        }
        let verdict = catch_unwind(AssertUnwindSafe(|| try_one(case, *damage)));
        let verdict =
            verdict.unwrap_or_else(|panic| Err(format!("panic: {}", panic_text(&*panic))));
        count(case, *damage, &verdict.map_err(|wrong| format!("{what}: {wrong}"))?, counts);
    }
    Ok(())
}

fn try_one(case: &Case, damage: Damage) -> Result<Verdict, String> {
    let world = case.golden.world.fork(1);
    damage.inflict(&world.sim, case.golden, case.file).map_err(|error| error.to_string())?;
    judge(case.golden, case.file, damage, &world)
}

fn describe(case: &Case, damage: Damage) -> String {
    let other = damage.other(case.golden).map(|other| format!(" ({})", other.display()));
    let (golden, path) = (case.golden.name, case.path().display());
    format!("{golden:?}: {path}: {damage:?}{}", other.unwrap_or_default())
}

fn count(case: &Case, damage: Damage, verdict: &Verdict, counts: &mut Counts) {
    counts.state();
    let (part, name) = (disk_part(case.path()), damage.name());
    let outcome = match verdict {
        Verdict::Named { offset, at_open } => {
            counts.add("named with an offset", u64::from(*offset));
            if *at_open { "named at open" } else { "named when read" }
        }
        Verdict::Harmless => "harmless",
        Verdict::Limit(limit) => {
            counts.add(&format!("limit: {limit}"), 1);
            "limit"
        }
    };
    counts.add(outcome, 1);
    counts.add(&format!("{part}: {name}: {outcome}"), 1);
}
