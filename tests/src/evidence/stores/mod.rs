//! T9, the simulated object store: random sequences of every verb, by three clients that try again,
//! on a store whose calls fail in every way that a network and a server can make them fail; uploads
//! whose process is killed or loses power; and a look past all of it at what the store really holds.
//! Even seeds see refusals that are not worth a second try, odd ones do not.
//!
//! # What must hold
//! - `Ok` means done exactly as said; `NotDone`, that nothing changed; after `Unknown` it is the one
//!   or the other, and reading back settles which.
//! - No body is ever read that was not put whole; of writers under one condition at most one wins.
//! - A refusal is asked for once, other failures a bounded number of times and no sooner than the
//!   store asked for; without a failure there is no error.
//! - In the end there is no upload in parts that nobody ends, and no object that nobody put.

mod races;
mod uploads;
mod verbs;
mod weather;
mod world;

use super::{Counts, Machine, Options};
use akidb_tiering::faulty::Verb;
pub use weather::fault_names;
use world::World;

/// The machine.
pub const MACHINE: Machine = Machine {
    name: "stores",
    about: "every verb on an object store that fails in every way, against a model (T9)",
    unit: "calls on a store",
    required: &[
        "put: done",
        "put: not done",
        "put: unknown, was done",
        "put: unknown, was not done",
        "delete: done",
        "complete: done",
        "upload: done",
        "upload: unknown, was done",
        "upload: unknown, was not done",
        "uploads killed",
        "uploads that lost power",
        "uploads resumed",
        "recovered: aborted",
        "recovered: object",
        "races with a winner",
        "races without one",
        "refused by the breaker",
        "swept",
    ],
    enough: 500,
    cases: None,
    play,
};

/// Every verb of a store.
pub const VERBS: [Verb; 13] = [
    Verb::Put,
    Verb::Get,
    Verb::GetRanges,
    Verb::Head,
    Verb::Delete,
    Verb::DeleteMany,
    Verb::List,
    Verb::CreateUpload,
    Verb::PutPart,
    Verb::Complete,
    Verb::Abort,
    Verb::ListParts,
    Verb::ListUploads,
];

/// One step of a life.
type Step = fn(&mut World) -> Result<(), String>;

/// The steps, and how often each comes in this many.
const STEPS: [(&str, u32, Step); 14] = [
    ("put", 6, verbs::put),
    ("get", 3, verbs::get),
    ("get ranges", 2, verbs::get_ranges),
    ("head", 1, verbs::head),
    ("delete", 2, verbs::delete),
    ("delete many", 2, verbs::delete_many),
    ("list", 2, verbs::list),
    ("begin", 2, verbs::begin),
    ("part", 4, verbs::part),
    ("complete", 2, verbs::complete),
    ("abort", 1, verbs::abort),
    ("list uploads", 1, verbs::list_uploads),
    ("race", 3, races::race),
    ("upload", 5, uploads::upload),
];

fn play(seed: u64, _: &Options, counts: &mut Counts) -> Result<(), String> {
    let mut world = World::new(seed);
    let steps = world.rng.usize(20..60);
    let weights: u32 = STEPS.iter().map(|(_, weight, _)| weight).sum();
    for at in 0..steps {
        world.change_weather();
        let mut drawn = world.rng.u32(0..weights);
        let step = STEPS.iter().find(|(_, weight, _)| match drawn.checked_sub(*weight) {
            Some(left) => {
                drawn = left;
                false
            }
            None => true,
        });
        let Some((name, _, step)) = step else { return Err("no step was drawn".to_owned()) };
        step(&mut world).map_err(|wrong| format!("step {at}, {name}: {wrong}"))?;
        world.nothing_foreign().map_err(|wrong| format!("after step {at}, {name}: {wrong}"))?;
    }
    uploads::finish(&mut world).map_err(|wrong| format!("in the end: {wrong}"))?;
    world.count_all(counts);
    Ok(())
}
