//! The log against the simulated disk: one module per behaviour. `backends` and `denied` work on
//! real files.

#![expect(clippy::unwrap_used, reason = "the helpers of a test fail it by panicking")]

mod backends;
mod corruption;
mod crash;
#[cfg(all(target_os = "linux", feature = "uring"))]
mod denied;
mod faults;
mod format;
mod framed;
mod group;
mod model;
mod rules;
