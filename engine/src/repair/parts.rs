//! Segments of a damaged database: what is damaged is made again from what is whole, what the log
//! still has is taken from there, and the rest is named. Called round by round; objects, hidden
//! rows and the log have modules of their own.

#![deny(clippy::indexing_slicing)]

use super::{
    Loss, LossKind, RepairAction, Worker,
    history::History,
    objects::Tier,
    rescue::{Gone, Missing, Rescued},
};
use crate::{
    PointId,
    error::{Cause, Result},
    manifest::CollectionManifest,
    segment::{SalvagedSegment, SegmentMeta, SegmentParams, segment_path},
    tombstones::{TombstoneSet, tombstone_path},
    verify::{fits, is_newer},
};
use akidb_wal::Lsn;
use roaring::RoaringBitmap;
use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};
use uuid::Uuid;

/// A damaged segment, and what is known of it.
struct Old<'a> {
    meta: &'a SegmentMeta,
    path: PathBuf,
    hidden: RoaringBitmap,
    /// True if no row can be hidden that `hidden` does not have.
    certain: bool,
}

impl Worker {
    /// Mends everything that holds rows of a collection.
    pub(super) fn mend_collection(
        &mut self,
        collection: &mut CollectionManifest,
        database: Uuid,
    ) -> Result<()> {
        let dir = self.paths.segments.clone();
        let path = |meta: &SegmentMeta| segment_path(&dir, meta.number);
        let bad_segments = collection.segments.iter().any(|meta| self.is_bad(&path(meta)));
        let bad_objects = collection.cold.iter().any(|o| self.is_bad(&self.objects.place(o)));
        let tombstones = collection.tombstones.as_ref();
        let tombstones = tombstones.map(|meta| tombstone_path(&dir, meta.number));
        let lost_tombstones = tombstones.clone().filter(|path| self.is_bad(path));
        if !bad_segments && !bad_objects && lost_tombstones.is_none() {
            return Ok(());
        }
        let history = self.history(collection)?;
        let mut missing = Missing::default();
        let mend_segments = bad_segments || lost_tombstones.is_some();
        let (mut dead, certain) = self.hidden_rows(collection, &history, lost_tombstones)?;
        if mend_segments {
            for meta in std::mem::take(&mut collection.segments) {
                let path = path(&meta);
                if !self.is_bad(&path) {
                    collection.segments.push(meta);
                    continue;
                }
                let hidden = dead.remove(&meta.number).unwrap_or_default();
                let old = Old { meta: &meta, path: path.clone(), hidden, certain };
                let new = self.mend_segment(collection, &history, &old, &mut missing)?;
                collection.segments.extend(new);
                self.replace(path, "what is whole of it is in a new segment");
            }
            self.write_tombstones(collection, &dead, tombstones)?;
        }
        self.rescue(collection, &history, &dead, missing, database)
    }

    /// Gives a collection back what other files still have of what it misses.
    pub(super) fn rescue(
        &mut self,
        collection: &mut CollectionManifest,
        history: &History,
        dead: &TombstoneSet,
        mut missing: Missing,
        database: Uuid,
    ) -> Result<()> {
        let mut wanted = self.missed(collection, history, dead, &missing)?;
        let mut rescued = Rescued::default();
        if !collection.cold.is_empty() {
            let mut tier = Tier {
                database,
                history,
                local: self.local_ids(collection)?,
                wanted: &mut wanted,
                missing: &mut missing,
                rescued: &mut rescued,
            };
            self.mend_objects(collection, &mut tier)?;
        }
        self.save_from_log(collection, history, wanted, &mut rescued, &mut missing)?;
        self.finish_rescue(collection, history, rescued, missing)
    }

    /// Writes the whole live rows of a damaged segment anew; `None` if there are none.
    fn mend_segment(
        &mut self,
        collection: &CollectionManifest,
        history: &History,
        old: &Old<'_>,
        missing: &mut Missing,
    ) -> Result<Option<SegmentMeta>> {
        let Old { meta, path, hidden, certain } = old;
        let lsns = (meta.min_lsn, meta.max_lsn);
        let mut loss = Loss::of_rows(&collection.name, path.clone());
        loss.lsns = Some(lsns);
        let Some(found) = self.find_segment(collection, meta)? else {
            loss.detail = "rows of a segment of which nothing can be read".to_owned();
            let unnamed = u64::from(meta.rows).saturating_sub(hidden.len());
            self.step(RepairAction::Forget, path.clone(), "nothing of it can be read");
            self.warn_of_older_versions(collection, history, meta, path);
            missing.gone.push(Gone { loss, unnamed, lsns });
            return Ok(None);
        };
        loss.detail = "rows of a segment that touch damaged bytes".to_owned();
        let number = self.take_number();
        let mut builder = self.new_segment(collection, number)?;
        let (mut written, mut unnamed, mut lost) = (0_u64, 0_u64, Vec::new());
        for row in (0..meta.rows).filter(|row| !hidden.contains(*row)) {
            if let Some(whole) = found.row(row)? {
                builder.push(&whole.id, Lsn::new(whole.lsn), &whole.vector, &whole.metadata)?;
                written += 1;
                continue;
            }
            let Some(id) = found.id(row)? else {
                unnamed += 1;
                continue;
            };
            let lsn = found.lsn(row)?;
            match history.version(&id, lsn.filter(|_| *certain)) {
                Some(version) => drop(missing.named.insert(id, version)),
                None => lost.push((id, lsn.unwrap_or(meta.max_lsn))),
            }
        }
        let mut deletes = BTreeMap::new();
        if !collection.cold.is_empty() {
            deletes = deletes_of(&found, hidden, &lost)?;
            if unnamed > 0 || found.deletes()?.is_none() {
                self.warn_of_older_versions(collection, history, meta, path);
            }
        }
        loss.ids = lost.into_iter().map(|(id, _)| id).collect();
        missing.gone.push(Gone { loss, unnamed, lsns });
        if written == 0 && deletes.is_empty() {
            return Ok(None);
        }
        for (id, lsn) in &deletes {
            builder.push_delete(id, Lsn::new(*lsn))?;
        }
        let new = builder.finish()?;
        let path = segment_path(&self.paths.segments, number);
        self.step(RepairAction::Write, path, format!("{written} rows of segment {}", meta.number));
        Ok(Some(new))
    }

    /// What can be read of a segment: from its file, or from one that took its content and not its
    /// name.
    pub(super) fn find_segment(
        &self,
        collection: &CollectionManifest,
        meta: &SegmentMeta,
    ) -> Result<Option<SalvagedSegment>> {
        let path = segment_path(&self.paths.segments, meta.number);
        let schema = &collection.schema;
        let params =
            SegmentParams { collection: collection.id, dim: schema.dim, metric: schema.metric };
        // Whole, or nothing tells it from the many that are not it without reading them all.
        let same = |other: &PathBuf| self.fs.metadata(other).is_ok_and(|m| m.len == meta.len);
        let others = self.list_segments()?.into_iter();
        let others = others.filter(|other| *other != path && same(other));
        for place in std::iter::once(path.clone()).chain(others) {
            match SalvagedSegment::open(&*self.fs, &place) {
                Ok(old) if fits(&old, meta, params) => return Ok(Some(old)),
                Err(error) if is_newer(&error) && place == path => return Err(error),
                Err(error) if matches!(error.cause(), Cause::Fs(e) if !e.is_not_found()) => {
                    return Err(error);
                }
                Ok(_) | Err(_) => {}
            }
        }
        Ok(None)
    }

    /// Says what may come back from cold objects, unless the log has every write that the segment
    /// had.
    fn warn_of_older_versions(
        &mut self,
        collection: &CollectionManifest,
        history: &History,
        meta: &SegmentMeta,
        path: &Path,
    ) {
        if collection.cold.is_empty() || history.known_from <= meta.min_lsn {
            return;
        }
        let mut loss = Loss::of_rows(&collection.name, path.to_owned());
        loss.kind = LossKind::Uncertain;
        loss.detail =
            "older versions of lost or deleted rows may come back from cold objects".to_owned();
        self.losses.push(loss);
    }
}

/// The deletes that a new segment must hold: those of the old one, the rows that it hides, and the
/// rows that are lost. They keep older versions in cold objects from coming back.
fn deletes_of(
    found: &SalvagedSegment,
    hidden: &RoaringBitmap,
    lost: &[(PointId, u64)],
) -> Result<BTreeMap<PointId, u64>> {
    let mut deletes: BTreeMap<PointId, u64> = found.deletes()?.into_iter().flatten().collect();
    for row in hidden {
        if let Some(id) = found.id(row)? {
            // No later than the row: its id may have a newer one elsewhere, which stays.
            let lsn = found.lsn(row)?.unwrap_or(found.meta().min_lsn);
            deletes.entry(id).or_insert(lsn);
        }
    }
    for (id, lsn) in lost {
        deletes.entry(id.clone()).or_insert(*lsn);
    }
    Ok(deletes)
}
