//! Adding a field index to a collection that has rows.
//!
//! # Protocol
//! 1. The new schema is made durable; from here every new segment has the index.
//! 2. The memtables index the field from the rows they hold.
//! 3. Segments that lack the index are rewritten, one by one. Until then filters on the field
//!    read their metadata, and `explain` says so. A crash in between leaves some segments without
//!    the index: correct, slower, and rewritten by their next compaction.

use super::{compaction, install::Change};
use crate::{
    collection::CollectionCore,
    db::DbCore,
    error::{InputError, Result},
    schema::FieldDef,
};
use std::sync::Arc;

/// Adds an index of `field` and builds it for every row there is.
pub(crate) fn add_field(core: &DbCore, collection: &CollectionCore, field: FieldDef) -> Result<()> {
    core.check_may_write()?;
    let _moves = collection.moves.lock();
    let mut schema = (*collection.schema()).clone();
    if schema.field_type(&field.name).is_some() {
        return Err(InputError::DuplicateField { name: field.name }.into());
    }
    schema.fields.push(field.clone());
    schema.validate()?;
    {
        let structure = collection.structure.lock();
        let change = Change { schema: Some(Arc::new(schema)), ..Change::default() };
        // Under the state lock, so that no row slips in between the schema and the index.
        core.install(collection, &structure, change, |state| {
            for memtable in state.parts.memtables() {
                memtable.index_field(&field)?;
            }
            Ok(())
        })?;
    }
    // A flush that began under the old schema is about to add one more segment without the index.
    drop(collection.flushing.lock());
    let lacks = |part: &crate::collection::SegmentPart| {
        !part.segment.meta().fields.iter().any(|def| def.name == field.name)
    };
    let parts = collection.state.read().parts.segments().to_vec();
    for part in parts.into_iter().filter(|part| lacks(part)) {
        let inputs = [part];
        let claim = core.claim_merge(collection, &inputs)?;
        compaction::merge(core, collection, &inputs, claim)?;
    }
    Ok(())
}
