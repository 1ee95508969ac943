//! What anybody may know about a running log without asking its thread: counters and the list of
//! files, copied out after every turn.

use crate::{Log, LogFile, Lsn};

/// The state of a running log, as of its last group.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LogStats {
    /// WAL files.
    pub files: u64,
    /// The bytes in use in them.
    pub bytes: u64,
    /// The last written batch.
    pub last_lsn: Lsn,
    /// The last batch that survives power loss.
    pub durable_upto: Lsn,
    /// Groups written since the log was opened.
    pub groups: u64,
    /// Batches written since then.
    pub frames: u64,
    /// Bytes of frames written since then.
    pub bytes_written: u64,
    /// Syncs asked for by a group or a timer since then.
    pub syncs: u64,
    /// Seals after idle time since then.
    pub seals: u64,
    /// Will no write succeed any more?
    pub poisoned: bool,
}

/// What `handle` shows while the log is busy.
#[derive(Debug, Default)]
pub(super) struct Snapshot {
    pub(super) stats: LogStats,
    files: Vec<LogFile>,
    /// The number of the current file and the count of the completed ones, when `files` was made.
    made_at: (u64, usize),
}

impl Snapshot {
    /// Takes over the log's state; lists its files only if there are other ones than before.
    pub(super) fn update(&mut self, log: &Log, counters: LogStats) {
        let active = log.active_file();
        let made_at = (active.number, log.completed_count());
        if self.files.is_empty() || self.made_at != made_at {
            self.files = log.files();
            self.made_at = made_at;
        }
        if let Some(last) = self.files.last_mut() {
            *last = active;
        }
        self.stats = LogStats {
            files: self.files.len() as u64,
            bytes: self.files.iter().map(|file| file.bytes).sum(),
            last_lsn: log.last_lsn(),
            durable_upto: log.durable_upto(),
            poisoned: log.poisoned().is_some(),
            ..counters
        };
    }

    pub(super) fn files(&self) -> Vec<LogFile> {
        self.files.clone()
    }
}
