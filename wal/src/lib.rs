//! The write-ahead log: frames, framed files, WAL files, group commit, replay.
//!
//! A *frame* is one commit batch under one [`Lsn`]; a *framed file* is a preallocated file of
//! frames whose checksums are bound to their place and which say how far the file was durable
//! when they were written; the [`Log`] is a chain of such files; [`GroupCommit`] gives the log to
//! one thread that writes the batches of many callers in one vectored write and syncs them once.
//! The engine keeps its manifest in framed files too.
//!
//! This crate never knows what a payload means: it moves bytes. It does all file work through
//! [`akidb_vfs::Fs`], reads no clock but [`akidb_vfs::Clock`], and stands apart from any async
//! runtime. The byte layouts are described in `docs/format/framed.md` and `docs/format/wal.md`.
//!
//! | layer | module | job |
//! |---|---|---|
//! | bytes | `frame` | one frame header: encode, decode, checksums |
//! | file | [`framed`] | create, append, sync, seal, scan, inspect one file |
//! | chain | [`Log`] | roll, remove, recover the files of one directory |
//! | hand-off | [`GroupCommit`] | many callers, one thread, one sync |

mod backend;
mod error;
mod frame;
pub mod framed;
mod group;
mod le;
mod log;
mod lsn;
mod reply;
mod sync;
mod ticket;

pub use backend::{Backend, BackendChoice, BackendError, Chosen, Env, LogIo, StdIo};
pub use error::{CorruptionDetail, ReplayStop, WalError};
pub use frame::{FRAME_HEADER_BYTES, FRAME_PAYLOAD_MAX, FrameDefect, FrameKind, frame_bytes};
pub use group::{Commit, Drive, Durability, GroupCommit, GroupOptions, LogStats, Sink, Staged};
pub use log::{Log, LogFile, LogOptions, RecoveredLog, Replay, ReplayReport, TornFile, WAL_KIND};
pub use lsn::Lsn;
pub use reply::{Answer, Reply, Wakes, reply};
pub use ticket::{Promise, Ticket, ticket};
