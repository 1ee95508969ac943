//! The loops over single calls that every durable step needs: exact reads, complete writes, whole
//! files, and the replacement of a file in one atomic step.
//!
//! Owns the retry rules (short write, interrupted call) and the order temp file, write, sync,
//! rename, directory sync. Knows nothing of what is in a file and talks only to [`Fs`] and
//! [`FsFile`]. Called by the provided methods of [`FsFile`], by both file systems, and by the
//! crates above for small files.

use crate::{EntryKind, Fs, FsError, FsFile, FsOp, OpenMode, defect::planted};
use std::{
    io::{self, ErrorKind, IoSlice},
    path::{Path, PathBuf},
};

/// The most slices handed to one vectored call: Linux's `IOV_MAX`. More are an `EINVAL` there.
const SLICES_MAX: usize = 1024;

/// How much [`copy_file_durably`] holds in memory at a time.
const COPY_CHUNK: usize = 1 << 20;

/// Reads exactly `buf.len()` bytes at `offset`; see [`FsFile::read_exact_at`].
pub(crate) fn read_exact_at(
    file: &(impl FsFile + ?Sized),
    mut buf: &mut [u8],
    mut offset: u64,
) -> Result<(), FsError> {
    while !buf.is_empty() {
        match file.read_at(buf, offset) {
            Ok(0) => {
                let missing = format!("file ends {} bytes early", buf.len());
                let source = io::Error::new(ErrorKind::UnexpectedEof, missing);
                return Err(FsError::new(FsOp::Read, file.path(), source).at(offset));
            }
            Ok(read) => {
                // A count above what was asked for is a broken file system, not a longer read.
                assert!(read <= buf.len(), "read_at returned more than it was given room for");
                buf = &mut buf[read..];
                offset += read as u64;
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Writes all slices at `offset`; see [`FsFile::write_all_vectored_at`].
pub(crate) fn write_all_vectored_at(
    file: &(impl FsFile + ?Sized),
    mut bufs: &mut [IoSlice<'_>],
    mut offset: u64,
) -> Result<(), FsError> {
    // Drops leading empty slices, so that `Ok(0)` below always means no progress.
    IoSlice::advance_slices(&mut bufs, 0);
    while !bufs.is_empty() {
        let group = bufs.len().min(SLICES_MAX);
        match file.write_vectored_at(&bufs[..group], offset) {
            Ok(0) => {
                let source = io::Error::new(ErrorKind::WriteZero, "the file took no bytes");
                return Err(FsError::new(FsOp::Write, file.path(), source).at(offset));
            }
            Ok(written) => {
                let asked = || bufs.iter().take(group).map(|buf| buf.len()).sum();
                let written = if planted("vfs.short-write-ignored") { asked() } else { written };
                IoSlice::advance_slices(&mut bufs, written);
                offset += written as u64;
            }
            Err(error)
                if error.kind() == ErrorKind::Interrupted
                    && !planted("vfs.interrupted-write-fails") => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Reads a whole file into memory.
///
/// The buffer is as large as the file claims to be, so callers bound the size of files that may
/// be hostile with [`Fs::metadata`] first.
///
/// # Errors
/// The failed call; `OutOfMemory` when there is no room for the whole file.
pub fn read_file(fs: &dyn Fs, path: &Path) -> Result<Vec<u8>, FsError> {
    let file = fs.open(path, OpenMode::Read)?;
    let no_room = || FsError::new(FsOp::Read, path, ErrorKind::OutOfMemory.into());
    let len = usize::try_from(file.len()?).map_err(|_| no_room())?;
    let mut bytes = Vec::new();
    bytes.try_reserve_exact(len).map_err(|_| no_room())?;
    bytes.resize(len, 0);
    file.read_exact_at(&mut bytes, 0)?;
    Ok(bytes)
}

/// Creates `path` with these bytes, or replaces it, so that a crash at any point leaves the old
/// file or the new one, whole; after `Ok` it is the new one.
///
/// Goes through the name `path` + `.tmp` in the same directory; one writer per path at a time. A
/// leftover of that name from an earlier crash is removed.
///
/// # Errors
/// The failed call. The old file is still in place, except when the last step, the directory
/// sync, failed: then either may be found after a crash.
///
/// ```
/// # use akidb_vfs::{read_file, write_file_durably, RealFs};
/// # let dir = tempfile::tempdir().unwrap();
/// let path = dir.path().join("settings");
/// write_file_durably(&RealFs, &path, b"k = 10")?;
/// write_file_durably(&RealFs, &path, b"k = 20")?;
/// assert_eq!(read_file(&RealFs, &path)?, b"k = 20");
/// # Ok::<(), akidb_vfs::FsError>(())
/// ```
pub fn write_file_durably(fs: &dyn Fs, path: &Path, bytes: &[u8]) -> Result<(), FsError> {
    replace_durably(fs, path, |file| file.write_all_at(bytes, 0))
}

/// Copies a file to `to`, creating or replacing it with the promise of [`write_file_durably`].
/// The source must not change meanwhile.
///
/// # Errors
/// The failed call, on either file; `to` is as [`write_file_durably`] leaves it.
pub fn copy_file_durably(fs: &dyn Fs, from: &Path, to: &Path) -> Result<(), FsError> {
    let source = fs.open(from, OpenMode::Read)?;
    let len = source.len()?;
    let mut chunk = vec![0; COPY_CHUNK.min(usize::try_from(len).unwrap_or(COPY_CHUNK))];
    replace_durably(fs, to, |file| {
        let mut offset = 0;
        while offset < len {
            let size = (chunk.len() as u64).min(len - offset);
            let part = &mut chunk[..usize::try_from(size).unwrap_or(COPY_CHUNK)];
            source.read_exact_at(part, offset)?;
            file.write_all_at(part, offset)?;
            offset += size;
        }
        Ok(())
    })
}

/// Temp file, fill, sync, rename, directory sync: in this order a crash can lose the new file but
/// never expose a part of it.
fn replace_durably(
    fs: &dyn Fs,
    path: &Path,
    fill: impl FnOnce(&dyn FsFile) -> Result<(), FsError>,
) -> Result<(), FsError> {
    let temp = temp_name(path)?;
    let file = match fs.create_new(&temp) {
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {
            fs.remove_file(&temp)?;
            fs.create_new(&temp)?
        }
        other => other?,
    };
    let sync = || if planted("vfs.replaced-unsynced") { Ok(()) } else { file.sync_all() };
    let renamed = fill(&*file).and_then(|()| sync()).and_then(|()| fs.rename(&temp, path));
    if let Err(error) = renamed {
        // The caller needs the first failure; a leftover is removed by the next attempt.
        drop(fs.remove_file(&temp));
        return Err(error);
    }
    if planted("vfs.replaced-name-unsynced") { Ok(()) } else { fs.sync_dir(parent_of(path)) }
}

fn temp_name(path: &Path) -> Result<PathBuf, FsError> {
    let Some(name) = path.file_name() else {
        let source = io::Error::new(ErrorKind::InvalidInput, "the path has no file name");
        return Err(FsError::new(FsOp::Create, path, source));
    };
    let mut temp = name.to_os_string();
    temp.push(".tmp");
    Ok(path.with_file_name(temp))
}

/// The directory that holds `path`: `.` for a bare name, the path itself for a root.
pub(crate) fn parent_of(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if parent.as_os_str().is_empty() => Path::new("."),
        Some(parent) => parent,
        None => path,
    }
}

/// The one algorithm behind [`Fs::create_dir_all`], over a primitive `make_dir` that creates one
/// directory whose parent exists.
///
/// Creates downwards and syncs each parent before the next level, so at most one directory on the
/// path can exist without a durable name: the deepest that a killed process left behind. That
/// one's parent is therefore synced even though the directory exists. A parent we may not write
/// to is passed over: nobody but its owner can have created an entry there.
pub(crate) fn create_dir_all(
    fs: &dyn Fs,
    path: &Path,
    make_dir: impl Fn(&Path) -> Result<(), FsError>,
) -> Result<(), FsError> {
    let mut missing = Vec::new();
    let mut here = path;
    loop {
        match fs.metadata(here) {
            Ok(meta) if meta.kind == EntryKind::Dir => break,
            Ok(_) => {
                let source = io::Error::from(ErrorKind::NotADirectory);
                return Err(FsError::new(FsOp::CreateDir, here, source));
            }
            Err(error) if error.is_not_found() && parent_of(here) != here => missing.push(here),
            Err(error) => return Err(error),
        }
        here = parent_of(here);
    }
    match fs.sync_dir(parent_of(here)) {
        Err(error) if !error.is_read_only() => return Err(error),
        _ => {}
    }
    for dir in missing.into_iter().rev() {
        match make_dir(dir) {
            // Another process was faster. Its entry still needs our sync before we rely on it.
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
            other => other?,
        }
        fs.sync_dir(parent_of(dir))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A file that gives no bytes, and takes up to so many slices a call, as Linux does: with 0
    /// it takes nothing.
    #[derive(Debug)]
    struct Fake {
        slices_max: usize,
    }

    impl FsFile for Fake {
        fn path(&self) -> &Path {
            Path::new("fake")
        }
        fn len(&self) -> Result<u64, FsError> {
            Ok(0)
        }
        fn read_at(&self, _: &mut [u8], _: u64) -> Result<usize, FsError> {
            Ok(0)
        }
        fn write_vectored_at(&self, bufs: &[IoSlice<'_>], _: u64) -> Result<usize, FsError> {
            if self.slices_max > 0 && bufs.len() > self.slices_max {
                return Err(FsError::new(FsOp::Write, "fake", ErrorKind::InvalidInput.into()));
            }
            Ok(bufs.iter().take(self.slices_max).map(|buf| buf.len()).sum())
        }
        fn sync_data(&self) -> Result<(), FsError> {
            Ok(())
        }
        fn sync_all(&self) -> Result<(), FsError> {
            Ok(())
        }
        fn allocate(&self, _: u64) -> Result<(), FsError> {
            Ok(())
        }
    }

    #[test]
    fn a_call_without_progress_is_an_error_not_an_endless_loop() {
        let stuck = Fake { slices_max: 0 };
        let error = stuck.write_all_at(b"x", 3).unwrap_err();
        assert_eq!((error.kind(), error.offset), (ErrorKind::WriteZero, Some(3)));
        let error = stuck.read_exact_at(&mut [0], 3).unwrap_err();
        assert_eq!((error.kind(), error.offset), (ErrorKind::UnexpectedEof, Some(3)));
    }

    #[test]
    fn no_call_gets_more_slices_than_the_system_takes() {
        let file = Fake { slices_max: 1024 };
        let mut slices = vec![IoSlice::new(b"x"); 5000];
        file.write_all_vectored_at(&mut slices, 0).unwrap();
    }

    #[test]
    fn the_parent_of_a_bare_name_is_the_current_directory() {
        assert_eq!(parent_of(Path::new("data")), Path::new("."));
        assert_eq!(parent_of(Path::new("/data")), Path::new("/"));
        assert_eq!(parent_of(Path::new("/")), Path::new("/"));
    }

    #[test]
    fn a_path_without_a_file_name_cannot_be_replaced() {
        let error = temp_name(Path::new("/")).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
    }
}
