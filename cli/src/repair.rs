//! `akidb repair`: what would be done about damage, or doing it. The library repairs; this prints.

use crate::{
    args::RepairArgs,
    error::Result,
    output::{Output, Report},
    units,
};
use akidb::{Repair, RepairPlan};
use serde::Serialize;
use std::process::ExitCode;

#[derive(Debug, Serialize)]
struct Repaired {
    command: &'static str,
    #[serde(flatten)]
    plan: RepairPlan,
}

impl Report for Repaired {
    fn text(&self) -> String {
        let plan = &self.plan;
        if plan.is_empty() {
            return "sound: there is nothing to repair".to_owned();
        }
        let mut lines: Vec<String> = plan.findings.iter().map(ToString::to_string).collect();
        lines.push(if plan.applied { "done:" } else { "to be done:" }.to_owned());
        lines.extend(plan.steps.iter().map(|step| format!("  {step}")));
        if !plan.saved.is_empty() {
            lines.push("saved:".to_owned());
            lines.extend(plan.saved.iter().map(|saved| format!("  {saved}")));
        }
        if plan.losses.is_empty() {
            lines.push("nothing is lost".to_owned());
        } else {
            lines.push("lost:".to_owned());
            lines.extend(plan.losses.iter().map(|loss| format!("  {loss}")));
        }
        lines.extend(plan.remaining.iter().map(|finding| format!("REMAINS: {finding}")));
        let steps = units::things(plan.steps.len() as u64, "step");
        lines.push(match (&plan.kept_in, plan.applied) {
            (Some(dir), true) => format!("{steps} done; what was replaced is in {}", dir.display()),
            _ => format!("{steps}; nothing was changed, --apply does it"),
        });
        lines.join("\n")
    }
}

pub(crate) fn run(args: &RepairArgs, output: Output) -> Result<ExitCode> {
    let repair = Repair::new(&args.dir).salvage_after_damage(args.salvage_after_damage);
    let plan = if args.apply { repair.apply()? } else { repair.plan()? };
    let code = match (plan.remaining.is_empty(), plan.applied || plan.is_empty()) {
        (false, _) => ExitCode::FAILURE,
        (true, true) => ExitCode::SUCCESS,
        (true, false) if plan.losses.is_empty() => ExitCode::from(3),
        (true, false) => ExitCode::from(4),
    };
    output.report(&Repaired { command: "repair", plan })?;
    Ok(code)
}
