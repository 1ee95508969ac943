//! Repair of a closed, damaged database: what is whole is kept, what follows from it is made
//! again, what is lost is named, and nothing is destroyed. Called by hosts and by the read-only
//! open, which repairs a copy in memory.
//!
//! # Protocol
//! 1. Do it all on an [`OverlayFs`], and verify the result: that is the plan.
//! 2. To apply it: take the lock; make `lost+damaged-N` with a report; then, round by round: write
//!    new segments and tombstones, a new manifest that names them, a new log, a manifest whose floor
//!    fits it; last, move what they replaced out of the way.
//!
//! # Crash consistency
//! New files are nothing before the manifest names them, and what they replace lies where it lay
//! until they are durable. A repair that was interrupted is run again: it finds what is still
//! damaged, and the report of the first run tells what that one had given up.
//!
//! # Invariants
//! - No file is removed or written in place. Old files are moved, within the directory.
//! - A new log is one file, so it takes the place of the old one in one step. A new one's LSNs
//!   count where an old one has them too: see [`crate::verify`]'s survey.

#![deny(clippy::indexing_slicing)]

mod history;
mod log;
mod manifest;
mod objects;
mod parts;
mod plan;
mod rescue;
mod versions;

pub use plan::{Loss, LossKind, RepairAction, RepairPlan, RepairStep, Saved};

use crate::{
    db::{
        open::take_lock,
        paths::{self, LOST_PREFIX, Paths},
    },
    error::{Error, Result},
    manifest::{ManifestState, ManifestStore},
    verify::{Finding, Objects, Severity, Verify, read_manifest},
};
use akidb_tiering::ObjectStore;
use akidb_vfs::{Fs, OverlayFs, Random, RealFs, SystemRandom, write_file_durably};
use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    sync::Arc,
};

/// The manifest first, then what it names, then what only shows when that is whole.
const ROUNDS_MAX: usize = 4;

/// Repairs a database directory that nobody has open.
///
/// ```
/// use akidb::{Repair, blocking::Db};
/// # let dir = tempfile::tempdir().unwrap();
/// Db::open(dir.path())?.close()?;
/// let plan = Repair::new(dir.path()).plan()?; // changes nothing
/// assert!(plan.is_empty(), "{:?}", plan.losses);
/// # Ok::<(), akidb::Error>(())
/// ```
#[derive(Clone, Debug)]
#[must_use = "nothing happens before `plan` or `apply`"]
pub struct Repair {
    dir: PathBuf,
    fs: Arc<dyn Fs>,
    random: Arc<dyn Random>,
    store: Option<Arc<dyn ObjectStore>>,
    salvage: bool,
}

impl Repair {
    /// Of the database in `dir`, on the machine's file system, with its objects in `dir/objects`.
    pub fn new(dir: impl AsRef<Path>) -> Self {
        Self {
            dir: dir.as_ref().to_owned(),
            fs: Arc::new(RealFs),
            random: Arc::new(SystemRandom::new()),
            store: None,
            salvage: false,
        }
    }

    /// Keeps batches of the log that can be read though batches before them cannot. The result is
    /// then not what was there at any moment: a later write may be there without an earlier one.
    /// Default: the log ends before the first batch that is lost.
    pub fn salvage_after_damage(mut self, salvage: bool) -> Self {
        self.salvage = salvage;
        self
    }

    /// Another file system.
    pub fn file_system(mut self, fs: Arc<dyn Fs>) -> Self {
        self.fs = fs;
        self
    }

    /// The source of salts. Default: seeded by the operating system.
    pub fn random(mut self, random: Arc<dyn Random>) -> Self {
        self.random = random;
        self
    }

    /// Where the cold objects and snapshots are, if not in the directory. It is only read.
    pub fn object_store(mut self, store: Arc<dyn ObjectStore>) -> Self {
        self.store = Some(store);
        self
    }

    /// Says what a repair would do and cost, after it has been tried in memory. Changes nothing.
    ///
    /// # Errors
    /// As [`Verify::run`].
    pub fn plan(&self) -> Result<RepairPlan> {
        self.plan_on(&OverlayFs::new(self.fs.clone()))
    }

    /// The plan, with the repaired database left in the overlay.
    pub(crate) fn plan_on(&self, overlay: &OverlayFs) -> Result<RepairPlan> {
        self.run_on(&(Arc::new(overlay.clone()) as Arc<dyn Fs>), true)
    }

    /// Repairs. Does nothing if the database is sound.
    ///
    /// # Errors
    /// `Locked` if somebody has the database open; as [`Verify::run`]; a failed call, after which
    /// it can be run again.
    pub fn apply(&self) -> Result<RepairPlan> {
        let paths = Paths::new(&self.dir);
        // Before the lock, which makes a file: a directory of somebody else stays as it is.
        drop(read_manifest(&*self.fs, &paths)?);
        let lock = take_lock(&*self.fs, &paths)?;
        let planned = self.plan()?;
        if let Some(kept_in) = planned.kept_in.as_ref().filter(|_| !planned.steps.is_empty()) {
            self.fs.create_dir_all(kept_in)?;
            let report = serde_json::to_vec_pretty(&planned)
                .map_err(|_| Error::bug("a repair plan did not serialise"))?;
            write_file_durably(&*self.fs, &kept_in.join("report.json"), &report)?;
            self.fs.sync_dir(&paths.root)?;
        }
        let mut done = self.run_on(&self.fs, false)?;
        done.applied = true;
        drop(lock);
        Ok(done)
    }

    fn verify(&self, fs: &Arc<dyn Fs>) -> Result<Vec<Finding>> {
        let verify = Verify::new(&self.dir).file_system(fs.clone());
        let verify = match &self.store {
            Some(store) => verify.object_store(store.clone()),
            None => verify,
        };
        let mut findings = verify.run()?.findings;
        findings.retain(|finding| finding.severity > Severity::Note);
        Ok(findings)
    }

    fn run_on(&self, fs: &Arc<dyn Fs>, trial: bool) -> Result<RepairPlan> {
        let paths = Paths::new(&self.dir);
        let kept_in = kept_in(&**fs, &paths)?;
        let findings = self.verify(fs)?;
        let mut plan = RepairPlan { findings: findings.clone(), ..RepairPlan::default() };
        let mut remaining = findings;
        for _ in 0..ROUNDS_MAX {
            if remaining.is_empty() {
                break;
            }
            let bad = remaining.iter().map(|finding| finding.file.clone()).collect();
            let mut worker = Worker {
                fs: fs.clone(),
                random: self.random.clone(),
                objects: Objects::new(fs, &paths, self.store.clone()),
                paths: paths.clone(),
                salvage: self.salvage,
                trial,
                bad,
                next_file: 0,
                steps: Vec::new(),
                saved: Vec::new(),
                losses: Vec::new(),
                aside: Vec::new(),
            };
            worker.round(&kept_in)?;
            plan.saved.append(&mut worker.saved);
            plan.losses.append(&mut worker.losses);
            let did_something = !worker.steps.is_empty();
            plan.steps.append(&mut worker.steps);
            remaining = self.verify(fs)?;
            if !did_something {
                break;
            }
        }
        plan.remaining = remaining;
        plan.kept_in = (!plan.steps.is_empty()).then_some(kept_in);
        Ok(plan)
    }
}

/// A directory for what is moved, that does not exist yet; or the last one, if a repair that was
/// interrupted, or this very one, made it and put nothing but its report there.
fn kept_in(fs: &dyn Fs, paths: &Paths) -> Result<PathBuf> {
    let entries = fs.list_dir(&paths.root).map_err(Error::opening)?;
    let last = entries
        .iter()
        .filter_map(|entry| entry.name.to_str()?.strip_prefix(LOST_PREFIX)?.parse::<u64>().ok())
        .max();
    let dir = |n: u64| paths.root.join(format!("{LOST_PREFIX}{n}"));
    match last {
        Some(n) if fs.list_dir(&dir(n))?.iter().all(|entry| entry.name == "report.json") => {
            Ok(dir(n))
        }
        last => Ok(dir(last.map_or(1, |n| n.saturating_add(1)))),
    }
}

/// One round of a repair.
struct Worker {
    fs: Arc<dyn Fs>,
    random: Arc<dyn Random>,
    paths: Paths,
    objects: Objects,
    salvage: bool,
    /// True in memory, where nothing needs to be kept, and a moved file would have to be copied.
    trial: bool,
    /// The files in which verification found damage.
    bad: BTreeSet<PathBuf>,
    next_file: u64,
    steps: Vec<RepairStep>,
    saved: Vec<Saved>,
    losses: Vec<Loss>,
    /// What is to be moved at the end.
    aside: Vec<PathBuf>,
}

impl Worker {
    fn round(&mut self, kept_in: &Path) -> Result<()> {
        self.next_file = self.first_free_number()?;
        match read_manifest(&*self.fs, &self.paths)? {
            Ok(mut state) => {
                self.next_file = self.next_file.max(state.next_file);
                let before = state.clone();
                for collection in state.collections.values_mut() {
                    self.mend_collection(collection, state.database)?;
                }
                self.mend_snapshots(&mut state);
                let floor = state.log_floor;
                let log = self.mend_log(&mut state)?;
                let raised = std::mem::replace(&mut state.log_floor, floor);
                if state != before {
                    self.write_manifest(state.clone())?;
                }
                if let Some(log) = log {
                    self.write_log(&log)?;
                    // Not before: above a raised floor the old log may look whole, and recovery
                    // would take from it what is given up.
                    if raised != floor {
                        state.log_floor = raised;
                        self.write_manifest(state)?;
                    }
                }
            }
            Err(_) => {
                let state = self.rebuild_manifest()?;
                self.write_manifest(state)?;
            }
        }
        self.set_notes_aside();
        self.move_aside(kept_in)
    }

    /// The journal of uploads and the dead letters, if they are damaged. Both begin anew, empty: no row
    /// is in them, and what they said is found again by the sweep and by the policy.
    fn set_notes_aside(&mut self) {
        for path in [self.paths.uploads.clone(), self.paths.dead_letters.clone()] {
            if self.is_bad(&path) {
                self.replace(path, "it holds notes, and no row; it begins anew");
            }
        }
    }

    /// A number above every file of the directory.
    fn first_free_number(&self) -> Result<u64> {
        match paths::stray_files(&*self.fs, &self.paths.segments, |_| false) {
            Ok(files) => {
                let highest = files.iter().filter_map(|file| file.number).max();
                Ok(highest.map_or(1, |number| number.saturating_add(1)))
            }
            Err(error) if error.is_not_found() => {
                self.fs.create_dir_all(&self.paths.segments)?;
                Ok(1)
            }
            Err(error) => Err(error.into()),
        }
    }

    fn take_number(&mut self) -> u64 {
        let number = self.next_file;
        self.next_file = number.saturating_add(1);
        number
    }

    fn is_bad(&self, path: &Path) -> bool {
        self.bad.contains(path)
    }

    fn step(&mut self, action: RepairAction, file: impl Into<PathBuf>, detail: impl Into<String>) {
        self.steps.push(RepairStep { action, file: file.into(), detail: detail.into() });
    }

    /// Moves a file aside at the end, if it is there.
    fn replace(&mut self, path: PathBuf, why: &str) {
        if !self.aside.contains(&path) && self.fs.metadata(&path).is_ok() {
            self.step(RepairAction::Keep, path.clone(), why);
            self.aside.push(path);
        }
    }

    /// The point from which on the new state counts.
    fn write_manifest(&mut self, mut state: ManifestState) -> Result<()> {
        state.next_file = state.next_file.max(self.next_file);
        if state.check().is_err() {
            return Err(Error::bug("a repaired manifest breaks a rule of the manifest"));
        }
        let older = ManifestStore::files(&*self.fs, &self.paths.root)?;
        let path = ManifestStore::supersede(&self.fs, &self.random, &self.paths.root, &state)?;
        self.step(RepairAction::Write, path, "names what is whole");
        for path in older {
            self.replace(path, "a newer manifest takes its place");
        }
        Ok(())
    }

    /// Moves what was replaced, each file to where it would lie from the directory for such.
    fn move_aside(&mut self, kept_in: &Path) -> Result<()> {
        let mut dirs = BTreeSet::new();
        for path in std::mem::take(&mut self.aside) {
            if self.trial {
                self.fs.remove_file(&path)?;
                continue;
            }
            let place = path.strip_prefix(&self.paths.root).unwrap_or(&path);
            let to = kept_in.join(place);
            let parent = to.parent().unwrap_or(kept_in).to_owned();
            self.fs.create_dir_all(&parent)?;
            self.fs.rename(&path, &to)?;
            dirs.insert(parent);
            dirs.extend(path.parent().map(Path::to_owned));
        }
        for dir in dirs {
            self.fs.sync_dir(&dir)?;
        }
        Ok(())
    }
}
