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
                inline: false,
            },
        }
    }

    /// Replaces all settings. Default: [`Settings::default`].
    pub fn settings(mut self, settings: Settings) -> Self {
        self.settings = settings;
        self
    }

    /// Where cold objects and snapshots go. Default: files under `objects/` in the directory.
    pub fn object_store(mut self, store: Arc<dyn ObjectStore>) -> Self {
        self.components.store = Some(store);
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
        db::open(&self.dir, self.settings, self.components).map(Owner::new)
    }
}
