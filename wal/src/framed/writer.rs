//! Appends to one framed file. Owns the promise in every frame of how far the file is durable, and
//! poisoning. Must never write past the reserved blocks. Called by [`crate::Log`] and by the
//! engine's manifest, each from one thread; files are made in `create`.
//!
//! # Invariants
//! - `durable_end <= end <= allocated_len - one seal`, unless the last frame is a seal: there is
//!   always room to seal (`check`).
//! - After a failed write or sync nothing is ever written again through this writer, whatever a
//!   later sync would say.

#![deny(clippy::indexing_slicing)]

use super::{
    FileHeader, HEADER_PAGE_BYTES, NewFile, Predecessor, layout::GroupLayout, zeros::ZeroAhead,
};
use crate::{
    FRAME_PAYLOAD_MAX, FrameKind, LogIo, WalError,
    frame::{FrameHeader, frame_bytes, payload_crc},
};
use akidb_vfs::{FsError, FsFile, FsOp, planted};
use std::{
    io::IoSlice,
    path::{Path, PathBuf},
    sync::Arc,
};

/// The room that is always kept for a seal.
pub(super) const SEAL_BYTES: u64 = frame_bytes(0);

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
    zeros: ZeroAhead,
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
    /// For a file that holds its header and nothing else.
    pub(super) fn start(
        file: Arc<dyn FsFile>,
        io: Arc<dyn LogIo>,
        path: PathBuf,
        header: FileHeader,
        new: &NewFile<'_>,
    ) -> Self {
        let before_first = header.first_seq - 1;
        Self {
            file,
            io,
            path,
            header,
            frame_bytes_max: new.frame_bytes_max,
            staged: Vec::new(),
            staged_bytes: 0,
            layout: GroupLayout::default(),
            zeros: ZeroAhead::new(new.zero_ahead, header.allocated_len),
            end: HEADER_PAGE_BYTES,
            last_seq: before_first,
            last_crc: header.crc,
            durable_end: HEADER_PAGE_BYTES,
            durable_seq: before_first,
            sealed: true,
            poison: None,
        }
    }

    /// Seals what was carried over and syncs all. The seal may call it durable before the sync:
    /// nobody sees the file under its name until the sync has returned.
    pub(super) fn finish_carried(&mut self) -> Result<(), WalError> {
        if !self.sealed {
            self.durable_end = self.end;
            self.write_seal()?;
        }
        if !planted("framed.carried-unsynced") {
            self.file.sync_all()?;
        }
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
    /// process kill, but not yet power loss. Does nothing when nothing is staged. Returns the
    /// payloads, for who has a use for their memory.
    ///
    /// # Errors
    /// [`WalError::Poisoned`], now and for ever; any part of the group may be on disk.
    pub fn write_group(&mut self) -> Result<Vec<Vec<u8>>, WalError> {
        self.write_staged(false)
    }

    /// Writes all that is staged as [`FramedWriter::write_group`] does, and makes everything written
    /// durable, in one call to the backend.
    ///
    /// # Errors
    /// [`WalError::Poisoned`], now and for ever; nothing written since the last sync may be trusted.
    pub fn write_group_synced(&mut self) -> Result<Vec<Vec<u8>>, WalError> {
        self.write_staged(true)
    }

    fn write_staged(&mut self, sync: bool) -> Result<Vec<Vec<u8>>, WalError> {
        self.alive()?;
        if self.staged.is_empty() {
            if sync {
                self.sync()?;
            }
            return Ok(Vec::new());
        }
        let crc = self.lay_out();
        let mut slices = self.layout.slices(&self.staged);
        let zeroed_upto =
            if sync { self.zeros.add(self.end, self.staged_bytes, &mut slices) } else { None };
        let written = if sync && !planted("framed.sync-skipped") {
            match self.io.write_and_sync(&*self.file, &mut slices, self.end) {
                Err(error)
                    if error.op == FsOp::SyncData && planted("framed.failed-sync-retried") =>
                {
                    self.io.sync(&*self.file)
                }
                written => written,
            }
        } else {
            self.io.write_group(&*self.file, &mut slices, self.end)
        };
        written.map_err(|error| self.fail(error))?;
        self.zeros.written(zeroed_upto);
        self.end += self.staged_bytes;
        self.last_seq += self.staged.len() as u64;
        self.last_crc = crc;
        self.sealed = false;
        self.staged_bytes = 0;
        if sync {
            self.mark_durable();
        }
        self.check();
        Ok(std::mem::take(&mut self.staged))
    }

    /// Turns what is staged into frames; returns the last one's header checksum.
    fn lay_out(&mut self) -> u32 {
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
        crc
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
            let synced = match self.io.sync(&*self.file) {
                _ if planted("framed.sync-skipped") => Ok(()),
                Err(_) if planted("framed.failed-sync-retried") => self.io.sync(&*self.file),
                synced => synced,
            };
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
    fn fail(&mut self, mut error: FsError) -> WalError {
        // The handle was opened under the temporary name, which nobody can find any more.
        error.path.clone_from(&self.path);
        let first = Arc::new(WalError::Fs(error));
        if !planted("wal.poison-forgotten") {
            self.poison = Some(Arc::clone(&first));
        }
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

    pub(super) fn staged_bytes(&self) -> u64 {
        self.staged_bytes
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
pub(super) fn checked_len(payload: &[u8], max: u32) -> Result<u32, WalError> {
    let max = max.min(FRAME_PAYLOAD_MAX);
    let too_large = WalError::TooLarge { bytes: payload.len() as u64, max: u64::from(max) };
    u32::try_from(payload.len()).ok().filter(|&len| len <= max).ok_or(too_large)
}
