//! A simulated machine with one database directory on it: disk, clock and random source from one
//! seed, and the settings that make rare paths common.

use akidb::{
    DbBuilder, Durability, ReadMode, Result, Settings,
    blocking::Db,
    tiering::ObjectStore,
    vfs::{SystemClock, SystemRandom},
};
use akidb_vfs::sim::{SimClock, SimFs};
use std::{
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

/// Where the database lies on the simulated disk.
pub const DIR: &str = "/data/db";

/// A disk, a clock and what is needed to open the database on them again and again.
#[derive(Debug)]
pub struct World {
    /// The disk; outlives crashes.
    pub sim: SimFs,
    /// The clock; moves only when told.
    pub clock: SimClock,
    /// The settings of the next open.
    pub settings: Settings,
    /// The object store of the next open; `None`: files in the directory.
    pub store: Option<Arc<dyn ObjectStore>>,
    seed: u64,
    boots: AtomicU64,
}

impl World {
    /// An empty machine.
    pub fn new(seed: u64, settings: Settings) -> Self {
        Self::on(SimFs::new(seed), seed, settings)
    }

    /// A machine with this disk.
    pub fn on(sim: SimFs, seed: u64, settings: Settings) -> Self {
        let clock = SimClock::new();
        Self { sim, clock, settings, store: None, seed, boots: AtomicU64::new(0) }
    }

    /// The same machine with a copy of the disk as it is now.
    pub fn fork(&self, seed: u64) -> Self {
        let mut copy = Self::on(self.sim.fork(seed), seed, self.settings.clone());
        copy.store.clone_from(&self.store);
        copy
    }

    /// The database directory.
    pub fn dir(&self) -> PathBuf {
        PathBuf::from(DIR)
    }

    /// What opens the database. Every boot has a random source of its own, as a real one has:
    /// salts and names of two boots must differ.
    pub fn builder(&self) -> DbBuilder {
        let boot = self.boots.fetch_add(1, Ordering::Relaxed);
        let random = SystemRandom::from_seed(self.seed.wrapping_mul(1_000_003).wrapping_add(boot));
        let builder = DbBuilder::new(Path::new(DIR))
            .settings(self.settings.clone())
            .file_system(Arc::new(self.sim.process()))
            .clock(Arc::new(self.clock.clone()))
            .random(Arc::new(random));
        match &self.store {
            Some(store) => builder.object_store(store.clone()),
            None => builder,
        }
    }

    /// Opens the database on this thread alone.
    ///
    /// # Errors
    /// Those of the database.
    pub fn open(&self) -> Result<Db> {
        self.builder().inline().open_blocking()
    }

    /// Opens the database with its threads: one writes the log, others flush and compact. They
    /// need a clock that goes.
    ///
    /// # Errors
    /// Those of the database.
    pub fn open_with_threads(&self) -> Result<Db> {
        self.builder().clock(Arc::new(SystemClock::new())).open_blocking()
    }

    /// The bytes of all WAL files.
    pub fn wal_bytes(&self) -> u64 {
        let wal = Path::new(DIR).join("wal");
        self.sim.files().iter().filter(|(path, _)| path.starts_with(&wal)).map(|(_, len)| len).sum()
    }

    /// The files whose path contains `part`.
    pub fn files_with(&self, part: &str) -> Vec<PathBuf> {
        let files = self.sim.files().into_iter().map(|(path, _)| path);
        files.filter(|path| path.to_string_lossy().contains(part)).collect()
    }
}

/// The pieces in which objects are read where that is to be seen: shorter than any object.
pub const PIECE_BYTES: u64 = 1 << 10;

/// Settings under which a few dozen rows flush, compact, roll the log and fill the manifest.
pub fn tiny_settings() -> Settings {
    Settings {
        memtable_bytes: 4 << 10,
        memtable_pool_bytes: 16 << 10,
        wal_file_bytes: 4096,
        wal_bytes_max: 16 << 10,
        compaction_fanout: 2,
        compaction_dead_share: 0.5,
        disk_reserve_bytes: 0,
        index_rows_min: 8,
        ..Settings::default()
    }
}

/// Tiny settings that differ from seed to seed, in both read modes.
pub fn settings_for(rng: &mut fastrand::Rng) -> Settings {
    let mut settings = tiny_settings();
    settings.memtable_bytes = rng.choice([1 << 10, 4 << 10, 16 << 10]).unwrap_or(4 << 10);
    settings.memtable_pool_bytes = settings.memtable_bytes * rng.u64(1..5);
    settings.wal_file_bytes = rng.choice([4096, 8192, 32 << 10]).unwrap_or(4096);
    settings.wal_bytes_max = rng.choice([8 << 10, 64 << 10]).unwrap_or(8 << 10);
    settings.compaction_fanout = rng.usize(2..4);
    settings.compaction_auto = rng.u8(0..4) > 0;
    settings.read_mode = if rng.bool() { ReadMode::Mmap } else { ReadMode::Pread };
    settings.durability = any_durability(rng);
    // In every third world objects come back in pieces. Not drawn: what follows from a seed stays.
    if settings.wal_file_bytes == 8192 {
        settings.tiers.read_bytes = PIECE_BYTES;
    }
    settings
}

/// Any level, sync most often.
pub fn any_durability(rng: &mut fastrand::Rng) -> Durability {
    match rng.u8(0..4) {
        0 => Durability::Interval { ms: 50 },
        1 => Durability::Memory,
        _ => Durability::Sync,
    }
}
