//! An S3 server on loopback.
