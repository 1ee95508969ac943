//! Makes framed files, under the creation protocol of [`super`]: temporary name, blocks, header and
//! carried-over frames, sync, rename, directory sync. Called by the log's roll and recovery, and by
//! the engine's manifest.
//!
//! # Invariants
//! - Under its final name a file is complete and synced up to its first appended frame.
//! - A failure before the rename leaves nothing behind but, at worst, a `.tmp` file.

#![deny(clippy::indexing_slicing)]

use super::{
    FileHeader, FileKind, FramedWriter, HEADER_PAGE_BYTES, Predecessor,
    writer::{SEAL_BYTES, checked_len},
};
use crate::{Env, FRAME_PAYLOAD_MAX, WalError, frame::frame_bytes};
use akidb_vfs::{Fs, FsError, FsFile, FsOp, planted};
use std::{
    ffi::OsString,
    io::ErrorKind,
    path::{Path, PathBuf},
    sync::Arc,
};

/// What a file's name ends with until it is whole. Leftovers of a crash may be removed.
pub const TEMP_SUFFIX: &str = ".tmp";

/// Carried-over frames are written in groups of about this many bytes.
const CARRY_GROUP_BYTES: u64 = 1 << 20;

/// The least length of a file that is to hold frames of `frame_bytes` in sum.
pub const fn framed_file_bytes(frame_bytes: u64) -> u64 {
    // A carried-over part is sealed, and what is appended after it can be sealed again.
    HEADER_PAGE_BYTES + frame_bytes + 2 * SEAL_BYTES
}

/// A framed file to be made.
#[derive(Clone, Copy, Debug)]
pub struct NewFile<'a> {
    /// Its final path. The directory must exist.
    pub path: &'a Path,
    /// What it is for.
    pub kind: FileKind,
    /// Its number; at least 1, never used before in the directory.
    pub number: u64,
    /// The number of its first frame; at least 1.
    pub first_seq: u64,
    /// The length to reserve, in bytes. Raised to what the first frames need.
    pub bytes: u64,
    /// The completed file before it.
    pub predecessor: Option<Predecessor>,
    /// The file whose place it takes.
    pub replaces: Option<u64>,
    /// The most payload bytes of a frame; at most [`FRAME_PAYLOAD_MAX`].
    pub frame_bytes_max: u32,
    /// See [`crate::LogOptions::zero_ahead_bytes`].
    pub zero_ahead: u64,
}

impl<'a> NewFile<'a> {
    /// A file that begins at frame 1, follows none and replaces none.
    pub const fn new(path: &'a Path, kind: FileKind, number: u64, bytes: u64) -> Self {
        Self {
            path,
            kind,
            number,
            first_seq: 1,
            bytes,
            predecessor: None,
            replaces: None,
            frame_bytes_max: FRAME_PAYLOAD_MAX,
            zero_ahead: 0,
        }
    }
}

impl FramedWriter {
    /// Makes a file that begins with `carried`, under the creation protocol of [`super`]. On
    /// return the file, its frames and its name are durable; with frames, a seal follows them.
    ///
    /// # Errors
    /// [`WalError::NoSpace`] when the disk is full: nothing is left behind. [`WalError::Fs`] for
    /// any other failed call: if the call was the rename or the directory sync, the file may or
    /// may not be found under its name later. [`WalError::TooLarge`] for a carried frame over the
    /// limit.
    pub fn create<'p>(
        env: &Env,
        new: &NewFile<'_>,
        carried: impl IntoIterator<Item = &'p [u8]>,
    ) -> Result<Self, WalError> {
        let carried: Vec<&[u8]> = carried.into_iter().collect();
        let mut needed = 0;
        for payload in &carried {
            needed += frame_bytes(checked_len(payload, new.frame_bytes_max)?);
        }
        let bytes = new.bytes.max(framed_file_bytes(needed));
        let temp = temp_path(new.path);
        let full = |error: WalError| match unwrapped(error) {
            WalError::Fs(source) if source.is_no_space() => WalError::NoSpace { bytes, source },
            other => other,
        };
        let made = Self::fill(env, new, bytes, &temp, &carried).map_err(full);
        let renamed = made.and_then(|writer| {
            let renamed = env.fs.rename(&temp, new.path);
            renamed.map(|()| writer).map_err(|error| full(error.into()))
        });
        let writer = renamed.inspect_err(|_| {
            // The caller needs the first failure; a leftover is removed by the next attempt.
            drop(env.fs.remove_file(&temp));
        })?;
        // A full disk is no excuse from here on: the name may or may not be there after a crash.
        if !planted("framed.name-unsynced") {
            env.fs.sync_dir(parent_of(new.path))?;
        }
        Ok(writer)
    }

    /// The file under its temporary name, complete and synced.
    fn fill(
        env: &Env,
        new: &NewFile<'_>,
        bytes: u64,
        temp: &Path,
        carried: &[&[u8]],
    ) -> Result<Self, WalError> {
        let file = create_over_leftover(&*env.fs, temp)?;
        file.allocate(bytes)?;
        let mut header = FileHeader {
            version: new.kind.version,
            salt: env.random.next_u64(),
            number: new.number,
            first_seq: new.first_seq,
            allocated_len: bytes,
            predecessor: new.predecessor,
            replaces: new.replaces,
            crc: 0,
        };
        let page = header.encode(new.kind);
        file.write_all_at(&page, 0)?;
        let io = Arc::clone(&env.io);
        let path = new.path.to_owned();
        let mut writer = Self::start(file, io, path, header, new);
        for payload in carried {
            writer.append(payload.to_vec())?;
            if writer.staged_bytes() >= CARRY_GROUP_BYTES {
                writer.write_group()?;
            }
        }
        writer.write_group()?;
        writer.finish_carried()?;
        Ok(writer)
    }
}

/// The failure itself where a writer that is gone by now wrapped it.
fn unwrapped(error: WalError) -> WalError {
    match error {
        WalError::Poisoned(first) => Arc::try_unwrap(first).unwrap_or_else(WalError::Poisoned),
        other => other,
    }
}

/// A new file under a temporary name; what an earlier attempt left there is removed.
fn create_over_leftover(fs: &dyn Fs, temp: &Path) -> Result<Arc<dyn FsFile>, FsError> {
    match fs.create_new(temp) {
        Err(error) if error.op == FsOp::Create && error.kind() == ErrorKind::AlreadyExists => {
            fs.remove_file(temp)?;
            fs.create_new(temp)
        }
        other => other,
    }
}

fn temp_path(path: &Path) -> PathBuf {
    let mut name = OsString::from(path.as_os_str());
    name.push(TEMP_SUFFIX);
    PathBuf::from(name)
}

fn parent_of(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}
