//! `akidb get`: rows by id.

use crate::{
    args::{GetArgs, StoreArgs},
    database,
    error::{CliError, Result},
    output::{Output, Report},
};
use akidb::{Metadata, Record};
use serde::Serialize;
use serde_json::Value;
use std::fmt::Write as _;

/// The rows that exist, and the ids that do not.
#[derive(Debug, Serialize)]
struct Got {
    command: &'static str,
    collection: String,
    rows: Vec<Row>,
    missing: Vec<String>,
}

#[derive(Debug, Serialize)]
struct Row {
    id: Value,
    lsn: u64,
    metadata: Metadata,
    #[serde(skip_serializing_if = "Option::is_none")]
    vector: Option<Vec<f32>>,
}

impl Report for Got {
    fn text(&self) -> String {
        let mut text = String::new();
        for row in &self.rows {
            let blank = if text.is_empty() { "" } else { "\n\n" };
            // Writing to a string cannot fail.
            let _ = write!(text, "{blank}{}  (LSN {})", database::id_text(&row.id), row.lsn);
            for (key, value) in &row.metadata {
                let _ = write!(text, "\n  {key}: {value}");
            }
            if let Some(vector) = &row.vector {
                let _ = write!(text, "\n  vector: {vector:?}");
            }
        }
        text
    }
}

pub(crate) fn run(args: &GetArgs, store: &StoreArgs, output: Output) -> Result<()> {
    let (db, collection) = database::collection_to_read(&args.place, store, args.opening, output)?;
    let ids = database::resolve_ids(&collection, &args.ids, args.id_kind)?;
    let records = collection.get(&ids)?;
    db.close()?;
    let missing: Vec<String> = args
        .ids
        .iter()
        .zip(&records)
        .filter(|(_, record)| record.is_none())
        .map(|(id, _)| id.clone())
        .collect();
    let rows: Vec<Row> =
        records.into_iter().flatten().map(|record| row(record, args.vectors)).collect();
    let got = Got { command: "get", collection: args.place.collection.clone(), rows, missing };
    if output.is_json() || !got.rows.is_empty() {
        output.report(&got)?;
    }
    if got.missing.is_empty() {
        Ok(())
    } else {
        Err(CliError::MissingRows { missing: got.missing, asked: args.ids.len() })
    }
}

fn row(record: Record, with_vector: bool) -> Row {
    Row {
        id: database::id_json(&record.id),
        lsn: record.lsn,
        metadata: record.metadata,
        vector: with_vector.then_some(record.vector),
    }
}
