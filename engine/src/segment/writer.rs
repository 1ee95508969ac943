//! Writes one segment file. Vectors go straight to the file through a bounded buffer; ids, LSNs,
//! metadata and deletes are collected in memory (their size, about 40 bytes and the metadata per
//! row, is the writer's footprint) and follow at the end.
//!
//! # Protocol
//! 1. `create`: temporary name, header, start of the vectors.
//! 2. `push`, `append` and `push_delete` in any order; each id in at most one row.
//! 3. `finish`: the other blocks, footer, tail, sync, rename, directory sync.
//!
//! With cells, `create` takes a plan, and the rows come as runs that hold their codes.
//!
//! # Crash consistency
//! The final name appears only after the file was synced. After an error, or when the writer is
//! dropped unfinished, the names it made are removed as far as the disk allows; what stays is a
//! stray that no manifest names.

#![deny(clippy::indexing_slicing)]

use super::{
    CellPlan, Look, RowRef, Run, SegmentMeta, SegmentParams,
    codes::CodesWriter,
    directory::{BlockEntry, BlockKind, Footer, field_type_code},
    format::{Header, ROWS_MAX, Tail, VERSION, VERSION_PLAIN},
    id_index,
    items::ItemsBuilder,
    meta::segment_path,
    run::check_id,
    sink::FileSink,
};
use crate::{Error, FieldDef, PointId, Result, schema::FIELD_NAME_BYTES_MAX};
use akidb_index::Serial;
use akidb_vfs::{Fs, FsError, FsFile, Random, planted};
use std::{
    borrow::Cow,
    fmt,
    io::ErrorKind,
    path::{Path, PathBuf},
    sync::Arc,
};

/// Names that must not outlive a failure.
#[derive(Debug)]
struct Unfinished {
    fs: Arc<dyn Fs>,
    paths: Vec<PathBuf>,
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        for path in &self.paths {
            // Best effort: the caller is told of the first failure, and a file that stays is a
            // stray that the next open reports.
            drop(self.fs.remove_file(path));
        }
    }
}

/// A segment being written; see the module.
pub(crate) struct SegmentWriter {
    sink: FileSink,
    unfinished: Unfinished,
    dir: PathBuf,
    header: Header,
    ids: ItemsBuilder,
    inv_norms: Vec<f32>,
    lsns: Vec<u64>,
    metadata: ItemsBuilder,
    deleted_ids: ItemsBuilder,
    deleted_lsns: Vec<u64>,
    codes: Option<CodesWriter>,
}

impl fmt::Debug for SegmentWriter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SegmentWriter")
            .field("number", &self.header.number)
            .field("rows", &self.lsns.len())
            .finish_non_exhaustive()
    }
}

impl SegmentWriter {
    /// Starts the file of segment `number` in `dir`, under its temporary name. A leftover of that
    /// name is replaced; a finished segment of that number is a bug and stays untouched. With a plan
    /// the rows come in the order of its cells, each with its codes.
    pub(crate) fn create(
        fs: Arc<dyn Fs>,
        random: &dyn Random,
        dir: &Path,
        number: u64,
        params: SegmentParams,
        plan: Option<CellPlan>,
    ) -> Result<Self> {
        let path = segment_path(dir, number);
        match fs.metadata(&path) {
            Err(error) if error.is_not_found() => {}
            Err(error) => return Err(error.into()),
            Ok(_) => return Err(Error::bug("a segment's file number was used before")),
        }
        let temp = path.with_extension("seg.tmp");
        let file = match fs.create_new(&temp) {
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                fs.remove_file(&temp)?;
                fs.create_new(&temp)?
            }
            other => other?,
        };
        let unfinished = Unfinished { fs, paths: vec![temp] };
        let version = if plan.is_some() { VERSION } else { VERSION_PLAIN };
        let header = Header { version, number, salt: random.next_u64(), params };
        let mut sink = FileSink::new(file, header.salt);
        sink.write(&header.encode())?;
        sink.begin(BlockKind::Vectors)?;
        let codes = plan.map(|plan| CodesWriter::new(&sink, params, plan)).transpose()?;
        Ok(Self {
            codes,
            sink,
            unfinished,
            dir: dir.to_owned(),
            header,
            ids: ItemsBuilder::default(),
            inv_norms: Vec::new(),
            lsns: Vec::new(),
            metadata: ItemsBuilder::default(),
            deleted_ids: ItemsBuilder::default(),
            deleted_lsns: Vec::new(),
        })
    }

    /// Appends a row; its number is the count of rows before it.
    ///
    /// # Errors
    /// A failed write: drop the writer. A row that validation must not have let through: a bug.
    pub(crate) fn push(&mut self, row: RowRef<'_>) -> Result<()> {
        self.check(1, row.vector)?;
        check_id(row.id)?;
        self.sink.append(bytemuck::cast_slice(row.vector))?;
        self.ids.push_with(|out| row.id.encode_into(out));
        self.inv_norms.push(row.inv_norm);
        self.lsns.push(row.lsn);
        self.metadata.push_with(|out| out.extend_from_slice(row.metadata));
        Ok(())
    }

    /// Appends the rows of a run; in a segment with cells with their codes, else without.
    ///
    /// # Errors
    /// A failed write: drop the writer. A run that is not of this segment: a bug.
    pub(crate) fn append(&mut self, run: &Run) -> Result<()> {
        self.check(run.len(), &run.vectors)?;
        match &mut self.codes {
            Some(codes) => codes.append(run)?,
            None if run.blocks.is_empty() => {}
            None => return Err(Error::bug("a segment without cells was given codes")),
        }
        self.sink.append(bytemuck::cast_slice(&run.vectors))?;
        self.ids.extend(&run.ids);
        self.inv_norms.extend_from_slice(&run.inv_norms);
        self.lsns.extend_from_slice(&run.lsns);
        self.metadata.extend(&run.metadata);
        Ok(())
    }

    /// Refuses rows that the file could not hold.
    fn check(&self, rows: usize, vectors: &[f32]) -> Result<()> {
        if vectors.len() as u64 != rows as u64 * u64::from(self.header.params.dim) {
            return Err(Error::bug("a row of another dimension reached a segment"));
        }
        if (self.lsns.len() + rows) as u64 > u64::from(ROWS_MAX) {
            return Err(Error::bug("a segment was given more rows than a row number can count"));
        }
        Ok(())
    }

    /// Notes that `id` was deleted at `lsn` though an older version may lie in a cold object.
    pub(crate) fn push_delete(&mut self, id: &PointId, lsn: u64) -> Result<()> {
        if self.deleted_lsns.len() as u64 >= u64::from(ROWS_MAX) {
            return Err(Error::bug("a segment was given more deletes than it can count"));
        }
        check_id(id)?;
        self.deleted_ids.push_with(|out| id.encode_into(out));
        self.deleted_lsns.push(lsn);
        Ok(())
    }

    /// The file, for a sync of what was written so far.
    pub(crate) fn file(&self) -> Arc<dyn FsFile> {
        self.sink.file()
    }

    /// Bytes of the file so far.
    pub(crate) fn bytes(&self) -> u64 {
        self.sink.position()
    }

    /// Completes the file with the encoded indexes of these fields, makes it durable, and gives it
    /// its name. It belongs to nothing until a manifest names it.
    ///
    /// # Errors
    /// A failed call: no file of this number is left as far as the disk allows. Two rows of one
    /// id: a bug.
    pub(crate) fn finish(self, fields: Vec<(FieldDef, Vec<u8>)>) -> Result<SegmentMeta> {
        let vector = |_| Err(Error::bug("a segment's rows cannot be looked at again"));
        self.finish_with(fields, &Look { executor: &Serial, vector })
    }

    /// As [`Self::finish`], for a segment with cells.
    pub(crate) fn finish_with<'v>(
        mut self,
        fields: Vec<(FieldDef, Vec<u8>)>,
        look: &Look<'_, impl Fn(u32) -> Result<Cow<'v, [f32]>> + Sync>,
    ) -> Result<SegmentMeta> {
        let footer = self.write_blocks(&fields, look)?;
        let Self { mut sink, mut unfinished, dir, header, .. } = self;
        sink.align(super::format::ALIGN)?;
        let footer_bytes = footer.encode();
        let tail = Tail::of(header.version, &footer_bytes, sink.position(), header.salt);
        sink.write(&footer_bytes)?;
        sink.write(&tail.encode())?;
        let (len, crc32) = sink.finish()?;
        publish(&mut unfinished, &dir, header.number)?;
        Ok(SegmentMeta {
            number: header.number,
            len,
            crc32,
            rows: footer.rows,
            deletes: footer.deletes,
            min_lsn: footer.min_lsn,
            max_lsn: footer.max_lsn,
            fields: fields.into_iter().map(|(def, _)| def).collect(),
        })
    }

    fn write_blocks<'v>(
        &mut self,
        fields: &[(FieldDef, Vec<u8>)],
        look: &Look<'_, impl Fn(u32) -> Result<Cow<'v, [f32]>> + Sync>,
    ) -> Result<Footer> {
        let rows = u32::try_from(self.lsns.len()).expect("push counts rows");
        let deletes = u32::try_from(self.deleted_lsns.len()).expect("push_delete counts deletes");
        let id_index = id_index::build(&self.ids, rows)
            .map_err(|_| Error::bug("a segment was given two rows of one id"))?;
        let slots = id_index.len() as u64;
        let lsns = || self.lsns.iter().chain(&self.deleted_lsns).copied();
        let (min_lsn, max_lsn) = (lsns().min().unwrap_or(0), lsns().max().unwrap_or(0));

        let mut blocks = vec![self.sink.end(u64::from(rows))];
        if let Some(codes) = &mut self.codes {
            blocks.push(codes.write_fine(&mut self.sink)?);
        }
        let [offsets, ids] = self.ids.parts();
        let [metadata_offsets, metadata] = self.metadata.parts();
        let [deleted_offsets, deleted] = self.deleted_ids.parts();
        let deleted_lsns = bytemuck::cast_slice(&self.deleted_lsns);
        let (rows_u64, deletes_u64) = (u64::from(rows), u64::from(deletes));
        let parts: [(BlockKind, u64, &[&[u8]]); 6] = [
            (BlockKind::InvNorms, rows_u64, &[bytemuck::cast_slice(&self.inv_norms)]),
            (BlockKind::Ids, rows_u64, &[offsets, ids]),
            (BlockKind::IdIndex, slots, &[bytemuck::cast_slice(&id_index)]),
            (BlockKind::Lsns, rows_u64, &[bytemuck::cast_slice(&self.lsns)]),
            (BlockKind::Metadata, rows_u64, &[metadata_offsets, metadata]),
            (BlockKind::Deletes, deletes_u64, &[deleted_lsns, deleted_offsets, deleted]),
        ];
        for (kind, items, parts) in parts {
            blocks.push(write_block(&mut self.sink, kind, items, parts)?);
        }
        if let Some(codes) = &self.codes {
            let params = self.header.params;
            blocks.extend(codes.write_blocks(&mut self.sink, params, look, &self.inv_norms)?);
        }
        for (def, bytes) in fields {
            if def.name.is_empty()
                || def.name.len() > FIELD_NAME_BYTES_MAX
                || blocks.iter().any(|block| block.name == def.name)
            {
                return Err(Error::bug("a segment was given a field that no schema allows"));
            }
            let block = write_block(&mut self.sink, BlockKind::FieldIndex, rows_u64, &[bytes])?;
            let detail = field_type_code(def.field_type);
            blocks.push(BlockEntry { detail, name: def.name.clone(), ..block });
        }
        Ok(Footer { rows, deletes, min_lsn, max_lsn, blocks })
    }
}

fn write_block(
    sink: &mut FileSink,
    kind: BlockKind,
    items: u64,
    parts: &[&[u8]],
) -> Result<BlockEntry, FsError> {
    sink.begin(kind)?;
    for part in parts {
        sink.append(part)?;
    }
    Ok(sink.end(items))
}

/// Renames the synced temporary file into place and makes the name durable. If the rename or the
/// directory sync fails, both names are in doubt and both go: nobody knows the file yet.
fn publish(unfinished: &mut Unfinished, dir: &Path, number: u64) -> Result<(), FsError> {
    let path = segment_path(dir, number);
    let temp = path.with_extension("seg.tmp");
    unfinished.paths.push(path.clone());
    unfinished.fs.rename(&temp, &path)?;
    if !planted("segment.name-unsynced") {
        unfinished.fs.sync_dir(dir)?;
    }
    unfinished.paths.clear();
    Ok(())
}
