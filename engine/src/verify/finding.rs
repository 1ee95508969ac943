//! What a verification says: plain data, for people and for machines.

use crate::error::{Cause, Error};
use akidb_wal::WalError;
use serde::Serialize;
use std::{fmt, path::PathBuf};

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// Worth knowing; nothing is wrong. Leftovers of a crash, files of somebody else.
    Note,
    /// Damage that costs no row: what was lost follows from what is whole.
    Damage,
    /// Damage that may cost rows whose writes were acknowledged.
    Loss,
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Note => "note",
            Self::Damage => "damage",
            Self::Loss => "LOSS",
        })
    }
}

/// What a finding is about. The words of the JSON form are stable.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum FindingKind {
    /// No manifest, though there are files of a database.
    ManifestMissing,
    /// The newest manifest cannot be read, or contradicts itself.
    ManifestDamaged,
    /// A WAL file is damaged, missing, or does not follow the one before it.
    LogDamaged,
    /// The log ends in a write that was never acknowledged as synced; the next open cuts it.
    LogTornTail,
    /// A segment that the manifest names is not there.
    SegmentMissing,
    /// Rows of a segment are damaged, or its structure is.
    SegmentDamaged,
    /// An index or another part of a segment that follows from its rows is damaged.
    IndexDamaged,
    /// A tombstone file that the manifest names is not there.
    TombstonesMissing,
    /// A tombstone file is damaged.
    TombstonesDamaged,
    /// A cold object or snapshot that the manifest names is not in the store.
    ObjectMissing,
    /// A cold object or snapshot is not what was put.
    ObjectDamaged,
    /// The journal of uploads or the dead letters are damaged. No row is in them.
    NotesDamaged,
    /// Parts whose checksums are right contradict each other: a bug of AkiDB or bad memory.
    Contradiction,
    /// A file that nothing names; it is never read and never deleted.
    UnknownFile,
    /// What a crash left half made; the next open removes it or goes around it.
    Leftover,
}

impl FindingKind {
    /// What to do about it.
    pub fn advice(self) -> &'static str {
        match self {
            Self::LogTornTail | Self::Leftover => "nothing: the next open deals with it",
            Self::UnknownFile => "look whose it is; AkiDB does not need it",
            Self::IndexDamaged => {
                "run `akidb repair --plan`: it follows from the rows and can be rebuilt"
            }
            Self::NotesDamaged => {
                "run `akidb repair --plan`, or remove the file while the database is closed"
            }
            Self::Contradiction => "keep a copy of the directory and report it",
            Self::ObjectMissing | Self::ObjectDamaged => {
                "restore the object from a copy of the store, or run `akidb repair --plan`"
            }
            _ => "restore the file from a copy, or run `akidb repair --plan`",
        }
    }
}

/// One thing that is wrong, or worth knowing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Finding {
    /// How bad it is.
    pub severity: Severity,
    /// What it is about.
    pub kind: FindingKind,
    /// The file, or the key of an object.
    pub file: PathBuf,
    /// The first bad byte, where there is one.
    pub offset: Option<u64>,
    /// What is wrong.
    pub detail: String,
    /// The collection it belongs to, if it belongs to one.
    pub collection: Option<String>,
    /// The most rows that it may cost, where that is known.
    pub rows: Option<u64>,
    /// The first and the last LSN that it may cost, where that is known.
    pub lsns: Option<(u64, u64)>,
    /// What to do.
    pub advice: &'static str,
}

impl Finding {
    pub(crate) fn new(
        severity: Severity,
        kind: FindingKind,
        file: impl Into<PathBuf>,
        detail: impl Into<String>,
    ) -> Self {
        Self {
            severity,
            kind,
            file: file.into(),
            offset: None,
            detail: detail.into(),
            collection: None,
            rows: None,
            lsns: None,
            advice: kind.advice(),
        }
    }

    /// Damage that an error names.
    ///
    /// # Errors
    /// The error itself if it speaks of anything else: a failed call, a newer version.
    pub(crate) fn of(severity: Severity, kind: FindingKind, error: Error) -> Result<Self, Error> {
        let Some((file, offset, detail)) = place_of(&error) else { return Err(error) };
        Ok(Self { offset, ..Self::new(severity, kind, file, detail) })
    }

    pub(crate) fn costing(mut self, rows: u64, lsns: Option<(u64, u64)>) -> Self {
        self.rows = Some(rows);
        self.lsns = lsns;
        self
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.severity, self.file.display())?;
        if let Some(offset) = self.offset {
            write!(f, " at offset {offset}")?;
        }
        write!(f, ": {}", self.detail)?;
        if let Some(collection) = &self.collection {
            write!(f, "; collection {collection:?}")?;
        }
        if let Some(rows) = self.rows {
            write!(f, "; at most {rows} rows")?;
        }
        if let Some((first, last)) = self.lsns {
            write!(f, "; LSN {first} to {last}")?;
        }
        Ok(())
    }
}

/// Where an error says that stored bytes are damaged; `None` for any other error.
pub(crate) fn place_of(error: &Error) -> Option<(PathBuf, Option<u64>, String)> {
    match error.cause() {
        Cause::Corruption { file, offset, detail } => {
            Some((file.clone(), Some(*offset), detail.clone()))
        }
        Cause::HalfDeleted { dir, missing } => {
            Some((dir.clone(), None, format!("it misses {missing}")))
        }
        Cause::Wal(error) => wal_place_of(error),
        _ => None,
    }
}

fn wal_place_of(error: &WalError) -> Option<(PathBuf, Option<u64>, String)> {
    match error {
        WalError::Corruption { file, offset, detail } => {
            Some((file.clone(), Some(*offset), detail.to_string()))
        }
        WalError::Foreign { file, kind } => {
            Some((file.clone(), Some(0), format!("this is not a {kind} of AkiDB")))
        }
        _ => None,
    }
}
