//! The target whose input is a file of records: the journal of uploads, or the dead letters, as its
//! first bytes say.

use super::seal;
use akidb_tiering::{DeadLetterQueue, JournalEntry, UploadJournal};
use akidb_vfs::{
    SystemRandom,
    sim::{SimClock, SimFs},
    write_file_durably,
};
use std::{path::Path, sync::Arc};

const FILE: &str = "/records";

pub(super) fn records(data: &[u8]) -> bool {
    let mut bytes = data.to_vec();
    seal::records(&mut bytes);
    let fs = SimFs::new(1);
    write_file_durably(&fs, Path::new(FILE), &bytes).expect("the disk has room");
    if bytes.starts_with(b"AKIDBDLQ") { dead_letters(&fs) } else { uploads(&fs) }
}

/// A letter more, and all that were there are there again.
fn dead_letters(fs: &SimFs) -> bool {
    let open = || {
        let (fs, random) = (Arc::new(fs.clone()), Arc::new(SystemRandom::from_seed(1)));
        DeadLetterQueue::open(fs, random, Arc::new(SimClock::new()), Path::new(FILE), usize::MAX)
    };
    let Ok(queue) = open() else { return false };
    if queue.add("one more", b"payload", "error").is_ok() {
        let again = open().expect("what was written opens");
        assert!(again.list() == queue.list(), "a letter changed when it was written again");
    }
    true
}

/// The same for uploads, as long as what the file says is within the bounds of a writer.
fn uploads(fs: &SimFs) -> bool {
    let open = || {
        let (fs, random) = (Arc::new(fs.clone()), Arc::new(SystemRandom::from_seed(1)));
        UploadJournal::open(fs, random, Path::new(FILE))
    };
    let Ok(journal) = open() else { return false };
    let found = journal.entries();
    let Some(first) = found.first() else { return true };
    let more = JournalEntry { part_bytes: first.part_bytes ^ 1, ..first.clone() };
    if journal.begin(more.clone()).is_ok() {
        let again = open().expect("what was written opens").entries();
        let (last, rest) = again.split_last().expect("one was added");
        assert!(rest == found && *last == more, "an upload changed when it was written again");
    }
    true
}
