//! The bare loop that `bench write` measures itself against: as many threads append as many bytes
//! to a file, by the plainest group commit that is any good, and nothing else. No checksum, no
//! memtable, no validation, no recovery. Called by `write`, in turn with the database, so that both
//! meet the same disk.

use super::in_parallel_timed;
use crate::error::{CliError, Result};
use akidb::vfs::{Fs, FsError, FsFile, RealFs};
use parking_lot::{Condvar, Mutex, MutexGuard};
use std::{path::Path, sync::Arc, time::Duration};

/// How much of a file of zeros is written at a time.
const ZEROS: usize = 1 << 20;

/// Groups above this share of the zeros that they would take along take none, as in the log.
const ZEROED_SHARE: u64 = 32;

/// The least of zeros at a time, as in the log.
const ZEROED_LEAST: u64 = 64 << 10;

/// How a file is made ready before the first append: what a sync has to say of it differs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Preparation {
    /// It grows with each write, so each sync also writes its new length and blocks.
    None,
    /// Blocks are reserved but not written: each sync also notes which of them are written now.
    Reserved,
    /// Blocks are reserved, and zeros written so many bytes ahead of the appends, as the database's
    /// log does: most syncs have nothing to say but the data.
    ZeroedAhead(u64),
    /// All of it is zeros before the first append.
    Zeroed,
}

/// What every thread of the loop appends.
#[derive(Clone, Copy, Debug)]
pub(super) struct Load {
    pub(super) writers: usize,
    /// Appends of all threads together.
    pub(super) appends: usize,
    /// Bytes of one append.
    pub(super) bytes: usize,
    /// Is each append acknowledged after a sync?
    pub(super) sync: bool,
}

/// Runs the loop on a fresh file in `dir`, which goes afterwards. Returns the time of the appends.
pub(super) fn run(dir: &Path, load: Load, preparation: Preparation) -> Result<Duration> {
    let path = dir.join("bare-loop.tmp");
    let file = RealFs.create_new(&path)?;
    let measured = measure(file, load, preparation);
    RealFs.remove_file(&path)?;
    measured
}

fn measure(file: Arc<dyn FsFile>, load: Load, preparation: Preparation) -> Result<Duration> {
    let Load { writers, appends, bytes, sync } = load;
    prepare(&*file, (appends * bytes) as u64, preparation)?;
    let ahead = if let Preparation::ZeroedAhead(bytes) = preparation { bytes } else { 0 };
    let log = BareLog::new(file, sync, ahead);
    let records = |writer| {
        let mine = (writer..appends).step_by(writers);
        mine.map(|n| record(n, bytes)).collect::<Vec<_>>()
    };
    let append = |records: Vec<Vec<u8>>| records.iter().try_for_each(|record| log.append(record));
    Ok(in_parallel_timed("bare-writer", writers, records, append)?.0)
}

/// Bytes that differ from append to append.
fn record(n: usize, bytes: usize) -> Vec<u8> {
    (n as u64).to_le_bytes().into_iter().cycle().take(bytes).collect()
}

fn prepare(file: &dyn FsFile, len: u64, preparation: Preparation) -> Result<(), FsError> {
    match preparation {
        Preparation::None => return Ok(()),
        Preparation::Reserved => file.allocate(len)?,
        Preparation::ZeroedAhead(bytes) => file.allocate(len + bytes)?,
        Preparation::Zeroed => {
            let zeros = vec![0; ZEROS];
            for offset in (0..len).step_by(ZEROS) {
                file.write_all_at(&zeros, offset)?;
            }
        }
    }
    file.sync_all()
}

/// A file that many threads append to. Whoever finds nobody at work writes for all.
#[derive(Debug)]
struct BareLog {
    file: Arc<dyn FsFile>,
    sync: bool,
    /// How many bytes of zeros go, at most, behind a group that reaches into unwritten blocks.
    ahead: u64,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    /// What the next group consists of.
    staged: Vec<u8>,
    /// The memory of the last group, for the next but one.
    spare: Vec<u8>,
    /// The number of the group that `staged` will be.
    next: u64,
    /// Groups below this number are done.
    done: u64,
    working: bool,
    failed: bool,
    end: u64,
    zeroed_upto: u64,
}

impl BareLog {
    fn new(file: Arc<dyn FsFile>, sync: bool, ahead: u64) -> Self {
        Self { file, sync, ahead, state: Mutex::default(), changed: Condvar::new() }
    }

    /// Appends, and returns when it is on disk.
    fn append(&self, record: &[u8]) -> Result<()> {
        let mut state = self.state.lock();
        state.staged.extend_from_slice(record);
        let mine = state.next;
        while state.done <= mine {
            if state.failed {
                let detail = "an append of another thread failed".to_owned();
                return Err(CliError::Check { detail });
            }
            if state.working {
                self.changed.wait(&mut state);
            } else {
                self.write_group(&mut state)?;
            }
        }
        Ok(())
    }

    fn write_group(&self, state: &mut MutexGuard<'_, State>) -> Result<(), FsError> {
        state.working = true;
        let spare = std::mem::take(&mut state.spare);
        let mut group = std::mem::replace(&mut state.staged, spare);
        let (number, offset) = (state.next, state.end);
        state.next += 1;
        state.end += group.len() as u64;
        if state.end > state.zeroed_upto && group.len() as u64 <= self.ahead / ZEROED_SHARE {
            let zeros = self.ahead.min(state.end.max(ZEROED_LEAST));
            state.zeroed_upto = state.end + zeros;
            group.resize(group.len() + usize::try_from(zeros).unwrap_or(0), 0);
        }
        let written = MutexGuard::unlocked(state, || {
            self.file.write_all_at(&group, offset)?;
            if self.sync { self.file.sync_data() } else { Ok(()) }
        });
        group.clear();
        state.spare = group;
        state.working = false;
        state.done = number + 1;
        state.failed |= written.is_err();
        self.changed.notify_all();
        written
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use akidb::vfs::read_file;

    #[test]
    fn every_append_of_every_thread_is_in_the_file_once() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let log = BareLog::new(RealFs.create_new(&path).unwrap(), true, 0);
        let append = |writer: usize| {
            (0..20).try_for_each(|n| log.append(&((writer * 20 + n) as u64).to_le_bytes()))
        };
        in_parallel_timed("test", 4, |writer| writer, append).unwrap();
        let bytes = read_file(&RealFs, &path).unwrap();
        let word = |bytes: &[u8]| u64::from_le_bytes(bytes.try_into().unwrap());
        let mut found: Vec<_> = bytes.chunks(8).map(word).collect();
        found.sort_unstable();
        assert_eq!(found, (0..80).collect::<Vec<_>>());
    }

    #[test]
    fn every_preparation_gives_a_time_and_leaves_nothing_behind() {
        let dir = tempfile::tempdir().unwrap();
        let load = Load { writers: 3, appends: 10, bytes: 100, sync: true };
        let ahead = Preparation::ZeroedAhead(4096);
        for preparation in [Preparation::None, Preparation::Reserved, ahead, Preparation::Zeroed] {
            assert!(run(dir.path(), load, preparation).unwrap() > Duration::ZERO);
        }
        assert!(RealFs.list_dir(dir.path()).unwrap().is_empty());
    }
}
