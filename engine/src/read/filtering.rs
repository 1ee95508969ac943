//! Which live rows of a part match a filter: by field index where there is one, by reading
//! metadata where there is none.

use crate::{
    Schema,
    collection::{MemView, SegmentView, parse_metadata},
    error::{InputError, Result},
    field_index::{FieldIndex, MemFieldIndex},
    filter::{CompiledFilter, Evaluated, Filter, RowSource, evaluate},
    point::Metadata,
};
use akidb_wal::Lsn;
use roaring::RoaringBitmap;
use std::collections::BTreeMap;

/// The filter of a request, checked against the schema; `None` stays `None`.
pub(crate) fn compile(
    filter: Option<&Filter>,
    schema: &Schema,
) -> Result<Option<CompiledFilter>, InputError> {
    filter.map(|filter| CompiledFilter::compile(filter, schema)).transpose()
}

/// The slots of a memtable that are live at `lsn` and match.
pub(crate) fn matching_slots(
    view: &MemView,
    lsn: Lsn,
    filter: &CompiledFilter,
) -> Result<Evaluated> {
    let live: RoaringBitmap =
        view.rows.iter().filter(|(_, row)| row.live_at(lsn)).map(|(slot, _)| slot).collect();
    view.memtable.with_fields(|fields| {
        let source = MemSource { view, fields };
        evaluate(filter, &source, Some(&live))
    })
}

/// The rows of a segment that are live and match.
pub(crate) fn matching_rows(view: &SegmentView, filter: &CompiledFilter) -> Result<Evaluated> {
    let source = SegmentSource { view };
    evaluate(filter, &source, Some(&view.live_bitmap()))
}

struct MemSource<'a> {
    view: &'a MemView,
    fields: &'a BTreeMap<String, MemFieldIndex>,
}

impl RowSource for MemSource<'_> {
    fn rows(&self) -> u32 {
        u32::try_from(self.view.rows.len()).unwrap_or(u32::MAX)
    }

    fn field(&self, name: &str) -> Option<&dyn FieldIndex> {
        self.fields.get(name).map(|index| index as &dyn FieldIndex)
    }

    fn metadata(&self, row: u32) -> Result<Metadata> {
        let row = self.view.rows.get(row);
        row.map_or_else(|| Ok(Metadata::new()), |row| parse_metadata(&row.metadata))
    }
}

struct SegmentSource<'a> {
    view: &'a SegmentView,
}

impl RowSource for SegmentSource<'_> {
    fn rows(&self) -> u32 {
        self.view.part.segment.rows()
    }

    fn field(&self, _name: &str) -> Option<&dyn FieldIndex> {
        None
    }

    fn metadata(&self, row: u32) -> Result<Metadata> {
        self.view.part.segment.metadata(row)
    }
}
