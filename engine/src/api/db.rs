//! The async handle of a database.

use super::{Collection, DbBuilder, owner::Owner, task};
use crate::{
    DbStats, DeadMove, Loss, RecoveryReport, Schema, SnapshotInfo, TierCycle,
    db::DbCore,
    error::Result,
    maintenance::{copies, packs, snapshot},
};
use akidb_tiering::ObjectStore;
use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

/// An open database. Cheap to clone; works on any async executor. One process at a time holds a
/// directory.
///
/// ```
/// use akidb::{Db, Metric, Schema};
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> akidb::Result<()> {
/// # let dir = tempfile::tempdir().unwrap();
/// let db = Db::open(dir.path()).await?;
/// db.create_collection("docs", Schema::new(384, Metric::Cosine)).await?;
/// assert_eq!(db.list_collections()?, ["docs"]);
/// db.close().await?;
/// # Ok(()) }
/// ```
#[derive(Clone, Debug)]
pub struct Db {
    core: Arc<Owner>,
}

impl Db {
    pub(super) fn new(core: Arc<Owner>) -> Self {
        Self { core }
    }

    /// Opens the database in `dir`, creating it if there is none, and recovers what a crash left.
    ///
    /// # Errors
    /// `Locked` (naming the holder), `Incompatible` (newer or foreign files), `Corruption`
    /// (naming the file), `PermissionDenied`, `NoSpace`.
    pub async fn open(dir: impl AsRef<Path>) -> Result<Self> {
        DbBuilder::new(dir).open().await
    }

    /// Settings and components other than the usual ones.
    pub fn builder(dir: impl AsRef<Path>) -> DbBuilder {
        DbBuilder::new(dir)
    }

    /// What opening found and did.
    pub fn recovery_report(&self) -> &RecoveryReport {
        &self.core.recovery
    }

    /// What cannot be read, of a damaged database that was opened with
    /// [`crate::DbBuilder::read_only`]; else nothing.
    pub fn damage(&self) -> &[Loss] {
        self.core.damage()
    }

    /// Creates an empty collection; durable when it returns.
    ///
    /// # Errors
    /// `InvalidInput` for a bad name or schema, `AlreadyExists`, `QuotaExceeded`.
    pub async fn create_collection(&self, name: &str, schema: Schema) -> Result<Collection> {
        let name = name.to_owned();
        let created = task::job(&self.core, "create", move |core| {
            core.create_collection(&name, schema, None)
        });
        created.await.map(|collection| self.handle(collection))
    }

    /// Creates an empty collection in a namespace: a group of collections with limits of its own, see
    /// [`crate::Limits`]. Names are unique across namespaces, and a namespace needs no creating.
    ///
    /// # Errors
    /// As [`Db::create_collection`]; `QuotaExceeded`.
    pub async fn create_collection_in(
        &self,
        namespace: &str,
        name: &str,
        schema: Schema,
    ) -> Result<Collection> {
        let (name, namespace) = (name.to_owned(), namespace.to_owned());
        let created = task::job(&self.core, "create", move |core| {
            core.create_collection(&name, schema, Some(&namespace))
        });
        created.await.map(|collection| self.handle(collection))
    }

    /// The collection of this name.
    ///
    /// # Errors
    /// `NotFound`, `Closed`.
    pub fn collection(&self, name: &str) -> Result<Collection> {
        self.core.collection(name).map(|collection| self.handle(collection))
    }

    /// The names of all collections, sorted.
    ///
    /// # Errors
    /// `Closed`.
    pub fn list_collections(&self) -> Result<Vec<String>> {
        self.core.collection_names()
    }

    /// Drops a collection with all its rows, local and cold; durable when it returns. Snapshots
    /// of it stay.
    ///
    /// # Errors
    /// `NotFound`; errors of writing the manifest.
    pub async fn drop_collection(&self, name: &str) -> Result<()> {
        let name = name.to_owned();
        task::job(&self.core, "drop", move |core| core.drop_collection(&name)).await
    }

    /// Flushes every collection.
    ///
    /// # Errors
    /// Errors of writing files.
    pub async fn flush(&self) -> Result<()> {
        task::job(&self.core, "flush-now", DbCore::flush_all).await
    }

    /// Compacts every collection into one segment each.
    ///
    /// # Errors
    /// Errors of reading and writing files.
    pub async fn compact(&self) -> Result<()> {
        task::job(&self.core, "compact-now", DbCore::compact_all).await
    }

    /// All snapshots, by name.
    pub fn list_snapshots(&self) -> Vec<SnapshotInfo> {
        snapshot::list(&self.core)
    }

    /// Makes a new collection from a snapshot.
    ///
    /// # Errors
    /// `NotFound` (no such snapshot), `AlreadyExists` (the collection's name), `Corruption`
    /// naming the object; nothing is created then.
    pub async fn restore_snapshot(&self, snapshot: &str, collection: &str) -> Result<Collection> {
        let (from, to) = (snapshot.to_owned(), collection.to_owned());
        let restored =
            task::job(&self.core, "restore", move |core| snapshot::restore(core, &from, &to));
        restored.await.map(|collection| self.handle(collection))
    }

    /// Puts what a snapshot holds in the place of a collection, in one step: whoever looks finds the one
    /// or the other. Handles of the old one get `NotFound`; the new one is in its namespace, has its pin and
    /// its rules for tiers, and the schema of the snapshot.
    ///
    /// The disk does not hold both, unless somebody still reads the old rows: the snapshot is read and checked,
    /// the step puts its object in their place, and then it is read again to bring the new rows here, hot if the
    /// old ones were, else warm. If they cannot come, as where the disk is full of other things, the collection is restored and cold, and
    /// each read of it tries again.
    ///
    /// # Errors
    /// `NotFound` (no such snapshot or collection), `Corruption` naming the object; nothing is changed
    /// then.
    pub async fn restore_snapshot_over(
        &self,
        snapshot: &str,
        collection: &str,
    ) -> Result<Collection> {
        let (from, old) = (snapshot.to_owned(), self.core.collection(collection)?);
        let restored =
            task::job(&self.core, "restore", move |core| snapshot::restore_over(core, &from, &old));
        restored.await.map(|collection| self.handle(collection))
    }

    /// Reads every byte of a snapshot and checks it: length and checksum of its object, the checksums of
    /// its rows, and their number, which is returned.
    ///
    /// # Errors
    /// `NotFound`; `Corruption` naming the object; `Unavailable`.
    pub async fn verify_snapshot(&self, name: &str) -> Result<u64> {
        let name = name.to_owned();
        task::job(&self.core, "snapshot", move |core| copies::verify(core, &name)).await
    }

    /// Puts a copy of a snapshot into another store, a bucket or a directory, under a key that is free
    /// there. The copy is one Parquet file that needs nothing beside it: its footer says schema, creator
    /// and checksums. Where a store keeps to no conditions, of two copies to one key at once both may go well.
    ///
    /// # Errors
    /// `NotFound`; `InvalidInput` for a bad key, `AlreadyExists` for one that is taken; `Corruption`
    /// naming the object; errors of either store.
    pub async fn copy_snapshot(
        &self,
        name: &str,
        to: Arc<dyn ObjectStore>,
        key: &str,
    ) -> Result<()> {
        let (name, key) = (name.to_owned(), key.to_owned());
        task::job(&self.core, "snapshot", move |core| copies::copy(core, &name, &*to, &key)).await
    }

    /// Makes a new collection of a copy that [`Db::copy_snapshot`] of this or another database made. Rows
    /// are written as by an upsert. If it fails on the way, the collection is dropped again.
    ///
    /// # Errors
    /// `AlreadyExists` (the collection's name), `NotFound`, `Corruption` or `Incompatible` (the object,
    /// which is named); those of an upsert.
    pub async fn restore_copy(
        &self,
        from: Arc<dyn ObjectStore>,
        key: &str,
        collection: &str,
    ) -> Result<Collection> {
        let (key, name) = (key.to_owned(), collection.to_owned());
        let restore = move |core: &DbCore| copies::restore(core, &*from, &key, &name);
        task::job(&self.core, "restore", restore).await.map(|restored| self.handle(restored))
    }

    /// Deletes a snapshot and its object.
    ///
    /// # Errors
    /// `NotFound`; errors of writing the manifest.
    pub async fn delete_snapshot(&self, name: &str) -> Result<()> {
        let name = name.to_owned();
        task::job(&self.core, "snapshot", move |core| snapshot::delete(core, &name)).await
    }

    /// Whether the bucket says something else by now than when this database was opened from it for
    /// reading only: open it again to see that. False for any other database. One or two requests.
    ///
    /// # Errors
    /// `Unavailable`; `Corruption` of the manifest in the bucket.
    pub async fn is_outdated(&self) -> Result<bool> {
        task::job(&self.core, "look", DbCore::is_outdated).await
    }

    /// Demotes collections together, as [`Collection::demote`] does each: small ones share an object, see
    /// [`crate::TierSettings::packs`], so that thousands of them cost hundreds of requests. Returns what
    /// became of each, in the order of the names; one that fails keeps no other from moving.
    ///
    /// # Errors
    /// `Reopen`, `Closed`, `PermissionDenied` if opened for reading only; then nothing was tried.
    pub async fn demote_many<N: Into<String>>(
        &self,
        collections: impl IntoIterator<Item = N>,
    ) -> Result<Vec<Result<bool>>> {
        let names: Vec<String> = collections.into_iter().map(Into::into).collect();
        task::job(&self.core, "demote", move |core| packs::demote_many(core, &names)).await
    }

    /// Stops the cycles of the tier policy that come by time. A cycle that runs ends as it would;
    /// moves by hand go on. Forgotten at the close.
    pub fn pause_tiering(&self) {
        self.core.pause_tiering(true);
    }

    /// Lets the cycles of the tier policy come again.
    pub fn resume_tiering(&self) {
        self.core.pause_tiering(false);
    }

    /// Asks the tier policy now, and makes the moves that are due, also while it is paused. Returns
    /// when they have ended.
    ///
    /// # Errors
    /// `Reopen`, `Closed`. What a move met is in [`crate::TieringStats::last_error`].
    pub async fn run_tiering(&self) -> Result<TierCycle> {
        task::job(&self.core, "tiers-now", DbCore::run_tiering).await
    }

    /// Moves that the policy has given up, the oldest first. The collections are where they were.
    ///
    /// # Errors
    /// `Corruption` or `Incompatible` naming the file `dead-letters`, which may be removed.
    pub fn dead_letters(&self) -> Result<Vec<DeadMove>> {
        self.core.dead_letters()
    }

    /// Tries a move again that was given up. Its letter goes if that works. Returns whether anything
    /// moved.
    ///
    /// # Errors
    /// `NotFound` if there is no such letter; as [`Collection::move_to`].
    pub async fn retry_dead_letter(&self, id: u64) -> Result<bool> {
        task::job(&self.core, "dlq", move |core| core.retry_dead_letter(id)).await
    }

    /// Drops a letter. Nothing but the note is lost: the policy may try that move again.
    ///
    /// # Errors
    /// `NotFound`; errors of writing the file.
    pub async fn drop_dead_letter(&self, id: u64) -> Result<()> {
        task::job(&self.core, "dlq", move |core| core.drop_dead_letter(id)).await
    }

    /// What the database consists of and what its background work did.
    pub fn stats(&self) -> DbStats {
        self.core.stats()
    }

    /// The directory.
    pub fn dir(&self) -> PathBuf {
        self.core.paths.root.clone()
    }

    /// Stops the background work, seals the log and lets go of the directory. Other handles get
    /// `Closed` from here on. Dropping the last handle does the same, but swallows the error.
    ///
    /// # Errors
    /// Errors of the last sync; what was acknowledged as synced is safe all the same.
    pub async fn close(self) -> Result<()> {
        task::job(&self.core, "close", DbCore::close).await
    }

    fn handle(&self, collection: Arc<crate::collection::CollectionCore>) -> Collection {
        Collection { core: self.core.clone(), collection }
    }
}
