//! The threads of the history machine: clients that call and note what they were told, a thread
//! that flushes, compacts and moves, and reading everything. Whoever makes the call that was
//! chosen for it ends the machine's power or process.

use super::record::{Action, Answer, Call, Level, Row, Rows, Told, Value};
use crate::{
    evidence::Counts,
    ops::{moved_or_told, plain_schema},
    world::{World, any_durability},
};
use akidb::{
    Durability, Error, ErrorKind, Point, PointId, Receipt, Record,
    blocking::{Collection, Db},
};
use akidb_vfs::sim::CrashPolicy;
use parking_lot::Mutex;
use serde_json::{Value as Json, json};
use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
        mpsc,
    },
    time::Duration,
};

/// Keys from here on are written once and read by scans alone: they make merges take long enough
/// for writes to come in between.
const BALLAST: u64 = 1000;

/// How an epoch ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// When so many calls have come back.
    Power(CrashPolicy, u64),
    Kill(u64),
    /// At a call of the file system that was chosen before; clients only stop.
    Planned(CrashPolicy),
    Close,
}

/// What the threads of one database share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) world: World,
    /// The moments so far: a number is never given twice, and a later one is higher.
    pub(super) moments: Arc<AtomicU64>,
    /// Versions so far.
    pub(super) versions: AtomicU64,
    /// Keys that all clients write.
    pub(super) keys: u64,
}

/// One epoch as its threads see it.
#[derive(Debug)]
pub(super) struct Scene {
    pub(super) shared: Arc<Shared>,
    pub(super) docs: Collection,
    pub(super) end: End,
    /// Calls that have come back.
    pub(super) calls: AtomicU64,
    /// The process or its machine is gone: what it still answers, nobody hears.
    pub(super) dead: AtomicBool,
    /// What happened beside the calls.
    pub(super) beside: Mutex<Counts>,
}

impl Scene {
    fn now(&self) -> u64 {
        self.shared.moments.fetch_add(1, Ordering::SeqCst) + 1
    }

    fn alive(&self) -> bool {
        !self.dead.load(Ordering::SeqCst) && self.shared.world.sim.is_powered()
    }

    /// Counts a call that has come back; strikes if it was the chosen one.
    fn count(&self) {
        let calls = self.calls.fetch_add(1, Ordering::SeqCst) + 1;
        let sim = &self.shared.world.sim;
        match self.end {
            End::Power(policy, chosen) if calls == chosen => {
                self.dead.store(true, Ordering::SeqCst);
                sim.crash(policy);
            }
            End::Kill(chosen) if calls == chosen => {
                self.dead.store(true, Ordering::SeqCst);
                sim.kill();
            }
            _ => {}
        }
    }
}

/// The collection, with its ballast when it is new.
pub(super) fn collection(db: &Db, ballast: u64) -> Result<Collection, String> {
    match db.collection("docs") {
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        other => return other.map_err(|error| error.to_string()),
    }
    let made = db.create_collection("docs", plain_schema()).and_then(|docs| {
        let rows = (0..ballast).map(|n| point(BALLAST + n, Row { version: 0, update: 0 }));
        docs.upsert(rows).durability(Durability::Sync).run()?;
        docs.flush()?;
        Ok(docs)
    });
    made.map_err(|error| format!("a new collection: {error}"))
}

fn point(key: u64, row: Row) -> Point {
    let Row { version, update } = row;
    let vector = vec![key as f32, version as f32, 1.0, 1.0];
    Point::new(key, vector).meta(json!({"version": version, "update": update}))
}

/// The row that a record tells, if it is whole.
fn row(record: &Record) -> Result<(u64, Row), String> {
    let number = |name: &str| record.metadata.get(name).and_then(Json::as_u64);
    let wrong = || format!("a row that nobody wrote: {record:?}");
    let PointId::U64(key) = record.id else { return Err(wrong()) };
    let (Some(version), Some(update)) = (number("version"), number("update")) else {
        return Err(wrong());
    };
    let row = Row { version, update };
    (record.vector == point(key, row).vector).then_some((key, row)).ok_or_else(wrong)
}

/// Every row, by scan; by `get` and by count there must be the same.
pub(super) fn rows(docs: &Collection, keys: u64) -> Result<Rows, String> {
    let failed = |error: Error| error.to_string();
    let rows = scanned(docs, usize::MAX)?;
    let found = docs.get((0..keys).collect::<Vec<u64>>()).map_err(failed)?;
    for (key, record) in (0..keys).zip(&found) {
        let got = record.as_ref().map(row).transpose()?.map(|(_, row)| row);
        if got.as_ref() != rows.get(&key) {
            return Err(format!("get finds {got:?} where a scan finds {:?}", rows.get(&key)));
        }
    }
    let count = docs.count(None).map_err(failed)?;
    if count != rows.len() as u64 {
        return Err(format!("{} rows, and {count} are counted", rows.len()));
    }
    Ok(rows)
}

/// The first rows in the order of their keys.
fn scanned(docs: &Collection, limit: usize) -> Result<Rows, String> {
    let mut rows = Rows::new();
    let mut after = None;
    while rows.len() < limit {
        let mut scan = docs.scan().limit(limit.min(500)).with_vectors(true);
        if let Some(cursor) = after {
            scan = scan.after(cursor);
        }
        let page = scan.run().map_err(|error| error.to_string())?;
        for record in &page.records {
            let (key, row) = row(record)?;
            if rows.insert(key, row).is_some() {
                return Err(format!("a scan finds key {key} twice"));
            }
        }
        let Some(cursor) = page.next else { break };
        after = Some(cursor);
    }
    Ok(rows)
}

/// Makes up to `count` calls, and notes them.
pub(super) fn client(
    scene: &Scene,
    client: usize,
    count: u64,
    seed: u64,
) -> Result<Vec<Call>, String> {
    let mut rng = fastrand::Rng::with_seed(seed);
    let mut calls = Vec::new();
    for _ in 0..count {
        let invoked = scene.now();
        let call = match rng.u8(0..10) {
            0..=2 => read(scene, &mut rng),
            _ => write(scene, &mut rng),
        };
        let (action, keys, receipt) = call?;
        let unknown = keys.iter().any(|(_, answer)| *answer == Answer::Unknown);
        let returned = (!unknown).then(|| scene.now());
        if !keys.is_empty() {
            calls.push(Call { client, action, keys, invoked, returned, receipt });
        }
        scene.count();
        if unknown {
            break;
        }
    }
    Ok(calls)
}

/// What was asked, what was told, and the receipt; without keys if it says nothing.
type Made = (Action, Vec<(u64, Answer)>, Option<Told>);

fn read(scene: &Scene, rng: &mut fastrand::Rng) -> Result<Made, String> {
    let keys = scene.shared.keys;
    let found: Result<BTreeMap<u64, Value>, String> = match rng.u8(0..6) {
        // A page is one moment of the collection.
        0 => scanned(&scene.docs, keys as usize)
            .map(|rows| (0..keys).map(|key| (key, rows.get(&key).copied())).collect()),
        _ => {
            let asked = pick(rng, keys, 3);
            let got = scene.docs.get(asked.clone()).map_err(|error| error.to_string());
            got.and_then(|records| {
                let value = |(key, record): (&u64, &Option<Record>)| {
                    Ok((*key, record.as_ref().map(row).transpose()?.map(|(_, row)| row)))
                };
                asked.iter().zip(&records).map(value).collect()
            })
        }
    };
    match found {
        // What a process says after its end, nobody hears.
        _ if !scene.alive() => Ok((Action::Get, Vec::new(), None)),
        Ok(found) => {
            let answers = found.into_iter().map(|(key, value)| (key, Answer::Found(value)));
            Ok((Action::Get, answers.collect(), None))
        }
        Err(error) => Err(format!("a read failed though nothing had: {error}")),
    }
}

fn write(scene: &Scene, rng: &mut fastrand::Rng) -> Result<Made, String> {
    let number = scene.shared.versions.fetch_add(1, Ordering::Relaxed) + 1;
    let (action, most) = match rng.u8(0..14) {
        0..=4 => (Action::Upsert(number), 3),
        5..=8 => (Action::Delete, 3),
        9..=11 => (Action::Insert(number), 1),
        _ => (Action::Update(number), 1),
    };
    let keys = pick(rng, scene.shared.keys, most);
    let docs = &scene.docs;
    let new = |version: u64| keys.iter().map(move |key| point(*key, Row { version, update: 0 }));
    let write = match action {
        Action::Upsert(version) => docs.upsert(new(version)),
        Action::Insert(version) => docs.insert(new(version)),
        Action::Update(update) => {
            docs.update_metadata(keys.iter().map(|key| (*key, json!({"update": update}))))
        }
        Action::Delete | Action::Get => docs.delete(keys.clone()),
    };
    let result = write.durability(any_durability(rng)).run();
    let all = |answer| keys.iter().map(|key| (*key, answer)).collect();
    match result {
        Ok(receipt) => Ok((action, all(Answer::Done), Some(told(&receipt)))),
        // Also a refusal may rest on a write that the end took.
        Err(_) if !scene.alive() => Ok((action, all(Answer::Unknown), None)),
        Err(error) => match (action, error.kind()) {
            (Action::Insert(_), ErrorKind::AlreadyExists)
            | (Action::Update(_), ErrorKind::NotFound) => Ok((action, all(Answer::Refused), None)),
            // The collection moved away again and again; nothing was changed.
            (Action::Insert(_) | Action::Update(_), ErrorKind::Unavailable) => {
                Ok((action, Vec::new(), None))
            }
            _ => Err(format!("{action:?} failed though nothing had: {error}")),
        },
    }
}

fn told(receipt: &Receipt) -> Told {
    let level = match receipt.durability {
        Durability::Sync => Level::Sync,
        Durability::Interval { .. } => Level::Interval,
        _ => Level::Memory,
    };
    Told { lsn: receipt.lsn, level }
}

/// Up to `most` different keys, mostly one.
fn pick(rng: &mut fastrand::Rng, keys: u64, most: usize) -> Vec<u64> {
    let count = if rng.u8(0..4) == 0 { rng.usize(1..=most) } else { 1 };
    let mut all: Vec<u64> = (0..keys).collect();
    rng.shuffle(&mut all);
    all.truncate(count);
    all
}

/// Flushes, compacts and moves until it is told to stop.
pub(super) fn maintain(scene: &Scene, stop: &mpsc::Receiver<()>, seed: u64) -> Result<(), String> {
    let mut rng = fastrand::Rng::with_seed(seed);
    let docs = &scene.docs;
    loop {
        let pause = Duration::from_micros(rng.u64(0..400));
        if stop.recv_timeout(pause) != Err(mpsc::RecvTimeoutError::Timeout) {
            return Ok(());
        }
        let (what, done) = match rng.u8(0..20) {
            0..=10 => ("flushes", docs.flush()),
            11..=17 => ("compactions", docs.compact()),
            18 => ("demotions", moved_or_told(docs.demote())),
            _ => ("promotions", moved_or_told(docs.promote())),
        };
        match done {
            Ok(()) => scene.beside.lock().add(what, 1),
            Err(_) if !scene.alive() => return Ok(()),
            Err(error) => return Err(format!("{what}: one failed though nothing had: {error}")),
        }
    }
}
