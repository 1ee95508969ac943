//! What a run found, for people and as JSON. The JSON's fields are an interface: the ledger and
//! scripts read them.

use super::{Counts, Machine, Options};
use serde_json::{Value, json};
use std::fmt;

/// One failed seed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// The seed.
    pub seed: u64,
    /// What was wrong.
    pub message: String,
}

/// What a run found.
#[derive(Clone, Debug)]
pub struct Report {
    /// The machine.
    pub machine: Machine,
    /// What it was asked for.
    pub options: Options,
    /// The commit of the source, with `-dirty` behind it if the tree had changes; `unknown`
    /// without git.
    pub commit: String,
    /// Seeds played, regressions among them.
    pub runs: u64,
    /// How many of them came from the regression file.
    pub regressions: u64,
    /// How long it took, in seconds.
    pub seconds: f64,
    /// What was tried.
    pub counts: Counts,
    /// Required counters that stayed at zero in a run that was long enough.
    pub missing: Vec<&'static str>,
    /// The seeds that failed.
    pub failures: Vec<Failure>,
}

impl Report {
    /// Nothing failed and nothing was missed.
    pub fn passed(&self) -> bool {
        self.failures.is_empty() && self.missing.is_empty()
    }

    /// The command that plays one seed again.
    pub fn replay(&self, seed: u64) -> String {
        let (name, more) = (self.machine.name, self.options.arguments());
        format!(
            "cargo run --release -p akidb-tests --bin evidence -- {name} --seed {seed} --runs 1{more}"
        )
    }

    /// The command that does the whole run again.
    pub fn command(&self) -> String {
        let (name, seed, more) = (self.machine.name, self.options.seed, self.options.arguments());
        let runs = self.runs - self.regressions;
        format!(
            "cargo run --release -p akidb-tests --bin evidence -- {name} --seed {seed} --runs {runs}{more}"
        )
    }

    /// All of it as JSON.
    pub fn json(&self) -> Value {
        let failures: Vec<Value> = self
            .failures
            .iter()
            .map(|failure| {
                json!({
                    "seed": failure.seed,
                    "message": failure.message,
                    "replay": self.replay(failure.seed),
                })
            })
            .collect();
        json!({
            "machine": self.machine.name,
            "unit": self.machine.unit,
            "commit": self.commit,
            "command": self.command(),
            "seed": self.options.seed,
            "runs": self.runs,
            "regressions": self.regressions,
            "threads": self.options.threads,
            "seconds": self.seconds,
            "states": self.counts.states(),
            "states_per_s": self.counts.states() as f64 / self.seconds.max(1e-9),
            "counters": self.counts.all(),
            "missing": self.missing,
            "failures": failures,
            "passed": self.passed(),
        })
    }

    /// Fails the test that made the run, with all that is needed to replay.
    ///
    /// # Panics
    /// When the run did not pass.
    pub fn assert_passed(&self) {
        assert!(self.passed(), "{self}");
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Machine { name, unit, .. } = self.machine;
        let (runs, states, seconds) = (self.runs, self.counts.states(), self.seconds);
        let rate = states as f64 / seconds.max(1e-9);
        writeln!(
            f,
            "{name}: {runs} seeds, {states} {unit} in {seconds:.1} s ({rate:.0} a second)"
        )?;
        writeln!(f, "commit {}, first seed {}", self.commit, self.options.seed)?;
        for (counter, count) in self.counts.all() {
            writeln!(f, "  {count:>12}  {counter}")?;
        }
        for counter in &self.missing {
            writeln!(f, "NEVER HAPPENED: {counter}")?;
        }
        for failure in &self.failures {
            writeln!(f, "FAILED: seed {}\n{}", failure.seed, failure.message)?;
            writeln!(f, "replay: {}", self.replay(failure.seed))?;
        }
        write!(f, "{}", if self.passed() { "passed" } else { "FAILED" })
    }
}
