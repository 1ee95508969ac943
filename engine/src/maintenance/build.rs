//! Builds one segment file from rows: the writer plus the field indexes. The one way in which
//! flush, compaction, promotion, re-indexing and restore make segments.

use crate::{
    PointId, Schema,
    collection::parse_metadata,
    error::Result,
    field_index::MemFieldIndex,
    segment::{RowRef, SegmentMeta, SegmentParams, SegmentWriter},
};
use akidb_vfs::{Fs, Random};
use akidb_wal::Lsn;
use std::{
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
}

/// A segment being written.
pub(crate) struct SegmentBuilder {
    writer: SegmentWriter,
    fields: Vec<MemFieldIndex>,
    rows: u32,
}

impl SegmentBuilder {
    /// Starts a segment of a collection under a fresh file number.
    pub(crate) fn start(site: SegmentSite<'_>, collection: u32, schema: &Schema) -> Result<Self> {
        let params = SegmentParams { collection, dim: schema.dim, metric: schema.metric };
        let number = site.next_file.fetch_add(1, Ordering::Relaxed);
        let writer = SegmentWriter::create(site.fs.clone(), site.random, site.dir, number, params)?;
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
        self.writer.push(RowRef { id, lsn: lsn.get(), vector, metadata })?;
        if !self.fields.is_empty() {
            let parsed = parse_metadata(metadata)?;
            for index in &mut self.fields {
                index.insert(self.rows, &parsed);
            }
        }
        self.rows += 1;
        Ok(())
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
        let rows = self.rows;
        let blocks =
            self.fields.iter().map(|index| (index.def().clone(), index.encode(rows))).collect();
        self.writer.finish(blocks)
    }
}
