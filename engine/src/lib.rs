//! AkiDB: an embeddable vector storage engine, a write-ahead log and LSM tree made for vectors.
//!
//! A database is a directory. Writes land in a checksummed log and a memtable, flush into
//! memory-mapped segments, and compact; a collection can be moved to one Parquet object in an
//! object store and back. Nearest-neighbour search sees everything that was acknowledged.
//!
//! ```
//! use akidb::{Db, Metric, Point, Schema, field};
//! use serde_json::json;
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> akidb::Result<()> {
//! # let dir = tempfile::tempdir().unwrap();
//! # let (data, vector, query) = (dir.path(), vec![0.5_f32; 384], vec![0.25_f32; 384]);
//! let db = Db::open(data).await?;
//! let docs = db.create_collection("docs", Schema::new(384, Metric::Cosine)).await?;
//! docs.upsert([Point::new("n02084071", vector).meta(json!({"pos": "noun"}))]).await?; // durable now
//! for hit in docs.search(&query).k(10).filter(field("pos").eq("noun")).await? {
//!     println!("{} {:.3}", hit.id, hit.score);
//! }
//! db.close().await?;
//! # Ok(()) }
//! ```
//!
//! - [`Db`] and [`Collection`] are the async API, on any executor; [`blocking`] is the same
//!   without one.
//! - [`Settings`] is every number you can turn; [`DbBuilder`] takes components: an object store,
//!   or a file system, clock and random source of your own.
//! - [`Error::kind`] says what to do about an error, [`Error::cause`] what happened.
//! - [`import`] reads rows from any Parquet file with an id and a vector column.

mod api;
mod bucket;
mod budget;
mod cold;
mod collection;
mod commit;
mod cursor;
mod db;
mod error;
mod field_index;
mod filter;
mod id;
pub mod import;
mod inspect;
mod ivf;
mod maintenance;
mod manifest;
mod memtable;
mod point;
mod quota;
mod read;
mod repair;
mod schema;
mod segment;
mod settings;
mod stats;
#[cfg(feature = "testing")]
pub mod testing;
mod tiers;
mod tombstones;
mod verify;

pub use akidb_handoff::Tier;
pub use akidb_tiering as tiering;
pub use akidb_vfs as vfs;
pub use api::{Collection, Db, DbBuilder, Scan, Search, Write, blocking};
pub use db::{BucketStats, RecoveryReport, TornTail};
pub use error::{Cause, Error, ErrorKind, InputError, Result};
pub use filter::{
    FILTER_CONDITIONS_MAX, FILTER_DEPTH_MAX, FieldRef, Filter, FilterStep, FilterStrategy,
    FilterValue, field,
};
pub use id::{ID_BYTES_MAX, PointId};
pub use inspect::{FileReport, WalDump, WalFileDump, WalFrame, WalRow, dump_wal, inspect};
pub use point::{Hit, Metadata, Point, Receipt, Record};
pub use quota::{NamespaceStats, Usage};
pub use read::{Cursor, Explain, Page, PartExplain};
pub use repair::{Loss, LossKind, Repair, RepairAction, RepairPlan, RepairStep, Saved};
pub use schema::{DIM_MAX, FIELDS_MAX, FieldDef, FieldType, Metric, Schema};
pub use segment::{BlockDescription, ReadMode, SegmentDescription};
pub use settings::{Durability, Limits, Settings, TierSettings, WalBackend};
pub use stats::{CellStats, ColdStats, CollectionStats, DbStats, SegmentStats, SnapshotInfo};
pub use tiers::{DeadMove, TierCycle, TieringStats};
pub use tombstones::{TombstoneDescription, TombstoneEntryDescription};
pub use verify::{Finding, FindingKind, Severity, Verify, VerifyProgress, VerifyReport};

/// The README's code, compiled with the doc tests.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
pub struct Readme;
