//! Writers, flush, compaction and moves between tiers race on a simulated disk, and the power goes
//! in the middle: of every writer exactly its writes up to the recovered LSN are there (D1 to D3).
//! The threads make it different in every run; what is checked holds in each.
//! `AKIDB_SEQUENCES=5000` runs more.

use akidb::{
    Durability, ErrorKind, Point, PointId,
    blocking::{Collection, Db},
};
use akidb_tests::{
    ops::{moved_or_told, plain_schema},
    run::scan_all,
    world::{World, any_durability, tiny_settings},
};
use akidb_vfs::sim::CrashPolicy;
use parking_lot::Mutex;
use serde_json::json;
use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

const WRITERS: u64 = 3;
/// Ids of one writer; no other writes them.
const IDS: u64 = 12;

/// What a writer did: ids with their new version, or none for a delete.
#[derive(Clone, Debug)]
struct Done {
    ids: Vec<u64>,
    version: Option<u64>,
    /// `None`: it failed, so it may or may not exist.
    lsn: Option<u64>,
    synced: bool,
}

type State = BTreeMap<PointId, u64>;

fn row(id: u64, version: u64) -> Point {
    Point::new(id, vec![id as f32, version as f32, 1.0, 1.0]).meta(json!({"version": version}))
}

/// Writes until the power goes; returns what was done, in order.
fn write(docs: &Collection, writer: u64, seed: u64, acks: &AtomicU64) -> Vec<Done> {
    let mut rng = fastrand::Rng::with_seed(seed * 31 + writer);
    let mut story = Vec::new();
    for version in 1.. {
        let first = writer * 1000;
        let count = if rng.bool() { 1 } else { rng.u64(1..8) };
        let mut ids: Vec<u64> = (0..count).map(|_| first + rng.u64(0..IDS)).collect();
        ids.sort_unstable();
        ids.dedup();
        let asked = any_durability(&mut rng);
        let delete = rng.u8(0..3) == 0;
        let version = (!delete).then_some(seed * 1_000_000 + version);
        let result = match version {
            Some(version) => {
                docs.upsert(ids.iter().map(|id| row(*id, version))).durability(asked).run()
            }
            None => docs.delete(ids.clone()).durability(asked).run(),
        };
        let receipt = result.as_ref().ok();
        let lsn = receipt.map(|receipt| receipt.lsn);
        let synced = receipt.is_some_and(|receipt| receipt.durability == Durability::Sync);
        story.push(Done { ids, version, lsn, synced });
        if result.is_err() {
            break;
        }
        acks.fetch_add(1, Ordering::Relaxed);
    }
    story
}

/// Moves rows about until the power goes.
fn maintain(db: &Db, docs: &Collection, seed: u64) {
    let mut rng = fastrand::Rng::with_seed(seed);
    loop {
        let result = match rng.u8(0..6) {
            0 => docs.compact(),
            1 => moved_or_told(docs.demote()),
            2 => moved_or_told(docs.promote()),
            3 => docs.count(None).map(drop),
            4 => docs.snapshot("s").map(drop).and_then(|()| db.delete_snapshot("s")),
            _ => docs.flush(),
        };
        if let Err(error) = result
            && error.kind() != ErrorKind::AlreadyExists
        {
            return;
        }
    }
}

fn apply(state: &mut State, done: &Done) {
    for id in &done.ids {
        match done.version {
            Some(version) => drop(state.insert(PointId::from(*id), version)),
            None => drop(state.remove(&PointId::from(*id))),
        }
    }
}

/// The states that a writer's rows may have after recovery up to `found`.
fn allowed(before: &State, story: &[Done], found: u64) -> Vec<State> {
    let mut state = before.clone();
    let mut uncertain = None;
    for done in story {
        match done.lsn {
            Some(lsn) if lsn <= found => apply(&mut state, done),
            Some(lsn) => assert!(!done.synced, "LSN {lsn} was synced, recovery ends at {found}"),
            None => {
                let mut with = state.clone();
                apply(&mut with, done);
                uncertain = Some(with);
            }
        }
    }
    let lost = story.iter().any(|done| done.lsn.is_some_and(|lsn| lsn > found));
    // A failed write comes after all others of its writer, so not where one of those is lost.
    [Some(state), uncertain.filter(|_| !lost)].into_iter().flatten().collect()
}

fn of_writer(state: &State, writer: u64) -> State {
    let range = PointId::from(writer * 1000)..PointId::from((writer + 1) * 1000);
    state.range(range).map(|(id, version)| (id.clone(), *version)).collect()
}

fn read(docs: &Collection) -> State {
    let rows = scan_all(docs, 10).expect("a scan");
    let version =
        |row: &akidb_tests::oracle::Row| row.metadata["version"].as_u64().expect("a number");
    for (id, row) in &rows {
        assert_eq!(row.vector[1], version(row) as f32, "row {id} mixes two versions");
    }
    rows.iter().map(|(id, row)| (id.clone(), version(row))).collect()
}

fn race(seed: u64) {
    let mut rng = fastrand::Rng::with_seed(seed);
    let mut settings = tiny_settings();
    settings.memtable_bytes = 2 << 10;
    settings.memtable_pool_bytes = 32 << 10;
    let world = World::new(seed, settings);
    let mut known = State::new();
    for round in 0..3 {
        let db = world.open_with_threads().expect("it opens");
        let docs = match db.collection("docs") {
            Ok(docs) => docs,
            Err(_) => db.create_collection("docs", plain_schema()).expect("a new name"),
        };
        let acks = Arc::new(AtomicU64::new(0));
        let stories = Arc::new(Mutex::new(Vec::new()));
        let mut threads: Vec<_> = (0..WRITERS)
            .map(|writer| {
                let (docs, acks, stories) = (docs.clone(), acks.clone(), stories.clone());
                let work = move || {
                    let story = write(&docs, writer, seed * 10 + round, &acks);
                    stories.lock().push((writer, story));
                };
                akidb::vfs::thread::spawn("writer", work).expect("a thread")
            })
            .collect();
        let (mover_db, mover) = (db.clone(), docs.clone());
        let work = move || maintain(&mover_db, &mover, seed + round);
        threads.push(akidb::vfs::thread::spawn("mover", work).expect("a thread"));
        let enough = rng.u64(5..120);
        while acks.load(Ordering::Relaxed) < enough {
            std::thread::yield_now();
        }
        let policy = [CrashPolicy::DropAll, CrashPolicy::KeepAll, CrashPolicy::Random];
        world.sim.crash(policy[rng.usize(0..3)]);
        threads.into_iter().for_each(|thread| thread.join().expect("no panic"));
        drop((docs, db));

        let db = world.open().unwrap_or_else(|error| panic!("seed {seed}: {error:?}"));
        let found = db.recovery_report().last_lsn;
        let state = read(&db.collection("docs").expect("it is there"));
        for (writer, story) in stories.lock().iter() {
            let mine = of_writer(&state, *writer);
            let wanted = allowed(&of_writer(&known, *writer), story, found);
            assert!(
                wanted.contains(&mine),
                "seed {seed} round {round}: writer {writer} has {mine:?} at LSN {found}, not one \
                 of {wanted:?}; it did {story:?}"
            );
        }
        known = state;
        db.close().expect("it closes");
    }
}

#[test]
fn d3_a_power_loss_amid_racing_writers_flushes_and_moves_leaves_a_prefix() {
    let count = std::env::var("AKIDB_SEQUENCES").ok().and_then(|text| text.parse().ok());
    (0..count.unwrap_or(150)).for_each(race);
}
