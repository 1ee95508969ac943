//! The machine that fills disks: under one open database a small disk becomes full and is freed
//! again, a hundred times a life. Whatever is tried while it is full (writes, flushes, compactions,
//! edits of the manifest, snapshots) succeeds or is refused for space; nothing poisons, reads and
//! deletes go on, and when there is space again so does everything, without a restart.
//!
//! Own options: `disk=image` (the default: an ext4 file system in an image of 64 MiB, which needs
//! root and a loop device; where there is none the run fails and says why) or `disk=sim`;
//! `cycles=N` (100); for the image `dir=PATH`, and `backend=std|uring|tokio_uring|auto` for its log.
//! Every second life keeps a reserve; on a full disk these must be able to delete, and to make room
//! by deleting alone.

mod disk;

use super::{Counts, Machine, Options, runner::panic_text};
use crate::{ops::plain_schema, run::scan_all};
use akidb::{
    ErrorKind, Point,
    blocking::{Collection, Db},
};
use akidb_vfs::thread::spawn;
use disk::{Ballast, Disk};
use serde_json::json;
use std::{collections::BTreeMap, sync::mpsc, thread::park_timeout, time::Duration};

/// The machine.
pub(super) const MACHINE: Machine = Machine {
    name: "fulldisk",
    about: "fills a small disk and frees it again, 100 times under one open database",
    unit: "full disks",
    required: &[
        "refused: upsert",
        "refused: flush",
        "refused: compact",
        "refused: snapshot",
        "went well on a full disk: delete",
        "deletes alone made room",
        "databases opened again",
    ],
    enough: 2,
    cases: None,
    play,
};

/// A life that takes longer hangs: a hundred cycles are a minute or two.
const PATIENCE: Duration = Duration::from_secs(1800);
/// A write that was refused is tried again after so long, so many times: merges of a small disk end
/// long before.
const TRY_AGAIN: Duration = Duration::from_millis(100);
const TRIES_MAX: u32 = 600;
/// Calls on a disk that was found full.
const CALLS_WHEN_FULL: u32 = 12;
/// More batches than any of the disks holds.
const BATCHES_MAX: u32 = 5000;
/// Batches after which somebody else takes more of the disk.
const BATCHES_FEW: u32 = 50;

fn play(seed: u64, options: &Options, counts: &mut Counts) -> Result<(), String> {
    let options = options.clone();
    let (done, wait) = mpsc::channel();
    let life = spawn("full-disk", move || {
        let mut counts = Counts::default();
        let outcome = live(seed, &options, &mut counts);
        drop(done.send((outcome, counts)));
    });
    let life = life.map_err(|error| error.to_string())?;
    match wait.recv_timeout(PATIENCE) {
        Ok((outcome, counted)) => {
            counts.merge(&counted);
            outcome
        }
        Err(mpsc::RecvTimeoutError::Timeout) => Err("it hangs".to_owned()),
        Err(mpsc::RecvTimeoutError::Disconnected) => {
            Err(life.join().map_or_else(|panic| panic_text(&*panic), |()| "no outcome".to_owned()))
        }
    }
}

fn live(seed: u64, options: &Options, counts: &mut Counts) -> Result<(), String> {
    let cycles: u64 = options.get("cycles").map_or(Ok(100), str::parse).map_err(|_| "cycles=N")?;
    let reserved = seed % 2 == 1;
    // A planted bug is looked for where nothing else can fail.
    let usual = if options.get("defect").is_some() { "sim" } else { "image" };
    let disk = match options.get("disk").unwrap_or(usual) {
        "sim" => Disk::simulated(seed, reserved),
        "image" => {
            Disk::image(options.get("dir"), reserved, options.get("backend").unwrap_or("std"))?
        }
        other => return Err(format!("there is no disk={other}; take image or sim")),
    };
    let db = disk.open().map_err(|error| error.to_string())?;
    let docs = db.create_collection("docs", plain_schema()).map_err(|error| error.to_string())?;
    let rng = fastrand::Rng::with_seed(seed);
    let (rows, ids) = (BTreeMap::new(), disk.few);
    let mut life = Life { disk, db: Some(db), docs, rng, rows, ids, version: 0 };
    for cycle in 0..cycles {
        let freed = if reserved && cycle % 5 == 4 {
            life.cycle_of_deletes(counts)
        } else {
            life.cycle_of_ballast(cycle, counts)
        };
        freed.map_err(|text| format!("cycle {cycle}: {text}"))?;
        life.check(cycle % 10 == 0).map_err(|text| format!("after cycle {cycle}: {text}"))?;
        counts.state();
    }
    life.open_again(counts)
}

/// A database, its disk, and what must be in it.
struct Life {
    db: Option<Db>,
    docs: Collection,
    rng: fastrand::Rng,
    /// Versions by id.
    rows: BTreeMap<u64, u64>,
    /// Ids are below this, or not far above.
    ids: u64,
    version: u64,
    /// The last to go: a file system in use cannot be unmounted.
    disk: Disk,
}

/// What is tried on a full disk.
#[derive(Clone, Copy, Debug)]
enum Verb {
    Upsert,
    Delete,
    Flush,
    Compact,
    Pin,
    Snapshot,
}

impl Life {
    /// The disk becomes full because somebody else fills it, and somebody else frees it.
    fn cycle_of_ballast(&mut self, cycle: u64, counts: &mut Counts) -> Result<(), String> {
        let mut leave = self.rng.u64(0..self.disk.leave_max);
        let mut ballast = Ballast::lay(&self.disk, leave)?;
        // What merges away as fast as it is written never fills the disk.
        while !self.fill(BATCHES_FEW, counts)? {
            leave /= 2;
            ballast.grow(&self.disk, leave)?;
        }
        if cycle % 10 == 3 {
            ballast.grow(&self.disk, 0)?;
            // The manifest has room for some edits: a good many make it start a new file.
            for _ in 0..300 {
                self.attempt(Verb::Pin, counts)?;
            }
        }
        for _ in 0..CALLS_WHEN_FULL {
            let all = [Verb::Upsert, Verb::Delete, Verb::Flush, Verb::Compact, Verb::Snapshot];
            let verb = self.rng.choice(all).unwrap_or(Verb::Upsert);
            self.attempt(verb, counts)?;
        }
        self.delete_from_the_reserve(counts)?;
        self.check(false).map_err(|text| format!("while it is full: {text}"))?;
        self.disk.lose_power_aside(&self.rows, counts)?;
        drop(ballast);
        self.must_work("space is back", counts)
    }

    /// The database fills the disk by itself, and makes room by deleting.
    fn cycle_of_deletes(&mut self, counts: &mut Counts) -> Result<(), String> {
        self.ids = self.disk.many;
        if !self.fill(BATCHES_MAX, counts)? {
            return Err("the disk never fills".to_owned());
        }
        if !self.disk.reserve_is_there()? {
            return Err(format!("upserts took the reserve: {} bytes are left", self.disk.free()?));
        }
        self.ids = self.disk.few;
        let goes = |id: &&u64| **id >= self.disk.few || !(**id).is_multiple_of(4);
        let goes: Vec<u64> = self.rows.keys().filter(goes).copied().collect();
        for ids in goes.chunks(50) {
            self.delete(ids).map_err(|error| format!("a delete with a reserve: {error}"))?;
        }
        let (docs, text) = (&self.docs, |error: akidb::Error| format!("{error:?} {error}"));
        docs.flush().map_err(|error| format!("a flush with a reserve: {}", text(error)))?;
        docs.compact().map_err(|error| format!("a merge with a reserve: {}", text(error)))?;
        counts.add("deletes alone made room", 1);
        self.must_work("rows are gone", counts)
    }

    /// Writes until that is refused; was it, within so many batches?
    fn fill(&mut self, batches: u32, counts: &mut Counts) -> Result<bool, String> {
        for _ in 0..batches {
            if !self.attempt(Verb::Upsert, counts)? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Tries something; was there room for it?
    fn attempt(&mut self, verb: Verb, counts: &mut Counts) -> Result<bool, String> {
        let name = format!("{verb:?}").to_lowercase();
        let outcome = match verb {
            Verb::Upsert => self.upsert(),
            Verb::Delete => {
                let first = self.rng.u64(0..self.ids);
                self.delete(&[first, first + 1])
            }
            Verb::Flush => self.docs.flush(),
            Verb::Compact => self.docs.compact(),
            Verb::Pin => self.docs.pin(self.rng.bool()),
            Verb::Snapshot if self.db().list_snapshots().is_empty() => {
                self.docs.snapshot("s").map(drop)
            }
            Verb::Snapshot => self.db().delete_snapshot("s"),
        };
        if let Some(reason) = self.db().stats().poisoned {
            return Err(format!("{name} on a full disk poisons: {reason}"));
        }
        match outcome {
            Ok(()) => counts.add(&format!("went well on a full disk: {name}"), 1),
            Err(error) if error.kind() == ErrorKind::NoSpace => {
                counts.add(&format!("refused: {name}"), 1);
                return Ok(false);
            }
            Err(error) => return Err(format!("{name} on a full disk: {error:?} {error}")),
        }
        Ok(true)
    }

    /// While the reserve is not used up, deletes are not refused.
    fn delete_from_the_reserve(&mut self, counts: &mut Counts) -> Result<(), String> {
        if self.disk.settings.disk_reserve_bytes == 0 {
            return Ok(());
        }
        let needed = self.disk.settings.disk_reserve_bytes / 2;
        if self.disk.free()? > needed && !self.attempt(Verb::Delete, counts)? {
            return Err(format!("a delete is refused with {} bytes free", self.disk.free()?));
        }
        Ok(())
    }

    fn upsert(&mut self) -> akidb::Result<()> {
        self.version += 1;
        let first = self.rng.u64(0..self.ids);
        let ids: Vec<u64> = (first..first + self.disk.batch).collect();
        let text = "x".repeat(self.disk.row_bytes);
        let row = |id: &u64| {
            let vector = vec![*id as f32, self.version as f32, 1.0, 2.0];
            Point::new(*id, vector).meta(json!({ "text": text }))
        };
        self.docs.upsert(ids.iter().map(row)).run()?;
        self.rows.extend(ids.iter().map(|id| (*id, self.version)));
        Ok(())
    }

    fn delete(&mut self, ids: &[u64]) -> akidb::Result<()> {
        self.docs.delete(ids.to_vec()).run()?;
        self.rows.retain(|id, _| !ids.contains(id));
        Ok(())
    }

    /// Nothing may be refused.
    fn must_work(&mut self, when: &str, counts: &mut Counts) -> Result<(), String> {
        let fails = |what: &str, error: akidb::Error| format!("{what}, {when}: {error:?} {error}");
        let mut tries = 0;
        while let Err(error) = self.upsert() {
            // A merge on another thread may have the reserve, and gives it back when it ends.
            tries += 1;
            if !self.disk.has_threads() || tries > TRIES_MAX {
                return Err(fails("an upsert", error));
            }
            counts.add("waits for a merge to give its space back", 1);
            park_timeout(TRY_AGAIN);
        }
        if !self.db().list_snapshots().is_empty() {
            let gone = self.db().delete_snapshot("s");
            gone.map_err(|error| fails("the end of a snapshot", error))?;
        }
        self.docs.flush().map_err(|error| fails("a flush", error))?;
        self.docs.compact().map_err(|error| fails("a merge", error))
    }

    fn check(&self, deep: bool) -> Result<(), String> {
        let stats = self.db().stats();
        if let Some(reason) = stats.poisoned {
            return Err(format!("poisoned: {reason}"));
        }
        let count = self.docs.count(None).map_err(|error| error.to_string())?;
        if count != self.rows.len() as u64 {
            return Err(format!("{count} rows, not {}", self.rows.len()));
        }
        if deep { compare(&self.docs, &self.rows) } else { Ok(()) }
    }

    fn db(&self) -> &Db {
        self.db.as_ref().expect("open until the life is over")
    }

    fn open_again(mut self, counts: &mut Counts) -> Result<(), String> {
        let text = |error: akidb::Error| error.to_string();
        self.check(true)?;
        let db = self.db.take().expect("open until the life is over");
        if self.rng.bool() {
            db.close().map_err(text)?;
        } else {
            drop(db);
        }
        drop(self.docs);
        let db = self.disk.open().map_err(|error| format!("it does not open again: {error}"))?;
        counts.add("databases opened again", 1);
        compare(&db.collection("docs").map_err(text)?, &self.rows)
    }
}

/// Every row, or what is wrong.
fn compare(docs: &Collection, rows: &BTreeMap<u64, u64>) -> Result<(), String> {
    let found = scan_all(docs, 1000).ok_or("a scan fails")?;
    let wrong = rows.iter().find(|(id, version)| {
        let found = found.get(&(**id).into()).map(|row| row.vector[1] as u64);
        found != Some(**version)
    });
    match wrong {
        Some((id, version)) => {
            let row = found.get(&(*id).into()).map(|row| &row.vector);
            Err(format!("row {id} is {row:?}, not version {version}"))
        }
        None if found.len() != rows.len() => {
            Err(format!("{} rows, not {}", found.len(), rows.len()))
        }
        None => Ok(()),
    }
}
