//! `akidb snapshot`: collections as they were at one moment, made, listed, checked, restored, deleted.

use crate::{
    args::{
        SnapshotArgs, SnapshotCommand, SnapshotCreateArgs, SnapshotDeleteArgs, SnapshotListArgs,
        SnapshotRestoreArgs, SnapshotVerifyArgs, StoreArgs,
    },
    database,
    error::Result,
    output::{self, Output, Report},
    progress::Progress,
    units,
};
use akidb::{
    SnapshotInfo,
    vfs::{Clock, SystemClock},
};
use serde::Serialize;

pub(crate) fn run(args: &SnapshotArgs, store: &StoreArgs, output: Output) -> Result<()> {
    match &args.command {
        SnapshotCommand::Create(args) => create(args, store, output),
        SnapshotCommand::List(args) => list(args, store, output),
        SnapshotCommand::Verify(args) => verify(args, store, output),
        SnapshotCommand::Restore(args) => restore(args, store, output),
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
    let (db, collection) = database::open_collection(&args.place, store)?;
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
    let db = database::open_existing(&args.dir, store)?;
    let clock = SystemClock::new();
    let progress = Progress::spinner(output, format!("restoring {:?}", args.snapshot));
    let collection = match args.over {
        true => db.restore_snapshot_over(&args.snapshot, &args.to)?,
        false => db.restore_snapshot(&args.snapshot, &args.to)?,
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
