//! `akidb search`: the nearest rows to a vector file or to a row.

use crate::{
    args::{SearchArgs, StoreArgs},
    database,
    error::{CliError, Result},
    output::{self, Output, Report},
    units,
};
use akidb::{
    Explain, FilterStep, FilterStrategy, Hit, Metadata, PartExplain,
    blocking::Collection,
    vfs::{RealFs, read_file},
};
use serde::Serialize;
use serde_json::Value;
use std::path::Path;

/// What was found.
#[derive(Debug, Serialize)]
struct Found {
    command: &'static str,
    collection: String,
    k: usize,
    hits: Vec<HitReport>,
    #[serde(skip_serializing_if = "Option::is_none")]
    explain: Option<Explain>,
}

/// A hit as it is printed.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct HitReport {
    pub(crate) id: Value,
    pub(crate) score: f32,
    pub(crate) metadata: Metadata,
}

impl From<Hit> for HitReport {
    fn from(hit: Hit) -> Self {
        Self {
            id: database::id_json(&hit.id),
            score: hit.score,
            metadata: hit.metadata.unwrap_or_default(),
        }
    }
}

impl Report for Found {
    fn text(&self) -> String {
        let mut text = if self.hits.is_empty() {
            "no row matches".to_owned()
        } else {
            let mut table = output::table(["#", "id", "score", "metadata"]);
            for (at, hit) in self.hits.iter().enumerate() {
                let metadata = Value::Object(hit.metadata.clone()).to_string();
                let score = format!("{:.4}", hit.score);
                let place = (at + 1).to_string();
                table.add_row([
                    place,
                    database::id_text(&hit.id),
                    score,
                    units::clip(&metadata, 100),
                ]);
            }
            output::align_right(&mut table, [0, 2]);
            table.to_string()
        };
        if let Some(explain) = &self.explain {
            text.push_str("\n\n");
            text.push_str(&explain_text(explain));
        }
        text
    }
}

fn explain_text(explain: &Explain) -> String {
    let mut table = output::table([
        "part", "rows", "plan", "cells", "scanned", "decided", "scored", "filter", "times",
    ]);
    for part in &explain.parts {
        let filter: Vec<String> = part.filter.iter().map(filter_text).collect();
        table.add_row([
            part.part.clone(),
            units::count(part.rows),
            part.plan.to_owned(),
            units::count(part.cells),
            units::count(part.scanned),
            units::count(part.decided),
            units::count(part.scored),
            if filter.is_empty() { "-".to_owned() } else { filter.join("; ") },
            times_text(part),
        ]);
    }
    output::align_right(&mut table, [1, 3, 4, 5, 6]);
    let promoted = if explain.promoted { ", promoted from the cold tier first" } else { "" };
    format!(
        "plan: {}; saw every write up to LSN {}; {} in all{promoted}\n{table}",
        explain.plan,
        explain.lsn,
        units::micros(explain.total_us as f64),
    )
}

/// The stages that took any time.
fn times_text(part: &PartExplain) -> String {
    let stages = [
        ("filter", part.filter_us),
        ("route", part.route_us),
        ("scan", part.scan_us),
        ("score", part.score_us),
    ];
    let took = stages.into_iter().filter(|(_, us)| *us > 0);
    let texts: Vec<_> =
        took.map(|(stage, us)| format!("{stage} {}", units::micros(us as f64))).collect();
    texts.join(", ")
}

fn filter_text(step: &FilterStep) -> String {
    let how = match step.strategy {
        FilterStrategy::Index => "by index",
        FilterStrategy::Scan => "by reading metadata",
        FilterStrategy::Remembered => "remembered",
        FilterStrategy::Skipped => "not needed",
        _ => "otherwise",
    };
    format!("{} {how}: {} rows", step.condition, units::count(step.rows))
}

pub(crate) fn run(args: &SearchArgs, store: &StoreArgs, output: Output) -> Result<()> {
    let (db, collection) = database::collection_to_read(&args.place, store, args.opening, output)?;
    let query = match (&args.id, &args.vector) {
        (_, Some(file)) => read_vector(file)?,
        (Some(id), None) => row_vector(&collection, id, args)?,
        (None, None) => Vec::new(),
    };
    let mut search = collection.search(&query).k(args.k).with_metadata(true);
    if let Some(filter) = &args.filter {
        search = search.filter(filter.clone());
    }
    search = match (args.recall, args.nprobe) {
        _ if args.exact => search.exact(true),
        (Some(share), _) => search.recall_target(share as f32),
        (_, Some(cells)) => search.nprobe(cells),
        (None, None) => search,
    };
    let (hits, explain) = search.explain()?;
    db.close()?;
    output.report(&Found {
        command: "search",
        collection: args.place.collection.clone(),
        k: args.k,
        hits: hits.into_iter().map(HitReport::from).collect(),
        explain: args.explain.then_some(explain),
    })
}

fn row_vector(collection: &Collection, id: &str, args: &SearchArgs) -> Result<Vec<f32>> {
    let ids = database::resolve_ids(collection, &[id.to_owned()], args.id_kind)?;
    let record = collection.get(&ids)?.into_iter().flatten().next();
    record.map(|record| record.vector).ok_or_else(|| CliError::NoRow {
        id: id.to_owned(),
        collection: collection.name().to_owned(),
    })
}

/// Reads a vector: raw floats if the file is called `.f32`, else a JSON array.
fn read_vector(file: &Path) -> Result<Vec<f32>> {
    let bad = |detail: String| CliError::VectorFile { file: file.to_owned(), detail };
    let bytes = read_file(&RealFs, file)?;
    if file.extension().is_some_and(|extension| extension == "f32") {
        let (floats, rest) = bytes.as_chunks::<4>();
        if !rest.is_empty() {
            return Err(bad(format!("{} bytes are no whole number of floats", bytes.len())));
        }
        return Ok(floats.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect());
    }
    serde_json::from_slice(&bytes).map_err(|error| bad(error.to_string()))
}
