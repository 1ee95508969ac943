//! The disks that are filled: a simulated one with a limit, and a real ext4 in an image.

use super::{Counts, compare};
use crate::{
    evidence::vm::guest::{Mounted, make_image},
    world::{DIR, World, tiny_settings},
};
use akidb::{DbBuilder, Result, Settings, blocking::Db};
use akidb_vfs::{Fs, FsError, FsFile, RealFs, sim::CrashPolicy};
use serde_json::json;
use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::Arc,
};

/// The smallest disk on which ext4 is itself.
const IMAGE_BYTES: u64 = 64 << 20;
const SIM_BYTES: u64 = 768 << 10;

/// A disk with a database on it.
pub(super) struct Disk {
    kind: Kind,
    pub(super) settings: Settings,
    /// So many rows leave room for everything.
    pub(super) few: u64,
    /// So many do not fit.
    pub(super) many: u64,
    /// Rows of a batch.
    pub(super) batch: u64,
    /// Bytes of text in a row.
    pub(super) row_bytes: usize,
    /// At most so much is left free by somebody else's files.
    pub(super) leave_max: u64,
}

enum Kind {
    Simulated(Box<World>),
    Image {
        mounted: Mounted,
        /// Holds the image; goes after the mount.
        _dir: tempfile::TempDir,
    },
}

impl Disk {
    /// 768 KiB, driven inline.
    pub(super) fn simulated(seed: u64, reserved: bool) -> Self {
        let mut settings = tiny_settings();
        settings.memtable_bytes = 16 << 10;
        settings.memtable_pool_bytes = 48 << 10;
        settings.wal_file_bytes = 16 << 10;
        settings.wal_bytes_max = 48 << 10;
        settings.disk_reserve_bytes = if reserved { 192 << 10 } else { 0 };
        let world = World::new(seed, settings.clone());
        world.sim.set_capacity(Some(SIM_BYTES));
        let leave_max = if reserved { 256 << 10 } else { 40 << 10 };
        let kind = Kind::Simulated(Box::new(world));
        Self { kind, settings, few: 300, many: 6000, batch: 10, row_bytes: 300, leave_max }
    }

    /// An ext4 file system of its own, with the threads and settings of a small device.
    pub(super) fn image(
        parent: Option<&str>,
        reserved: bool,
        backend: &str,
    ) -> Result<Self, String> {
        let wal_backend = serde_json::from_value(json!(backend));
        let wal_backend = wal_backend.map_err(|_| format!("no backend {backend:?}"))?;
        let parent = parent.map_or_else(std::env::temp_dir, PathBuf::from);
        let dir = tempfile::Builder::new().prefix("akidb-full-").tempdir_in(parent);
        let dir = dir.map_err(|error| error.to_string())?;
        let image = dir.path().join("disk.img");
        let cannot = |text: String| format!("no disk to fill (it takes root and mount): {text}");
        make_image(&image, IMAGE_BYTES).map_err(cannot)?;
        let mounted = Mounted::new(&image, &dir.path().join("mnt")).map_err(cannot)?;
        let settings = Settings {
            memtable_bytes: 1 << 20,
            memtable_pool_bytes: 3 << 20,
            wal_file_bytes: 1 << 20,
            wal_bytes_max: 4 << 20,
            wal_backend,
            disk_reserve_bytes: if reserved { 20 << 20 } else { 0 },
            ..Settings::default()
        };
        let leave_max = if reserved { 24 << 20 } else { 8 << 20 };
        let kind = Kind::Image { mounted, _dir: dir };
        Ok(Self { kind, settings, few: 3000, many: 60_000, batch: 100, row_bytes: 2000, leave_max })
    }

    pub(super) fn open(&self) -> Result<Db> {
        match &self.kind {
            Kind::Simulated(world) => world.open(),
            Kind::Image { mounted, .. } => {
                let dir = mounted.dir.join("db");
                DbBuilder::new(dir).settings(self.settings.clone()).open_blocking()
            }
        }
    }

    fn fs(&self) -> Arc<dyn Fs> {
        match &self.kind {
            Kind::Simulated(world) => Arc::new(world.sim.process()),
            Kind::Image { .. } => Arc::new(RealFs),
        }
    }

    fn root(&self) -> &Path {
        match &self.kind {
            Kind::Simulated(_) => Path::new(DIR).parent().unwrap_or(Path::new("/")),
            Kind::Image { mounted, .. } => &mounted.dir,
        }
    }

    /// Flushes and merges run beside the calls.
    pub(super) fn has_threads(&self) -> bool {
        matches!(self.kind, Kind::Image { .. })
    }

    pub(super) fn free(&self) -> Result<u64, String> {
        self.fs().free_space(self.root()).map_err(|error| error.to_string())
    }

    /// Upserts left the reserve to others; on a real disk a merge may be using it.
    pub(super) fn reserve_is_there(&self) -> Result<bool, String> {
        let used_by_flushes = self.settings.memtable_pool_bytes + self.settings.wal_file_bytes;
        let least = self.settings.disk_reserve_bytes.saturating_sub(used_by_flushes);
        Ok(self.has_threads() || self.free()? >= least)
    }

    /// On a simulated disk: what a loss of power right now would leave is all of it.
    pub(super) fn lose_power_aside(
        &self,
        rows: &BTreeMap<u64, u64>,
        counts: &mut Counts,
    ) -> Result<(), String> {
        let Kind::Simulated(world) = &self.kind else { return Ok(()) };
        let world = world.fork(rows.len() as u64);
        world.sim.crash(CrashPolicy::DropAll);
        world.sim.set_capacity(None);
        let db = world.open().map_err(|error| format!("after a loss of power: {error}"))?;
        counts.add("losses of power on a full disk", 1);
        let docs = db.collection("docs").map_err(|error| error.to_string())?;
        compare(&docs, rows).map_err(|text| format!("after a loss of power: {text}"))
    }
}

/// Somebody else's file, which takes all but some of the free space; gone when dropped.
pub(super) struct Ballast {
    fs: Arc<dyn Fs>,
    path: PathBuf,
    file: Arc<dyn FsFile>,
    bytes: u64,
}

impl Ballast {
    pub(super) fn lay(disk: &Disk, leave: u64) -> Result<Self, String> {
        let path = disk.root().join("ballast");
        let (fs, text) = (disk.fs(), |error: FsError| error.to_string());
        let file = fs.create_new(&path).map_err(text)?;
        let mut ballast = Self { fs, path, file, bytes: 0 };
        ballast.grow(disk, leave)?;
        Ok(ballast)
    }

    /// Takes more, until so much is left.
    pub(super) fn grow(&mut self, disk: &Disk, leave: u64) -> Result<(), String> {
        let more = disk.free()?.saturating_sub(leave);
        if more == 0 {
            return Ok(());
        }
        self.bytes += more;
        match self.file.allocate(self.bytes) {
            // A flush or a merge took some of it in between; the disk is as full.
            Err(error) if error.is_no_space() => Ok(()),
            done => done.map_err(|error| error.to_string()),
        }
    }
}

impl Drop for Ballast {
    fn drop(&mut self) {
        // A leftover shows in the next cycle, which cannot lay its own.
        drop(self.fs.remove_file(&self.path));
    }
}
