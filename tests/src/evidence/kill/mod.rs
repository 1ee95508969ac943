//! T3: SIGKILL on real files. One seed is the life of one database: several processes in a row
//! write to it from four threads, flush, compact, move and snapshot beside, and each is killed, by
//! itself at a named call of the file system ([`points`]) or from outside at a random time; some of
//! the recoveries between are killed too. What each thread asked for and was told is in files
//! outside the database ([`life`]); after every kill a process that is not killed prints all there
//! is ([`child`]), and this module compares.
//!
//! Own options: `backend=std|uring|tokio_uring|auto` is the log's, `dir=PATH` where the databases
//! lie (the system's directory for temporary files), `child=PROGRAM` the `evidence` binary if it is
//! not this one. A seed decides the plan; when a random kill strikes is up to the machine.

mod child;
mod life;
mod points;

pub use child::child;

use super::{Counts, Machine, Options, defects::output};
use child::{Role, Task, WRITERS, log_path};
use life::{Call, Level, Row, Rows, WRITER_IDS, changed, prefixes, promised};
use points::{Moment, POINTS, REQUIRED};
use std::{
    collections::BTreeSet,
    os::unix::process::ExitStatusExt,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

/// The machine.
pub const MACHINE: Machine = Machine {
    name: "kill",
    about: "SIGKILL at named calls and at random times, four writers, real files",
    unit: "kills",
    required: REQUIRED,
    enough: 1000,
    cases: None,
    play,
};

/// A child that does nothing for so long hangs. An open takes a hundredth of a second.
const PATIENCE: Duration = Duration::from_secs(60);

fn play(seed: u64, options: &Options, counts: &mut Counts) -> Result<(), String> {
    let mut rng = fastrand::Rng::with_seed(seed);
    let parent = options.get("dir").map_or_else(std::env::temp_dir, PathBuf::from);
    let dir = tempfile::Builder::new().prefix("akidb-kill-").tempdir_in(parent);
    let dir = dir.map_err(|error| error.to_string())?;
    let program = options.get("child").map_or_else(std::env::current_exe, |path| Ok(path.into()));
    let mut life = Life {
        program: program.map_err(|error| error.to_string())?,
        dir: dir.path().to_owned(),
        seed,
        backend: options.get("backend").unwrap_or("std").to_owned(),
        defect: options.get("defect").map(str::to_owned),
        rows: vec![Rows::new(); WRITERS as usize],
        extras: Extras::default(),
    };
    let rounds = rng.u64(2..6);
    for round in 0..rounds {
        let done = life.round(round, &mut rng, counts);
        if let Err(text) = done {
            let kept = dir.keep();
            return Err(format!("round {round}: {text} (files kept in {})", kept.display()));
        }
    }
    Ok(())
}

/// What exists besides rows, and once told must stay: names as a child prints them.
#[derive(Debug, Default)]
struct Extras {
    /// Acknowledged.
    told: BTreeSet<String>,
    /// Asked to go, so that both is right.
    dropped: BTreeSet<String>,
}

/// A database between kills, and what is known of it.
struct Life {
    program: PathBuf,
    dir: PathBuf,
    seed: u64,
    backend: String,
    defect: Option<String>,
    /// The rows of each writer as they were found last.
    rows: Vec<Rows>,
    extras: Extras,
}

/// How a child ended.
enum End {
    /// At its point.
    ByItself,
    /// When its time was over.
    FromOutside,
    /// Alive, and all is well; with its output.
    Finished(String),
}

impl Life {
    fn round(
        &mut self,
        round: u64,
        rng: &mut fastrand::Rng,
        counts: &mut Counts,
    ) -> Result<(), String> {
        let point = (rng.u8(0..10) < 7).then(|| any_point(rng));
        let time = match point {
            Some(_) => Duration::from_millis(rng.u64(150..700)),
            None => Duration::from_millis(rng.u64(1..250)),
        };
        self.kill(&self.task(Role::Work, round, point), time, counts)?;
        while rng.u8(0..10) < 3 {
            let task = self.task(Role::Recover, round, Some(any_point(rng)));
            let time = Duration::from_millis(rng.u64(5..40));
            if self.kill(&task, time, counts)? {
                counts.add("kills within a recovery", 1);
            }
        }
        let role = if rng.bool() { Role::Check } else { Role::CheckAndDie };
        let found = match self.run(&self.task(role, round, None), PATIENCE)? {
            End::Finished(text) => text,
            End::ByItself if role == Role::CheckAndDie => return Err("no output".to_owned()),
            End::ByItself => return Err("the child that looks was killed".to_owned()),
            End::FromOutside => return Err("the child that looks hangs".to_owned()),
        };
        self.compare(round, &found, counts)
    }

    fn task(&self, role: Role, round: u64, point: Option<(String, String, u64)>) -> Task {
        Task {
            life: self.dir.clone(),
            role,
            seed: self.seed,
            round,
            point,
            backend: self.backend.clone(),
            defect: self.defect.clone(),
        }
    }

    /// Runs a child that is to be killed; was it, before it had done its work?
    fn kill(&self, task: &Task, time: Duration, counts: &mut Counts) -> Result<bool, String> {
        let Some((point, moment, _)) = &task.point else {
            return match self.run(task, time)? {
                End::FromOutside => {
                    counts.state();
                    counts.add("kills at a random time", 1);
                    Ok(true)
                }
                _ => Err("a writer ended".to_owned()),
            };
        };
        match self.run(task, time)? {
            End::ByItself => {
                counts.state();
                counts.add("kills at a named call", 1);
                counts.add(point, 1);
                counts.add(&format!("{moment} a call"), 1);
                Ok(true)
            }
            End::FromOutside => {
                counts.state();
                counts.add("kills at a random time", 1);
                Ok(true)
            }
            End::Finished(_) if task.role == Role::Recover => Ok(false),
            End::Finished(text) => Err(format!("a writer ended and said {text:?}")),
        }
    }

    /// Runs a child for at most `limit`.
    fn run(&self, task: &Task, limit: Duration) -> Result<End, String> {
        let mut command = Command::new(&self.program);
        command.args(["kill-child", &task.text()]);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().map_err(|error| error.to_string())?;
        let text = output(&mut child, limit);
        if text.is_none() {
            child.kill().map_err(|error| error.to_string())?;
        }
        let ended = child.wait_with_output().map_err(|error| error.to_string())?;
        let errors = String::from_utf8_lossy(&ended.stderr).into_owned();
        match (text, ended.status.signal(), ended.status.code()) {
            // It may end between the last moment of its time and the kill.
            (text, _, Some(0)) => Ok(End::Finished(text.unwrap_or_default())),
            (Some(text), Some(9), _) if task.role == Role::CheckAndDie => Ok(End::Finished(text)),
            (Some(text), Some(9), _) if !text.contains("error") => Ok(End::ByItself),
            (None, Some(9), _) => Ok(End::FromOutside),
            (text, ..) => {
                let text = text.unwrap_or_default();
                Err(format!("{:?} ended with {}: {text}{errors}", task.role, ended.status))
            }
        }
    }

    /// Is what was found what was promised?
    fn compare(&mut self, round: u64, found: &str, counts: &mut Counts) -> Result<(), String> {
        let (rows, names) = parse_found(found)?;
        self.look_at_names(round, &names)?;
        let mut writers = Vec::new();
        for writer in 0..WRITERS {
            let calls = read_calls(&self.dir, round, &writer.to_string())?;
            let calls = life::parse(&calls)?;
            let before = self.rows.get(writer as usize).cloned().unwrap_or_default();
            let now: Rows =
                rows.iter().filter(|(id, _)| **id / WRITER_IDS == writer).map(copied).collect();
            writers.push(Writer::new(writer, &before, calls, &now)?);
            if let Some(known) = self.rows.get_mut(writer as usize) {
                *known = now;
            }
        }
        one_prefix(&writers)?;
        for writer in &writers {
            writer.count(counts);
        }
        Ok(())
    }

    /// Fields and snapshots that were told are there.
    fn look_at_names(&mut self, round: u64, found: &BTreeSet<String>) -> Result<(), String> {
        for line in read_calls(&self.dir, round, "maintenance")?.lines() {
            match line.strip_prefix("dropped ") {
                Some(name) => drop(self.extras.dropped.insert(format!("snapshot {name}"))),
                None => drop(self.extras.told.insert(line.to_owned())),
            }
        }
        let lost = self.extras.told.difference(&self.extras.dropped);
        match lost.into_iter().find(|name| !found.contains(*name)) {
            Some(name) => Err(format!("{name:?} was acknowledged and is gone")),
            None => Ok(()),
        }
    }
}

fn copied((id, row): (&u64, &Row)) -> (u64, Row) {
    (*id, *row)
}

/// A point, a moment and which of its calls: the common ones late, the rare ones at once.
fn any_point(rng: &mut fastrand::Rng) -> (String, String, u64) {
    let point = POINTS.get(rng.usize(0..POINTS.len())).copied().unwrap_or_default();
    let moment = Moment::ALL[rng.usize(0..Moment::ALL.len())].0;
    let often = matches!(point, "write wal" | "sync wal");
    let nth = if often { rng.u64(1..150) } else { 1 + rng.u64(0..4) * rng.u64(0..2) };
    (point.to_owned(), moment.to_owned(), nth)
}

/// The lines of a log that a child may not have come to begin; without a last one that was cut.
fn read_calls(dir: &Path, round: u64, who: &str) -> Result<String, String> {
    let path = log_path(dir, round, who);
    match akidb_vfs::read_file(&akidb_vfs::RealFs, &path) {
        Ok(bytes) => {
            let mut text = String::from_utf8_lossy(&bytes).into_owned();
            text.truncate(text.rfind('\n').map_or(0, |end| end + 1));
            Ok(text)
        }
        Err(error) if error.is_not_found() => Ok(String::new()),
        Err(error) => Err(error.to_string()),
    }
}

/// What a child printed: rows, and the names of everything else.
fn parse_found(text: &str) -> Result<(Rows, BTreeSet<String>), String> {
    let (mut rows, mut names) = (Rows::new(), BTreeSet::new());
    let whole = text.strip_suffix("end\n").ok_or_else(|| format!("it only said {text:?}"))?;
    for line in whole.lines() {
        let Some(row) = line.strip_prefix("row ") else {
            names.insert(line.to_owned());
            continue;
        };
        let numbers: Vec<u64> = row.split(' ').filter_map(|word| word.parse().ok()).collect();
        let [id, version, update] = numbers.as_slice() else {
            return Err(format!("it said {line:?}"));
        };
        rows.insert(*id, Row { version: *version, update: *update });
    }
    Ok((rows, names))
}

/// One writer's calls, and which prefixes of them were found.
struct Writer {
    calls: Vec<Call>,
    fitting: Vec<usize>,
}

impl Writer {
    fn new(writer: u64, before: &Rows, calls: Vec<Call>, found: &Rows) -> Result<Self, String> {
        let all = prefixes(before, &calls, found);
        let least = promised(&calls);
        let fitting: Vec<usize> = all.iter().copied().filter(|length| *length >= least).collect();
        if fitting.is_empty() {
            let last = calls.get(least.saturating_sub(1));
            return Err(format!(
                "writer {writer} made {} calls, {least} of them must be kept, the last {last:?}; \
                 what is there fits {all:?}: {found:?}",
                calls.len()
            ));
        }
        Ok(Self { calls, fitting })
    }

    /// Can it be that all its calls up to this LSN were kept, and none after?
    fn fits(&self, lsn: u64) -> bool {
        self.fitting.iter().any(|length| {
            let (kept, lost) = self.calls.split_at(*length);
            kept.iter().filter_map(changed).all(|kept| kept <= lsn)
                && lost.iter().filter_map(changed).all(|lost| lost > lsn)
        })
    }

    fn count(&self, counts: &mut Counts) {
        let kept = self.fitting.last().copied().unwrap_or(0);
        let is = |level| move |call: &&Call| call.level == level && call.acknowledged.is_some();
        for (name, level) in Level::ALL {
            let count = self.calls.iter().filter(is(level)).count();
            counts.add(&format!("acknowledged at {name}"), count as u64);
        }
        let (kept, lost) = self.calls.split_at(kept);
        let unsure = kept.iter().filter(|call| call.acknowledged.is_none()).count();
        counts.add("kept before they were acknowledged", unsure as u64);
        let lost = lost.iter().filter(|call| changed(call).is_some()).count();
        counts.add("lost as their level allows", lost as u64);
    }
}

/// The writes of all writers that were kept are those up to one LSN.
fn one_prefix(writers: &[Writer]) -> Result<(), String> {
    let all = writers.iter().flat_map(|writer| writer.calls.iter().filter_map(changed));
    let candidates: BTreeSet<u64> = all.chain([0]).collect();
    let found = candidates.iter().rev().any(|lsn| writers.iter().all(|writer| writer.fits(*lsn)));
    if found { Ok(()) } else { Err("each writer has a prefix, but not all the same".to_owned()) }
}

#[cfg(test)]
mod tests {
    use super::{life::Op, *};

    fn writer(lsns: &[u64], fitting: &[usize]) -> Writer {
        let call = |lsn: &u64| Call {
            op: Op::Delete(vec![1]),
            level: Level::Memory,
            acknowledged: Some(*lsn),
        };
        Writer { calls: lsns.iter().map(call).collect(), fitting: fitting.to_vec() }
    }

    #[test]
    fn writers_that_kept_different_prefixes_are_told_from_those_that_kept_one() {
        let both = |first: &[usize], second: &[usize]| {
            one_prefix(&[writer(&[1, 3, 5], first), writer(&[2, 4, 6], second)])
        };
        assert_eq!(both(&[3], &[3]), Ok(()));
        assert_eq!(both(&[2], &[1]), Ok(()), "up to 3");
        assert_eq!(both(&[0], &[0]), Ok(()));
        assert!(both(&[1], &[2]).is_err(), "4 without 3");
        assert_eq!(both(&[1, 2], &[2]), Ok(()), "rows alone do not tell 1 from 3");
    }

    #[test]
    fn output_that_breaks_off_is_no_answer() {
        assert!(parse_found("row 1 2 3\n").is_err());
        assert!(parse_found("row 1 2\nend\n").is_err());
        let (rows, names) = parse_found("row 1 2 3\nsnapshot s\nend\n").unwrap();
        assert_eq!(rows.get(&1), Some(&Row { version: 2, update: 3 }));
        assert!(names.contains("snapshot s"));
    }
}
