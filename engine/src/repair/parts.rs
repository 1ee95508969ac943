//! Segments, tombstones and objects of a damaged database: what is damaged is made again from
//! what is whole, or forgotten.

#![deny(clippy::indexing_slicing)]

use super::{Loss, LossKind, RepairAction, Worker, versions::Versions};
use crate::{
    PointId,
    error::{Cause, Result},
    maintenance::build::SegmentBuilder,
    manifest::{ColdMeta, CollectionManifest, ManifestState},
    segment::{SalvagedSegment, SegmentMeta, SegmentParams, SegmentWriter, segment_path},
    tombstones::{self, TombstoneSet, tombstone_path},
    verify::{fits, is_newer},
};
use akidb_wal::Lsn;
use roaring::RoaringBitmap;
use std::path::PathBuf;

impl Worker {
    /// Mends everything that holds rows of a collection.
    pub(super) fn mend_collection(&mut self, collection: &mut CollectionManifest) -> Result<()> {
        let cold: Vec<ColdMeta> = std::mem::take(&mut collection.cold);
        for object in cold {
            if self.lose_object(&object, LossKind::Rows, &collection.name) {
                continue;
            }
            collection.cold.push(object);
        }
        let segments = |worker: &Self| {
            let dir = worker.paths.segments.clone();
            let path = move |meta: &SegmentMeta| segment_path(&dir, meta.number);
            collection.segments.iter().any(|meta| worker.is_bad(&path(meta)))
        };
        let tombstones = collection.tombstones.as_ref();
        let tombstones = tombstones.map(|meta| tombstone_path(&self.paths.segments, meta.number));
        let lost_tombstones = tombstones.as_ref().filter(|path| self.is_bad(path));
        if !segments(self) && lost_tombstones.is_none() {
            return Ok(());
        }
        let lost_tombstones = lost_tombstones.cloned();
        let mut dead = self.hidden_rows(collection, lost_tombstones)?;
        let metas = std::mem::take(&mut collection.segments);
        for meta in metas {
            let path = segment_path(&self.paths.segments, meta.number);
            if !self.is_bad(&path) {
                collection.segments.push(meta);
                continue;
            }
            let hidden = dead.remove(&meta.number).unwrap_or_default();
            let new = self.mend_segment(collection, &meta, &path, &hidden)?;
            collection.segments.extend(new);
            self.replace(path, "its whole rows are in a new segment");
        }
        self.write_tombstones(collection, &dead, tombstones)
    }

    /// The hidden rows of a collection, from its tombstones or, if those are lost, from its rows.
    fn hidden_rows(
        &mut self,
        collection: &CollectionManifest,
        lost: Option<PathBuf>,
    ) -> Result<TombstoneSet> {
        let Some(path) = lost else {
            let Some(meta) = &collection.tombstones else { return Ok(TombstoneSet::new()) };
            return tombstones::read(&*self.fs, &self.paths.segments, meta);
        };
        let Versions { dead, uncertain } = self.versions(collection, TombstoneSet::new())?;
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
        Ok(dead)
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

    /// Writes the whole live rows of a damaged segment anew; `None` if there are none.
    fn mend_segment(
        &mut self,
        collection: &CollectionManifest,
        meta: &SegmentMeta,
        path: &std::path::Path,
        hidden: &RoaringBitmap,
    ) -> Result<Option<SegmentMeta>> {
        let schema = &collection.schema;
        let params =
            SegmentParams { collection: collection.id, dim: schema.dim, metric: schema.metric };
        let mut loss = Loss {
            kind: LossKind::Rows,
            collections: vec![collection.name.clone()],
            file: path.to_owned(),
            rows: Some(u64::from(meta.rows).saturating_sub(hidden.len())),
            ids: Vec::new(),
            lsns: Some((meta.min_lsn, meta.max_lsn)),
            detail: "rows of a segment of which nothing can be read".to_owned(),
        };
        let old = match SalvagedSegment::open(&*self.fs, path) {
            Ok(old) if fits(&old, meta, params) => old,
            Err(error) if is_newer(&error) => return Err(error),
            Err(error) if matches!(error.cause(), Cause::Fs(e) if !e.is_not_found()) => {
                return Err(error);
            }
            Ok(_) | Err(_) => {
                self.forget_segment(collection, loss);
                return Ok(None);
            }
        };
        let number = self.take_number();
        let dir = self.paths.segments.clone();
        let writer = SegmentWriter::create(self.fs.clone(), &*self.random, &dir, number, params)?;
        let mut builder = SegmentBuilder::over(writer, schema);
        let (mut written, mut lost) = (0_u64, 0_u64);
        for row in (0..meta.rows).filter(|row| !hidden.contains(*row)) {
            if let Some(whole) = old.row(row)? {
                let lsn = Lsn::new(whole.lsn);
                builder.push(&whole.id, lsn, &whole.vector, &whole.metadata)?;
                written += 1;
            } else {
                lost += 1;
                loss.ids.extend(old.id(row)?);
            }
        }
        let deletes = self.deletes_of(collection, &old, &loss.ids, lost, path)?;
        for (id, lsn) in &deletes {
            builder.push_delete(id, Lsn::new(*lsn))?;
        }
        if lost > 0 {
            loss.rows = Some(lost);
            loss.detail = "rows of a segment that touch damaged bytes".to_owned();
            self.losses.push(loss);
        }
        if written == 0 && deletes.is_empty() {
            return Ok(None);
        }
        let new = builder.finish()?;
        let path = segment_path(&dir, number);
        self.step(RepairAction::Write, path, format!("{written} rows of segment {}", meta.number));
        Ok(Some(new))
    }

    /// The deletes that a new segment must hold. They, and the ids of lost rows, keep older
    /// versions in cold objects from coming back.
    fn deletes_of(
        &mut self,
        collection: &CollectionManifest,
        old: &SalvagedSegment,
        lost_ids: &[PointId],
        lost: u64,
        path: &std::path::Path,
    ) -> Result<Vec<(PointId, u64)>> {
        if collection.cold.is_empty() {
            return Ok(Vec::new());
        }
        let listed = old.deletes()?;
        if listed.is_none() || (lost_ids.len() as u64) < lost {
            self.uncertain_versions(collection, path);
        }
        let lsn = old.meta().max_lsn;
        let mut deletes = listed.unwrap_or_default();
        deletes.extend(lost_ids.iter().map(|id| (id.clone(), lsn)));
        Ok(deletes)
    }

    fn forget_segment(&mut self, collection: &CollectionManifest, loss: Loss) {
        self.step(RepairAction::Forget, loss.file.clone(), "nothing of it can be read");
        if !collection.cold.is_empty() {
            self.uncertain_versions(collection, &loss.file);
        }
        self.losses.push(loss);
    }

    fn uncertain_versions(&mut self, collection: &CollectionManifest, path: &std::path::Path) {
        self.losses.push(Loss {
            kind: LossKind::Uncertain,
            collections: vec![collection.name.clone()],
            file: path.to_owned(),
            rows: None,
            ids: Vec::new(),
            lsns: None,
            detail: "older versions of lost or deleted rows may come back from cold objects"
                .to_owned(),
        });
    }

    pub(super) fn mend_snapshots(&mut self, state: &mut ManifestState) {
        let names: Vec<String> = state.snapshots.keys().cloned().collect();
        for name in names {
            let Some(snapshot) = state.snapshots.get(&name) else { continue };
            let object = snapshot.object.clone();
            if self.lose_object(&object, LossKind::Snapshot, &snapshot.collection.clone()) {
                state.snapshots.remove(&name);
            }
        }
    }

    /// Gives an object up if it is damaged or gone; true if it is.
    fn lose_object(&mut self, object: &ColdMeta, kind: LossKind, collection: &str) -> bool {
        let file = self.objects.place(&object.key);
        if !self.is_bad(&file) {
            return false;
        }
        self.step(RepairAction::Forget, file.clone(), "it is not what was put, or it is gone");
        self.losses.push(Loss {
            kind,
            collections: vec![collection.to_owned()],
            file,
            rows: Some(object.rows),
            ids: Vec::new(),
            lsns: Some((object.min_lsn, object.max_lsn)),
            detail: match kind {
                LossKind::Snapshot => "a snapshot",
                _ => "rows of a cold object",
            }
            .to_owned(),
        });
        if let Some(path) = self.objects.path(&object.key) {
            self.replace(path, "a Parquet file; other tools may read more of it");
        }
        true
    }
}
