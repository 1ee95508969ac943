//! A directory, a prefix of the real server's bucket that nothing else uses, and rows that do not compress.

use akidb::{
    DbBuilder, Metric, Point, Schema, Settings, TierSettings,
    blocking::{Collection, Db},
    tiering::{ObjectStore, UploadSettings},
    vfs::{Random, SystemRandom},
};
use akidb_tests::{oracle::Rows, real_server, run::scan_all};
use akidb_tiering::s3::S3Store;
use akidb_vfs::sim::SimClock;
use std::{path::Path, sync::Arc};
use tempfile::TempDir;

pub(crate) const DIM: u32 = 384;

pub(crate) struct Rig {
    pub(crate) dir: TempDir,
    pub(crate) clock: SimClock,
    prefix: String,
}

impl Rig {
    pub(crate) fn new() -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let prefix = format!("real/{:032x}", SystemRandom::new().next_u128());
        Self { dir, clock: SimClock::new(), prefix }
    }

    /// A client that tries each call once.
    pub(crate) fn bucket(&self) -> S3Store {
        real_server::bucket(&self.prefix).expect("the server is there")
    }

    /// A client that waits for a server to come back.
    pub(crate) fn patient(&self) -> Arc<dyn ObjectStore> {
        Arc::new(real_server::patient_bucket(&self.prefix).expect("the server is there"))
    }

    pub(crate) fn builder(&self, dir: &Path) -> DbBuilder {
        let uploads = UploadSettings {
            single_put_max_bytes: 5 << 20,
            part_bytes: 5 << 20,
            ..UploadSettings::default()
        };
        let tiers = TierSettings { uploads, ..TierSettings::default() };
        let settings = Settings { tiers, ..Settings::default() };
        DbBuilder::new(dir).settings(settings)
    }

    /// Opens on one thread, by the clock that moves when told.
    pub(crate) fn open(&self, store: Arc<dyn ObjectStore>) -> Db {
        let builder = self.builder(self.dir.path()).clock(Arc::new(self.clock.clone())).inline();
        builder.object_store(store).open_blocking().expect("it opens")
    }

    /// A new machine that has the bucket alone.
    pub(crate) fn restored(&self, dir: &Path) -> Db {
        let builder = self.builder(dir).clock(Arc::new(self.clock.clone())).inline();
        let builder = builder.object_store(self.patient()).restore_from_store();
        builder.open_blocking().expect("the bucket is enough")
    }

    /// The keys of all objects of rows.
    pub(crate) fn objects(&self) -> Vec<String> {
        let page =
            futures_lite::future::block_on(self.bucket().list("", None, 1_000)).expect("a listing");
        let keys = page.objects.into_iter().map(|object| object.key.to_string());
        keys.filter(|key| key.ends_with(".parquet")).collect()
    }

    /// Uploads in parts that nobody ended.
    pub(crate) fn uploads(&self) -> usize {
        let bucket = self.bucket();
        let parts = bucket.multipart().expect("these servers have parts");
        futures_lite::future::block_on(parts.list_uploads("", None, 1_000))
            .expect("a listing")
            .uploads
            .len()
    }
}

pub(crate) fn vector(id: u64) -> Vec<f32> {
    let mut rng = fastrand::Rng::with_seed(id);
    (0..DIM).map(|_| rng.f32()).collect()
}

/// A collection of this many rows.
pub(crate) fn filled(db: &Db, name: &str, rows: u64) -> Collection {
    let docs = db.create_collection(name, Schema::new(DIM, Metric::L2)).expect("a new name");
    for start in (0..rows).step_by(1000) {
        let points = (start..rows.min(start + 1000)).map(|id| Point::new(id, vector(id)));
        docs.upsert(points).run().expect("rows");
    }
    docs
}

pub(crate) fn all(docs: &Collection) -> Rows {
    scan_all(docs, 1000).expect("a scan")
}

/// Whether two sets of rows are one, without printing millions of numbers if not.
pub(crate) fn assert_same(found: &Rows, wanted: &Rows, when: &str) {
    assert_eq!(found.len(), wanted.len(), "rows, {when}");
    let other = found.iter().zip(wanted).find(|(found, wanted)| found != wanted);
    assert!(other.is_none(), "row {:?} is another one, {when}", other.map(|(found, _)| found.0));
}
