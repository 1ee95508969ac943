//! The directories that are damaged: small, closed (but for one that was killed), and together
//! with files of every kind. Made once, by the code that ships, always the same.

use crate::{
    ops::plain_schema,
    oracle::Rows,
    run::scan_all,
    world::{World, tiny_settings},
};
use akidb::{Point, ReadMode, Settings, blocking::Db};
use serde_json::json;
use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
    sync::OnceLock,
};

/// The rows of each collection.
pub(super) type AllRows = BTreeMap<String, Rows>;

/// A directory and all that is known of it.
#[derive(Debug)]
pub(super) struct Golden {
    pub(super) name: &'static str,
    pub(super) world: World,
    /// Every file with its bytes.
    pub(super) files: Vec<(PathBuf, Vec<u8>)>,
    /// Earlier versions of these files.
    pub(super) older: Vec<(PathBuf, Vec<u8>)>,
    /// The rows after each step of its life, the last at the end.
    pub(super) history: Vec<AllRows>,
    /// Closed, hence sealed.
    pub(super) closed: bool,
}

impl Golden {
    /// What must be read.
    pub(super) fn rows(&self) -> &AllRows {
        self.history.last().expect("a life has steps")
    }
}

/// A life while it is lived.
struct Maker {
    world: World,
    db: Option<Db>,
    history: Vec<AllRows>,
    versions: BTreeSet<(PathBuf, Vec<u8>)>,
}

impl Maker {
    fn new(seed: u64, settings: Settings) -> Self {
        let world = World::new(seed, settings);
        let db = world.open().expect("an empty disk opens");
        Self { world, db: Some(db), history: Vec::new(), versions: BTreeSet::new() }
    }

    /// Does something, and remembers what was there after it.
    fn step(&mut self, act: impl FnOnce(&Db) -> akidb::Result<()>) {
        let db = self.db.as_ref().expect("open while it is made");
        act(db).expect("a golden life has no failures");
        let mut all = AllRows::new();
        for name in db.list_collections().expect("it lists") {
            let collection = db.collection(&name).expect("it was listed");
            // A scan would promote: what is cold is as it was before.
            let before = self.history.last().and_then(|rows| rows.get(&name));
            let rows = match before {
                Some(rows) if collection.stats().tier == "cold" => rows.clone(),
                _ => scan_all(&collection, 10).expect("it can be read"),
            };
            all.insert(name, rows);
        }
        self.history.push(all);
        self.versions.extend(self.world.sim.image());
    }

    fn finish(mut self, name: &'static str, close: bool) -> Golden {
        let db = self.db.take().expect("open while it is made");
        if close {
            db.close().expect("it closes");
        } else {
            self.world.sim.kill();
            drop(db);
        }
        let files = self.world.sim.image();
        let is_current = |version: &(PathBuf, Vec<u8>)| files.contains(version);
        let known = |path: &PathBuf| files.iter().any(|(file, _)| file == path);
        let older = self.versions.into_iter();
        let older = older.filter(|version| !is_current(version) && known(&version.0)).collect();
        let world = self.world;
        Golden { name, world, files, older, history: self.history, closed: close }
    }
}

fn row(n: u64) -> Point {
    let color = ["red", "blue"][n as usize % 2];
    let meta = json!({"color": color, "n": n, "text": "x".repeat(n as usize % 30)});
    Point::new(n, vec![n as f32, 1.0, 2.0, 3.0]).meta(meta)
}

fn settings(read_mode: ReadMode) -> Settings {
    Settings { read_mode, compaction_auto: false, ..tiny_settings() }
}

fn docs(db: &Db) -> akidb::Result<akidb::blocking::Collection> {
    match db.collection("docs") {
        Ok(docs) => Ok(docs),
        Err(_) => db.create_collection("docs", plain_schema()),
    }
}

fn put(db: &Db, ids: std::ops::Range<u64>) -> akidb::Result<()> {
    docs(db)?.upsert(ids.map(row)).run().map(drop)
}

fn delete(db: &Db, ids: std::ops::Range<u64>) -> akidb::Result<()> {
    docs(db)?.delete(ids).run().map(drop)
}

fn log_only(name: &'static str, close: bool) -> Golden {
    let mut maker = Maker::new(1, settings(ReadMode::Mmap));
    for n in 0..6 {
        maker.step(|db| put(db, n * 2..n * 2 + 3));
    }
    maker.step(|db| delete(db, 3..5));
    maker.step(|db| put(db, 20..22));
    maker.finish(name, close)
}

fn long_log() -> Golden {
    let mut settings = settings(ReadMode::Mmap);
    settings.memtable_bytes = 1 << 20;
    settings.memtable_pool_bytes = 1 << 20;
    settings.wal_bytes_max = 1 << 20;
    let mut maker = Maker::new(2, settings);
    for n in 0..24 {
        maker.step(|db| put(db, n..n + 8));
        maker.step(|db| delete(db, n..n + 1));
    }
    maker.finish("a log of several files", true)
}

fn flushed(name: &'static str, read_mode: ReadMode) -> Golden {
    let mut maker = Maker::new(3, settings(read_mode));
    maker.step(|db| put(db, 0..20));
    maker.step(|db| docs(db)?.flush());
    maker.step(|db| delete(db, 1..4));
    maker.step(|db| put(db, 18..25));
    maker.step(|db| docs(db)?.flush());
    maker.step(|db| put(db, 30..34));
    maker.step(|db| delete(db, 31..32));
    maker.finish(name, true)
}

fn compacted() -> Golden {
    let mut maker = Maker::new(4, settings(ReadMode::Mmap));
    maker.step(|db| put(db, 0..20));
    maker.step(|db| docs(db)?.flush());
    maker.step(|db| put(db, 10..25));
    maker.step(|db| docs(db)?.compact());
    maker.step(|db| delete(db, 5..9));
    maker.step(|db| docs(db)?.add_field("n", akidb::FieldType::Integer));
    maker.step(|db| delete(db, 12..13));
    maker.step(|db| put(db, 40..44));
    maker.step(|db| docs(db)?.flush());
    maker.finish("compacted, with tombstones", true)
}

fn cold() -> Golden {
    let mut maker = Maker::new(5, settings(ReadMode::Pread));
    let cold = |db: &Db| db.collection("cold");
    maker.step(|db| {
        let cold = db.create_collection("cold", plain_schema())?;
        cold.upsert((0..8).map(row)).run().map(drop)
    });
    maker.step(|db| cold(db)?.demote().map(drop));
    maker.step(|db| put(db, 0..12));
    maker.step(|db| docs(db)?.snapshot("one").map(drop));
    maker.step(|db| delete(db, 2..5));
    maker.step(|db| docs(db)?.demote().map(drop));
    maker.step(|db| docs(db)?.promote().map(drop));
    maker.step(|db| docs(db)?.snapshot("two").map(drop));
    maker.step(|db| db.restore_snapshot("one", "copy").map(drop));
    maker.step(|db| db.collection("copy")?.delete([1_u64]).run().map(drop));
    maker.finish("cold, with snapshots", true)
}

/// All of them.
pub(super) fn goldens() -> &'static [Golden] {
    static GOLDENS: OnceLock<Vec<Golden>> = OnceLock::new();
    GOLDENS.get_or_init(|| {
        vec![
            log_only("a log", true),
            log_only("a log, killed before its seal", false),
            long_log(),
            flushed("flushed, mapped", ReadMode::Mmap),
            flushed("flushed, read by pread", ReadMode::Pread),
            compacted(),
            cold(),
        ]
    })
}
