//! `akidb restore`: a new directory of what an object store holds.

use crate::{
    args::{RestoreArgs, StoreArgs},
    database,
    error::Result,
    output::{Output, Report},
    progress::Progress,
    units,
};
use serde::Serialize;

#[derive(Debug, Serialize)]
struct Restored {
    command: &'static str,
    collections: Vec<String>,
    snapshots: Vec<String>,
    /// Those of which the machine before had rows that it never shipped.
    partly: Vec<String>,
}

impl Report for Restored {
    fn text(&self) -> String {
        let some = |names: &[String], what: &str| {
            let ending = if names.len() == 1 { "" } else { "s" };
            format!("{} {what}{ending}", units::count(names.len() as u64))
        };
        let (collections, snapshots) = (&self.collections, &self.snapshots);
        let mut text = format!(
            "restored {} and {}",
            some(collections, "collection"),
            some(snapshots, "snapshot")
        );
        for name in &self.partly {
            text.push_str(&format!(
                "\n{name:?} had rows that were never shipped: they are not here"
            ));
        }
        text
    }
}

pub(crate) fn run(args: &RestoreArgs, store: &StoreArgs, output: Output) -> Result<()> {
    let progress = Progress::spinner(output, "reading the object store".to_owned());
    let db = database::restore(&args.dir, store)?;
    drop(progress);
    let restored = Restored {
        command: "restore",
        collections: db.list_collections()?,
        snapshots: db.list_snapshots().into_iter().map(|snapshot| snapshot.name).collect(),
        partly: db.recovery_report().restored_partly.clone(),
    };
    db.close()?;
    output.report(&restored)
}
