//! Framed files: a preallocated file with a header page and frames after it, which tells a torn
//! tail from rot. WAL files are framed files, and so are the engine's manifests.
//!
//! # Protocol
//! 1. [`FramedWriter::create`] makes the file under a temporary name, reserves its blocks, writes
//!    the header (and the frames carried over from an older file), syncs it, renames it into
//!    place, syncs the directory. Only then may frames be appended.
//! 2. [`FramedWriter::append`] stages, [`FramedWriter::write_group`] writes all that is staged in
//!    one vectored write, [`FramedWriter::sync`] makes it durable.
//! 3. [`FramedWriter::seal`] adds an empty frame that says how far the file is durable.
//! 4. [`FramedFile::read`] and [`FramedFile::scan`] read it back, after any crash.
//!
//! # Invariants
//! - A file is never shortened, reused or appended to after a recovery: its owner carries the
//!   frames over to a new file.
//! - Frames never straddle files and never reach past the reserved blocks.
//! - A reader changes nothing: it plans (see [`TornTail`]), its owner applies.
//!
//! # Crash consistency
//! Under its final name a file always has a valid header and whole carried-over frames, because
//! the rename comes after the sync. After that, a crash leaves some of the unsynced frames, in any
//! order and torn at any sector; the tail rule (`scan`) keeps those before the first bad one and
//! refuses the file when the bad one had been durable.

mod create;
mod header;
mod inspect;
mod layout;
mod salvage;
mod scan;
mod stream;
mod walk;
mod writer;
mod zeros;

pub use create::{NewFile, TEMP_SUFFIX, framed_file_bytes};
pub use header::{FileHeader, FileKind, HEADER_PAGE_BYTES, Predecessor};
pub use inspect::{FrameInfo, FrameStatus};
pub use salvage::Salvaged;
pub use scan::{FrameRef, FramedFile, ScanReport, TornTail};
pub(crate) use stream::{Window, scan_through};
pub use writer::FramedWriter;
