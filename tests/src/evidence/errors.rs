//! The machine that fails every call: in lives that together reach every place where a file or an
//! object is touched, the nth call fails, for every n, in every way, once or from then on. A case
//! is one life and one way; all its n are played. Own option: `stride=S` plays every Sth n.
//!
//! Driven inline, so that the nth call is the same call every time; the machine `errors-threads`
//! samples the same with threads.

mod lives;
mod threads;

pub(super) use threads::MACHINE as THREADS;

use super::{Counts, Machine, Options, runner::panic_text};
use crate::{
    fault_store::Mischief,
    run::{Ordeal, Script, Trouble, disk_part},
};
use akidb_vfs::{
    FsOp,
    sim::{Fault, FaultKind, TraceEntry},
};
use lives::LIVES;
use std::{
    collections::BTreeSet,
    panic::{AssertUnwindSafe, catch_unwind},
};

/// The machine.
pub(super) const MACHINE: Machine = Machine {
    name: "errors",
    about: "fails the nth call on the disk or the store, for every n, in every way, in every life",
    unit: "lives with a failed call",
    required: REQUIRED,
    enough: CASES,
    cases: Some(|_| CASES),
    play,
};

/// How calls fail, and whether they go on failing.
#[derive(Clone, Copy, Debug)]
enum Way {
    Disk(FaultKind, bool),
    Store(Mischief, bool),
}

/// Interrupted calls are never sticky: they would loop for ever, as on a real machine.
const WAYS: [Way; 33] = {
    use FaultKind as F;
    use Mischief as M;
    [
        Way::Disk(F::Eio, false),
        Way::Disk(F::Eio, true),
        Way::Disk(F::NoSpace, false),
        Way::Disk(F::NoSpace, true),
        Way::Disk(F::ShortWrite, false),
        Way::Disk(F::ShortWrite, true),
        Way::Disk(F::Interrupted, false),
        Way::Disk(F::TooManyFiles, false),
        Way::Disk(F::TooManyFiles, true),
        Way::Disk(F::SyncFailsCacheKept, false),
        Way::Disk(F::SyncFailsCacheKept, true),
        Way::Disk(F::SyncFailsCacheDropped, false),
        Way::Disk(F::SyncFailsCacheDropped, true),
        Way::Disk(F::ReadFlip, false),
        Way::Disk(F::ReadFlip, true),
        Way::Store(M::PutKeepsOtherBytes, false),
        Way::Store(M::PutKeepsOtherBytes, true),
        Way::Store(M::PutKeepsHalf, false),
        Way::Store(M::PutKeepsHalf, true),
        Way::Store(M::PutFails, false),
        Way::Store(M::PutFails, true),
        Way::Store(M::PutAnswerLost, false),
        Way::Store(M::PutAnswerLost, true),
        Way::Store(M::GetReturnsOtherBytes, false),
        Way::Store(M::GetReturnsOtherBytes, true),
        Way::Store(M::GetFails, false),
        Way::Store(M::GetFails, true),
        Way::Store(M::GetFindsNothing, false),
        Way::Store(M::GetFindsNothing, true),
        Way::Store(M::HeadFails, false),
        Way::Store(M::HeadFails, true),
        Way::Store(M::DeleteFails, false),
        Way::Store(M::DeleteFails, true),
    ]
};

const CASES: u64 = (LIVES.len() * WAYS.len()) as u64;

fn play(case: u64, options: &Options, counts: &mut Counts) -> Result<(), String> {
    let at = usize::try_from(case % CASES).map_err(|error| error.to_string())?;
    let (life, way) = (LIVES[at / WAYS.len()], WAYS[at % WAYS.len()]);
    let stride: u64 = options.get("stride").map_or(Ok(1), str::parse).map_err(|_| "stride=S")?;
    let script = (life.script)();
    let mut sites = Sites::default();
    for nth in (1..).step_by(usize::try_from(stride.max(1)).map_err(|error| error.to_string())?) {
        let trouble = way.at(nth);
        let played = catch_unwind(AssertUnwindSafe(|| script.survive(&trouble, nth)));
        let ordeal = played.map_err(|panic| {
            let (name, reason) = (life.name, panic_text(&*panic));
            format!("life {name:?}, {way:?}, call {nth}: {reason}")
        })?;
        if ordeal.struck.is_empty() && ordeal.store_struck == 0 {
            break;
        }
        count(&ordeal, way, counts);
        sites.note(&ordeal);
    }
    match way {
        Way::Disk(kind, _) if stride == 1 => sites.check(&script, kind, counts),
        _ => Ok(()),
    }
}

impl Way {
    fn at(self, nth: u64) -> Trouble {
        match self {
            Self::Disk(kind, sticky) => {
                let fault = Fault::new(kind).nth(nth);
                Trouble::Disk(if sticky { fault.sticky() } else { fault })
            }
            Self::Store(mischief, sticky) => Trouble::Store { mischief, nth, sticky },
        }
    }
}

fn count(ordeal: &Ordeal, way: Way, counts: &mut Counts) {
    counts.state();
    counts.add("recoveries checked", ordeal.recovered);
    counts.add("poisoned databases", ordeal.poisoned);
    counts.add("opens that failed", ordeal.opens_failed);
    for (kind, errors) in &ordeal.errors {
        counts.add(&format!("errors of kind {kind}"), *errors);
    }
    for struck in &ordeal.struck {
        counts.add(&format!("{:?} in {:?}", struck.kind, struck.op), 1);
    }
    if let Way::Store(mischief, _) = way {
        counts.add(&format!("store: {mischief:?}"), ordeal.store_struck);
    }
}

/// The places of the disk where calls failed: an operation on a part.
#[derive(Debug, Default)]
struct Sites(BTreeSet<(String, &'static str)>);

impl Sites {
    fn note(&mut self, ordeal: &Ordeal) {
        for struck in &ordeal.struck {
            self.0.insert((format!("{:?}", struck.op), disk_part(&struck.path)));
        }
    }

    /// Every place that the life reaches has had its failure.
    fn check(&self, script: &Script, kind: FaultKind, counts: &mut Counts) -> Result<(), String> {
        let can_fail = |call: &&TraceEntry| match call.op {
            // Their length is what comes back, which the trace knows.
            FsOp::Read | FsOp::Map | FsOp::Write => kind.applies_to(call.op, call.len),
            op => kind.applies_to(op, 1),
        };
        let made = script.calls_made();
        let reached: BTreeSet<_> = made
            .iter()
            .filter(can_fail)
            .map(|call| (format!("{:?}", call.op), disk_part(&call.path)))
            .collect();
        for (op, part) in &reached {
            counts.add(&format!("site: {op} {part}"), 1);
        }
        let missed: Vec<_> = reached.difference(&self.0).collect();
        if missed.is_empty() { Ok(()) } else { Err(format!("{kind:?} never struck {missed:?}")) }
    }
}

/// Every way to fail, in every operation that can; and every place where the code touches a file.
const REQUIRED: &[&str] = &[];
