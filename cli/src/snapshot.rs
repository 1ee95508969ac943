//! `akidb snapshot`: collections as they were at one moment, made, listed, checked, copied, restored,
//! deleted.

use crate::{
    args::{
        SnapshotArgs, SnapshotCommand, SnapshotCopyArgs, SnapshotCreateArgs, SnapshotDeleteArgs,
        SnapshotListArgs, SnapshotRestoreArgs, SnapshotVerifyArgs, StoreArgs, StorePlace,
    },
    database,
    error::{CliError, Result},
    output::{self, Output, Report},
    progress::Progress,
    store::{self, Use},
    units,
};
use akidb::{
    InputError, SnapshotInfo,
    tiering::{ObjectKey, ObjectStore},
    vfs::{Clock, SystemClock},
};
use serde::Serialize;
use std::sync::Arc;

pub(crate) fn run(args: &SnapshotArgs, store: &StoreArgs, output: Output) -> Result<()> {
    match &args.command {
        SnapshotCommand::Create(args) => create(args, store, output),
        SnapshotCommand::List(args) => list(args, store, output),
        SnapshotCommand::Verify(args) => verify(args, store, output),
        SnapshotCommand::Restore(args) => restore(args, store, output),
        SnapshotCommand::Copy(args) => copy(args, store, output),
        SnapshotCommand::Delete(args) => delete(args, store, output),
    }
}

#[derive(Debug, Serialize)]
struct Created {
    command: &'static str,
    snapshot: SnapshotInfo,
    elapsed_s: f64,
}

impl Report for Created {
    fn text(&self) -> String {
        let SnapshotInfo { name, collection, rows, bytes, object, .. } = &self.snapshot;
        format!(
            "snapshot {name:?} of {collection:?}: {} rows, {}, in {}\nobject: {object}",
            units::count(*rows),
            units::bytes(*bytes),
            units::micros(self.elapsed_s * 1e6),
        )
    }
}

fn create(args: &SnapshotCreateArgs, store: &StoreArgs, output: Output) -> Result<()> {
    let db = database::open_existing_with(&args.place.dir, store, args.limits.settings())?;
    let collection = database::collection(&db, &args.place.collection)?;
    let clock = SystemClock::new();
    let progress = Progress::spinner(output, format!("keeping {:?}", collection.name()));
    let snapshot = collection.snapshot(&args.snapshot)?;
    drop(progress);
    let elapsed_s = clock.monotonic().as_secs_f64();
    db.close()?;
    output.report(&Created { command: "snapshot create", snapshot, elapsed_s })
}

#[derive(Debug, Serialize)]
struct Listed {
    command: &'static str,
    snapshots: Vec<SnapshotInfo>,
}

impl Report for Listed {
    fn text(&self) -> String {
        if self.snapshots.is_empty() {
            return "no snapshots".to_owned();
        }
        let header = ["snapshot", "collection", "rows", "bytes", "made by", "object"];
        let mut table = output::table(header);
        for snapshot in &self.snapshots {
            table.add_row([
                snapshot.name.clone(),
                snapshot.collection.clone(),
                units::count(snapshot.rows),
                units::bytes(snapshot.bytes),
                snapshot.creator.clone(),
                snapshot.object.clone(),
            ]);
        }
        output::align_right(&mut table, [2, 3]);
        table.to_string()
    }
}

fn list(args: &SnapshotListArgs, store: &StoreArgs, output: Output) -> Result<()> {
    let db = database::open_to_read(&args.dir, store, args.opening, output)?;
    let snapshots = db.list_snapshots();
    db.close()?;
    output.report(&Listed { command: "snapshot list", snapshots })
}

#[derive(Debug, Serialize)]
struct Verified {
    command: &'static str,
    snapshot: String,
    rows: u64,
}

impl Report for Verified {
    fn text(&self) -> String {
        format!("snapshot {:?} is whole: {} rows", self.snapshot, units::count(self.rows))
    }
}

fn verify(args: &SnapshotVerifyArgs, store: &StoreArgs, output: Output) -> Result<()> {
    let db = database::open_existing(&args.dir, store)?;
    let progress = Progress::spinner(output, format!("reading {:?}", args.snapshot));
    let rows = db.verify_snapshot(&args.snapshot)?;
    drop(progress);
    db.close()?;
    let snapshot = args.snapshot.clone();
    output.report(&Verified { command: "snapshot verify", snapshot, rows })
}

#[derive(Debug, Serialize)]
struct Restored {
    command: &'static str,
    snapshot: String,
    collection: String,
    rows: u64,
    elapsed_s: f64,
}

impl Report for Restored {
    fn text(&self) -> String {
        format!(
            "restored {:?} as {:?}: {} rows in {}",
            self.snapshot,
            self.collection,
            units::count(self.rows),
            units::micros(self.elapsed_s * 1e6),
        )
    }
}

fn restore(args: &SnapshotRestoreArgs, store: &StoreArgs, output: Output) -> Result<()> {
    let copy = args.from.as_ref().map(|from| find_copy(from, args, store)).transpose()?;
    let db = match copy {
        // It needs nothing of the database that it is of: there may be none here yet.
        Some(_) => database::open_or_create(&args.dir, store, args.limits.settings())?,
        None => database::open_existing_with(&args.dir, store, args.limits.settings())?,
    };
    let clock = SystemClock::new();
    let progress = Progress::spinner(output, format!("restoring {:?}", args.snapshot));
    let collection = match (copy, args.over) {
        (Some(from), _) => db.restore_copy(&*from, &args.snapshot, &args.to)?,
        (None, true) => db.restore_snapshot_over(&args.snapshot, &args.to)?,
        (None, false) => db.restore_snapshot(&args.snapshot, &args.to)?,
    };
    drop(progress);
    let elapsed_s = clock.monotonic().as_secs_f64();
    let rows = collection.count(None)?;
    db.close()?;
    output.report(&Restored {
        command: "snapshot restore",
        snapshot: args.snapshot.clone(),
        collection: args.to.clone(),
        rows,
        elapsed_s,
    })
}

/// The store that a copy lies in. A typing error in its key leaves no empty database behind.
fn find_copy(
    from: &StorePlace,
    args: &SnapshotRestoreArgs,
    store: &StoreArgs,
) -> Result<Arc<dyn ObjectStore>> {
    let source = store::open_at(from, store, Use::Read)?;
    let key = ObjectKey::new(&*args.snapshot)
        .map_err(|_| akidb::Error::from(InputError::BadKey { key: args.snapshot.clone() }))?;
    let found = futures_lite::future::block_on(source.head(&key)).map(drop);
    found.map(|()| source).map_err(|error| CliError::Store(Box::new(error)))
}

#[derive(Debug, Serialize)]
struct Copied {
    command: &'static str,
    snapshot: String,
    to: String,
    key: String,
    rows: u64,
    bytes: u64,
    elapsed_s: f64,
}

impl Report for Copied {
    fn text(&self) -> String {
        format!(
            "copied {:?} to {}: {} rows, {}, in {}\nkey: {}",
            self.snapshot,
            self.to,
            units::count(self.rows),
            units::bytes(self.bytes),
            units::micros(self.elapsed_s * 1e6),
            self.key,
        )
    }
}

fn copy(args: &SnapshotCopyArgs, store: &StoreArgs, output: Output) -> Result<()> {
    let db = database::open_existing(&args.dir, store)?;
    let found = db.list_snapshots().into_iter().find(|one| one.name == args.snapshot);
    let found = found.ok_or_else(|| CliError::NoSnapshot { name: args.snapshot.clone() })?;
    let key = args.key.clone().unwrap_or_else(|| format!("{}.parquet", found.name));
    // Only now: a name that is mistyped makes no directory.
    let target = store::open_at(&args.to, store, Use::Write)?;
    let clock = SystemClock::new();
    let progress = Progress::spinner(output, format!("copying {:?}", args.snapshot));
    db.copy_snapshot(&args.snapshot, &*target, &key)?;
    drop(progress);
    let elapsed_s = clock.monotonic().as_secs_f64();
    db.close()?;
    output.report(&Copied {
        command: "snapshot copy",
        snapshot: found.name,
        to: args.to.to_string(),
        key,
        rows: found.rows,
        bytes: found.bytes,
        elapsed_s,
    })
}

#[derive(Debug, Serialize)]
struct Deleted {
    command: &'static str,
    snapshot: String,
}

impl Report for Deleted {
    fn text(&self) -> String {
        format!("deleted snapshot {:?}", self.snapshot)
    }
}

fn delete(args: &SnapshotDeleteArgs, store: &StoreArgs, output: Output) -> Result<()> {
    let db = database::open_existing(&args.dir, store)?;
    db.delete_snapshot(&args.snapshot)?;
    db.close()?;
    output.report(&Deleted { command: "snapshot delete", snapshot: args.snapshot.clone() })
}
