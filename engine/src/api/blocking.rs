//! The same database without a runtime: every call does its work, and waits, on the calling
//! thread. Both kinds of handle can be used on one open database: see [`Db::into_async`].
//!
//! ```
//! use akidb::{Metric, Point, Schema, blocking::Db};
//! # let dir = tempfile::tempdir().unwrap();
//! let db = Db::open(dir.path())?;
//! let docs = db.create_collection("docs", Schema::new(2, Metric::L2))?;
//! docs.upsert([Point::new(1, [0.0, 0.0]), Point::new(2, [3.0, 4.0])]).run()?;
//! let hits = docs.search(&[0.0, 0.0]).k(2).run()?;
//! assert_eq!((hits[1].score, hits.len()), (-5.0, 2));
//! db.close()?;
//! # Ok::<(), akidb::Error>(())
//! ```

use super::{
    DbBuilder,
    requests::{Scan, Search, Write},
};
use crate::{
    CollectionStats, Cursor, DbStats, DeadMove, Durability, Explain, FieldType, Filter, Hit, Loss,
    Page, Point, PointId, Receipt, Record, RecoveryReport, Schema, SnapshotInfo, Tier, TierCycle,
    api::owner::Owner,
    collection::CollectionCore,
    db::{Waiting, Write as CoreWrite},
    error::Result,
    maintenance::{copies, moves, packs, snapshot},
    read::{ScanSpec, SearchSpec},
    schema::FieldDef,
};
use akidb_tiering::{ObjectStore, TierOverrides};
use serde_json::Value;
use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

/// An open database. The verbs, their errors and promises are those of [`crate::Db`].
#[derive(Clone, Debug)]
pub struct Db {
    core: Arc<Owner>,
}

impl Db {
    pub(super) fn new(core: Arc<Owner>) -> Self {
        Self { core }
    }

    /// See [`crate::Db::open`].
    ///
    /// # Errors
    /// As there.
    pub fn open(dir: impl AsRef<Path>) -> Result<Self> {
        DbBuilder::new(dir).open_blocking()
    }

    /// Settings and components other than the usual ones.
    pub fn builder(dir: impl AsRef<Path>) -> DbBuilder {
        DbBuilder::new(dir)
    }

    /// An async handle of the same database.
    #[must_use]
    pub fn into_async(self) -> crate::Db {
        crate::Db::new(self.core)
    }

    /// What opening found and did.
    pub fn recovery_report(&self) -> &RecoveryReport {
        &self.core.recovery
    }

    /// See [`crate::Db::damage`].
    pub fn damage(&self) -> &[Loss] {
        self.core.damage()
    }

    /// See [`crate::Db::create_collection`].
    ///
    /// # Errors
    /// As there.
    pub fn create_collection(&self, name: &str, schema: Schema) -> Result<Collection> {
        self.core.create_collection(name, schema, None).map(|collection| self.handle(collection))
    }

    /// See [`crate::Db::create_collection_in`].
    ///
    /// # Errors
    /// As there.
    pub fn create_collection_in(
        &self,
        namespace: &str,
        name: &str,
        schema: Schema,
    ) -> Result<Collection> {
        let created = self.core.create_collection(name, schema, Some(namespace));
        created.map(|collection| self.handle(collection))
    }

    /// See [`crate::Db::collection`].
    ///
    /// # Errors
    /// As there.
    pub fn collection(&self, name: &str) -> Result<Collection> {
        self.core.collection(name).map(|collection| self.handle(collection))
    }

    /// See [`crate::Db::list_collections`].
    ///
    /// # Errors
    /// As there.
    pub fn list_collections(&self) -> Result<Vec<String>> {
        self.core.collection_names()
    }

    /// See [`crate::Db::drop_collection`].
    ///
    /// # Errors
    /// As there.
    pub fn drop_collection(&self, name: &str) -> Result<()> {
        self.core.drop_collection(name)
    }

    /// See [`crate::Db::flush`].
    ///
    /// # Errors
    /// As there.
    pub fn flush(&self) -> Result<()> {
        self.core.flush_all()
    }

    /// See [`crate::Db::compact`].
    ///
    /// # Errors
    /// As there.
    pub fn compact(&self) -> Result<()> {
        self.core.compact_all()
    }

    /// See [`crate::Db::list_snapshots`].
    pub fn list_snapshots(&self) -> Vec<SnapshotInfo> {
        snapshot::list(&self.core)
    }

    /// See [`crate::Db::restore_snapshot`].
    ///
    /// # Errors
    /// As there.
    pub fn restore_snapshot(&self, snapshot: &str, collection: &str) -> Result<Collection> {
        snapshot::restore(&self.core, snapshot, collection).map(|restored| self.handle(restored))
    }

    /// See [`crate::Db::restore_snapshot_over`].
    ///
    /// # Errors
    /// As there.
    pub fn restore_snapshot_over(&self, snapshot: &str, collection: &str) -> Result<Collection> {
        let old = self.core.collection(collection)?;
        snapshot::restore_over(&self.core, snapshot, &old).map(|restored| self.handle(restored))
    }

    /// See [`crate::Db::verify_snapshot`].
    ///
    /// # Errors
    /// As there.
    pub fn verify_snapshot(&self, name: &str) -> Result<u64> {
        copies::verify(&self.core, name)
    }

    /// See [`crate::Db::copy_snapshot`].
    ///
    /// # Errors
    /// As there.
    pub fn copy_snapshot(&self, name: &str, to: &dyn ObjectStore, key: &str) -> Result<()> {
        copies::copy(&self.core, name, to, key)
    }

    /// See [`crate::Db::restore_copy`].
    ///
    /// # Errors
    /// As there.
    pub fn restore_copy(
        &self,
        from: &dyn ObjectStore,
        key: &str,
        collection: &str,
    ) -> Result<Collection> {
        copies::restore(&self.core, from, key, collection).map(|restored| self.handle(restored))
    }

    /// See [`crate::Db::delete_snapshot`].
    ///
    /// # Errors
    /// As there.
    pub fn delete_snapshot(&self, name: &str) -> Result<()> {
        snapshot::delete(&self.core, name)
    }

    /// See [`crate::Db::is_outdated`].
    ///
    /// # Errors
    /// As there.
    pub fn is_outdated(&self) -> Result<bool> {
        self.core.is_outdated()
    }

    /// See [`crate::Db::demote_many`].
    ///
    /// # Errors
    /// As there.
    pub fn demote_many<N: Into<String>>(
        &self,
        collections: impl IntoIterator<Item = N>,
    ) -> Result<Vec<Result<bool>>> {
        let names: Vec<String> = collections.into_iter().map(Into::into).collect();
        packs::demote_many(&self.core, &names)
    }

    /// See [`crate::Db::pause_tiering`].
    pub fn pause_tiering(&self) {
        self.core.pause_tiering(true);
    }

    /// See [`crate::Db::resume_tiering`].
    pub fn resume_tiering(&self) {
        self.core.pause_tiering(false);
    }

    /// See [`crate::Db::run_tiering`].
    ///
    /// # Errors
    /// As there.
    pub fn run_tiering(&self) -> Result<TierCycle> {
        self.core.run_tiering()
    }

    /// See [`crate::Db::dead_letters`].
    ///
    /// # Errors
    /// As there.
    pub fn dead_letters(&self) -> Result<Vec<DeadMove>> {
        self.core.dead_letters()
    }

    /// See [`crate::Db::retry_dead_letter`].
    ///
    /// # Errors
    /// As there.
    pub fn retry_dead_letter(&self, id: u64) -> Result<bool> {
        self.core.retry_dead_letter(id)
    }

    /// See [`crate::Db::drop_dead_letter`].
    ///
    /// # Errors
    /// As there.
    pub fn drop_dead_letter(&self, id: u64) -> Result<()> {
        self.core.drop_dead_letter(id)
    }

    /// See [`crate::Db::stats`].
    pub fn stats(&self) -> DbStats {
        self.core.stats()
    }

    /// The directory.
    pub fn dir(&self) -> PathBuf {
        self.core.paths.root.clone()
    }

    /// See [`crate::Db::close`].
    ///
    /// # Errors
    /// As there.
    pub fn close(self) -> Result<()> {
        self.core.close()
    }

    fn handle(&self, collection: Arc<CollectionCore>) -> Collection {
        Collection { core: self.core.clone(), collection }
    }
}

/// A collection of an open database. The verbs, their errors and promises are those of
/// [`crate::Collection`].
#[derive(Clone, Debug)]
pub struct Collection {
    core: Arc<Owner>,
    collection: Arc<CollectionCore>,
}

impl Collection {
    /// The name.
    pub fn name(&self) -> &str {
        &self.collection.name
    }

    /// The schema as of now.
    pub fn schema(&self) -> Schema {
        (*self.collection.schema()).clone()
    }

    /// See [`crate::Collection::upsert`].
    pub fn upsert(&self, points: impl IntoIterator<Item = Point>) -> Write<'_, Self> {
        Write::new(self, CoreWrite::Upsert(points.into_iter().collect()))
    }

    /// See [`crate::Collection::insert`].
    pub fn insert(&self, points: impl IntoIterator<Item = Point>) -> Write<'_, Self> {
        Write::new(self, CoreWrite::Insert(points.into_iter().collect()))
    }

    /// See [`crate::Collection::update_metadata`].
    pub fn update_metadata<I: Into<PointId>>(
        &self,
        changes: impl IntoIterator<Item = (I, Value)>,
    ) -> Write<'_, Self> {
        let changes = changes.into_iter().map(|(id, value)| (id.into(), value)).collect();
        Write::new(self, CoreWrite::Update(changes))
    }

    /// See [`crate::Collection::delete`].
    pub fn delete<I: Into<PointId>>(&self, ids: impl IntoIterator<Item = I>) -> Write<'_, Self> {
        Write::new(self, CoreWrite::Delete(ids.into_iter().map(Into::into).collect()))
    }

    /// See [`crate::Collection::delete_where`].
    pub fn delete_where(&self, filter: impl Into<Filter>) -> Write<'_, Self> {
        Write::new(self, CoreWrite::DeleteMatching(filter.into()))
    }

    /// See [`crate::Collection::search`].
    pub fn search(&self, query: &[f32]) -> Search<'_, Self> {
        Search::new(self, query)
    }

    /// See [`crate::Collection::search_batch`].
    ///
    /// # Errors
    /// As there.
    pub fn search_batch<'a>(
        &'a self,
        requests: impl IntoIterator<Item = Search<'a, Self>>,
    ) -> Result<Vec<Vec<Hit>>> {
        let specs: Vec<_> = requests.into_iter().map(|request| request.spec).collect();
        self.core.search_batch(&self.collection, &specs)
    }

    /// See [`crate::Collection::get`].
    ///
    /// # Errors
    /// As there.
    pub fn get<I: Into<PointId>>(
        &self,
        ids: impl IntoIterator<Item = I>,
    ) -> Result<Vec<Option<Record>>> {
        let ids: Vec<PointId> = ids.into_iter().map(Into::into).collect();
        self.core.get(&self.collection, &ids)
    }

    /// See [`crate::Collection::scan`].
    pub fn scan(&self) -> Scan<'_, Self> {
        Scan::new(self)
    }

    /// See [`crate::Collection::count`].
    ///
    /// # Errors
    /// As there.
    pub fn count(&self, filter: Option<&Filter>) -> Result<u64> {
        self.core.count(&self.collection, filter)
    }

    /// See [`crate::Collection::add_field`].
    ///
    /// # Errors
    /// As there.
    pub fn add_field(&self, name: &str, field_type: FieldType) -> Result<()> {
        self.core.add_field(&self.collection, FieldDef { name: name.to_owned(), field_type })
    }

    /// See [`crate::Collection::flush`].
    ///
    /// # Errors
    /// As there.
    pub fn flush(&self) -> Result<()> {
        self.core.flush(&self.collection)
    }

    /// See [`crate::Collection::compact`].
    ///
    /// # Errors
    /// As there.
    pub fn compact(&self) -> Result<()> {
        self.core.compact(&self.collection)
    }

    /// See [`crate::Collection::demote`].
    ///
    /// # Errors
    /// As there.
    pub fn demote(&self) -> Result<bool> {
        moves::move_to(&self.core, &self.collection, Tier::Cold, None)
    }

    /// See [`crate::Collection::promote`].
    ///
    /// # Errors
    /// As there.
    pub fn promote(&self) -> Result<bool> {
        moves::promote_by_hand(&self.core, &self.collection)
    }

    /// See [`crate::Collection::move_to`].
    ///
    /// # Errors
    /// As there.
    pub fn move_to(&self, tier: Tier) -> Result<bool> {
        moves::move_to(&self.core, &self.collection, tier, None)
    }

    /// See [`crate::Collection::tier`].
    pub fn tier(&self) -> Tier {
        self.collection.tier.tier()
    }

    /// See [`crate::Collection::set_tier_overrides`].
    ///
    /// # Errors
    /// As there.
    pub fn set_tier_overrides(&self, overrides: TierOverrides) -> Result<()> {
        self.core.set_tier_overrides(&self.collection, overrides)
    }

    /// See [`crate::Collection::pin`].
    ///
    /// # Errors
    /// As there.
    pub fn pin(&self, pinned: bool) -> Result<()> {
        moves::pin(&self.core, &self.collection, pinned)
    }

    /// See [`crate::Collection::snapshot`].
    ///
    /// # Errors
    /// As there.
    pub fn snapshot(&self, name: &str) -> Result<SnapshotInfo> {
        snapshot::create(&self.core, &self.collection, name)
    }

    /// See [`crate::Collection::verify`].
    ///
    /// # Errors
    /// As there.
    pub fn verify(&self) -> Result<u64> {
        self.core.verify(&self.collection)
    }

    /// See [`crate::Collection::stats`].
    pub fn stats(&self) -> CollectionStats {
        self.core.collection_stats(&self.collection)
    }

    pub(super) fn run_search(&self, spec: &SearchSpec) -> Result<(Vec<Hit>, Explain)> {
        self.core.search(&self.collection, spec)
    }

    pub(super) fn run_scan(&self, cursor: Option<&Cursor>, spec: ScanSpec) -> Result<Page> {
        self.core.scan(&self.collection, cursor, spec)
    }

    pub(super) fn run_write(
        &self,
        write: CoreWrite,
        durability: Option<Durability>,
    ) -> Result<Receipt> {
        let waiting = Waiting::Thread;
        futures_lite::future::block_on(self.core.write(
            &self.collection,
            write,
            durability,
            waiting,
        ))
    }
}
