//! Scan: pages of rows in id order. A cursor is the last id seen, so that a scan goes on across
//! flushes, compactions and restarts, never repeats an id and never misses a row that exists
//! throughout.

use super::{
    filtering::{self, compile},
    place::{Columns, Fetched, Place, fetch},
};
use crate::{
    PointId, Record,
    collection::{MemView, SegmentView, View},
    error::Result,
    filter::{CompiledFilter, Filter},
};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Where the next page of a scan begins. Opaque; it can be stored and used later.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cursor {
    /// The byte form of the last id, in hex.
    after: String,
}

impl Cursor {
    fn after(id: &PointId) -> Self {
        Self { after: id.encode().iter().map(|byte| format!("{byte:02x}")).collect() }
    }

    /// The last id seen; `None` if the text was not made by a scan.
    pub(crate) fn id(&self) -> Option<PointId> {
        let digits = self.after.as_bytes();
        if !digits.len().is_multiple_of(2) {
            return None;
        }
        let bytes: Option<Vec<u8>> = digits
            .chunks_exact(2)
            .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok())
            .collect();
        PointId::decode(&bytes?)
    }
}

/// A page of a scan.
#[derive(Clone, Debug, PartialEq)]
pub struct Page {
    /// Rows in id order.
    pub records: Vec<Record>,
    /// Where the next page begins; `None` at the end.
    pub next: Option<Cursor>,
}

/// A validated scan.
#[derive(Clone, Debug)]
pub(crate) struct ScanSpec {
    pub(crate) after: Option<PointId>,
    pub(crate) limit: usize,
    pub(crate) filter: Option<Filter>,
    pub(crate) with_vectors: bool,
    pub(crate) with_metadata: bool,
}

/// The next page.
pub(crate) fn scan(view: &View, spec: &ScanSpec) -> Result<Page> {
    let filter = compile(spec.filter.as_ref(), &view.schema)?;
    // One more than asked tells whether there is a next page.
    let wanted = spec.limit.saturating_add(1);
    let mut found: BTreeMap<PointId, Place> = BTreeMap::new();
    let mut add = |id: PointId, place| {
        found.insert(id, place);
        if found.len() > wanted {
            found.pop_last();
        }
    };
    for (at, part) in view.memtables.iter().enumerate() {
        for (id, slot) in mem_rows(view, part, spec, filter.as_ref())? {
            add(id, Place::Mem { part: at, slot });
        }
    }
    for (at, part) in view.segments.iter().enumerate() {
        let mut taken = 0;
        for_segment_rows(part, spec, filter.as_ref(), |id, row| {
            add(id.clone(), Place::Segment { part: at, row });
            taken += 1;
            taken < wanted
        })?;
    }
    let more = found.len() > spec.limit;
    if more {
        found.pop_last();
    }
    let next = found.last_key_value().filter(|_| more).map(|(id, _)| Cursor::after(id));
    let records = found
        .into_iter()
        .map(|(id, place)| record(view, spec, id, place))
        .collect::<Result<_>>()?;
    Ok(Page { records, next })
}

fn mem_rows(
    view: &View,
    part: &MemView,
    spec: &ScanSpec,
    filter: Option<&CompiledFilter>,
) -> Result<Vec<(PointId, u32)>> {
    let allowed = match filter {
        Some(filter) => Some(filtering::matching_slots(part, view.lsn, filter)?.rows),
        None => None,
    };
    Ok(part
        .rows
        .iter()
        .filter(|(slot, row)| {
            row.live_at(view.lsn)
                && spec.after.as_ref().is_none_or(|after| row.id > *after)
                && allowed.as_ref().is_none_or(|allowed| allowed.contains(*slot))
        })
        .map(|(slot, row)| (row.id.clone(), slot))
        .collect())
}

/// Offers the segment's matching rows in id order until `take` returns false.
fn for_segment_rows(
    part: &SegmentView,
    spec: &ScanSpec,
    filter: Option<&CompiledFilter>,
    mut take: impl FnMut(&PointId, u32) -> bool,
) -> Result<()> {
    let allowed = match filter {
        Some(filter) => Some(filtering::matching_rows(part, filter)?.rows),
        None => None,
    };
    let order = part.part.id_order()?;
    let first = match &spec.after {
        Some(after) => order.partition_point(|(id, _)| id <= after),
        None => 0,
    };
    for (id, row) in order.get(first..).unwrap_or_default() {
        let matches = match &allowed {
            Some(allowed) => allowed.contains(*row),
            None => !part.dead.contains(*row),
        };
        if matches && !take(id, *row) {
            break;
        }
    }
    Ok(())
}

fn record(view: &View, spec: &ScanSpec, id: PointId, place: Place) -> Result<Record> {
    let columns = Columns { vector: spec.with_vectors, metadata: spec.with_metadata };
    let Fetched { lsn, vector, metadata } = fetch(view, place, columns)?;
    let (vector, metadata) = (vector.unwrap_or_default(), metadata.unwrap_or_default());
    Ok(Record { id, vector, metadata, lsn })
}
