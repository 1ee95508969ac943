//! The seam between AkiDB and the machine: files, the clock, randomness and threads.
//!
//! Every crate does its file work through [`Fs`], from the first line, so that a test can lose
//! power at any call and look at what a real disk could have kept. This crate knows nothing of
//! what is in a file. [`RealFs`] is the machine; `SimFs` (feature `sim`) is a disk in memory that
//! forgets unsynced bytes and fails on request. Both pass the suite in `contract`.

mod clock;
mod defect;
mod error;
mod file;
mod helpers;
mod mapping;
mod memory;
mod overlay;
mod random;
mod real;
pub mod thread;

#[cfg(feature = "sim")]
pub mod contract;
#[cfg(feature = "sim")]
pub mod sim;

pub use clock::{Clock, SystemClock};
pub use defect::planted;
#[cfg(feature = "defects")]
pub use defect::{defect_reached, plant};
pub use error::{FsError, FsOp, LockHeld};
pub use file::{DirEntry, EntryKind, FileMeta, Fs, FsFile, FsLock, OpenMode};
pub use helpers::{copy_file_durably, read_file, write_file_durably};
pub use mapping::Mapping;
pub use memory::{Memory, MemoryMut};
pub use overlay::OverlayFs;
pub use random::{Random, SystemRandom};
pub use real::RealFs;
