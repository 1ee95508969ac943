//! T13: what concurrent clients are told of shared keys must fit one order. One seed is the life
//! of one database on a simulated disk with its real threads: several clients upsert, insert,
//! update, delete and read the same few keys, alone and in batches, while another thread flushes,
//! compacts and moves; then the process is killed, the power goes, or the database is closed, and
//! the next epoch begins. Every key's history must be linearizable (`linear`); what an open finds
//! must be what all writes up to one LSN leave, with all that was promised (`prefix`).
//!
//! The threads are real: a seed decides what is asked for, not how it interleaves, so a failure
//! may need its seed played many times. What takes longer than `PATIENCE` hangs, and its threads
//! are left behind.
//!
//! This module plays the epochs, watches them and counts; the clients are in `client`.

mod client;
mod linear;
mod prefix;
mod record;

use super::{Counts, Machine, Options, runner::panic_text};
use crate::world::{World, settings_for};
use akidb::blocking::{Collection, Db};
use akidb_vfs::{
    sim::{CrashPolicy, PowerMoment},
    thread::spawn,
};
use client::{End, Scene, Shared};
use parking_lot::Mutex;
use prefix::Epoch;
use record::{Action, Answer, Call, Level, Rows};
use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
        mpsc,
    },
    time::Duration,
};

/// The machine.
pub const MACHINE: Machine = Machine {
    name: "history",
    about: "threads on the same keys: histories are linearizable, crashes leave a prefix",
    unit: "operations",
    required: &[
        "gets",
        "upserts",
        "inserts done",
        "inserts refused",
        "updates done",
        "updates refused",
        "deletes",
        "keys of batches",
        "writes that overlapped another on their key",
        "reads that overlapped a write of their key",
        "of unknown outcome",
        "of unknown outcome, and kept",
        "lost as their level allows",
        "power losses",
        "power losses within a call",
        "kills",
        "closes",
        "flushes",
        "compactions",
        "demotions",
        "promotions",
    ],
    enough: 60,
    cases: None,
    play,
};

/// So long without a call coming back is a hang.
const PATIENCE: Duration = Duration::from_secs(30);

/// Plays one seed on a thread of its own, and gives up on it when nothing moves any more.
fn play(seed: u64, _: &Options, counts: &mut Counts) -> Result<(), String> {
    let moments = Arc::new(AtomicU64::new(0));
    let (done, wait) = mpsc::channel();
    let (watched, mut seen) = (moments.clone(), 0);
    let live = move || {
        let mut counts = Counts::default();
        let outcome = catch_unwind(AssertUnwindSafe(|| life(seed, moments, &mut counts)));
        let outcome = outcome.unwrap_or_else(|panic| Err(panic_text(&*panic)));
        // Nobody waits any more for one that was too slow.
        drop(done.send((outcome, counts)));
    };
    drop(spawn("history", live).map_err(|error| error.to_string())?);
    loop {
        if let Ok((outcome, counted)) = wait.recv_timeout(PATIENCE) {
            counts.merge(&counted);
            return outcome;
        }
        let now = watched.load(Ordering::SeqCst);
        if now == seen {
            return Err(format!("no call has come back for {PATIENCE:?}, after {now} moments"));
        }
        seen = now;
    }
}

/// What was found when the database was last opened.
struct Known {
    rows: Rows,
    lsn: u64,
}

fn life(seed: u64, moments: Arc<AtomicU64>, counts: &mut Counts) -> Result<(), String> {
    let mut rng = fastrand::Rng::with_seed(seed);
    let mut settings = settings_for(&mut rng);
    settings.memtable_pool_bytes = settings.memtable_bytes * 8;
    let ballast = if rng.bool() { 0 } else { rng.u64(50..400) };
    let shared = Arc::new(Shared {
        world: World::new(seed, settings),
        moments,
        versions: AtomicU64::new(0),
        keys: rng.u64(1..7),
    });
    let clients = rng.usize(2..6);
    let (mut db, docs) = open(&shared, ballast)?;
    let rows = client::rows(&docs, shared.keys)?;
    let mut known = Known { rows, lsn: db.stats().applied_lsn };
    drop(docs);
    for round in 0..rng.u64(2..5) {
        let end = any_end(&mut rng, &shared.world);
        let wrong = |text: String| format!("round {round}, {clients} clients, {end:?}: {text}");
        let calls = epoch(&shared, db, end, clients, &mut rng, counts).map_err(wrong)?;
        for key in 0..shared.keys {
            linear::check(key, known.rows.get(&key).copied(), &calls).map_err(wrong)?;
        }
        let (again, docs) = open(&shared, ballast).map_err(wrong)?;
        let rows = client::rows(&docs, shared.keys).map_err(wrong)?;
        let found = Known { rows, lsn: again.recovery_report().last_lsn };
        let kept = match end {
            End::Close => Level::Memory,
            End::Kill(_) => Level::Interval,
            End::Power(..) | End::Planned(_) => Level::Sync,
        };
        let fates = Epoch {
            before: &known.rows,
            first_lsn: known.lsn,
            calls: &calls,
            kept,
            found: &found.rows,
            last_lsn: found.lsn,
        };
        let fates = fates.check().map_err(wrong)?;
        counts.add("lost as their level allows", fates.lost as u64);
        counts.add("of unknown outcome, and kept", fates.unknown_kept as u64);
        count(&calls, end, counts);
        (known, db) = (found, again);
    }
    db.close().map_err(|error| format!("close: {error}"))
}

fn open(shared: &Shared, ballast: u64) -> Result<(Db, Collection), String> {
    let db = shared.world.open_with_threads().map_err(|error| format!("open: {error}"))?;
    let docs = client::collection(&db, ballast)?;
    docs.verify().map_err(|error| format!("verify: {error}"))?;
    Ok((db, docs))
}

/// Chooses an end, and plans the one that the disk brings about.
fn any_end(rng: &mut fastrand::Rng, world: &World) -> End {
    let policies = [CrashPolicy::DropAll, CrashPolicy::KeepAll, CrashPolicy::Random];
    let policy = policies[rng.usize(0..policies.len())];
    let chosen = rng.u64(20..500);
    match rng.u8(0..8) {
        0 => End::Close,
        1 => End::Kill(chosen),
        2..=4 => End::Power(policy, chosen),
        _ => {
            let moments = [PowerMoment::Before, PowerMoment::Middle, PowerMoment::After];
            world.sim.power_off_at_moment(rng.u64(10..600), moments[rng.usize(0..moments.len())]);
            End::Planned(policy)
        }
    }
}

/// Lets the clients work until the end, and sees to it that it comes. All threads are gone then.
fn epoch(
    shared: &Arc<Shared>,
    db: Db,
    end: End,
    clients: usize,
    rng: &mut fastrand::Rng,
    counts: &mut Counts,
) -> Result<Vec<Call>, String> {
    let docs = db.collection("docs").map_err(|error| error.to_string())?;
    let scene = Arc::new(Scene {
        shared: shared.clone(),
        docs,
        end,
        calls: AtomicU64::new(0),
        dead: AtomicBool::new(false),
        beside: Mutex::default(),
    });
    let (told, hear) = mpsc::channel();
    let (stop, stopped) = mpsc::channel();
    let mut threads = Vec::new();
    for number in 0..clients {
        let (scene, told) = (scene.clone(), told.clone());
        let (count, seed) = (rng.u64(50..200), rng.u64(..));
        let work = move || drop(told.send(client::client(&scene, number, count, seed)));
        threads.push(spawn("client", work).map_err(|error| error.to_string())?);
    }
    let (seed, moving, told_of_moves) = (rng.u64(..), scene.clone(), told);
    let work = move || {
        let done = client::maintain(&moving, &stopped, seed);
        drop(told_of_moves.send(done.map(|()| Vec::new())));
    };
    let mover = spawn("mover", work).map_err(|error| error.to_string())?;
    let all = threads.into_iter().all(|thread| thread.join().is_ok());
    drop(stop);
    let all = mover.join().is_ok() && all;
    let mut calls = Vec::new();
    for noted in hear {
        calls.extend(noted?);
    }
    counts.merge(&scene.beside.lock());
    bring_about(end, &scene, db)?;
    if all { Ok(calls) } else { Err("a client panicked".to_owned()) }
}

/// Sees to it that the end comes, if it has not yet: the clients may be done before it strikes.
fn bring_about(end: End, scene: &Scene, db: Db) -> Result<(), String> {
    let sim = &scene.shared.world.sim;
    let struck = scene.dead.load(Ordering::SeqCst);
    match end {
        End::Close => return db.close().map_err(|error| format!("close: {error}")),
        End::Planned(policy) => sim.reboot(policy),
        End::Power(policy, _) if !struck => sim.crash(policy),
        End::Kill(_) if !struck => sim.kill(),
        End::Power(..) | End::Kill(_) => {}
    }
    Ok(())
}

fn count(calls: &[Call], end: End, counts: &mut Counts) {
    let name = match end {
        End::Close => "closes",
        End::Kill(_) => "kills",
        End::Power(..) => "power losses",
        End::Planned(_) => "power losses within a call",
    };
    counts.add(name, 1);
    for call in calls {
        counts.state();
        let refused = call.keys.iter().any(|(_, answer)| *answer == Answer::Refused);
        let name = match (call.action, refused) {
            _ if call.is_unknown() => "of unknown outcome",
            (Action::Get, _) => "gets",
            (Action::Upsert(_), _) => "upserts",
            (Action::Delete, _) => "deletes",
            (Action::Insert(_), false) => "inserts done",
            (Action::Insert(_), true) => "inserts refused",
            (Action::Update(_), false) => "updates done",
            (Action::Update(_), true) => "updates refused",
        };
        counts.add(name, 1);
        if call.keys.len() > 1 && call.action != Action::Get {
            counts.add("keys of batches", call.keys.len() as u64);
        }
    }
    count_overlaps(calls, counts);
}

/// How often calls really ran at once: a history without overlaps is no test.
fn count_overlaps(calls: &[Call], counts: &mut Counts) {
    let mut sorted: Vec<&Call> = calls.iter().collect();
    sorted.sort_unstable_by_key(|call| call.invoked);
    let (mut reads, mut writes) = (0, 0);
    for (at, call) in sorted.iter().enumerate() {
        let until = call.returned.unwrap_or(u64::MAX);
        let during = sorted.iter().skip(at + 1).take_while(|other| other.invoked < until);
        let shares = |other: &&&Call| other.keys.iter().any(|(key, _)| call.answer(*key).is_some());
        // Calls of unknown outcome end with the epoch: they overlap everything after them.
        for other in during.take(64).filter(shares) {
            match (call.action == Action::Get, other.action == Action::Get) {
                (false, false) => writes += 1,
                (true, true) => {}
                _ => reads += 1,
            }
        }
    }
    counts.add("writes that overlapped another on their key", writes);
    counts.add("reads that overlapped a write of their key", reads);
}
