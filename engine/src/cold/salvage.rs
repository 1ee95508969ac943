//! What a damaged cold object still holds, for repair: each row group stands or falls alone, by the
//! checksum of its values. The footer must be whole, for it has those checksums. Never used to
//! answer a query.

#![deny(clippy::indexing_slicing)]

use super::decode::{ColdReader, RowGroups};
use crate::{Record, Result};
use std::ops::Range;
use uuid::Uuid;

/// What an object says of itself, under a checksum of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stated {
    pub(crate) database: Uuid,
    pub(crate) collection: u32,
    pub(crate) rows: u64,
    pub(crate) min_lsn: u64,
    pub(crate) max_lsn: u64,
}

/// A row group: which rows of the object it has, and the rows, or what is wrong with them.
pub(crate) type SalvagedGroup = (Range<u64>, Result<Vec<Record>>);

impl ColdReader {
    /// What the object says of itself.
    pub(crate) fn stated(&self) -> Stated {
        let footer = &self.table.footer;
        Stated {
            database: footer.database,
            collection: footer.collection,
            rows: footer.rows,
            min_lsn: footer.lsn_min,
            max_lsn: footer.lsn_max,
        }
    }

    /// Every row group, whatever became of the others.
    pub(crate) fn salvage(&self) -> impl Iterator<Item = SalvagedGroup> + '_ {
        let mut next = 0_u64;
        self.table.footer.row_groups.iter().enumerate().map(move |(index, group)| {
            let first = next;
            next = next.saturating_add(group.rows);
            (first..next, self.group(index))
        })
    }
}
