//! An embeddable vector storage engine.

mod cursor;
mod error;
mod id;
mod point;
mod schema;
#[cfg_attr(
    not(test),
    expect(dead_code, unused_imports, reason = "the rest of the engine calls it")
)]
mod segment;
#[cfg_attr(
    not(test),
    expect(dead_code, reason = "the rest of the engine calls it")
)]
mod tombstones;

pub use error::{Cause, Error, ErrorKind, InputError, Result};
pub use id::{ID_BYTES_MAX, PointId};
pub use point::{Hit, Metadata, Point, Record};
pub use schema::{DIM_MAX, FIELDS_MAX, FieldDef, FieldType, Metric, Schema};
pub use segment::{BlockDescription, ReadMode, SegmentDescription};
pub use tombstones::{TombstoneDescription, TombstoneEntryDescription};
