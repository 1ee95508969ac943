//! Scans a framed file through a window that moves along it, so that a replay of many files takes
//! the memory of one window and not that of a file, and every byte is checked while it is still in
//! the processor's cache. The verdict on the tail is that of `scan`, word for word.
//!
//! Called by the log's recovery for files that have a successor. The last file of a log is read
//! whole instead ([`super::FramedFile`]): it is written again, and what is written must be what was
//! judged. Changes nothing on disk.

#![deny(clippy::indexing_slicing)]

use super::{
    FileKind, FrameRef, ScanReport,
    scan::{judge, open_header},
    walk::{Found, Position, Walk, all_zero},
};
use crate::{FrameDefect, FrameKind, WalError};
use akidb_vfs::{Fs, FsError, FsFile, FsOp};
use std::{io::ErrorKind, path::Path};

/// Small enough to stay in a cache, large enough that the calls do not count.
const WINDOW_BYTES: usize = 1 << 20;

/// The part of a file that is in memory. Kept from file to file for its memory.
#[derive(Debug)]
pub(crate) struct Window {
    bytes: Vec<u8>,
    /// How many of `bytes` were read.
    held: usize,
    /// Where in the file they begin.
    start: u64,
    /// How much is read at a time, where a frame does not need more.
    step: usize,
}

impl Window {
    /// A window that reads in large steps.
    pub(crate) fn new() -> Self {
        Self::with_step(WINDOW_BYTES)
    }

    fn with_step(step: usize) -> Self {
        Self { bytes: Vec::new(), held: 0, start: 0, step }
    }

    /// Forgets what it holds.
    fn go_to(&mut self, offset: u64) {
        self.held = 0;
        self.start = offset;
    }

    /// What it holds from a file offset on.
    fn from(&self, offset: u64) -> &[u8] {
        self.bytes.get(self.index_of(offset)..self.held).unwrap_or_default()
    }

    /// Where in `bytes` a file offset stands; the end of what is held if it is not held.
    fn index_of(&self, offset: u64) -> usize {
        let at = offset.checked_sub(self.start).and_then(|at| usize::try_from(at).ok());
        at.map_or(self.held, |at| at.min(self.held))
    }

    /// Moves on to `offset` and reads until at least `needed` bytes from there are held, or all up
    /// to `end`.
    fn fill(
        &mut self,
        file: &dyn FsFile,
        offset: u64,
        needed: u64,
        end: u64,
    ) -> Result<(), FsError> {
        let no_room = || FsError::new(FsOp::Read, file.path(), ErrorKind::OutOfMemory.into());
        let left = end.saturating_sub(offset);
        let wanted = usize::try_from(needed.max(self.step as u64).min(left));
        let wanted = wanted.map_err(|_| no_room())?;
        let from = self.index_of(offset);
        self.bytes.copy_within(from..self.held, 0);
        self.held -= from;
        self.start = offset;
        if self.bytes.len() < wanted {
            // Asked for first, because growing without memory ends the process.
            self.bytes.try_reserve_exact(wanted - self.bytes.len()).map_err(|_| no_room())?;
            self.bytes.resize(wanted, 0);
        }
        let room = self.bytes.get_mut(self.held..wanted).unwrap_or_default();
        file.read_exact_at(room, offset.saturating_add(self.held as u64))?;
        self.held = self.held.max(wanted);
        Ok(())
    }
}

/// As [`super::FramedFile::read`] and then [`super::FramedFile::scan`], without the whole file in
/// memory.
///
/// # Errors
/// As both of them.
pub(crate) fn scan_through<E: From<WalError>>(
    fs: &dyn Fs,
    path: &Path,
    kind: FileKind,
    window: &mut Window,
    on_frame: &mut dyn FnMut(FrameRef<'_>) -> Result<(), E>,
) -> Result<ScanReport, E> {
    let (header, len, file) = open_header(fs, path, kind)?;
    let end = len as u64;
    let mut at = Position::first(&header);
    window.go_to(at.offset);
    let (mut frames, mut payload_bytes) = (0, 0);
    let defect = loop {
        match at.look(window.from(at.offset), end.saturating_sub(at.offset)) {
            Found::More(needed) => {
                let filled = window.fill(&*file, at.offset, needed, end);
                filled.map_err(WalError::from)?;
            }
            Found::Frame(frame, after) => {
                if frame.header.kind == FrameKind::Data {
                    frames += 1;
                    payload_bytes += frame.payload.len() as u64;
                    let (seq, offset) = (frame.header.seq, frame.offset);
                    on_frame(FrameRef { seq, offset, payload: frame.payload })?;
                }
                at = after;
            }
            Found::Bad(defect) => break defect,
        }
    };
    let unused = defect == FrameDefect::NotAFrame && only_zeros(&*file, window, at.offset, end)?;
    let torn = if unused {
        None
    } else {
        let left = end.saturating_sub(at.offset);
        window.fill(&*file, at.offset, left, end).map_err(WalError::from)?;
        Some(judge(path, &Walk::from(at, window.from(at.offset)), defect)?)
    };
    Ok(ScanReport { frames, payload_bytes, ..ScanReport::at(header, at, torn) })
}

/// Is the rest of the file unused?
fn only_zeros(
    file: &dyn FsFile,
    window: &mut Window,
    from: u64,
    end: u64,
) -> Result<bool, WalError> {
    if !all_zero(window.from(from)) {
        return Ok(false);
    }
    let mut at = from.saturating_add(window.from(from).len() as u64);
    while at < end {
        window.fill(file, at, 0, end)?;
        let held = window.from(at);
        if !all_zero(held) {
            return Ok(false);
        }
        at = at.saturating_add(held.len() as u64);
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        CorruptionDetail, Env,
        framed::{FramedFile, FramedWriter, NewFile, TornTail},
    };
    use akidb_vfs::{SystemRandom, sim::SimFs};
    use proptest::prelude::*;
    use std::sync::Arc;

    const KIND: FileKind = FileKind { magic: *b"AKTESTFL", version: 1, name: "test file" };

    /// What a scan gives: frames with their offsets, and the verdict.
    type Seen = (Vec<(u64, u64, Vec<u8>)>, Result<Verdict, (u64, CorruptionDetail)>);
    type Verdict = (u64, u64, u64, u32, bool, Option<TornTail>);

    fn seen(scan: impl FnOnce(&mut Frames<'_>) -> Result<ScanReport, WalError>) -> Seen {
        let mut frames = Vec::new();
        let result = scan(&mut |frame: FrameRef<'_>| {
            frames.push((frame.seq, frame.offset, frame.payload.to_vec()));
            Ok(())
        });
        let verdict = match result {
            Ok(r) => Ok((r.frames, r.payload_bytes, r.end, r.last_crc, r.sealed, r.torn)),
            Err(WalError::Corruption { offset, detail, .. }) => Err((offset, detail)),
            Err(other) => panic!("{other}"),
        };
        (frames, verdict)
    }

    type Frames<'f> = dyn FnMut(FrameRef<'_>) -> Result<(), WalError> + 'f;

    /// A file with these payloads, a sync after each third, sealed or not.
    fn written(sim: &SimFs, payloads: &[usize], seal: bool) {
        let env = Env::new(Arc::new(sim.process()), Arc::new(SystemRandom::from_seed(3)));
        let new = NewFile::new(Path::new("/file"), KIND, 1, 64 << 10);
        let mut writer = FramedWriter::create(&env, &new, []).unwrap();
        for (n, len) in payloads.iter().enumerate() {
            writer.append(vec![n as u8; *len]).unwrap();
            writer.write_group().unwrap();
            if n % 3 == 2 {
                writer.sync().unwrap();
            }
        }
        if seal {
            writer.seal().unwrap();
        }
    }

    proptest! {
        /// Whatever the window's size and whatever byte is damaged, frames and verdict are those of
        /// a scan of the whole image: windows must not be a second opinion on the tail rule.
        #[test]
        fn a_scan_through_a_window_is_a_scan(
            payloads in prop::collection::vec(0_usize..600, 0..12),
            seal in any::<bool>(),
            step in 1_usize..700,
            damage in prop::option::of((512_u64..9000, 1_u8..)),
        ) {
            let sim = SimFs::new(1);
            written(&sim, &payloads, seal);
            let path = Path::new("/file");
            if let Some((offset, flip)) = damage {
                sim.corrupt(path, offset, flip).unwrap();
            }
            let image = FramedFile::read(&sim, path, KIND).unwrap();
            let whole = seen(|frames| image.scan(frames));
            let mut window = Window::with_step(step);
            // Twice, because a window is used for one file after another.
            for _ in 0..2 {
                let through = seen(|frames| scan_through(&sim, path, KIND, &mut window, frames));
                prop_assert_eq!(&through, &whole);
            }
        }
    }
}
