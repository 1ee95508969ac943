//! The verbs, synchronous, on a collection: validate, make local if needed, then read a view or
//! queue a write. Both APIs call these; neither has logic of its own.

use super::{DbCore, background};
use crate::{
    Cursor, FieldDef, Hit, Page, Point, PointId, Receipt, Record, Schema,
    collection::{CollectionCore, NewRow, View},
    commit::{
        BATCH_BYTES_MAX, Done, MetadataPatch, Request, Shared, WriteOp, check_depth, check_id,
        check_ids, check_query, check_rows, dedup_ids, payload,
    },
    error::{Cause, Error, InputError, Result},
    filter::Filter,
    maintenance::{compaction, flush, install::Change, moves, reindex},
    quota::{LetIn, Usage},
    read::{self, Explain, Memory, ScanSpec, SearchSpec},
    settings::{Durability, Settings},
};
use akidb_tiering::TierOverrides;
use serde_json::Value;
use std::sync::Arc;

/// How often a write that needs its collection local is tried again when a demotion slips in
/// between. Each try promotes; losing this many races in a row means somebody demotes in a loop.
const LOCAL_TRIES: usize = 8;

/// The most rows of one page of a scan.
const PAGE_ROWS_MAX: usize = 10_000;

/// A write before it is resolved against the collection.
#[derive(Clone, Debug)]
pub(crate) enum Write {
    Upsert(Vec<Point>),
    Insert(Vec<Point>),
    Update(Vec<(PointId, Value)>),
    Delete(Vec<PointId>),
    DeleteMatching(Filter),
}

/// How a caller waits for its receipt. Blocked threads are woken by each other, tasks are not: see
/// [`akidb_wal::Wakes`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Waiting {
    /// By `.await`, on any executor.
    Task,
    /// The first poll returns with the receipt. For a thread that has nothing else to do.
    Thread,
}

impl Write {
    /// Deletes may use the reserve: refusing them on a full disk would leave no way out.
    fn needs_space(&self) -> bool {
        !matches!(self, Self::Delete(_) | Self::DeleteMatching(_))
    }

    /// Whether the write depends on what is there.
    pub(crate) fn needs_local(&self) -> bool {
        matches!(self, Self::Insert(_) | Self::Update(_) | Self::DeleteMatching(_))
    }
}

impl DbCore {
    /// A view with every row in it: a cold collection is promoted first. Tells whether it was.
    pub(crate) fn local_view(&self, collection: &CollectionCore) -> Result<(View, bool)> {
        self.shared.check_open()?;
        collection.access.record(self.shared.clock.monotonic());
        let mut promoted = false;
        loop {
            let view = collection.view();
            if view.dropped {
                return Err(Cause::CollectionNotFound { name: collection.name.clone() }.into());
            }
            if view.cold == 0 {
                return Ok((view, promoted));
            }
            moves::promote_for_read(self, collection)?;
            promoted = true;
        }
    }

    pub(crate) fn search(
        &self,
        collection: &CollectionCore,
        spec: &SearchSpec,
    ) -> Result<(Vec<Hit>, Explain)> {
        self.check_k(spec.k)?;
        spec.effort.validate()?;
        let schema = collection.schema();
        check_query(&spec.query, &schema)?;
        check_filter(spec.filter.as_ref(), &schema)?;
        let (view, promoted) = self.local_view(collection)?;
        let (hits, explain) = {
            let Shared { clock, pool, .. } = &*self.shared;
            let memory = Memory { pool, answers: &self.answers };
            read::search(&view, spec, &**clock, memory, self.searchers.begin())?
        };
        if explain.parts.iter().any(|part| part.plan == read::BY_CODES) {
            collection.want_codes();
        }
        Ok((hits, Explain { promoted, ..explain }))
    }

    /// Several searches, one after the other.
    pub(crate) fn search_batch(
        &self,
        collection: &CollectionCore,
        specs: &[SearchSpec],
    ) -> Result<Vec<Vec<Hit>>> {
        specs.iter().map(|spec| self.search(collection, spec).map(|(hits, _)| hits)).collect()
    }

    fn check_k(&self, k: usize) -> Result<(), InputError> {
        let max = self.shared.settings.k_max;
        if k == 0 || k > max { Err(InputError::BadK { k, max }) } else { Ok(()) }
    }

    pub(crate) fn get(
        &self,
        collection: &CollectionCore,
        ids: &[PointId],
    ) -> Result<Vec<Option<Record>>> {
        check_ids(ids)?;
        read::get(&self.local_view(collection)?.0, ids)
    }

    pub(crate) fn count(
        &self,
        collection: &CollectionCore,
        filter: Option<&Filter>,
    ) -> Result<u64> {
        check_filter(filter, &collection.schema())?;
        read::count(&self.local_view(collection)?.0, filter)
    }

    pub(crate) fn scan(
        &self,
        collection: &CollectionCore,
        cursor: Option<&Cursor>,
        spec: ScanSpec,
    ) -> Result<Page> {
        let (limit, max) = (spec.limit, PAGE_ROWS_MAX);
        if limit == 0 || limit > max {
            return Err(InputError::BadLimit { limit, max }.into());
        }
        check_filter(spec.filter.as_ref(), &collection.schema())?;
        let after = match cursor {
            Some(cursor) => Some(cursor.id().ok_or(InputError::BadCursor)?),
            None => None,
        };
        read::scan(&self.local_view(collection)?.0, &ScanSpec { after, ..spec })
    }

    /// Writes, and returns when the durability asked for is reached. The write is queued at the
    /// first poll; dropping the future after that changes nothing.
    pub(crate) async fn write(
        &self,
        collection: &Arc<CollectionCore>,
        write: Write,
        durability: Option<Durability>,
        waiting: Waiting,
    ) -> Result<Receipt> {
        let durability = durability.unwrap_or(self.shared.settings.durability);
        self.check_may_write()?;
        self.admit(write.needs_space()).await?;
        let receipt = if write.needs_local() {
            self.write_local(collection, write, durability, waiting).await?
        } else {
            let prepared = self.prepare(collection, write)?;
            self.queue(collection, prepared, durability, waiting).await?
        };
        collection.make_wanted_codes(&self.shared.pool);
        if self.background.is_inline() {
            background::run_due(self);
        }
        Ok(receipt)
    }

    /// A write that depends on what is there: tried again if the collection moved to the cold
    /// tier between the look and the write.
    async fn write_local(
        &self,
        collection: &Arc<CollectionCore>,
        write: Write,
        durability: Durability,
        waiting: Waiting,
    ) -> Result<Receipt> {
        let mut tries = 0;
        loop {
            self.local_view(collection)?;
            let prepared = self.prepare(collection, write.clone())?;
            let result = self.queue(collection, prepared, durability, waiting).await;
            let moved = |error: &Error| matches!(error.cause(), Cause::Moved { .. });
            if !result.as_ref().is_err_and(moved) || tries == LOCAL_TRIES {
                return result;
            }
            tries += 1;
        }
    }

    async fn queue(
        &self,
        collection: &Arc<CollectionCore>,
        (op, let_in): (WriteOp, LetIn),
        durability: Durability,
        waiting: Waiting,
    ) -> Result<Receipt> {
        let (reply, answer) = akidb_wal::reply();
        let collection = collection.clone();
        self.commit.submit(Request { collection, op, durability, reply, let_in });
        let answer = match waiting {
            Waiting::Task => answer.await,
            Waiting::Thread => answer.wait(),
        };
        // A log thread that is gone drops the reply: the write's fate is unknown (D5).
        let Done { result, spent } = answer.ok_or(Cause::Closed)?;
        drop(spent);
        result
    }

    /// A write as the log thread takes it, and what is let in with it.
    fn prepare(&self, collection: &CollectionCore, write: Write) -> Result<(WriteOp, LetIn)> {
        let schema = collection.schema();
        let settings = &self.shared.settings;
        let mut let_in = LetIn::default();
        let op = match write {
            Write::Upsert(points) => {
                let rows = check_rows(points, &schema, settings)?;
                let_in = self.let_in_rows(collection, &schema, &rows)?;
                let payload = rows_payload(collection, &schema, &rows);
                WriteOp::Upsert { rows, payload }
            }
            Write::Insert(points) => {
                let rows = check_rows(points, &schema, settings)?;
                let_in = self.let_in_rows(collection, &schema, &rows)?;
                let payload = rows_payload(collection, &schema, &rows);
                WriteOp::Insert { rows, payload }
            }
            Write::Update(patches) => {
                let patches = check_patches(patches, settings)?;
                // The rows are written anew; what their metadata grows by is measured when it is there.
                let data = patches.len() as u64 * u64::from(schema.dim) * 4;
                let asked = Usage::of_rows(patches.len(), data, schema.dim);
                let_in = self.let_in(collection.namespace.as_deref(), asked)?;
                WriteOp::Update { patches }
            }
            Write::Delete(ids) => {
                check_ids(&ids)?;
                let ids = dedup_ids(ids);
                let payload = payload::encode_delete(collection.id, ids.iter());
                WriteOp::Delete { ids, payload }
            }
            Write::DeleteMatching(filter) => {
                check_filter(Some(&filter), &schema)?;
                let seen = read::matching_versions(&self.local_view(collection)?.0, &filter)?;
                WriteOp::DeleteMatching { filter, seen }
            }
        };
        Ok((op, let_in))
    }

    /// Refuses rows that are too large for a batch or go beyond a limit.
    fn let_in_rows(
        &self,
        collection: &CollectionCore,
        schema: &Schema,
        rows: &[NewRow],
    ) -> Result<LetIn> {
        let data = |row: &NewRow| (row.vector.len() * 4 + row.metadata.len()) as u64;
        let data: u64 = rows.iter().map(data).sum();
        let (found, max) = (data + rows.len() as u64 * 80, BATCH_BYTES_MAX);
        if found > max {
            return Err(InputError::BatchTooLarge { found, max }.into());
        }
        let asked = Usage::of_rows(rows.len(), data, schema.dim);
        self.let_in(collection.namespace.as_deref(), asked)
    }

    /// Makes a field of existing and later rows searchable by index.
    pub(crate) fn add_field(&self, collection: &CollectionCore, field: FieldDef) -> Result<()> {
        reindex::add_field(self, collection, field)
    }

    /// Flushes all of a collection's memtables.
    pub(crate) fn flush(&self, collection: &Arc<CollectionCore>) -> Result<()> {
        collection.check_exists()?;
        self.flush_if_there(collection)
    }

    /// Flushes, then merges a collection's segments into one.
    pub(crate) fn compact(&self, collection: &Arc<CollectionCore>) -> Result<()> {
        collection.check_exists()?;
        self.compact_if_there(collection)
    }

    /// Flushes every collection.
    pub(crate) fn flush_all(&self) -> Result<()> {
        self.all_collections().iter().try_for_each(|collection| self.flush_if_there(collection))
    }

    /// Compacts every collection.
    pub(crate) fn compact_all(&self) -> Result<()> {
        self.all_collections().iter().try_for_each(|collection| self.compact_if_there(collection))
    }

    fn flush_if_there(&self, collection: &Arc<CollectionCore>) -> Result<()> {
        self.check_may_write()?;
        collection.freeze();
        flush::flush_frozen(self, collection).map(drop)
    }

    fn compact_if_there(&self, collection: &Arc<CollectionCore>) -> Result<()> {
        self.flush_if_there(collection)?;
        let done = compaction::compact_all(self, collection);
        // The caller may be short of the space that the merged segments take until they go.
        self.sweep();
        done
    }

    /// Reads every byte of a collection's segments and checks it against its checksums, and every
    /// field index against its own rules. Returns the bytes read.
    pub(crate) fn verify(&self, collection: &CollectionCore) -> Result<u64> {
        let view = collection.view();
        let mut bytes = 0;
        for part in &view.segments {
            self.background.pause_point()?;
            let segment = &part.part.segment;
            segment.verify()?;
            read::verify_fields(part)?;
            bytes += segment.meta().len;
        }
        Ok(bytes)
    }

    /// Sets what a collection wants otherwise than the policy of tiers.
    pub(crate) fn set_tier_overrides(
        &self,
        collection: &CollectionCore,
        overrides: TierOverrides,
    ) -> Result<()> {
        self.check_may_write()?;
        let structure = collection.structure.lock();
        let change = Change { overrides: Some(overrides), ..Change::default() };
        self.install(collection, &structure, change, |_| Ok(()))
    }
}

fn rows_payload(collection: &CollectionCore, schema: &Schema, rows: &[NewRow]) -> Vec<u8> {
    let rows = rows.iter().map(|row| (&row.id, &*row.metadata, &*row.vector));
    payload::encode_upsert(collection.id, schema.dim, rows)
}

fn check_filter(filter: Option<&Filter>, schema: &Schema) -> Result<(), InputError> {
    filter.map_or(Ok(()), |filter| filter.validate(schema))
}

fn check_patches(
    patches: Vec<(PointId, Value)>,
    settings: &Settings,
) -> Result<Vec<MetadataPatch>> {
    // Patches of one id are merged in order, so that a batch holds each id once.
    let mut merged: Vec<MetadataPatch> = Vec::new();
    for (id, changes) in patches {
        check_id(&id)?;
        let Value::Object(changes) = changes else {
            let found = crate::commit::json_type(&changes);
            return Err(InputError::MetadataNotObject { id, found }.into());
        };
        // Here and not only where the rows are known: the log thread clones and serialises the
        // values, which recurses, and its stack must not depend on what it was sent.
        check_depth(&id, &changes, settings.metadata_depth_max)?;
        match merged.iter_mut().find(|patch| patch.id == id) {
            Some(patch) => patch.changes.extend(changes),
            None => merged.push(MetadataPatch { id, changes }),
        }
    }
    Ok(merged)
}
