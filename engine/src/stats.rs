//! What `stats` tells: plain data, computed on request.

use crate::{
    collection::{CollectionCore, SegmentView, View},
    db::{BucketStats, DbCore},
    error::Result,
    ivf::Clusterings,
    maintenance::compaction,
    manifest::ColdMeta,
    quota::{NamespaceStats, Usage},
    schema::Schema,
    segment::Segment,
    settings::{Limits, WalBackend},
    tiers::TieringStats,
};
use akidb_handoff::Tier;
use akidb_index::codebook::STALE_SPREAD;
use akidb_tiering::TierOverrides;
use serde::Serialize;
use std::sync::{Arc, atomic::Ordering::Relaxed};

/// A segment as `stats` shows it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct SegmentStats {
    /// The file number.
    pub number: u64,
    /// Rows in the file.
    pub rows: u64,
    /// Rows hidden by tombstones.
    pub dead_rows: u64,
    /// Bytes of the file.
    pub bytes: u64,
    /// Bytes of its codes that are copied into memory: 0 unless the segment is hot.
    pub hot_bytes: u64,
    /// The cells that its rows lie in; `None` if it has none, or they cannot be read.
    pub cells: Option<CellStats>,
}

/// How the rows of a segment lie in cells.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct CellStats {
    /// The id of the codebook. Segments that share one are merged without coding their rows anew.
    pub codebook: String,
    /// How many cells there are.
    pub count: u32,
    /// The mean squared distance of the rows to the centroids of their cells, over that of the rows
    /// that the codebook was trained on: 1 if they lie alike. By a sample of the rows, read once.
    pub spread: f64,
    /// Whether that is so much (see [`akidb_index::codebook::STALE_SPREAD`]) that a compaction of
    /// such rows trains a new codebook.
    pub stale: bool,
}

/// A Parquet file in the object store, as `stats` shows it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ColdStats {
    /// The key of its object.
    pub key: String,
    /// Where it begins there, in bytes: 0 unless it shares the object, see
    /// [`crate::TierSettings::packs`].
    pub offset: u64,
    /// Rows in the file.
    pub rows: u64,
    /// Bytes of the file.
    pub bytes: u64,
}

impl ColdStats {
    fn of(file: &ColdMeta) -> Self {
        let offset = file.slice.map_or(0, |slice| slice.offset);
        Self { key: file.key.clone(), offset, rows: file.rows, bytes: file.len }
    }
}

/// What a collection consists of.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct CollectionStats {
    /// The name.
    pub name: String,
    /// The namespace that it counts towards.
    pub namespace: Option<String>,
    /// The schema.
    pub schema: Schema,
    /// "hot", "warm", or "cold" while an object holds rows.
    pub tier: &'static str,
    /// Where a move that is under way goes.
    pub moving_to: Option<&'static str>,
    /// What it wants otherwise than the policy of tiers.
    pub tier_overrides: TierOverrides,
    /// Reads in the window of the policy, since the last move.
    pub accesses: u64,
    /// Milliseconds since the last read, or since the open.
    pub idle_ms: u64,
    /// Whether it refuses to be demoted.
    pub pinned: bool,
    /// Live rows in memtables and segments.
    pub local_rows: u64,
    /// Row versions in memtables, hidden ones included.
    pub memtable_rows: u64,
    /// Bytes of memory that memtables take, about.
    pub memtable_bytes: u64,
    /// Memtables that wait for their flush.
    pub frozen_memtables: usize,
    /// The segments.
    pub segments: Vec<SegmentStats>,
    /// The cold objects.
    pub cold: Vec<ColdStats>,
    /// Bytes of segments that compaction should rewrite by its policy.
    pub compaction_debt_bytes: u64,
}

/// What a database consists of and did since it was opened.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct DbStats {
    /// The collections, by name.
    pub collections: Vec<CollectionStats>,
    /// The last LSN applied.
    pub applied_lsn: u64,
    /// The last LSN that survives a power loss.
    pub durable_lsn: u64,
    /// Bytes in use in WAL files.
    pub wal_bytes: u64,
    /// WAL files.
    pub wal_files: usize,
    /// Bytes written to the log, frame headers included.
    pub wal_bytes_written: u64,
    /// Group commits written.
    pub wal_groups: u64,
    /// Syncs of the log.
    pub wal_syncs: u64,
    /// How the log writes and syncs: `Std`, `Uring` or `TokioUring`.
    pub wal_backend: WalBackend,
    /// Why that is not what [`WalBackend::Auto`] prefers, if it was asked for.
    pub wal_backend_fallback: Option<String>,
    /// Bytes of memory that all memtables take, about.
    pub memtable_bytes: u64,
    /// Bytes of memory that the copies of hot segments take, at most `hot_bytes` of the settings.
    pub hot_bytes: u64,
    /// Bytes of memory that remembered answers of filters take, at most `filter_answers_bytes` of the
    /// settings.
    pub filter_answers_bytes: u64,
    /// Flushes done.
    pub flushes: u64,
    /// Row versions flushed.
    pub flushed_rows: u64,
    /// Compactions done.
    pub compactions: u64,
    /// Rows read by compactions.
    pub compacted_rows: u64,
    /// Bytes read by compactions.
    pub compacted_bytes: u64,
    /// Why writes are refused, if they are.
    pub poisoned: Option<String>,
    /// The last failure of a flush, until one succeeds or none is due.
    pub flush_error: Option<String>,
    /// The last failure of compaction, until one succeeds or none is due.
    pub compaction_error: Option<String>,
    /// The last failure to make a segment hot, until one succeeds or none is due. Searches read such a
    /// segment's file.
    pub hot_error: Option<String>,
    /// The bucket; `None` without one, and while a move holds it.
    pub bucket: Option<BucketStats>,
    /// What the database takes, by the rules of its limits.
    pub usage: Usage,
    /// What it may take.
    pub limits: Limits,
    /// The namespaces, by name.
    pub namespaces: Vec<NamespaceStats>,
    /// The worker that moves collections between tiers.
    pub tiering: TieringStats,
    /// The last failure to remove files or objects that are no longer needed.
    pub cleanup_error: Option<String>,
}

/// A snapshot as it is listed.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct SnapshotInfo {
    /// Its name.
    pub name: String,
    /// The collection it was taken of.
    pub collection: String,
    /// Rows in it.
    pub rows: u64,
    /// Bytes of its object.
    pub bytes: u64,
    /// The object's key.
    pub object: String,
    /// The version of AkiDB that took it.
    pub creator: String,
}

impl DbCore {
    /// Statistics of one collection.
    pub(crate) fn collection_stats(&self, collection: &Arc<CollectionCore>) -> CollectionStats {
        let view = collection.view();
        // Before the lock: this may read.
        let segments = view.segments.iter().map(|part| segment_stats(&view, part)).collect();
        let due = compaction::due(self, collection);
        let now = self.shared.clock.monotonic();
        let access = collection.access.summary(now);
        let state = collection.state.read();
        let memtables = || state.parts.memtables();
        CollectionStats {
            name: collection.name.clone(),
            namespace: collection.namespace.clone(),
            schema: (*state.schema).clone(),
            tier: collection.tier.tier().name(),
            moving_to: collection.tier.state().moving_to.map(Tier::name),
            tier_overrides: state.overrides.clone(),
            accesses: access.count,
            idle_ms: u64::try_from(access.idle(now).as_millis()).unwrap_or(u64::MAX),
            pinned: state.pinned,
            local_rows: view.live_rows(),
            memtable_rows: memtables().map(|memtable| memtable.row_count() as u64).sum(),
            memtable_bytes: memtables().map(|memtable| memtable.bytes()).sum(),
            frozen_memtables: state.parts.frozen().len(),
            segments,
            cold: state.cold.iter().map(ColdStats::of).collect(),
            compaction_debt_bytes: due.iter().map(|pick| pick.bytes).sum(),
        }
    }

    /// Statistics of the whole database.
    pub(crate) fn stats(&self) -> DbStats {
        let mut collections: Vec<_> =
            self.all_collections().iter().map(|c| self.collection_stats(c)).collect();
        collections.sort_by(|a, b| a.name.cmp(&b.name));
        let log = self.commit.stats();
        let counters = &self.counters;
        let (usage, namespaces) = self.all_usage();
        DbStats {
            collections,
            applied_lsn: self.shared.applied().get(),
            durable_lsn: log.durable_upto.get(),
            wal_bytes: log.bytes,
            wal_files: self.commit.files().len(),
            wal_bytes_written: log.bytes_written,
            wal_groups: log.groups,
            wal_syncs: log.syncs,
            wal_backend: self.recovery.wal_backend,
            wal_backend_fallback: self.recovery.wal_backend_fallback.clone(),
            memtable_bytes: self.shared.pool.used(),
            hot_bytes: self.hot.used(),
            filter_answers_bytes: self.answers.used(),
            flushes: counters.flushes.load(Relaxed),
            flushed_rows: counters.flushed_rows.load(Relaxed),
            compactions: counters.compactions.load(Relaxed),
            compacted_rows: counters.compacted_rows.load(Relaxed),
            compacted_bytes: counters.compacted_bytes.load(Relaxed),
            poisoned: self.shared.poisoned().map(ToString::to_string),
            flush_error: self.background.flush_error().map(|error| error.to_string()),
            compaction_error: self.background.compaction_error().map(|error| error.to_string()),
            hot_error: self.background.hot_error().map(|error| error.to_string()),
            bucket: self.bucket_stats(),
            usage,
            limits: self.shared.settings.limits,
            namespaces,
            tiering: self.tiering_stats(),
            cleanup_error: self.background.cleanup_error().map(|error| error.to_string()),
        }
    }
}

fn segment_stats(view: &View, part: &SegmentView) -> SegmentStats {
    let segment = &part.part.segment;
    SegmentStats {
        number: part.part.number(),
        rows: u64::from(segment.rows()),
        dead_rows: part.dead.len(),
        bytes: segment.meta().len,
        hot_bytes: segment.hot_bytes(),
        // Damage is told by whoever needs what is damaged, and by `verify`.
        cells: cell_stats(segment, &view.clusterings).ok().flatten(),
    }
}

fn cell_stats(segment: &Segment, known: &Clusterings) -> Result<Option<CellStats>> {
    let Some(table) = segment.cells(known)? else { return Ok(None) };
    let (clustering, spread) = (table.clustering(), segment.drift(table)?.spread);
    Ok(Some(CellStats {
        codebook: format!("{:016x}", clustering.id()),
        count: clustering.cells(),
        spread,
        stale: spread > STALE_SPREAD,
    }))
}
