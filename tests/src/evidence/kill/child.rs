//! The process that gets killed, and the one that looks afterwards: the same program, started
//! again with a [`Task`]. Works on real files with real threads; tells the parent what it did by
//! files outside the database (calls) and by its output (what was found).

use super::{
    large,
    life::{self, IDS, Level, Op, Row, Rows, WRITER_IDS},
    points::{KillFs, Moment, Trigger, database_dir, kill_myself},
    shipped,
};
use crate::ops::moved_or_told;
use akidb::{
    DbBuilder, Durability, Error, ErrorKind, FieldType, Metric, Point, PointId, Receipt, Record,
    Schema, Settings,
    blocking::{Collection, Db},
    field,
    vfs::{RealFs, thread::spawn},
};
use akidb_vfs::{Fs, OpenMode};
use serde_json::{Value, json};
use std::{
    io::Write as _,
    path::{Path, PathBuf},
    sync::Arc,
};

/// Threads that write, each to rows of its own; they share two collections.
pub(super) const WRITERS: u64 = 4;
const COLLECTIONS: [&str; 2] = ["even", "odd"];
const DIM: u64 = 8;

/// What a child is to do.
#[derive(Clone, Debug)]
pub(in crate::evidence) struct Task {
    /// The directory of this life: the database and the logs of the calls.
    pub(in crate::evidence) life: PathBuf,
    pub(in crate::evidence) role: Role,
    pub(in crate::evidence) seed: u64,
    /// Makes versions of different processes differ.
    pub(in crate::evidence) round: u64,
    /// Where it is to kill itself: the point, the moment and at which of its calls.
    pub(in crate::evidence) point: Option<(String, String, u64)>,
    /// The log's backend.
    pub(in crate::evidence) backend: String,
    /// A known bug to switch on.
    pub(in crate::evidence) defect: Option<String>,
    /// The prefix of a bucket of the server that this process was told of; else objects lie in the directory.
    pub(in crate::evidence) store: Option<String>,
}

/// The kinds of children.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::evidence) enum Role {
    /// Writes until it is killed.
    Work,
    /// Opens and closes.
    Recover,
    /// Opens, prints what is there, and closes.
    Check,
    /// As `Check`, but ends without closing.
    CheckAndDie,
    /// Has the bucket alone, and prints what is there as `Check` does.
    Look,
    /// Makes the large collection.
    Fill,
    /// Writes a little, and moves the large collection until it is killed.
    Move,
    /// `Check` and `Look` for the large collection.
    CheckLarge,
    LookLarge,
}

impl Role {
    const ALL: [(&'static str, Self); 9] = [
        ("work", Self::Work),
        ("recover", Self::Recover),
        ("check", Self::Check),
        ("check-and-die", Self::CheckAndDie),
        ("look", Self::Look),
        ("fill", Self::Fill),
        ("move", Self::Move),
        ("check-large", Self::CheckLarge),
        ("look-large", Self::LookLarge),
    ];

    /// Is about the one collection whose object goes in parts.
    fn is_large(self) -> bool {
        matches!(self, Self::Fill | Self::Move | Self::CheckLarge | Self::LookLarge)
    }

    /// Has no directory, and changes nothing.
    fn looks(self) -> bool {
        matches!(self, Self::Look | Self::LookLarge)
    }
}

impl Task {
    /// As an argument of the child.
    pub(in crate::evidence) fn text(&self) -> String {
        let role = Role::ALL.iter().find(|(_, role)| *role == self.role).map(|(name, _)| *name);
        json!({
            "life": self.life, "role": role, "seed": self.seed, "round": self.round,
            "point": self.point, "backend": self.backend, "defect": self.defect,
            "store": self.store,
        })
        .to_string()
    }

    fn parse(text: &str) -> Option<Self> {
        let task: Value = serde_json::from_str(text).ok()?;
        let role = task["role"].as_str()?;
        Some(Self {
            life: task["life"].as_str()?.into(),
            role: Role::ALL.iter().find(|(name, _)| *name == role)?.1,
            seed: task["seed"].as_u64()?,
            round: task["round"].as_u64()?,
            point: serde_json::from_value(task["point"].clone()).ok()?,
            backend: task["backend"].as_str()?.to_owned(),
            defect: task["defect"].as_str().map(str::to_owned),
            store: task["store"].as_str().map(str::to_owned),
        })
    }

    fn trigger(&self) -> Option<Trigger> {
        let (point, moment, nth) = self.point.clone()?;
        let moment = Moment::ALL.iter().find(|(name, _)| *name == moment)?.1;
        Some(Trigger::new(point, moment, nth))
    }

    /// Small, so that everything happens within a tenth of a second; different in every life.
    fn settings(&self) -> Result<Settings, String> {
        let mut rng = fastrand::Rng::with_seed(self.seed);
        let backend = serde_json::from_value(json!(self.backend));
        Ok(Settings {
            memtable_bytes: rng.choice([2 << 10, 8 << 10, 64 << 10]).unwrap_or(8 << 10),
            memtable_pool_bytes: 256 << 10,
            wal_file_bytes: rng.choice([8 << 10, 64 << 10]).unwrap_or(8 << 10),
            wal_bytes_max: 128 << 10,
            compaction_fanout: 2,
            disk_reserve_bytes: 0,
            wal_backend: backend.map_err(|_| format!("no backend {:?}", self.backend))?,
            ..Settings::default()
        })
    }

    fn builder(&self) -> Result<DbBuilder, String> {
        // A kill at a point of the log needs its calls to come through the layer that kills.
        let bare = self.backend != "std";
        let settings = if self.role.is_large() { large::settings() } else { self.settings()? };
        let looks = self.role.looks();
        let dir = if looks { self.life.join("no-directory") } else { database_dir(&self.life) };
        let mut builder = DbBuilder::new(dir)
            .settings(settings)
            .file_system(Arc::new(KillFs::new(self.trigger(), bare)));
        if let Some(prefix) = &self.store {
            builder = builder.object_store(shipped::store(prefix)?);
        }
        if looks {
            builder = builder.restore_from_store().read_only();
        }
        Ok(builder)
    }
}

/// Does what the text of a task says; the text of what went wrong.
///
/// # Errors
/// What failed though nothing but a kill may happen to this process.
pub fn child(task: &str) -> Result<(), String> {
    let task = Task::parse(task).ok_or("no task")?;
    #[cfg(feature = "defects")]
    akidb_vfs::plant(task.defect.as_deref());
    let db = match task.builder()?.open_blocking() {
        // A process may be killed before it came to its bucket.
        Err(error) if task.role == Role::Look && error.kind() == ErrorKind::NotFound => {
            say("end");
            return Ok(());
        }
        opened => opened.map_err(|error| format!("open: {error}"))?,
    };
    match task.role {
        Role::Work => work(&task, &db)?,
        Role::Recover => {}
        Role::Check | Role::CheckAndDie => {
            print_all(&task, &db)?;
            if task.store.is_some() {
                shipped::settle(&db, &COLLECTIONS)?;
            }
        }
        Role::Look => print_all(&task, &db)?,
        Role::Fill => large::fill(&db)?,
        Role::Move => told(large::move_for_ever(&task, &db)),
        Role::CheckLarge => large::check(&task, &db)?,
        Role::LookLarge => large::print(&db)?,
    }
    if task.role == Role::CheckAndDie {
        kill_myself();
    }
    db.close().map_err(|error| format!("close: {error}"))
}

/// The vector of a row follows from its id and version.
fn vector(id: u64, version: u64) -> Vec<f32> {
    (0..DIM).map(|at| ((id * 31 + version * 7 + at * at) % 251) as f32).collect()
}

fn point(id: u64, version: u64) -> Point {
    let metadata = json!({"writer": id / WRITER_IDS, "version": version, "update": 0});
    Point::new(id, vector(id, version)).meta(metadata)
}

/// The row that a record tells, if it is one of ours, whole and unchanged.
fn row(record: &Record) -> Result<(u64, Row), String> {
    let number = |name: &str| record.metadata.get(name).and_then(Value::as_u64);
    let wrong = || format!("a row that nobody wrote: {record:?}");
    let PointId::U64(id) = record.id else { return Err(wrong()) };
    let (Some(version), Some(update)) = (number("version"), number("update")) else {
        return Err(wrong());
    };
    let whole = record.vector == vector(id, version) && number("writer") == Some(id / WRITER_IDS);
    whole.then_some((id, Row { version, update })).ok_or_else(wrong)
}

pub(super) fn collection(db: &Db, name: &str) -> Result<Option<Collection>, String> {
    match db.collection(name) {
        Ok(collection) => Ok(Some(collection)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(format!("collection {name}: {error}")),
    }
}

/// Every row of a collection, by scan.
fn rows(collection: &Collection) -> Result<Rows, String> {
    let mut rows = Rows::new();
    let mut after = None;
    loop {
        let mut scan = collection.scan().limit(20).with_vectors(true);
        if let Some(cursor) = after {
            scan = scan.after(cursor);
        }
        let page = scan.run().map_err(|error| format!("scan: {error}"))?;
        for record in &page.records {
            let (id, row) = row(record)?;
            rows.insert(id, row);
        }
        let Some(cursor) = page.next else { return Ok(rows) };
        after = Some(cursor);
    }
}

fn work(task: &Task, db: &Db) -> Result<(), String> {
    for name in COLLECTIONS {
        if collection(db, name)?.is_none() {
            let schema = Schema::new(DIM as u32, Metric::L2).field("version", FieldType::Integer);
            db.create_collection(name, schema).map_err(|error| format!("create: {error}"))?;
        }
    }
    let mut threads = Vec::new();
    for writer in 0..WRITERS {
        let (task, db) = (task.clone(), db.clone());
        let write = move || told(write_for_ever(&task, &db, writer));
        threads.push(spawn("writer", write).map_err(|error| error.to_string())?);
    }
    say("started");
    told(maintain_for_ever(task, db));
    Ok(())
}

/// A thread that fails ends the process, with the text for the parent.
fn told(result: Result<(), String>) {
    if let Err(text) = result {
        say(&format!("error {text}"));
        std::process::exit(1);
    }
}

/// One line for the parent.
pub(super) fn say(line: &str) {
    // A parent that went away needs no answer.
    drop(writeln!(std::io::stdout().lock(), "{line}"));
}

/// A file outside the database that only grows: each line in one write, so that what was written
/// before a kill is whole.
pub(super) struct CallLog {
    file: Arc<dyn akidb_vfs::FsFile>,
    len: u64,
}

impl CallLog {
    pub(super) fn create(task: &Task, name: &str) -> Result<Self, String> {
        let path = log_path(&task.life, task.round, name);
        let file = RealFs.open(&path, OpenMode::ReadWrite).or_else(|_| RealFs.create_new(&path));
        Ok(Self { file: file.map_err(|error| error.to_string())?, len: 0 })
    }

    pub(super) fn line(&mut self, line: &str) -> Result<(), String> {
        let written = self.file.write_all_at(line.as_bytes(), self.len);
        self.len += line.len() as u64;
        written.map_err(|error| error.to_string())
    }
}

/// The calls that `who` made in a round.
pub(super) fn log_path(life: &Path, round: u64, who: &str) -> PathBuf {
    life.join(format!("calls-{round}-{who}"))
}

fn write_for_ever(task: &Task, db: &Db, writer: u64) -> Result<(), String> {
    let name = COLLECTIONS[(writer % 2) as usize];
    let docs = collection(db, name)?.ok_or("a collection that was just created")?;
    let mut mine = rows(&docs)?;
    mine.retain(|id, _| id / WRITER_IDS == writer);
    let mut log = CallLog::create(task, &writer.to_string())?;
    let seed = task.seed.wrapping_mul(1_000_003) ^ (task.round << 8) ^ writer;
    let mut rng = fastrand::Rng::with_seed(seed);
    let first = task.round * 1_000_000;
    // In some lives syncs are rare, so that a crash finds writes that none has covered.
    let levels = if task.seed.is_multiple_of(3) { 40 } else { 6 };
    for version in first + 1.. {
        let op = Op::any(&mut rng, writer, &mine, version);
        let level = match rng.u8(0..levels) {
            0 => Level::Interval,
            1 => Level::Memory,
            2..6 => Level::Sync,
            n if n % 2 == 0 => Level::Interval,
            _ => Level::Memory,
        };
        log.line(&life::invoked(&op, level))?;
        let receipt = call(&docs, writer, &op, level)
            .map_err(|error| format!("writer {writer}, {op:?}: {error}"))?;
        log.line(&life::acknowledged(if receipt.rows == 0 { 0 } else { receipt.lsn }))?;
        op.apply(&mut mine);
        let look = rng.u8(0..16) == 0;
        if look && mine.keys().copied().collect::<Vec<_>>() != ids(&docs, writer)? {
            return Err(format!("writer {writer} does not see its own rows after {op:?}"));
        }
    }
    Ok(())
}

/// The ids of a writer that `get` finds.
fn ids(docs: &Collection, writer: u64) -> Result<Vec<u64>, String> {
    let all: Vec<u64> = (0..IDS).map(|n| writer * WRITER_IDS + n).collect();
    let found = docs.get(all.clone()).map_err(|error| format!("get: {error}"))?;
    Ok(all.into_iter().zip(found).filter_map(|(id, row)| row.map(|_| id)).collect())
}

fn call(docs: &Collection, writer: u64, op: &Op, level: Level) -> Result<Receipt, Error> {
    let points = |ids: &[u64], version: u64| -> Vec<Point> {
        ids.iter().map(|id| point(*id, version)).collect()
    };
    let write = match op {
        Op::Upsert(ids, version) => docs.upsert(points(ids, *version)),
        Op::Insert(ids, version) => docs.insert(points(ids, *version)),
        Op::Update(ids, update) => {
            docs.update_metadata(ids.iter().map(|id| (*id, json!({"update": update}))))
        }
        Op::Delete(ids) => docs.delete(ids.iter().copied()),
        Op::DeleteBelow(version) => {
            docs.delete_where(field("writer").eq(writer) & field("version").lt(*version))
        }
    };
    let level = match level {
        Level::Sync => Durability::Sync,
        Level::Interval => Durability::Interval { ms: 20 },
        Level::Memory => Durability::Memory,
    };
    write.durability(level).run()
}

/// Everything but writes, one after the other.
fn maintain_for_ever(task: &Task, db: &Db) -> Result<(), String> {
    let mut rng = fastrand::Rng::with_seed(task.seed ^ task.round.rotate_left(40));
    let mut log = CallLog::create(task, "maintenance")?;
    for n in 0_u64.. {
        let name = COLLECTIONS[rng.usize(0..2)];
        let docs = collection(db, name)?.ok_or("a collection that was created before")?;
        let label = format!("{}-{n}", task.round);
        let kind = match rng.u8(0..12) {
            // In front of a bucket every other one is a move.
            0..=3 if task.store.is_some() => 6,
            kind => kind,
        };
        let (said, done) = match kind {
            0..=3 => (String::new(), docs.flush()),
            4 | 5 => (String::new(), docs.compact()),
            6 | 7 => {
                log.line(life::MOVING)?;
                let done = match n % 4 {
                    0 => moved_or_told(docs.demote()),
                    // In front of a bucket they share an object, which a promotion leaves half empty.
                    1 => db.demote_many(COLLECTIONS).and_then(|ends| {
                        ends.into_iter().try_for_each(moved_or_told)?;
                        moved_or_told(docs.promote())?;
                        db.run_tiering().map(drop)
                    }),
                    _ => moved_or_told(docs.promote()),
                };
                log.line(life::MOVED)?;
                (String::new(), done)
            }
            8 => (format!("field {name} f{label}"), {
                docs.add_field(&format!("f{label}"), FieldType::Keyword)
            }),
            9 | 10 => (format!("snapshot {label}"), docs.snapshot(&label).map(drop)),
            _ => {
                let all = db.list_snapshots();
                let Some(oldest) = all.first().filter(|_| all.len() > 3) else { continue };
                // From here on it may be gone.
                log.line(&format!("dropped {}\n", oldest.name))?;
                (String::new(), db.delete_snapshot(&oldest.name))
            }
        };
        done.map_err(|error| format!("maintenance {n} of {name}, {said:?}: {error}"))?;
        if !said.is_empty() {
            log.line(&format!("{said}\n"))?;
        }
    }
    Ok(())
}

/// Prints what there is, having looked at it in more than one way.
fn print_all(task: &Task, db: &Db) -> Result<(), String> {
    for name in COLLECTIONS {
        let Some(docs) = collection(db, name)? else { continue };
        docs.verify().map_err(|error| format!("verify: {error}"))?;
        let rows = rows(&docs)?;
        let count = docs.count(None).map_err(|error| format!("count: {error}"))?;
        if count != rows.len() as u64 {
            return Err(format!("{name} has {} rows and counts {count}", rows.len()));
        }
        for (id, row) in &rows {
            say(&format!("row {id} {} {}", row.version, row.update));
        }
        if let Some((id, row)) = rows.iter().next() {
            let query = vector(*id, row.version);
            let hits =
                docs.search(&query).k(1).run().map_err(|error| format!("search: {error}"))?;
            if hits.first().is_none_or(|hit| hit.score.abs() > 1e-6) {
                return Err(format!("a search for row {id} finds {hits:?}"));
            }
        }
        let schema = docs.schema();
        for known in schema.fields.iter() {
            say(&format!("field {name} {}", known.name));
        }
    }
    for (n, snapshot) in db.list_snapshots().iter().enumerate() {
        say(&format!("snapshot {}", snapshot.name));
        if n == 0 && task.seed.is_multiple_of(3) && !task.role.looks() {
            restore(db, &snapshot.name, snapshot.rows)?;
        }
    }
    say("end");
    Ok(())
}

/// A snapshot that is listed can be restored.
fn restore(db: &Db, snapshot: &str, rows: u64) -> Result<(), String> {
    let failed = |error: Error| format!("restore {snapshot}: {error}");
    if collection(db, "restored")?.is_some() {
        db.drop_collection("restored").map_err(failed)?;
    }
    let restored = db.restore_snapshot(snapshot, "restored").map_err(failed)?;
    let found = restored.count(None).map_err(failed)?;
    db.drop_collection("restored").map_err(failed)?;
    if found == rows { Ok(()) } else { Err(format!("{snapshot}: {found} rows, not {rows}")) }
}
