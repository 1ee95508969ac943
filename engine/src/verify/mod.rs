//! Verification: reads a database directory without opening it, and says what is wrong with it.
//!
//! Owns the list of findings; the checks of each kind of file are in `log`, `parts`, `rows`
//! and `notes`, and `survey` reads a damaged log as far as it goes. Must never write, lock or create anything,
//! nor believe a byte. Called by [`crate::Repair`], by the read-only open, and by hosts.
//!
//! # Beside an open database
//! Files come and go while they are looked at. A pass that finds damage is therefore repeated with
//! a manifest that is read anew, and only what two passes in a row find is reported. What was
//! found whole is not read again.

#![deny(clippy::indexing_slicing)]

mod finding;
mod log;
mod notes;
mod objects;
mod parts;
mod rows;
mod survey;

pub use finding::{Finding, FindingKind, Severity};
pub(crate) use objects::{Fetched, Objects};
pub(crate) use parts::fits;
pub(crate) use survey::{LogSurvey, wal_number};

use crate::{
    db::paths::{self, Paths},
    error::{Cause, Error, ErrorKind, Result},
    manifest::{ManifestState, ManifestStore},
};
use akidb_tiering::ObjectStore;
use akidb_vfs::{Fs, RealFs};
use serde::Serialize;
use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    sync::Arc,
};

/// How often a pass that found damage is repeated before what it says is taken for true although
/// each pass says something else.
const PASSES_MAX: usize = 25;

/// How far a verification is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct VerifyProgress {
    /// Bytes of segments, tombstones, log and objects read.
    pub bytes: u64,
    /// About how many there are.
    pub of_bytes: u64,
}

/// What a verification found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct VerifyReport {
    /// What is wrong or worth knowing, the worst first.
    pub findings: Vec<Finding>,
    /// Whether every row was decoded too.
    pub deep: bool,
    /// Files and objects that were read whole.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Rows that were decoded, dead ones included; 0 unless the verification was deep.
    pub rows: u64,
    /// Batches of the log that were read.
    pub batches: u64,
    /// How often the directory was read because it changed meanwhile, or seemed damaged.
    pub passes: u64,
}

impl VerifyReport {
    /// The worst that was found; `None` if the database is sound. Notes do not count.
    pub fn worst(&self) -> Option<Severity> {
        self.findings.iter().map(|finding| finding.severity).max().filter(|s| *s > Severity::Note)
    }

    /// True if nothing is damaged.
    pub fn is_sound(&self) -> bool {
        self.worst().is_none()
    }
}

type Callback = Box<dyn FnMut(VerifyProgress) + Send>;

/// Verifies a database directory: closed, or open elsewhere. Takes no lock and changes nothing.
///
/// ```
/// use akidb::{Verify, blocking::Db};
/// # let dir = tempfile::tempdir().unwrap();
/// Db::open(dir.path())?.close()?;
/// let report = Verify::new(dir.path()).deep(true).run()?;
/// assert!(report.is_sound(), "{:?}", report.findings);
/// # Ok::<(), akidb::Error>(())
/// ```
#[must_use = "nothing is verified before `run`"]
pub struct Verify {
    dir: PathBuf,
    fs: Arc<dyn Fs>,
    store: Option<Arc<dyn ObjectStore>>,
    deep: bool,
    progress: Option<Callback>,
}

impl std::fmt::Debug for Verify {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Verify").field("dir", &self.dir).field("deep", &self.deep).finish()
    }
}

impl Verify {
    /// Of the database in `dir`, on the machine's file system, with its objects in `dir/objects`.
    pub fn new(dir: impl AsRef<Path>) -> Self {
        let dir = dir.as_ref().to_owned();
        Self { dir, fs: Arc::new(RealFs), store: None, deep: false, progress: None }
    }

    /// Also decodes every row: ids unique, every index in agreement with the rows, every object
    /// decoded. Reads the same bytes, and takes several times as long.
    pub fn deep(mut self, deep: bool) -> Self {
        self.deep = deep;
        self
    }

    /// Another file system.
    pub fn file_system(mut self, fs: Arc<dyn Fs>) -> Self {
        self.fs = fs;
        self
    }

    /// Where the cold objects and snapshots are, if not in the directory.
    pub fn object_store(mut self, store: Arc<dyn ObjectStore>) -> Self {
        self.store = Some(store);
        self
    }

    /// Called after each file.
    pub fn on_progress(mut self, callback: impl FnMut(VerifyProgress) + Send + 'static) -> Self {
        self.progress = Some(Box::new(callback));
        self
    }

    /// Verifies.
    ///
    /// # Errors
    /// `NotFound` if there is no database; `Incompatible` for files of a newer version; errors of
    /// reading. Damage is no error: it is in the report.
    pub fn run(self) -> Result<VerifyReport> {
        let paths = Paths::new(&self.dir);
        let objects = Objects::new(&self.fs, &paths, self.store.clone());
        let mut pass = Pass {
            fs: &*self.fs,
            paths: &paths,
            objects,
            deep: self.deep,
            progress: self.progress,
            of_bytes: 0,
            whole: BTreeSet::new(),
            report: VerifyReport { deep: self.deep, ..VerifyReport::default() },
        };
        let mut before: Vec<Finding> = Vec::new();
        loop {
            let found = pass.run_once()?;
            let is_damage = |finding: &&Finding| finding.severity > Severity::Note;
            let confirmed = found.iter().filter(is_damage).all(|f| before.contains(f));
            let tired = pass.report.passes >= PASSES_MAX as u64;
            if confirmed || tired {
                let lasting = |f: &Finding| f.severity == Severity::Note || before.contains(f);
                let mut findings: Vec<_> = found.into_iter().filter(lasting).collect();
                findings.sort_by(|a, b| (b.severity, &a.file).cmp(&(a.severity, &b.file)));
                pass.report.findings = findings;
                return Ok(pass.report);
            }
            before = found;
        }
    }
}

/// A look at a directory.
struct Pass<'a> {
    fs: &'a dyn Fs,
    paths: &'a Paths,
    objects: Objects,
    deep: bool,
    progress: Option<Callback>,
    of_bytes: u64,
    /// What was found whole, by name, length and checksum: immutable, so never read again.
    whole: BTreeSet<(String, u64, u32)>,
    report: VerifyReport,
}

impl Pass<'_> {
    /// Everything once, with the manifest as it is now.
    fn run_once(&mut self) -> Result<Vec<Finding>> {
        self.report.passes += 1;
        self.report.rows = 0;
        let mut findings = Vec::new();
        let state = match read_manifest(self.fs, self.paths)? {
            Ok(state) => state,
            Err(finding) => {
                findings.push(finding);
                // Without it nobody knows what should be there; the log can still be read.
                let floor = akidb_wal::Lsn::ZERO;
                self.check_log(None, floor, &mut findings)?;
                self.check_notes(&mut findings)?;
                return Ok(findings);
            }
        };
        self.of_bytes = bytes_of(&state) + log_bytes(self.fs, self.paths);
        self.check_log(Some(&state), state.log_floor, &mut findings)?;
        for collection in state.collections.values() {
            self.check_collection(collection, &mut findings)?;
        }
        for snapshot in state.snapshots.values() {
            self.check_snapshot(snapshot, &mut findings)?;
        }
        self.check_notes(&mut findings)?;
        self.note_strays(&state, &mut findings)?;
        Ok(findings)
    }

    /// Counts a file as read, and tells the caller.
    fn read(&mut self, bytes: u64) {
        self.report.files += 1;
        self.report.bytes += bytes;
        let of_bytes = self.of_bytes.max(self.report.bytes);
        if let Some(progress) = &mut self.progress {
            progress(VerifyProgress { bytes: self.report.bytes, of_bytes });
        }
    }

    /// Files that nothing names. Beside an open database they may be named a moment later.
    fn note_strays(&self, state: &ManifestState, findings: &mut Vec<Finding>) -> Result<()> {
        let note =
            |kind, path: PathBuf, detail: &str| Finding::new(Severity::Note, kind, path, detail);
        let named = |number| {
            state.collections.values().any(|c| c.file_numbers().any(|named| named == number))
        };
        let strays = match paths::stray_files(self.fs, &self.paths.segments, named) {
            Err(error) if error.is_not_found() => Vec::new(),
            strays => strays?,
        };
        findings.extend(strays.into_iter().map(|stray| {
            note(FindingKind::UnknownFile, stray.path, "the manifest does not name it")
        }));
        let mut manifests: Vec<PathBuf> = Vec::new();
        for entry in self.fs.list_dir(&self.paths.root)? {
            let (name, path) = (entry.name.to_string_lossy(), self.paths.root.join(&entry.name));
            if ManifestStore::is_manifest(&name) {
                manifests.push(path);
            } else if ManifestStore::is_temporary(&name) {
                findings.push(note(FindingKind::Leftover, path, "it was never finished"));
            } else if !paths::is_ours(&name) {
                findings.push(note(FindingKind::UnknownFile, path, "it is not AkiDB's"));
            }
        }
        manifests.pop();
        let older = "a newer manifest took its place";
        findings.extend(manifests.into_iter().map(|path| note(FindingKind::Leftover, path, older)));
        Ok(())
    }
}

/// Segments, tombstones and objects that a manifest names, in bytes.
fn bytes_of(state: &ManifestState) -> u64 {
    let of_collection = |c: &crate::manifest::CollectionManifest| {
        let segments: u64 = c.segments.iter().map(|segment| segment.len).sum();
        let cold: u64 = c.cold.iter().map(|object| object.len).sum();
        segments + cold + c.tombstones.as_ref().map_or(0, |meta| meta.len)
    };
    let snapshots: u64 = state.snapshots.values().map(|s| s.object.len).sum();
    state.collections.values().map(of_collection).sum::<u64>() + snapshots
}

fn log_bytes(fs: &dyn Fs, paths: &Paths) -> u64 {
    let entries = fs.list_dir(&paths.wal).unwrap_or_default();
    let len = |name: &std::ffi::OsStr| fs.metadata(&paths.wal.join(name)).map_or(0, |m| m.len);
    entries.iter().map(|entry| len(&entry.name)).sum()
}

/// The state that the newest manifest tells, or what is wrong with it.
///
/// # Errors
/// `NotFound` if there is nothing of a database; a newer version; a failed call.
pub(crate) fn read_manifest(
    fs: &dyn Fs,
    paths: &Paths,
) -> Result<std::result::Result<ManifestState, Finding>> {
    let entries = fs.list_dir(&paths.root).map_err(Error::opening)?;
    let is_manifest =
        |name: &std::ffi::OsStr| name.to_str().is_some_and(ManifestStore::is_manifest);
    if !entries.iter().any(|entry| is_manifest(&entry.name)) {
        return no_manifest(fs, paths).map(Err);
    }
    match ManifestStore::read(fs, &paths.root) {
        Ok(found) => Ok(Ok(found.state().clone())),
        Err(error) if matches!(error.cause(), Cause::Fs(e) if e.is_not_found()) => {
            // Replaced while it was looked at: the next pass will find the new one.
            let detail = "it vanished while it was read";
            let (kind, file) = (FindingKind::ManifestMissing, paths.root.clone());
            Ok(Err(Finding::new(Severity::Loss, kind, file, detail)))
        }
        Err(error) if is_newer(&error) => Err(error),
        Err(error) => Finding::of(Severity::Loss, FindingKind::ManifestDamaged, error).map(Err),
    }
}

/// No manifest: damage if there are other files of a database, else no database.
fn no_manifest(fs: &dyn Fs, paths: &Paths) -> Result<Finding> {
    let holds = |dir: &Path, ours: fn(&str) -> bool| {
        let entries = fs.list_dir(dir).unwrap_or_default();
        entries.iter().any(|entry| entry.name.to_str().is_some_and(ours))
    };
    let segments = holds(&paths.segments, |name| paths::file_number(name).is_some());
    if !segments && !holds(&paths.wal, |name| wal_number(name).is_some()) {
        return Err(Cause::NoDatabase { dir: paths.root.clone() }.into());
    }
    let detail = "there are files of a database and no manifest says what they hold";
    Ok(Finding::new(Severity::Loss, FindingKind::ManifestMissing, paths.root.clone(), detail))
}

/// True for a file that only a newer binary reads.
pub(crate) fn is_newer(error: &Error) -> bool {
    error.kind() == ErrorKind::Incompatible && finding::place_of(error).is_none()
}
