//! Where a row of a view lies, and how it is fetched from there.

use crate::{
    Metadata,
    collection::{View, parse_metadata},
    error::{Error, Result},
};

/// The place of a row in a view.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Place {
    /// The memtable at this index of the view, and the slot in it.
    Mem { part: usize, slot: u32 },
    /// The segment at this index of the view, and the row in it.
    Segment { part: usize, row: u32 },
}

/// What is fetched of a row.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Columns {
    pub(crate) vector: bool,
    pub(crate) metadata: bool,
}

/// A fetched row; what was not asked for is `None`.
#[derive(Debug)]
pub(crate) struct Fetched {
    pub(crate) lsn: u64,
    pub(crate) vector: Option<Vec<f32>>,
    pub(crate) metadata: Option<Metadata>,
}

/// Fetches a row by its place.
pub(crate) fn fetch(view: &View, place: Place, columns: Columns) -> Result<Fetched> {
    let outside = || Error::bug("a row lies outside its view");
    match place {
        Place::Mem { part, slot } => {
            let row = view.memtables.get(part).and_then(|part| part.rows.get(slot));
            let row = row.ok_or_else(outside)?;
            let metadata = columns.metadata.then(|| parse_metadata(&row.metadata)).transpose()?;
            let vector = columns.vector.then(|| row.vector.to_vec());
            Ok(Fetched { lsn: row.lsn.get(), vector, metadata })
        }
        Place::Segment { part, row } => {
            let segment = &view.segments.get(part).ok_or_else(outside)?.part.segment;
            let metadata = columns.metadata.then(|| segment.metadata(row)).transpose()?;
            let vector =
                if columns.vector { Some(segment.vectors(row, 1)?.to_vec()) } else { None };
            Ok(Fetched { lsn: segment.lsn(row)?, vector, metadata })
        }
    }
}
