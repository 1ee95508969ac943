//! What a search did: which parts it read, how the filter was answered, what was scored. The
//! planner's promise is that nothing slow is silent.

use crate::FilterStep;
use serde::Serialize;

/// How one part of the collection was searched.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct PartExplain {
    /// "memtable", or "segment" and its number.
    pub part: String,
    /// Row versions in the part, hidden ones included.
    pub rows: u64,
    /// How each condition of the filter was answered: from an index, or by reading metadata.
    pub filter: Vec<FilterStep>,
    /// Rows that were live and matched, each of which was scored.
    pub scored: u64,
    /// Microseconds spent on the filter.
    pub filter_us: u64,
    /// Microseconds spent on scoring.
    pub score_us: u64,
}

/// What a search did.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Explain {
    /// The LSN of the view: every write up to it was seen.
    pub lsn: u64,
    /// The plan: always "exact" for now: every matching row is scored.
    pub plan: &'static str,
    /// Parts in the order they were searched.
    pub parts: Vec<PartExplain>,
    /// True if a cold collection was promoted first.
    pub promoted: bool,
    /// Microseconds in all.
    pub total_us: u64,
}
