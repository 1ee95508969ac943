//! Cells: what the approximate search of a collection knows besides its rows.
//!
//! A [`Clustering`] is a codebook with the codec of its rows and the router over its cells. Each
//! segment that is large enough carries the one its rows are ordered by; segments of one collection
//! share it by its id, so that their rows can be merged without being coded again. [`calibrate`]
//! measures how many cells a recall takes. Pure computation: reading and writing the blocks is
//! `segment`'s, deciding when to train is `maintenance`'s.

pub(crate) mod calibrate;
mod clustering;

pub(crate) use calibrate::Calibration;
pub(crate) use clustering::{Clustering, Clusterings, cells_for, metric_of};
