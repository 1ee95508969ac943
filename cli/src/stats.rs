//! `akidb stats`: what a database consists of, and what opening it found.

use crate::{
    args::{StatsArgs, StoreArgs},
    database,
    error::Result,
    output::{self, Output, Report},
    units,
};
use akidb::{CollectionStats, DbStats, Limits, RecoveryReport, Usage, WalBackend};
use serde::Serialize;

#[derive(Debug, Serialize)]
struct Stats {
    command: &'static str,
    #[serde(flatten)]
    database: DbStats,
    /// What this command's own opening of the database found and did.
    recovery: RecoveryReport,
}

impl Report for Stats {
    fn text(&self) -> String {
        let mut blocks = vec![
            collections_text(&self.database.collections),
            log_text(&self.database),
            usage_text(&self.database),
            recovery_text(&self.recovery),
        ];
        blocks.extend(self.database.collections.iter().map(collection_text));
        blocks.retain(|block| !block.is_empty());
        blocks.join("\n\n")
    }
}

fn collections_text(collections: &[CollectionStats]) -> String {
    if collections.is_empty() {
        return "no collections".to_owned();
    }
    let header = [
        "collection",
        "tier",
        "dim",
        "metric",
        "local rows",
        "segments",
        "local bytes",
        "cold rows",
        "cold bytes",
    ];
    let mut table = output::table(header);
    for collection in collections {
        let local: u64 = collection.segments.iter().map(|segment| segment.bytes).sum();
        table.add_row([
            collection.name.clone(),
            format!("{}{}", collection.tier, if collection.pinned { ", pinned" } else { "" }),
            collection.schema.dim.to_string(),
            format!("{:?}", collection.schema.metric).to_lowercase(),
            units::count(collection.local_rows),
            collection.segments.len().to_string(),
            units::bytes(local),
            units::count(collection.cold.iter().map(|cold| cold.rows).sum()),
            units::bytes(collection.cold.iter().map(|cold| cold.bytes).sum()),
        ]);
    }
    output::align_right(&mut table, [2, 4, 5, 6, 7, 8]);
    table.to_string()
}

fn log_text(stats: &DbStats) -> String {
    let mut text = format!(
        "log: {} in {}; applied up to LSN {}, durable up to LSN {}; written with {}",
        units::bytes(stats.wal_bytes),
        units::things(stats.wal_files as u64, "file"),
        stats.applied_lsn,
        stats.durable_lsn,
        stats.wal_backend,
    );
    let troubles = [
        ("writes are refused", &stats.poisoned),
        ("the last flush failed", &stats.flush_error),
        ("the last compaction failed", &stats.compaction_error),
        ("the last clean-up failed", &stats.cleanup_error),
    ];
    for (what, trouble) in troubles {
        if let Some(trouble) = trouble {
            text.push_str(&format!("\n{what}: {trouble}"));
        }
    }
    text
}

/// What is taken of what may be, for the database and each namespace.
fn usage_text(stats: &DbStats) -> String {
    let mut table = output::table(["limits", "collections", "memory", "rows"]);
    let of = |used: String, limit: Option<String>| match limit {
        Some(limit) => format!("{used} of {limit}"),
        None => used,
    };
    let mut add = |name: String, usage: &Usage, limits: &Limits| {
        table.add_row([
            name,
            of(units::count(usage.collections), limits.collections_max.map(units::count)),
            of(units::bytes(usage.memory_bytes), limits.memory_bytes_max.map(units::bytes)),
            of(units::bytes(usage.storage_bytes), limits.storage_bytes_max.map(units::bytes)),
        ]);
    };
    add("the database".to_owned(), &stats.usage, &stats.limits);
    for namespace in &stats.namespaces {
        add(format!("namespace {}", namespace.name), &namespace.usage, &namespace.limits);
    }
    output::align_right(&mut table, [1, 2, 3]);
    table.to_string()
}

/// Why the log does not write as it was asked to, on a line of its own.
pub(crate) fn fallback_text(used: WalBackend, reason: &str) -> String {
    format!("\nthe log writes with {used}, io_uring cannot be used: {reason}")
}

/// What was recovered by this opening.
pub(crate) fn recovery_text(report: &RecoveryReport) -> String {
    let mut text = format!(
        "opened in {}: read {} of log in {}, applied {} of {} batches ({} rows), opened {}",
        units::micros(report.elapsed_ms * 1e3),
        units::bytes(report.wal_bytes),
        units::things(report.wal_files, "file"),
        units::count(report.batches_applied),
        units::count(report.batches),
        units::count(report.rows_applied),
        units::things(report.segments, "segment"),
    );
    if let Some(tail) = &report.torn_tail {
        text.push_str(&format!(
            "\ncut {} off the end of {}, never acknowledged as synced: {}",
            units::bytes(tail.bytes),
            tail.file.display(),
            tail.reason,
        ));
    }
    if let Some(reason) = &report.wal_backend_fallback {
        text.push_str(&fallback_text(report.wal_backend, reason));
    }
    for file in &report.removed_files {
        text.push_str(&format!("\nremoved {}: a crash had left it over", file.display()));
    }
    for file in &report.unknown_files {
        text.push_str(&format!("\nskipped {}: the manifest does not name it", file.display()));
    }
    text
}

/// The parts of one collection; empty if it has none.
fn collection_text(collection: &CollectionStats) -> String {
    let mut table = output::table(["part", "rows", "dead rows", "bytes"]);
    if collection.memtable_rows > 0 {
        table.add_row([
            "memtables (in memory)".to_owned(),
            units::count(collection.memtable_rows),
            "-".to_owned(),
            units::bytes(collection.memtable_bytes),
        ]);
    }
    for segment in &collection.segments {
        table.add_row([
            format!("segment {}", segment.number),
            units::count(segment.rows),
            units::count(segment.dead_rows),
            units::bytes(segment.bytes),
        ]);
    }
    for cold in &collection.cold {
        table.add_row([
            format!("object {}", cold.key),
            units::count(cold.rows),
            "-".to_owned(),
            units::bytes(cold.bytes),
        ]);
    }
    if table.is_empty() {
        return String::new();
    }
    output::align_right(&mut table, [1, 2, 3]);
    let fields: Vec<String> = collection
        .schema
        .fields
        .iter()
        .map(|field| format!("{} ({})", field.name, field.field_type))
        .collect();
    let fields = if fields.is_empty() { "none".to_owned() } else { fields.join(", ") };
    let debt = match collection.compaction_debt_bytes {
        0 => String::new(),
        debt => format!("; compaction is due for {}", units::bytes(debt)),
    };
    let namespace = match &collection.namespace {
        Some(namespace) => format!(" (namespace {namespace})"),
        None => String::new(),
    };
    format!("{}{namespace}: indexed fields: {fields}{debt}\n{table}", collection.name)
}

pub(crate) fn run(args: &StatsArgs, store: &StoreArgs, output: Output) -> Result<()> {
    let settings = args.limits.settings();
    let db = database::open_to_read_with(&args.dir, store, args.opening, settings, output)?;
    let recovery = db.recovery_report().clone();
    let mut stats = db.stats();
    if let Some(name) = &args.collection {
        database::collection(&db, name)?;
        stats.collections.retain(|collection| collection.name == *name);
    }
    db.close()?;
    output.report(&Stats { command: "stats", database: stats, recovery })
}
