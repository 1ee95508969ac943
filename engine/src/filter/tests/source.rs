//! A part of a collection in memory, with indexes in either form, that counts what is read.

use crate::{
    Cause, Error, FieldDef, InputError, Metadata, Result, Schema,
    field_index::{FieldIndex, FieldIndexError, FieldIndexView, MemFieldIndex},
    filter::{CompiledFilter, Evaluated, Filter, RowSource, evaluate},
};
use roaring::RoaringBitmap;
use std::{borrow::Cow, cell::RefCell, collections::HashMap};

pub(super) struct Rows {
    rows: Vec<Metadata>,
    mem: HashMap<String, MemFieldIndex>,
    pub(super) blocks: HashMap<String, Vec<u8>>,
    pub(super) read: RefCell<Vec<u32>>,
    pub(super) opened: RefCell<Vec<String>>,
    pub(super) unreadable: Option<u32>,
}

impl Rows {
    /// Rows with indexes in memory of `mem` and as blocks of `blocks`.
    pub(super) fn new(rows: Vec<Metadata>, mem: &[FieldDef], blocks: &[FieldDef]) -> Self {
        let index = |def: &FieldDef| {
            let mut index = MemFieldIndex::new(def.clone());
            for (row, metadata) in (0..).zip(&rows) {
                index.insert(row, metadata);
            }
            (index.def().name.clone(), index)
        };
        let count = u32::try_from(rows.len()).unwrap();
        Self {
            mem: mem.iter().map(index).collect(),
            blocks: blocks
                .iter()
                .map(index)
                .map(|(name, index)| (name, index.encode(count)))
                .collect(),
            rows,
            read: RefCell::default(),
            opened: RefCell::default(),
            unreadable: None,
        }
    }

    pub(super) fn evaluate(
        &self,
        filter: &Filter,
        schema: &Schema,
        universe: Option<&RoaringBitmap>,
    ) -> Result<Evaluated> {
        evaluate(&CompiledFilter::new(filter, schema)?, self, universe)
    }
}

impl RowSource for Rows {
    fn rows(&self) -> u32 {
        u32::try_from(self.rows.len()).unwrap()
    }

    fn field(&self, name: &str) -> Result<Option<FieldIndex<'_>>> {
        self.opened.borrow_mut().push(name.to_owned());
        if let Some(index) = self.mem.get(name) {
            return Ok(Some(FieldIndex::Mem(index)));
        }
        let Some(block) = self.blocks.get(name) else {
            return Ok(None);
        };
        let view = FieldIndexView::open(block.as_slice());
        let view = view.map_err(|error| self.damaged(name, error))?;
        Ok(Some(FieldIndex::Block(view)))
    }

    fn metadata(&self, row: u32) -> Result<Cow<'_, Metadata>> {
        self.read.borrow_mut().push(row);
        if self.unreadable == Some(row) {
            return Err(Cause::Closed.into());
        }
        let row = self.rows.get(row as usize);
        row.map(Cow::Borrowed).ok_or_else(|| InputError::BadCursor.into())
    }

    fn damaged(&self, field: &str, error: FieldIndexError) -> Error {
        Error::corruption(format!("{field}.block"), error.offset, error.detail)
    }
}

pub(super) fn metadata(json: serde_json::Value) -> Metadata {
    match json {
        serde_json::Value::Object(object) => object,
        other => panic!("the test's metadata is no object: {other}"),
    }
}
