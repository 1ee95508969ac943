//! Builds one segment file from rows: the writer plus the field indexes. The one way in which
//! flush, compaction, promotion, re-indexing and restore make segments.

use crate::{
    PointId, Schema,
    collection::parse_metadata,
    db::DbCore,
    error::Result,
    field_index::MemFieldIndex,
    segment::{RowRef, SegmentMeta, SegmentParams, SegmentWriter},
};
use akidb_wal::Lsn;

/// A segment being written.
pub(crate) struct SegmentBuilder {
    writer: SegmentWriter,
    fields: Vec<MemFieldIndex>,
    rows: u32,
}

impl SegmentBuilder {
    /// Starts a segment of a collection under a fresh file number.
    pub(crate) fn start(core: &DbCore, collection: u32, schema: &Schema) -> Result<Self> {
        let params = SegmentParams { collection, dim: schema.dim, metric: schema.metric };
        let number = core.next_file();
        let writer = SegmentWriter::create(
            core.fs.clone(),
            &*core.random,
            &core.paths.segments,
            number,
            params,
        )?;
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
