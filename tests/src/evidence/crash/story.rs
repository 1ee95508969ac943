//! A life as a list of steps: played under a plan, and, when it fails, made as short as it can be
//! and told.

use super::{
    super::{Counts, runner::panic_text},
    explore::{Explorer, Plan},
};
use crate::{ops::Step, run::Life};
use akidb::Settings;
use std::{
    fmt::Write as _,
    panic::{AssertUnwindSafe, catch_unwind},
};

/// Lives that are played to make a failing one shorter.
const TRIES_MAX: usize = 60;
/// Longer steps are cut where they are told.
const STEP_TEXT_MAX: usize = 600;

/// A life to be played.
#[derive(Clone, Debug)]
pub(in crate::evidence) struct Story {
    /// Chance, where the steps leave something to it.
    pub(in crate::evidence) seed: u64,
    /// The settings it is played under.
    pub(in crate::evidence) settings: Settings,
    /// What is done before, and crashes nowhere.
    pub(in crate::evidence) prelude: Vec<Step>,
    /// What is done.
    pub(in crate::evidence) steps: Vec<Step>,
}

/// What went wrong.
#[derive(Debug)]
pub(in crate::evidence) struct Wrong {
    /// How many steps had been begun.
    begun: usize,
    message: String,
}

impl Story {
    /// Plays it; returns a hash of everything that was done to any disk.
    pub(in crate::evidence) fn play(&self, plan: Plan, counts: &mut Counts) -> Result<u64, Wrong> {
        let mut begun = 0;
        let outcome = catch_unwind(AssertUnwindSafe(|| self.live(plan, counts, &mut begun)));
        let outcome = outcome.unwrap_or_else(|panic| Err(panic_text(&*panic)));
        outcome.map_err(|message| Wrong { begun, message })
    }

    fn live(&self, plan: Plan, counts: &mut Counts, begun: &mut usize) -> Result<u64, String> {
        let (mut life, first) = Life::start(self.seed, self.settings.clone(), plan.one_in);
        let mut explorer = Explorer::new(plan, self.seed, counts);
        explorer.episode(&first, &self.settings)?;
        life.quietly(&self.prelude, plan.one_in);
        for step in &self.steps {
            *begun += 1;
            for episode in life.step(step) {
                explorer.episode(&episode, &self.settings)?;
            }
        }
        let (trace, distinct) = (explorer.trace(), explorer.distinct());
        counts.add("distinct disks", distinct);
        Ok(trace.rotate_left(32) ^ life.sim().trace_hash())
    }

    /// The failure in words, of the shortest life that still fails.
    pub(in crate::evidence) fn explain(&self, plan: Plan, wrong: Wrong) -> String {
        let (shortest, wrong) = self.shorten(plan, wrong);
        let Self { seed, settings, prelude, steps } = &shortest;
        let before = prelude.len();
        let mut text = format!("life {seed}, {settings:?}, a prelude of {before} steps\n");
        for (at, step) in steps.iter().enumerate() {
            let mut told = format!("{:?}", step.op);
            if let Some((end, _)) = told.char_indices().nth(STEP_TEXT_MAX) {
                told.truncate(end);
            }
            // Writing to a string cannot fail.
            let _ = writeln!(text, "{at:4} {} {told}", step.collection);
        }
        let (all, left) = (self.steps.len(), steps.len());
        let _ = write!(text, "({left} of {all} steps are left)\n{}", wrong.message);
        text
    }

    /// Leaves out steps, from large blocks to single ones, while it still fails.
    fn shorten(&self, plan: Plan, wrong: Wrong) -> (Self, Wrong) {
        let mut best = self.clone();
        best.steps.truncate(wrong.begun);
        let mut wrong = wrong;
        let mut tries = 0;
        let mut block = best.steps.len() / 2;
        while block > 0 && tries < TRIES_MAX {
            let mut at = 0;
            while at < best.steps.len() && tries < TRIES_MAX {
                tries += 1;
                let mut trial = best.clone();
                trial.steps.drain(at..(at + block).min(trial.steps.len()));
                // Every moment: the one that failed is another one in a shorter life.
                let every = Plan { one_in: 1, ..plan };
                match trial.play(every, &mut Counts::default()) {
                    Ok(_) => at += block,
                    Err(other) => {
                        trial.steps.truncate(other.begun);
                        (best, wrong) = (trial, other);
                    }
                }
            }
            block /= 2;
        }
        (best, wrong)
    }
}
