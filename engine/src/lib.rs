//! An embeddable vector storage engine.

mod cold;
mod error;
mod id;
pub mod import;
mod point;
mod schema;

pub use error::{Cause, Error, ErrorKind, InputError, Result};
pub use id::{ID_BYTES_MAX, PointId};
pub use point::{Hit, Metadata, Point, Record};
pub use schema::{DIM_MAX, FIELDS_MAX, FieldDef, FieldType, Metric, Schema};
