//! Decoders of this crate laid open to the fuzz targets, each with the checks of what it makes of
//! its input; and [`schedule`], writers that race for one bucket. Only with feature `testing`,
//! which no shipped binary has.
//!
//! Every other function takes bytes that may be hostile. An error is a refusal and fine; a panic is a
//! finding: either the decoder's own, or one of the assertions here, which say what must hold of
//! bytes that were taken.

mod filter;
mod parts;
mod schedules;
mod segment;

pub use filter::filter;
pub use parts::{
    bucket_manifest, cold, cold_checksums, cold_decode, cold_encode, cold_uncompressed,
    field_index, log_record, manifest, tombstones,
};
pub use schedules::schedule;
pub use segment::segment;
