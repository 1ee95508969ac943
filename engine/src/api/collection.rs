//! The async handle of a collection.

use super::{
    owner::Owner,
    requests::{Scan, Search, Write},
    task,
};
use crate::{
    CollectionStats, Cursor, Durability, Explain, FieldType, Filter, Hit, Page, Point, PointId,
    Receipt, Record, Schema, SnapshotInfo, Tier,
    collection::CollectionCore,
    db::{DbCore, Waiting, Write as CoreWrite},
    error::Result,
    maintenance::{moves, snapshot},
    read::{ScanSpec, SearchSpec},
    schema::FieldDef,
};
use akidb_tiering::TierOverrides;
use serde_json::Value;
use std::sync::Arc;

/// A collection of an open database. Cheap to clone; works on any async executor.
///
/// ```
/// use akidb::{Db, Metric, Point, Schema, field};
/// use serde_json::json;
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> akidb::Result<()> {
/// # let dir = tempfile::tempdir().unwrap();
/// let db = Db::open(dir.path()).await?;
/// let docs = db.create_collection("docs", Schema::new(2, Metric::Cosine)).await?;
/// docs.upsert([Point::new("a", [1.0, 0.0]).meta(json!({"pos": "noun"}))]).await?;
/// let hits = docs.search(&[1.0, 0.1]).k(1).filter(field("pos").eq("noun")).await?;
/// assert_eq!(hits[0].id.to_string(), "a");
/// db.close().await?;
/// # Ok(()) }
/// ```
#[derive(Clone, Debug)]
pub struct Collection {
    pub(super) core: Arc<Owner>,
    pub(super) collection: Arc<CollectionCore>,
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

    /// Writes rows, replacing those whose ids exist. All or nothing; of repeated ids in one batch
    /// the last wins.
    ///
    /// # Errors
    /// `InvalidInput` for a row that breaks a rule, `NoSpace`, `Reopen`, `Closed`, `NotFound` if
    /// the collection was dropped. After an error other than `InvalidInput`, `NotFound` and
    /// `NoSpace` the batch may or may not exist, but never partly; repeating it is safe.
    pub fn upsert(&self, points: impl IntoIterator<Item = Point>) -> Write<'_, Self> {
        Write::new(self, CoreWrite::Upsert(points.into_iter().collect()))
    }

    /// Writes rows that must not exist yet.
    ///
    /// # Errors
    /// As [`Collection::upsert`], and `AlreadyExists` naming the first id that exists.
    pub fn insert(&self, points: impl IntoIterator<Item = Point>) -> Write<'_, Self> {
        Write::new(self, CoreWrite::Insert(points.into_iter().collect()))
    }

    /// Changes some metadata keys of rows that must exist: a key set to null is removed, any
    /// other replaces the old value; other keys and the vector stay.
    ///
    /// # Errors
    /// As [`Collection::upsert`], and `NotFound` naming the first id that does not exist.
    pub fn update_metadata<I: Into<PointId>>(
        &self,
        changes: impl IntoIterator<Item = (I, Value)>,
    ) -> Write<'_, Self> {
        let changes = changes.into_iter().map(|(id, value)| (id.into(), value)).collect();
        Write::new(self, CoreWrite::Update(changes))
    }

    /// Deletes rows by id; ids that do not exist are fine.
    ///
    /// # Errors
    /// As [`Collection::upsert`], without `NoSpace` while the disk reserve lasts.
    pub fn delete<I: Into<PointId>>(&self, ids: impl IntoIterator<Item = I>) -> Write<'_, Self> {
        Write::new(self, CoreWrite::Delete(ids.into_iter().map(Into::into).collect()))
    }

    /// Deletes every row that matches as of now; the receipt says how many. Rows that concurrent
    /// writers add meanwhile may stay.
    ///
    /// # Errors
    /// As [`Collection::delete`], and `InvalidInput` for a filter that breaks a rule.
    pub fn delete_where(&self, filter: impl Into<Filter>) -> Write<'_, Self> {
        Write::new(self, CoreWrite::DeleteMatching(filter.into()))
    }

    /// The nearest rows, nearest first; ties go to the smaller id. A cold collection is promoted
    /// first.
    ///
    /// # Errors
    /// `InvalidInput` for a query, k or filter that breaks a rule; `Corruption` naming the file;
    /// `Unavailable` if the object store does not answer; `NotFound` if it was dropped.
    pub fn search(&self, query: &[f32]) -> Search<'_, Self> {
        Search::new(self, query)
    }

    /// Several searches, answered in order. `requests` are searches built by
    /// [`Collection::search`] on this collection; they see one consistent view each.
    ///
    /// # Errors
    /// The first error of any search.
    pub async fn search_batch<'a>(
        &'a self,
        requests: impl IntoIterator<Item = Search<'a, Self>>,
    ) -> Result<Vec<Vec<Hit>>> {
        let specs: Vec<_> = requests.into_iter().map(|request| request.spec).collect();
        let collection = self.collection.clone();
        task::on_pool(&self.core, move |core| core.search_batch(&collection, &specs)).await
    }

    /// The rows of these ids, in order, `None` where there is none.
    ///
    /// # Errors
    /// As [`Collection::search`].
    pub async fn get<I: Into<PointId>>(
        &self,
        ids: impl IntoIterator<Item = I>,
    ) -> Result<Vec<Option<Record>>> {
        let ids: Vec<PointId> = ids.into_iter().map(Into::into).collect();
        let collection = self.collection.clone();
        task::on_pool(&self.core, move |core| core.get(&collection, &ids)).await
    }

    /// Rows in id order, a page at a time.
    ///
    /// # Errors
    /// As [`Collection::search`].
    pub fn scan(&self) -> Scan<'_, Self> {
        Scan::new(self)
    }

    /// How many rows there are, or how many match. Counts what is visible, so a cold collection is
    /// promoted first, as for every read; `stats` tells of its rows without that.
    ///
    /// # Errors
    /// As [`Collection::search`].
    pub async fn count(&self, filter: Option<Filter>) -> Result<u64> {
        let collection = self.collection.clone();
        task::on_pool(&self.core, move |core| core.count(&collection, filter.as_ref())).await
    }

    /// Indexes a metadata field for filters, for existing rows too.
    ///
    /// # Errors
    /// `InvalidInput` if the field is indexed already; errors of writing files.
    pub async fn add_field(&self, name: &str, field_type: FieldType) -> Result<()> {
        let field = FieldDef { name: name.to_owned(), field_type };
        self.job("add-field", move |core, collection| core.add_field(collection, field)).await
    }

    /// Writes all memtables of the collection as segments.
    ///
    /// # Errors
    /// Errors of writing files.
    pub async fn flush(&self) -> Result<()> {
        self.job("flush-now", DbCore::flush).await
    }

    /// Flushes, then merges all segments into one without dead rows.
    ///
    /// # Errors
    /// Errors of reading and writing files.
    pub async fn compact(&self) -> Result<()> {
        self.job("compact-now", DbCore::compact).await
    }

    /// Moves the collection to one Parquet object in the object store. Local files go only after
    /// the object is verified and named by a durable manifest. Returns whether anything moved.
    ///
    /// # Errors
    /// `InvalidInput` if pinned, also if that happens during the move; `Unavailable` if another move
    /// is under way or the store does not answer. On an error the collection stays where it was.
    pub async fn demote(&self) -> Result<bool> {
        self.move_to(Tier::Cold).await
    }

    /// Brings a cold collection back to local segments. Returns whether anything moved.
    ///
    /// # Errors
    /// `Corruption` naming the object; `Unavailable`, also if another move is under way. The
    /// collection then stays cold.
    pub async fn promote(&self) -> Result<bool> {
        self.job("promote", |core, collection| moves::promote_by_hand(core, collection)).await
    }

    /// Moves the collection to a tier by hand: cold as [`Collection::demote`], warm lets go of the
    /// copies in memory, hot makes them. Reads and writes go on meanwhile. Returns whether anything
    /// moved.
    ///
    /// ```
    /// use akidb::{Metric, Schema, Tier, blocking::Db};
    /// # let dir = tempfile::tempdir().unwrap();
    /// let db = Db::open(dir.path())?;
    /// let docs = db.create_collection("docs", Schema::new(4, Metric::Dot))?;
    /// assert_eq!(docs.tier(), Tier::Hot);
    /// assert!(docs.move_to(Tier::Warm)?);
    /// assert!(!docs.move_to(Tier::Warm)?, "it is there");
    /// # Ok::<(), akidb::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`Collection::demote`] and [`Collection::promote`].
    pub async fn move_to(&self, tier: Tier) -> Result<bool> {
        self.job("move", move |core, collection| moves::move_to(core, collection, tier, None)).await
    }

    /// The tier that the collection is in; during a move the one that it comes from.
    pub fn tier(&self) -> Tier {
        self.collection.tier.tier()
    }

    /// Sets what the collection wants otherwise than the policy of [`crate::TierSettings`]; durable
    /// when it returns.
    ///
    /// # Errors
    /// Errors of writing the manifest.
    pub async fn set_tier_overrides(&self, overrides: TierOverrides) -> Result<()> {
        let set = move |core: &DbCore, collection: &Arc<CollectionCore>| {
            core.set_tier_overrides(collection, overrides)
        };
        self.job("overrides", set).await
    }

    /// Pins the collection to local disk, or lets it go: a pinned one refuses to be demoted.
    ///
    /// # Errors
    /// Errors of writing the manifest.
    pub async fn pin(&self, pinned: bool) -> Result<()> {
        self.job("pin", move |core, collection| moves::pin(core, collection, pinned)).await
    }

    /// Takes a snapshot of everything visible now, under a name of its own. A cold collection to which
    /// nothing was written stays cold: the snapshot has its object in common with it.
    ///
    /// # Errors
    /// `AlreadyExists` if the name is taken; errors of the object store.
    pub async fn snapshot(&self, name: &str) -> Result<SnapshotInfo> {
        let name = name.to_owned();
        self.job("snapshot", move |core, collection| snapshot::create(core, collection, &name))
            .await
    }

    /// Reads every byte of the collection's segments and checks it against its checksums, and
    /// every field index against its own rules. Returns the bytes read.
    ///
    /// # Errors
    /// `Corruption` naming the first damaged file and offset; errors of reading.
    pub async fn verify(&self) -> Result<u64> {
        self.job("verify", |core, collection| core.verify(collection)).await
    }

    /// What the collection consists of.
    pub fn stats(&self) -> CollectionStats {
        self.core.collection_stats(&self.collection)
    }

    pub(super) async fn run_search(&self, spec: SearchSpec) -> Result<(Vec<Hit>, Explain)> {
        let collection = self.collection.clone();
        task::on_pool(&self.core, move |core| core.search(&collection, &spec)).await
    }

    pub(super) async fn run_scan(&self, cursor: Option<Cursor>, spec: ScanSpec) -> Result<Page> {
        let collection = self.collection.clone();
        task::on_pool(&self.core, move |core| core.scan(&collection, cursor.as_ref(), spec)).await
    }

    pub(super) async fn run_write(
        &self,
        write: CoreWrite,
        durability: Option<Durability>,
    ) -> Result<Receipt> {
        if write.needs_local() {
            // It reads first, and may promote: not on the caller's thread.
            return self
                .job("write", move |core, collection| {
                    futures_lite::future::block_on(core.write(
                        collection,
                        write,
                        durability,
                        Waiting::Thread,
                    ))
                })
                .await;
        }
        self.core.write(&self.collection, write, durability, Waiting::Task).await
    }

    async fn job<T: Send + 'static>(
        &self,
        name: &str,
        work: impl FnOnce(&DbCore, &Arc<CollectionCore>) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let collection = self.collection.clone();
        task::job(&self.core, name, move |core| work(core, &collection)).await
    }
}
