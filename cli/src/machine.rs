//! What a number was measured on: processor, memory, system, and the file system under the
//! database. Reads what Linux publishes; elsewhere a field stays empty rather than wrong.

use akidb::vfs::{Fs, OpenMode, RealFs};
use serde::Serialize;
use std::path::Path;

/// The machine, as it stands in the JSON of `bench` and `demo`.
#[derive(Debug, Serialize)]
pub(crate) struct Machine {
    /// The processor's name.
    cpu: Option<String>,
    /// Threads that can run at the same time.
    cores: usize,
    memory_bytes: Option<u64>,
    os: &'static str,
    kernel: Option<String>,
    arch: &'static str,
    /// The type of the file system that holds the database: syncs are free on `tmpfs`.
    filesystem: Option<String>,
}

impl Machine {
    /// Describes this machine, and the file system of `dir`, which must exist.
    #[expect(
        clippy::disallowed_methods,
        reason = "/proc/mounts names real paths, and only the machine knows those"
    )]
    pub(crate) fn describe(dir: &Path) -> Self {
        let cpu = proc_text("/proc/cpuinfo").and_then(|text| field(&text, "model name"));
        let memory = proc_text("/proc/meminfo").and_then(|text| kilobytes(&text, "MemTotal"));
        Self {
            cpu,
            cores: cores(),
            memory_bytes: memory,
            os: std::env::consts::OS,
            kernel: proc_text("/proc/sys/kernel/osrelease").map(|text| text.trim().to_owned()),
            arch: std::env::consts::ARCH,
            filesystem: dir
                .canonicalize()
                .ok()
                .zip(proc_text("/proc/mounts"))
                .and_then(|(dir, mounts)| filesystem(&mounts, &dir)),
        }
    }
}

/// The most memory that this process ever had resident, in bytes; `None` where the system does
/// not say.
pub(crate) fn peak_rss_bytes() -> Option<u64> {
    proc_text("/proc/self/status").and_then(|text| kilobytes(&text, "VmHWM"))
}

/// Threads that can run at the same time.
pub(crate) fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// What this process has in memory.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Resident {
    /// Of its own: heap and stacks.
    pub(crate) anonymous_bytes: u64,
    /// Pages of mapped files, which the system may take back.
    pub(crate) mapped_bytes: u64,
}

/// What is resident now; `None` where the system does not say.
pub(crate) fn resident() -> Option<Resident> {
    let status = proc_text("/proc/self/status")?;
    Some(Resident {
        anonymous_bytes: kilobytes(&status, "RssAnon")?,
        mapped_bytes: kilobytes(&status, "RssFile")?,
    })
}

/// The bytes that this process handed to the system's write calls so far; `None` where the system
/// does not count them. Linux's other count, of what it will write to disks (`write_bytes`), takes a
/// small write into a large page of its cache for all of that page.
pub(crate) fn written_bytes() -> Option<u64> {
    proc_text("/proc/self/io").and_then(|text| field(&text, "wchar")?.parse().ok())
}

/// The text of a file whose length is not known before it is read, as under `/proc`.
fn proc_text(path: &str) -> Option<String> {
    let file = RealFs.open(Path::new(path), OpenMode::Read).ok()?;
    let mut text = Vec::new();
    let mut chunk = [0; 4096];
    loop {
        let read = file.read_at(&mut chunk, text.len() as u64).ok()?;
        if read == 0 {
            return String::from_utf8(text).ok();
        }
        text.extend_from_slice(chunk.get(..read)?);
    }
}

/// The value of the first line `name : value`.
fn field(text: &str, name: &str) -> Option<String> {
    text.lines()
        .filter_map(|line| line.split_once(':'))
        .find(|(key, _)| key.trim() == name)
        .map(|(_, value)| value.trim().to_owned())
}

/// The value of `name: N kB`, in bytes.
fn kilobytes(text: &str, name: &str) -> Option<u64> {
    let value = field(text, name)?;
    value.strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

/// The type of the mount whose path is the longest that holds `dir`; later mounts cover earlier.
fn filesystem(mounts: &str, dir: &Path) -> Option<String> {
    mounts
        .lines()
        .filter_map(|line| {
            let mut words = line.split(' ');
            let (_device, point, kind) = (words.next()?, words.next()?, words.next()?);
            dir.starts_with(point).then_some((point.len(), kind))
        })
        .max_by_key(|(len, _)| *len)
        .map(|(_, kind)| kind.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_innermost_mount_names_the_file_system() {
        let mounts = "overlay / overlay rw 0 0\ntmpfs /tmp tmpfs rw 0 0\n/dev/a /tmpx ext4 rw 0 0";
        let of = |dir: &str| filesystem(mounts, Path::new(dir));
        assert_eq!(of("/home/x").as_deref(), Some("overlay"));
        assert_eq!(of("/tmp/db").as_deref(), Some("tmpfs"));
        assert_eq!(of("/tmpx/db").as_deref(), Some("ext4"));
    }

    #[test]
    fn kernel_tables_are_read_by_name() {
        let text = "VmPeak:\t  12 kB\nVmHWM:\t    34 kB\n";
        assert_eq!(kilobytes(text, "VmHWM"), Some(34 * 1024));
        assert_eq!(kilobytes(text, "Vm"), None);
    }
}
