//! What the manifest names: segments, tombstone files, cold objects and snapshots, each against
//! its length and checksums and against each other.

#![deny(clippy::indexing_slicing)]

use super::{
    Finding, FindingKind, Pass, Severity, is_newer,
    objects::Fetched,
    rows::{self, Ids},
};
use crate::{
    Schema,
    cold::ColdReader,
    collection::{SegmentPart, SegmentView},
    error::{Error, Result},
    manifest::{ColdMeta, CollectionManifest, SnapshotManifest},
    read,
    segment::{ReadMode, SalvagedSegment, Segment, SegmentMeta, SegmentParams, segment_path},
    tombstones::{self, TombstoneSet, tombstone_path},
};
use roaring::RoaringBitmap;
use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

impl Pass<'_> {
    /// Everything that holds rows of a collection.
    pub(super) fn check_collection(
        &mut self,
        collection: &CollectionManifest,
        findings: &mut Vec<Finding>,
    ) -> Result<()> {
        let first = findings.len();
        let dead = self.check_tombstones(collection, findings)?;
        let mut ids = Ids::default();
        for meta in &collection.segments {
            let dead = dead.as_ref().and_then(|set| set.get(&meta.number)).cloned();
            self.check_segment(collection, meta, dead.unwrap_or_default(), &mut ids, findings)?;
        }
        for object in &collection.cold {
            self.check_object(object, &collection.schema, findings)?;
        }
        for finding in findings.iter_mut().skip(first) {
            finding.collection = Some(collection.name.clone());
        }
        Ok(())
    }

    /// The tombstones of a collection; `None` if they are damaged.
    fn check_tombstones(
        &mut self,
        collection: &CollectionManifest,
        findings: &mut Vec<Finding>,
    ) -> Result<Option<TombstoneSet>> {
        let Some(meta) = &collection.tombstones else { return Ok(Some(TombstoneSet::new())) };
        let path = tombstone_path(&self.paths.segments, meta.number);
        if is_missing(self.fs, &path)? {
            // Rows that were deleted would be back: nobody loses a row, and yet answers are wrong.
            let detail = "the manifest names it, and it is gone";
            let kind = FindingKind::TombstonesMissing;
            findings.push(Finding::new(Severity::Loss, kind, path, detail));
            return Ok(None);
        }
        let set = match tombstones::read(self.fs, &self.paths.segments, meta) {
            Ok(set) => set,
            Err(error) if is_newer(&error) => return Err(error),
            Err(error) => {
                let kind = FindingKind::TombstonesDamaged;
                findings.push(Finding::of(Severity::Loss, kind, error)?);
                return Ok(None);
            }
        };
        self.read(meta.len);
        for (number, rows) in &set {
            let segment = collection.segments.iter().find(|segment| segment.number == *number);
            let fits = segment.is_some_and(|s| rows.max().is_none_or(|row| row < s.rows));
            if !fits {
                let detail = format!("it hides rows that segment {number} does not have");
                let kind = FindingKind::Contradiction;
                findings.push(Finding::new(Severity::Loss, kind, path.clone(), detail));
            }
        }
        Ok(Some(set))
    }

    fn check_segment(
        &mut self,
        collection: &CollectionManifest,
        meta: &SegmentMeta,
        dead: RoaringBitmap,
        ids: &mut Ids,
        findings: &mut Vec<Finding>,
    ) -> Result<()> {
        let path = segment_path(&self.paths.segments, meta.number);
        let name = (path.to_string_lossy().into_owned(), meta.len, meta.crc32);
        if !self.deep && self.whole.contains(&name) {
            return Ok(());
        }
        let lsns = Some((meta.min_lsn, meta.max_lsn));
        let live = u64::from(meta.rows).saturating_sub(dead.len());
        if is_missing(self.fs, &path)? {
            let detail = "the manifest names it, and it is gone";
            let kind = FindingKind::SegmentMissing;
            findings.push(Finding::new(Severity::Loss, kind, path, detail).costing(live, lsns));
            return Ok(());
        }
        let schema = &collection.schema;
        let params =
            SegmentParams { collection: collection.id, dim: schema.dim, metric: schema.metric };
        let opened = Segment::open(self.fs, &self.paths.segments, meta, params, ReadMode::Pread);
        let checked = opened.and_then(|segment| {
            segment.verify()?;
            segment.verify_cells().map(|()| segment)
        });
        let segment = match checked {
            Ok(segment) => segment,
            Err(error) if is_newer(&error) => return Err(error),
            Err(error) => {
                return self.damaged_segment(&path, meta, params, &dead, error, findings);
            }
        };
        self.read(meta.len);
        let part = Arc::new(SegmentPart::new(segment, dead.clone()));
        let view = SegmentView { part, dead: Arc::new(dead) };
        match read::verify_fields(&view) {
            Ok(()) => {}
            Err(error) => {
                findings.push(Finding::of(Severity::Damage, FindingKind::IndexDamaged, error)?);
                return Ok(());
            }
        }
        if self.deep {
            self.report.rows += rows::check(&view, schema, ids, findings)?;
        }
        self.whole.insert(name);
        Ok(())
    }

    /// Names every bad place of a segment, and how many live rows touch one.
    fn damaged_segment(
        &mut self,
        path: &Path,
        meta: &SegmentMeta,
        params: SegmentParams,
        dead: &RoaringBitmap,
        error: Error,
        findings: &mut Vec<Finding>,
    ) -> Result<()> {
        let lsns = Some((meta.min_lsn, meta.max_lsn));
        let live = u64::from(meta.rows).saturating_sub(dead.len());
        let as_a_whole = |severity, error, rows| {
            Finding::of(severity, FindingKind::SegmentDamaged, error)
                .map(|finding| finding.costing(rows, lsns))
        };
        let salvaged = match SalvagedSegment::open(self.fs, path) {
            Ok(salvaged) if fits(&salvaged, meta, params) => salvaged,
            Ok(_) => {
                findings.push(as_a_whole(Severity::Loss, error, live)?);
                return Ok(());
            }
            Err(worse) => {
                findings.push(as_a_whole(Severity::Loss, worse, live)?);
                return Ok(());
            }
        };
        let mut lost = 0;
        for row in (0..meta.rows).filter(|row| !dead.contains(*row)) {
            lost += u64::from(salvaged.row(row)?.is_none());
        }
        let bad = salvaged.bad_extents()?;
        if bad.is_empty() {
            // Bytes between the blocks, or an index that lies under a good checksum.
            findings.push(as_a_whole(Severity::Damage, error, 0)?);
        }
        for extent in bad {
            let (severity, kind, rows) = if extent.derivable || lost == 0 {
                (Severity::Damage, FindingKind::IndexDamaged, 0)
            } else {
                (Severity::Loss, FindingKind::SegmentDamaged, lost)
            };
            let detail = format!(
                "{} block: {} bytes do not match their checksum",
                extent.block, extent.bytes
            );
            let mut finding = Finding::new(severity, kind, path, detail);
            finding.offset = Some(extent.offset);
            findings.push(if rows > 0 { finding.costing(rows, lsns) } else { finding });
        }
        Ok(())
    }

    /// A cold object or the object of a snapshot.
    fn check_object(
        &mut self,
        meta: &ColdMeta,
        schema: &Schema,
        findings: &mut Vec<Finding>,
    ) -> Result<()> {
        let name = (meta.name().into_owned(), meta.len, meta.crc32);
        if self.whole.contains(&name) {
            return Ok(());
        }
        let cost =
            |finding: Finding| finding.costing(meta.rows, Some((meta.min_lsn, meta.max_lsn)));
        let bytes = match self.objects.fetch(meta)? {
            Fetched::Whole(bytes) => bytes,
            Fetched::Missing => {
                let (kind, detail) = (FindingKind::ObjectMissing, "it is not in the store");
                findings.push(cost(Finding::new(Severity::Loss, kind, self.place(meta), detail)));
                return Ok(());
            }
            Fetched::Damaged(bytes) => {
                let detail = format!(
                    "it has {} bytes and checksum {:08x}, the manifest says {} and {:08x}",
                    bytes.len(),
                    crc32fast::hash(&bytes),
                    meta.len,
                    meta.crc32,
                );
                let kind = FindingKind::ObjectDamaged;
                findings.push(cost(Finding::new(Severity::Loss, kind, self.place(meta), detail)));
                return Ok(());
            }
        };
        self.read(meta.len);
        if self.deep {
            let rows_of = |group: Result<Vec<crate::Record>>| group.map(|rows| rows.len() as u64);
            let decoded: Result<u64> = ColdReader::open(bytes, &meta.name(), schema)
                .and_then(|reader| reader.map(rows_of).sum());
            match decoded {
                Ok(rows) if rows == meta.rows => self.report.rows += rows,
                Ok(rows) => {
                    let detail = format!("it holds {rows} rows, the manifest says {}", meta.rows);
                    let kind = FindingKind::Contradiction;
                    findings.push(Finding::new(Severity::Loss, kind, self.place(meta), detail));
                }
                Err(error) if is_newer(&error) => return Err(error),
                Err(error) => {
                    let kind = FindingKind::Contradiction;
                    findings.push(cost(Finding::of(Severity::Loss, kind, error)?));
                }
            }
        }
        self.whole.insert(name);
        Ok(())
    }

    /// Where an object is, for people.
    fn place(&self, meta: &ColdMeta) -> PathBuf {
        self.objects.place(meta)
    }

    pub(super) fn check_snapshot(
        &mut self,
        snapshot: &SnapshotManifest,
        findings: &mut Vec<Finding>,
    ) -> Result<()> {
        let first = findings.len();
        self.check_object(&snapshot.object, &snapshot.schema, findings)?;
        for finding in findings.iter_mut().skip(first) {
            finding.detail = format!("snapshot {:?}: {}", snapshot.name, finding.detail);
        }
        Ok(())
    }
}

/// True if a segment that could be read by what it says of itself is the one that the manifest
/// names, so that its rows belong to the collection.
pub(crate) fn fits(segment: &SalvagedSegment, meta: &SegmentMeta, params: SegmentParams) -> bool {
    let found = segment.meta();
    segment.params() == params
        && (found.number, found.rows, found.deletes) == (meta.number, meta.rows, meta.deletes)
        && (found.min_lsn, found.max_lsn) == (meta.min_lsn, meta.max_lsn)
}

fn is_missing(fs: &dyn akidb_vfs::Fs, path: &Path) -> Result<bool> {
    match fs.metadata(path) {
        Ok(_) => Ok(false),
        Err(error) if error.is_not_found() => Ok(true),
        Err(error) => Err(error.into()),
    }
}
