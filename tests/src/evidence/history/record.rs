//! What the clients of the history machine note: calls, what they were told, and between which
//! moments. Read by the two checkers; knows no database.

use std::collections::BTreeMap;

/// A row, as far as it differs from others: its vector and metadata follow from this.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Row {
    /// Set by upserts and inserts; never twice the same in a history.
    pub(super) version: u64,
    /// Set by metadata updates; 0 when never.
    pub(super) update: u64,
}

/// What a key has: no row, or this one.
pub(super) type Value = Option<Row>;

/// All rows by key.
pub(super) type Rows = BTreeMap<u64, Row>;

/// What was asked of a key. The numbers are new in every call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Action {
    Get,
    Upsert(u64),
    /// Only if there is no row.
    Insert(u64),
    /// Only if there is a row.
    Update(u64),
    Delete,
}

/// What was told, for one key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    Done,
    /// There was a row already (`Insert`), or none (`Update`); nothing was changed.
    Refused,
    /// To a `Get`.
    Found(Value),
    /// An error that leaves open whether it was done, or no answer.
    Unknown,
}

impl Action {
    /// What the key has after this was done and so answered, if it had `value` before; `None` if
    /// that is impossible.
    pub(super) fn step(self, answer: Answer, value: Value) -> Option<Value> {
        match (self, answer) {
            (Self::Get, Answer::Found(found)) => (found == value).then_some(value),
            (Self::Insert(_), Answer::Refused) => value.is_some().then_some(value),
            (Self::Update(_), Answer::Refused) => value.is_none().then_some(value),
            (Self::Insert(_), Answer::Done) if value.is_some() => None,
            (Self::Update(_), Answer::Done) if value.is_none() => None,
            (Self::Get, _) | (_, Answer::Refused | Answer::Found(_)) => None,
            _ => Some(self.effect(value)),
        }
    }

    /// What the key has after the action.
    fn effect(self, value: Value) -> Value {
        match self {
            Self::Get => value,
            Self::Upsert(version) => Some(Row { version, update: 0 }),
            Self::Insert(version) => value.or(Some(Row { version, update: 0 })),
            Self::Update(update) => value.map(|row| Row { update, ..row }),
            Self::Delete => None,
        }
    }
}

/// One call on one or more keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Call {
    pub(super) client: usize,
    pub(super) action: Action,
    /// The keys, none twice, each with its answer.
    pub(super) keys: Vec<(u64, Answer)>,
    /// The moment before the call; no two moments of a history are the same.
    pub(super) invoked: u64,
    /// The moment after it; `None` for a call of unknown outcome, which may take effect at any
    /// time after its invocation.
    pub(super) returned: Option<u64>,
    /// Of a write that was acknowledged.
    pub(super) receipt: Option<Told>,
}

/// What a receipt said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Told {
    pub(super) lsn: u64,
    pub(super) level: Level,
}

/// The level that was reached, the weakest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Level {
    Memory,
    Interval,
    Sync,
}

impl Call {
    /// What was told about a key of the call.
    pub(super) fn answer(&self, key: u64) -> Option<Answer> {
        self.keys.iter().find(|(of, _)| *of == key).map(|(_, answer)| *answer)
    }

    /// A write whose client cannot know whether it was done.
    pub(super) fn is_unknown(&self) -> bool {
        self.returned.is_none()
    }
}
