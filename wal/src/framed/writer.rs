//! Makes framed files and appends to them. Owns the creation protocol, the promise in every
//! frame of how far the file is durable, and poisoning. Called by [`crate::Log`] and by the
//! engine's manifest, each from one thread.
//!
//! # Invariants
//! - `durable_end <= end <= allocated_len - one seal`, unless the last frame is a seal: there is
//!   always room to seal (`check`).
//! - After a failed write or sync nothing is ever written again through this writer, whatever a
//!   later sync would say.
//! - Under its final name a file is complete and synced up to its first appended frame.

use super::{FileHeader, FileKind, HEADER_PAGE_BYTES, Predecessor, write::GroupLayout};
use crate::{
    Env, FRAME_PAYLOAD_MAX, FrameKind, LogIo, WalError,
    frame::{FrameHeader, frame_bytes, payload_crc},
};
use akidb_vfs::{Fs, FsError, FsFile, FsOp};
use std::{
    ffi::OsString,
    io::{ErrorKind, IoSlice},
    path::{Path, PathBuf},
    sync::Arc,
};

/// What a file's name ends with until it is whole. Leftovers of a crash may be removed.
pub const TEMP_SUFFIX: &str = ".tmp";

/// Carried-over frames are written in groups of about this many bytes.
const CARRY_GROUP_BYTES: u64 = 1 << 20;

/// The room that is always kept for a seal.
const SEAL_BYTES: u64 = frame_bytes(0);

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
        }
    }
}

/// Appends frames to one framed file. An example is at [`super::FramedFile`].
#[derive(Debug)]
pub struct FramedWriter {
    file: Arc<dyn FsFile>,
    io: Arc<dyn LogIo>,
    path: PathBuf,
    header: FileHeader,
    frame_bytes_max: u32,
    staged: Vec<Vec<u8>>,
    staged_bytes: u64,
    layout: GroupLayout,
    /// Where the next frame goes.
    end: u64,
    last_seq: u64,
    last_crc: u32,
    /// Everything below is synced.
    durable_end: u64,
    durable_seq: u64,
    /// Is the last frame a seal? An empty file counts as sealed: it has nothing to lose.
    sealed: bool,
    poison: Option<Arc<WalError>>,
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
            env.fs.rename(&temp, new.path).map_err(|error| full(error.into()))?;
            Ok(writer)
        });
        let writer = match renamed {
            Ok(writer) => writer,
            Err(error) => {
                // The caller needs the first failure; a leftover is removed by the next attempt.
                drop(env.fs.remove_file(&temp));
                return Err(error);
            }
        };
        // A full disk is no excuse from here on: the name may or may not be there after a crash.
        env.fs.sync_dir(parent_of(new.path))?;
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
        let mut writer = Self {
            file,
            io: Arc::clone(&env.io),
            path: new.path.to_owned(),
            header,
            frame_bytes_max: new.frame_bytes_max,
            staged: Vec::new(),
            staged_bytes: 0,
            layout: GroupLayout::default(),
            end: HEADER_PAGE_BYTES,
            last_seq: new.first_seq - 1,
            last_crc: header.crc,
            durable_end: HEADER_PAGE_BYTES,
            durable_seq: new.first_seq - 1,
            sealed: true,
            poison: None,
        };
        for payload in carried {
            writer.append(payload.to_vec())?;
            if writer.staged_bytes >= CARRY_GROUP_BYTES {
                writer.write_group()?;
            }
        }
        writer.write_group()?;
        writer.finish_carried()?;
        Ok(writer)
    }

    /// Seals what was carried over and syncs all. The seal may call it durable before the sync:
    /// nobody sees the file under its name until the sync has returned.
    fn finish_carried(&mut self) -> Result<(), WalError> {
        if !self.sealed {
            self.durable_end = self.end;
            self.write_seal()?;
        }
        self.file.sync_all()?;
        self.mark_durable();
        Ok(())
    }

    /// Stages a frame and returns its number. Nothing is written yet.
    ///
    /// # Errors
    /// [`WalError::TooLarge`], [`WalError::FileFull`], [`WalError::Poisoned`]; nothing is staged.
    pub fn append(&mut self, payload: Vec<u8>) -> Result<u64, WalError> {
        self.alive()?;
        let needed = frame_bytes(checked_len(&payload, self.frame_bytes_max)?);
        let remaining = self.remaining();
        if needed > remaining {
            return Err(WalError::FileFull { file: self.path.clone(), needed, remaining });
        }
        self.staged_bytes += needed;
        self.staged.push(payload);
        Ok(self.last_seq + self.staged.len() as u64)
    }

    /// Writes all that is staged, in one vectored write. It is visible to readers and survives a
    /// process kill, but not yet power loss. Does nothing when nothing is staged.
    ///
    /// # Errors
    /// [`WalError::Poisoned`], now and for ever; any part of the group may be on disk.
    pub fn write_group(&mut self) -> Result<(), WalError> {
        self.alive()?;
        if self.staged.is_empty() {
            return Ok(());
        }
        self.layout.clear();
        let mut crc = self.last_crc;
        for (index, payload) in self.staged.iter().enumerate() {
            let header = FrameHeader {
                kind: FrameKind::Data,
                seq: self.last_seq + 1 + index as u64,
                durable_end: self.durable_end,
                payload_len: 0,
                payload_crc: 0,
                prev_crc: crc,
            };
            let offset = self.end + self.layout.len();
            crc = self.layout.push(header, self.header.salt, offset, index, payload);
        }
        assert!(self.layout.len() == self.staged_bytes, "staged bytes were counted wrong");
        let mut slices = self.layout.slices(&self.staged);
        let written = self.io.write_group(&*self.file, &mut slices, self.end);
        written.map_err(|error| self.fail(error))?;
        self.end += self.staged_bytes;
        self.last_seq += self.staged.len() as u64;
        self.last_crc = crc;
        self.sealed = false;
        self.staged.clear();
        self.staged_bytes = 0;
        self.check();
        Ok(())
    }

    /// Makes every written frame durable and returns the number of the last one. Does nothing when
    /// all are. Staged frames are not touched.
    ///
    /// # Errors
    /// [`WalError::Poisoned`], now and for ever: nothing written since the last sync may be
    /// trusted.
    pub fn sync(&mut self) -> Result<u64, WalError> {
        self.alive()?;
        if self.durable_end < self.end {
            let synced = self.io.sync(&*self.file);
            synced.map_err(|error| self.fail(error))?;
            self.mark_durable();
        }
        Ok(self.durable_seq)
    }

    /// Syncs, then adds and syncs an empty frame that says so, so that rot in the last frames is
    /// told from a torn tail. Does nothing when the last frame is a seal or there is none.
    ///
    /// # Errors
    /// [`WalError::Poisoned`], now and for ever.
    ///
    /// # Panics
    /// When frames are staged: write them first.
    pub fn seal(&mut self) -> Result<(), WalError> {
        assert!(self.staged.is_empty(), "write the staged group before sealing");
        self.sync()?;
        if self.sealed {
            return Ok(());
        }
        self.write_seal()?;
        self.sync()?;
        Ok(())
    }

    fn write_seal(&mut self) -> Result<(), WalError> {
        let header = FrameHeader {
            kind: FrameKind::Seal,
            seq: self.last_seq,
            durable_end: self.durable_end,
            payload_len: 0,
            payload_crc: payload_crc(self.header.salt, self.end, &[]),
            prev_crc: self.last_crc,
        };
        let mut bytes = Vec::new();
        let crc = header.encode(self.header.salt, self.end, &mut bytes);
        let written = self.io.write_group(&*self.file, &mut [IoSlice::new(&bytes)], self.end);
        written.map_err(|error| self.fail(error))?;
        self.end += SEAL_BYTES;
        self.last_crc = crc;
        self.sealed = true;
        self.check();
        Ok(())
    }

    fn mark_durable(&mut self) {
        self.durable_end = self.end;
        self.durable_seq = self.last_seq;
    }

    /// Remembers the first failure for ever and returns it.
    fn fail(&mut self, error: FsError) -> WalError {
        let first = Arc::new(WalError::Fs(error));
        self.poison = Some(Arc::clone(&first));
        WalError::Poisoned(first)
    }

    fn alive(&self) -> Result<(), WalError> {
        self.poison.as_ref().map_or(Ok(()), |first| Err(WalError::Poisoned(Arc::clone(first))))
    }

    /// The invariants of the type, after every change.
    fn check(&self) {
        let room = if self.sealed { 0 } else { SEAL_BYTES };
        assert!(self.durable_end <= self.end, "durable past the end");
        assert!(self.end + room <= self.header.allocated_len, "no room left to seal");
    }

    /// How many bytes of frames (see [`crate::frame_bytes`]) still fit, staged ones counted as in.
    pub fn remaining(&self) -> u64 {
        let used = self.end + self.staged_bytes + SEAL_BYTES;
        self.header.allocated_len.saturating_sub(used)
    }

    /// The first failure, once there was one.
    pub fn poisoned(&self) -> Option<&Arc<WalError>> {
        self.poison.as_ref()
    }

    /// The file's path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The file header.
    pub fn header(&self) -> &FileHeader {
        &self.header
    }

    /// Where the next frame will be written, in bytes.
    pub fn end(&self) -> u64 {
        self.end
    }

    /// The number of the last written frame; one less than the file's first if there is none.
    pub fn last_seq(&self) -> u64 {
        self.last_seq
    }

    /// The number of the last durable frame; one less than the file's first if there is none.
    pub fn durable_seq(&self) -> u64 {
        self.durable_seq
    }

    /// True when nothing was written since the last seal.
    pub fn is_sealed(&self) -> bool {
        self.sealed
    }

    /// The link for the header of the next file. Seal first.
    pub fn as_predecessor(&self) -> Predecessor {
        Predecessor { number: self.header.number, last_seq: self.last_seq, last_crc: self.last_crc }
    }
}

/// The payload's length, if one frame may hold it.
fn checked_len(payload: &[u8], max: u32) -> Result<u32, WalError> {
    let max = max.min(FRAME_PAYLOAD_MAX);
    let too_large = WalError::TooLarge { bytes: payload.len() as u64, max: u64::from(max) };
    u32::try_from(payload.len()).ok().filter(|&len| len <= max).ok_or(too_large)
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
