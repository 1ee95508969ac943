//! A disk in memory that loses power, forgets what was not synced, and fails on request.
//!
//! Owns the simulated file system, clock and their faults; everything follows from one seed, so a
//! failing run replays. Must never be stricter with its caller than the contract of [`crate::Fs`],
//! nor kinder than a disk that honours flushes could be. Called by the tests of every crate above,
//! never by shipped code (feature `sim`).
//!
//! # The model
//! - A file has a live view, which running processes see (the page cache), and a durable view,
//!   which a sync brings up to it. What is between them is kept as 512-byte sectors.
//! - A directory has the same two views of its names; what is between them is a list of creations,
//!   removals and renames in their order. Syncing a file does not make its name durable.
//! - [`SimFs::crash`] picks, by [`CrashPolicy`], what of the difference survives: each sector kept,
//!   dropped or torn, a new length kept or not, each name change kept or forgotten.
//! - A renamed file never loses both names. Changes of one name survive in their order: a
//!   forgotten change takes the later changes of that name with it.
//!
//! # Not here
//! A sector holds, after a crash, its last synced or its latest bytes (or a torn mix), never those
//! of a write in between; corruption of synced bytes happens only on request
//! ([`SimFs::corrupt`]).

mod clock;
mod crash;
mod disk;
mod fault;
mod file;
mod fs;
mod inode;
mod inspect;
mod points;
mod state;
mod trace;

pub use clock::SimClock;
pub use crash::{CrashEffects, CrashPolicy, PowerMoment};
pub use fault::{Fault, FaultKind, Struck};
pub use fs::SimFs;
pub use points::CrashPoint;
pub use state::{PowerLost, is_power_lost};
pub use trace::TraceEntry;
