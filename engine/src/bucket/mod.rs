//! The manifest in the bucket: what makes an object store alone enough to open a database, and
//! what keeps two machines from writing to one.
//!
//! One root of a store (a bucket and a prefix) belongs to one database. Its only commit point is
//! the key `manifest`: the whole state, rewritten by each commit with a conditional put. Nothing
//! else in the bucket decides anything, and nothing is listed but to find garbage.
//!
//! # Protocol
//! 1. **Open.** [`open_writer`]: look at the manifest; judge by the [`Lineage`] of the local
//!    directory whether this directory wrote it; make a new nonce durable there; then swap in a
//!    manifest of the next epoch under that nonce, and read it again. Of two that race one wins.
//! 2. **Commit.** [`Session::commit`]: objects are uploaded and verified before; the commit names
//!    them; then the local manifest names them too and records the lineage, in one edit
//!    ([`Session::recorded`]); then local files may go. Never two commits without a record between.
//! 3. **Delete.** What a commit stopped naming is garbage of that commit. It is deleted only after
//!    the commit is recorded locally, and after another look ([`Session::delete_garbage`]).
//! 4. **Sweep.** What no manifest ever named is found by listing, and deleted if a writer of an
//!    older epoch left it and it is old by the store's own clock ([`Session::sweep`]).
//!
//! # Crash consistency
//! Between commit and record the bucket is one commit ahead of the directory. The next open finds
//! its own nonce and a number one higher, and commits what the directory says: the move is undone,
//! its object is garbage. Nothing that the directory names was deleted, by rule 3.
//!
//! # Invariants
//! - A commit whose outcome is unknown is neither: it is read back, and until that says something,
//!   nothing it may have named is deleted (F4).
//! - A state is told from every other by nonce, commit and attempt ([`Version`]), so that an answer
//!   that was lost is told from a put that was.
//! - Once fenced, a session commits and deletes nothing more.
//! - Keys of objects are random and carry the epoch; none is used twice.
//!
//! Must never read a clock, start a thread or retry for long: a retrying store is handed in.
//! Called by open, moves, snapshots and drops of the engine; several of those share a session
//! behind one lock, which is held from a commit to its record.

mod error;
mod format;
mod keys;
mod lineage;
mod open;
mod root;
mod session;
mod state;
mod swap;
mod sweep;

#[cfg(test)]
mod format_tests;
#[cfg(test)]
mod protocol_tests;

pub(crate) use error::BucketError;
#[cfg(feature = "testing")]
pub(crate) use format::{decode, encode};
#[cfg(feature = "testing")]
pub(crate) use keys::MANIFEST_KEY;
pub(crate) use keys::{cold_key, pack_key, snapshot_key};
pub(crate) use lineage::Lineage;
pub(crate) use open::{Opening, open_writer};
pub(crate) use root::Root;
pub(crate) use session::Session;
#[cfg(feature = "testing")]
pub(crate) use state::BucketState;
pub(crate) use state::{Contents, Version};
pub(crate) use sweep::GRACE_DEFAULT;
