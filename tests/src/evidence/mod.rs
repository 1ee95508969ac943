//! The evidence machines: programs that try to make AkiDB lose something, for as long as they are
//! given. Each is one [`Machine`]; this module owns what they share (seeds, budgets, threads,
//! counting, reports), never what they do. Run by the `evidence` binary for hours and by the
//! ordinary tests for seconds; both call [`run`].
//!
//! # What a machine must do
//! - One seed (or one case of an exhaustive machine) plays the same on any machine: everything
//!   random follows from it.
//! - It counts what it tried in [`Counts`]. A fault that was asked for and never fired proves
//!   nothing: what must be above zero is listed in [`Machine::required`], and a run with enough
//!   seeds that misses one fails.
//! - It says what went wrong as an error or a panic; the framework adds the seed and the command
//!   that replays it.
//!
//! Every failure that was ever found becomes a line of `tests/regressions/<machine>.txt`, played
//! first in every run.

mod corruption;
mod counts;
pub mod crash;
pub mod defects;
mod errors;
mod fulldisk;
pub mod history;
pub mod kill;
mod ledger;
pub mod model;
mod regressions;
mod report;
mod runner;
pub mod schedules;
pub mod short;
pub mod stores;
mod table;
pub mod vm;

pub use counts::Counts;
pub use ledger::{Entry, read_ledger, table};
pub use report::{Failure, Report};
pub use runner::run;
pub use table::failure_table;

use std::time::Duration;

/// What one machine is and does.
#[derive(Clone, Copy, Debug)]
pub struct Machine {
    /// Its name on the command line and in reports.
    pub name: &'static str,
    /// What it does, in a line.
    pub about: &'static str,
    /// What [`Counts::state`] counts, in plural: "crash states", "kills".
    pub unit: &'static str,
    /// The counters that must be above zero in a run of at least [`Machine::enough`] seeds.
    pub required: &'static [&'static str],
    /// How many seeds should reach everything in [`Machine::required`].
    pub enough: u64,
    /// For a machine that tries everything there is: how many cases there are. Case `n` is played
    /// with the seed `n`, and a run without a budget ends after the last.
    pub cases: Option<fn(&Options) -> u64>,
    /// Plays one seed.
    pub play: Play,
}

/// Plays one seed; counts what it tried; says what went wrong.
pub type Play = fn(seed: u64, options: &Options, counts: &mut Counts) -> Result<(), String>;

/// What a run was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// The first seed.
    pub seed: u64,
    /// The most seeds; `None`: until the time is over, or all cases.
    pub runs: Option<u64>,
    /// No seed is begun after this time.
    pub time: Option<Duration>,
    /// How many seeds are played at once.
    pub threads: usize,
    /// The run ends after this many failures.
    pub failures_max: usize,
    /// Options of one machine alone, as `key=value`; every machine documents its own.
    pub set: Vec<(String, String)>,
}

impl Default for Options {
    fn default() -> Self {
        Self { seed: 0, runs: None, time: None, threads: 2, failures_max: 5, set: Vec::new() }
    }
}

impl Options {
    /// This many seeds from `seed` on, on one thread: for ordinary tests.
    pub fn short(seed: u64, runs: u64) -> Self {
        Self { seed, runs: Some(runs), threads: 1, failures_max: 1, ..Self::default() }
    }

    /// The value of a machine's own option.
    pub fn get(&self, key: &str) -> Option<&str> {
        self.set.iter().find(|(name, _)| name == key).map(|(_, value)| value.as_str())
    }

    /// The arguments that ask for the same again.
    fn arguments(&self) -> String {
        self.set.iter().map(|(key, value)| format!(" --set {key}={value}")).collect()
    }
}

/// All machines, in the order in which they are listed.
pub fn machines() -> Vec<Machine> {
    vec![
        crash::MACHINE,
        short::MACHINE,
        model::MACHINE,
        errors::MACHINE,
        errors::THREADS,
        corruption::MACHINE,
        fulldisk::MACHINE,
        kill::MACHINE,
        vm::MACHINE,
        history::MACHINE,
        schedules::MACHINE,
        stores::MACHINE,
        table::MACHINE,
        defects::MACHINE,
    ]
}
