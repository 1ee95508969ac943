//! `akidb tier`: where collections are, moved by hand, by a cycle of the policy, and what is set for one
//! of them. Everything is the library's; this asks, and prints what came of it.

use crate::{
    args::{
        StoreArgs, TierArgs, TierCommand, TierListArgs, TierMoveArgs, TierName, TierOneArgs,
        TierPolicyArgs, TierRunArgs,
    },
    database,
    error::{CliError, Result},
    output::{self, Output, Report},
    progress::Progress,
    units,
};
use akidb::{
    CollectionStats, Settings, Tier, TierCycle, TierSettings,
    blocking::Db,
    tiering::{TierOverrides, TierPolicy},
    vfs::{Clock, SystemClock},
};
use serde::Serialize;

pub(crate) fn run(args: &TierArgs, store: &StoreArgs, output: Output) -> Result<()> {
    match &args.command {
        TierCommand::List(args) => list(args, store, output),
        TierCommand::Move(args) => move_to(args, store, output),
        TierCommand::Pin(args) => pin(args, true, store, output),
        TierCommand::Unpin(args) => pin(args, false, store, output),
        TierCommand::Run(args) => cycle(args, store, output),
        TierCommand::Policy(args) => policy(args, store, output),
    }
}

/// A collection and what it takes.
#[derive(Debug, Serialize)]
struct Place {
    collection: String,
    tier: &'static str,
    moving_to: Option<&'static str>,
    pinned: bool,
    /// Since the database was opened, and the last move.
    reads: u64,
    idle_ms: u64,
    rows: u64,
    memory_bytes: u64,
    disk_bytes: u64,
    cold_bytes: u64,
    overrides: TierOverrides,
}

impl From<CollectionStats> for Place {
    fn from(stats: CollectionStats) -> Self {
        let cold_rows: u64 = stats.cold.iter().map(|cold| cold.rows).sum();
        let hot_bytes: u64 = stats.segments.iter().map(|segment| segment.hot_bytes).sum();
        Self {
            collection: stats.name,
            tier: stats.tier,
            moving_to: stats.moving_to,
            pinned: stats.pinned,
            reads: stats.accesses,
            idle_ms: stats.idle_ms,
            rows: stats.local_rows + cold_rows,
            memory_bytes: stats.memtable_bytes + hot_bytes,
            disk_bytes: stats.segments.iter().map(|segment| segment.bytes).sum(),
            cold_bytes: stats.cold.iter().map(|cold| cold.bytes).sum(),
            overrides: stats.tier_overrides,
        }
    }
}

#[derive(Debug, Serialize)]
struct Listed {
    command: &'static str,
    collections: Vec<Place>,
    dead_letters: u64,
}

impl Report for Listed {
    fn text(&self) -> String {
        if self.collections.is_empty() {
            return "no collections".to_owned();
        }
        let header = [
            "collection",
            "tier",
            "moving to",
            "pinned",
            "reads",
            "idle",
            "rows",
            "memory",
            "disk",
            "object store",
            "its own policy",
        ];
        let mut table = output::table(header);
        for place in &self.collections {
            table.add_row([
                place.collection.clone(),
                place.tier.to_owned(),
                place.moving_to.unwrap_or("-").to_owned(),
                if place.pinned { "yes" } else { "-" }.to_owned(),
                units::count(place.reads),
                units::period(place.idle_ms),
                units::count(place.rows),
                units::bytes(place.memory_bytes),
                units::bytes(place.disk_bytes),
                units::bytes(place.cold_bytes),
                overrides_text(&place.overrides),
            ]);
        }
        output::align_right(&mut table, [4, 5, 6, 7, 8, 9]);
        let mut text = format!("{table}\n\nreads and idle times count from this open");
        if self.dead_letters > 0 {
            let moves = units::things(self.dead_letters, "move");
            text.push_str(&format!("\n{moves} given up: `akidb dlq list` says why"));
        }
        text
    }
}

fn list(args: &TierListArgs, store: &StoreArgs, output: Output) -> Result<()> {
    let db = database::open_to_read(&args.dir, store, args.opening, output)?;
    let stats = db.stats();
    db.close()?;
    output.report(&Listed {
        command: "tier list",
        collections: stats.collections.into_iter().map(Place::from).collect(),
        dead_letters: stats.tiering.dead_letters,
    })
}

#[derive(Debug, Serialize)]
struct Moved {
    command: &'static str,
    /// False if it was there already.
    moved: bool,
    from: &'static str,
    elapsed_s: f64,
    #[serde(flatten)]
    place: Place,
}

impl Report for Moved {
    fn text(&self) -> String {
        let Place { collection, tier, .. } = &self.place;
        if !self.moved {
            return format!("{collection:?} is {tier}; nothing had to move");
        }
        format!(
            "moved {collection:?} from {} to {tier} in {}: {} rows, {} on disk, {} in the object store",
            self.from,
            units::micros(self.elapsed_s * 1e6),
            units::count(self.place.rows),
            units::bytes(self.place.disk_bytes),
            units::bytes(self.place.cold_bytes),
        )
    }
}

fn move_to(args: &TierMoveArgs, store: &StoreArgs, output: Output) -> Result<()> {
    let (db, collection) = database::open_collection(&args.place, store)?;
    let (clock, from) = (SystemClock::new(), collection.tier().name());
    let to = match args.to {
        TierName::Hot => Tier::Hot,
        TierName::Warm => Tier::Warm,
        TierName::Cold => Tier::Cold,
    };
    let progress = Progress::spinner(output, format!("moving {:?} to {}", collection.name(), to));
    let moved = collection.move_to(to)?;
    drop(progress);
    let elapsed_s = clock.monotonic().as_secs_f64();
    let place = Place::from(collection.stats());
    db.close()?;
    output.report(&Moved { command: "tier move", moved, from, elapsed_s, place })
}

#[derive(Debug, Serialize)]
struct Pinned {
    command: &'static str,
    collection: String,
    pinned: bool,
}

impl Report for Pinned {
    fn text(&self) -> String {
        let Self { collection, pinned, .. } = self;
        match pinned {
            true => format!("{collection:?} is pinned: it stays local"),
            false => format!("{collection:?} is not pinned: it may become cold"),
        }
    }
}

fn pin(args: &TierOneArgs, pinned: bool, store: &StoreArgs, output: Output) -> Result<()> {
    let (db, collection) = database::open_collection(&args.place, store)?;
    collection.pin(pinned)?;
    db.close()?;
    let command = if pinned { "tier pin" } else { "tier unpin" };
    output.report(&Pinned { command, collection: args.place.collection.clone(), pinned })
}

#[derive(Debug, Serialize)]
struct Ran {
    command: &'static str,
    #[serde(flatten)]
    cycle: TierCycle,
    moves: Vec<Move>,
    /// Of the moves that failed, if any.
    last_error: Option<String>,
}

#[derive(Debug, Serialize)]
struct Move {
    collection: String,
    from: &'static str,
    to: &'static str,
}

impl Report for Ran {
    fn text(&self) -> String {
        let moves = self.moves.iter();
        let mut lines: Vec<String> = moves
            .map(|Move { collection, from, to }| format!("{collection}: {from} to {to}"))
            .collect();
        let TierCycle { due, moved, refused, failed, given_up } = self.cycle;
        lines.push(format!("{} due: {moved} made", units::things(due, "move")));
        if refused > 0 {
            lines.push(format!("{refused} refused: moved or pinned by somebody else meanwhile"));
        }
        if let Some(error) = self.last_error.as_ref().filter(|_| failed > 0) {
            lines.push(format!("{failed} failed, the collections are where they were: {error}"));
        }
        if given_up > 0 {
            lines.push(format!("{given_up} of these given up: `akidb dlq list`"));
        }
        lines.join("\n")
    }
}

fn cycle(args: &TierRunArgs, store: &StoreArgs, output: Output) -> Result<()> {
    let defaults = TierPolicy::default();
    let policy = TierPolicy {
        hot_idle_ms: args.hot_idle.unwrap_or(defaults.hot_idle_ms),
        warm_idle_ms: args.warm_idle.unwrap_or(defaults.warm_idle_ms),
        memory_budget_bytes: args.memory_budget,
        disk_budget_bytes: args.disk_budget,
        ..defaults
    };
    let tiers = TierSettings { policy, ..TierSettings::default() };
    let settings = Settings { tiers, ..Settings::default() };
    let db = database::open_existing_with(&args.dir, store, settings)?;
    // The cycle that is asked for is the only one.
    db.pause_tiering();
    let before = places(&db);
    let progress = Progress::spinner(output, "moving".to_owned());
    let cycle = db.run_tiering()?;
    drop(progress);
    let last_error = db.stats().tiering.last_error;
    let moves = before
        .into_iter()
        .zip(places(&db))
        .filter(|((_, from), (_, to))| from != to)
        .map(|((collection, from), (_, to))| Move { collection, from, to })
        .collect();
    db.close()?;
    let failed = cycle.failed;
    output.report(&Ran { command: "tier run", cycle, moves, last_error })?;
    if failed > 0 { Err(CliError::MovesFailed { failed }) } else { Ok(()) }
}

/// Every collection, by name, and its tier.
fn places(db: &Db) -> Vec<(String, &'static str)> {
    db.stats().collections.into_iter().map(|one| (one.name, one.tier)).collect()
}

#[derive(Debug, Serialize)]
struct Policy {
    command: &'static str,
    collection: String,
    changed: bool,
    overrides: TierOverrides,
}

impl Report for Policy {
    fn text(&self) -> String {
        let changed = if self.changed { ", from now on" } else { "" };
        format!("{:?} moves {}{changed}", self.collection, overrides_text(&self.overrides))
    }
}

fn policy(args: &TierPolicyArgs, store: &StoreArgs, output: Output) -> Result<()> {
    let (db, collection) = database::open_collection(&args.place, store)?;
    let before = collection.stats().tier_overrides;
    let wanted = if args.clear {
        TierOverrides::default()
    } else {
        let old = before.clone();
        TierOverrides {
            automatic: if args.never { Some(false) } else { old.automatic },
            hot_idle_ms: args.hot_idle.or(old.hot_idle_ms),
            warm_idle_ms: args.warm_idle.or(old.warm_idle_ms),
            hot_accesses: args.hot_accesses.or(old.hot_accesses),
            promote_on_access: args.promote_on_access.or(old.promote_on_access),
        }
    };
    let changed = wanted != before;
    if changed {
        collection.set_tier_overrides(wanted.clone())?;
    }
    db.close()?;
    let collection = args.place.collection.clone();
    output.report(&Policy { command: "tier policy", collection, changed, overrides: wanted })
}

/// What is set for a collection, in words.
fn overrides_text(overrides: &TierOverrides) -> String {
    if overrides.automatic == Some(false) {
        return "by hand only".to_owned();
    }
    let promotes = overrides.promote_on_access;
    let words: Vec<String> = [
        overrides.hot_idle_ms.map(|ms| format!("hot to warm after {}", units::period(ms))),
        overrides.warm_idle_ms.map(|ms| format!("warm to cold after {}", units::period(ms))),
        overrides.hot_accesses.map(|reads| format!("warm to hot at {reads} reads")),
        promotes.map(|on| format!("cold to warm {}", if on { "when read" } else { "never" })),
    ]
    .into_iter()
    .flatten()
    .collect();
    if words.is_empty() { "by the policy".to_owned() } else { words.join(", ") }
}
