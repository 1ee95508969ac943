//! The `akidb` command: a thin layer over the `akidb` library for people and scripts.
//!
//! This file parses, dispatches to one module per command and turns the result into an exit
//! code: 0 done, 1 failed, 2 the command line is wrong (given by clap), 5 refused by a limit, more where
//! a command says so. It holds no logic that the library lacks; a program that links the library needs nothing from here.

mod args;
mod bench;
mod child;
mod database;
mod delete;
mod demo;
mod dlq;
mod error;
mod generate;
mod get;
mod ingest;
mod inspect;
mod machine;
mod output;
mod progress;
mod repair;
mod restore;
mod search;
mod snapshot;
mod source;
mod stats;
mod store;
mod tier;
mod tiers;
mod units;
mod verify;
mod wal;

use args::{Cli, Command, StoreArgs, StoreCommand};
use clap::Parser;
use error::{CliError, Result};
use output::Output;
use std::{io, process::ExitCode};

fn main() -> ExitCode {
    let cli = Cli::parse();
    let output = Output::new(cli.json);
    match run(&cli.command, &cli.store, output) {
        Ok(code) => code,
        // `akidb stats | head` is not a failure.
        Err(CliError::Output(error)) if error.kind() == io::ErrorKind::BrokenPipe => {
            ExitCode::SUCCESS
        }
        Err(error) => {
            output.error(&error);
            ExitCode::from(error.exit_code())
        }
    }
}

fn run(command: &Command, store: &StoreArgs, output: Output) -> Result<ExitCode> {
    match command {
        Command::Verify(args) => return verify::run(args, output),
        Command::Repair(args) => return repair::run(args, output),
        Command::Store(args) => {
            let StoreCommand::Check = args.command;
            return store::check(store, output);
        }
        Command::Demo(args) => demo::run(args, output),
        Command::Ingest(args) => ingest::run(args, store, output),
        Command::Search(args) => search::run(args, store, output),
        Command::Get(args) => get::run(args, store, output),
        Command::Delete(args) => delete::run(args, store, output),
        Command::Stats(args) => stats::run(args, store, output),
        Command::Tier(args) => tier::run(args, store, output),
        Command::Dlq(args) => dlq::run(args, store, output),
        Command::Snapshot(args) => snapshot::run(args, store, output),
        Command::Restore(args) => restore::run(args, store, output),
        Command::Inspect(args) => inspect::run(args, output),
        Command::Wal(args) => wal::run(args, output),
        Command::Bench(args) => bench::run(args, output),
        Command::Gen(args) => generate::run(args, output),
        Command::DemoWriter(args) => demo::write_until_killed(args, output),
        Command::RecoveryWriter(args) => bench::write_until_killed(args, output),
        Command::RecoveryReader(args) => bench::read_once(args, output),
        Command::SearchReader(args) => bench::read_and_tell(args, output),
        #[cfg(feature = "bench-s3")]
        Command::ShipWorker(args) => bench::ship_and_tell(args, output),
    }?;
    Ok(ExitCode::SUCCESS)
}
