//! `akidb inspect`: any file of ours, in words. The words are the library's.

use crate::{
    args::InspectArgs,
    error::{CliError, Result},
    output::{Output, Report},
};
use akidb::{
    Cause, FileReport,
    vfs::{EntryKind, Fs, RealFs},
};
use serde::Serialize;

#[derive(Debug, Serialize)]
struct Inspected {
    command: &'static str,
    #[serde(flatten)]
    report: FileReport,
}

impl Report for Inspected {
    fn text(&self) -> String {
        self.report.to_string().trim_end().to_owned()
    }
}

pub(crate) fn run(args: &InspectArgs, output: Output) -> Result<()> {
    if RealFs.metadata(&args.file)?.kind == EntryKind::Dir {
        return Err(CliError::IsDirectory { dir: args.file.clone() });
    }
    let report = akidb::inspect(&RealFs, &args.file).map_err(|error| match error.cause() {
        // The library's words are about opening a directory.
        Cause::UnknownFile { .. } => CliError::NotOurs { file: args.file.clone() },
        _ => error.into(),
    })?;
    output.report(&Inspected { command: "inspect", report })
}
