//! The errors of the log: what failed, in which file and where, and what to do about it. Errors
//! are for the disk's lies and the machine's limits; our own bugs are asserts.

use crate::{Backend, BackendError, Lsn, frame::FrameDefect};
use akidb_vfs::FsError;
use std::{error::Error, fmt, io, path::PathBuf, sync::Arc};

/// Why a replay callback refused a frame.
pub type ReplayStop = Box<dyn Error + Send + Sync>;

/// A failure of the log or of a framed file.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WalError {
    /// A file-system call failed. From an open or a creation, nothing was changed that the next
    /// open does not repair; from a running log it arrives wrapped in [`WalError::Poisoned`].
    #[error(transparent)]
    Fs(#[from] FsError),

    /// Stored bytes are not what was written. Nothing was changed; restore the file from a copy.
    #[error("{} is damaged at offset {offset}: {detail}; restore it from a copy", file.display())]
    Corruption {
        /// The damaged file, or the directory where a file is missing.
        file: PathBuf,
        /// Where in the file, in bytes.
        offset: u64,
        /// What is wrong there.
        detail: CorruptionDetail,
    },

    /// The file was written by a newer AkiDB. Nothing was changed; open it with that version.
    #[error(
        "{} is a {kind} of format version {found}; this AkiDB reads versions up to {supported}, \
         use a newer one",
        file.display()
    )]
    Newer {
        /// The file.
        file: PathBuf,
        /// What kind of file it is.
        kind: &'static str,
        /// The version it states.
        found: u16,
        /// The newest version this code reads.
        supported: u16,
    },

    /// The file is of another kind. Nothing was changed; check the directory.
    #[error("{} is not an AkiDB {kind}; is this the right directory?", file.display())]
    Foreign {
        /// The file.
        file: PathBuf,
        /// The kind that was expected.
        kind: &'static str,
    },

    /// The disk is full: a new file could not be made. Nothing of the group was written and the
    /// log goes on working; free space and write again, no restart is needed.
    #[error("no space for a new file of {bytes} bytes: {source}; free space, then write again")]
    NoSpace {
        /// How many bytes the new file needs.
        bytes: u64,
        /// What the system said.
        source: FsError,
    },

    /// A payload is larger than one frame may be. Nothing was written; split the batch.
    #[error("a payload of {bytes} bytes is over the limit of {max}; split the batch")]
    TooLarge {
        /// Its bytes.
        bytes: u64,
        /// The most.
        max: u64,
    },

    /// A framed file has no room for the frame. Nothing was written; go on in a new file.
    #[error(
        "{} has {remaining} bytes left and the frame needs {needed}; go on in a new file",
        file.display()
    )]
    FileFull {
        /// The file.
        file: PathBuf,
        /// What the frame needs, in bytes.
        needed: u64,
        /// What is left, in bytes.
        remaining: u64,
    },

    /// A write or sync failed earlier, so nothing may be added any more. What was acknowledged is
    /// safe; close and open again, recovery carries it over to a fresh file.
    #[error("the log stopped after a failure: {0}; close and open again")]
    Poisoned(#[source] Arc<WalError>),

    /// Code that the log calls panicked. Treated like a failed write: close, open again, and
    /// report the bug.
    #[error("a panic stopped the log: {message}; close, open again, and please report it")]
    Panicked {
        /// The panic's message.
        message: String,
    },

    /// The log is closed; nothing was written.
    #[error("the log is closed; open it again")]
    Closed,

    /// The replay callback refused a frame. Nothing was changed.
    #[error("replay stopped at LSN {lsn}: {source}")]
    Replay {
        /// The frame's number.
        lsn: Lsn,
        /// What the callback said.
        source: ReplayStop,
    },

    /// The backend that was asked for by name does not work here; nothing was changed. Ask for
    /// `std`, or for `auto`, which falls back to it.
    #[error(
        "the log backend {backend} cannot be used in {}: {source}; use std, or auto, which falls \
         back to it",
        dir.display()
    )]
    Backend {
        /// The backend.
        backend: Backend,
        /// The directory of the log.
        dir: PathBuf,
        /// Why.
        source: BackendError,
    },

    /// The machine gave no thread for the log; nothing was changed. Retry.
    #[error("cannot start the log's thread: {0}; retry when the machine has threads to give")]
    Thread(#[source] io::Error),
}

impl WalError {
    pub(crate) fn corruption(
        file: impl Into<PathBuf>,
        offset: u64,
        detail: CorruptionDetail,
    ) -> Self {
        Self::Corruption { file: file.into(), offset, detail }
    }

    /// True when the disk is full and the log still works.
    pub fn is_no_space(&self) -> bool {
        matches!(self, Self::NoSpace { .. })
    }
}

/// What is wrong with a damaged file.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum CorruptionDetail {
    /// The file is shorter than it was made; it never shrinks by itself.
    Truncated {
        /// Its length now, in bytes.
        len: u64,
        /// The length it was made with, or the least that any such file has.
        expected: u64,
    },
    /// The file header does not match its checksum.
    HeaderChecksum {
        /// What the header states.
        stated: u32,
        /// What its bytes give.
        computed: u32,
    },
    /// A field of the file header cannot be.
    HeaderField {
        /// Its name in the format's documentation.
        field: &'static str,
        /// Its value.
        value: u64,
    },
    /// A frame that was durable is bad: a later frame says so.
    DurableFrame {
        /// What is wrong with it.
        defect: FrameDefect,
        /// The number of the last good frame before it.
        last_seq: u64,
        /// Where the frame stands that says so.
        evidence_offset: u64,
    },
    /// A file that was completed before its successor was made ends too early.
    CompletedFile {
        /// What is wrong with the frame after the last good one; `None` when the file just ends.
        defect: Option<FrameDefect>,
        /// The number of the last good frame.
        last_seq: u64,
        /// The number of the last frame, as its successor states it.
        expected_seq: u64,
    },
    /// The last frame of a file is not the one that its successor names.
    SuccessorMismatch {
        /// The header checksum of the last frame.
        found: u32,
        /// The one that the successor states.
        expected: u32,
    },
    /// A header's file number is not the one in the file's name: files were exchanged.
    WrongNumber {
        /// In the header.
        header: u64,
        /// In the name.
        name: u64,
    },
    /// A file's predecessor is not there.
    MissingFile {
        /// The predecessor's number.
        number: u64,
    },
    /// The frames of a file do not begin where those of its predecessor end.
    BrokenSequence {
        /// Its first number.
        first_seq: u64,
        /// The number that should follow.
        expected_seq: u64,
    },
    /// The oldest file begins after what the caller still needs.
    MissingStart {
        /// The first frame needed.
        needed: Lsn,
        /// The first frame there.
        first: Lsn,
    },
    /// There is no WAL file, though the caller knows that there was.
    MissingLog,
    /// The log ends before what the caller knows to be durable in it.
    EndsEarly {
        /// The last frame.
        last: Lsn,
        /// The frame that should be there.
        expected: Lsn,
    },
}

impl fmt::Display for CorruptionDetail {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Truncated { len, expected } => {
                write!(f, "the file has {len} bytes and was made with {expected}")
            }
            Self::HeaderChecksum { stated, computed } => {
                write!(f, "header checksum {stated:#010x}, its bytes give {computed:#010x}")
            }
            Self::HeaderField { field, value } => {
                write!(f, "the file header's {field} cannot be {value}")
            }
            Self::DurableFrame { defect, last_seq, evidence_offset } => write!(
                f,
                "the frame after number {last_seq} is bad ({defect}), and the frame at offset \
                 {evidence_offset} says that it was durable"
            ),
            Self::CompletedFile { defect, last_seq, expected_seq } => {
                write!(f, "the file ends at frame {last_seq} and was completed at {expected_seq}")?;
                defect.as_ref().map_or(Ok(()), |defect| write!(f, " ({defect})"))
            }
            Self::SuccessorMismatch { found, expected } => write!(
                f,
                "the last frame's checksum is {found:#010x}, the next file states {expected:#010x}"
            ),
            Self::WrongNumber { header, name } => {
                write!(f, "the header says file {header}, the name says {name}")
            }
            Self::MissingFile { number } => write!(f, "the file before it, {number}, is missing"),
            Self::BrokenSequence { first_seq, expected_seq } => {
                write!(f, "the file begins at frame {first_seq} and should at {expected_seq}")
            }
            Self::MissingStart { needed, first } => {
                write!(f, "the log begins at LSN {first}, and {needed} is still needed")
            }
            Self::MissingLog => write!(f, "every WAL file is missing"),
            Self::EndsEarly { last, expected } => {
                write!(f, "the log ends at LSN {last}, and {expected} was durable in it")
            }
        }
    }
}
