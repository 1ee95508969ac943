//! A virtual machine under qemu that runs one child and loses everything that is not on its disk,
//! and the host's view of that disk. Starts and stops programs (`qemu-system-x86_64`, `mkfs.ext4`,
//! `mount`); judges nothing.

use super::super::kill::Task;
use akidb_vfs::thread::spawn;
use std::{
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::mpsc::{self, RecvTimeoutError},
    time::Duration,
};

/// An emulated processor boots in about five seconds on an idle machine.
const BOOT: Duration = Duration::from_secs(120);
const DISK_BYTES: u64 = 48 << 20;

/// Where things lie.
#[derive(Clone, Debug)]
pub(super) struct Guest {
    /// The kernel and the first file system, as `scripts/vm.sh` makes them.
    pub(super) vm: PathBuf,
    /// `tcg` works everywhere; `kvm` is faster where it works.
    pub(super) accel: String,
    /// What the machine shares with the host: its task, and the notes of its writers.
    pub(super) share: PathBuf,
    pub(super) disk: PathBuf,
    pub(super) log: PathBuf,
}

impl Guest {
    /// Runs `task` in a new machine until `after` it began to write; then the machine is no more.
    pub(super) fn run_until_lost(&self, task: &Task, after: Duration) -> Result<(), String> {
        write(&self.share.join("task"), task.text().as_bytes())?;
        // The log of the writes begins anew.
        write(&self.log, &[])?;
        let mut machine = self.command().spawn().map_err(|error| format!("qemu: {error}"))?;
        let ran = watch(&mut machine, after);
        // SIGKILL: no cache of the machine is written back.
        drop(machine.kill());
        drop(machine.wait());
        ran
    }

    fn command(&self) -> Command {
        let mut command = Command::new("qemu-system-x86_64");
        let cpu = if self.accel == "kvm" { "host" } else { "max" };
        command.args(["-accel", &self.accel, "-cpu", cpu, "-m", "256", "-smp", "2"]);
        command.args(["-nodefaults", "-no-user-config", "-display", "none", "-no-reboot"]);
        command.args(["-serial", "stdio", "-append", "console=ttyS0 quiet panic=-1"]);
        command.arg("-kernel").arg(self.vm.join("vmlinuz"));
        command.arg("-initrd").arg(self.vm.join("initrd"));
        // The host does not crash: the flushes need only reach the log of the writes.
        let disk = format!(
            "driver=blklogwrites,node-name=disk,file.driver=file,file.filename={},\
             file.cache.no-flush=on,log.driver=file,log.filename={},log.cache.no-flush=on,\
             log-sector-size=512",
            self.disk.display(),
            self.log.display()
        );
        command.args(["-blockdev", &disk, "-device", "virtio-blk-pci,drive=disk"]);
        let share = format!("local,id=share,path={},security_model=none", self.share.display());
        command.args(["-fsdev", &share, "-device", "virtio-9p-pci,fsdev=share,mount_tag=share"]);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }
}

/// Waits for the machine's child to begin, and lets it work for `after`.
fn watch(machine: &mut Child, after: Duration) -> Result<(), String> {
    let (tell, hear) = mpsc::channel();
    let pipe = machine.stdout.take().ok_or("no output of qemu")?;
    let listen = move || {
        // What a machine prints before it starts its child is not text everywhere.
        for line in BufReader::new(pipe).split(b'\n').map_while(Result::ok) {
            drop(tell.send(String::from_utf8_lossy(&line).trim().to_owned()));
        }
    };
    spawn("console", listen).map_err(|error| error.to_string())?;
    let mut said = String::new();
    let ended = |said: &str| format!("the machine ended by itself and said: {said}");
    loop {
        match hear.recv_timeout(BOOT) {
            Ok(line) if line.ends_with("started") => break,
            Ok(line) => said = format!("{said}{line}\n"),
            Err(RecvTimeoutError::Timeout) => return Err(format!("no boot; it said: {said}")),
            Err(RecvTimeoutError::Disconnected) => return Err(ended(&said)),
        }
    }
    match hear.recv_timeout(after) {
        Err(RecvTimeoutError::Timeout) => Ok(()),
        Err(RecvTimeoutError::Disconnected) => Err(ended("nothing")),
        Ok(line) => Err(ended(&line)),
    }
}

/// An image of a new, empty ext4 file system.
pub(in crate::evidence) fn make_image(path: &Path, bytes: u64) -> Result<(), String> {
    write(path, &[])?;
    let bytes = bytes.to_string();
    command("truncate", &["-s".as_ref(), bytes.as_ref(), path.as_ref()])?;
    // No blocks for root alone: a full disk is full for everybody.
    let plain = ["-q", "-F", "-m", "0", "-J", "size=4"].map(AsRef::as_ref);
    command("mkfs.ext4", &[&plain[..], &[path.as_ref()]].concat())
}

/// A new, empty file system, as bytes.
pub(super) fn empty_disk(dir: &Path) -> Result<Vec<u8>, String> {
    let path = dir.join("empty");
    make_image(&path, DISK_BYTES)?;
    let mount = Mounted::new(&path, &dir.join("mnt"))?;
    // The database wants an empty directory.
    command("rmdir", &[mount.dir.join("lost+found").as_ref()])?;
    drop(mount);
    read(&path)
}

pub(super) fn read(path: &Path) -> Result<Vec<u8>, String> {
    akidb_vfs::read_file(&akidb_vfs::RealFs, path).map_err(|error| error.to_string())
}

/// Writes the file anew; blocks of zeros become holes.
pub(super) fn write(path: &Path, bytes: &[u8]) -> Result<(), String> {
    use akidb_vfs::{Fs, RealFs};
    let text = |error: akidb_vfs::FsError| error.to_string();
    match RealFs.remove_file(path) {
        Err(error) if !error.is_not_found() => return Err(text(error)),
        _ => {}
    }
    let file = RealFs.create_new(path).map_err(text)?;
    let blocks = bytes.len().div_ceil(4096);
    for (n, block) in bytes.chunks(4096).enumerate() {
        if n + 1 == blocks || block.iter().any(|byte| *byte != 0) {
            file.write_all_at(block, n as u64 * 4096).map_err(text)?;
        }
    }
    Ok(())
}

fn command(program: &str, arguments: &[&std::ffi::OsStr]) -> Result<(), String> {
    let ended = Command::new(program).args(arguments).stdin(Stdio::null()).output();
    let ended = ended.map_err(|error| format!("{program}: {error}"))?;
    let text = String::from_utf8_lossy(&ended.stderr);
    ended.status.success().then_some(()).ok_or_else(|| format!("{program}: {text}"))
}

/// An image of a file system that the host has mounted; no longer when dropped.
#[derive(Debug)]
pub(in crate::evidence) struct Mounted {
    pub(in crate::evidence) dir: PathBuf,
}

impl Mounted {
    pub(in crate::evidence) fn new(image: &Path, dir: &Path) -> Result<Self, String> {
        command("mkdir", &["-p".as_ref(), dir.as_ref()])?;
        command("mount", &["-o".as_ref(), "loop".as_ref(), image.as_ref(), dir.as_ref()])?;
        Ok(Self { dir: dir.to_owned() })
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        // A leftover mount shows in the next one, which fails.
        drop(command("umount", &[self.dir.as_ref()]));
    }
}
