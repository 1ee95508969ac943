//! What a search did: which parts it read, how the filter was answered, what was scored. The
//! planner's promise is that nothing slow is silent.

use crate::FilterStep;
use serde::Serialize;

/// The plan of a memtable whose rows were looked at by their codes.
pub(crate) const BY_CODES: &str = "codes";

/// How one part of the collection was searched.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct PartExplain {
    /// "memtable", or "segment" and its number.
    pub part: String,
    /// Row versions in the part, hidden ones included.
    pub rows: u64,
    /// How rows were chosen: "exact" (each that is live and matches was scored), "cells" (the codes
    /// of the nearest cells), "codes" (the codes of every row) or "matches" (the codes of the rows
    /// that match).
    pub plan: &'static str,
    /// How each condition of the filter was answered: from an index, or by reading metadata.
    pub filter: Vec<FilterStep>,
    /// Rows that were live and matched; `None` where nobody had to count them.
    pub matched: Option<u64>,
    /// Cells whose rows were looked at.
    pub cells: u64,
    /// Rows that count whose code of one bit was looked at.
    pub scanned: u64,
    /// Rows whose code of eight bits was looked at.
    pub decided: u64,
    /// Rows whose vector was scored.
    pub scored: u64,
    /// Microseconds spent on the filter.
    pub filter_us: u64,
    /// Microseconds spent on choosing cells.
    pub route_us: u64,
    /// Microseconds spent on codes.
    pub scan_us: u64,
    /// Microseconds spent on vectors.
    pub score_us: u64,
}

/// What a search did.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Explain {
    /// The LSN of the view: every write up to it was seen.
    pub lsn: u64,
    /// "exact" if every part was searched so, else "approximate".
    pub plan: &'static str,
    /// What was done in each part: memtables first.
    pub parts: Vec<PartExplain>,
    /// Threads that searched; with more than one, the times of the parts overlap.
    pub threads: u64,
    /// True if a cold collection was promoted first.
    pub promoted: bool,
    /// Microseconds in all.
    pub total_us: u64,
}
