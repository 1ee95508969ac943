//! Databases whose bucket is on a server of others, which `scripts/s3-real.sh` installs and starts. Not part
//! of the ordinary tests: each test here is ignored, and fails when it is asked for and the server is not
//! there. What a bucket of our own server shows as well is in the suite `tiering`, which that script runs on
//! the same server.
//!
//! `whole` is a database as large as a machine loses, `dies` the server that is killed under one, `kills` the
//! processes that are killed in front of it.

mod dies;
mod kills;
mod rig;
mod watched;
mod whole;
