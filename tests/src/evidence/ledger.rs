//! The ledger of closing runs, `docs/evidence.jsonl`: one line of JSON per run, never edited. The
//! table in `docs/durability.md` is made from it (`evidence ledger table`), and a test of the house
//! compares the two.

use super::Report;
use serde_json::{Value, json};
use std::{collections::BTreeMap, fmt::Write as _};

/// One run.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    /// The machine.
    pub machine: String,
    /// What was counted.
    pub unit: String,
    /// How many.
    pub states: u64,
    /// How many seeds.
    pub runs: u64,
    /// In seconds.
    pub seconds: f64,
    /// How many failed, of the ones not known before.
    pub failures: u64,
    /// The commit.
    pub commit: String,
    /// What repeats it.
    pub command: String,
}

impl Entry {
    /// The line for the ledger.
    pub fn line(report: &Report) -> String {
        let full = report.json();
        let mut kept = serde_json::Map::new();
        for key in [
            "machine", "unit", "commit", "command", "runs", "states", "seconds", "threads",
            "counters",
        ] {
            kept.insert(key.to_owned(), full[key].clone());
        }
        kept.insert("failures".to_owned(), json!(report.failures.len()));
        Value::Object(kept).to_string()
    }

    fn parse(line: &str) -> Result<Self, String> {
        let value: Value = serde_json::from_str(line).map_err(|error| error.to_string())?;
        let text = |key: &str| {
            value[key].as_str().map(str::to_owned).ok_or_else(|| format!("no text {key}"))
        };
        let number =
            |key: &str| value[key].as_u64().ok_or_else(|| format!("no whole number {key}"));
        Ok(Self {
            machine: text("machine")?,
            unit: text("unit")?,
            states: number("states")?,
            runs: number("runs")?,
            seconds: value["seconds"].as_f64().ok_or("no number seconds")?,
            failures: number("failures")?,
            commit: text("commit")?,
            command: text("command")?,
        })
    }
}

/// Reads a ledger.
///
/// # Errors
/// The number of the line that is none of ours, and why.
pub fn read_ledger(text: &str) -> Result<Vec<Entry>, String> {
    let lines = text.lines().enumerate();
    lines
        .map(|(at, line)| Entry::parse(line).map_err(|error| format!("line {}: {error}", at + 1)))
        .collect()
}

/// The cumulative counters as a Markdown table, a row per machine, with the last command.
pub fn table(entries: &[Entry]) -> String {
    let mut rows: BTreeMap<&str, (u64, f64, u64, &Entry)> = BTreeMap::new();
    for entry in entries {
        let row = rows.entry(&entry.machine).or_insert((0, 0.0, 0, entry));
        *row = (row.0 + entry.states, row.1 + entry.seconds, row.2 + entry.failures, entry);
    }
    let mut text =
        String::from("| machine | tried | lost or wrong | time | last run: commit, command |\n");
    text.push_str("|---|---:|---:|---:|---|\n");
    for (machine, (states, seconds, failures, last)) in rows {
        let (unit, commit, command) = (&last.unit, &last.commit, &last.command);
        // Writing to a string cannot fail.
        let _ = writeln!(
            text,
            "| {machine} | {} {unit} | {failures} | {seconds:.0} s | {commit}, `{command}` |",
            grouped(states)
        );
    }
    text
}

/// A number with commas between thousands.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_of_one_machine_add_up_and_the_last_command_is_shown() {
        let line = |states: u64, command: &str| {
            json!({"machine": "crash", "unit": "states", "states": states, "runs": 1,
                "seconds": 1.0, "failures": 0, "commit": "c", "command": command})
            .to_string()
        };
        let ledger = [line(999_999, "first"), line(1, "second")].join("\n");
        let table = table(&read_ledger(&ledger).unwrap());
        assert!(table.contains("| crash | 1,000,000 states | 0 | 2 s | c, `second` |"), "{table}");
    }

    #[test]
    fn a_line_that_is_no_entry_is_named() {
        assert_eq!(read_ledger("{}").unwrap_err(), "line 1: no text machine");
    }
}
