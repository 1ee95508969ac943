//! Which rows of a part match a filter: by field index where there is one, by reading metadata
//! where there is none.

use crate::{
    Schema,
    collection::{MemView, SegmentView, parse_metadata},
    error::{Error, Result},
    field_index::{FieldIndex, FieldIndexView, MemFieldIndex},
    filter::{Evaluated, Filter, RowSource, evaluate},
    point::Metadata,
};
use roaring::RoaringBitmap;
use std::collections::BTreeMap;

/// The rows of a segment that are live and match, and how the conditions were answered.
pub(crate) fn matching_rows(
    view: &SegmentView,
    filter: &Filter,
    schema: &Schema,
) -> Result<Evaluated> {
    let segment = &view.part.segment;
    let mut fields = BTreeMap::new();
    let mut blocks = Vec::new();
    for name in filter.field_names() {
        if schema.field_type(name).is_some()
            && let Some(block) = segment.field_block(name)?
        {
            blocks.push((name.to_owned(), block));
        }
    }
    for (name, block) in &blocks {
        let index = FieldIndexView::parse(block).map_err(|error| {
            Error::corruption(segment.path(), error.offset, error.detail)
        })?;
        fields.insert(name.as_str(), index);
    }
    let source = SegmentSource { view, fields };
    let mut universe = RoaringBitmap::new();
    universe.insert_range(0..segment.rows());
    universe -= &*view.dead;
    evaluate(filter, schema, &source, Some(&universe))
}

struct SegmentSource<'a> {
    view: &'a SegmentView,
    fields: BTreeMap<&'a str, FieldIndexView<'a>>,
}

impl RowSource for SegmentSource<'_> {
    fn rows(&self) -> u32 {
        self.view.part.segment.rows()
    }

    fn field(&self, name: &str) -> Option<&dyn FieldIndex> {
        self.fields.get(name).map(|index| index as &dyn FieldIndex)
    }

    fn metadata(&self, row: u32) -> Result<Metadata> {
        self.view.part.segment.metadata(row)
    }
}
