//! The deep check: every row of a segment decoded, and everything that follows from rows computed
//! again and compared. What it finds lies under checksums that are right, so it is a bug of AkiDB
//! or of the memory that the file was made in.

#![deny(clippy::indexing_slicing)]

use super::{Finding, FindingKind, Severity};
use crate::{PointId, Schema, collection::SegmentView, error::Result, field_index::MemFieldIndex};
use akidb_index::inv_norm;
use std::collections::HashMap;

/// Findings of one segment, at most: one bad index would otherwise be told a million times.
const FINDINGS_MAX: usize = 20;

/// The live ids of a collection so far, by hash, with the segment that has each.
#[derive(Debug, Default)]
pub(super) struct Ids(HashMap<u64, Vec<(u64, PointId)>>);

impl Ids {
    /// Notes a live id; the segment that has it already, if one does.
    fn add(&mut self, segment: u64, id: PointId) -> Option<u64> {
        let same = self.0.entry(PointId::hash64(&id.encode())).or_default();
        let other = same.iter().find(|(_, known)| *known == id).map(|(segment, _)| *segment);
        same.push((segment, id));
        other
    }
}

/// Decodes every row; returns how many there are.
pub(super) fn check(
    view: &SegmentView,
    schema: &Schema,
    ids: &mut Ids,
    findings: &mut Vec<Finding>,
) -> Result<u64> {
    let segment = &view.part.segment;
    let meta = segment.meta();
    let mut indexes: Vec<_> = meta.fields.iter().cloned().map(MemFieldIndex::new).collect();
    let first = findings.len();
    let mut say = |detail: String| {
        if findings.len() - first < FINDINGS_MAX {
            let (kind, file) = (FindingKind::Contradiction, segment.path());
            findings.push(Finding::new(Severity::Loss, kind, file, detail));
        }
    };
    for row in 0..segment.rows() {
        let id = segment.id(row)?;
        let lsn = segment.lsn(row)?;
        if segment.find(&id)? != Some(row) {
            say(format!("row {row}: the id index does not lead to {id}"));
        }
        if !(meta.min_lsn..=meta.max_lsn).contains(&lsn) {
            say(format!("row {row}: LSN {lsn} is outside the file's range"));
        }
        let vector = segment.vectors(row, 1)?;
        if vector.iter().any(|x| !x.is_finite()) {
            say(format!("row {row}: a number of its vector is not finite"));
        }
        let stored = segment.inv_norms(row, 1)?.first().copied();
        if stored.map(f32::to_bits) != Some(inv_norm(&vector).to_bits()) {
            say(format!("row {row}: its inverse norm is not that of its vector"));
        }
        let metadata = segment.metadata(row)?;
        for index in &mut indexes {
            index.insert(row, &metadata);
        }
        if !view.dead.contains(row)
            && let Some(other) = ids.add(meta.number, id.clone())
        {
            say(format!("row {row}: {id} is live in segment {other} too"));
        }
    }
    for index in &indexes {
        let name = &index.def().name;
        let stored = segment.field_block(name)?;
        if stored.as_deref() != Some(index.encode(segment.rows()).as_slice()) {
            say(format!("the index of field {name:?} is not what the rows give"));
        }
        if schema.field_type(name) != Some(index.field_type()) {
            say(format!("field {name:?} has another type in the schema"));
        }
    }
    segment.deletes()?;
    Ok(u64::from(segment.rows()))
}
