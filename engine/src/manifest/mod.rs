//! The manifest: a log of versions that says which files hold which collection.
//!
//! `state` is what it says and the rules it obeys; `store` is how it reaches the disk. Nothing
//! else writes `MANIFEST-*` files.

#[cfg(test)]
mod edit_tests;
#[cfg(test)]
pub(crate) mod page_tests;
mod state;
mod store;

pub(crate) use state::{
    ColdMeta, CollectionManifest, Edit, ManifestState, Slice, SnapshotManifest,
};
pub(crate) use store::{FoundManifest, KIND, ManifestStore};
