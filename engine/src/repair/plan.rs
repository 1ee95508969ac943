//! What a repair does and what it costs: plain data, for people and for machines.

use crate::{PointId, verify::Finding};
use serde::Serialize;
use std::{fmt, path::PathBuf};

/// What kind of thing is lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum LossKind {
    /// Rows of a segment or of a cold object.
    Rows,
    /// Batches of the log that nobody can read.
    UnreadableWrites,
    /// Batches of the log that can be read and are given up because others before them cannot:
    /// what remains is what was there at one moment. `salvage_after_damage` keeps them.
    GivenUpWrites,
    /// Nothing that is known to be lost, and nobody can say that all is as it was: rows that were
    /// deleted or replaced may be back.
    Uncertain,
    /// A snapshot.
    Snapshot,
    /// The name and the settings of a collection.
    Name,
}

/// Something that a repair cannot bring back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Loss {
    /// What it is.
    pub kind: LossKind,
    /// The collections that it may concern.
    pub collections: Vec<String>,
    /// The file that held it, or should have.
    pub file: PathBuf,
    /// How many rows, at most; `None` if nothing tells.
    pub rows: Option<u64>,
    /// Those of the rows whose ids are known, in the order of the file.
    pub ids: Vec<PointId>,
    /// The first and the last LSN of the writes concerned, where that is known.
    pub lsns: Option<(u64, u64)>,
    /// In words.
    pub detail: String,
}

impl Loss {
    /// Rows of a collection that a file had; what is known of them is to be filled in.
    pub(super) fn of_rows(collection: &str, file: PathBuf) -> Self {
        Self {
            kind: LossKind::Rows,
            collections: vec![collection.to_owned()],
            file,
            rows: None,
            ids: Vec::new(),
            lsns: None,
            detail: String::new(),
        }
    }
}

impl fmt::Display for Loss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.file.display(), self.detail)?;
        if !self.collections.is_empty() {
            write!(f, "; concerns {}", self.collections.join(", "))?;
        }
        if let Some(rows) = self.rows {
            write!(f, "; {rows} rows at most")?;
        }
        if let Some((first, last)) = self.lsns {
            write!(f, "; LSN {first} to {last}")?;
        }
        write_ids(f, &self.ids)
    }
}

/// Rows of damaged or lost files that another file still has, and that are served again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Saved {
    /// Their collection.
    pub collection: String,
    /// Where they were read: a file of the log, or what is whole of a cold object.
    pub from: PathBuf,
    /// How many.
    pub rows: u64,
    /// Their ids, if they come from the log.
    pub ids: Vec<PointId>,
    /// The lowest and the highest LSN of their writes.
    pub lsns: (u64, u64),
}

impl fmt::Display for Saved {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { collection, from, rows, ids, lsns: (first, last) } = self;
        write!(f, "{}: {rows} rows of {collection}; LSN {first} to {last}", from.display())?;
        write_ids(f, ids)
    }
}

fn write_ids(f: &mut fmt::Formatter<'_>, ids: &[PointId]) -> fmt::Result {
    /// More ids than this are for the JSON form.
    const SHOWN: usize = 10;
    if ids.is_empty() {
        return Ok(());
    }
    let shown: Vec<_> = ids.iter().take(SHOWN).map(ToString::to_string).collect();
    let more = if ids.len() > SHOWN { ", ..." } else { "" };
    write!(f, "; ids {}{more}", shown.join(", "))
}

/// What is done to a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum RepairAction {
    /// A new file is written.
    Write,
    /// The file is moved to where the damaged ones are kept.
    Keep,
    /// The manifest does not name it any more.
    Forget,
}

/// A step of a repair.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct RepairStep {
    /// What is done.
    pub action: RepairAction,
    /// To which file or object.
    pub file: PathBuf,
    /// What for.
    pub detail: String,
}

impl fmt::Display for RepairStep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let action = match self.action {
            RepairAction::Write => "write",
            RepairAction::Keep => "move aside",
            RepairAction::Forget => "forget",
        };
        write!(f, "{action} {}: {}", self.file.display(), self.detail)
    }
}

/// What a repair would do, or did.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct RepairPlan {
    /// What verification found before.
    pub findings: Vec<Finding>,
    /// What is done, in order. Empty if the database is sound.
    pub steps: Vec<RepairStep>,
    /// Rows that the damage took and that other files gave back.
    pub saved: Vec<Saved>,
    /// What cannot be brought back.
    pub losses: Vec<Loss>,
    /// Damage that verification still finds afterwards: this repair cannot help there.
    pub remaining: Vec<Finding>,
    /// True if it was done.
    pub applied: bool,
    /// Where the files that were moved are, with `report.json`, which says what this says.
    pub kept_in: Option<PathBuf>,
}

impl RepairPlan {
    /// True if there is nothing to repair.
    pub fn is_empty(&self) -> bool {
        self.steps.is_empty() && self.remaining.is_empty()
    }
}
