//! The memtable: the newest rows and deletes of one collection, searchable at once.
//!
//! Owns rows, the id table, the ids deleted, and the in-memory field indexes. Only the commit
//! path (and recovery) writes, in LSN order, under the collection's state lock; any number of
//! readers scan what they captured, with the help of codes that they make themselves (`codes`). It does no I/O and never decides when it is flushed.

mod chunk;
mod codes;
mod stored;

pub(crate) use chunk::{CHUNK_ROWS, Chunk, MemRow, Rows};
pub(crate) use codes::ChunkCodes;
pub(crate) use stored::Stored;

use crate::{
    Metric, PointId, Schema, collection::parse_metadata, commit::MemoryPool, error::Result,
    field_index::MemFieldIndex, ivf::metric_of, point::Metadata, schema::FieldDef,
};
use akidb_index::rabitq::Codec;
use akidb_wal::Lsn;
use parking_lot::{Mutex, RwLock};
use std::{
    collections::{BTreeMap, HashMap},
    sync::{
        OnceLock,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

/// What a memtable knows of an id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Newest {
    /// Its newest version is the row in this slot.
    Row(u32),
    /// It was deleted at this LSN.
    Deleted(Lsn),
}

#[derive(Debug, Default)]
struct Inner {
    rows: Rows,
    newest: HashMap<PointId, Newest>,
    fields: BTreeMap<String, MemFieldIndex>,
}

/// One memtable, active or frozen.
#[derive(Debug)]
pub(crate) struct Memtable {
    inner: RwLock<Inner>,
    bytes: AtomicU64,
    /// Of the numbers and the metadata of its rows.
    data_bytes: AtomicU64,
    first_lsn: AtomicU64,
    last_lsn: AtomicU64,
    /// When it took its first row, by the monotonic clock.
    born: RwLock<Option<Duration>>,
    /// How rows are coded; made by the first search that wants codes.
    codec: OnceLock<Codec>,
    metric: Metric,
    dim: u32,
    /// Chunks that have codes; whether a writer is making some.
    coded: AtomicUsize,
    encoding: AtomicBool,
    /// True when its memory was given back to the pool.
    left: Mutex<bool>,
}

/// What the rotation of the codes is drawn from. Codes in memory outlive nothing: it may change.
const CODEC_SEED: u64 = 1;

/// Memory of a delete entry in the id table, about.
const DELETE_BYTES: u64 = 120;

impl Memtable {
    /// An empty memtable that indexes the schema's fields.
    pub(crate) fn new(schema: &Schema) -> Self {
        let fields = schema
            .fields
            .iter()
            .map(|def| (def.name.clone(), MemFieldIndex::new(def.clone())))
            .collect();
        Self {
            inner: RwLock::new(Inner { fields, ..Inner::default() }),
            bytes: AtomicU64::new(0),
            data_bytes: AtomicU64::new(0),
            first_lsn: AtomicU64::new(0),
            last_lsn: AtomicU64::new(0),
            born: RwLock::new(None),
            codec: OnceLock::new(),
            metric: schema.metric,
            dim: schema.dim,
            coded: AtomicUsize::new(0),
            encoding: AtomicBool::new(false),
            left: Mutex::new(false),
        }
    }

    fn touch(&self, lsn: Lsn, bytes: u64, now: Duration) {
        debug_assert!(lsn.get() >= self.last_lsn.load(Ordering::Relaxed), "LSN order");
        if self.first_lsn.load(Ordering::Relaxed) == 0 {
            self.first_lsn.store(lsn.get(), Ordering::Relaxed);
            *self.born.write() = Some(now);
        }
        self.last_lsn.store(lsn.get(), Ordering::Relaxed);
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Adds a row as the newest version of its id. `metadata` is the parsed form of
    /// `row.metadata`, needed only where fields are indexed.
    pub(crate) fn insert(&self, row: MemRow, metadata: Option<&Metadata>, now: Duration) -> u64 {
        let (lsn, mut bytes, id) = (row.lsn, row.bytes(), row.id.clone());
        self.data_bytes.fetch_add(row.data_bytes(), Ordering::Relaxed);
        let mut inner = self.inner.write();
        let inner = &mut *inner;
        let slot = inner.rows.push(row);
        if let Some(metadata) = metadata {
            for index in inner.fields.values_mut() {
                let before = index.bytes();
                index.insert(slot, metadata);
                bytes += (index.bytes() - before) as u64;
            }
        }
        inner.newest.insert(id, Newest::Row(slot));
        self.touch(lsn, bytes, now);
        bytes
    }

    /// Records that an id was deleted.
    pub(crate) fn delete(&self, id: PointId, lsn: Lsn, now: Duration) -> u64 {
        let mut inner = self.inner.write();
        inner.newest.insert(id, Newest::Deleted(lsn));
        self.touch(lsn, DELETE_BYTES, now);
        DELETE_BYTES
    }

    /// Starts to index a field, beginning with the rows held.
    pub(crate) fn index_field(&self, def: &FieldDef) -> Result<()> {
        let mut inner = self.inner.write();
        let mut index = MemFieldIndex::new(def.clone());
        for (slot, row) in inner.rows.iter() {
            index.insert(slot, &parse_metadata(&row.metadata)?);
        }
        inner.fields.insert(def.name.clone(), index);
        Ok(())
    }

    /// Marks the newest version of an id dead, if this memtable holds one. Returns whether the
    /// id is known here, in which case no older part can hold a live version.
    pub(crate) fn kill(&self, id: &PointId, lsn: Lsn) -> bool {
        let inner = self.inner.read();
        match inner.newest.get(id) {
            Some(Newest::Row(slot)) => {
                if let Some(row) = inner.rows.get(*slot)
                    && row.live_at(lsn)
                {
                    row.kill(lsn);
                }
                true
            }
            Some(Newest::Deleted(_)) => true,
            None => false,
        }
    }

    /// What this memtable knows of an id, with the row.
    pub(crate) fn with_newest<T>(
        &self,
        id: &PointId,
        read: impl FnOnce(Option<&MemRow>) -> T,
    ) -> Option<T> {
        let inner = self.inner.read();
        match inner.newest.get(id)? {
            Newest::Row(slot) => Some(read(inner.rows.get(*slot))),
            Newest::Deleted(_) => Some(read(None)),
        }
    }

    /// What this memtable knows of an id now.
    pub(crate) fn newest(&self, id: &PointId) -> Option<Newest> {
        self.inner.read().newest.get(id).copied()
    }

    /// The rows published so far.
    pub(crate) fn rows(&self) -> Rows {
        self.inner.read().rows.clone()
    }

    /// Every id that this memtable knows, live or deleted, with the LSN of its newest version.
    pub(crate) fn newest_ids(&self) -> Vec<(PointId, Lsn)> {
        let inner = self.inner.read();
        let lsn = |newest: &Newest| match newest {
            Newest::Row(slot) => inner.rows.get(*slot).map_or(Lsn::ZERO, |row| row.lsn),
            Newest::Deleted(lsn) => *lsn,
        };
        inner.newest.iter().map(|(id, newest)| (id.clone(), lsn(newest))).collect()
    }

    /// The ids whose newest entry here is a delete, with its LSN, sorted by id.
    pub(crate) fn deletes(&self) -> Vec<(PointId, Lsn)> {
        let inner = self.inner.read();
        let mut deletes: Vec<_> = inner
            .newest
            .iter()
            .filter_map(|(id, newest)| match newest {
                Newest::Deleted(lsn) => Some((id.clone(), *lsn)),
                Newest::Row(_) => None,
            })
            .collect();
        deletes.sort_unstable();
        deletes
    }

    /// Runs `read` with the field indexes, which cover every row published so far.
    pub(crate) fn with_fields<T>(
        &self,
        read: impl FnOnce(&BTreeMap<String, MemFieldIndex>) -> T,
    ) -> T {
        read(&self.inner.read().fields)
    }

    /// How the rows are coded.
    pub(crate) fn codec(&self) -> &Codec {
        let new = || Codec::new(metric_of(self.metric), self.dim as usize, CODEC_SEED);
        self.codec.get_or_init(new)
    }

    /// Makes the codes of a chunk of its rows, if the pool has room for them.
    pub(crate) fn encode(&self, chunk: &Chunk, pool: &MemoryPool) {
        if !pool.has_room() {
            return;
        }
        let codec = self.codec();
        if !chunk.encode(codec) {
            return;
        }
        self.coded.fetch_add(1, Ordering::Relaxed);
        // Under the lock: the memory of a memtable that left is not the pool's any more.
        let left = self.left.lock();
        if !*left {
            let bytes = ChunkCodes::bytes(codec);
            self.bytes.fetch_add(bytes, Ordering::Relaxed);
            pool.charge(bytes);
        }
    }

    /// Makes the codes of full chunks that have none. Writers call it when their write is done; one
    /// of them works, the others go on.
    pub(crate) fn make_codes(&self, pool: &MemoryPool) {
        let missing = || self.row_count() / CHUNK_ROWS > self.coded.load(Ordering::Relaxed);
        if !missing() || self.encoding.swap(true, Ordering::Relaxed) {
            return;
        }
        for (_, chunk) in self.rows().full_chunks().filter(|(_, chunk)| chunk.codes().is_none()) {
            self.encode(chunk, pool);
        }
        self.encoding.store(false, Ordering::Relaxed);
    }

    /// Gives the memory back to the pool, once: the collection has let go of the memtable.
    pub(crate) fn leave(&self, pool: &MemoryPool) {
        let mut left = self.left.lock();
        if !std::mem::replace(&mut *left, true) {
            pool.release(self.bytes());
        }
    }

    /// Bytes of memory, about.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Bytes of the numbers and the metadata of its rows, hidden versions included.
    pub(crate) fn data_bytes(&self) -> u64 {
        self.data_bytes.load(Ordering::Relaxed)
    }

    /// True while nothing was written to it.
    pub(crate) fn is_empty(&self) -> bool {
        self.first_lsn.load(Ordering::Relaxed) == 0
    }

    /// The first LSN in it, `None` if empty: the log must keep everything from here.
    pub(crate) fn first_lsn(&self) -> Option<Lsn> {
        Some(Lsn::new(self.first_lsn.load(Ordering::Relaxed))).filter(|lsn| *lsn > Lsn::ZERO)
    }

    /// The last LSN in it, zero if empty.
    pub(crate) fn last_lsn(&self) -> Lsn {
        Lsn::new(self.last_lsn.load(Ordering::Relaxed))
    }

    /// When it took its first entry.
    pub(crate) fn born(&self) -> Option<Duration> {
        *self.born.read()
    }

    /// Row versions held, dead ones included.
    pub(crate) fn row_count(&self) -> usize {
        self.inner.read().rows.len()
    }
}
