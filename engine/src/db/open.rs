//! Opening: lock, manifest, log replay, then the collections as they were.
//!
//! # Protocol
//! 1. Look at the directory; refuse what is not ours before anything is created in it.
//! 2. Take the lock.
//! 3. Read the manifest; a new database gets its log first and its manifest after, so that a
//!    manifest without a log always means that files were deleted.
//! 4. Open every segment the manifest names, with its tombstones. Up to here nothing is changed,
//!    so a directory that lacks files stays as it is. Try the log's backend (`backend`).
//! 5. Carry the manifest over to a fresh file, which makes what was read durable.
//! 6. Replay the log (`replay`): records above a collection's `flushed` are applied to its memtable.
//! 7. Start the log thread, name in the manifest what did not fit into memory, remove what crashes
//!    left over (`strays`), start the background work.
//!
//! # Crash consistency
//! Every step can be interrupted and repeated: recovery changes only the log's live tail (copied
//! to a fresh file before anything is acknowledged) and rolls the manifest by rename.

#![deny(clippy::indexing_slicing)]

use super::{
    Background, DbCore, RecoveryReport, backend,
    bucket::Shipping,
    edits::SharedManifest,
    paths::{self, Paths},
    read_only::ReadOnly,
    replay::{self, Recovery, Replayed},
    restore,
    searchers::Searchers,
    strays,
};
use crate::{
    budget::Budget,
    collection::{CollectionCore, SegmentPart},
    commit::{CommitSink, Shared},
    error::{Cause, Error, Result},
    manifest::{CollectionManifest, ManifestState, ManifestStore},
    segment::{Segment, SegmentParams},
    settings::Settings,
    tiers::Tiers,
    tombstones,
};
use akidb_handoff::Retired;
use akidb_tiering::{DeadLetterQueue, LocalStore, ObjectStore, UploadJournal, Uploader};
use akidb_vfs::{Clock, Fs, FsLock, Random};
use akidb_wal::{Drive, GroupCommit, GroupOptions, Log, Lsn};
use parking_lot::{Mutex, RwLock};
use std::{
    collections::BTreeMap,
    io::ErrorKind,
    path::Path,
    sync::{Arc, atomic::AtomicU64},
    time::Duration,
};

/// What a database is built on. Tests put other things here.
#[derive(Clone, Debug)]
pub(crate) struct Components {
    pub(crate) fs: Arc<dyn Fs>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) random: Arc<dyn Random>,
    /// `None`: a local store inside the database directory.
    pub(crate) store: Option<Arc<dyn ObjectStore>>,
    /// A new directory begins with what the object store holds.
    pub(crate) from_bucket: bool,
    /// No threads: every piece of work runs on the calling thread.
    pub(crate) inline: bool,
}

/// The collections of a database, by id.
pub(super) type Collections = BTreeMap<u32, Arc<CollectionCore>>;

/// Opens or creates the database in `dir`.
pub(crate) fn open(dir: &Path, settings: Settings, parts: Components) -> Result<Arc<DbCore>> {
    open_as(dir, settings, parts, None)
}

/// As [`open`]; with `read_only` it must exist, and nothing but reads is done to it: the file
/// system in `parts` takes what opening itself writes.
pub(super) fn open_as(
    dir: &Path,
    settings: Settings,
    parts: Components,
    read_only: Option<ReadOnly>,
) -> Result<Arc<DbCore>> {
    settings.validate()?;
    let started = parts.clock.monotonic();
    let paths = Paths::new(dir);
    let fresh = survey(&*parts.fs, &paths)?;
    let must_exist = read_only.is_some() && !parts.from_bucket;
    check_there(!fresh || !must_exist, dir)?;
    let lock = make_directories(&*parts.fs, &paths)?;
    let found = if fresh { None } else { Some(ManifestStore::read(&*parts.fs, dir)?) };
    let mut report = RecoveryReport { created: fresh, ..RecoveryReport::default() };
    let (state, restored_at) = restore::begin(&parts, found.as_ref(), &mut report)?;
    let shared = Arc::new(Shared::new(settings, parts.clock.clone(), Lsn::ZERO));
    let collections = open_collections(&parts, &paths, &shared, &state, &mut report)?;
    let env = backend::env(&parts, &paths, shared.settings.wal_backend, &mut report)?;
    let manifest = found.map(|m| m.take_over(&parts.fs, &parts.random)).transpose()?;
    let next = strays::find(&*parts.fs, &paths, &state, read_only.is_none(), &mut report)?;
    let next_file = AtomicU64::new(next);
    let recovery = Recovery {
        env: &env,
        parts: &parts,
        paths: &paths,
        shared: &shared,
        state: &state,
        begins: fresh,
        collections: &collections,
        next_file: &next_file,
    };
    let Replayed { log, spilled } = recovery.run(&mut report)?;
    let manifest = manifest.map_or_else(|| create_manifest(&parts, &paths, &state), Ok)?;
    shared.recovered(Lsn::new(report.last_lsn));
    let (uploader, unread) = open_uploader(&parts, &paths, &shared.settings)?;
    let commit = start_log(&parts, &shared, log)?;
    report.elapsed_ms = parts.clock.monotonic().saturating_sub(started).as_secs_f64() * 1e3;
    let core = Arc::new(DbCore {
        tiers: open_tiers(&parts, &paths, &shared.settings),
        paths,
        fs: parts.fs,
        random: parts.random,
        store: uploader.store().clone(),
        uploader,
        bucket: Shipping::new(parts.store.is_some(), read_only.is_some(), restored_at),
        background: Background::new(parts.inline, shared.work.clone()),
        searchers: searchers(parts.inline, &shared.settings),
        hot: Budget::new(shared.settings.hot_bytes),
        answers: Budget::new(shared.settings.filter_answers_bytes),
        shared,
        commit,
        quotas: Default::default(),
        counters: Default::default(),
        recovery: report,
        collections: RwLock::new(collections),
        manifest: SharedManifest::new(manifest),
        next_file,
        retired: Retired::new(),
        claims: super::space::Claims::default(),
        creating: Mutex::new(()),
        lock: Mutex::new(Some(lock)),
        read_only,
    });
    replay::install(&core, &spilled)?;
    if core.read_only.is_none() {
        start_work(&core, unread)?;
    }
    Ok(core)
}

/// Cleans up and starts the threads. With threads, what has to wait for the store is theirs: a store that
/// is down must not keep a database shut.
fn start_work(core: &Arc<DbCore>, unread: Option<Error>) -> Result<()> {
    // Files of notes that are damaged are told, and keep nothing shut.
    unread.into_iter().chain(core.tiers.unread()).for_each(|error| core.background.note(error));
    core.open_bucket()?;
    core.remove_obsolete();
    if core.background.is_inline() {
        core.tend_store();
    }
    Background::start(core)?;
    core.shared.work.ring();
    Ok(())
}

fn check_there(there: bool, dir: &Path) -> Result<()> {
    if there { Ok(()) } else { Err(Cause::NoDatabase { dir: dir.to_owned() }.into()) }
}

/// Driven inline, nothing may run beside the caller.
fn searchers(inline: bool, settings: &Settings) -> Searchers {
    Searchers::new(if inline { 1 } else { settings.search_threads })
}

/// The directories, and the lock on them.
fn make_directories(fs: &dyn Fs, paths: &Paths) -> Result<Box<dyn FsLock>> {
    fs.create_dir_all(&paths.root)?;
    let lock = take_lock(fs, paths)?;
    for dir in [&paths.wal, &paths.segments] {
        fs.create_dir_all(dir)?;
    }
    Ok(lock)
}

/// The object store, which is files in the directory if no other was given.
fn open_store(parts: &Components, paths: &Paths) -> Result<Arc<dyn ObjectStore>> {
    if let Some(store) = parts.store.clone() {
        return Ok(store);
    }
    let local = LocalStore::open(parts.fs.clone(), &paths.objects)?;
    // Safe only here: the directory lock says that nobody else is putting.
    local.sweep_unfinished()?;
    Ok(Arc::new(local))
}

/// What sends objects. Without a journal that can be read, which is returned as an error beside it, uploads
/// in parts that a crash interrupts are found by the sweep.
fn open_uploader(
    parts: &Components,
    paths: &Paths,
    settings: &Settings,
) -> Result<(Uploader, Option<Error>)> {
    let store = open_store(parts, paths)?;
    let journal = UploadJournal::open(parts.fs.clone(), parts.random.clone(), &paths.uploads);
    let (journal, unread) = match journal {
        Ok(journal) => (Some(Arc::new(journal)), None),
        Err(error) => (None, Some(Cause::from(error).into())),
    };
    let (clock, random) = (parts.clock.clone(), parts.random.clone());
    let uploader = Uploader::new(store, journal, settings.tiers.uploads, clock, random);
    Ok((uploader, unread))
}

/// The worker of tiers, whose first cycle is a whole pause away: opening moves nothing.
fn open_tiers(parts: &Components, paths: &Paths, settings: &Settings) -> Tiers {
    let letters = DeadLetterQueue::open(
        parts.fs.clone(),
        parts.random.clone(),
        parts.clock.clone(),
        &paths.dead_letters,
        settings.tiers.dead_letters_max,
    );
    let first = parts.clock.monotonic() + Duration::from_millis(settings.tiers.cycle_ms);
    Tiers::new(first, letters.map_err(|error| Cause::from(error).into()))
}

/// Looks before anything is touched: true if there is nothing yet, false if there is a database.
fn survey(fs: &dyn Fs, paths: &Paths) -> Result<bool> {
    let entries = match fs.list_dir(&paths.root) {
        Ok(entries) => entries,
        Err(error) if error.is_not_found() => return Ok(true),
        Err(error) => return Err(error.into()),
    };
    let names: Vec<_> = entries.iter().map(|entry| entry.name.to_string_lossy()).collect();
    if names.iter().any(|name| ManifestStore::is_manifest(name)) {
        if !names_in(fs, &paths.wal)?.is_empty() {
            return Ok(false);
        }
        let (dir, missing) = (paths.root.clone(), "its log (the directory wal)".to_owned());
        return Err(Cause::HalfDeleted { dir, missing }.into());
    }
    // Hidden files are not ours and not in the way; a half-made database has only these.
    let ours = |name: &str| {
        name.starts_with('.') || paths::is_ours(name) || ManifestStore::is_temporary(name)
    };
    if let Some(foreign) = names.iter().find(|name| !ours(name)) {
        let detail = format!("it has no manifest and holds {foreign:?}");
        return Err(Cause::Foreign { dir: paths.root.clone(), detail }.into());
    }
    let segments = names_in(fs, &paths.segments)?;
    if segments.iter().any(|name| paths::file_number(name).is_some()) {
        let (dir, missing) = (paths.root.clone(), "its manifest".to_owned());
        return Err(Cause::HalfDeleted { dir, missing }.into());
    }
    Ok(true)
}

/// The names in a directory, none if there is no such directory. A directory that cannot be listed
/// is not an empty one: taken for it, a full descriptor table would look like a lost log.
fn names_in(fs: &dyn Fs, dir: &Path) -> Result<Vec<String>> {
    match fs.list_dir(dir) {
        Ok(entries) => {
            Ok(entries.iter().map(|entry| entry.name.to_string_lossy().into_owned()).collect())
        }
        Err(error) if error.is_not_found() || error.kind() == ErrorKind::NotADirectory => {
            Ok(Vec::new())
        }
        Err(error) => Err(error.into()),
    }
}

pub(crate) fn take_lock(fs: &dyn Fs, paths: &Paths) -> Result<Box<dyn FsLock>> {
    let holder = format!("process {}", std::process::id());
    fs.try_lock(&paths.lock, &holder).map_err(|error| {
        if error.kind() == ErrorKind::WouldBlock {
            Cause::Locked { dir: paths.root.clone(), holder: error.source.to_string() }.into()
        } else {
            error.into()
        }
    })
}

/// The first manifest of a directory: of a new database, or of one that was restored.
fn create_manifest(
    parts: &Components,
    paths: &Paths,
    restored: &ManifestState,
) -> Result<ManifestStore> {
    let state = match restored.database.is_nil() {
        false => restored.clone(),
        true => ManifestState {
            database: uuid::Builder::from_random_bytes(parts.random.next_u128().to_le_bytes())
                .into_uuid(),
            next_file: 1,
            ..ManifestState::default()
        },
    };
    ManifestStore::create(&parts.fs, &parts.random, &paths.root, state)
}

fn open_collections(
    parts: &Components,
    paths: &Paths,
    shared: &Shared,
    state: &ManifestState,
    report: &mut RecoveryReport,
) -> Result<Collections> {
    let mut collections = BTreeMap::new();
    for manifest in state.collections.values() {
        let segments = open_segments(parts, paths, &shared.settings, manifest)?;
        report.segments += segments.len() as u64;
        let collection = CollectionCore::new(manifest, segments, shared.new_access());
        collections.insert(manifest.id, Arc::new(collection));
    }
    Ok(collections)
}

fn open_segments(
    parts: &Components,
    paths: &Paths,
    settings: &Settings,
    manifest: &CollectionManifest,
) -> Result<Vec<Arc<SegmentPart>>> {
    let mut dead = match &manifest.tombstones {
        Some(meta) => tombstones::read(&*parts.fs, &paths.segments, meta)?,
        None => Default::default(),
    };
    let schema = &manifest.schema;
    let params = SegmentParams { collection: manifest.id, dim: schema.dim, metric: schema.metric };
    manifest
        .segments
        .iter()
        .map(|meta| {
            let mode = settings.read_mode;
            let segment = Segment::open(&*parts.fs, &paths.segments, meta, params, mode)?;
            let dead = dead.remove(&meta.number).unwrap_or_default();
            if dead.max().is_some_and(|row| row >= segment.rows()) {
                let file = segment.path().to_owned();
                return Err(Error::corruption(file, 0, "a tombstone lies behind its last row"));
            }
            Ok(Arc::new(SegmentPart::new(segment, dead)))
        })
        .collect()
}

fn start_log(
    parts: &Components,
    shared: &Arc<Shared>,
    log: Log,
) -> Result<GroupCommit<CommitSink>> {
    let settings = &shared.settings;
    let options = GroupOptions {
        bytes_max: settings.wal_group_bytes,
        count_max: settings.wal_group_count,
        delay_max: Duration::from_micros(settings.wal_group_delay_us),
        seal_idle: Duration::from_millis(settings.wal_seal_idle_ms),
    };
    let drive = if parts.inline { Drive::Inline } else { Drive::Thread };
    let sink = CommitSink::new(shared.clone());
    Ok(GroupCommit::start(log, sink, options, parts.clock.clone(), drive)?)
}
