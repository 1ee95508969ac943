//! A real process on a real disk, killed with SIGKILL while four writers write: whatever it had
//! acknowledged is found by the next process. The child is this test program itself, started again
//! for the one test that is its body.

use akidb::{DbBuilder, Durability, Metric, Point, Schema, Settings, blocking::Db};
use serde_json::json;
use std::{
    collections::BTreeMap,
    env,
    io::{BufRead, BufReader, Write},
    path::Path,
    process::{Child, Command, Stdio},
};

const DIR: &str = "AKIDB_KILL_DIR";
const ROUND: &str = "AKIDB_KILL_ROUND";
const LEVEL: &str = "AKIDB_KILL_LEVEL";
const WRITERS: u64 = 4;
/// Ids of a writer in a round: `writer * WRITER + round * ROUND_IDS + n`.
const WRITER_IDS: u64 = 1_000_000_000;
const ROUND_IDS: u64 = 1_000_000;
/// One id per writer that is upserted again and again; no `n` is 0.
const HOT: u64 = 0;

fn open(dir: &Path) -> Db {
    let settings = Settings {
        memtable_bytes: 64 << 10,
        memtable_pool_bytes: 512 << 10,
        wal_file_bytes: 64 << 10,
        wal_bytes_max: 256 << 10,
        compaction_fanout: 2,
        disk_reserve_bytes: 0,
        ..Settings::default()
    };
    DbBuilder::new(dir).settings(settings).open_blocking().expect("the directory opens")
}

fn row(id: u64, version: u64) -> Point {
    let vector: Vec<f32> = (0..16).map(|at| ((id * 31 + version * 7 + at) % 251) as f32).collect();
    Point::new(id, vector).meta(json!({"id": id, "version": version}))
}

/// One line, in one write: the parent reads only whole lines.
fn acknowledge(what: &str, id: u64, version: u64) {
    let mut out = std::io::stdout().lock();
    let told = writeln!(out, "ack {what} {id} {version}").and_then(|()| out.flush());
    told.expect("the parent listens until this process is dead");
}

fn write_for_ever(docs: &akidb::blocking::Collection, writer: u64, round: u64, level: Durability) {
    let first = writer * WRITER_IDS + round * ROUND_IDS;
    for n in 1..ROUND_IDS {
        let id = first + n;
        if n % 5 == 0 {
            // A batch, then a delete of one row of it.
            let batch = [row(id, 1), row(id + ROUND_IDS / 2, 1)];
            docs.upsert(batch).durability(level).run().expect("a batch");
            acknowledge("row", id, 1);
            docs.delete([id + ROUND_IDS / 2]).durability(level).run().expect("a delete");
            acknowledge("gone", id + ROUND_IDS / 2, 0);
        } else {
            docs.insert([row(id, 1)]).durability(level).run().expect("a new id");
            acknowledge("row", id, 1);
        }
        let hot = writer * WRITER_IDS + HOT;
        docs.upsert([row(hot, first + n)]).durability(level).run().expect("an upsert");
        acknowledge("hot", hot, first + n);
    }
}

#[test]
fn child_entry() {
    let Some(dir) = env::var_os(DIR) else { return };
    let round = env::var(ROUND).expect("set with the directory").parse().expect("a number");
    let level = match env::var(LEVEL).as_deref() {
        Ok("interval") => Durability::Interval { ms: 3_600_000 },
        _ => Durability::Sync,
    };
    let db = open(Path::new(&dir));
    let docs = match db.collection("docs") {
        Ok(docs) => docs,
        Err(_) => {
            let schema = Schema::new(16, Metric::L2).field("version", akidb::FieldType::Integer);
            db.create_collection("docs", schema).expect("a new name")
        }
    };
    let writers: Vec<_> = (0..WRITERS)
        .map(|writer| {
            let docs = docs.clone();
            let work = move || write_for_ever(&docs, writer, round, level);
            akidb::vfs::thread::spawn("writer", work).expect("a thread")
        })
        .collect();
    for writer in writers {
        writer.join().expect("a writer ends only with the process");
    }
}

fn start(dir: &Path, round: u64, level: &str) -> Child {
    Command::new(env::current_exe().expect("this program"))
        .args(["--exact", "child_entry", "--nocapture", "--test-threads=1"])
        .env(DIR, dir)
        .env(ROUND, round.to_string())
        .env(LEVEL, level)
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit())
        .spawn()
        .expect("this program starts again")
}

/// Everything acknowledged so far.
#[derive(Default)]
struct Acknowledged {
    rows: BTreeMap<u64, u64>,
    gone: Vec<u64>,
    hot: BTreeMap<u64, u64>,
    count: u64,
}

impl Acknowledged {
    fn note(&mut self, line: &str) {
        let mut words = line.split(' ').skip_while(|word| *word != "ack").skip(1);
        let (Some(what), Some(id), Some(version)) = (words.next(), words.next(), words.next())
        else {
            return;
        };
        let (Ok(id), Ok(version)) = (id.parse(), version.parse()) else { return };
        self.count += 1;
        match what {
            "row" => drop(self.rows.insert(id, version)),
            "gone" => self.gone.push(id),
            _ => drop(self.hot.insert(id, version)),
        }
    }

    fn check(&self, db: &Db) {
        let docs = db.collection("docs").expect("it was written to");
        let read = |id: u64| docs.get([id]).expect("a read").pop().flatten();
        for (id, version) in &self.rows {
            let found =
                read(*id).unwrap_or_else(|| panic!("row {id} was acknowledged and is gone"));
            let wanted = row(*id, *version);
            assert_eq!(found.vector, wanted.vector, "vector of {id}");
            assert_eq!(json!(found.metadata), wanted.metadata, "metadata of {id}");
        }
        for id in &self.gone {
            assert!(read(*id).is_none(), "row {id} was deleted and is back");
        }
        for (id, version) in &self.hot {
            let found =
                read(*id).unwrap_or_else(|| panic!("row {id} was acknowledged and is gone"));
            let newer = found.metadata["version"].as_u64().unwrap_or(0);
            assert!(newer >= *version, "row {id} is back at version {newer}, not {version}");
            assert_eq!(found.vector, row(*id, newer).vector, "vector of {id}");
        }
    }
}

fn rounds_of_kills(level: &str, rounds: u64) {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("db");
    let mut known = Acknowledged::default();
    let mut rng = fastrand::Rng::with_seed(rounds);
    for round in 0..rounds {
        let mut child = start(&path, round, level);
        let mut lines = BufReader::new(child.stdout.take().expect("it is piped")).lines();
        let deadline = rng.u64(1..600);
        let before = known.count;
        while known.count < before + deadline {
            let Some(Ok(line)) = lines.next() else { panic!("the child died by itself") };
            known.note(&line);
        }
        child.kill().expect("SIGKILL");
        // What it told before it died, it had acknowledged.
        lines.map_while(Result::ok).for_each(|line| known.note(&line));
        child.wait().expect("its end");
        let db = open(&path);
        known.check(&db);
        if round % 2 == 0 {
            db.close().expect("it closes");
        } else {
            drop(db);
        }
    }
    assert!(known.count > rounds * 10, "only {} acknowledgements", known.count);
}

#[test]
fn d1_every_acknowledged_write_survives_sigkill_under_four_writers() {
    rounds_of_kills("sync", 8);
}

#[test]
fn d2_sigkill_takes_nothing_that_was_acknowledged_at_interval() {
    rounds_of_kills("interval", 6);
}
