//! `akidb inspect`: any file of ours, in words. The words are the library's.

use crate::{
    args::InspectArgs,
    error::Result,
    output::{Output, Report},
};
use akidb::{FileReport, vfs::RealFs};
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
    let report = akidb::inspect(&RealFs, &args.file)?;
    output.report(&Inspected { command: "inspect", report })
}
