//! Which rows of a collection's segments are hidden. When the tombstones are lost: an older
//! version of an id is hidden by a newer one, and by what the log says of the id.

#![deny(clippy::indexing_slicing)]

use super::{Loss, LossKind, RepairAction, Worker, history::History};
use crate::{
    PointId,
    error::Result,
    manifest::CollectionManifest,
    tombstones::{self, TombstoneMeta, TombstoneSet, tombstone_path},
};
use roaring::RoaringBitmap;
use std::{
    collections::HashMap,
    path::{Path, PathBuf},
};

/// The hidden rows, and how many of the others may have been deleted or replaced by a write that
/// nothing tells of any more.
pub(super) struct Versions {
    pub(super) dead: TombstoneSet,
    pub(super) uncertain: u64,
}

impl Worker {
    /// The hidden rows of a collection, from its tombstones or, if those are lost, from its rows;
    /// and whether that is all of them for certain.
    pub(super) fn hidden_rows(
        &mut self,
        collection: &CollectionManifest,
        history: &History,
        lost: Option<PathBuf>,
    ) -> Result<(TombstoneSet, bool)> {
        let Some(meta) = &collection.tombstones else { return Ok((TombstoneSet::new(), true)) };
        let Some(path) = lost else {
            let set = tombstones::read(&*self.fs, &self.paths.segments, meta)?;
            return Ok((set, true));
        };
        if let Some(set) = self.displaced_tombstones(collection, meta)? {
            return Ok((set, true));
        }
        let Versions { dead, uncertain } =
            self.versions(collection, history, TombstoneSet::new())?;
        if uncertain > 0 {
            self.losses.push(Loss {
                kind: LossKind::Uncertain,
                collections: vec![collection.name.clone()],
                file: path,
                rows: Some(uncertain),
                ids: Vec::new(),
                lsns: None,
                detail: "rows that may have been deleted: the log does not go back to their writes"
                    .to_owned(),
            });
        }
        Ok((dead, false))
    }

    /// The very tombstones that the manifest names, if they lie under another name.
    fn displaced_tombstones(
        &self,
        collection: &CollectionManifest,
        meta: &TombstoneMeta,
    ) -> Result<Option<TombstoneSet>> {
        for path in self.list_segments()? {
            if path.extension().is_none_or(|ext| ext != "tmb") {
                continue;
            }
            if let Ok((owner, found, set)) = tombstones::adopt(&*self.fs, &path)
                && (owner, &found) == (collection.id, meta)
            {
                return Ok(Some(set));
            }
        }
        Ok(None)
    }

    pub(super) fn write_tombstones(
        &mut self,
        collection: &mut CollectionManifest,
        dead: &TombstoneSet,
        old: Option<PathBuf>,
    ) -> Result<()> {
        collection.tombstones = None;
        if !dead.is_empty() {
            let (number, dir) = (self.take_number(), self.paths.segments.clone());
            let random = &*self.random;
            let meta = tombstones::write(&*self.fs, random, &dir, number, collection.id, dead)?;
            collection.tombstones = Some(meta);
            let rows: u64 = dead.values().map(RoaringBitmap::len).sum();
            let path = tombstone_path(&dir, number);
            self.step(RepairAction::Write, path, format!("tombstones of {rows} rows"));
        }
        if let Some(old) = old {
            self.replace(old, "its segments are others now");
        }
        Ok(())
    }

    /// Computes the hidden rows; `base` is what is known of them.
    pub(super) fn versions(
        &self,
        collection: &CollectionManifest,
        history: &History,
        base: TombstoneSet,
    ) -> Result<Versions> {
        let mut dead = base;
        let mut deleted: HashMap<PointId, u64> = HashMap::new();
        let mut newest: HashMap<PointId, (u64, u64, u32)> = HashMap::new();
        for meta in &collection.segments {
            let Some(segment) = self.find_segment(collection, meta)? else { continue };
            for (id, lsn) in segment.deletes()?.unwrap_or_default() {
                let last = deleted.entry(id).or_default();
                *last = (*last).max(lsn);
            }
            for row in 0..segment.meta().rows {
                let (Some(id), Some(lsn)) = (segment.id(row)?, segment.lsn(row)?) else { continue };
                let place = (lsn, meta.number, row);
                let first = newest.entry(id).or_insert(place);
                // Of two copies of one version either will do; the newer file is the compacted one.
                let older = (*first).min(place);
                *first = (*first).max(place);
                if older != *first {
                    dead.entry(older.1).or_default().insert(older.2);
                }
            }
        }
        let mut uncertain = 0;
        for (id, (lsn, segment, row)) in newest {
            let hidden = dead.entry(segment).or_default();
            let last = history.last_write(&id).max(deleted.get(&id).copied());
            if last.is_some_and(|last| last > lsn) {
                hidden.insert(row);
            }
            let unknown = lsn.saturating_add(1) < history.known_from;
            uncertain += u64::from(!hidden.contains(row) && unknown);
        }
        dead.retain(|_, rows| !rows.is_empty());
        Ok(Versions { dead, uncertain })
    }

    /// Every file in the directory of segments.
    pub(super) fn list_segments(&self) -> Result<Vec<PathBuf>> {
        let dir: &Path = &self.paths.segments;
        let entries = self.fs.list_dir(dir)?;
        Ok(entries.into_iter().map(|entry| dir.join(entry.name)).collect())
    }
}
