//! What a file of ours says, in words, without a database: for operators and for `akidb inspect`.
//! It reads and never repairs; damage is part of the answer where the structure still stands.

#![deny(clippy::indexing_slicing)]

mod dump;

pub use dump::{WalDump, WalFileDump, WalFrame, WalRow, dump_wal};

use crate::{
    commit::payload::{self, LogRecord},
    error::{Cause, Error, Result},
    manifest, segment, tombstones,
};
use akidb_vfs::{Fs, OpenMode};
use akidb_wal::{
    FrameKind, WAL_KIND,
    framed::{FileKind, FrameStatus, FramedFile, Salvaged},
};
use serde::Serialize;
use serde_json::Value;
use std::{
    fmt,
    path::{Path, PathBuf},
};

/// A description of one file.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct FileReport {
    /// The file.
    pub file: PathBuf,
    /// "WAL file", "manifest", "segment", "tombstone file" or "cold object".
    pub kind: &'static str,
    /// Its length.
    pub bytes: u64,
    /// What its header and footer say; the keys depend on the kind.
    pub facts: Value,
    /// One line per frame, block or bitmap, in file order.
    pub entries: Vec<String>,
    /// Damage that was found, with its offset.
    pub problems: Vec<String>,
}

impl fmt::Display for FileReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}: a {} of {} bytes", self.file.display(), self.kind, self.bytes)?;
        if let Value::Object(facts) = &self.facts {
            for (key, value) in facts {
                match value {
                    Value::String(text) => writeln!(f, "  {key}: {text}")?,
                    other => writeln!(f, "  {key}: {other}")?,
                }
            }
        }
        for entry in &self.entries {
            writeln!(f, "  {entry}")?;
        }
        for problem in &self.problems {
            writeln!(f, "  DAMAGED: {problem}")?;
        }
        Ok(())
    }
}

/// Describes a WAL file, manifest, segment, tombstone file or cold object.
///
/// # Errors
/// `NotFound` if there is no such file; `Incompatible` if it is none of these or of a newer
/// version; `Corruption` if so much of it is damaged that nothing can be said; errors of reading.
///
/// ```
/// use akidb::{Metric, Schema, blocking::Db, inspect, vfs::RealFs};
/// # let dir = tempfile::tempdir().unwrap();
/// let db = Db::open(dir.path())?;
/// db.create_collection("docs", Schema::new(4, Metric::Dot))?;
/// db.close()?;
/// let report = inspect(&RealFs, &dir.path().join("MANIFEST-000000000001"))?;
/// assert_eq!(report.kind, "manifest");
/// # Ok::<(), akidb::Error>(())
/// ```
pub fn inspect(fs: &dyn Fs, path: &Path) -> Result<FileReport> {
    let file = fs.open(path, OpenMode::Read).map_err(Error::opening)?;
    let bytes = file.len()?;
    let mut magic = [0; 8];
    let n = usize::try_from(bytes.min(8)).unwrap_or(8);
    if let Some(start) = magic.get_mut(..n) {
        file.read_exact_at(start, 0)?;
    }
    let report = |kind, facts| FileReport {
        file: path.to_owned(),
        kind,
        bytes,
        facts,
        entries: Vec::new(),
        problems: Vec::new(),
    };
    if magic == WAL_KIND.magic {
        framed(fs, path, WAL_KIND, report("WAL file", Value::Null), describe_log_record)
    } else if magic == manifest::KIND.magic {
        framed(fs, path, manifest::KIND, report("manifest", Value::Null), describe_manifest_record)
    } else if magic == segment::MAGIC {
        let facts = to_value(&segment::describe(fs, path)?);
        Ok(blocks(report("segment", facts)))
    } else if magic == tombstones::MAGIC {
        Ok(report("tombstone file", to_value(&tombstones::describe(fs, path)?)))
    } else if magic.starts_with(b"PAR1") {
        let facts = crate::cold::describe(fs, path)?;
        Ok(report("cold object", facts))
    } else {
        Err(Cause::UnknownFile { file: path.to_owned() }.into())
    }
}

fn to_value(description: &impl Serialize) -> Value {
    serde_json::to_value(description).unwrap_or_default()
}

/// Turns the block table of a segment into lines, so that people need not read JSON.
fn blocks(mut report: FileReport) -> FileReport {
    let Value::Object(facts) = &mut report.facts else { return report };
    let Some(Value::Array(blocks)) = facts.remove("blocks") else { return report };
    for block in blocks {
        let text = |key: &str| match block.get(key) {
            Some(Value::String(text)) => text.clone(),
            Some(value) => value.to_string(),
            None => String::new(),
        };
        let name = [text("kind"), text("name")].join(" ");
        report.entries.push(format!(
            "block {:<24} offset {:>10}  {:>10} bytes  {:>8} items",
            name.trim_end(),
            text("offset"),
            text("bytes"),
            text("items"),
        ));
        if block.get("damaged_at").is_some_and(|at| !at.is_null()) {
            report.problems.push(format!("block {} at offset {}", name, text("damaged_at")));
        }
    }
    report
}

fn framed(
    fs: &dyn Fs,
    path: &Path,
    kind: FileKind,
    mut report: FileReport,
    describe: fn(&[u8]) -> String,
) -> Result<FileReport> {
    let Salvaged { file, problem, .. } = FramedFile::salvage(fs, path, kind, number_in(path))?;
    report.problems.extend(problem.map(|problem| problem.to_string()));
    let header = file.header();
    report.facts = serde_json::json!({
        "version": header.version,
        "number": header.number,
        "first": header.first_seq,
        "allocated_bytes": header.allocated_len,
        "salt": format!("{:016x}", header.salt),
        "follows": header.predecessor.map(|before| before.number),
        "replaces": header.replaces,
    });
    for frame in file.inspect() {
        let offset = frame.offset;
        match frame.status {
            FrameStatus::Good { kind: FrameKind::Seal, seq, durable_end, .. } => {
                let line =
                    format!("offset {offset:>9}  seal after {seq}, durable to {durable_end}");
                report.entries.push(line);
            }
            FrameStatus::Good { seq, payload_len, durable_end, .. } => {
                let body = file.payload(&frame).map(describe).unwrap_or_default();
                report.entries.push(format!(
                    "offset {offset:>9}  {seq:>8}  {payload_len:>8} bytes  durable to \
                     {durable_end:>9}  {body}"
                ));
            }
            FrameStatus::Bad { defect, bytes } => {
                report.problems.push(format!("offset {offset}, {bytes} bytes: {defect}"));
            }
        }
    }
    Ok(report)
}

fn describe_log_record(body: &[u8]) -> String {
    match payload::decode(body) {
        Ok(LogRecord::Upsert { collection, rows }) => {
            format!(
                "collection {collection}: upsert {} rows{}",
                rows.len(),
                first(rows.first().map(|r| &r.id))
            )
        }
        Ok(LogRecord::Delete { collection, ids }) => {
            format!("collection {collection}: delete {} ids{}", ids.len(), first(ids.first()))
        }
        Err(error) => error.to_string(),
    }
}

fn first(id: Option<&crate::PointId>) -> String {
    id.map(|id| format!(", first {id}")).unwrap_or_default()
}

/// The number that a file's name states, such as 7 in `MANIFEST-000000000007`; 0 if it states none.
fn number_in(path: &Path) -> u64 {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let digits: String = name.chars().filter(char::is_ascii_digit).collect();
    digits.parse().unwrap_or_default()
}

fn describe_manifest_record(body: &[u8]) -> String {
    String::from_utf8_lossy(body).into_owned()
}
