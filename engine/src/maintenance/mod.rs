//! Everything that makes, merges, moves or replaces files. Each job ends in `install`, the only
//! place where the set of a collection's parts changes.

pub(crate) mod build;
pub(crate) mod compaction;
pub(crate) mod copies;
pub(crate) mod flush;
pub(crate) mod install;
mod merged;
pub(crate) mod moves;
mod objects;
mod order;
pub(crate) mod packs;
mod pipeline;
mod reading;
pub(crate) mod reindex;
pub(crate) mod repack;
mod rows;
pub(crate) mod snapshot;
mod threads;

pub(crate) use threads::Threads;
