//! `akidb ingest`: a Parquet file becomes rows of a collection, batch by durable batch.

use crate::{
    args::{IngestArgs, Place, StoreArgs},
    database,
    error::{CliError, Result},
    output::{Output, Report},
    progress::Progress,
    source::Source,
    stats, units,
};
use akidb::{
    Cause, Durability, ErrorKind, Metric, Point, Schema, Settings, WalBackend,
    blocking::{Collection, Db},
    vfs::{Clock, SystemClock},
};
use serde::Serialize;
use std::time::Duration;

/// What was ingested.
#[derive(Debug, Serialize)]
struct Ingested {
    command: &'static str,
    collection: String,
    namespace: Option<String>,
    /// Whether this made the collection.
    created: bool,
    rows: u64,
    dim: u32,
    durability: Durability,
    wal_backend: WalBackend,
    wal_backend_fallback: Option<String>,
    last_lsn: u64,
    skipped_columns: Vec<String>,
    elapsed_s: f64,
    rows_per_s: f64,
}

impl Report for Ingested {
    fn text(&self) -> String {
        let made = if self.created { "made collection" } else { "added to collection" };
        let mut text = format!(
            "{made} {:?}: {} rows of dimension {} in {} ({})",
            self.collection,
            units::count(self.rows),
            self.dim,
            units::micros(self.elapsed_s * 1e6),
            units::rows_per_s(self.rows_per_s),
        );
        if !self.skipped_columns.is_empty() {
            text.push_str("\nleft out, their types have no place in metadata: ");
            text.push_str(&self.skipped_columns.join(", "));
        }
        if let Some(reason) = &self.wal_backend_fallback {
            text.push_str(&stats::fallback_text(self.wal_backend, reason));
        }
        text
    }
}

pub(crate) fn run(args: &IngestArgs, store: &StoreArgs, output: Output) -> Result<()> {
    // The file first: a typing error in it should not leave an empty database behind.
    let source = Source::open(&args.data, &args.columns)?;
    let settings = Settings { wal_backend: args.wal_backend, ..args.limits.settings() };
    let db = database::open_or_create(&args.place.dir, store, settings)?;
    let (collection, created) = open_or_create(&db, args, source.dim())?;
    let progress = Progress::new(output, "ingesting", source.rows());
    let how = Load {
        batch: args.batch,
        durability: Some(args.durability),
        flush_when_full: args.limits.limit_memory(),
    };
    let loaded = load(&collection, &source, how, &progress)?;
    drop(progress);
    let opened = db.recovery_report().clone();
    let namespace = collection.stats().namespace;
    db.close()?;
    output.report(&Ingested {
        command: "ingest",
        collection: args.place.collection.clone(),
        namespace,
        created,
        rows: loaded.rows,
        dim: source.dim(),
        durability: args.durability,
        wal_backend: opened.wal_backend,
        wal_backend_fallback: opened.wal_backend_fallback,
        last_lsn: loaded.last_lsn,
        skipped_columns: source.skipped(),
        elapsed_s: loaded.time.as_secs_f64(),
        rows_per_s: units::per_second(loaded.rows, loaded.time),
    })
}

fn open_or_create(db: &Db, args: &IngestArgs, dim: u32) -> Result<(Collection, bool)> {
    let Place { collection: name, .. } = &args.place;
    match db.collection(name) {
        Ok(collection) => {
            adapt(&collection, args)?;
            Ok((collection, false))
        }
        Err(error) if error.kind() == ErrorKind::NotFound => {
            let mut schema = Schema::new(dim, args.metric.unwrap_or(Metric::Cosine));
            schema.fields.clone_from(&args.fields);
            let created = match &args.namespace {
                Some(namespace) => db.create_collection_in(namespace, name, schema)?,
                None => db.create_collection(name, schema)?,
            };
            Ok((created, true))
        }
        Err(error) => Err(error.into()),
    }
}

/// Checks the metric and the namespace of an existing collection, and indexes the fields that are not yet.
fn adapt(collection: &Collection, args: &IngestArgs) -> Result<()> {
    let schema = collection.schema();
    if let Some(asked) = args.metric.filter(|asked| *asked != schema.metric) {
        return Err(CliError::OtherMetric {
            collection: collection.name().to_owned(),
            found: format!("{:?}", schema.metric).to_lowercase(),
            asked: format!("{asked:?}").to_lowercase(),
        });
    }
    let namespace = collection.stats().namespace;
    if args.namespace.is_some() && args.namespace != namespace {
        return Err(CliError::OtherNamespace {
            collection: collection.name().to_owned(),
            found: namespace,
        });
    }
    for field in &args.fields {
        if schema.field_type(&field.name) != Some(field.field_type) {
            collection.add_field(&field.name, field.field_type)?;
        }
    }
    Ok(())
}

/// How an ingest went.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Loaded {
    pub(crate) rows: u64,
    pub(crate) last_lsn: u64,
    /// From the first row read to the last acknowledgement.
    pub(crate) time: Duration,
}

/// How rows are written.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Load {
    /// Rows per batch.
    pub(crate) batch: usize,
    /// `None` leaves it to the database's settings.
    pub(crate) durability: Option<Durability>,
    /// Where memory is limited: a batch that it refuses is written again once after a flush.
    pub(crate) flush_when_full: bool,
}

/// Writes all rows of `source`.
pub(crate) fn load(
    collection: &Collection,
    source: &Source,
    how: Load,
    progress: &Progress,
) -> Result<Loaded> {
    let clock = SystemClock::new();
    let mut loaded = Loaded { rows: 0, last_lsn: 0, time: Duration::ZERO };
    let write = |points: Vec<Point>| {
        let write = collection.upsert(points);
        match how.durability {
            Some(durability) => write.durability(durability).run(),
            None => write.run(),
        }
    };
    for points in source.batches(how.batch)? {
        let points = points?;
        let rows = points.len();
        let again = how.flush_when_full.then(|| points.clone());
        let written = match (write(points), again) {
            (Err(error), Some(again)) if lacks_memory(&error) => {
                collection.flush()?;
                write(again)
            }
            (written, _) => written,
        };
        loaded.last_lsn = written?.lsn;
        loaded.rows += rows as u64;
        progress.add(rows);
    }
    loaded.time = clock.monotonic();
    Ok(loaded)
}

fn lacks_memory(error: &akidb::Error) -> bool {
    matches!(error.cause(), Cause::QuotaExceeded { what: "memory_bytes", .. })
}
