//! Filters: every way of answering one gives the same rows.

use crate::{
    Error, FieldDef, Filter, InputError, Metadata, Result, Schema,
    field_index::{FieldIndex, FieldIndexError, FieldIndexView, MemFieldIndex},
    filter::{CompiledFilter, RowSource, evaluate},
};
use roaring::RoaringBitmap;
use std::{borrow::Cow, collections::BTreeMap};

/// How the rows of a test are indexed.
#[derive(Clone, Copy, Debug)]
enum Indexed {
    Not,
    InMemory,
    AsBlocks,
}

/// Checks a filter against a schema and answers it for rows with this metadata: one by one, by
/// scan, by indexes in memory, and by the blocks that segments have.
///
/// # Errors
/// Invalid input: a filter that the schema refuses.
///
/// # Panics
/// If the answers differ.
pub fn filter(filter: &Filter, schema: &Schema, rows: &[Metadata]) -> Result<u64> {
    let compiled = CompiledFilter::new(filter, schema)?;
    let numbered = (0..).zip(rows);
    let expected: RoaringBitmap =
        numbered.filter(|(_, row)| compiled.matches(row)).map(|(at, _)| at).collect();
    for indexed in [Indexed::Not, Indexed::InMemory, Indexed::AsBlocks] {
        let answer = evaluate(&compiled, &Part::new(schema, rows, indexed), None)?;
        assert_eq!(answer.rows, expected, "{indexed:?}: {filter}");
    }
    Ok(expected.len())
}

/// Rows as a part of a collection.
struct Part<'a> {
    rows: &'a [Metadata],
    memory: BTreeMap<&'a str, MemFieldIndex>,
    blocks: BTreeMap<&'a str, Vec<u8>>,
}

impl<'a> Part<'a> {
    fn new(schema: &'a Schema, rows: &'a [Metadata], indexed: Indexed) -> Self {
        let mut part = Self { rows, memory: BTreeMap::new(), blocks: BTreeMap::new() };
        for def in &schema.fields {
            let index = index(def, rows);
            match indexed {
                Indexed::Not => {}
                Indexed::InMemory => drop(part.memory.insert(&def.name, index)),
                Indexed::AsBlocks => {
                    drop(part.blocks.insert(&def.name, index.encode(part.rows())));
                }
            }
        }
        part
    }
}

fn index(def: &FieldDef, rows: &[Metadata]) -> MemFieldIndex {
    let mut index = MemFieldIndex::new(def.clone());
    for (at, row) in (0..).zip(rows) {
        index.insert(at, row);
    }
    index
}

impl RowSource for Part<'_> {
    fn rows(&self) -> u32 {
        u32::try_from(self.rows.len()).expect("a fuzzer's input is small")
    }

    fn field(&self, name: &str) -> Result<Option<FieldIndex<'_>>> {
        if let Some(index) = self.memory.get(name) {
            return Ok(Some(FieldIndex::Mem(index)));
        }
        let Some(block) = self.blocks.get(name) else { return Ok(None) };
        let view = FieldIndexView::open(block.as_slice());
        Ok(Some(FieldIndex::Block(view.map_err(|error| self.damaged(name, error))?)))
    }

    fn metadata(&self, row: u32) -> Result<Cow<'_, Metadata>> {
        let row = self.rows.get(row as usize);
        row.map(Cow::Borrowed).ok_or_else(|| InputError::BadCursor.into())
    }

    fn damaged(&self, field: &str, error: FieldIndexError) -> Error {
        Error::corruption(field, error.offset, error.detail)
    }
}
