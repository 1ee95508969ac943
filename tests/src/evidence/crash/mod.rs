//! T1, simulated crashes: a random life over the whole engine, played once, with its disk kept at
//! many moments within its calls; every kept disk loses power or its process in several ways, is
//! recovered, and compared with what had been acknowledged at which level by then. Some of the
//! recoveries crash again, some of the recovered databases live on with every answer compared.
//!
//! One seed is one life. A state counts when a disk was recovered and all its rows compared; the
//! same disk is not tried twice for the same moment, and `distinct disks` counts each disk of a
//! life once. Everything runs on the calling thread, so a seed plays the same anywhere: some seeds
//! are played twice and must leave the same trace, and the sum of all traces is in the report.

mod explore;
mod story;

pub(in crate::evidence) use explore::{Fate, Plan};
pub(in crate::evidence) use story::Story;

use super::{Counts, Machine, Options};
use crate::{
    ops::{Op, Step, any_schema},
    world::{World, settings_for, tiny_settings},
};
use akidb_vfs::sim::CrashPolicy::{DropAll, KeepAll, Random};

/// The machine.
pub const MACHINE: Machine = Machine {
    name: "crash",
    about: "random lives on a simulated disk; power loss and kills within any call (T1)",
    unit: "crash states",
    required: &[
        "distinct disks",
        "process killed",
        "power lost, nothing unsynced kept",
        "power lost, everything kept",
        "power lost, a random part kept",
        "sectors kept",
        "sectors dropped",
        "sectors torn",
        "lengths lost",
        "directory changes kept",
        "directory changes forgotten",
        "at a WAL write",
        "at a WAL roll",
        "at a manifest write",
        "at a manifest roll",
        "at a segment file",
        "at a tombstone file",
        "at an object",
        "during creation",
        "during a write",
        "during a delete",
        "during a flush",
        "during an automatic flush or compaction",
        "during a manifest roll in use",
        "during a compaction",
        "during adding a field index",
        "during a demotion",
        "during a promotion",
        "during a snapshot",
        "during a restore",
        "during creating a collection",
        "during dropping a collection",
        "during recovery",
        "during close",
        "a second crash in recovery",
        "ends with a kept sync write",
        "ends with a kept interval write",
        "ends with a kept memory write",
        "interval writes lost",
        "memory writes lost",
        "prefix shortened",
        "holds a write never acknowledged",
        "torn tail cut",
        "orphan files reported",
        "unfinished structure change kept",
        "unfinished structure change forgotten",
        "lived on with every answer checked",
        "lives played twice with the same trace",
    ],
    enough: 400,
    cases: None,
    play,
};

const PLAN: Plan = Plan {
    one_in: 3,
    fates: &[
        Fate::Kill,
        Fate::Power(DropAll),
        Fate::Power(KeepAll),
        Fate::Power(Random),
        Fate::Power(Random),
        Fate::Power(Random),
    ],
    any_first: true,
    again_one_in: 6,
    again_points_one_in: 10,
    again_fates: &[Fate::Power(DropAll), Fate::Power(Random)],
    live_on_one_in: 40,
};

/// One life in so many begins with a manifest that is nearly full: else none would live long enough
/// to see it roll, but for the rolls of every open.
const NEARLY_FULL: u64 = 16;

/// No manifest has room for so many edits.
const PINS_MAX: usize = 1 << 16;

/// One life in so many is played twice.
const TWICE: u64 = 16;

fn play(seed: u64, _: &Options, counts: &mut Counts) -> Result<(), String> {
    let story = any_story(seed);
    let trace = story.play(PLAN, counts).map_err(|wrong| story.explain(PLAN, wrong))?;
    if seed.is_multiple_of(TWICE) {
        let again = story.play(PLAN, &mut Counts::default());
        if again.as_ref().ok() != Some(&trace) {
            return Err(format!("the second time it went another way: {trace:x}, {again:x?}"));
        }
        counts.add("lives played twice with the same trace", 1);
    }
    // Cut, so that the sum fits whatever the number of seeds.
    counts.add("sum of traces", trace >> 32);
    Ok(())
}

/// The life that follows from a seed.
fn any_story(seed: u64) -> Story {
    let mut rng = fastrand::Rng::with_seed(seed);
    let settings = settings_for(&mut rng);
    let create = Op::Create(any_schema(&mut rng));
    let create = Step { collection: "c0".to_owned(), op: create };
    let mut steps = vec![create.clone()];
    steps.extend((0..rng.usize(5..40)).map(|_| Step::any(&mut rng, false)));
    let mut prelude = Vec::new();
    if seed % NEARLY_FULL == 1 {
        // An open begins a new manifest.
        steps.retain(|step| !matches!(step.op, Op::Restart(..)));
        prelude = pins(&mut rng, &create);
    }
    Story { seed, settings, prelude, steps }
}

/// Creates a collection and pins and unpins it until the manifest has room for a few edits.
fn pins(rng: &mut fastrand::Rng, create: &Step) -> Vec<Step> {
    let pin = |at: usize| Step { op: Op::Pin(at.is_multiple_of(2)), ..create.clone() };
    let pins = pins_until_roll(create).saturating_sub(rng.usize(0..4));
    std::iter::once(create.clone()).chain((0..pins).map(pin)).collect()
}

/// How often a new collection is pinned or unpinned until the manifest rolls: found out by doing
/// it, for it follows from the format of the manifest and the room in it.
fn pins_until_roll(create: &Step) -> usize {
    let Op::Create(schema) = &create.op else { return 0 };
    let world = World::new(0, tiny_settings());
    let db = world.open().expect("an empty disk opens");
    let collection = db.create_collection(&create.collection, schema.clone()).expect("a new name");
    let first = world.files_with("MANIFEST");
    let rolls = |at: &usize| {
        collection.pin(at.is_multiple_of(2)).expect("nothing fails");
        world.files_with("MANIFEST") != first
    };
    (0..PINS_MAX).find(rolls).expect("a manifest has an end")
}
