//! Tiers, end to end: collections that move between hot, warm and cold by themselves or by hand, over
//! an S3 server where a network is in it: our own on loopback, or one of others (`rig`).
//!
//! `bucket` is what is left of a lost machine and of two, `moves` one move at a time, `policy` what moves by
//! itself, `packs` what shares an object, `faults` a store or a process that fails, `races` many at once,
//! `restores` what takes the place of a collection.

mod bucket;
mod faults;
mod moves;
mod packs;
mod policy;
mod races;
mod restores;
mod rig;
