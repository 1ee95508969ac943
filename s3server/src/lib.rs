//! An S3 server on loopback, in this process and in memory: for tests that need a network to fail,
//! and for measurements of shipping that need one of known latency.
//!
//! The protocol (HTTP, signatures, XML, routing) is that of the crates hyper and s3s; what is stored
//! and what is refused is ours, as said below. It is no server for data: nothing survives
//! the process.
//!
//! # Storage
//! `s3s-fs`, the store that comes with s3s, keeps three files per object and checks a condition
//! before it writes, without a lock: of sixteen racing creates six won. To harden it is to replace
//! each verb that we use, and its files would be most of what a measurement of shipping measures. So
//! the store is a map under one lock, with the answers that AWS documents: conditions are atomic, a
//! part that is too short is refused at the end of its upload, an upload that has ended is
//! `NoSuchUpload`, a missing bucket is `NoSuchBucket`, wrong checksums are `BadDigest`.
//!
//! ```
//! use akidb_s3server::{Fault, S3Server, Strike};
//! let server = S3Server::start("rows").expect("a free port");
//! assert!(server.endpoint().starts_with("http://127.0.0.1:"));
//! server.fail(Strike::next(2).of("PUT"), Fault::status(503, "SlowDown").retry_after(1));
//! ```

mod backend;
mod body;
mod faults;
mod server;
mod uploads;

pub use faults::{Fault, Strike};
pub use server::{ACCESS_KEY, REGION, S3Server, SECRET_KEY, Seen};
