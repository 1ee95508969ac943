//! Everything that reads a view: search, get, scan, count, filters, explain. Nothing here changes
//! anything; a view never changes under a reader.

mod beside;
mod cells;
mod choice;
mod counted;
mod explain;
mod filtering;
mod get;
mod memtable;
mod place;
mod scan;
mod search;

pub(crate) use explain::BY_CODES;
pub use explain::{Explain, PartExplain};
pub(crate) use filtering::verify_fields;
pub(crate) use get::{count, get, matching_versions};
pub use scan::{Cursor, Page};
pub(crate) use scan::{ScanSpec, scan};
pub(crate) use search::{Effort, Memory, SearchSpec, search};
