//! `akidb delete`: rows by id or by filter.

use crate::{
    args::{DeleteArgs, StoreArgs},
    database,
    error::Result,
    output::{Output, Report},
    units,
};
use akidb::Durability;
use serde::Serialize;

/// What was deleted.
#[derive(Debug, Serialize)]
struct Deleted {
    command: &'static str,
    collection: String,
    /// Rows that existed and are gone.
    deleted_rows: u64,
    /// Rows that are left.
    left_rows: u64,
    lsn: u64,
    durability: Durability,
}

impl Report for Deleted {
    fn text(&self) -> String {
        let (deleted, left) = (units::count(self.deleted_rows), units::count(self.left_rows));
        format!("deleted {deleted} rows of {:?}, {left} are left", self.collection)
    }
}

pub(crate) fn run(args: &DeleteArgs, store: &StoreArgs, output: Output) -> Result<()> {
    let (db, collection) = database::open_collection(&args.place, store)?;
    // Deleting an id that does not exist is fine, so the receipt does not tell what went away.
    let before = collection.count(None)?;
    let receipt = match &args.filter {
        Some(filter) => collection.delete_where(filter.clone()).run()?,
        None => {
            let ids = database::resolve_ids(&collection, &args.ids, args.id_kind)?;
            collection.delete(ids).run()?
        }
    };
    let left = collection.count(None)?;
    db.close()?;
    output.report(&Deleted {
        command: "delete",
        collection: args.place.collection.clone(),
        deleted_rows: before.saturating_sub(left),
        left_rows: left,
        lsn: receipt.lsn,
        durability: receipt.durability,
    })
}
