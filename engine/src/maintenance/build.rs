//! Builds one segment file from rows: the writer plus the field indexes. The one way in which
//! flush, compaction, promotion, re-indexing and restore make segments.

use super::Threads;
use crate::{
    FieldDef, PointId, Schema,
    collection::parse_metadata,
    error::{Error, Result},
    field_index::MemFieldIndex,
    point::Metadata,
    segment::{CellPlan, Look, RowRef, Run, SegmentMeta, SegmentParams, SegmentWriter},
};
use akidb_index::inv_norm;
use akidb_vfs::{Fs, FsFile, Random};
use akidb_wal::Lsn;
use std::{
    borrow::Cow,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

/// Where segments are made.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SegmentSite<'a> {
    pub(crate) fs: &'a Arc<dyn Fs>,
    pub(crate) random: &'a dyn Random,
    pub(crate) dir: &'a Path,
    pub(crate) next_file: &'a AtomicU64,
    /// Segments of fewer rows have no cells.
    pub(crate) index_rows_min: u64,
    /// What trains codebooks and finds the cells of rows.
    pub(crate) threads: Threads,
}

/// A segment being written.
pub(crate) struct SegmentBuilder {
    writer: SegmentWriter,
    fields: Vec<MemFieldIndex>,
    rows: u32,
}

impl SegmentBuilder {
    /// Starts a segment of a collection under a fresh file number. With a plan, rows come in the
    /// order of its cells, in runs with their codes.
    pub(crate) fn start(
        site: SegmentSite<'_>,
        collection: u32,
        schema: &Schema,
        plan: Option<&CellPlan>,
    ) -> Result<Self> {
        let params = SegmentParams { collection, dim: schema.dim, metric: schema.metric };
        let number = site.next_file.fetch_add(1, Ordering::Relaxed);
        let (fs, cells) = (site.fs.clone(), plan.cloned());
        let writer = SegmentWriter::create(fs, site.random, site.dir, number, params, cells)?;
        Ok(Self::over(writer, schema))
    }

    /// Goes on with a file that was just started.
    pub(crate) fn over(writer: SegmentWriter, schema: &Schema) -> Self {
        let fields = schema.fields.iter().cloned().map(MemFieldIndex::new).collect();
        Self { writer, fields, rows: 0 }
    }

    /// Adds a row; each id at most once.
    pub(crate) fn push(
        &mut self,
        id: &PointId,
        lsn: Lsn,
        vector: &[f32],
        metadata: &[u8],
    ) -> Result<()> {
        let inv_norm = inv_norm(vector);
        self.writer.push(RowRef { id, lsn: lsn.get(), vector, inv_norm, metadata })?;
        if !self.fields.is_empty() {
            self.index(&[parse_metadata(metadata)?]);
        }
        self.rows += 1;
        Ok(())
    }

    /// Adds the rows of a run. `metadata` is theirs, parsed, where fields are indexed.
    pub(crate) fn append(&mut self, run: &Run, metadata: &[Metadata]) -> Result<()> {
        self.writer.append(run)?;
        self.index(metadata);
        self.rows += u32::try_from(run.len()).map_err(|_| Error::bug("a run of too many rows"))?;
        Ok(())
    }

    fn index(&mut self, metadata: &[Metadata]) {
        for index in &mut self.fields {
            for (row, metadata) in (self.rows..).zip(metadata) {
                index.insert(row, metadata);
            }
        }
    }

    /// True if metadata has to be parsed for the indexes.
    pub(crate) fn has_fields(&self) -> bool {
        !self.fields.is_empty()
    }

    /// The file, for a sync of what was written so far.
    pub(crate) fn file(&self) -> Arc<dyn FsFile> {
        self.writer.file()
    }

    /// Bytes of the file so far.
    pub(crate) fn bytes(&self) -> u64 {
        self.writer.bytes()
    }

    /// Adds the delete of an id whose older version may lie in a cold object.
    pub(crate) fn push_delete(&mut self, id: &PointId, lsn: Lsn) -> Result<()> {
        self.writer.push_delete(id, lsn.get())
    }

    /// Writes, syncs and names the file. It belongs to nothing until a manifest names it.
    pub(crate) fn finish(self) -> Result<SegmentMeta> {
        let blocks = self.field_blocks();
        self.writer.finish(blocks)
    }

    /// As [`Self::finish`], for a segment with cells.
    pub(crate) fn finish_with<'v>(
        self,
        look: &Look<'_, impl Fn(u32) -> Result<Cow<'v, [f32]>> + Sync>,
    ) -> Result<SegmentMeta> {
        let blocks = self.field_blocks();
        self.writer.finish_with(blocks, look)
    }

    fn field_blocks(&self) -> Vec<(FieldDef, Vec<u8>)> {
        self.fields.iter().map(|index| (index.def().clone(), index.encode(self.rows))).collect()
    }
}
