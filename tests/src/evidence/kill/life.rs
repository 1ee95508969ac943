//! What a writer of the kill machine does, as text that survives it, and what its rows must then
//! be. Each writer has ids of its own and makes one call after the other, so its rows after a kill
//! are those after some prefix of its calls: at least all that were acknowledged.

use std::{collections::BTreeMap, fmt::Write as _};

/// The lines that a move leaves before and after it, so that kills within one can be counted.
pub(super) const MOVING: &str = "moving\n";
pub(super) const MOVED: &str = "moved\n";

/// Ids of a writer: `writer * WRITER_IDS + n`, `n` below [`IDS`].
pub(super) const WRITER_IDS: u64 = 1000;
/// Few ids, so that most calls meet rows that earlier ones left.
pub(super) const IDS: u64 = 24;

/// A row, as far as it differs from others: its vector and metadata follow from this.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Row {
    /// Set by upserts and inserts; never twice the same in a life.
    pub(super) version: u64,
    /// Set by metadata updates; 0 when never.
    pub(super) update: u64,
}

/// The rows of one writer.
pub(super) type Rows = BTreeMap<u64, Row>;

/// One call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Op {
    Upsert(Vec<u64>, u64),
    /// Of ids that are not there.
    Insert(Vec<u64>, u64),
    /// Of ids that are there.
    Update(Vec<u64>, u64),
    Delete(Vec<u64>),
    /// By filter: all rows of the writer with a lower version.
    DeleteBelow(u64),
}

/// How durable a call was asked to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::evidence) enum Level {
    Sync,
    Interval,
    Memory,
}

/// A call as its log tells it.
#[derive(Clone, Debug)]
pub(super) struct Call {
    pub(super) op: Op,
    pub(super) level: Level,
    /// The LSN, once it was acknowledged; 0 for one that changed nothing.
    pub(super) acknowledged: Option<u64>,
}

impl Op {
    /// A call that fits the rows there are.
    pub(super) fn any(rng: &mut fastrand::Rng, writer: u64, rows: &Rows, version: u64) -> Self {
        let first = writer * WRITER_IDS;
        let there: Vec<u64> = rows.keys().copied().collect();
        let absent: Vec<u64> = (first..first + IDS).filter(|id| !rows.contains_key(id)).collect();
        let count = if rng.u8(0..3) == 0 { rng.usize(2..7) } else { 1 };
        let any: Vec<u64> = (0..IDS).map(|n| first + n).collect();
        match rng.u8(0..10) {
            0 | 1 if !absent.is_empty() => Self::Insert(pick(rng, &absent, count), version),
            2 if !there.is_empty() => Self::Update(pick(rng, &there, count), version),
            3 | 4 => Self::Delete(pick(rng, &any, count)),
            5 if rng.u8(0..4) == 0 => Self::DeleteBelow(version.saturating_sub(rng.u64(0..40))),
            _ => Self::Upsert(pick(rng, &any, count), version),
        }
    }

    /// What the rows are after it.
    pub(super) fn apply(&self, rows: &mut Rows) {
        match self {
            Self::Upsert(ids, version) | Self::Insert(ids, version) => {
                rows.extend(ids.iter().map(|id| (*id, Row { version: *version, update: 0 })));
            }
            Self::Update(ids, update) => {
                for id in ids {
                    if let Some(row) = rows.get_mut(id) {
                        row.update = *update;
                    }
                }
            }
            Self::Delete(ids) => rows.retain(|id, _| !ids.contains(id)),
            Self::DeleteBelow(version) => rows.retain(|_, row| row.version >= *version),
        }
    }

    fn text(&self) -> String {
        let (name, ids, number) = match self {
            Self::Upsert(ids, version) => ("upsert", ids.as_slice(), *version),
            Self::Insert(ids, version) => ("insert", ids.as_slice(), *version),
            Self::Update(ids, update) => ("update", ids.as_slice(), *update),
            Self::Delete(ids) => ("delete", ids.as_slice(), 0),
            Self::DeleteBelow(version) => ("below", [].as_slice(), *version),
        };
        let mut text = format!("{name} {number}");
        for id in ids {
            // Writing to a string cannot fail.
            let _ = write!(text, " {id}");
        }
        text
    }

    fn parse(text: &str) -> Option<Self> {
        let mut words = text.split(' ');
        let (name, number) = (words.next()?, words.next()?.parse().ok()?);
        let ids = words.map(|word| word.parse().ok()).collect::<Option<Vec<u64>>>()?;
        Some(match name {
            "upsert" => Self::Upsert(ids, number),
            "insert" => Self::Insert(ids, number),
            "update" => Self::Update(ids, number),
            "delete" => Self::Delete(ids),
            "below" => Self::DeleteBelow(number),
            _ => return None,
        })
    }
}

/// Some different ones.
fn pick(rng: &mut fastrand::Rng, from: &[u64], count: usize) -> Vec<u64> {
    let mut all = from.to_vec();
    rng.shuffle(&mut all);
    all.truncate(count.max(1));
    all
}

impl Level {
    pub(super) const ALL: [(&'static str, Self); 3] =
        [("sync", Self::Sync), ("interval", Self::Interval), ("memory", Self::Memory)];

    pub(super) fn name(self) -> &'static str {
        Self::ALL.iter().find(|(_, level)| *level == self).map_or("", |(name, _)| name)
    }
}

/// The line that a writer leaves before a call.
pub(super) fn invoked(op: &Op, level: Level) -> String {
    format!("? {} {}\n", level.name(), op.text())
}

/// The line after it: its LSN.
pub(super) fn acknowledged(lsn: u64) -> String {
    format!("! {lsn}\n")
}

/// Reads a writer's log. A last line that the kill cut off is as good as none.
pub(super) fn parse(text: &str) -> Result<Vec<Call>, String> {
    let mut calls: Vec<Call> = Vec::new();
    let whole = text.rfind('\n').map_or("", |end| text.get(..end).unwrap_or_default());
    for line in whole.lines() {
        let bad = || format!("a writer wrote {line:?}");
        if let Some(lsn) = line.strip_prefix("! ") {
            let call = calls.last_mut().ok_or_else(bad)?;
            call.acknowledged = Some(lsn.parse().map_err(|_| bad())?);
        } else {
            let rest = line.strip_prefix("? ").ok_or_else(bad)?;
            let (level, op) = rest.split_once(' ').ok_or_else(bad)?;
            let known = Level::ALL.iter().find(|(name, _)| *name == level);
            let level = known.ok_or_else(bad)?.1;
            calls.push(Call { op: Op::parse(op).ok_or_else(bad)?, level, acknowledged: None });
        }
    }
    Ok(calls)
}

/// Which prefixes of `calls`, made from `before` on, have led to `found`; the empty prefix is 0.
pub(super) fn prefixes(before: &Rows, calls: &[Call], found: &Rows) -> Vec<usize> {
    let mut rows = before.clone();
    let mut fitting = Vec::new();
    for length in 0..=calls.len() {
        if let Some(call) = length.checked_sub(1).and_then(|last| calls.get(last)) {
            call.op.apply(&mut rows);
        }
        if rows == *found {
            fitting.push(length);
        }
    }
    fitting
}

/// The LSN of a call that was acknowledged and changed something.
pub(super) fn changed(call: &Call) -> Option<u64> {
    call.acknowledged.filter(|lsn| *lsn > 0)
}

/// The length of the shortest prefix that keeps what was acknowledged at one of these levels.
pub(super) fn promised(calls: &[Call], survive: &[Level]) -> usize {
    let kept = |call: &Call| changed(call).is_some() && survive.contains(&call.level);
    calls.iter().rposition(kept).map_or(0, |at| at + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(op: Op, level: Level, acknowledged: Option<u64>) -> Call {
        Call { op, level, acknowledged }
    }

    #[test]
    fn a_log_reads_back_and_a_cut_line_is_ignored() {
        let op = Op::Upsert(vec![3, 5], 7);
        let text = format!("{}{}? sync del", invoked(&op, Level::Interval), acknowledged(9));
        let calls = parse(&text).unwrap();
        assert_eq!(calls.len(), 1);
        assert_eq!((&calls[0].op, calls[0].acknowledged), (&op, Some(9)));
        assert!(parse("what\n").is_err());
    }

    #[test]
    fn a_lost_call_a_half_batch_and_a_deleted_row_that_is_back_fit_no_promised_prefix() {
        let calls = [
            call(Op::Upsert(vec![1, 2], 1), Level::Sync, Some(1)),
            call(Op::Delete(vec![1]), Level::Sync, Some(2)),
            call(Op::Upsert(vec![3, 4], 2), Level::Sync, None),
        ];
        let fits = |rows: &[(u64, u64)]| {
            let found: Rows = rows
                .iter()
                .map(|(id, version)| (*id, Row { version: *version, update: 0 }))
                .collect();
            let least = promised(&calls, &[Level::Sync]);
            prefixes(&Rows::new(), &calls, &found).into_iter().any(|length| length >= least)
        };
        assert!(fits(&[(2, 1)]) && fits(&[(2, 1), (3, 2), (4, 2)]));
        assert!(!fits(&[(1, 1), (2, 1)]), "the delete was acknowledged");
        assert!(!fits(&[(2, 1), (3, 2)]), "half of a batch");
        assert!(!fits(&[]), "lost");
    }
}
