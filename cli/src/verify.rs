//! `akidb verify`: whether a database is sound. The library looks; this prints, and turns the
//! worst that was found into the exit code.

use crate::{
    args::VerifyArgs,
    error::Result,
    output::{Output, Report},
    progress::Progress,
    units,
};
use akidb::{Severity, Verify, VerifyReport};
use serde::Serialize;
use std::process::ExitCode;

#[derive(Debug, Serialize)]
struct Verified {
    command: &'static str,
    sound: bool,
    #[serde(flatten)]
    report: VerifyReport,
}

impl Report for Verified {
    fn text(&self) -> String {
        let report = &self.report;
        let mut lines = Vec::new();
        for finding in &report.findings {
            lines.push(format!("{finding}\n  what to do: {}", finding.advice));
        }
        let count = |severity| report.findings.iter().filter(|f| f.severity == severity).count();
        let verdict = match report.worst() {
            None => "sound".to_owned(),
            Some(_) => format!(
                "DAMAGED: {} of damage, {} of them may cost acknowledged rows",
                units::things((report.findings.len() - count(Severity::Note)) as u64, "finding"),
                count(Severity::Loss),
            ),
        };
        let rows = match report.deep {
            true => format!(", {} decoded", units::things(report.rows, "row")),
            false => String::new(),
        };
        lines.push(format!(
            "{verdict}; read {} in {}{rows}, {} batches of the log",
            units::bytes(report.bytes),
            units::things(report.files, "file"),
            units::count(report.batches),
        ));
        lines.join("\n")
    }
}

pub(crate) fn run(args: &VerifyArgs, output: Output) -> Result<ExitCode> {
    let bar = Progress::bytes(output, "verifying");
    let report = Verify::new(&args.dir)
        .deep(args.deep)
        .on_progress(move |progress| bar.set(progress.bytes, progress.of_bytes))
        .run()?;
    let code = match report.worst() {
        None => ExitCode::SUCCESS,
        Some(Severity::Loss) => ExitCode::from(4),
        Some(_) => ExitCode::from(3),
    };
    output.report(&Verified { command: "verify", sound: report.is_sound(), report })?;
    Ok(code)
}
