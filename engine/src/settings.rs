//! Every number a user can turn, as plain data: unit, default, and what grows or shrinks with it.
//! Components (file system, clock, random source, object store) are not settings: the builder
//! takes them.

use crate::error::{InputError, Result};
use crate::schema::validate_name;
use crate::segment::ReadMode;
use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, fmt};

mod limits;
mod tiers;

pub use limits::Limits;
pub use tiers::TierSettings;

/// How durable a write is before it is acknowledged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Durability {
    /// Acknowledged after a successful sync of this write and all before it: survives process
    /// kill, OS crash and power loss.
    #[default]
    Sync,
    /// Acknowledged when the operating system has it (survives a process kill), synced at most
    /// `ms` milliseconds later: an OS crash or power loss may take what came since.
    Interval {
        /// The longest time, in milliseconds, that a write stays unsynced.
        ms: u64,
    },
    /// Acknowledged when it is searchable; promises nothing.
    Memory,
}

/// How the log writes and syncs.
///
/// `Std` works everywhere. The others need Linux, a build with the cargo feature `uring` or
/// `tokio-uring`, and a machine that allows io_uring; opening tries them in the log's directory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WalBackend {
    /// Positional writes and `fdatasync`.
    #[default]
    Std,
    /// `Uring` where it works, `Std` elsewhere; the recovery report says which, and why.
    Auto,
    /// A write linked with its sync in one io_uring call. Opening fails where that does not work.
    Uring,
    /// io_uring through tokio-uring. Opening fails where that does not work.
    TokioUring,
}

impl fmt::Display for WalBackend {
    /// The name that serialized settings have.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Std => "std",
            Self::Auto => "auto",
            Self::Uring => "uring",
            Self::TokioUring => "tokio_uring",
        })
    }
}

/// The settings of a database. All sizes are in bytes.
///
/// ```
/// use akidb::{Durability, Settings};
/// let settings = Settings { durability: Durability::Interval { ms: 50 }, ..Settings::default() };
/// assert_eq!(settings.memtable_bytes, 64 << 20);
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// The durability of writes that do not name their own. Default: `Sync`.
    pub durability: Durability,
    /// A memtable of this many bytes is frozen and flushed. Default: 64 MiB. Raise it for fewer,
    /// larger segments; memory and recovery time grow with it.
    pub memtable_bytes: u64,
    /// A memtable older than this many milliseconds is flushed though it is small, so that a
    /// quiet collection does not keep the log for ever. Default: 600,000 (10 minutes). Lower it for
    /// less log to replay; many small segments are the price.
    pub memtable_age_ms: u64,
    /// What all memtables together may hold; writers wait beyond it until a flush makes room.
    /// Default: 256 MiB. Raise it to ride out longer bursts of writes; memory grows with it.
    pub memtable_pool_bytes: u64,
    /// Size of one WAL file, reserved on disk when the file is made. Default: 64 MiB. At least this
    /// much disk is taken by an empty database; smaller files go sooner, but each costs syncs.
    pub wal_file_bytes: u64,
    /// How many bytes of zeros the log writes at a time, at most, ahead of small groups, so that the
    /// file system need not note at their syncs that reserved blocks are in use now. Default: 4 MiB,
    /// for groups of up to a 32nd of that. 0 switches it off: fewer bytes are written, but syncs may
    /// take longer.
    pub wal_zero_ahead_bytes: u64,
    /// When the log holds more than this, the memtables that keep its oldest file alive are
    /// flushed. Default: 512 MiB. Recovery reads at most about this much: lower it for a faster
    /// open, at the price of smaller flushes when many collections are written.
    pub wal_bytes_max: u64,
    /// The most bytes of one group commit. Default: 8 MiB. Raise it for more throughput with large
    /// batches; the wait of each writer in the group grows with it.
    pub wal_group_bytes: u64,
    /// The most batches of one group commit. Default: 1,024: more writers than most programs have,
    /// so that it seldom limits. Lower it to bound how many wait for one sync.
    pub wal_group_count: usize,
    /// How long, in microseconds, the log waits for company before it writes. Default: 0; raise
    /// it on disks with slow syncs and many writers.
    pub wal_group_delay_us: u64,
    /// After this many milliseconds without writes the log is sealed, which makes rot in its last
    /// acknowledged bytes detectable. Default: 100. A seal costs a sync, so a much smaller number
    /// costs one for every pause between writes.
    pub wal_seal_idle_ms: u64,
    /// How the log writes and syncs. Default: `Std`. No format depends on it: it may differ from
    /// one open to the next. `docs/design/010-io-backends.md` has the figures.
    pub wal_backend: WalBackend,
    /// This many segments of like size are merged into one. Default: 4. Raise it to write less
    /// and search more segments.
    pub compaction_fanout: usize,
    /// A segment with at least this share of dead rows, above 0 and at most 1, is rewritten.
    /// Default: 0.2. Lower it to search and keep fewer dead rows; more is rewritten.
    pub compaction_dead_share: f64,
    /// Whether compaction runs by itself. Default: true. Without it segments add up, and searches
    /// slow down, until `compact` is called.
    pub compaction_auto: bool,
    /// Segments of at least this many rows get cells and codes, by which searches find the nearest rows
    /// without reading all of them; in smaller ones every row is scored. Default: 4,096. Lower it
    /// where vectors are long; about 450 bytes of disk a row (at 384 components) are the price.
    pub index_rows_min: u64,
    /// Threads that find the cells of rows when a segment is written. 0 (default) means one per core.
    /// They run for a part of a flush or merge only; lower it where searches must not feel that.
    pub build_threads: usize,
    /// What copies of the codes of hot segments may take in memory, all together. Default: 1 GiB.
    /// Segments that do not fit are warm: their codes are read where they lie in the file, which is
    /// about as fast while the system keeps those pages. About 450 bytes a row at 384 components; 0
    /// makes no copies.
    pub hot_bytes: u64,
    /// What answers of filters may take in memory, all together, that are remembered because they are asked
    /// again and again. Default: 64 MiB. One takes about a fifth of a byte per row of its segment;
    /// 0 remembers none.
    pub filter_answers_bytes: u64,
    /// Segments are mapped into memory (default) or read with positional reads, which is slower
    /// but cannot end in SIGBUS when the disk fails under a mapped page.
    pub read_mode: ReadMode,
    /// Threads that run searches of the async API, and that search parts of a collection beside each
    /// other while no other search needs them. 0 (default) means one per core; with 1 each search is
    /// of one thread.
    pub search_threads: usize,
    /// The largest `k` of a search. Default: 10,000. The memory of a search grows with its `k`.
    pub k_max: usize,
    /// The most bytes of JSON in one row's metadata. Default: 1 MiB. A batch must fit 16 MiB in
    /// all, whatever this says.
    pub metadata_bytes_max: usize,
    /// The most levels of nesting in metadata, 1 to 100. Default: 32. Reading takes stack for each.
    pub metadata_depth_max: usize,
    /// Free space, beyond what the next WAL file takes, below which upserts are refused; deletes,
    /// flushes and compaction may use it. Default: 64 MiB; 0 switches the check off. The largest
    /// merge should fit into it: see `docs/guides/disk.md`.
    pub disk_reserve_bytes: u64,
    /// When collections move between tiers by themselves, and how their objects are sent.
    pub tiers: TierSettings,
    /// What the whole database may take. Default: no limits.
    pub limits: Limits,
    /// What these namespaces may take, by name. Default: none is named.
    pub namespace_limits: BTreeMap<String, Limits>,
    /// What each namespace may take that is not named. Default: no limits.
    pub namespace_default: Limits,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            durability: Durability::Sync,
            memtable_bytes: 64 << 20,
            memtable_age_ms: 600_000,
            memtable_pool_bytes: 256 << 20,
            wal_file_bytes: 64 << 20,
            wal_zero_ahead_bytes: 4 << 20,
            wal_bytes_max: 512 << 20,
            wal_group_bytes: 8 << 20,
            wal_group_count: 1024,
            wal_group_delay_us: 0,
            wal_seal_idle_ms: 100,
            wal_backend: WalBackend::Std,
            compaction_fanout: 4,
            compaction_dead_share: 0.2,
            compaction_auto: true,
            index_rows_min: 4096,
            build_threads: 0,
            hot_bytes: 1 << 30,
            filter_answers_bytes: 64 << 20,
            read_mode: ReadMode::Mmap,
            search_threads: 0,
            k_max: 10_000,
            metadata_bytes_max: 1 << 20,
            metadata_depth_max: 32,
            disk_reserve_bytes: 64 << 20,
            tiers: TierSettings::default(),
            limits: Limits::default(),
            namespace_limits: BTreeMap::new(),
            namespace_default: Limits::default(),
        }
    }
}

/// The smallest WAL file: below it the header would be most of the file.
const WAL_FILE_BYTES_MIN: u64 = 4096;

impl Settings {
    /// What a namespace may take.
    pub(crate) fn limits_of(&self, namespace: &str) -> Limits {
        self.namespace_limits.get(namespace).copied().unwrap_or(self.namespace_default)
    }

    /// Checks every range; called when a database is opened.
    pub(crate) fn validate(&self) -> Result<()> {
        let rule = |ok: bool, name, value: String, rule| {
            if ok { Ok(()) } else { Err(InputError::BadSetting { name, value, rule }) }
        };
        let share = self.compaction_dead_share;
        rule(
            self.wal_file_bytes >= WAL_FILE_BYTES_MIN,
            "wal_file_bytes",
            self.wal_file_bytes.to_string(),
            "at least 4096",
        )?;
        rule(
            self.compaction_fanout >= 2,
            "compaction_fanout",
            self.compaction_fanout.to_string(),
            "at least 2",
        )?;
        rule(
            share > 0.0 && share <= 1.0,
            "compaction_dead_share",
            share.to_string(),
            "above 0, at most 1",
        )?;
        rule(
            (1..=100).contains(&self.metadata_depth_max),
            "metadata_depth_max",
            self.metadata_depth_max.to_string(),
            "1 to 100: the JSON reader stops at 128",
        )?;
        rule(self.k_max > 0, "k_max", self.k_max.to_string(), "at least 1")?;
        rule(
            self.memtable_bytes > 0 && self.memtable_pool_bytes >= self.memtable_bytes,
            "memtable_pool_bytes",
            self.memtable_pool_bytes.to_string(),
            "at least memtable_bytes, which is at least 1",
        )?;
        for name in self.namespace_limits.keys() {
            validate_name(name)?;
        }
        self.tiers.validate()?;
        Ok(())
    }
}
