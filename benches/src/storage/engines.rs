//! The engines, each behind the same few calls and each used the way its documentation calls best
//! for many durable writers. What was chosen, and why, stands at each.

use super::rows::{Rows, key};
use crate::Result;
use clap::ValueEnum;
use std::path::Path;

/// More than any run here writes, and no more than a disk has: RocksDB reserves as much for its log.
const NEVER: u64 = 6 << 30;

/// What is measured. The names are those of the command line and of the JSON.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Kind {
    /// AkiDB with its default settings.
    Akidb,
    /// RocksDB.
    Rocksdb,
    /// fjall.
    Fjall,
    /// redb.
    Redb,
}

impl Kind {
    /// Its name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Akidb => "akidb",
            Self::Rocksdb => "rocksdb",
            Self::Fjall => "fjall",
            Self::Redb => "redb",
        }
    }
}

/// What an engine does with its memory and its log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Bounded memory: what does not fit is flushed.
    Bounded,
    /// Nothing is flushed, neither by the writer nor by the recovery after it.
    Unflushed,
}

/// An open engine.
pub trait Engine: Send + Sync {
    /// Writes row `n`; durable when it returns.
    fn put(&self, rows: &Rows, n: u64) -> Result<()>;

    /// Writes the rows of a range in one call; durable when it returns if `sync`.
    fn put_batch(&self, rows: &Rows, range: std::ops::Range<u64>, sync: bool) -> Result<()>;

    /// Answers the first question that the engine can answer: the nearest row for AkiDB, the row
    /// of a key for the others. True if the row was found.
    fn read(&self, rows: &Rows, n: u64) -> Result<bool>;
}

/// Opens or creates an engine in a directory.
pub fn open(kind: Kind, mode: Mode, dir: &Path, dim: usize) -> Result<Box<dyn Engine>> {
    Ok(match kind {
        Kind::Akidb => Box::new(Akidb::open(mode, dir, dim)?),
        Kind::Rocksdb => Box::new(Rocks::open(mode, dir)?),
        Kind::Fjall => Box::new(Fjall::open(mode, dir)?),
        Kind::Redb => Box::new(Redb::open(dir)?),
    })
}

struct Akidb {
    collection: akidb::blocking::Collection,
    // Last, so that it is dropped last.
    _db: akidb::blocking::Db,
}

impl Akidb {
    fn open(mode: Mode, dir: &Path, dim: usize) -> Result<Self> {
        let mut settings = akidb::Settings::default();
        if mode == Mode::Unflushed {
            settings.memtable_bytes = NEVER;
            settings.memtable_pool_bytes = NEVER;
            settings.memtable_age_ms = NEVER;
            settings.wal_bytes_max = NEVER;
        }
        let db = akidb::DbBuilder::new(dir).settings(settings).open_blocking()?;
        let collection = match db.collection("bench") {
            Ok(collection) => collection,
            Err(_) => {
                let schema = akidb::Schema::new(u32::try_from(dim)?, akidb::Metric::Cosine);
                db.create_collection("bench", schema)?
            }
        };
        Ok(Self { collection, _db: db })
    }
}

fn point(rows: &Rows, n: u64) -> akidb::Point {
    akidb::Point::new(n, rows.vector(n).to_vec()).meta(Rows::metadata(n))
}

impl Engine for Akidb {
    fn put(&self, rows: &Rows, n: u64) -> Result<()> {
        self.collection.upsert([point(rows, n)]).run()?;
        Ok(())
    }

    fn put_batch(&self, rows: &Rows, range: std::ops::Range<u64>, sync: bool) -> Result<()> {
        let durability = if sync { akidb::Durability::Sync } else { akidb::Durability::Memory };
        let points: Vec<_> = range.map(|n| point(rows, n)).collect();
        self.collection.upsert(points).durability(durability).run()?;
        Ok(())
    }

    fn read(&self, rows: &Rows, n: u64) -> Result<bool> {
        Ok(!self.collection.search(rows.vector(n)).k(1).run()?.is_empty())
    }
}

/// RocksDB joins waiting writers into one group, written and synced by the first of them, by
/// default. Pipelined writes let the next group write its log while this one fills the memtable,
/// which its documentation recommends for many writers with a log.
struct Rocks {
    db: rocksdb::DB,
}

impl Rocks {
    fn open(mode: Mode, dir: &Path) -> Result<Self> {
        let mut options = match mode {
            Mode::Unflushed => Self::unflushed(dir)?,
            Mode::Bounded => rocksdb::Options::default(),
        };
        options.create_if_missing(true);
        options.set_enable_pipelined_write(true);
        // Vectors do not compress; the attempt would cost time.
        options.set_compression_type(rocksdb::DBCompressionType::None);
        match mode {
            // AkiDB's defaults: memtables of 64 MiB, 256 MiB in all.
            Mode::Bounded => options.set_max_write_buffer_number(4),
            Mode::Unflushed => {
                options.set_write_buffer_size(NEVER as usize);
                options.set_max_total_wal_size(NEVER);
            }
        }
        Ok(Self { db: rocksdb::DB::open(&options, dir)? })
    }

    /// Options under which a recovery keeps what it reads in memory. The crate has no call for
    /// `avoid_flush_during_recovery`, but it reads the options file that RocksDB writes beside its
    /// data: there it is switched on.
    fn unflushed(dir: &Path) -> Result<rocksdb::Options> {
        let mut newest = None;
        for entry in std::fs::read_dir(dir).into_iter().flatten() {
            let path = entry?.path();
            let name = path.file_name().map(|name| name.to_string_lossy().into_owned());
            if name.is_some_and(|name| name.starts_with("OPTIONS-") && !name.ends_with(".dbtmp")) {
                newest = newest.max(Some(path));
            }
        }
        let Some(newest) = newest else { return Ok(rocksdb::Options::default()) };
        let (off, on) = ("avoid_flush_during_recovery=false", "avoid_flush_during_recovery=true");
        let text = std::fs::read_to_string(&newest)?;
        if !text.contains(off) && !text.contains(on) {
            return Err("RocksDB's options file does not name avoid_flush_during_recovery".into());
        }
        std::fs::write(&newest, text.replace(off, on))?;
        let cache = rocksdb::Cache::new_lru_cache(32 << 20);
        let (options, _) = rocksdb::Options::load_latest(dir, rocksdb::Env::new()?, true, cache)?;
        Ok(options)
    }
}

fn rocks_write(sync: bool) -> rocksdb::WriteOptions {
    let mut options = rocksdb::WriteOptions::default();
    options.set_sync(sync);
    options
}

impl Engine for Rocks {
    fn put(&self, rows: &Rows, n: u64) -> Result<()> {
        Ok(self.db.put_opt(key(n), rows.value(n), &rocks_write(true))?)
    }

    fn put_batch(&self, rows: &Rows, range: std::ops::Range<u64>, sync: bool) -> Result<()> {
        let mut batch = rocksdb::WriteBatch::default();
        for n in range {
            batch.put(key(n), rows.value(n));
        }
        Ok(self.db.write_opt(batch, &rocks_write(sync))?)
    }

    fn read(&self, _: &Rows, n: u64) -> Result<bool> {
        Ok(self.db.get(key(n))?.is_some())
    }
}

/// fjall has no group commit: its documented way to a durable write is an insert and a `persist`
/// of the journal.
struct Fjall {
    keyspace: fjall::Keyspace,
    db: fjall::Database,
}

impl Fjall {
    #[expect(deprecated, reason = "there is no other way yet to let it keep all in memory")]
    fn open(mode: Mode, dir: &Path) -> Result<Self> {
        let mut builder = fjall::Database::builder(dir);
        if mode == Mode::Unflushed {
            builder = builder.max_journaling_size(NEVER).max_write_buffer_size(Some(NEVER));
        }
        let db = builder.open()?;
        let keyspace = db.keyspace("bench", move || {
            let options = fjall::KeyspaceCreateOptions::default();
            if mode == Mode::Unflushed { options.max_memtable_size(NEVER) } else { options }
        })?;
        Ok(Self { keyspace, db })
    }
}

impl Engine for Fjall {
    fn put(&self, rows: &Rows, n: u64) -> Result<()> {
        self.keyspace.insert(key(n), rows.value(n))?;
        Ok(self.db.persist(fjall::PersistMode::SyncData)?)
    }

    fn put_batch(&self, rows: &Rows, range: std::ops::Range<u64>, sync: bool) -> Result<()> {
        let mut batch = self.db.batch();
        for n in range {
            batch.insert(&self.keyspace, key(n), rows.value(n));
        }
        batch.commit()?;
        if sync {
            self.db.persist(fjall::PersistMode::SyncData)?;
        }
        Ok(())
    }

    fn read(&self, _: &Rows, n: u64) -> Result<bool> {
        Ok(self.keyspace.get(key(n))?.is_some())
    }
}

const TABLE: redb::TableDefinition<'_, u64, &[u8]> = redb::TableDefinition::new("bench");

/// redb writes one transaction at a time, straight into its tree: it has no log to join writers in
/// and none to replay.
struct Redb {
    db: redb::Database,
}

impl Redb {
    fn open(dir: &Path) -> Result<Self> {
        std::fs::create_dir_all(dir)?;
        Ok(Self { db: redb::Database::create(dir.join("redb"))? })
    }
}

impl Engine for Redb {
    fn put(&self, rows: &Rows, n: u64) -> Result<()> {
        self.put_batch(rows, n..n + 1, true)
    }

    fn put_batch(&self, rows: &Rows, range: std::ops::Range<u64>, sync: bool) -> Result<()> {
        let mut transaction = self.db.begin_write()?;
        let durability = if sync { redb::Durability::Immediate } else { redb::Durability::None };
        transaction.set_durability(durability)?;
        {
            let mut table = transaction.open_table(TABLE)?;
            for n in range {
                table.insert(n, rows.value(n).as_slice())?;
            }
        }
        Ok(transaction.commit()?)
    }

    fn read(&self, _: &Rows, n: u64) -> Result<bool> {
        use redb::ReadableDatabase;
        Ok(self.db.begin_read()?.open_table(TABLE)?.get(n)?.is_some())
    }
}
