//! Why a command failed, the hint that goes with it, and the exit code. `main` prints and exits.

use akidb::{
    Cause, ErrorKind, InputError,
    tiering::{StoreError, StoreErrorKind},
    vfs::FsError,
};
use std::{io, path::PathBuf};

/// A result of a command.
pub(crate) type Result<T, E = CliError> = std::result::Result<T, E>;

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CliError {
    #[error(transparent)]
    Engine(#[from] akidb::Error),
    #[error(transparent)]
    Fs(#[from] FsError),
    /// The object store, before a database was opened on it. Boxed for its size.
    #[error(transparent)]
    Store(Box<StoreError>),
    /// Reading commands refuse to make a database where somebody mistyped a path.
    #[error("there is no database in {}", dir.display())]
    NoDatabase { dir: PathBuf },
    #[error("{} is not a file of AkiDB", file.display())]
    NotOurs { file: PathBuf },
    #[error("{} is a directory", dir.display())]
    IsDirectory { dir: PathBuf },
    /// Commands that make a database of their own never mix it into somebody's files.
    #[error("{} is not empty", dir.display())]
    NotEmpty { dir: PathBuf },
    #[error("there is no collection named {name:?}")]
    NoCollection { name: String, existing: Vec<String> },
    #[error("there is no snapshot named {name:?}")]
    NoSnapshot { name: String },
    #[error("there is no dead letter {id}")]
    NoLetter { id: u64, there: Vec<u64> },
    /// What happened to each was printed.
    #[error("{failed} of the moves failed; the collections are where they were")]
    MovesFailed { failed: u64 },
    /// The database's own directory is no store that could be asked.
    #[error("which store? None was named")]
    WhichStore,
    #[cfg(not(feature = "s3"))]
    #[error("the bucket {bucket:?} cannot be used: this akidb was built without S3")]
    NoS3 { bucket: String },
    #[error("there is no row {id:?} in collection {collection:?}")]
    NoRow { id: String, collection: String },
    #[error("{} of {asked} rows do not exist: {}", missing.len(), missing.join(", "))]
    MissingRows { missing: Vec<String>, asked: usize },
    #[error("collection {collection:?} measures by {found}, not by {asked}")]
    OtherMetric { collection: String, found: String, asked: String },
    #[error("collection {collection:?} is in {}", named(found.as_deref()))]
    OtherNamespace { collection: String, found: Option<String> },
    #[error("{} does not hold a vector: {detail}", file.display())]
    VectorFile { file: PathBuf, detail: String },
    #[error("{} holds no rows", file.display())]
    NoRows { file: PathBuf },
    #[error("the vectors of {} have {found} numbers, those of the data have {expected}", file.display())]
    QueryDimension { file: PathBuf, expected: u32, found: u32 },
    #[error("cannot write {}: {detail}", file.display())]
    WriteFile { file: PathBuf, detail: String },
    /// Everything that could be read of them was printed.
    #[error("{damaged} of {of} files of the log are damaged")]
    DamagedFiles { damaged: usize, of: usize },
    /// The demo or a benchmark looked at its own result and it was wrong.
    #[error("a check failed: {detail}")]
    Check { detail: String },
    #[error("the child process {what}: {source}")]
    Child { what: &'static str, source: io::Error },
    #[error("cannot print: {0}")]
    Output(#[source] io::Error),
    #[error("cannot make a temporary directory: {0}")]
    TempDir(#[source] io::Error),
    #[error("cannot start a thread: {0}")]
    Thread(#[source] io::Error),
}

impl CliError {
    /// A word for machines, stable across versions.
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Self::Engine(error) => match error.kind() {
                ErrorKind::InvalidInput => "invalid_input",
                ErrorKind::NotFound => "not_found",
                ErrorKind::AlreadyExists => "already_exists",
                ErrorKind::Locked => "locked",
                ErrorKind::Unavailable => "unavailable",
                ErrorKind::NoSpace => "no_space",
                ErrorKind::Reopen => "reopen",
                ErrorKind::Corruption => "corruption",
                ErrorKind::Incompatible => "incompatible",
                ErrorKind::PermissionDenied => "permission_denied",
                ErrorKind::QuotaExceeded => "quota_exceeded",
                ErrorKind::Closed => "closed",
                _ => "bug",
            },
            Self::Store(error) => match error.kind {
                StoreErrorKind::PermissionDenied => "permission_denied",
                StoreErrorKind::NotFound => "not_found",
                StoreErrorKind::Misconfigured | StoreErrorKind::Unsupported => "invalid_input",
                StoreErrorKind::Corrupt => "corruption",
                _ => "unavailable",
            },
            Self::Fs(_) | Self::TempDir(_) | Self::WriteFile { .. } => "io",
            Self::NoDatabase { .. } | Self::NoCollection { .. } => "not_found",
            Self::NoSnapshot { .. } => "not_found",
            Self::NoRow { .. } | Self::MissingRows { .. } | Self::NoLetter { .. } => "not_found",
            Self::MovesFailed { .. } => "unavailable",
            Self::WhichStore => "invalid_input",
            #[cfg(not(feature = "s3"))]
            Self::NoS3 { .. } => "invalid_input",
            Self::NotEmpty { .. } => "already_exists",
            Self::NotOurs { .. } => "incompatible",
            Self::IsDirectory { .. }
            | Self::OtherMetric { .. }
            | Self::OtherNamespace { .. }
            | Self::VectorFile { .. }
            | Self::NoRows { .. }
            | Self::QueryDimension { .. } => "invalid_input",
            Self::DamagedFiles { .. } => "corruption",
            Self::Check { .. } => "check_failed",
            Self::Child { .. } | Self::Thread(_) => "unavailable",
            Self::Output(_) => "output",
        }
    }

    /// What the command ends with: a script can tell a refusal by a limit from a failure.
    pub(crate) fn exit_code(&self) -> u8 {
        match self {
            Self::Engine(error) if error.kind() == ErrorKind::QuotaExceeded => 5,
            _ => 1,
        }
    }

    /// What to do about it, if there is something that the message does not say.
    pub(crate) fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::NoDatabase { dir } => {
                let dir = dir.display();
                format!("`akidb ingest --dir {dir} --collection NAME --data FILE` makes one")
            }
            Self::NotEmpty { .. } => "give a new or empty directory".to_owned(),
            Self::NotOurs { .. } => {
                "inspect knows WAL files, manifests, segments, tombstone files and cold objects; \
                 LOCK is a line of text, for people"
                    .to_owned()
            }
            Self::IsDirectory { dir } => {
                let dir = dir.display();
                format!("give a file in it, or describe the database: akidb stats --dir {dir}")
            }
            Self::NoCollection { existing, .. } if existing.is_empty() => {
                "the database has no collections; `akidb ingest` makes one".to_owned()
            }
            Self::NoCollection { name, existing } => match nearest(name, existing) {
                Some(near) => format!("did you mean {near:?}? There are: {}", existing.join(", ")),
                None => format!("there are: {}", existing.join(", ")),
            },
            Self::NoRow { .. } | Self::MissingRows { .. } => {
                "ids are compared exactly: capitals, hyphens and leading zeros count".to_owned()
            }
            Self::NoSnapshot { .. } => SNAPSHOT_NAMES.to_owned(),
            Self::NoLetter { there, .. } if there.is_empty() => "no move was given up".to_owned(),
            Self::NoLetter { there, .. } => {
                let there: Vec<String> = there.iter().map(u64::to_string).collect();
                format!("there are: {}", there.join(", "))
            }
            Self::MovesFailed { .. } => {
                "`akidb store check` says whether the store can be used".to_owned()
            }
            Self::WhichStore => "give --store file:DIR or --store s3://BUCKET/PREFIX".to_owned(),
            #[cfg(not(feature = "s3"))]
            Self::NoS3 { .. } => {
                "build it with S3: cargo build --release -p akidb-cli --features s3".to_owned()
            }
            Self::OtherMetric { .. } => {
                "leave --metric out, or ingest into another collection".to_owned()
            }
            Self::OtherNamespace { .. } => {
                "leave --namespace out: a collection keeps the one that it was made in".to_owned()
            }
            Self::VectorFile { .. } => {
                "give a JSON array of numbers (.json) or raw little-endian floats (.f32)".to_owned()
            }
            Self::DamagedFiles { .. } => {
                "`akidb verify` says what of it matters; an end that was never synced is no loss"
                    .to_owned()
            }
            Self::Fs(error) if error.is_not_found() => "check the path".to_owned(),
            Self::Fs(error) if error.kind() == io::ErrorKind::NotADirectory => {
                "give the directory of a database, or a new one".to_owned()
            }
            Self::Engine(error) => return engine_hint(error),
            _ => return None,
        };
        Some(hint)
    }
}

const SNAPSHOT_NAMES: &str = "`akidb snapshot list` names those that exist";

fn named(namespace: Option<&str>) -> String {
    namespace.map_or_else(|| "no namespace".to_owned(), |name| format!("namespace {name:?}"))
}

/// What makes room, and the option that gives more.
fn quota_hint(namespace: Option<&str>, what: &str) -> String {
    let (room, option) = match what {
        "collections" => ("drop a collection", "collections-max"),
        "memory_bytes" => ("wait until memtables are flushed", "memory-max"),
        _ => ("delete rows or snapshots and compact", "storage-max"),
    };
    let group = if namespace.is_some() { "namespace-" } else { "" };
    format!("{room}, or raise --{group}{option}; `akidb stats` shows what is taken")
}

fn engine_hint(error: &akidb::Error) -> Option<String> {
    if let Cause::QuotaExceeded { namespace, what, .. } = error.cause() {
        return Some(quota_hint(namespace.as_deref(), what));
    }
    let hint = match error.cause() {
        Cause::Input(InputError::Import { .. }) => {
            "the file must be Parquet with a column of ids and one of vectors; --id-column and \
             --vector-column name them"
        }
        Cause::Input(InputError::FilterType { .. }) => {
            "`akidb stats --json` shows the types of the indexed fields"
        }
        Cause::Pinned { .. } => "`akidb tier unpin` lets it become cold",
        Cause::SnapshotNotFound { .. } => SNAPSHOT_NAMES,
        Cause::Store(error) if error.kind == StoreErrorKind::NotFound => {
            "is it the store that the collection was moved to? See --store, and AKIDB_STORE"
        }
        Cause::Store(_) => "`akidb store check` says whether the store can be used",
        _ => return None,
    };
    Some(hint.to_owned())
}

/// The existing name that differs from `name` by the fewest edits, if that is few.
fn nearest<'a>(name: &str, existing: &'a [String]) -> Option<&'a str> {
    let (distance, near) =
        existing.iter().map(|other| (edits(name, other), other)).min_by_key(|(edits, _)| *edits)?;
    (distance * 2 <= name.chars().count()).then_some(near)
}

/// Levenshtein distance, one row at a time.
fn edits(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.chars().enumerate() {
        let mut diagonal = i;
        let mut left = i + 1;
        for (to, cell) in b.iter().zip(row.iter_mut().skip(1)) {
            let replaced = diagonal + usize::from(from != *to);
            diagonal = *cell;
            left = replaced.min(*cell + 1).min(left + 1);
            *cell = left;
        }
        if let Some(first) = row.first_mut() {
            *first = i + 1;
        }
    }
    row.last().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn edits_count_inserts_removals_and_replacements() {
        assert_eq!(edits("", ""), 0);
        assert_eq!(edits("docs", "docs"), 0);
        assert_eq!(edits("docs", "doc"), 1);
        assert_eq!(edits("doc", "docs"), 1);
        assert_eq!(edits("kitten", "sitting"), 3);
        assert_eq!(edits("", "abc"), 3);
    }

    #[test]
    fn a_typo_gets_the_name_that_was_meant() {
        let existing = ["docs".to_owned(), "images".to_owned()];
        let hint = |name: &str| {
            let name = name.to_owned();
            CliError::NoCollection { name, existing: existing.to_vec() }.hint().unwrap()
        };
        assert!(hint("dosc").contains("did you mean \"docs\"?"));
        assert!(hint("imagse").contains("did you mean \"images\"?"));
        assert_eq!(hint("people"), "there are: docs, images");
    }
}
