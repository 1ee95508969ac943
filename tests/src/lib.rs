//! Shared parts of the whole-system tests: the simulated world a database lives in, the oracle
//! that says what it must answer, and the program that drives both.
//!
//! Owns no promise of its own; the tests in `tests/` do. Everything random follows from one
//! `u64` seed, so that a failure replays. Must never be a dependency of shipped code.

pub mod condition;
pub mod declared;
pub mod evidence;
pub mod fault_store;
pub mod fixture;
pub mod fuzz;
pub mod ops;
pub mod oracle;
pub mod real_server;
pub mod run;
pub mod world;
