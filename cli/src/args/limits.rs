//! What a database may take, as options of the commands that write to one, and of `stats`. They hold
//! for the run of the command: a database does not remember limits.

use super::values;
use akidb::{Limits, Settings};
use clap::Args;

/// Limits of the database and of each of its namespaces.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "Limits")]
pub(crate) struct LimitArgs {
    /// Refuse what would take more collections.
    #[arg(long, value_name = "N", env = "AKIDB_COLLECTIONS_MAX")]
    pub(crate) collections_max: Option<u64>,

    /// Refuse what would take more memory in memtables and hot copies, like 500MB or 4GiB.
    #[arg(long, value_name = "BYTES", env = "AKIDB_MEMORY_MAX", value_parser = values::byte_count)]
    pub(crate) memory_max: Option<u64>,

    /// Refuse what would take more for rows, wherever they lie: segments, objects, snapshots.
    #[arg(long, value_name = "BYTES", env = "AKIDB_STORAGE_MAX", value_parser = values::byte_count)]
    pub(crate) storage_max: Option<u64>,

    /// Collections of each namespace.
    #[arg(long, value_name = "N", env = "AKIDB_NAMESPACE_COLLECTIONS_MAX")]
    pub(crate) namespace_collections_max: Option<u64>,

    /// Memory of each namespace.
    #[arg(long, value_name = "BYTES", env = "AKIDB_NAMESPACE_MEMORY_MAX", value_parser = values::byte_count)]
    pub(crate) namespace_memory_max: Option<u64>,

    /// Rows of each namespace.
    #[arg(long, value_name = "BYTES", env = "AKIDB_NAMESPACE_STORAGE_MAX", value_parser = values::byte_count)]
    pub(crate) namespace_storage_max: Option<u64>,
}

impl LimitArgs {
    /// The usual settings with these limits.
    pub(crate) fn settings(&self) -> Settings {
        let limits = Limits {
            collections_max: self.collections_max,
            memory_bytes_max: self.memory_max,
            storage_bytes_max: self.storage_max,
        };
        let namespace_default = Limits {
            collections_max: self.namespace_collections_max,
            memory_bytes_max: self.namespace_memory_max,
            storage_bytes_max: self.namespace_storage_max,
        };
        Settings { limits, namespace_default, ..Settings::default() }
    }

    /// Whether memory is limited: then a write may have to wait for a flush.
    pub(crate) fn limit_memory(&self) -> bool {
        self.memory_max.is_some() || self.namespace_memory_max.is_some()
    }
}
