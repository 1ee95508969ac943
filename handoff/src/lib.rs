//! What writers, readers and maintenance of a collection hand to each other, apart from what it is
//! that they hand over: which parts a collection has and how they are swapped ([`Parts`]), from
//! when on a row is hidden ([`Grave`]), who takes a part away once its last reader has left
//! ([`Retired`]), and who may move a collection to another tier ([`TierCell`]).
//!
//! It is a crate of its own so that the model checker loom can build it (`--cfg loom`) without
//! Parquet and a runtime; the models are in `tests/models`. It does no I/O, reads no clock, and
//! never looks into a memtable or a segment. The engine's collection calls it.

mod grave;
mod parts;
mod retired;
mod sync;
mod tier;

pub use grave::Grave;
pub use parts::Parts;
pub use retired::Retired;
pub use tier::{Claim, Refused, Sealed, Tier, TierCell, TierState, Turn};
