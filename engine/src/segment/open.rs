//! Opening a segment: everything that must hold before a row is read. Header, tail, footer and
//! directory are checked here, compared with the manifest, and the id index is read through once;
//! data blocks are checked when they are touched.
//!
//! Called by [`super::Segment::open`] and [`super::describe()`].

#![deny(clippy::indexing_slicing)]

use super::{
    SegmentMeta, SegmentParams,
    block::Block,
    directory::{BlockEntry, BlockKind, Footer, field_type_of},
    format::{HEADER_LEN, Header, TAIL_LEN, Tail},
    id_index,
    items::table_len,
    source::Source,
};
use crate::{Error, FieldDef, Result};
use akidb_index::rabitq::FACTORS_LEN;

/// What a file says of itself, each part checked against its checksum.
#[derive(Debug)]
pub(super) struct Structure {
    pub(super) header: Header,
    pub(super) footer: Footer,
}

/// Reads header, tail and footer.
pub(super) fn read_structure(source: &Source) -> Result<Structure> {
    let len = source.len();
    let (header_len, tail_len) = (HEADER_LEN as u64, TAIL_LEN as u64);
    if len < header_len + tail_len {
        let detail = format!("{len} bytes cannot hold a segment");
        return Err(Error::corruption(source.path(), len, detail));
    }
    let flaw = |flaw: super::format::Flaw| flaw.in_file(source.path());
    let header = Header::decode(&source.read(0, header_len)?).map_err(flaw)?;
    let tail = source.read(len - tail_len, tail_len)?;
    let tail = Tail::decode(header.version, &tail, len).map_err(flaw)?;
    let footer = source.read(tail.footer_offset, tail.footer_len)?;
    tail.check(&footer, header.salt).map_err(flaw)?;
    let footer = Footer::decode(&footer, tail.footer_offset).map_err(flaw)?;
    Ok(Structure { header, footer })
}

/// Compares a file with what the manifest says of it.
pub(super) fn compare(
    source: &Source,
    structure: &Structure,
    meta: &SegmentMeta,
    params: SegmentParams,
) -> Result<()> {
    let Structure { header, footer } = structure;
    let differs = |what: &str| {
        let detail = format!("the {what} in the file is not what the manifest says");
        Err(Error::corruption(source.path(), 0, detail))
    };
    if header.number != meta.number {
        return differs("file number");
    }
    if header.params != params {
        return differs("collection, dimension or metric");
    }
    if (footer.rows, footer.deletes) != (meta.rows, meta.deletes) {
        return differs("count of rows or deletes");
    }
    if (footer.min_lsn, footer.max_lsn) != (meta.min_lsn, meta.max_lsn) {
        return differs("range of LSNs");
    }
    if !fields_of(footer).eq(meta.fields.iter().cloned().map(Some)) {
        return differs("list of indexed fields");
    }
    Ok(())
}

/// The fields that have an index block, in order; `None` for a type that does not exist.
pub(super) fn fields_of(footer: &Footer) -> impl Iterator<Item = Option<FieldDef>> {
    footer.blocks.iter().filter(|block| block.kind == BlockKind::FieldIndex.code()).map(|block| {
        Some(FieldDef { name: block.name.clone(), field_type: field_type_of(block.detail)? })
    })
}

/// The blocks that belong to cells. Their lengths follow from each other's content, and are compared
/// when they are read.
pub(super) struct CellBlocks {
    pub(super) codebook: Block,
    pub(super) cells: Block,
    pub(super) codes: Block,
    pub(super) fine: Block,
    pub(super) factors: Block,
    pub(super) calibration: Block,
}

impl CellBlocks {
    fn all(&self) -> [&Block; 6] {
        let Self { codebook, cells, codes, fine, factors, calibration } = self;
        [codebook, cells, codes, fine, factors, calibration]
    }
}

/// The blocks of a segment, each of the size that the row count asks for.
pub(super) struct Blocks {
    pub(super) vectors: Block,
    pub(super) inv_norms: Block,
    pub(super) ids: Block,
    pub(super) id_index: Block,
    pub(super) lsns: Block,
    pub(super) metadata: Block,
    pub(super) deletes: Block,
    pub(super) fields: Vec<(String, Block)>,
    /// None, or all of them.
    pub(super) cells: Option<CellBlocks>,
}

impl Blocks {
    /// As [`Blocks::find`], and checks the id index, without which no row can be looked up.
    pub(super) fn resolve(source: &Source, structure: Structure) -> Result<Self> {
        let rows = structure.footer.rows;
        let blocks = Self::find(source, structure)?;
        let table = blocks.id_index.all(source)?;
        id_index::check(&table, rows)
            .map_err(|detail| blocks.id_index.damage(source, 0, &detail))?;
        Ok(blocks)
    }

    /// Finds every block that a segment must have, once; optional blocks of unknown kinds are
    /// passed over. Reads none of them.
    pub(super) fn find(source: &Source, structure: Structure) -> Result<Self> {
        let Structure { header, footer } = structure;
        let rows = u64::from(footer.rows);
        let (deletes, dim) = (u64::from(footer.deletes), u64::from(header.params.dim));
        let mut finder = Finder { source, salt: header.salt, entries: footer.blocks };
        let slots = id_index::slots_for(footer.rows);
        let blocks = Self {
            vectors: finder.fixed(BlockKind::Vectors, rows, dim * 4)?,
            inv_norms: finder.fixed(BlockKind::InvNorms, rows, 4)?,
            ids: finder.items(BlockKind::Ids, rows, 0)?,
            id_index: finder.fixed(BlockKind::IdIndex, slots, id_index::SLOT_LEN)?,
            lsns: finder.fixed(BlockKind::Lsns, rows, 8)?,
            metadata: finder.items(BlockKind::Metadata, rows, 0)?,
            deletes: finder.items(BlockKind::Deletes, deletes, 8)?,
            fields: finder.fields(rows)?,
            cells: finder.cells(rows)?,
        };
        finder.nothing_left()?;
        Ok(blocks)
    }

    /// Every block, for a scrub.
    pub(super) fn all(&self) -> impl Iterator<Item = &Block> {
        [
            &self.vectors,
            &self.inv_norms,
            &self.ids,
            &self.id_index,
            &self.lsns,
            &self.metadata,
            &self.deletes,
        ]
        .into_iter()
        .chain(self.fields.iter().map(|(_, block)| block))
        .chain(self.cells.iter().flat_map(CellBlocks::all))
    }
}

/// Takes entries out of the directory, so that a second one of a kind is noticed at the end.
struct Finder<'a> {
    source: &'a Source,
    salt: u64,
    entries: Vec<BlockEntry>,
}

impl Finder<'_> {
    fn damage(&self, offset: u64, detail: String) -> Error {
        Error::corruption(self.source.path(), offset, detail)
    }

    fn take(&mut self, kind: BlockKind, items: u64) -> Result<BlockEntry> {
        let found = self.entries.iter().position(|entry| entry.kind == kind.code());
        let Some(index) = found else {
            let detail = format!("the segment has no {} block", kind.name());
            return Err(self.damage(self.source.len(), detail));
        };
        let entry = self.entries.remove(index);
        if entry.items == items {
            Ok(entry)
        } else {
            let (name, found) = (kind.name(), entry.items);
            let detail = format!("the {name} block counts {found}, not {items}");
            Err(self.damage(entry.offset, detail))
        }
    }

    /// A block of items of one size.
    fn fixed(&mut self, kind: BlockKind, items: u64, item_len: u64) -> Result<Block> {
        let entry = self.take(kind, items)?;
        if items.checked_mul(item_len) == Some(entry.len) {
            return Ok(Block::new(entry, self.salt));
        }
        let detail = format!("the {} block has {} bytes for {items}", kind.name(), entry.len);
        Err(self.damage(entry.offset, detail))
    }

    /// A block of `prefix` bytes per item and then a list of byte strings.
    fn items(&mut self, kind: BlockKind, items: u64, prefix: u64) -> Result<Block> {
        let entry = self.take(kind, items)?;
        let least =
            table_len(items).and_then(|table| table.checked_add(items.checked_mul(prefix)?));
        if least.is_some_and(|least| entry.len >= least) {
            return Ok(Block::new(entry, self.salt));
        }
        let detail = format!("the {} block is too short for {items}", kind.name());
        Err(self.damage(entry.offset, detail))
    }

    /// A block whose items have no one size.
    fn any(&mut self, kind: BlockKind, items: Option<u64>) -> Result<Block> {
        let found = self.entries.iter().find(|entry| entry.kind == kind.code());
        let items = items.or(found.map(|entry| entry.items)).unwrap_or(0);
        Ok(Block::new(self.take(kind, items)?, self.salt))
    }

    /// The blocks of cells: all of them if there is one.
    fn cells(&mut self, rows: u64) -> Result<Option<CellBlocks>> {
        let belongs = |entry: &BlockEntry| {
            BlockKind::from_code(entry.kind).is_some_and(|kind| kind.since() == 2)
        };
        if !self.entries.iter().any(belongs) {
            return Ok(None);
        }
        let codebook = self.any(BlockKind::Codebook, None)?;
        let starts = codebook.items().checked_add(1);
        let starts = starts.filter(|starts| u32::try_from(*starts).is_ok()).unwrap_or(0);
        Ok(Some(CellBlocks {
            codebook,
            cells: self.fixed(BlockKind::Cells, starts, 4)?,
            codes: self.any(BlockKind::Codes, Some(rows))?,
            fine: self.any(BlockKind::FineCodes, Some(rows))?,
            factors: self.fixed(BlockKind::FineFactors, rows, FACTORS_LEN as u64)?,
            calibration: self.any(BlockKind::Calibration, Some(1))?,
        }))
    }

    fn fields(&mut self, rows: u64) -> Result<Vec<(String, Block)>> {
        let mut fields: Vec<(String, Block)> = Vec::new();
        while self.entries.iter().any(|entry| entry.kind == BlockKind::FieldIndex.code()) {
            let entry = self.take(BlockKind::FieldIndex, rows)?;
            if field_type_of(entry.detail).is_none() || fields.iter().any(|(n, _)| *n == entry.name)
            {
                let detail = format!("the index of field {:?} is not possible", entry.name);
                return Err(self.damage(entry.offset, detail));
            }
            let name = entry.name.clone();
            fields.push((name, Block::new(entry, self.salt)));
        }
        Ok(fields)
    }

    /// What is left may only be blocks that this version does not know; the footer's decoder has
    /// refused those that must be understood.
    fn nothing_left(&self) -> Result<()> {
        let twice = self.entries.iter().find(|entry| BlockKind::from_code(entry.kind).is_some());
        match twice {
            None => Ok(()),
            Some(entry) => {
                let detail = format!("the segment has two blocks of kind {}", entry.kind);
                Err(self.damage(entry.offset, detail))
            }
        }
    }
}
