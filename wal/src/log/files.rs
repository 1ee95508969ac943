//! The names of WAL files, and what a directory holds. A WAL file is called by its number, in
//! twenty decimal digits, so that names sort as numbers do: `00000000000000000001.wal`.

#![deny(clippy::indexing_slicing)]

use crate::{
    Lsn, WalError,
    framed::{FileKind, TEMP_SUFFIX},
};
use akidb_vfs::{DirEntry, EntryKind, Fs};
use std::{
    ffi::OsString,
    path::{Path, PathBuf},
};

/// The kind of framed file that the log is made of.
pub const WAL_KIND: FileKind = FileKind { magic: *b"AKIDBWAL", version: 1, name: "WAL file" };

const WAL_SUFFIX: &str = ".wal";

/// Enough for every `u64`.
const DIGITS: usize = 20;

/// One file of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogFile {
    /// Its number, which its name states.
    pub number: u64,
    /// The first LSN that it holds, or will.
    pub first_lsn: Lsn,
    /// The last LSN that it holds; one less than the first while it is empty.
    pub last_lsn: Lsn,
    /// The bytes in use, its header included.
    pub bytes: u64,
    /// The bytes reserved on disk.
    pub allocated: u64,
}

impl LogFile {
    /// True when it holds no batch.
    pub fn is_empty(&self) -> bool {
        self.last_lsn < self.first_lsn
    }
}

/// The path of a WAL file.
pub(super) fn wal_path(dir: &Path, number: u64) -> PathBuf {
    dir.join(format!("{number:0DIGITS$}{WAL_SUFFIX}"))
}

/// A name in the log's directory for a file that is not to stay: an open takes it for a file that
/// was never finished, and removes it. No real file comes to have its number.
pub(crate) fn scratch_path(dir: &Path) -> PathBuf {
    dir.join(format!("{:0DIGITS$}{WAL_SUFFIX}{TEMP_SUFFIX}", u64::MAX))
}

/// What stands in a log's directory.
#[derive(Debug, Default)]
pub(super) struct Listing {
    /// The numbers of WAL files, ascending.
    pub(super) numbers: Vec<u64>,
    /// Files that a crash left half made, with the numbers they were to have.
    pub(super) temps: Vec<(u64, PathBuf)>,
    /// Names that are not ours; nothing is done to them.
    pub(super) unknown: Vec<OsString>,
}

pub(super) fn list(fs: &dyn Fs, dir: &Path) -> Result<Listing, WalError> {
    let mut listing = Listing::default();
    for DirEntry { name, kind } in fs.list_dir(dir)? {
        let text = name.to_str().filter(|_| kind == EntryKind::File).unwrap_or_default();
        if let Some(number) = number_of(text) {
            listing.numbers.push(number);
        } else if let Some(number) = text.strip_suffix(TEMP_SUFFIX).and_then(number_of) {
            listing.temps.push((number, dir.join(&name)));
        } else {
            listing.unknown.push(name);
        }
    }
    listing.numbers.sort_unstable();
    Ok(listing)
}

/// The number that a WAL file's name states; only names that [`wal_path`] makes have one.
fn number_of(name: &str) -> Option<u64> {
    let digits = name.strip_suffix(WAL_SUFFIX)?;
    let ours = digits.len() == DIGITS && digits.bytes().all(|byte| byte.is_ascii_digit());
    digits.parse().ok().filter(|&number| ours && number > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_numbers_are_one_to_one() {
        for number in [1, 99, u64::MAX] {
            let path = wal_path(Path::new("d"), number);
            assert_eq!(number_of(path.file_name().unwrap().to_str().unwrap()), Some(number));
        }
        for name in [
            "",
            ".wal",
            "1.wal",
            "00000000000000000000.wal",
            "+0000000000000000001.wal",
            "99999999999999999999.wal",
            "00000000000000000001.wal.tmp",
            "._00000000000000000001.wal",
        ] {
            assert_eq!(number_of(name), None, "{name}");
        }
    }
}
