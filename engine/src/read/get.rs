//! Reads of single rows and counts.

use super::{
    filtering::{self, compile},
    place::{Columns, Fetched, Place, fetch},
};
use crate::{
    PointId, Record,
    collection::View,
    error::Result,
    filter::{CompiledFilter, Filter},
    memtable::Newest,
};
use akidb_wal::Lsn;

/// The live row of each id, in the order asked, `None` where there is none.
pub(crate) fn get(view: &View, ids: &[PointId]) -> Result<Vec<Option<Record>>> {
    ids.iter().map(|id| get_one(view, id)).collect()
}

fn get_one(view: &View, id: &PointId) -> Result<Option<Record>> {
    let Some(place) = find(view, id)? else { return Ok(None) };
    let Fetched { lsn, vector, metadata } = fetch(view, place, ALL)?;
    let (vector, metadata) = (vector.unwrap_or_default(), metadata.unwrap_or_default());
    Ok(Some(Record { id: id.clone(), vector, metadata, lsn }))
}

const ALL: Columns = Columns { vector: true, metadata: true };

/// Where the live version of an id lies in the view.
fn find(view: &View, id: &PointId) -> Result<Option<Place>> {
    for (at, part) in view.memtables.iter().enumerate() {
        let Some(newest) = part.memtable.newest(id) else { continue };
        let live = |slot: u32| part.rows.get(slot).is_some_and(|row| row.live_at(view.lsn));
        if let Newest::Row(slot) = newest
            && live(slot)
        {
            return Ok(Some(Place::Mem { part: at, slot }));
        }
        // The id table may be newer than the view: an older version, which the table no longer
        // knows, may be the one that the view sees. Rare, hence searched for.
        let older = part.rows.iter().find(|(_, row)| row.id == *id && row.live_at(view.lsn));
        if let Some((slot, _)) = older {
            return Ok(Some(Place::Mem { part: at, slot }));
        }
    }
    for (at, part) in view.segments.iter().enumerate() {
        if let Some(row) = part.part.segment.find(id)?.filter(|row| !part.dead.contains(*row)) {
            return Ok(Some(Place::Segment { part: at, row }));
        }
    }
    Ok(None)
}

/// How many live rows match.
pub(crate) fn count(view: &View, filter: Option<&Filter>) -> Result<u64> {
    let Some(filter) = compile(filter, &view.schema)? else { return Ok(view.live_rows()) };
    let mut count = 0;
    for part in &view.memtables {
        count += filtering::matching_slots(part, view.lsn, &filter)?.rows.len();
    }
    for part in &view.segments {
        count += filtering::matching_rows(part, &filter)?.rows.len();
    }
    Ok(count)
}

/// The id and version of every live row that matches.
pub(crate) fn matching_versions(view: &View, filter: &Filter) -> Result<Vec<(PointId, Lsn)>> {
    let filter = CompiledFilter::new(filter, &view.schema)?;
    let mut found = Vec::new();
    for part in &view.memtables {
        let matching = filtering::matching_slots(part, view.lsn, &filter)?;
        let rows = matching.rows.iter().filter_map(|slot| part.rows.get(slot));
        found.extend(rows.map(|row| (row.id.clone(), row.lsn)));
    }
    for part in &view.segments {
        let segment = &part.part.segment;
        for row in &filtering::matching_rows(part, &filter)?.rows {
            found.push((segment.id(row)?, Lsn::new(segment.lsn(row)?)));
        }
    }
    Ok(found)
}
