//! T3: SIGKILL on real files. One seed is the life of one database: several processes in a row
//! write to it from four threads, flush, compact, move and snapshot beside, and each is killed, by
//! itself at a named call of the file system (`points`) or from outside at a random time; some of
//! the recoveries between are killed too. What each thread asked for and was told is in files
//! outside the database (`life`); after every kill a process that is not killed prints all there
//! is ([`child`]), and `witness` compares.
//!
//! With `store=s3` the objects go to the bucket of a server that [`crate::real_server`] names, below a prefix
//! of their own. What the bucket alone gives is looked at too: after a kill it must be something that once was,
//! and once everything was demoted it must be everything (`shipped`). With `large=yes` a life is another one:
//! one collection whose object goes in parts, moved to and fro (`large`).
//!
//! Own options: `backend=std|uring|tokio_uring|auto` is the log's, `dir=PATH` where the databases
//! lie (the system's directory for temporary files), `child=PROGRAM` the `evidence` binary if it is
//! not this one, `store=s3`, `large=yes`. A seed decides the plan; when a random kill strikes is up to the
//! machine.

mod child;
mod large;
mod life;
mod points;
mod shipped;
mod witness;

pub use child::child;
pub(super) use child::{Role, Task};
pub(super) use life::Level;
pub(super) use witness::Witness;

use super::{Counts, Machine, Options, defects::output};
use points::{Moment, POINTS, REQUIRED};
use std::{
    os::unix::process::ExitStatusExt,
    path::PathBuf,
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
        store: shipped::prefix(seed, options)?,
        witness: Witness::new(&[Level::Sync, Level::Interval]),
    };
    let large = options.get("large").is_some();
    let rounds = rng.u64(2..6);
    for round in 0..rounds {
        let done = if large {
            life.large_round(round, &mut rng, counts)
        } else {
            life.round(round, &mut rng, counts)
        };
        if let Err(text) = done {
            let kept = dir.keep();
            return Err(format!("round {round}: {text} (files kept in {})", kept.display()));
        }
    }
    Ok(())
}

/// A database between kills, and what is known of it.
struct Life {
    program: PathBuf,
    dir: PathBuf,
    seed: u64,
    backend: String,
    defect: Option<String>,
    /// A prefix of the bucket.
    store: Option<String>,
    witness: Witness,
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
        // What is to be struck in front of a bucket has no name on this machine.
        let named = if self.store.is_some() { 3 } else { 7 };
        let point = (rng.u8(0..10) < named).then(|| any_point(rng));
        let time = match point {
            Some(_) => Duration::from_millis(rng.u64(150..700)),
            None => Duration::from_millis(rng.u64(1..250)),
        };
        self.kill(&self.task(Role::Work, round, point), time * self.slowness(), counts)?;
        if self.store.is_some() {
            let found = self.tell(Role::Look, round)?;
            self.witness.look_shipped(&self.dir, round, &found)?;
            counts.add("looks at the bucket alone", 1);
        }
        while rng.u8(0..10) < 3 {
            let task = self.task(Role::Recover, round, Some(any_point(rng)));
            let time = Duration::from_millis(rng.u64(5..40)) * self.slowness();
            if self.kill(&task, time, counts)? {
                counts.add("kills within a recovery", 1);
            }
        }
        let role = if rng.bool() { Role::Check } else { Role::CheckAndDie };
        let found = self.tell(role, round)?;
        self.witness.compare(&self.dir, round, &found, counts)?;
        if self.store.is_some() {
            // Everything was demoted, so the bucket has it all.
            let alone = self.tell(Role::Look, round)?;
            if alone != found {
                return Err(format!("the bucket alone gives {alone:?}, the directory {found:?}"));
            }
            counts.add("databases restored from the bucket alone", 1);
        }
        Ok(())
    }

    /// What a child says that nobody kills.
    fn tell(&self, role: Role, round: u64) -> Result<String, String> {
        match self.run(&self.task(role, round, None), PATIENCE)? {
            End::Finished(text) => Ok(text),
            End::ByItself if role == Role::CheckAndDie => Err("no output".to_owned()),
            End::ByItself => Err(format!("the child that was to {role:?} was killed")),
            End::FromOutside => Err(format!("the child that was to {role:?} hangs")),
        }
    }

    /// How many times longer a child needs to come to something worth a kill.
    fn slowness(&self) -> u32 {
        if self.store.is_some() { 6 } else { 1 }
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
            store: self.store.clone(),
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
}

/// A point, a moment and which of its calls: the common ones late, the rare ones at once.
fn any_point(rng: &mut fastrand::Rng) -> (String, String, u64) {
    let point = POINTS.get(rng.usize(0..POINTS.len())).copied().unwrap_or_default();
    let moment = Moment::ALL[rng.usize(0..Moment::ALL.len())].0;
    let often = matches!(point, "write wal" | "sync wal");
    let nth = if often { rng.u64(1..150) } else { 1 + rng.u64(0..4) * rng.u64(0..2) };
    (point.to_owned(), moment.to_owned(), nth)
}
