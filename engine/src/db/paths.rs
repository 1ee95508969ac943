//! Names and numbers of the files of a database directory. No user text ever becomes part of a
//! path: files are numbered, collections are numbered.

use akidb_vfs::{Fs, FsError};
use std::path::{Path, PathBuf};

/// Where things lie in a database directory.
#[derive(Clone, Debug)]
pub(crate) struct Paths {
    pub(crate) root: PathBuf,
    pub(crate) lock: PathBuf,
    pub(crate) wal: PathBuf,
    pub(crate) segments: PathBuf,
    /// The journal of uploads in parts.
    pub(crate) uploads: PathBuf,
    /// Moves that were given up.
    pub(crate) dead_letters: PathBuf,
    /// The object store that is used when none is given.
    pub(crate) objects: PathBuf,
}

impl Paths {
    pub(crate) fn new(root: &Path) -> Self {
        Self {
            root: root.to_owned(),
            lock: root.join("LOCK"),
            wal: root.join("wal"),
            segments: root.join("segments"),
            uploads: root.join(UPLOADS),
            dead_letters: root.join(DEAD_LETTERS),
            objects: root.join("objects"),
        }
    }
}

const UPLOADS: &str = "uploads";
const DEAD_LETTERS: &str = "dead-letters";

/// How the names of directories begin that repair moves damaged files to.
pub(crate) const LOST_PREFIX: &str = "lost+damaged-";

/// True for a name that AkiDB gives in a database directory, manifests aside.
pub(crate) fn is_ours(name: &str) -> bool {
    // Both files of notes are replaced by renaming, so a crash may leave such a name.
    let notes = [UPLOADS, DEAD_LETTERS].contains(&name.strip_suffix(".tmp").unwrap_or(name));
    notes
        || matches!(name, "LOCK" | "wal" | "segments" | "objects")
        || name.starts_with(LOST_PREFIX)
}

/// A file that the manifest does not name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct StrayFile {
    pub(crate) path: PathBuf,
    /// Its number, if it is named like one of ours.
    pub(crate) number: Option<u64>,
}

/// The number in a name such as `000000000012.seg`.
pub(crate) fn file_number(name: &str) -> Option<u64> {
    let (digits, extension) = name.split_once('.')?;
    let ours = matches!(extension, "seg" | "tmb" | "seg.tmp" | "tmb.tmp");
    (ours && digits.len() == 12).then(|| digits.parse().ok()).flatten()
}

/// The files in `dir` whose number `named` does not know.
pub(crate) fn stray_files(
    fs: &dyn Fs,
    dir: &Path,
    named: impl Fn(u64) -> bool,
) -> Result<Vec<StrayFile>, FsError> {
    let entries = fs.list_dir(dir)?;
    Ok(entries
        .into_iter()
        .filter_map(|entry| {
            let name = entry.name.to_str();
            let number = name.and_then(file_number);
            let temporary = name.is_some_and(|name| name.ends_with(".tmp"));
            let known = number.is_some_and(&named) && !temporary;
            (!known).then(|| StrayFile { path: dir.join(&entry.name), number })
        })
        .collect())
}

#[cfg(test)]
mod tests {
    use super::file_number;

    #[test]
    fn only_our_own_names_have_numbers() {
        assert_eq!(file_number("000000000012.seg"), Some(12));
        assert_eq!(file_number("000000000012.tmb.tmp"), Some(12));
        for other in [".DS_Store", "12.seg", "00000000001x.seg", "000000000012.sst", "a"] {
            assert_eq!(file_number(other), None, "{other}");
        }
    }
}
