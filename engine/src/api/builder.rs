//! Building a database: settings are data, components are things a test or a host replaces.

use super::owner::Owner;
use crate::{
    Db, blocking,
    db::{self, Components},
    error::Result,
    settings::Settings,
};
use akidb_tiering::ObjectStore;
use akidb_vfs::{Clock, Fs, Random, RealFs, SystemClock, SystemRandom};
use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

/// Opens a database with other settings or components than the usual ones.
///
/// ```
/// use akidb::{DbBuilder, Durability, Settings};
/// # let dir = tempfile::tempdir().unwrap();
/// let settings = Settings { durability: Durability::Interval { ms: 20 }, ..Settings::default() };
/// let db = DbBuilder::new(dir.path()).settings(settings).open_blocking().unwrap();
/// # db.close().unwrap();
/// ```
#[derive(Clone, Debug)]
#[must_use = "a builder does nothing until it opens"]
pub struct DbBuilder {
    dir: PathBuf,
    settings: Settings,
    components: Components,
    read_only: bool,
    allow_damage: bool,
}

impl DbBuilder {
    /// A database in `dir`, which is created if it does not exist.
    pub fn new(dir: impl AsRef<Path>) -> Self {
        Self {
            dir: dir.as_ref().to_owned(),
            settings: Settings::default(),
            components: Components {
                fs: Arc::new(RealFs),
                clock: Arc::new(SystemClock::new()),
                random: Arc::new(SystemRandom::new()),
                store: None,
                from_bucket: false,
                inline: false,
            },
            read_only: false,
            allow_damage: false,
        }
    }

    /// Opens for reading only: nothing is written to the directory, no lock is taken, and the
    /// database must exist. Works beside a process that writes, and shows what that one had
    /// acknowledged at the open; open again to see more. Every verb that writes fails with
    /// [`crate::ErrorKind::PermissionDenied`]. A log that was not flushed is replayed into memory,
    /// and so is a cold collection that is read.
    ///
    /// A damaged database opens too: [`Db::damage`] lists what cannot be read, and collections
    /// that it concerns are refused with [`crate::ErrorKind::Corruption`], unless
    /// [`DbBuilder::allow_damage`] says otherwise.
    ///
    /// ```
    /// use akidb::{DbBuilder, ErrorKind, Metric, Schema, blocking::Db};
    /// # let dir = tempfile::tempdir().unwrap();
    /// let writer = Db::open(dir.path())?;
    /// writer.create_collection("docs", Schema::new(4, Metric::Dot))?;
    /// let reader = DbBuilder::new(dir.path()).read_only().open_blocking()?;
    /// assert_eq!(reader.collection("docs")?.count(None)?, 0);
    /// let refused = reader.drop_collection("docs").unwrap_err();
    /// assert_eq!(refused.kind(), ErrorKind::PermissionDenied);
    /// # Ok::<(), akidb::Error>(())
    /// ```
    pub fn read_only(mut self) -> Self {
        self.read_only = true;
        self
    }

    /// With [`DbBuilder::read_only`]: checks every byte at the open, and reads what is whole of
    /// damaged collections too. Answers then lack what [`Db::damage`] lists.
    pub fn allow_damage(mut self) -> Self {
        self.allow_damage = true;
        self
    }

    /// Replaces all settings. Default: [`Settings::default`].
    pub fn settings(mut self, settings: Settings) -> Self {
        self.settings = settings;
        self
    }

    /// Where cold objects and snapshots go. Default: files under `objects/` in the directory. One root of
    /// a store belongs to one database, and to one writer of it at a time.
    pub fn object_store(mut self, store: Arc<dyn ObjectStore>) -> Self {
        self.components.store = Some(store);
        self
    }

    /// If the directory is new: begins with the database that the object store holds, as a machine does
    /// that has lost its disk. Its collections are cold, its snapshots are there;
    /// [`RecoveryReport`](crate::RecoveryReport) names what was never shipped. From then on this
    /// directory is the writer: the machine before, should it come back, is refused. With
    /// [`DbBuilder::read_only`] nothing is taken over and nothing is written; [`Db::is_outdated`] says
    /// when to open again.
    ///
    /// ```
    /// use akidb::{DbBuilder, Metric, Point, Schema, tiering::MemoryStore};
    /// use std::sync::Arc;
    /// # let (first, second) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    /// let store = Arc::new(MemoryStore::new());
    /// let db = DbBuilder::new(first.path()).object_store(store.clone()).open_blocking()?;
    /// let docs = db.create_collection("docs", Schema::new(2, Metric::L2))?;
    /// docs.upsert([Point::new(1, [1.0, 2.0])]).run()?;
    /// docs.demote()?;
    /// drop((docs, db, first)); // the disk is lost
    /// let db = DbBuilder::new(second.path()).object_store(store).restore_from_store().open_blocking()?;
    /// assert_eq!(db.collection("docs")?.count(None)?, 1);
    /// # Ok::<(), akidb::Error>(())
    /// ```
    pub fn restore_from_store(mut self) -> Self {
        self.components.from_bucket = true;
        self
    }

    /// The file system. Default: the machine's.
    pub fn file_system(mut self, fs: Arc<dyn Fs>) -> Self {
        self.components.fs = fs;
        self
    }

    /// The clock. Default: the machine's.
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.components.clock = clock;
        self
    }

    /// The source of salts, ids and object names. Default: seeded by the operating system.
    pub fn random(mut self, random: Arc<dyn Random>) -> Self {
        self.components.random = random;
        self
    }

    /// Starts no threads: the log is written, and flush and compaction run, on the thread that
    /// makes the call. One caller at a time then sees a deterministic database, which is what a
    /// simulation needs; a program with several writers does not want it.
    pub fn inline(mut self) -> Self {
        self.components.inline = true;
        self
    }

    /// Opens for the async API. The work runs on a thread of its own.
    ///
    /// # Errors
    /// See [`Db::open`].
    pub async fn open(self) -> Result<Db> {
        if self.components.inline {
            return self.open_core().map(Db::new);
        }
        super::task::on_thread("open", move || self.open_core()).await.map(Db::new)
    }

    /// Opens for the blocking API.
    ///
    /// # Errors
    /// See [`Db::open`].
    pub fn open_blocking(self) -> Result<blocking::Db> {
        self.open_core().map(blocking::Db::new)
    }

    fn open_core(self) -> Result<Arc<Owner>> {
        let Self { dir, settings, components, read_only, allow_damage } = self;
        let core = if read_only {
            db::open_read_only(&dir, &settings, &components, allow_damage)
        } else {
            db::open(&dir, settings, components)
        };
        core.map(Owner::new)
    }
}
