//! The database: what all collections share, and the order in which its parts come and go.
//!
//! [`DbCore`] is the synchronous heart; the async and the blocking API are thin layers over it.
//! `open` builds it, `replay` reads its log, `strays` removes what crashes left, `read_only` opens
//! without writing, `backend` picks how its log writes, `background` runs flush and compaction,
//! `create` makes, replaces and drops collections, `paths` names files.

mod backend;
pub(crate) mod background;
mod bucket;
mod counters;
mod create;
mod edits;
mod hot;
pub(crate) mod open;
mod ops;
pub(crate) mod paths;
mod read_only;
mod replay;
mod report;
mod restore;
mod searchers;
mod sharing;
mod space;
mod strays;
#[cfg(test)]
mod tests;

pub use bucket::BucketStats;
use bucket::Shipping;
pub(crate) use counters::Counters;
pub(crate) use create::NewCollection;
pub(crate) use open::{Components, open};
pub(crate) use ops::{Waiting, Write};
pub(crate) use read_only::open_read_only;
pub use report::{RecoveryReport, TornTail};
use searchers::Searchers;
pub(crate) use searchers::Searching;
pub(crate) use space::Claim;
use space::Claims;

use crate::{
    budget::Budget,
    cold::ColdContext,
    collection::{CollectionCore, SegmentPart, View},
    commit::{CommitSink, Shared},
    error::{Cause, Error, Result},
    maintenance::{Threads, build::SegmentSite},
    manifest::{Edit, ManifestStore},
    memtable::Memtable,
    quota::Quotas,
    segment::{Segment, SegmentMeta, SegmentParams},
    tiers::Tiers,
    tombstones::{TombstoneMeta, tombstone_path},
};
use akidb_handoff::Retired;
use akidb_tiering::{ObjectKey, ObjectStore, Uploader};
use akidb_vfs::{Fs, FsLock, Random};
use akidb_wal::{GroupCommit, Lsn};
use background::Background;
use edits::SharedManifest;
use parking_lot::{Mutex, RwLock};
use paths::Paths;
use read_only::ReadOnly;
use roaring::RoaringBitmap;
use std::{
    collections::BTreeMap,
    future::Future,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};
use uuid::Uuid;

/// The shared heart of a database.
pub(crate) struct DbCore {
    pub(crate) paths: Paths,
    pub(crate) fs: Arc<dyn Fs>,
    pub(crate) random: Arc<dyn Random>,
    pub(crate) store: Arc<dyn ObjectStore>,
    /// Sends objects to the store.
    pub(crate) uploader: Uploader,
    /// What moves collections by themselves.
    pub(crate) tiers: Tiers,
    /// Where objects go, and who may send them.
    bucket: Shipping,
    pub(crate) shared: Arc<Shared>,
    pub(crate) commit: GroupCommit<CommitSink>,
    pub(crate) background: Background,
    pub(crate) counters: Counters,
    pub(crate) recovery: RecoveryReport,
    pub(crate) searchers: Searchers,
    /// What hot copies may take.
    pub(crate) hot: Arc<Budget>,
    /// What remembered answers of filters may take.
    pub(crate) answers: Arc<Budget>,
    /// What the database and its namespaces take.
    pub(crate) quotas: Quotas,
    collections: RwLock<BTreeMap<u32, Arc<CollectionCore>>>,
    manifest: SharedManifest,
    next_file: AtomicU64,
    /// Segments that nothing names any more, with their files.
    retired: Retired<SegmentPart, PathBuf>,
    claims: Claims,
    /// Held while a collection or snapshot gets its name, so that it is given once.
    pub(crate) creating: Mutex<()>,
    /// Held until close; dropping it lets the next process in.
    lock: Mutex<Option<Box<dyn FsLock>>>,
    /// Set if this database is only read.
    read_only: Option<ReadOnly>,
}

impl std::fmt::Debug for DbCore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Db").field("dir", &self.paths.root).finish_non_exhaustive()
    }
}

impl DbCore {
    /// A file number that was never used. The manifest's high-water mark is raised by the next
    /// edit, and `open` never goes below what lies in the directory, so a number is not reused
    /// though the edit that used it was lost (M4).
    pub(crate) fn next_file(&self) -> u64 {
        self.next_file.fetch_add(1, Ordering::Relaxed)
    }

    /// Where segments are made.
    pub(crate) fn site(&self) -> SegmentSite<'_> {
        SegmentSite {
            fs: &self.fs,
            random: &*self.random,
            dir: &self.paths.segments,
            next_file: &self.next_file,
            index_rows_min: self.shared.settings.index_rows_min,
            threads: self.build_threads(),
        }
    }

    /// Opens a segment that this process just wrote or the manifest names.
    pub(crate) fn open_part(
        &self,
        collection: &CollectionCore,
        meta: &SegmentMeta,
        dead: RoaringBitmap,
    ) -> Result<Arc<SegmentPart>> {
        let schema = collection.schema();
        let params =
            SegmentParams { collection: collection.id, dim: schema.dim, metric: schema.metric };
        let mode = self.shared.settings.read_mode;
        let segment = Segment::open(&*self.fs, &self.paths.segments, meta, params, mode)?;
        Ok(Arc::new(SegmentPart::new(segment, dead)))
    }

    /// Threads of a flush or merge; one alone where all work is done by callers.
    fn build_threads(&self) -> Threads {
        match self.background.is_inline() {
            true => Threads(1),
            false => Threads::new(self.shared.settings.build_threads),
        }
    }

    /// Threads of moves that are made at once.
    pub(crate) fn move_threads(&self) -> Threads {
        match self.background.is_inline() {
            true => Threads(1),
            false => Threads::new(self.shared.settings.tiers.moves_max),
        }
    }

    /// An edit that changes nothing but the high-water marks. `retiring` are memtables of
    /// collections that the caller's edit makes unnecessary: the log need not be kept for them.
    pub(crate) fn edit<'a>(
        &self,
        retiring: impl IntoIterator<Item = (u32, &'a [Arc<Memtable>])>,
    ) -> Edit {
        let retiring: BTreeMap<_, _> = retiring.into_iter().collect();
        // The applied mark is read first: a write applied after it is in a memtable that the
        // loop below sees, or is above the mark; either way the log keeps it.
        // Nor may the mark pass what is synced: LSNs above that can be given anew after a crash.
        let applied = self.shared.applied();
        let mut floor = applied.min(self.commit.stats().durable_upto);
        for collection in self.collections.read().values() {
            let retired = retiring.get(&collection.id).copied().unwrap_or_default();
            if let Some(first) = collection.first_unflushed(retired) {
                floor = floor.min(Lsn::new(first.get() - 1));
            }
        }
        Edit {
            next_file: self.next_file.load(Ordering::Relaxed),
            log_floor: floor,
            ..Edit::default()
        }
    }

    /// Gives up WAL files that the durable manifest no longer needs. Files that stay are no
    /// failure of the flush that made them unnecessary: noted, and tried again after the next.
    pub(crate) fn trim_log(&self) {
        let floor = self.manifest.lock().state().log_floor;
        if let Err(error) = self.commit.remove_upto(floor).wait() {
            self.background.note(error.into());
        }
    }

    /// The collection of this name.
    pub(crate) fn collection(&self, name: &str) -> Result<Arc<CollectionCore>> {
        self.shared.check_open()?;
        let collections = self.collections.read();
        let found = collections.values().find(|c| c.name == name).cloned();
        let found = found.ok_or_else(|| Cause::CollectionNotFound { name: name.to_owned() })?;
        self.check_undamaged(name)?;
        Ok(found)
    }

    /// All collections, by id.
    pub(crate) fn all_collections(&self) -> Vec<Arc<CollectionCore>> {
        self.collections.read().values().cloned().collect()
    }

    /// The names of all collections, sorted.
    pub(crate) fn collection_names(&self) -> Result<Vec<String>> {
        self.shared.check_open()?;
        let mut names: Vec<_> = self.collections.read().values().map(|c| c.name.clone()).collect();
        names.sort_unstable();
        Ok(names)
    }

    /// Queues segments for unlinking once no reader holds them.
    pub(crate) fn retire(&self, parts: Vec<Arc<SegmentPart>>) {
        self.retired.add(parts.into_iter().map(|part| {
            let path = self.paths.segments.join(format!("{:012}.seg", part.number()));
            (part, path)
        }));
        self.sweep();
    }

    /// Unlinks obsolete segments that nobody reads any more. Best effort: a file that stays is
    /// an orphan that the next open reports. Poisoned databases delete nothing (M3).
    pub(crate) fn sweep(&self) {
        if self.shared.poisoned().is_some() {
            return;
        }
        for path in self.retired.sweep() {
            if let Err(error) = self.fs.remove_file(&path) {
                self.background.note(error.into());
            }
        }
    }

    /// Unlinks segments that were written for a change that did not happen: a job that fails and
    /// is tried again must not fill the disk. A poisoned database does not know what happened.
    pub(crate) fn discard(&self, parts: &[Arc<SegmentPart>]) {
        if self.shared.poisoned().is_some() {
            return;
        }
        for part in parts {
            if let Err(error) = self.fs.remove_file(part.segment.path()) {
                self.background.note(error.into());
            }
        }
    }

    /// Deletes an object that was put for a change that did not happen, as [`DbCore::discard`]. If the
    /// store refuses for now, the manifest remembers it as garbage.
    pub(crate) fn discard_object(&self, key: &str) {
        if self.shared.poisoned().is_some() || self.read_only.is_some() {
            return;
        }
        let deleted = self
            .parse_key(key)
            .and_then(|key| self.block_on(self.store.delete(&key)).map_err(Error::from));
        if let Err(error) = deleted {
            self.background.note(error);
            // Else nobody would ever know of it again.
            let edit = Edit { add_garbage: vec![key.to_owned()], ..self.edit(None) };
            if let Err(error) = self.commit_manifest(edit) {
                self.background.note(error);
            }
        }
    }

    /// The tombstone file that the manifest names for a collection now.
    pub(crate) fn named_tombstones(&self, collection: u32) -> Option<TombstoneMeta> {
        self.with_manifest(|m| m.state().collections.get(&collection)?.tombstones.clone())
    }

    /// Unlinks a tombstone file that a durable manifest record has just replaced or dropped. Only
    /// opening reads these files, so nobody holds it. Best effort, as [`DbCore::sweep`].
    pub(crate) fn unlink_tombstones(&self, replaced: Option<TombstoneMeta>) {
        let Some(meta) = replaced.filter(|_| self.shared.poisoned().is_none()) else { return };
        let path = tombstone_path(&self.paths.segments, meta.number);
        if let Err(error) = self.fs.remove_file(&path) {
            self.background.note(error.into());
        }
    }

    /// Reads of the manifest's folded state.
    pub(crate) fn with_manifest<T>(&self, read: impl FnOnce(&ManifestStore) -> T) -> T {
        read(&self.manifest.lock())
    }

    /// What a cold object of a view says of itself.
    pub(crate) fn cold_context<'a>(
        &self,
        collection: &CollectionCore,
        view: &'a View,
    ) -> ColdContext<'a> {
        ColdContext {
            database: self.database(),
            collection: collection.id,
            schema: &view.schema,
            rows: view.live_rows(),
        }
    }

    /// The id of the database.
    pub(crate) fn database(&self) -> Uuid {
        self.with_manifest(|manifest| manifest.state().database)
    }

    /// The key of an object of this database.
    pub(crate) fn object_key(&self, name: &str) -> Result<ObjectKey> {
        let database = self.database();
        self.parse_key(&format!("{}/{name}", database.simple()))
    }

    /// A key as the manifest spells it.
    pub(crate) fn parse_key(&self, key: &str) -> Result<ObjectKey> {
        ObjectKey::new(key).map_err(Error::from)
    }

    /// Waits for an object-store call on this thread.
    pub(crate) fn block_on<F: Future>(&self, future: F) -> F::Output {
        futures_lite::future::block_on(future)
    }

    /// Stops the background work, seals the log, waits for jobs that other threads are at, and
    /// lets go of the directory. A second closer waits for the first.
    pub(crate) fn close(&self) -> Result<()> {
        let mut lock = self.lock.lock();
        self.background.stop();
        let sealed = if self.shared.set_closed() { self.commit.close() } else { Ok(()) };
        self.wait_for_jobs();
        self.sweep();
        *lock = None;
        sealed.map_err(Error::from)
    }

    /// Returns when no job writes or unlinks files any more. The database is closed by now, and
    /// each job looks at that after it took its lock and before it makes a file. Without the wait
    /// the next opener and a job under way would give one number to two files.
    fn wait_for_jobs(&self) {
        drop(self.creating.lock());
        for collection in self.all_collections() {
            collection.tier.close();
            drop(collection.moves.lock());
            drop(collection.flushing.lock());
            drop(collection.structure.lock());
        }
    }
}

impl Drop for DbCore {
    fn drop(&mut self) {
        // Nothing relies on this: it only spares the next open a longer replay.
        drop(self.close());
    }
}
