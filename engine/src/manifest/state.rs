//! What the manifest says: the folded state of a database and the edits that lead to it.
//!
//! Pure data and pure rules; `store` puts it on disk. An edit carries the whole new state of each
//! collection it touches, so applying it twice is applying it once. What it costs to apply or to take back
//! grows with the edit; of the other collections only names and file numbers are looked at.

#![deny(clippy::indexing_slicing)]

use crate::{
    Schema, bucket::Lineage, schema::validate_name, segment::SegmentMeta, tombstones::TombstoneMeta,
};
use akidb_handoff::Tier;
use akidb_tiering::TierOverrides;
use akidb_wal::Lsn;
use serde::{Deserialize, Serialize};
use std::{
    borrow::Cow,
    collections::{BTreeMap, BTreeSet},
    ops::Range,
};
use uuid::Uuid;

/// A Parquet file in the object store: an object, or a slice of one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ColdMeta {
    /// The object's key.
    pub(crate) key: String,
    /// The length of the file.
    pub(crate) len: u64,
    /// CRC-32 of the whole file.
    pub(crate) crc32: u32,
    pub(crate) rows: u64,
    pub(crate) min_lsn: u64,
    pub(crate) max_lsn: u64,
    /// Where the file lies, if it is not all of its object.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) slice: Option<Slice>,
}

/// The place of a file in an object that holds several.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Slice {
    /// Where it begins.
    pub(crate) offset: u64,
    /// The length of the whole object.
    pub(crate) object_len: u64,
}

impl ColdMeta {
    /// The bytes of the object that are the file; `None` if they cannot be.
    pub(crate) fn range(&self) -> Option<Range<u64>> {
        let Some(Slice { offset, object_len }) = self.slice else { return Some(0..self.len) };
        let end = offset.checked_add(self.len).filter(|end| *end <= object_len)?;
        Some(offset..end)
    }

    /// The file, as errors name it: its object, and where it begins there.
    pub(crate) fn name(&self) -> Cow<'_, str> {
        match self.slice {
            None => Cow::Borrowed(&self.key),
            Some(Slice { offset, .. }) => Cow::Owned(format!("{}#{offset}", self.key)),
        }
    }
}

/// A collection: which files hold its rows.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct CollectionManifest {
    pub(crate) id: u32,
    pub(crate) name: String,
    pub(crate) schema: Schema,
    /// Every log record of this collection up to here is in `segments` or `cold`.
    #[serde(with = "lsn")]
    pub(crate) flushed: Lsn,
    #[serde(default)]
    pub(crate) segments: Vec<SegmentMeta>,
    /// The file that says which rows of `segments` are hidden; none while no row is.
    #[serde(default)]
    pub(crate) tombstones: Option<TombstoneMeta>,
    #[serde(default)]
    pub(crate) cold: Vec<ColdMeta>,
    #[serde(default)]
    pub(crate) pinned: bool,
    /// Whether its local data goes without hot copies.
    #[serde(default)]
    pub(crate) warm: bool,
    /// What it wants otherwise than the policy of tiers.
    #[serde(default)]
    pub(crate) overrides: TierOverrides,
    /// The group of collections that it counts towards.
    #[serde(default)]
    pub(crate) namespace: Option<String>,
}

/// A named, immutable copy of a collection in the object store.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct SnapshotManifest {
    pub(crate) name: String,
    /// The collection it was taken of.
    pub(crate) collection: String,
    pub(crate) schema: Schema,
    pub(crate) object: ColdMeta,
    /// The version of AkiDB that took it.
    pub(crate) creator: String,
    /// The namespace of that collection.
    #[serde(default)]
    pub(crate) namespace: Option<String>,
}

/// Everything the manifest knows.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct ManifestState {
    pub(crate) database: Uuid,
    pub(crate) collections: BTreeMap<u32, CollectionManifest>,
    pub(crate) snapshots: BTreeMap<String, SnapshotManifest>,
    /// High-water marks: numbers at and above are unused, also by edits nobody saw (M4).
    pub(crate) next_file: u64,
    pub(crate) next_collection: u32,
    /// Every log record up to here is covered, so older WAL files may be gone.
    #[serde(with = "lsn")]
    pub(crate) log_floor: Lsn,
    /// Objects that nothing names any more and that are still to be deleted.
    #[serde(default)]
    pub(crate) garbage: BTreeSet<String>,
    /// What this directory wrote to the bucket.
    #[serde(default)]
    pub(crate) lineage: Lineage,
}

/// A change of the manifest.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Edit {
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) put: Vec<CollectionManifest>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) drop: Vec<u32>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) put_snapshot: Vec<SnapshotManifest>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) drop_snapshot: Vec<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) add_garbage: Vec<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) remove_garbage: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) lineage: Option<Lineage>,
    pub(crate) next_file: u64,
    #[serde(with = "lsn")]
    pub(crate) log_floor: Lsn,
}

/// A frame's body.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Record {
    /// The first frame of every manifest file: everything.
    Full(ManifestState),
    /// Any later frame.
    Edit(Edit),
}

/// A [`Record`] to be written, of what somebody else has.
#[derive(Clone, Copy, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum RecordRef<'a> {
    Full(&'a ManifestState),
    Edit(&'a Edit),
}

/// Why a manifest state or edit cannot be right.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ManifestError {
    #[error("two collections are named {0:?}")]
    DuplicateName(String),
    #[error("collection {0} is dropped but was never there")]
    UnknownCollection(u32),
    #[error("collection id {0} is at or above the high-water mark")]
    CollectionMark(u32),
    #[error("file number {0} is at or above the high-water mark")]
    FileMark(u64),
    #[error("file number {0} is named twice")]
    FileTwice(u64),
    #[error("a high-water mark goes back: {0}")]
    MarkGoesBack(&'static str),
    #[error("segment {0} holds rows newer than its collection's flushed LSN")]
    SegmentAhead(u64),
    #[error("collection name {0:?} breaks the rule for names")]
    BadName(String),
    #[error("collection {0} has an impossible schema")]
    BadSchema(u32),
    #[error("{0} does not lie within its object")]
    BadSlice(String),
}

/// What an edit changed, as it was before.
#[derive(Debug)]
pub(crate) struct Undo {
    collections: Vec<(u32, Option<CollectionManifest>)>,
    snapshots: Vec<(String, Option<SnapshotManifest>)>,
    /// Keys, with whether they were garbage.
    garbage: Vec<(String, bool)>,
    lineage: Option<Lineage>,
    next_file: u64,
    next_collection: u32,
    log_floor: Lsn,
}

impl ManifestState {
    /// Applies an edit; an error changes nothing. Returns how to take it back.
    pub(crate) fn apply(&mut self, edit: &Edit) -> Result<Undo, ManifestError> {
        if edit.next_file < self.next_file {
            return Err(ManifestError::MarkGoesBack("next_file"));
        }
        if edit.log_floor < self.log_floor {
            return Err(ManifestError::MarkGoesBack("log_floor"));
        }
        edit.put_snapshot.iter().try_for_each(|snapshot| check_slice(&snapshot.object))?;
        let mut undo = Undo {
            collections: Vec::new(),
            snapshots: Vec::new(),
            garbage: Vec::new(),
            lineage: None,
            next_file: self.next_file,
            next_collection: self.next_collection,
            log_floor: self.log_floor,
        };
        self.next_file = edit.next_file;
        self.log_floor = edit.log_floor;
        let changed = self.change_collections(edit, &mut undo);
        if let Err(error) = changed.and_then(|()| self.check_touched(&undo)) {
            self.take_back(undo);
            return Err(error);
        }
        self.change_the_rest(edit, &mut undo);
        Ok(undo)
    }

    /// An edit without the garbage that something names after it: a snapshot of a cold collection has its
    /// objects in common with it, and whoever lets go last makes them garbage.
    pub(crate) fn keeping_what_is_named<'a>(&self, edit: &'a Edit) -> Cow<'a, Edit> {
        let stays = |id: &u32| !edit.drop.contains(id) && edit.put.iter().all(|put| put.id != *id);
        let old = self.collections.iter().filter(|(id, _)| stays(id)).map(|(_, old)| old);
        let cold = || old.clone().chain(&edit.put).flat_map(|collection| &collection.cold);
        let kept = self.snapshots.values().filter(|kept| !edit.drop_snapshot.contains(&kept.name));
        let objects = || kept.clone().chain(&edit.put_snapshot).map(|snapshot| &snapshot.object);
        let is_named = |key: &String| cold().chain(objects()).any(|object| object.key == *key);
        if !edit.add_garbage.iter().any(is_named) {
            return Cow::Borrowed(edit);
        }
        let mut edit = edit.clone();
        edit.add_garbage.retain(|key| !is_named(key));
        Cow::Owned(edit)
    }

    fn change_collections(&mut self, edit: &Edit, undo: &mut Undo) -> Result<(), ManifestError> {
        for id in &edit.drop {
            let old = self.collections.remove(id).ok_or(ManifestError::UnknownCollection(*id))?;
            undo.collections.push((*id, Some(old)));
        }
        for collection in &edit.put {
            self.next_collection = self.next_collection.max(collection.id.saturating_add(1));
            let old = self.collections.insert(collection.id, collection.clone());
            let goes_back = old.as_ref().is_some_and(|old| collection.flushed < old.flushed);
            undo.collections.push((collection.id, old));
            if goes_back {
                return Err(ManifestError::MarkGoesBack("flushed"));
            }
        }
        Ok(())
    }

    /// What cannot break a rule.
    fn change_the_rest(&mut self, edit: &Edit, undo: &mut Undo) {
        for name in &edit.drop_snapshot {
            undo.snapshots.push((name.clone(), self.snapshots.remove(name)));
        }
        for snapshot in &edit.put_snapshot {
            let old = self.snapshots.insert(snapshot.name.clone(), snapshot.clone());
            undo.snapshots.push((snapshot.name.clone(), old));
        }
        for key in &edit.add_garbage {
            undo.garbage.push((key.clone(), !self.garbage.insert(key.clone())));
        }
        for key in &edit.remove_garbage {
            undo.garbage.push((key.clone(), self.garbage.remove(key)));
        }
        if let Some(lineage) = &edit.lineage {
            undo.lineage = Some(std::mem::replace(&mut self.lineage, lineage.clone()));
        }
    }

    /// Takes back the last edit that was applied and not taken back.
    pub(crate) fn take_back(&mut self, undo: Undo) {
        // From the last to the first: an edit may touch a thing twice.
        for (id, old) in undo.collections.into_iter().rev() {
            match old {
                Some(old) => drop(self.collections.insert(id, old)),
                None => drop(self.collections.remove(&id)),
            }
        }
        for (name, old) in undo.snapshots.into_iter().rev() {
            match old {
                Some(old) => drop(self.snapshots.insert(name, old)),
                None => drop(self.snapshots.remove(&name)),
            }
        }
        for (key, was_garbage) in undo.garbage.into_iter().rev() {
            match was_garbage {
                true => drop(self.garbage.insert(key)),
                false => drop(self.garbage.remove(&key)),
            }
        }
        if let Some(lineage) = undo.lineage {
            self.lineage = lineage;
        }
        self.next_file = undo.next_file;
        self.next_collection = undo.next_collection;
        self.log_floor = undo.log_floor;
    }

    /// The rules, for what an edit has put, in a state that obeyed them before.
    fn check_touched(&self, undo: &Undo) -> Result<(), ManifestError> {
        let touched: BTreeSet<u32> = undo.collections.iter().map(|(id, _)| *id).collect();
        let mut seen = Seen::default();
        for id in &touched {
            if let Some(collection) = self.collections.get(id) {
                self.check_one(*id, collection, &mut seen)?;
            }
        }
        if seen.names.is_empty() {
            return Ok(());
        }
        for (_, other) in self.collections.iter().filter(|(id, _)| !touched.contains(id)) {
            if seen.names.contains(other.name.as_str()) {
                return Err(ManifestError::DuplicateName(other.name.clone()));
            }
            if let Some(number) = other.file_numbers().find(|number| seen.files.contains(number)) {
                return Err(ManifestError::FileTwice(number));
            }
        }
        Ok(())
    }

    /// Every rule that a state obeys by itself.
    pub(crate) fn check(&self) -> Result<(), ManifestError> {
        let mut seen = Seen::default();
        let mut all = self.collections.iter();
        all.try_for_each(|(id, collection)| self.check_one(*id, collection, &mut seen))?;
        self.snapshots.values().try_for_each(|snapshot| check_slice(&snapshot.object))
    }

    /// The rules of one collection, and beside those that were seen.
    fn check_one<'a>(
        &self,
        id: u32,
        collection: &'a CollectionManifest,
        seen: &mut Seen<'a>,
    ) -> Result<(), ManifestError> {
        if id != collection.id || id >= self.next_collection {
            return Err(ManifestError::CollectionMark(id));
        }
        validate_name(&collection.name)
            .map_err(|_| ManifestError::BadName(collection.name.clone()))?;
        if let Some(namespace) = &collection.namespace {
            validate_name(namespace).map_err(|_| ManifestError::BadName(namespace.clone()))?;
        }
        collection.schema.validate().map_err(|_| ManifestError::BadSchema(id))?;
        if !seen.names.insert(&collection.name) {
            return Err(ManifestError::DuplicateName(collection.name.clone()));
        }
        collection.cold.iter().try_for_each(check_slice)?;
        for segment in &collection.segments {
            if segment.max_lsn > collection.flushed.get() {
                return Err(ManifestError::SegmentAhead(segment.number));
            }
        }
        for number in collection.file_numbers() {
            if number >= self.next_file {
                return Err(ManifestError::FileMark(number));
            }
            if !seen.files.insert(number) {
                return Err(ManifestError::FileTwice(number));
            }
        }
        Ok(())
    }
}

fn check_slice(file: &ColdMeta) -> Result<(), ManifestError> {
    let bad = || ManifestError::BadSlice(file.name().into_owned());
    file.range().map(drop).ok_or_else(bad)
}

/// Names and file numbers that are taken.
#[derive(Debug, Default)]
struct Seen<'a> {
    names: BTreeSet<&'a str>,
    files: BTreeSet<u64>,
}

impl CollectionManifest {
    /// A collection without rows, hot, that wants nothing of its own.
    pub(crate) fn new(id: u32, name: &str, schema: Schema) -> Self {
        Self {
            id,
            name: name.to_owned(),
            schema,
            flushed: Lsn::ZERO,
            segments: Vec::new(),
            tombstones: None,
            cold: Vec::new(),
            pinned: false,
            warm: false,
            overrides: TierOverrides::default(),
            namespace: None,
        }
    }

    /// Where its rows are, but for those that were written to it while it was cold.
    pub(crate) fn tier(&self) -> Tier {
        match (self.cold.is_empty(), self.warm) {
            (false, _) => Tier::Cold,
            (true, true) => Tier::Warm,
            (true, false) => Tier::Hot,
        }
    }

    /// The numbers of all local files that hold this collection.
    pub(crate) fn file_numbers(&self) -> impl Iterator<Item = u64> {
        self.segments.iter().map(|s| s.number).chain(self.tombstones.iter().map(|t| t.number))
    }
}

mod lsn {
    use akidb_wal::Lsn;
    use serde::{Deserialize, Deserializer, Serializer};

    #[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's `with` calls it so")]
    pub(super) fn serialize<S: Serializer>(lsn: &Lsn, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_u64(lsn.get())
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Lsn, D::Error> {
        u64::deserialize(from).map(Lsn::new)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Metric;

    fn collection(id: u32, name: &str) -> CollectionManifest {
        let schema = Schema::new(2, Metric::Dot);
        CollectionManifest { flushed: Lsn::new(5), ..CollectionManifest::new(id, name, schema) }
    }

    fn put(collection: CollectionManifest) -> Edit {
        Edit { put: vec![collection], next_file: 1, ..Edit::default() }
    }

    #[test]
    fn an_edit_that_breaks_a_rule_changes_nothing() {
        let mut state = ManifestState::default();
        state.apply(&put(collection(0, "a"))).unwrap();
        let before = state.clone();
        let mut older = collection(0, "a");
        older.flushed = Lsn::new(4);
        let refused = state.apply(&put(older)).unwrap_err();
        assert_eq!(refused, ManifestError::MarkGoesBack("flushed"));
        assert!(state.apply(&put(collection(1, "a"))).is_err(), "a name twice");
        assert!(state.apply(&put(collection(1, "../a"))).is_err(), "a path");
        assert!(state.apply(&Edit { drop: vec![9], next_file: 1, ..Edit::default() }).is_err());
        assert!(state.apply(&Edit::default()).is_err(), "next_file goes back");
        assert_eq!(state, before);
    }

    #[test]
    fn applying_an_edit_twice_is_applying_it_once() {
        let mut state = ManifestState::default();
        let edit = put(collection(3, "a"));
        state.apply(&edit).unwrap();
        let once = state.clone();
        state.apply(&edit).unwrap();
        assert_eq!(state, once);
        assert_eq!(state.next_collection, 4, "collection ids are never reused");
    }

    #[test]
    fn a_record_survives_its_json_form() {
        let mut state = ManifestState { database: Uuid::from_u128(7), ..ManifestState::default() };
        state.apply(&put(collection(0, "a"))).unwrap();
        let json = serde_json::to_vec(&Record::Full(state.clone())).unwrap();
        assert_eq!(serde_json::from_slice::<Record>(&json).unwrap(), Record::Full(state));
    }
}
