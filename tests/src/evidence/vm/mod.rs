//! T4: the page cache lost on a real file system, under a real kernel. A virtual machine runs the
//! writers of the machine `kill` on an ext4 disk and is lost in the middle of it: its operating
//! system writes back nothing. qemu logs every write and flush of the disk, so that besides the
//! disk as it was (a crash of the operating system) this module makes disks after a loss of power,
//! where writes that no flush covered are dropped or torn. The host mounts each, opens the
//! database with a child, and compares with what the writers noted on the host.
//!
//! Needs root, and what `scripts/vm.sh` makes. Own options: `vm=DIR` where that is (target/vm),
//! `accel=kvm` for a host whose virtualisation works (the emulator otherwise), `losses=N` disks
//! after a loss of power for each machine (7), `backend=`, `dir=`, `child=` as for `kill`. A seed
//! decides the plan, not the moment at which a machine is lost.

mod disk;
pub(super) mod guest;

use super::{
    Counts, Machine, Options,
    defects::output,
    kill::{Level, Role, Task, Witness},
};
use disk::WriteLog;
use guest::{Guest, Mounted, empty_disk, read, write};
use std::{
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

/// The machine.
pub const MACHINE: Machine = Machine {
    name: "vm",
    about: "a virtual machine lost while it writes: OS crashes and power losses on real ext4",
    unit: "disks after a crash",
    required: &[
        "machines lost",
        "crashes of the operating system",
        "losses of power",
        "unflushed writes dropped",
        "unflushed writes kept",
        "unflushed writes torn",
        "acknowledged at sync",
        "acknowledged at interval",
        "acknowledged at memory",
        LOST,
    ],
    enough: 20,
    cases: None,
    play,
};

/// Acknowledged at a level that may be lost, and lost.
const LOST: &str = "lost as their level allows";

/// A child on the host that does nothing for so long hangs.
const PATIENCE: Duration = Duration::from_secs(60);

fn play(seed: u64, options: &Options, counts: &mut Counts) -> Result<(), String> {
    let mut rng = fastrand::Rng::with_seed(seed);
    let parent = options.get("dir").map_or_else(std::env::temp_dir, PathBuf::from);
    let dir = tempfile::Builder::new().prefix("akidb-vm-").tempdir_in(parent);
    let dir = dir.map_err(|error| error.to_string())?;
    let mut life = Life::start(dir.path(), seed, options)?;
    for round in 0..rng.u64(1..4) {
        if let Err(text) = life.round(round, &mut rng, counts) {
            let kept = dir.keep();
            return Err(format!("round {round}: {text} (files kept in {})", kept.display()));
        }
    }
    Ok(())
}

/// A database on the disk of machines that are lost one after the other.
struct Life {
    guest: Guest,
    program: PathBuf,
    mount: PathBuf,
    losses: u64,
    task: Task,
    witness: Witness,
    /// The disk at the beginning of a round.
    before: Vec<u8>,
}

impl Life {
    fn start(dir: &Path, seed: u64, options: &Options) -> Result<Self, String> {
        let before = empty_disk(dir)?;
        let share = dir.join("share");
        let made = Command::new("mkdir").arg("-p").arg(share.join("db")).status();
        made.map_err(|error| error.to_string())?;
        let program = options.get("child").map_or_else(std::env::current_exe, |p| Ok(p.into()));
        let losses =
            options.get("losses").map_or(Ok(7), str::parse).map_err(|_| "losses=NUMBER")?;
        Ok(Self {
            guest: Guest {
                vm: options.get("vm").unwrap_or("target/vm").into(),
                accel: options.get("accel").unwrap_or("tcg").to_owned(),
                disk: dir.join("disk"),
                log: dir.join("writes"),
                share: share.clone(),
            },
            program: program.map_err(|error| error.to_string())?,
            mount: share.join("db"),
            losses,
            task: Task {
                life: share,
                role: Role::Work,
                seed,
                round: 0,
                point: None,
                backend: options.get("backend").unwrap_or("std").to_owned(),
                defect: options.get("defect").map(str::to_owned),
                store: None,
            },
            witness: Witness::new(&[Level::Sync]),
            before,
        })
    }

    fn round(
        &mut self,
        round: u64,
        rng: &mut fastrand::Rng,
        counts: &mut Counts,
    ) -> Result<(), String> {
        write(&self.guest.disk, &self.before)?;
        // Inside the machine the same directories have other names.
        let inside = Task { life: "/share".into(), round, ..self.task.clone() };
        let after = Duration::from_millis(rng.u64(10..2500));
        self.guest.run_until_lost(&inside, after)?;
        counts.add("machines lost", 1);
        let log = WriteLog::parse(read(&self.guest.log)?)?;
        counts.add("flushes of the disk", log.flushes);

        let whole = log.whole(&self.before);
        self.look(round, &whole, counts).map_err(|text| format!("crash of the OS: {text}"))?;
        counts.state();
        counts.add("crashes of the operating system", 1);
        let mut next = None;
        for loss in 0..self.losses {
            let (image, fate) = log.after_power_loss(&self.before, (loss % 4) as u8, rng);
            counts.add("unflushed writes dropped", fate.dropped);
            counts.add("unflushed writes kept", fate.kept);
            counts.add("unflushed writes torn", fate.torn);
            // The same calls as before: counted once.
            let mut again = Counts::default();
            let seen = self.look(round, &image, &mut again);
            counts.add(LOST, again.get(LOST));
            next = Some(seen.map_err(|text| format!("loss of power {loss}, {fate:?}: {text}"))?);
            counts.state();
            counts.add("losses of power", 1);
        }
        if let Some((disk, witness)) = next {
            self.before = disk;
            self.witness = witness;
        }
        Ok(())
    }

    /// Opens what is on an image; the image afterwards, and what is known then.
    fn look(
        &self,
        round: u64,
        image: &[u8],
        counts: &mut Counts,
    ) -> Result<(Vec<u8>, Witness), String> {
        write(&self.guest.disk, image)?;
        let mounted = Mounted::new(&self.guest.disk, &self.mount)?;
        let task = Task { role: Role::Check, round, ..self.task.clone() };
        let mut command = Command::new(&self.program);
        command.args(["kill-child", &task.text()]).stdin(Stdio::null()).stdout(Stdio::piped());
        let mut child = command.spawn().map_err(|error| error.to_string())?;
        let found = output(&mut child, PATIENCE);
        drop(child.kill());
        let ended = child.wait().map_err(|error| error.to_string())?;
        let found = found.ok_or("the child that looks hangs")?;
        if !ended.success() {
            return Err(format!("the child that looks ended with {ended}: {found}"));
        }
        let mut witness = self.witness.clone();
        witness.compare(&self.task.life, round, &found, counts)?;
        drop(mounted);
        Ok((read(&self.guest.disk)?, witness))
    }
}
