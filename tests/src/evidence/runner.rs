//! Plays seeds until the budget is used up: hands them out, catches panics, adds up. Called by the
//! `evidence` binary and by the short tests. Knows no machine.

use super::{Counts, Failure, Machine, Options, Report, regressions::regressions};
use akidb_vfs::{Clock, SystemClock, thread::spawn_scoped};
use parking_lot::Mutex;
use std::{
    any::Any,
    panic::{AssertUnwindSafe, catch_unwind},
    process::Command,
    time::Duration,
};

/// What the threads share.
struct Shared {
    /// Seeds handed out, regressions not among them.
    started: u64,
    regressions: Vec<u64>,
    played: u64,
    counts: Counts,
    failures: Vec<Failure>,
}

/// Runs `machine` within the budget of `options`. `progress` is told the seeds and the states so
/// far after every seed.
///
/// # Panics
/// When the system gives no thread.
pub fn run(machine: &Machine, options: &Options, progress: &(dyn Fn(u64, u64) + Sync)) -> Report {
    let clock = SystemClock::new();
    let began = clock.monotonic();
    let mut first = regressions(machine.name);
    first.reverse();
    let before = first.len() as u64;
    let shared = Mutex::new(Shared {
        started: 0,
        regressions: first,
        played: 0,
        counts: Counts::default(),
        failures: Vec::new(),
    });
    let cases = machine.cases.map(|cases| cases(options));
    let over = |started: u64| {
        let elapsed = clock.monotonic().saturating_sub(began);
        options.time.is_some_and(|time| elapsed >= time)
            || options.runs.is_some_and(|runs| started >= runs)
            || cases.is_some_and(|cases| options.seed.saturating_add(started) >= cases)
            || (options.runs.is_none() && options.time.is_none() && cases.is_none() && started > 0)
    };
    let next = || {
        let mut shared = shared.lock();
        if shared.failures.len() >= options.failures_max {
            return None;
        }
        if let Some(seed) = shared.regressions.pop() {
            return Some(seed);
        }
        if over(shared.started) {
            return None;
        }
        shared.started += 1;
        Some(options.seed + (shared.started - 1))
    };
    let work = || {
        while let Some(seed) = next() {
            let mut counts = Counts::default();
            let outcome = play(machine, seed, options, &mut counts);
            let mut shared = shared.lock();
            shared.played += 1;
            shared.counts.merge(&counts);
            if let Err(message) = outcome {
                shared.failures.push(Failure { seed, message });
            }
            progress(shared.played, shared.counts.states());
        }
    };
    std::thread::scope(|scope| {
        for at in 1..options.threads.max(1) {
            let started = spawn_scoped(scope, &format!("evidence-{at}"), work);
            drop(started.expect("the system gives a thread"));
        }
        work();
    });
    let seconds = clock.monotonic().saturating_sub(began);
    finish(machine, options, before, seconds, shared.into_inner())
}

fn play(
    machine: &Machine,
    seed: u64,
    options: &Options,
    counts: &mut Counts,
) -> Result<(), String> {
    let outcome = catch_unwind(AssertUnwindSafe(|| (machine.play)(seed, options, counts)));
    outcome.unwrap_or_else(|panic| Err(panic_text(&*panic)))
}

/// The text of a caught panic.
pub(super) fn panic_text(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "a panic without a message".to_owned())
}

fn finish(
    machine: &Machine,
    options: &Options,
    regressions: u64,
    seconds: Duration,
    shared: Shared,
) -> Report {
    let Shared { played, counts, failures, .. } = shared;
    let enough = played >= machine.enough && failures.is_empty();
    let missing = machine.required.iter().filter(|name| enough && counts.get(name) == 0);
    Report {
        machine: *machine,
        options: options.clone(),
        commit: commit(),
        runs: played,
        regressions,
        seconds: seconds.as_secs_f64(),
        missing: missing.copied().collect(),
        counts,
        failures,
    }
}

/// The commit of the source tree.
fn commit() -> String {
    let git = |arguments: &[&str]| {
        let mut command = Command::new("git");
        command.current_dir(env!("CARGO_MANIFEST_DIR")).args(arguments);
        let output = command.output().ok().filter(|output| output.status.success())?;
        Some(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    let Some(commit) = git(&["rev-parse", "--short=10", "HEAD"]) else {
        return "unknown".to_owned();
    };
    let clean = git(&["status", "--porcelain", "--untracked-files=no"]);
    if clean.is_some_and(|changes| changes.is_empty()) { commit } else { format!("{commit}-dirty") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn even_seeds_fail(seed: u64, _: &Options, counts: &mut Counts) -> Result<(), String> {
        counts.state();
        counts.add("seeds", 1);
        match seed % 10 {
            4 => Err("four".to_owned()),
            6 => panic!("six"),
            _ => Ok(()),
        }
    }

    const MACHINE: Machine = Machine {
        name: "test",
        about: "",
        unit: "seeds",
        required: &["seeds", "never"],
        enough: 3,
        cases: None,
        play: even_seeds_fail,
    };

    #[test]
    fn every_seed_is_played_once_and_errors_and_panics_are_failures() {
        let options = Options { runs: Some(8), failures_max: 9, ..Options::default() };
        let report = run(&MACHINE, &options, &|_, _| {});
        assert_eq!((report.runs, report.counts.states()), (8, 8));
        let mut failures: Vec<_> = report.failures.iter().map(|f| (f.seed, &*f.message)).collect();
        failures.sort_unstable();
        assert_eq!(failures, [(4, "four"), (6, "six")]);
        assert!(!report.passed());
    }

    #[test]
    fn a_long_run_that_misses_a_required_counter_fails_and_a_short_one_does_not() {
        let long = run(&MACHINE, &Options::short(0, 3), &|_, _| {});
        assert_eq!((long.missing.as_slice(), long.passed()), (["never"].as_slice(), false));
        assert!(run(&MACHINE, &Options::short(0, 2), &|_, _| {}).passed());
    }

    #[test]
    fn an_exhaustive_machine_ends_after_its_last_case() {
        let machine = Machine { cases: Some(|_| 3), required: &[], ..MACHINE };
        assert_eq!(run(&machine, &Options::default(), &|_, _| {}).runs, 3);
    }
}
