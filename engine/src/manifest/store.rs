//! The manifest on disk: framed files `MANIFEST-%012d`, of which the highest number counts.
//!
//! # Protocol
//! 1. Every open, and every commit that does not fit, starts a new file: temporary name, one
//!    frame with the whole state, sync, rename, sync the directory; then the old file goes.
//! 2. A commit appends a frame for each of its edits, syncs them, and seals them: the seal says that
//!    the frames were durable, so later rot in them is told from a torn append.
//!
//! # Invariants
//! - A file under its final name begins with a whole state.
//! - After a commit the state in memory holds the edits that are durable, and no other.
//! - After a failed write or sync this store is never written again: the database is poisoned,
//!   and the next open carries over what the disk kept (M3).
//!
//! # Crash consistency
//! Between rename and removal two files exist; the higher one holds everything the lower one did.

#![deny(clippy::indexing_slicing)]

use super::state::{Edit, ManifestState, Record, RecordRef};
use crate::error::{Cause, Error, Result};
use akidb_vfs::{Fs, FsOp, Random, planted};
use akidb_wal::{
    Env, WalError, frame_bytes,
    framed::{
        FileKind, FrameStatus, FramedFile, FramedWriter, NewFile, TEMP_SUFFIX, framed_file_bytes,
    },
};
use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

/// Magic and version of manifest files.
pub(crate) const KIND: FileKind = FileKind { magic: *b"AKIDBMAN", version: 3, name: "manifest" };

const PREFIX: &str = "MANIFEST-";
/// A fresh file has room for at least this much beside the state, and for as much as the state takes: a
/// file is begun anew rarely, and what that costs does not grow with every edit.
const ROOM_BYTES: u64 = 64 << 10;

/// The manifest of an open database.
pub(crate) struct ManifestStore {
    env: Env,
    dir: PathBuf,
    number: u64,
    writer: FramedWriter,
    state: ManifestState,
}

/// A commit that did not happen, or may have.
#[derive(Clone, Debug)]
pub(crate) struct CommitFailure {
    pub(crate) error: Error,
    /// True if the next open may find the edit: nothing may be deleted on the strength of
    /// either answer, so the database must be poisoned.
    pub(crate) maybe_written: bool,
}

fn file_name(number: u64) -> String {
    format!("{PREFIX}{number:012}")
}

impl ManifestStore {
    /// True for the name of a manifest file.
    pub(crate) fn is_manifest(name: &str) -> bool {
        number_of(name).is_some()
    }

    /// True for the name of a manifest file that was never finished.
    pub(crate) fn is_temporary(name: &str) -> bool {
        name.strip_suffix(TEMP_SUFFIX).is_some_and(Self::is_manifest)
    }

    /// The first manifest of a new database.
    pub(crate) fn create(
        fs: &Arc<dyn Fs>,
        random: &Arc<dyn Random>,
        dir: &Path,
        state: ManifestState,
    ) -> Result<Self> {
        let env = Env::new(fs.clone(), random.clone());
        let writer = start_file(&env, dir, 1, &state)?;
        Ok(Self { env, dir: dir.to_owned(), number: 1, writer, state })
    }

    /// Reads the newest manifest, and changes nothing.
    pub(crate) fn read(fs: &dyn Fs, dir: &Path) -> Result<FoundManifest> {
        let numbers = numbers_in(fs, dir)?;
        let newest = numbers.last().copied().ok_or_else(|| Error::bug("no manifest to open"))?;
        let state = read_state(fs, &dir.join(file_name(newest)))?;
        Ok(FoundManifest { dir: dir.to_owned(), numbers, newest, state })
    }

    /// What can be read of the newest manifest, folded, and whether that is all it ever said;
    /// `None` if there is none or nothing can be read.
    pub(crate) fn salvage(fs: &dyn Fs, dir: &Path) -> Result<Option<(ManifestState, bool)>> {
        let Some(newest) = numbers_in(fs, dir)?.pop() else { return Ok(None) };
        let salvaged = match FramedFile::salvage(fs, &dir.join(file_name(newest)), KIND, newest) {
            Ok(salvaged) => salvaged,
            Err(WalError::Corruption { .. } | WalError::Foreign { .. }) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        // A header alone that is damaged hides no record; an end that was cut off may.
        let mut complete = salvaged.headless || salvaged.problem.is_none();
        let mut state = None;
        for frame in salvaged.file.inspect() {
            complete &= matches!(frame.status, FrameStatus::Good { .. });
            let Some(payload) = salvaged.file.payload(&frame) else { continue };
            match serde_json::from_slice(payload) {
                Ok(Record::Full(full)) if full.check().is_ok() => state = Some(full),
                // An edit carries the whole state of what it touches, so it counts although one
                // before it is gone; what contradicts the remains is left out.
                Ok(Record::Edit(edit)) => {
                    drop(state.get_or_insert_with(ManifestState::default).apply(&edit));
                }
                Ok(Record::Full(_)) | Err(_) => {}
            }
        }
        Ok(state.map(|state| (state, complete)))
    }

    /// Every manifest file, by number.
    pub(crate) fn files(fs: &dyn Fs, dir: &Path) -> Result<Vec<PathBuf>> {
        Ok(numbers_in(fs, dir)?.into_iter().map(|number| dir.join(file_name(number))).collect())
    }

    /// Starts a file with this state above every manifest there is, and leaves those alone.
    pub(crate) fn supersede(
        fs: &Arc<dyn Fs>,
        random: &Arc<dyn Random>,
        dir: &Path,
        state: &ManifestState,
    ) -> Result<PathBuf> {
        let newest = numbers_in(fs.as_ref(), dir)?.pop().unwrap_or(0);
        let number = newest.checked_add(1).ok_or_else(|| Error::bug("manifest numbers ran out"))?;
        start_file(&Env::new(fs.clone(), random.clone()), dir, number, state)?;
        Ok(dir.join(file_name(number)))
    }

    /// What the manifest says.
    pub(crate) fn state(&self) -> &ManifestState {
        &self.state
    }

    /// Makes edits durable, in this order and with one sync. An edit that breaks a rule fails alone; what
    /// the disk refuses fails them all.
    pub(crate) fn commit(&mut self, edits: &[Edit]) -> Vec<Result<(), CommitFailure>> {
        let unwritten = |error| CommitFailure { error, maybe_written: false };
        let (mut bodies, mut undos) = (Vec::new(), Vec::new());
        let mut stage = |edit: &Edit| {
            let edit = self.state.keeping_what_is_named(edit);
            let body = encode(RecordRef::Edit(&edit)).map_err(unwritten)?;
            let undo = self.state.apply(&edit);
            undos.push(
                undo.map_err(|_| unwritten(Error::bug("an edit breaks a rule of the manifest")))?,
            );
            bodies.push(body);
            Ok(())
        };
        let mut answers: Vec<_> = edits.iter().map(&mut stage).collect();
        if let Err(failure) = self.write(bodies) {
            undos.into_iter().rev().for_each(|undo| self.state.take_back(undo));
            for answer in answers.iter_mut().filter(|answer| answer.is_ok()) {
                *answer = Err(failure.clone());
            }
        }
        answers
    }

    /// Writes edits that the state in memory holds already.
    fn write(&mut self, bodies: Vec<Vec<u8>>) -> Result<(), CommitFailure> {
        if bodies.is_empty() {
            return Ok(());
        }
        let needed: u64 = bodies.iter().map(|body| frame_len(body)).fold(0, u64::saturating_add);
        if self.writer.remaining() < needed {
            return self.roll();
        }
        self.append(bodies).map_err(|error| CommitFailure { error, maybe_written: true })
    }

    fn append(&mut self, bodies: Vec<Vec<u8>>) -> Result<()> {
        for body in bodies {
            self.writer.append(body)?;
        }
        self.writer.write_group()?;
        if planted("manifest.edit-unsynced") {
            return Ok(());
        }
        self.writer.sync()?;
        self.writer.seal()?;
        Ok(())
    }

    fn roll(&mut self) -> Result<(), CommitFailure> {
        let number = self.number.saturating_add(1);
        if planted("manifest.old-removed-first") {
            drop(self.remove_old(self.number));
        }
        let writer = start_file(&self.env, &self.dir, number, &self.state).map_err(|error| {
            let maybe_written = !fails_before_its_name(&error);
            CommitFailure { error, maybe_written }
        })?;
        let old = std::mem::replace(&mut self.number, number);
        self.writer = writer;
        // The new file counts already; an old one that stays is removed by the next open.
        drop(self.remove_old(old));
        Ok(())
    }

    fn remove_old(&mut self, number: u64) -> Result<()> {
        self.env.fs.remove_file(&self.dir.join(file_name(number)))?;
        self.env.fs.sync_dir(&self.dir)?;
        Ok(())
    }
}

/// A manifest that was read and not yet taken over.
pub(crate) struct FoundManifest {
    dir: PathBuf,
    numbers: Vec<u64>,
    newest: u64,
    state: ManifestState,
}

impl FoundManifest {
    /// What the manifest says.
    pub(crate) fn state(&self) -> &ManifestState {
        &self.state
    }

    /// Carries the state over to a fresh file. Nothing may be deleted on the strength of what was
    /// read before this returns: its last frame may never have reached the disk, and syncing the
    /// old file proves nothing after a failed sync.
    pub(crate) fn take_over(
        self,
        fs: &Arc<dyn Fs>,
        random: &Arc<dyn Random>,
    ) -> Result<ManifestStore> {
        let Self { dir, numbers, newest, state } = self;
        let env = Env::new(fs.clone(), random.clone());
        let number = newest.checked_add(1).ok_or_else(|| Error::bug("manifest numbers ran out"))?;
        let writer = start_file(&env, &dir, number, &state)?;
        let mut store = ManifestStore { env, dir, number, writer, state };
        numbers.into_iter().try_for_each(|old| store.remove_old(old))?;
        Ok(store)
    }
}

fn number_of(name: &str) -> Option<u64> {
    let digits = name.strip_prefix(PREFIX)?;
    (digits.len() == 12).then(|| digits.parse().ok()).flatten()
}

fn numbers_in(fs: &dyn Fs, dir: &Path) -> Result<Vec<u64>> {
    let mut numbers: Vec<_> =
        fs.list_dir(dir)?.iter().filter_map(|entry| number_of(entry.name.to_str()?)).collect();
    numbers.sort_unstable();
    Ok(numbers)
}

fn encode(record: RecordRef<'_>) -> Result<Vec<u8>> {
    serde_json::to_vec(&record).map_err(|_| Error::bug("a manifest record did not serialise"))
}

/// The bytes of a frame with this body; more than any file has for a body over the frame limit.
fn frame_len(body: &[u8]) -> u64 {
    u32::try_from(body.len()).map_or(u64::MAX / 2, frame_bytes)
}

/// True for a failure to make a file of which nothing can be found later: a full disk, or too few
/// descriptors. Only the log crate's own word says that the disk was full before the name was
/// given: a directory sync can run out of space too, with the new file in place already. A failed
/// write or sync says that the disk is ill, so nothing goes on after it.
fn fails_before_its_name(error: &Error) -> bool {
    let Cause::Wal(error) = error.cause() else { return false };
    match &**error {
        WalError::NoSpace { .. } => true,
        WalError::Fs(failed) => matches!(failed.op, FsOp::Create | FsOp::Allocate),
        _ => false,
    }
}

fn start_file(env: &Env, dir: &Path, number: u64, state: &ManifestState) -> Result<FramedWriter> {
    let body = encode(RecordRef::Full(state))?;
    let len = frame_len(&body);
    let bytes = framed_file_bytes(len).saturating_add(len.max(ROOM_BYTES));
    let path = dir.join(file_name(number));
    Ok(FramedWriter::create(env, &NewFile::new(&path, KIND, number, bytes), [&*body])?)
}

/// Folds the records of a manifest file.
pub(super) fn read_state(fs: &dyn Fs, path: &Path) -> Result<ManifestState> {
    let mut state: Option<ManifestState> = None;
    let file = FramedFile::read(fs, path, KIND)?;
    file.scan(&mut |frame| {
        let damaged = |detail: String| Error::corruption(path, frame.offset, detail);
        let record = serde_json::from_slice(frame.payload)
            .map_err(|error| damaged(format!("not a manifest record: {error}")))?;
        match (record, &mut state) {
            (Record::Full(full), None) => {
                full.check().map_err(|error| damaged(error.to_string()))?;
                state = Some(full);
            }
            (Record::Edit(edit), Some(state)) => {
                state.apply(&edit).map_err(|error| damaged(error.to_string()))?;
            }
            (Record::Full(_), Some(_)) => return Err(damaged("a second whole state".to_owned())),
            (Record::Edit(_), None) => return Err(damaged("an edit without a state".to_owned())),
        }
        Ok::<_, Error>(())
    })?;
    state.ok_or_else(|| Error::corruption(path, 0, "it holds no state"))
}
