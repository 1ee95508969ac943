//! The one place that prints: text for people or one JSON object for machines on standard
//! output, errors on standard error.
//!
//! Every command builds a [`Report`], plain data that serialises, and hands it over once; only
//! the demo talks while it works. Nothing else in this crate writes to standard output, so
//! `--json` can never be broken by a stray line.

use crate::error::{CliError, Result};
use comfy_table::{CellAlignment, ContentArrangement, LineStyle, Table, TableStyle};
use serde::Serialize;
use std::{
    fmt::Display,
    io::{self, Write},
};

/// What a command found, in both forms.
pub(crate) trait Report: Serialize {
    /// The text for people, without a newline at the end.
    fn text(&self) -> String;
}

/// Where and how to print.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Output {
    json: bool,
}

impl Output {
    pub(crate) fn new(json: bool) -> Self {
        Self { json }
    }

    /// Whether this is for a machine: no progress bars then.
    pub(crate) fn is_json(self) -> bool {
        self.json
    }

    /// Prints the result of a command.
    pub(crate) fn report(self, report: &impl Report) -> Result<()> {
        if self.json {
            let mut line =
                serde_json::to_string(report).map_err(|error| CliError::Output(error.into()))?;
            line.push('\n');
            print(&line)
        } else {
            print(&format!("{}\n", report.text()))
        }
    }

    /// Prints a line of talk; nothing for a machine.
    pub(crate) fn say(self, line: impl Display) -> Result<()> {
        if self.json { Ok(()) } else { print(&format!("{line}\n")) }
    }

    /// Prints what the reader of the result should know, apart from the result.
    pub(crate) fn warn(self, text: &str) {
        let line = if self.json {
            format!("{}\n", serde_json::json!({ "warning": text }))
        } else {
            format!("warning: {text}\n")
        };
        drop(io::stderr().write_all(line.as_bytes()));
    }

    /// Prints why the command failed.
    pub(crate) fn error(self, error: &CliError) {
        let text = if self.json {
            let hint = error.hint();
            let error = serde_json::json!({
                "error": { "kind": error.kind(), "message": error.to_string(), "hint": hint }
            });
            format!("{error}\n")
        } else {
            let hint = error.hint().map(|hint| format!("hint: {hint}\n")).unwrap_or_default();
            format!("error: {error}\n{hint}")
        };
        // Nobody is left to tell when standard error is gone; the exit code still speaks.
        drop(io::stderr().write_all(text.as_bytes()));
    }
}

/// One line under the header, none between rows: what fits a terminal and pastes well.
const STYLE: TableStyle =
    TableStyle::new().header_separator(LineStyle::none().fill('─').junction('─'));

fn print(text: &str) -> Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).map_err(CliError::Output)
}

/// A table with a header; it folds long texts to the width of the terminal.
pub(crate) fn table<const N: usize>(header: [&str; N]) -> Table {
    let mut table = Table::new();
    table.load_style(STYLE).set_content_arrangement(ContentArrangement::Dynamic).set_header(header);
    table
}

/// Aligns these columns to the right: numbers.
pub(crate) fn align_right(table: &mut Table, columns: impl IntoIterator<Item = usize>) {
    for column in columns {
        if let Some(column) = table.column_mut(column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
}
