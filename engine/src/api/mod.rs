//! The public handles: async (`Db`, `Collection`) and [`blocking`]. Thin: every verb is one call
//! into `db::ops` or `maintenance`.

pub mod blocking;
mod builder;
mod collection;
mod db;
mod owner;
mod requests;
mod task;

pub use builder::DbBuilder;
pub use collection::Collection;
pub use db::Db;
pub use requests::{Scan, Search, Write};
