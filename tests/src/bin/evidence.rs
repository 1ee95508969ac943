//! The evidence machines on the command line: which one, how long, from which seed. Prints a
//! report, writes it as JSON, and ends with 1 if anything failed. Holds no check of its own.

#[cfg(feature = "defects")]
use akidb_tests::evidence::defects::DEFECTS;
use akidb_tests::evidence::{
    Entry, Machine, Options, failure_table, kill, machines, read_ledger, run, table,
};
use akidb_vfs::{RealFs, read_file, write_file_durably};
use clap::{Parser, error::ErrorKind};
use indicatif::{ProgressBar, ProgressStyle};
use std::{
    io::Write,
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

/// Tries to make AkiDB lose something, and reports what it tried.
#[derive(Debug, Parser)]
#[command(after_help = "MACHINE `list` lists the machines; `ledger` prints the table of all \
                        closing runs, `failures` that of what survives which failure.")]
struct Arguments {
    /// Which machine.
    machine: String,
    /// The first seed.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// How many seeds; without --runs and --time: one, or all cases of an exhaustive machine.
    #[arg(long)]
    runs: Option<u64>,
    /// Begin no seed after this many seconds.
    #[arg(long, value_name = "SECONDS")]
    time: Option<u64>,
    /// How many seeds at once.
    #[arg(long, default_value_t = 2)]
    threads: usize,
    /// End after this many failures.
    #[arg(long, default_value_t = 5)]
    failures_max: usize,
    /// An option of the machine.
    #[arg(long, value_name = "KEY=VALUE", value_parser = pair)]
    set: Vec<(String, String)>,
    /// Write the report there as JSON.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Add a line to this ledger (docs/evidence.jsonl).
    #[arg(long, value_name = "FILE")]
    ledger: Option<PathBuf>,
}

fn pair(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or("give it as key=value")?;
    Ok((key.to_owned(), value.to_owned()))
}

fn say(text: &str) {
    // A reader that went away is no reason to stop.
    drop(writeln!(std::io::stdout().lock(), "{text}"));
}

/// The process that the machine `kill` kills; not for people.
fn kill_child() -> Option<ExitCode> {
    let mut words = std::env::args().skip(1);
    let task = words.next().filter(|word| word == "kill-child").and_then(|_| words.next())?;
    Some(match kill::child(&task) {
        Ok(()) => ExitCode::SUCCESS,
        Err(text) => {
            say(&format!("error {text}"));
            ExitCode::FAILURE
        }
    })
}

fn main() -> ExitCode {
    if let Some(code) = kill_child() {
        return code;
    }
    let arguments = Arguments::parse();
    match arguments.machine.as_str() {
        "list" => {
            for machine in machines() {
                say(&format!("{:<12} {}", machine.name, machine.about));
            }
            ExitCode::SUCCESS
        }
        "ledger" => print_table(arguments.ledger.as_deref()),
        "failures" => match failure_table() {
            Ok(text) => {
                say(text.trim_end());
                ExitCode::SUCCESS
            }
            Err(error) => {
                say(&error);
                ExitCode::FAILURE
            }
        },
        name => match machines().into_iter().find(|machine| machine.name == name) {
            Some(machine) => play(&machine, &arguments),
            None => {
                let names: Vec<_> = machines().iter().map(|machine| machine.name).collect();
                let text = format!("no machine is called {name}; there are {}", names.join(", "));
                clap::Command::new("evidence").error(ErrorKind::InvalidValue, text).exit()
            }
        },
    }
}

fn print_table(ledger: Option<&Path>) -> ExitCode {
    let path = ledger.unwrap_or(Path::new("docs/evidence.jsonl"));
    let read = read_file(&RealFs, path).map_err(|error| error.to_string());
    let text = read.and_then(|bytes| String::from_utf8(bytes).map_err(|error| error.to_string()));
    match text.and_then(|text| read_ledger(&text)) {
        Ok(entries) => {
            say(table(&entries).trim_end());
            ExitCode::SUCCESS
        }
        Err(error) => {
            say(&format!("{}: {error}", path.display()));
            ExitCode::FAILURE
        }
    }
}

fn play(machine: &Machine, arguments: &Arguments) -> ExitCode {
    if let Some((_, defect)) = arguments.set.iter().find(|(key, _)| key == "defect")
        && let Err(error) = switch_on(defect)
    {
        say(&error);
        return ExitCode::from(2);
    }
    // The report tells what panicked; thousands of caught panics need not be told twice.
    std::panic::set_hook(Box::new(|_| {}));
    let options = Options {
        seed: arguments.seed,
        runs: arguments.runs,
        time: arguments.time.map(Duration::from_secs),
        threads: arguments.threads,
        failures_max: arguments.failures_max,
        set: arguments.set.clone(),
    };
    let bar = progress_bar(machine, &options);
    let report = run(machine, &options, &|played, states| {
        bar.set_position(played);
        bar.set_message(format!("{states} {}", machine.unit));
    });
    bar.finish_and_clear();
    drop(std::panic::take_hook());
    say(&report.to_string());
    if let Some(path) = &arguments.json {
        save(path, &format!("{:#}\n", report.json()));
    }
    if let Some(path) = &arguments.ledger {
        let before = read_file(&RealFs, path).unwrap_or_default();
        let before = String::from_utf8_lossy(&before);
        save(path, &format!("{before}{}\n", Entry::line(&report)));
    }
    if report.passed() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Plants a known bug, for the machine `defects`.
#[cfg(feature = "defects")]
fn switch_on(defect: &str) -> Result<(), String> {
    let known = DEFECTS.iter().any(|known| known.name == defect);
    akidb_vfs::plant(Some(defect));
    known.then_some(()).ok_or_else(|| format!("no defect is called {defect}"))
}

#[cfg(not(feature = "defects"))]
fn switch_on(defect: &str) -> Result<(), String> {
    Err(format!("to switch {defect} on, build with --features defects"))
}

fn save(path: &Path, text: &str) {
    if let Err(error) = write_file_durably(&RealFs, path, text.as_bytes()) {
        say(&format!("could not write {}: {error}", path.display()));
    }
}

fn progress_bar(machine: &Machine, options: &Options) -> ProgressBar {
    let all = options.runs.or_else(|| machine.cases.map(|cases| cases(options)));
    let bar = all.map_or_else(ProgressBar::new_spinner, ProgressBar::new);
    let template = "{elapsed_precise} {wide_bar} {pos} seeds, {msg}";
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style);
    }
    bar
}
