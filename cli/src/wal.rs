//! `akidb wal dump`: the log, frame by frame. The words are the library's.

use crate::{
    args::{WalArgs, WalCommand, WalDumpArgs},
    error::{CliError, Result},
    output::{Output, Report},
};
use akidb::{WalDump, WalFileDump, vfs::RealFs};
use serde::Serialize;

#[derive(Debug, Serialize)]
struct Dumped {
    command: &'static str,
    files: Vec<WalFileDump>,
}

impl Report for Dumped {
    fn text(&self) -> String {
        let files: Vec<String> = self.files.iter().map(ToString::to_string).collect();
        files.join("\n")
    }
}

pub(crate) fn run(args: &WalArgs, output: Output) -> Result<()> {
    let WalCommand::Dump(args) = &args.command;
    dump(args, output)
}

fn dump(args: &WalDumpArgs, output: Output) -> Result<()> {
    let wanted = WalDump { from: args.from, to: args.to.unwrap_or(u64::MAX), rows: args.rows };
    let files = akidb::dump_wal(&RealFs, &args.path, &wanted)?;
    let damaged = files.iter().filter(|file| !file.is_whole()).count();
    let (command, of) = ("wal dump", files.len());
    output.report(&Dumped { command, files })?;
    if damaged > 0 { Err(CliError::DamagedFiles { damaged, of }) } else { Ok(()) }
}
