//! The log against the simulated disk: one module per behaviour.

#![expect(clippy::unwrap_used, reason = "the helpers of a test fail it by panicking")]

mod corruption;
mod crash;
mod faults;
mod format;
mod framed;
mod group;
mod model;
mod rules;
