//! What the manifest in the bucket says: which database, who wrote it, and which objects hold what.
//!
//! Pure data and pure rules; `format` makes bytes of it. The collections and snapshots are those
//! of the local manifest, without what is local, so that a field added there travels by itself.

#![deny(clippy::indexing_slicing)]

use super::lineage::Lineage;
use crate::manifest::{ColdMeta, CollectionManifest, ManifestState, SnapshotManifest};
use akidb_tiering::ObjectKey;
use akidb_wal::Lsn;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::collections::{BTreeMap, BTreeSet};
use uuid::Uuid;

/// The longest text that says who wrote a manifest, in bytes.
const HOLDER_BYTES_MAX: usize = 256;
/// No LSN that a database comes to write is this high; one that is would leave no room above it.
const LSN_END: u64 = 1 << 62;

/// The mark of one opening for writing: random, never used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Nonce(u128);

impl Nonce {
    pub(crate) const fn new(bits: u128) -> Self {
        Self(bits)
    }
}

impl Serialize for Nonce {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(&format_args!("{:032x}", self.0))
    }
}

impl<'de> Deserialize<'de> for Nonce {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = String::deserialize(from)?;
        let hex = text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        let bits = u128::from_str_radix(&text, 16).ok().filter(|_| hex);
        bits.map(Self).ok_or_else(|| serde::de::Error::custom("not 32 hexadecimal digits"))
    }
}

/// Which state of the manifest this is. No two different states have the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Version {
    /// Raised by each opening for writing.
    pub(crate) epoch: u64,
    /// Who opened.
    pub(crate) writer: Nonce,
    /// Raised by each commit, over all epochs: two that were acknowledged never share one.
    pub(crate) commit: u64,
    /// Raised by each put that tries to become that commit: an earlier one whose answer was lost
    /// may still arrive, and must not pass for a later one.
    pub(crate) attempt: u32,
}

/// What a database has in the bucket.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Contents {
    pub(crate) next_collection: u32,
    /// By number; without segments and tombstones, which are local.
    pub(crate) collections: BTreeMap<u32, CollectionManifest>,
    pub(crate) snapshots: BTreeMap<String, SnapshotManifest>,
    /// Objects that nothing names any more and that may still be there.
    #[serde(default)]
    pub(crate) garbage: BTreeSet<String>,
    /// Collections of which the writer had rows that are in no object.
    #[serde(default)]
    pub(crate) partial: BTreeSet<u32>,
}

/// The manifest in the bucket.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct BucketState {
    pub(crate) database: Uuid,
    pub(crate) version: Version,
    /// Who wrote it, for people.
    pub(crate) holder: String,
    /// The version of AkiDB that wrote it.
    pub(crate) creator: String,
    pub(crate) contents: Contents,
}

/// What a fresh directory begins with to go on with a database of a bucket.
#[derive(Debug)]
pub(crate) struct Restored {
    /// The manifest of the directory. Its log begins above `log_floor`.
    pub(crate) manifest: ManifestState,
    /// To be made durable with it.
    pub(crate) lineage: Lineage,
    /// The names of collections of which the lost machine had flushed rows that it never shipped.
    pub(crate) partial: Vec<String>,
}

impl Contents {
    /// What of a local manifest belongs into the bucket.
    pub(crate) fn of(state: &ManifestState) -> Self {
        let local = |c: &&CollectionManifest| !c.segments.is_empty();
        let shared = |c: &CollectionManifest| CollectionManifest {
            segments: Vec::new(),
            tombstones: None,
            ..c.clone()
        };
        Self {
            next_collection: state.next_collection,
            collections: state.collections.iter().map(|(id, c)| (*id, shared(c))).collect(),
            snapshots: state.snapshots.clone(),
            garbage: state.garbage.clone(),
            partial: state.collections.values().filter(local).map(|c| c.id).collect(),
        }
    }

    /// Every object that something names.
    pub(crate) fn objects(&self) -> impl Iterator<Item = &ColdMeta> {
        let cold = self.collections.values().flat_map(|collection| &collection.cold);
        cold.chain(self.snapshots.values().map(|snapshot| &snapshot.object))
    }

    /// Their keys.
    pub(crate) fn named(&self) -> BTreeSet<String> {
        self.objects().map(|object| object.key.clone()).collect()
    }

    /// Whether a bucket that says `told` is to be told these. Flush marks alone are no reason, for they
    /// change with every flush; nor is garbage of which the bucket knows more.
    pub(crate) fn is_news_to(&self, told: &Self) -> bool {
        let alike = |(ours, theirs): (&CollectionManifest, &CollectionManifest)| {
            let flushed = ours.flushed;
            *ours == CollectionManifest { flushed, ..theirs.clone() }
        };
        !self.collections.keys().eq(told.collections.keys())
            || !self.collections.values().zip(told.collections.values()).all(alike)
            || self.snapshots != told.snapshots
            || self.partial != told.partial
            || !self.garbage.is_subset(&told.garbage)
    }

    /// The local manifest of a directory that has nothing but these.
    fn local(&self, database: Uuid) -> ManifestState {
        let flushed = self.collections.values().map(|collection| collection.flushed);
        let shipped = self.objects().map(|object| Lsn::new(object.max_lsn));
        ManifestState {
            database,
            collections: self.collections.clone(),
            snapshots: self.snapshots.clone(),
            next_file: 1,
            next_collection: self.next_collection,
            log_floor: flushed.chain(shipped).max().unwrap_or(Lsn::ZERO),
            garbage: self.garbage.clone(),
            lineage: Lineage::default(),
        }
    }

    /// Every rule that contents obey by themselves; the text says which one is broken.
    pub(super) fn check(&self, database: Uuid) -> Result<(), String> {
        let local = self.local(database);
        local.check().map_err(|error| error.to_string())?;
        if local.log_floor.get() >= LSN_END {
            return Err("an LSN is impossibly high".to_owned());
        }
        if self.collections.values().any(|c| c.file_numbers().next().is_some()) {
            return Err("a collection names local files".to_owned());
        }
        if let Some((name, _)) = self.snapshots.iter().find(|(name, s)| **name != s.name) {
            return Err(format!("snapshot {name:?} is named twice, differently"));
        }
        let named = self.named();
        if let Some(key) = named.intersection(&self.garbage).next() {
            return Err(format!("object {key:?} is named and is garbage"));
        }
        for key in named.iter().chain(&self.garbage) {
            ObjectKey::new(key.as_str()).map_err(|error| error.to_string())?;
        }
        Ok(())
    }
}

impl BucketState {
    /// Every rule that a state obeys by itself; the text says which one is broken.
    pub(super) fn check(&self) -> Result<(), String> {
        if self.version.epoch == 0 || self.version.commit == 0 {
            return Err("there is no epoch or commit 0".to_owned());
        }
        if self.holder.len() > HOLDER_BYTES_MAX {
            return Err("the holder's name is too long".to_owned());
        }
        self.contents.check(self.database)
    }

    /// What a fresh directory begins with to take this database over. Whoever wrote this state
    /// loses the bucket when the directory is opened for writing; if it commits before, that
    /// opening is refused, and the directory is to be made anew.
    pub(crate) fn restored(&self) -> Restored {
        let name = |id: &u32| Some(self.contents.collections.get(id)?.name.clone());
        Restored {
            manifest: self.contents.local(self.database),
            lineage: Lineage::adopting(self.version),
            partial: self.contents.partial.iter().filter_map(name).collect(),
        }
    }
}

/// Cuts the text that says who writes to what a manifest takes.
pub(super) fn cut_holder(text: &str) -> String {
    let end = (0..=HOLDER_BYTES_MAX.min(text.len())).rev().find(|at| text.is_char_boundary(*at));
    text.get(..end.unwrap_or(0)).unwrap_or_default().to_owned()
}
