//! T2, exhaustive short workloads: every sequence of up to three of (put, batch, delete, flush,
//! compact, demote, reopen), once at each durability level, is crashed at every moment under every
//! policy, and every recovery at every moment of its own. Case `n` is the `n`th sequence, the
//! short ones first. Own options, for a run that is not exhaustive: `length=2` ends after those of
//! two operations, `moments=6` tries one moment in 6, `again=16` crashes one recovery in 16 again.

use super::{
    Counts, Machine, Options,
    crash::{Fate, Plan, Story},
};
use crate::{
    ops::{End, Op, Step, plain_schema},
    world::tiny_settings,
};
use akidb::{Durability, Point, PointId};
use akidb_vfs::sim::CrashPolicy::{DropAll, KeepAll, Random};
use serde_json::json;

/// The machine.
pub const MACHINE: Machine = Machine {
    name: "short",
    about: "every sequence of up to 3 operations, every crash point, every second one (T2)",
    unit: "crash states",
    required: &["sequences", "a second crash in recovery", "prefix shortened", "torn tail cut"],
    enough: 60,
    cases: Some(|options| {
        let length = number(options, "length", LENGTH_MAX).unwrap_or(LENGTH_MAX);
        LEVELS.len() as u64 * sequences(length)
    }),
    play,
};

const PLAN: Plan = Plan {
    one_in: 1,
    fates: &[
        Fate::Kill,
        Fate::Power(DropAll),
        Fate::Power(KeepAll),
        Fate::Power(Random),
        Fate::Power(Random),
    ],
    any_first: false,
    again_one_in: 1,
    again_points_one_in: 1,
    again_fates: &[Fate::Power(DropAll), Fate::Power(KeepAll), Fate::Power(Random)],
    live_on_one_in: 200,
};

const LENGTH_MAX: u32 = 3;
const OPS: u64 = 7;
const LEVELS: [Durability; 3] =
    [Durability::Sync, Durability::Interval { ms: 50 }, Durability::Memory];

/// How many sequences have at most `length` operations, the empty one included.
fn sequences(length: u32) -> u64 {
    (0..=length).map(|length| OPS.pow(length)).sum()
}

fn number(options: &Options, key: &str, default: u32) -> Result<u32, String> {
    options.get(key).map_or(Ok(default), str::parse).map_err(|_| format!("{key}=NUMBER"))
}

fn play(case: u64, options: &Options, counts: &mut Counts) -> Result<(), String> {
    let levels = LEVELS.len() as u64;
    let level = LEVELS[usize::try_from(case % levels).map_err(|error| error.to_string())?];
    let mut steps = vec![step(Op::Create(plain_schema())), step(Op::Upsert(rows(0..3, 0), level))];
    steps.extend(
        sequence(case / levels)
            .into_iter()
            .zip(1..)
            .map(|(op, version)| step(operation(op, version, level))),
    );
    let story = Story { seed: case, settings: tiny_settings(), prelude: Vec::new(), steps };
    let one_in = number(options, "moments", PLAN.one_in)?;
    let plan = Plan { one_in, again_one_in: number(options, "again", PLAN.again_one_in)?, ..PLAN };
    let trace = story.play(plan, counts).map_err(|wrong| story.explain(plan, wrong))?;
    counts.add("sequences", 1);
    counts.add("sum of traces", trace >> 32);
    Ok(())
}

/// The `number`th sequence, by length, as numbers of operations.
fn sequence(mut number: u64) -> Vec<u64> {
    let mut length = 0;
    while number >= OPS.pow(length) {
        number -= OPS.pow(length);
        length += 1;
    }
    (0..length).map(|place| number / OPS.pow(place) % OPS).collect()
}

fn operation(number: u64, version: u64, level: Durability) -> Op {
    match number {
        0 => Op::Upsert(rows(1..2, version), level),
        1 => Op::Upsert(rows(1..13, version), level),
        2 => Op::Delete(vec![PointId::from(0), PointId::from(1)], level),
        3 => Op::Flush(false),
        4 => Op::Compact(false),
        5 => Op::Demote,
        _ => Op::Restart(End::Close, None),
    }
}

fn step(op: Op) -> Step {
    Step { collection: "c0".to_owned(), op }
}

fn rows(ids: std::ops::Range<u64>, version: u64) -> Vec<Point> {
    let row = |id: u64| {
        let vector = vec![id as f32, version as f32, 1.0, -1.0];
        Point::new(id, vector).meta(json!({"color": "red", "version": version}))
    };
    ids.map(row).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn every_sequence_is_a_case() {
        let all: BTreeSet<_> = (0..sequences(3)).map(sequence).collect();
        assert_eq!(all.len(), 400, "1 + 7 + 49 + 343");
        assert!(all.iter().all(|sequence| sequence.len() <= 3));
        assert!(all.contains(&vec![6, 0, 5]));
    }
}
