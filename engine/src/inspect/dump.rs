//! The log frame by frame, over all its files: for operators, and for `akidb wal dump`. Reads
//! damaged files as far as they go, judges nothing, changes nothing. Whether the log as a whole
//! can be recovered is what [`crate::Verify`] says.

#![deny(clippy::indexing_slicing)]

use super::{describe_log_record, number_in};
use crate::{
    PointId,
    commit::payload::{self, LogRecord},
    db::paths::Paths,
    error::{Cause, Error, Result},
};
use akidb_vfs::{EntryKind, Fs};
use akidb_wal::{
    FrameKind, WAL_KIND, WalError,
    framed::{FrameStatus, FramedFile, Salvaged},
};
use serde::Serialize;
use serde_json::Value;
use std::{
    fmt,
    path::{Path, PathBuf},
};

/// What of the log is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WalDump {
    /// The first LSN.
    pub from: u64,
    /// The last LSN.
    pub to: u64,
    /// Every id, with its metadata; else a summary of each batch.
    pub rows: bool,
}

impl Default for WalDump {
    fn default() -> Self {
        Self { from: 0, to: u64::MAX, rows: false }
    }
}

/// A WAL file, frame by frame.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct WalFileDump {
    /// The file.
    pub file: PathBuf,
    /// Its length.
    pub bytes: u64,
    /// Its number.
    pub number: u64,
    /// The first LSN that it holds, or will; `None` if its header cannot be read.
    pub first_lsn: Option<u64>,
    /// The number of the file before it; `None` for the first.
    pub follows: Option<u64>,
    /// The number of the file whose place it took.
    pub replaces: Option<u64>,
    /// Its frames and bad places, in file order.
    pub frames: Vec<WalFrame>,
    /// What is wrong with the file as a whole.
    pub problems: Vec<String>,
}

/// A frame of the log, or a bad place.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct WalFrame {
    /// Where it begins, in bytes.
    pub offset: u64,
    /// "data", "seal" or "damaged".
    pub kind: &'static str,
    /// Its LSN; that of the batch before it for a seal, `None` for a bad place.
    pub lsn: Option<u64>,
    /// The bytes of its body, or of the bad place.
    pub bytes: u64,
    /// The offset up to which the file was durable when the frame was written.
    pub durable_end: Option<u64>,
    /// What the batch does, or what is wrong.
    pub text: String,
    /// Its rows, if they were asked for.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub rows: Vec<WalRow>,
}

/// A row of a batch.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct WalRow {
    /// The id.
    pub id: PointId,
    /// The metadata that was written; `None` if the row was deleted.
    pub metadata: Option<Value>,
}

impl WalFileDump {
    /// True if every byte of the file is as it was written.
    pub fn is_whole(&self) -> bool {
        self.problems.is_empty() && self.frames.iter().all(|frame| frame.kind != "damaged")
    }
}

/// Describes a WAL file, or all of a database or of its directory `wal`, in order.
///
/// ```
/// use akidb::{Metric, Point, Schema, WalDump, blocking::Db, dump_wal, vfs::RealFs};
/// # let dir = tempfile::tempdir().unwrap();
/// let db = Db::open(dir.path())?;
/// let docs = db.create_collection("docs", Schema::new(2, Metric::Dot))?;
/// docs.upsert([Point::new("a", [1.0, 0.0])]).run()?;
/// db.close()?;
/// let files = dump_wal(&RealFs, dir.path(), &WalDump { rows: true, ..WalDump::default() })?;
/// assert_eq!(files[0].frames[0].rows[0].id, "a".into());
/// # Ok::<(), akidb::Error>(())
/// ```
///
/// # Errors
/// `NotFound` if there is no such file or no log; `Incompatible` for a file of a newer version;
/// errors of reading. Damage is part of the answer.
pub fn dump_wal(fs: &dyn Fs, path: &Path, wanted: &WalDump) -> Result<Vec<WalFileDump>> {
    if fs.metadata(path).map_err(Error::opening)?.kind != EntryKind::Dir {
        return Ok(vec![file(fs, path, wanted)?]);
    }
    let wal = Paths::new(path).wal;
    let dir = if is_dir(fs, &wal) { wal } else { path.to_owned() };
    let mut files: Vec<PathBuf> = fs
        .list_dir(&dir)?
        .into_iter()
        .filter(|entry| entry.name.to_str().is_some_and(|name| name.ends_with(".wal")))
        .map(|entry| dir.join(entry.name))
        .collect();
    if files.is_empty() {
        return Err(Cause::NoDatabase { dir: path.to_owned() }.into());
    }
    // Names sort as their numbers do.
    files.sort_unstable();
    let mut dumps = Vec::new();
    for path in files {
        match file(fs, &path, wanted) {
            Ok(dump) => dumps.push(dump),
            // Beside an open database the oldest file may go while the log is read.
            Err(error) if error.kind() == crate::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    Ok(dumps)
}

fn is_dir(fs: &dyn Fs, path: &Path) -> bool {
    fs.metadata(path).is_ok_and(|meta| meta.kind == EntryKind::Dir)
}

fn file(fs: &dyn Fs, path: &Path, wanted: &WalDump) -> Result<WalFileDump> {
    let bytes = fs.metadata(path).map_err(Error::opening)?.len;
    let number = number_in(path);
    let mut dump = WalFileDump {
        file: path.to_owned(),
        bytes,
        number,
        first_lsn: None,
        follows: None,
        replaces: None,
        frames: Vec::new(),
        problems: Vec::new(),
    };
    let salvaged = FramedFile::salvage(fs, path, WAL_KIND, number);
    let Salvaged { file, problem, headless } = match salvaged {
        Ok(salvaged) => salvaged,
        Err(error @ (WalError::Corruption { .. } | WalError::Foreign { .. })) => {
            dump.problems.push(error.to_string());
            return Ok(dump);
        }
        Err(WalError::Fs(error)) => return Err(Error::opening(error)),
        Err(error) => return Err(error.into()),
    };
    let header = file.header();
    dump.number = header.number;
    if !headless {
        dump.first_lsn = Some(header.first_seq);
        dump.follows = header.predecessor.map(|before| before.number);
        dump.replaces = header.replaces;
    }
    dump.problems.extend(problem.map(|problem| problem.to_string()));
    for info in file.inspect() {
        let offset = info.offset;
        dump.frames.extend(match info.status {
            FrameStatus::Good { kind, seq, payload_len, durable_end } => {
                let wanted_lsn = (wanted.from..=wanted.to).contains(&seq);
                let body = file.payload(&info).unwrap_or_default();
                wanted_lsn.then(|| WalFrame {
                    offset,
                    kind: if kind == FrameKind::Seal { "seal" } else { "data" },
                    lsn: Some(seq),
                    bytes: payload_len.into(),
                    durable_end: Some(durable_end),
                    text: match kind {
                        FrameKind::Seal => "all before it is durable".to_owned(),
                        FrameKind::Data => describe_log_record(body),
                    },
                    rows: if wanted.rows { rows_of(body) } else { Vec::new() },
                })
            }
            FrameStatus::Bad { defect, bytes } => Some(WalFrame {
                offset,
                kind: "damaged",
                lsn: None,
                bytes,
                durable_end: None,
                text: defect.to_string(),
                rows: Vec::new(),
            }),
        });
    }
    Ok(dump)
}

fn rows_of(body: &[u8]) -> Vec<WalRow> {
    match payload::decode(body) {
        Ok(LogRecord::Upsert { rows, .. }) => rows
            .into_iter()
            .map(|row| WalRow {
                id: row.id,
                metadata: Some(serde_json::from_slice(&row.metadata).unwrap_or_default()),
            })
            .collect(),
        Ok(LogRecord::Delete { ids, .. }) => {
            ids.into_iter().map(|id| WalRow { id, metadata: None }).collect()
        }
        // The frame's own line says what is wrong.
        Err(_) => Vec::new(),
    }
}

impl fmt::Display for WalFileDump {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {} bytes", self.file.display(), self.bytes)?;
        if let Some(first) = self.first_lsn {
            write!(f, ", from LSN {first}")?;
        }
        if let Some(number) = self.follows {
            write!(f, ", follows file {number}")?;
        }
        if let Some(number) = self.replaces {
            write!(f, ", replaces file {number}")?;
        }
        for problem in &self.problems {
            write!(f, "\n  DAMAGED: {problem}")?;
        }
        for frame in &self.frames {
            write!(f, "\n  {frame}")?;
        }
        Ok(())
    }
}

impl fmt::Display for WalFrame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { offset, bytes, text, .. } = self;
        match (self.lsn, self.durable_end) {
            (Some(lsn), Some(durable)) => {
                let kind = self.kind;
                write!(f, "offset {offset:>9}  {kind}  LSN {lsn:>8}  {bytes:>8} bytes  ")?;
                write!(f, "durable to {durable:>9}  {text}")?;
            }
            _ => write!(f, "offset {offset:>9}  DAMAGED: {bytes} bytes: {text}")?,
        }
        for row in &self.rows {
            match &row.metadata {
                Some(metadata) => write!(f, "\n      {}  {metadata}", row.id)?,
                None => write!(f, "\n      {}  deleted", row.id)?,
            }
        }
        Ok(())
    }
}
