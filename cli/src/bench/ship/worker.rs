//! The child process of `bench ship`: a client of the server in the parent, what both levels need, and
//! the line of JSON that is the answer.

use super::{
    super::{client, rows::Rows},
    engine, store,
};
use crate::{
    args::{Level, ShipWorkerArgs},
    error::{CliError, Result},
    machine,
    output::Output,
};
use akidb::{
    DbBuilder, Durability, Metric, Schema, Settings, TierSettings,
    blocking::{Collection, Db},
    tiering::{ObjectStore, StoreError, TierPolicy},
};
use serde::{Deserialize, Serialize};
use std::{ops::Range, path::Path, sync::Arc};

/// What the child found.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Told {
    /// Collections that are in the store, verified.
    pub(super) collections: u64,
    /// Collections that could not be shipped in spite of retries.
    pub(super) failed: u64,
    /// From the first to the last.
    pub(super) elapsed_s: f64,
    /// Of the objects.
    pub(super) bytes: u64,
    /// Requests that were made again.
    pub(super) retries: u64,
    /// When everything was prepared.
    pub(super) rss_before_bytes: Option<u64>,
    pub(super) peak_rss_bytes: Option<u64>,
}

/// What a level did.
#[derive(Debug, Default)]
pub(super) struct Done {
    pub(super) collections: u64,
    pub(super) failed: u64,
    pub(super) elapsed_s: f64,
    pub(super) bytes: u64,
    pub(super) rss_before_bytes: Option<u64>,
}

/// The child: ships, and prints one line of JSON.
pub(crate) fn ship_and_tell(args: &ShipWorkerArgs, output: Output) -> Result<()> {
    let client = client::open(&args.server, args.concurrency as u32)?;
    let done = match args.level {
        Level::Store => store::ship(args, client.clone())?,
        Level::Engine => engine::ship(args, client.clone())?,
    };
    let told = Told {
        collections: done.collections,
        failed: done.failed,
        elapsed_s: done.elapsed_s,
        bytes: done.bytes,
        retries: client.stats().retries,
        rss_before_bytes: done.rss_before_bytes,
        peak_rss_bytes: machine::peak_rss_bytes(),
    };
    output.say(serde_json::to_string(&told).unwrap_or_default())
}

pub(super) fn failed(error: StoreError) -> CliError {
    CliError::Store(Box::new(error))
}

/// A database on this store, whose collections stay where they are unless they are told.
pub(super) fn open(dir: &Path, store: Arc<dyn ObjectStore>, tiers: &TierSettings) -> Result<Db> {
    let policy = TierPolicy { enabled: false, ..TierPolicy::default() };
    let tiers = TierSettings { policy, ..tiers.clone() };
    let settings = Settings { tiers, ..Settings::default() };
    Ok(DbBuilder::new(dir).settings(settings).object_store(store).open_blocking()?)
}

/// Collections of the database, filled.
pub(super) fn fill(db: &Db, args: &ShipWorkerArgs, which: Range<usize>) -> Result<Vec<Collection>> {
    let rows = Rows::new(args.dim, args.collections.saturating_mul(args.rows));
    let last = which.end.saturating_sub(1);
    let make = |n: usize| {
        let schema = Schema::new(args.dim, Metric::Cosine);
        let collection = db.create_collection(&format!("c{n:06}"), schema)?;
        let points: Vec<_> =
            (n * args.rows..(n + 1) * args.rows).map(|row| rows.row(row)).collect();
        // The last sync covers all before it.
        let durability = if n == last { Durability::Sync } else { Durability::Memory };
        collection.upsert(points).durability(durability).run()?;
        Ok(collection)
    };
    which.map(make).collect()
}
