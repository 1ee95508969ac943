//! `akidb bench`: the programs that measure every change. Their JSON is an interface: one object,
//! snake_case keys with the unit last; keys are added, never renamed.

mod latency;
mod recovery;
mod rows;
mod search;
mod write;

use crate::{
    args::{BenchArgs, BenchCommand},
    error::Result,
    machine::Machine,
    output::{Output, Report},
};
pub(crate) use latency::Latency;
pub(crate) use recovery::write_until_killed;
use serde::Serialize;
use std::path::Path;

pub(crate) fn run(args: &BenchArgs, output: Output) -> Result<()> {
    match &args.command {
        BenchCommand::Write(args) => write::run(args, output),
        BenchCommand::Search(args) => search::run(args, output),
        BenchCommand::Recovery(args) => recovery::run(args, output),
    }
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
