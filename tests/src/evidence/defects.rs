//! The machine that tests the tests: switches known storage bugs on, one after the other, and asks
//! the other machines to find each. Needs the feature `defects`; case `n` is the `n`th entry of
//! [`DEFECTS`]. Own options: `only=NAME` plays one defect, `each=SECONDS` is the time that each
//! finder gets (60).
//!
//! Every bug runs in a process of its own, so that one that hangs is killed, which counts as found,
//! and none leaks into the next.

use super::{Counts, Machine, Options};
use akidb_vfs::thread::spawn;
use std::{
    io::Read,
    process::{Child, Command, Stdio},
    sync::mpsc,
    time::Duration,
};

/// A known bug.
#[derive(Clone, Copy, Debug)]
pub struct Defect {
    /// Its name in the code, where `planted` is asked for it.
    pub name: &'static str,
    /// What goes wrong.
    pub about: &'static str,
    /// The machines that should find it, the quickest first.
    pub finders: &'static [&'static str],
}

/// The machine.
pub const MACHINE: Machine = Machine {
    name: "defects",
    about: "switches known storage bugs on, one by one; every one must be found by a machine",
    unit: "planted defects found",
    required: &[],
    enough: u64::MAX,
    cases: Some(|options| selected(options).len() as u64),
    play,
};

/// How long a finder may take beyond its budget before it is taken to hang.
const PATIENCE: Duration = Duration::from_secs(60);

fn selected(options: &Options) -> Vec<&'static Defect> {
    let wanted = |defect: &&Defect| options.get("only").is_none_or(|only| only == defect.name);
    DEFECTS.iter().filter(wanted).collect()
}

fn play(case: u64, options: &Options, counts: &mut Counts) -> Result<(), String> {
    if !cfg!(feature = "defects") {
        return Err("this build has no defects to switch on: add --features defects".to_owned());
    }
    let all = selected(options);
    let Some(defect) = usize::try_from(case).ok().and_then(|case| all.get(case)) else {
        return Err(format!("there is no case {case}"));
    };
    let each: u64 = options.get("each").map_or(Ok(60), str::parse).map_err(|_| "each=SECONDS")?;
    for finder in defect.finders {
        let (found, how) = ask(finder, defect.name, each)?;
        if found {
            counts.state();
            counts.add(&format!("{} by {finder}: {how}", defect.name), 1);
            return Ok(());
        }
    }
    let (name, about, finders) = (defect.name, defect.about, defect.finders.join(", "));
    Err(format!("nobody found {name} ({about}); asked {finders}, {each} s each"))
}

/// Runs one machine with one bug; was it found, and how?
fn ask(finder: &str, defect: &str, seconds: u64) -> Result<(bool, String), String> {
    let program = std::env::current_exe().map_err(|error| error.to_string())?;
    let mut command = Command::new(program);
    command.args([finder, "--failures-max", "1", "--threads", "1"]);
    command.args(["--time", &seconds.to_string(), "--set", &format!("defect={defect}")]);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = command.spawn().map_err(|error| error.to_string())?;
    let Some(text) = output(&mut child, Duration::from_secs(seconds) + PATIENCE) else {
        drop(child.kill());
        drop(child.wait());
        return Ok((true, "it hung".to_owned()));
    };
    let status = child.wait().map_err(|error| error.to_string())?;
    let head = text.lines().next().unwrap_or_default();
    match status.code() {
        Some(0) => Ok((false, head.to_owned())),
        // 1 is a report with failures; anything else must not pass for one.
        Some(1) if text.contains("FAILED") => Ok((true, "a failed check".to_owned())),
        code => Err(format!("{finder} ended with {code:?} and said {text:?}")),
    }
}

/// All that the child prints until it closes its output; `None` if that takes too long.
pub(super) fn output(child: &mut Child, limit: Duration) -> Option<String> {
    let mut pipe = child.stdout.take()?;
    let (done, wait) = mpsc::channel();
    let reader = spawn("finder-output", move || {
        let mut text = String::new();
        // What cannot be read is judged by the exit code.
        drop(pipe.read_to_string(&mut text));
        drop(done.send(text));
    });
    drop(reader.ok()?);
    wait.recv_timeout(limit).ok()
}

/// Finders of bugs in what is made durable and when.
const CRASHES: &[&str] = &["crash", "short", "model", "errors"];
/// Finders of bugs in what is checked when it is read.
const DAMAGE: &[&str] = &["corruption", "errors"];
/// Finders of bugs in how failures are answered.
const FAULTS: &[&str] = &["errors", "model", "crash"];
/// Finders of bugs in what happens on a full disk.
const FULL: &[&str] = &["fulldisk", "model"];
/// Finders of bugs between machines.
const WRITERS: &[&str] = &["schedules"];
/// Finders of bugs in how a store is used.
const STORES: &[&str] = &["stores"];
/// Finders of bugs between threads.
const RACES: &[&str] = &["history", "kill", "model"];

const fn defect(
    name: &'static str,
    about: &'static str,
    finders: &'static [&'static str],
) -> Defect {
    Defect { name, about, finders }
}

/// All planted defects.
pub const DEFECTS: &[Defect] = &[
    defect("vfs.short-write-ignored", "a short write passes for a whole one", FAULTS),
    defect("vfs.interrupted-write-fails", "an interrupted write is not repeated", FAULTS),
    defect("vfs.replaced-unsynced", "a file is renamed into place before it is synced", CRASHES),
    defect("vfs.replaced-name-unsynced", "its directory is not synced after", CRASHES),
    defect("framed.sync-skipped", "the log calls durable what it never synced", CRASHES),
    defect("framed.failed-sync-retried", "a failed sync is tried again and believed", FAULTS),
    defect("framed.carried-unsynced", "a new WAL file or manifest is not synced", CRASHES),
    defect("framed.name-unsynced", "the directory of a new WAL file is not synced", CRASHES),
    defect("framed.header-checksum-ignored", "frame headers are believed", DAMAGE),
    defect("framed.payload-checksum-ignored", "payloads are believed", DAMAGE),
    defect("framed.rot-taken-for-torn-tail", "the log stops silently in its middle", DAMAGE),
    defect("wal.acknowledged-before-sync", "acknowledged, then never synced", CRASHES),
    defect("wal.interval-never-syncs", "the interval passes without a sync", CRASHES),
    defect("wal.closed-without-seal", "rot in the last group passes for a torn tail", DAMAGE),
    defect("wal.poison-forgotten", "writing goes on after a failed write or sync", FAULTS),
    defect("wal.one-file-too-many-removed", "a WAL file goes with unflushed records", CRASHES),
    defect("wal.chain-unchecked", "a missing WAL file is not noticed", DAMAGE),
    defect("wal.wakeup-missed", "a write is queued and nobody told", RACES),
    defect("manifest.edit-unsynced", "files go before the manifest that drops them", CRASHES),
    defect("manifest.old-removed-first", "the old manifest goes before the new is there", CRASHES),
    defect("install.log-unsynced", "tombstones overtake the log", CRASHES),
    defect("install.old-files-removed-first", "inputs go before the manifest", CRASHES),
    defect("install.manifest-error-dropped", "a failed manifest write is not reported", FAULTS),
    defect("flush.mark-too-high", "one record too many counts as flushed", CRASHES),
    defect("replay.mark-off-by-one", "one record too few is replayed", CRASHES),
    defect("replay.deletes-ignored", "deletes are not replayed", CRASHES),
    defect("open.file-numbers-reused", "a crash's orphan shares its number", CRASHES),
    defect("compaction.deletes-dropped", "a delete of a cold row is forgotten", CRASHES),
    defect("compaction.kills-not-carried", "deletes during a merge are lost", RACES),
    defect("segment.unsynced", "a segment is named before it is synced", CRASHES),
    defect("segment.name-unsynced", "a segment's directory is not synced", CRASHES),
    defect("segment.block-checksum-ignored", "segment bytes are believed", DAMAGE),
    defect("tombstones.checksum-ignored", "tombstones are believed", DAMAGE),
    defect("memtable.deletes-not-remembered", "a delete of a cold row does nothing", CRASHES),
    defect("demote.object-unverified", "local files go for an object that is wrong", FAULTS),
    defect("promote.object-deleted-first", "the object goes before the manifest", CRASHES),
    defect("promote.newer-rows-not-hidden-behind", "old versions come back", CRASHES),
    defect("cold.checksum-ignored", "object bytes are believed", DAMAGE),
    defect("cold.missing-object-is-empty", "a lost object passes for no rows", DAMAGE),
    defect("commit.receipt-overstates", "a receipt says synced when it is not", CRASHES),
    defect("space.reserve-unchecked", "writes eat the reserve of deletes", FULL),
    defect("bucket.writer-uncompared", "whoever wrote the bucket passes for this one", WRITERS),
    defect("bucket.unknown-is-done", "a lost answer passes for a commit", WRITERS),
    defect("bucket.unknown-is-lost", "objects go after a commit that may have been", WRITERS),
    defect("bucket.dropped-deleted-first", "objects go before the commit", WRITERS),
    defect("bucket.garbage-unrecorded", "objects go that the directory still names", WRITERS),
    defect("bucket.own-epoch-swept", "the sweep takes uploads under way", WRITERS),
    defect("retry.doubt-forgotten", "a try in doubt counts as not done", STORES),
    defect("retry.mark-ignored", "another writer's object passes for one's own", STORES),
    defect("retry.permanent-retried", "a refusal is asked for again", STORES),
    defect("retry.wait-ignored", "Retry-After is ignored", STORES),
    defect("upload.struck-too-early", "the journal forgets an upload that goes on", STORES),
    defect("verified.get-unchecked", "a cut body is believed", STORES),
];
