//! An embeddable vector storage engine.

mod error;
#[cfg_attr(
    not(test),
    expect(dead_code, reason = "the rest of the engine calls it")
)]
mod field_index;
#[cfg_attr(
    not(test),
    expect(dead_code, unused_imports, reason = "the rest of the engine calls it")
)]
mod filter;
mod id;
mod point;
mod schema;

pub use error::{Cause, Error, ErrorKind, InputError, Result};
pub use filter::{
    FILTER_CONDITIONS_MAX, FILTER_DEPTH_MAX, FieldRef, Filter, FilterStep, FilterStrategy,
    FilterValue, field,
};
pub use id::{ID_BYTES_MAX, PointId};
pub use point::{Hit, Metadata, Point, Record};
pub use schema::{DIM_MAX, FIELDS_MAX, FieldDef, FieldType, Metric, Schema};
