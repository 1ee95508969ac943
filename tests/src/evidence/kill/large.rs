//! Another life, whose objects go in parts: one collection of tens of thousands of kilobytes, that a child
//! moves to a bucket and back, with a row written between the moves and a snapshot now and then, until it is
//! killed; both what the children do and what the machine expects of them.
//!
//! What must hold after each kill: the rows are all there and what they were, with every one that was
//! acknowledged, in the directory and then in the bucket alone; a snapshot that was told is whole; everything
//! moves; and no upload of which there are parts is left open in the store.

use super::{
    Life, Role, Task,
    child::{CallLog, collection, log_path, say},
    shipped,
};
use crate::evidence::Counts;
use akidb::{
    Error, Metric, Point, PointId, Schema, Settings, TierSettings,
    blocking::Db,
    tiering::{StoreError, UploadSettings},
};
use std::{collections::BTreeSet, time::Duration};

const NAME: &str = "large";
/// 15 MiB that do not compress: three parts.
const ROWS: u64 = 10_000;
const DIM: u32 = 384;
const WHO: &str = "large";

pub(super) fn settings() -> Settings {
    let uploads = UploadSettings {
        single_put_max_bytes: 5 << 20,
        part_bytes: 5 << 20,
        ..UploadSettings::default()
    };
    let tiers = TierSettings { uploads, ..TierSettings::default() };
    Settings { tiers, disk_reserve_bytes: 0, ..Settings::default() }
}

/// The vector of a row follows from its id.
fn point(id: u64) -> Point {
    let mut rng = fastrand::Rng::with_seed(id);
    Point::new(id, (0..DIM).map(|_| rng.f32()).collect::<Vec<_>>())
}

fn failed(what: &str) -> impl FnOnce(Error) -> String {
    move |error| format!("{what}: {error}")
}

pub(super) fn fill(db: &Db) -> Result<(), String> {
    let schema = Schema::new(DIM, Metric::L2);
    let docs = db.create_collection(NAME, schema).map_err(failed("create"))?;
    for start in (0..ROWS).step_by(500) {
        docs.upsert((start..start + 500).map(point)).run().map_err(failed("fill"))?;
    }
    Ok(())
}

/// Says before each call what it is about, and after it that it was acknowledged.
pub(super) fn move_for_ever(task: &Task, db: &Db) -> Result<(), String> {
    let docs = collection(db, NAME)?.ok_or("the collection is gone")?;
    let mut log = CallLog::create(task, WHO)?;
    let mut last = None;
    for n in 0.. {
        let id = ROWS + task.round * 1_000 + n;
        log.line(&format!("? extra {id}\n"))?;
        docs.upsert([point(id)]).run().map_err(failed("upsert"))?;
        log.line(&format!("! extra {id}\n"))?;
        docs.demote().map_err(failed("demote"))?;
        if n % 2 == 0 {
            docs.promote().map_err(failed("promote"))?;
            continue;
        }
        let name = format!("{}-{n}", task.round);
        log.line(&format!("? snapshot {name}\n"))?;
        docs.snapshot(&name).map_err(failed("snapshot"))?;
        log.line(&format!("! snapshot {name}\n"))?;
        if let Some(last) = last.replace(name) {
            log.line(&format!("- snapshot {last}\n"))?;
            db.delete_snapshot(&last).map_err(failed("delete snapshot"))?;
        }
    }
    Ok(())
}

pub(super) fn check(task: &Task, db: &Db) -> Result<(), String> {
    print(db)?;
    shipped::settle(db, &[NAME])?;
    let prefix = task.store.as_deref().ok_or("a large life has a bucket")?;
    let store = shipped::store(prefix)?;
    let parts = store.multipart().ok_or("the store has no parts")?;
    let asked = |error: StoreError| format!("uploads: {error}");
    let page = futures_lite::future::block_on(parts.list_uploads("", None, 100)).map_err(asked)?;
    for left in page.uploads {
        // One that was begun, and of which the answer came too late to be written down, is for the sweep.
        let sent = futures_lite::future::block_on(parts.list_parts(&left.upload, None, 1))
            .map_err(asked)?;
        if !sent.parts.is_empty() {
            return Err(format!("an upload with parts is left open: {left:?}"));
        }
    }
    Ok(())
}

/// How many rows there are of the first ones, and all the rest by name.
pub(super) fn print(db: &Db) -> Result<(), String> {
    let Some(docs) = collection(db, NAME)? else {
        // The bucket learns of a collection with the first change that is shared.
        say("first 0");
        say("end");
        return Ok(());
    };
    let (mut first, mut after) = (0, None);
    loop {
        let mut scan = docs.scan().limit(1_000).with_vectors(true);
        if let Some(cursor) = after {
            scan = scan.after(cursor);
        }
        let page = scan.run().map_err(failed("scan"))?;
        for record in &page.records {
            let PointId::U64(id) = record.id else { return Err(format!("{:?}", record.id)) };
            if record.vector != point(id).vector {
                return Err(format!("row {id} is another one"));
            }
            if id < ROWS {
                first += 1;
            } else {
                say(&format!("extra {id}"));
            }
        }
        let Some(cursor) = page.next else { break };
        after = Some(cursor);
    }
    say(&format!("first {first}"));
    for snapshot in db.list_snapshots() {
        say(&format!("snapshot {}", snapshot.name));
    }
    say("end");
    Ok(())
}

/// What was asked for, was acknowledged, and was asked to go, in all rounds so far.
#[derive(Default)]
struct Told {
    asked: BTreeSet<String>,
    acknowledged: BTreeSet<String>,
    dropped: BTreeSet<String>,
}

impl Told {
    fn read(life: &Life, rounds: u64) -> Result<Self, String> {
        let mut told = Self::default();
        for round in 0..=rounds {
            let path = log_path(&life.dir, round, WHO);
            let bytes = match akidb_vfs::read_file(&akidb_vfs::RealFs, &path) {
                // A child may be killed before it came to begin one.
                Err(error) if error.is_not_found() => continue,
                read => read.map_err(|error| error.to_string())?,
            };
            for line in String::from_utf8_lossy(&bytes).split_inclusive('\n') {
                // A last line that the kill cut off was never acted on.
                let Some((mark, name)) = line.strip_suffix('\n').and_then(|l| l.split_once(' '))
                else {
                    continue;
                };
                let list = match mark {
                    "?" => &mut told.asked,
                    "!" => &mut told.acknowledged,
                    _ => &mut told.dropped,
                };
                list.insert(name.to_owned());
            }
        }
        Ok(told)
    }

    /// Is what was found what was promised? Of the rows only, if `whole` says so.
    fn compare(&self, found: &str, whole: bool) -> Result<(), String> {
        let found: BTreeSet<&str> = found.lines().collect();
        if !found.contains("end") {
            return Err(format!("it only said {found:?}"));
        }
        let all = format!("first {ROWS}");
        let none = !whole && found.contains("first 0");
        if !found.contains(all.as_str()) && !none {
            let rows = found.iter().find(|line| line.starts_with("first"));
            return Err(format!("of {ROWS} rows: {rows:?}"));
        }
        let kept = |name: &&String| {
            (whole || name.starts_with("snapshot")) && !self.dropped.contains(name.as_str())
        };
        let lost =
            self.acknowledged.iter().filter(kept).find(|name| !found.contains(name.as_str()));
        if let Some(name) = lost {
            return Err(format!("{name:?} was acknowledged and is gone"));
        }
        let named = |line: &&&str| !line.starts_with("first") && **line != "end";
        match found.iter().filter(named).find(|line| !self.asked.contains(**line)) {
            Some(line) => Err(format!("nobody asked for {line:?}")),
            None => Ok(()),
        }
    }
}

impl Life {
    /// A round of a large life.
    pub(super) fn large_round(
        &mut self,
        round: u64,
        rng: &mut fastrand::Rng,
        counts: &mut Counts,
    ) -> Result<(), String> {
        if round == 0 {
            self.tell(Role::Fill, round)?;
        }
        // Half of them in the first upload.
        let time = if rng.bool() { rng.u64(100..1_500) } else { rng.u64(1_500..8_000) };
        self.kill(&self.task(Role::Move, round, None), Duration::from_millis(time), counts)?;
        let told = Told::read(self, round)?;
        told.compare(&self.tell(Role::LookLarge, round)?, false)?;
        let found = self.tell(Role::CheckLarge, round)?;
        told.compare(&found, true)?;
        let alone = self.tell(Role::LookLarge, round)?;
        if alone != found {
            return Err(format!("the bucket alone gives {alone:?}, the directory {found:?}"));
        }
        counts.add("large collections restored from the bucket alone", 1);
        counts.add("rows acknowledged between moves", told.acknowledged.len() as u64);
        Ok(())
    }
}
