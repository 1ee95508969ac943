//! Which live rows of a part match a filter: by field index where there is one, by reading
//! metadata where there is none.

use crate::{
    FilterStep, Schema,
    budget::Budget,
    collection::{MemView, SegmentView, parse_metadata},
    error::{Error, InputError, Result},
    field_index::{FieldIndex, FieldIndexError, FieldIndexView, MemFieldIndex},
    filter::{Answer, CompiledFilter, Evaluated, Filter, RowSource, evaluate},
    point::Metadata,
};
use akidb_wal::Lsn;
use roaring::RoaringBitmap;
use std::{borrow::Cow, collections::BTreeMap, sync::Arc};

/// The filter of a request, checked against the schema; `None` stays `None`.
pub(crate) fn compile(
    filter: Option<&Filter>,
    schema: &Schema,
) -> Result<Option<CompiledFilter>, InputError> {
    filter.map(|filter| CompiledFilter::new(filter, schema)).transpose()
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

/// As [`matching_rows`], for searches: answers that are asked for again are remembered. With the
/// answer comes how it was found.
pub(super) fn answer(
    view: &SegmentView,
    filter: &CompiledFilter,
    budget: &Arc<Budget>,
) -> Result<(Arc<Answer>, Vec<FilterStep>)> {
    let (answers, hidden) = (&view.part.answers, view.dead.len());
    if let Some(found) = answers.find(filter, hidden) {
        return Ok(found);
    }
    let found = matching_rows(view, filter)?;
    let answer = Arc::new(Answer::new(found, view.part.segment.rows()));
    answers.note(filter, hidden, &answer, budget);
    let plan = answer.plan().to_vec();
    Ok((answer, plan))
}

/// Checks the field indexes of a segment beyond their checksums.
pub(crate) fn verify_fields(view: &SegmentView) -> Result<()> {
    let source = SegmentSource { view };
    for def in &view.part.segment.meta().fields {
        if let Some(FieldIndex::Block(index)) = source.field(&def.name)? {
            index.verify().map_err(|error| source.damaged(&def.name, error))?;
        }
    }
    Ok(())
}

struct MemSource<'a> {
    view: &'a MemView,
    fields: &'a BTreeMap<String, MemFieldIndex>,
}

impl RowSource for MemSource<'_> {
    fn rows(&self) -> u32 {
        u32::try_from(self.view.rows.len()).unwrap_or(u32::MAX)
    }

    fn field(&self, name: &str) -> Result<Option<FieldIndex<'_>>> {
        Ok(self.fields.get(name).map(FieldIndex::Mem))
    }

    fn metadata(&self, row: u32) -> Result<Cow<'_, Metadata>> {
        let row = self.view.rows.get(row);
        let row = row.ok_or_else(|| Error::bug("a filter asks for a row outside its view"))?;
        parse_metadata(&row.metadata).map(Cow::Owned)
    }

    fn damaged(&self, _field: &str, _error: FieldIndexError) -> Error {
        Error::bug("an index in memory is damaged")
    }
}

struct SegmentSource<'a> {
    view: &'a SegmentView,
}

impl RowSource for SegmentSource<'_> {
    fn rows(&self) -> u32 {
        self.view.part.segment.rows()
    }

    fn field(&self, name: &str) -> Result<Option<FieldIndex<'_>>> {
        let Some(block) = self.view.part.segment.field_block(name)? else { return Ok(None) };
        let view = FieldIndexView::open(block).map_err(|error| self.damaged(name, error))?;
        if view.rows() != self.rows() {
            let detail = "it covers another number of rows than its segment";
            return Err(self.damaged(name, FieldIndexError { offset: 0, detail }));
        }
        Ok(Some(FieldIndex::Block(view)))
    }

    fn metadata(&self, row: u32) -> Result<Cow<'_, Metadata>> {
        self.view.part.segment.metadata(row).map(Cow::Owned)
    }

    fn damaged(&self, field: &str, error: FieldIndexError) -> Error {
        let detail = format!("field {field:?}: {}", error.detail);
        self.view.part.segment.field_damage(field, error.offset, &detail)
    }
}
