//! Copies of a directory to be opened one after another, and the page cache emptied before each.
//! Called by `recovery`.

use crate::error::Result;
use akidb::vfs::{EntryKind, Fs, OpenMode, RealFs, copy_file_durably};
use std::path::Path;

/// Where Linux takes the wish to forget what it holds of files.
const DROP_CACHES: &str = "/proc/sys/vm/drop_caches";

/// Copies a directory with all in it. Everything is synced: what was left to be written would be
/// written while something else is measured.
pub(super) fn copy_dir(from: &Path, to: &Path) -> Result<()> {
    RealFs.create_dir_all(to)?;
    for entry in RealFs.list_dir(from)? {
        let (source, target) = (from.join(&entry.name), to.join(&entry.name));
        match entry.kind {
            EntryKind::Dir => copy_dir(&source, &target)?,
            _ => copy_file_durably(&RealFs, &source, &target)?,
        }
    }
    Ok(())
}

/// Empties the page cache.
///
/// # Errors
/// The system's refusal, unless this process is root's.
pub(super) fn forget_cached() -> Result<()> {
    let file = RealFs.open(Path::new(DROP_CACHES), OpenMode::ReadWrite)?;
    Ok(file.write_all_at(b"3", 0)?)
}
