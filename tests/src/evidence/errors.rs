//! The machine that fails every call: in lives that together reach every place where a file or an
//! object is touched, the nth call fails, for every n, in every way, once or from then on. A case
//! is one life and one way. All cases are played twice: with some of their n, so that a run cut
//! short has tried a bit of everything, then with all. Own option: `stride=S` plays every Sth n in
//! the first round (16).
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

/// Shares no factor with the number of cases: a run cut short has played a bit of everything.
const STEP: u64 = 7;

/// How often the calls of a life are gone through until each place had its failure.
const AGAIN: u64 = 5;

/// Lives times ways.
const PAIRS: u64 = (LIVES.len() * WAYS.len()) as u64;
/// Sampled, then complete.
const CASES: u64 = 2 * PAIRS;

fn play(case: u64, options: &Options, counts: &mut Counts) -> Result<(), String> {
    let at = usize::try_from(case * STEP % PAIRS).map_err(|error| error.to_string())?;
    let (life, way) = (LIVES[at / WAYS.len()], WAYS[at % WAYS.len()]);
    let stride: u64 = options.get("stride").map_or(Ok(16), str::parse).map_err(|_| "stride=S")?;
    let stride = match way {
        Way::Disk(..) if case < PAIRS => stride.max(1),
        // A store is called seldom.
        _ => 1,
    };
    let script = (life.script)();
    let mut sites = Sites::default();
    sweep(life.name, &script, way, (1 + case % stride, stride), 0, counts, &mut sites)?;
    match way {
        Way::Disk(kind, _) if stride == 1 => {
            // What a crash leaves differs from seed to seed, and with it how many calls come before
            // another: a call that is made once in a life can slip past between two lives.
            for again in 1..AGAIN {
                if sites.missed(&script, kind).is_empty() {
                    break;
                }
                sweep(life.name, &script, way, (1, 1), again << 32, counts, &mut sites)?;
            }
            sites.check(&script, kind, counts)
        }
        _ => Ok(()),
    }
}

/// Lets one call fail in each life, from the first of `calls` on, each by the second further, as long as
/// there are calls. `seeds` is added to the seed of each life.
fn sweep(
    name: &str,
    script: &Script,
    way: Way,
    (first, stride): (u64, u64),
    seeds: u64,
    counts: &mut Counts,
    sites: &mut Sites,
) -> Result<(), String> {
    let mut nth = first;
    loop {
        let trouble = way.at(nth);
        let played = catch_unwind(AssertUnwindSafe(|| script.survive(&trouble, seeds + nth)));
        let ordeal = played.map_err(|panic| {
            let reason = panic_text(&*panic);
            format!("life {name:?}, {way:?}, call {nth}, seeds {seeds}: {reason}")
        })?;
        if ordeal.struck.is_empty() && ordeal.store_struck == 0 {
            return Ok(());
        }
        count(&ordeal, way, counts);
        sites.note(&ordeal);
        nth += stride;
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

    /// The places that the life reaches.
    fn reached(script: &Script, kind: FaultKind) -> BTreeSet<(String, &'static str)> {
        let can_fail = |call: &&TraceEntry| match call.op {
            // Their length is what comes back, which the trace knows.
            FsOp::Read | FsOp::Map | FsOp::Write => kind.applies_to(call.op, call.len),
            op => kind.applies_to(op, 1),
        };
        let made = script.calls_made();
        let place = |call: &TraceEntry| (format!("{:?}", call.op), disk_part(&call.path));
        made.iter().filter(can_fail).map(place).collect()
    }

    /// Those of them that had no failure yet.
    fn missed(&self, script: &Script, kind: FaultKind) -> Vec<(String, &'static str)> {
        Self::reached(script, kind).difference(&self.0).cloned().collect()
    }

    /// Every place that the life reaches has had its failure.
    fn check(&self, script: &Script, kind: FaultKind, counts: &mut Counts) -> Result<(), String> {
        for (op, part) in &Self::reached(script, kind) {
            counts.add(&format!("site: {op} {part}"), 1);
        }
        let missed = self.missed(script, kind);
        if missed.is_empty() { Ok(()) } else { Err(format!("{kind:?} never struck {missed:?}")) }
    }
}

/// Every way to fail, in every operation that can; and every place where the code touches a file
/// or an object: who adds one adds it here, and a life that reaches it.
const REQUIRED: &[&str] = &[
    "Eio in Allocate",
    "Eio in Create",
    "Eio in CreateDir",
    "Eio in FreeSpace",
    "Eio in ListDir",
    "Eio in Lock",
    "Eio in Map",
    "Eio in Metadata",
    "Eio in Open",
    "Eio in Read",
    "Eio in RemoveFile",
    "Eio in Rename",
    "Eio in SyncAll",
    "Eio in SyncData",
    "Eio in SyncDir",
    "Eio in Write",
    "Interrupted in Read",
    "Interrupted in Write",
    "NoSpace in Allocate",
    "NoSpace in Create",
    "NoSpace in CreateDir",
    "NoSpace in Rename",
    "NoSpace in SyncAll",
    "NoSpace in SyncData",
    "NoSpace in SyncDir",
    "NoSpace in Write",
    "ReadFlip in Map",
    "ReadFlip in Read",
    "ShortWrite in Write",
    "SyncFailsCacheDropped in SyncAll",
    "SyncFailsCacheDropped in SyncData",
    "SyncFailsCacheDropped in SyncDir",
    "SyncFailsCacheKept in SyncAll",
    "SyncFailsCacheKept in SyncData",
    "SyncFailsCacheKept in SyncDir",
    "TooManyFiles in Create",
    "TooManyFiles in ListDir",
    "TooManyFiles in Lock",
    "TooManyFiles in Map",
    "TooManyFiles in Open",
    "TooManyFiles in SyncDir",
    "errors of kind Corruption",
    "errors of kind NoSpace",
    "errors of kind Reopen",
    "errors of kind Unavailable",
    "opens that failed",
    "poisoned databases",
    "recoveries checked",
    "site: Allocate log",
    "site: Allocate manifest",
    "site: Create log",
    "site: Create manifest",
    "site: Create object",
    "site: Create segment",
    "site: Create tombstones",
    "site: CreateDir database directory",
    "site: CreateDir log directory",
    "site: CreateDir object directory",
    "site: CreateDir parent directory",
    "site: CreateDir segment directory",
    "site: FreeSpace database directory",
    "site: ListDir database directory",
    "site: ListDir log directory",
    "site: ListDir object directory",
    "site: ListDir segment directory",
    "site: Lock lock",
    "site: Map segment",
    "site: Metadata database directory",
    "site: Metadata log",
    "site: Metadata log directory",
    "site: Metadata manifest",
    "site: Metadata object",
    "site: Metadata object directory",
    "site: Metadata parent directory",
    "site: Metadata segment",
    "site: Metadata segment directory",
    "site: Metadata tombstones",
    "site: Open log",
    "site: Open manifest",
    "site: Open object",
    "site: Open segment",
    "site: Open tombstones",
    "site: Read log",
    "site: Read manifest",
    "site: Read object",
    "site: Read segment",
    "site: Read tombstones",
    "site: RemoveFile log",
    "site: RemoveFile manifest",
    "site: RemoveFile object",
    "site: RemoveFile segment",
    "site: RemoveFile tombstones",
    "site: Rename log",
    "site: Rename manifest",
    "site: Rename object",
    "site: Rename segment",
    "site: Rename tombstones",
    "site: SyncAll log",
    "site: SyncAll manifest",
    "site: SyncAll object",
    "site: SyncAll segment",
    "site: SyncAll tombstones",
    "site: SyncData log",
    "site: SyncData manifest",
    "site: SyncDir database directory",
    "site: SyncDir log directory",
    "site: SyncDir object directory",
    "site: SyncDir parent directory",
    "site: SyncDir segment directory",
    "site: Write log",
    "site: Write manifest",
    "site: Write object",
    "site: Write segment",
    "site: Write tombstones",
    "store: DeleteFails",
    "store: GetFails",
    "store: GetFindsNothing",
    "store: GetReturnsOtherBytes",
    "store: HeadFails",
    "store: PutAnswerLost",
    "store: PutFails",
    "store: PutKeepsHalf",
    "store: PutKeepsOtherBytes",
];
