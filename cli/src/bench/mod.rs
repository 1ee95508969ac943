//! `akidb bench`: the programs that measure every change. Their JSON is an interface: one object,
//! snake_case keys with the unit last; keys are added, never renamed.

mod bare;
#[cfg(feature = "bench-s3")]
mod client;
mod latency;
mod plot;
mod recovery;
mod rows;
mod search;
#[cfg(feature = "bench-s3")]
mod ship;
mod start;
mod tier;
mod write;

use crate::{
    args::{BenchArgs, BenchCommand},
    error::{CliError, Result},
    machine::Machine,
    output::{Output, Report},
};
use akidb::vfs::thread::spawn_scoped;
pub(crate) use latency::Latency;
pub(crate) use recovery::{read_once, write_until_killed};
pub(crate) use search::read_and_tell;
use serde::Serialize;
#[cfg(feature = "bench-s3")]
pub(crate) use ship::ship_and_tell;
use start::in_parallel_timed;
use std::{io, panic::resume_unwind, path::Path, thread};

pub(crate) fn run(args: &BenchArgs, output: Output) -> Result<()> {
    match &args.command {
        BenchCommand::Write(args) => write::run(args, output),
        BenchCommand::Search(args) => search::run(args, output),
        BenchCommand::Recovery(args) => recovery::run(args, output),
        BenchCommand::Tier(args) => tier::run(args, output),
        #[cfg(feature = "bench-s3")]
        BenchCommand::Ship(args) => ship::run(args, output),
    }
}

/// Runs `work(0)` to `work(threads - 1)` at the same time and waits for all of them.
fn in_parallel<T: Send>(
    name: &str,
    threads: usize,
    work: impl Fn(usize) -> Result<T> + Sync,
) -> Result<Vec<T>> {
    let work = &work;
    thread::scope(|scope| {
        let started: io::Result<Vec<_>> =
            (0..threads).map(|n| spawn_scoped(scope, name, move || work(n))).collect();
        let finished = started.map_err(CliError::Thread)?.into_iter();
        finished.map(|thread| thread.join().unwrap_or_else(|panic| resume_unwind(panic))).collect()
    })
}

/// A measurement with what it was measured by and on.
#[derive(Debug, Serialize)]
pub(crate) struct Measured<T> {
    version: &'static str,
    command: &'static str,
    /// "release", or "debug", whose figures mean nothing.
    build: &'static str,
    machine: Machine,
    #[serde(flatten)]
    result: T,
}

impl<T> Measured<T> {
    /// `dir` is where the database was: its file system is part of the machine.
    pub(crate) fn new(command: &'static str, dir: &Path, result: T) -> Self {
        let build = if cfg!(debug_assertions) { "debug" } else { "release" };
        let machine = Machine::describe(dir);
        Self { version: env!("CARGO_PKG_VERSION"), command, build, machine, result }
    }
}

impl<T: Report> Report for Measured<T> {
    fn text(&self) -> String {
        let text = self.result.text();
        if self.build == "release" {
            text
        } else {
            format!("{text}\nthis is a debug build: its figures mean nothing, build with --release")
        }
    }
}
