//! Builds one segment file from rows: the writer plus the field indexes. The one way in which
//! flush, compaction, promotion, re-indexing and restore make segments.

use super::Threads;
use crate::{
    FieldDef, PointId, Schema,
    collection::parse_metadata,
    error::{Error, Result},
    field_index::MemFieldIndex,
    ivf::Clustering,
    segment::{CellPlan, RowCodes, RowRef, SegmentMeta, SegmentParams, SegmentWriter},
};
use akidb_index::{
    inv_norm,
    rabitq::{Bits, Encoder},
};
use akidb_vfs::{Fs, Random};
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

/// Codes the rows of a segment as they pass in the order of its cells.
struct Coder<'c> {
    clustering: &'c Clustering,
    encoder: Encoder<'c>,
    starts: &'c [u32],
    /// The cell of the last row; `None` before the first.
    cell: Option<usize>,
    codes: RowCodes,
}

impl<'c> Coder<'c> {
    fn new(plan: &'c CellPlan) -> Self {
        let codec = plan.clustering.codec();
        Self {
            clustering: &plan.clustering,
            encoder: codec.encoder(),
            starts: &plan.starts,
            cell: None,
            codes: RowCodes::new(codec.padded()),
        }
    }

    fn encode(&mut self, row: u32, vector: &[f32]) -> Result<&RowCodes> {
        let first = self.cell.unwrap_or(0);
        let behind = |end: &&u32| **end <= row;
        let ended = self.starts.iter().skip(first + 1).take_while(behind).count();
        let cell = first + ended;
        let centre =
            u32::try_from(cell).ok().and_then(|cell| self.clustering.router().centre(cell));
        let centre = centre.ok_or_else(|| Error::bug("a row is in no cell"))?;
        self.cell = Some(cell);
        self.encoder.set_row(vector, inv_norm(vector));
        self.encoder.set_centre(centre);
        let codes = &mut self.codes;
        codes.one_factors = self.encoder.encode(Bits::One, &mut codes.one);
        codes.fine_factors = self.encoder.encode(Bits::Eight, &mut codes.fine);
        Ok(codes)
    }
}

/// A segment being written.
pub(crate) struct SegmentBuilder<'c> {
    writer: SegmentWriter,
    fields: Vec<MemFieldIndex>,
    coder: Option<Coder<'c>>,
    rows: u32,
}

impl<'c> SegmentBuilder<'c> {
    /// Starts a segment of a collection under a fresh file number. With a plan, rows come in the
    /// order of its cells.
    pub(crate) fn start(
        site: SegmentSite<'_>,
        collection: u32,
        schema: &Schema,
        plan: Option<&'c CellPlan>,
    ) -> Result<Self> {
        let params = SegmentParams { collection, dim: schema.dim, metric: schema.metric };
        let number = site.next_file.fetch_add(1, Ordering::Relaxed);
        let (fs, cells) = (site.fs.clone(), plan.cloned());
        let writer = SegmentWriter::create(fs, site.random, site.dir, number, params, cells)?;
        Ok(Self { coder: plan.map(Coder::new), ..Self::over(writer, schema) })
    }

    /// Goes on with a file that was just started.
    pub(crate) fn over(writer: SegmentWriter, schema: &Schema) -> Self {
        let fields = schema.fields.iter().cloned().map(MemFieldIndex::new).collect();
        Self { writer, fields, coder: None, rows: 0 }
    }

    /// Adds a row; each id at most once.
    pub(crate) fn push(
        &mut self,
        id: &PointId,
        lsn: Lsn,
        vector: &[f32],
        metadata: &[u8],
    ) -> Result<()> {
        self.push_coded(RowRef { id, lsn: lsn.get(), vector, metadata }, None)
    }

    /// As [`Self::push`], with the codes that the row has under the same clustering, if it has.
    pub(crate) fn push_coded(&mut self, row: RowRef<'_>, codes: Option<&RowCodes>) -> Result<()> {
        let metadata = row.metadata;
        self.writer.push(row)?;
        match (&mut self.coder, codes) {
            (Some(_), Some(codes)) => self.writer.push_codes(codes)?,
            (Some(coder), None) => self.writer.push_codes(coder.encode(self.rows, row.vector)?)?,
            (None, _) => {}
        }
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
        let blocks = self.field_blocks();
        self.writer.finish(blocks)
    }

    /// As [`Self::finish`], for a segment with cells, which looks at some rows again: `vector` gives
    /// the vector of the row that was pushed as that number.
    pub(crate) fn finish_with<'v>(
        self,
        vector: impl Fn(u32) -> Result<Cow<'v, [f32]>>,
    ) -> Result<SegmentMeta> {
        let blocks = self.field_blocks();
        self.writer.finish_with(blocks, vector)
    }

    fn field_blocks(&self) -> Vec<(FieldDef, Vec<u8>)> {
        self.fields.iter().map(|index| (index.def().clone(), index.encode(self.rows))).collect()
    }
}
