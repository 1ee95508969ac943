//! Work that was given up: what could not be shipped after all retries, kept for a person or a later
//! cycle to try again or to drop.
//!
//! Owns the list and its file (`docs/format/dead-letters.md`). Never ships anything and never
//! deletes what a letter is about: local data stays until its upload has succeeded, so a letter that
//! is dropped loses a note, not rows.
//!
//! # Invariants
//! - One letter per name: what fails again is counted on its letter, so that a store that is down
//!   for a week does not fill the queue with one collection.
//! - Bounded: beyond `max` letters further names are refused ([`DeadLetterError::Full`]), never old
//!   ones forgotten.
//!
//! # Crash consistency
//! Each change replaces the file durably before it returns. A crash between a retry that worked and
//! the end of its letter leaves the letter: to try again must be harmless, as an upload under its
//! own key is.

#![deny(clippy::indexing_slicing)]

use crate::{
    RecordsError,
    records::{Fields, RecordFile, Records, check_len, put_bytes},
};
use akidb_vfs::{Clock, Fs, Random};
use parking_lot::Mutex;
use std::{collections::BTreeSet, future::Future, path::Path, sync::Arc};

/// The first bytes of the file.
const MAGIC: [u8; 8] = *b"AKIDBDLQ";
/// The longest name of a letter.
pub const LETTER_NAME_BYTES_MAX: usize = 512;
/// The longest payload of a letter.
pub const LETTER_PAYLOAD_BYTES_MAX: usize = 4096;
/// Of an error's text, this much is kept.
const ERROR_BYTES_MAX: usize = 1024;

/// Something that was given up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeadLetter {
    /// Its number; never given twice.
    pub id: u64,
    /// What it is about, in its owner's words; one letter per name.
    pub name: String,
    /// What its owner needs to try again.
    pub payload: Vec<u8>,
    /// What went wrong the last time.
    pub error: String,
    /// How often it was given up.
    pub failures: u32,
    /// When for the first time, by the wall clock, for people.
    pub first_unix_ms: u64,
    /// When for the last time.
    pub last_unix_ms: u64,
}

/// A failure of the queue.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DeadLetterError {
    /// The file.
    #[error(transparent)]
    Records(#[from] RecordsError),
    /// There are as many letters as there may be: retry or drop some. Nothing is lost meanwhile,
    /// but what fails is not noted.
    #[error("the dead-letter queue is full with {max} letters; retry or drop some")]
    Full {
        /// The most letters.
        max: usize,
    },
    /// There is no letter of this number.
    #[error("there is no dead letter {id}; list them")]
    NoSuchLetter {
        /// The number.
        id: u64,
    },
}

/// What came of a retry.
#[derive(Debug)]
pub enum Retried<T> {
    /// It worked, and the letter is gone.
    Done(T),
    /// It failed again, and the letter says so.
    FailedAgain(DeadLetter),
}

/// The queue of dead letters.
///
/// ```
/// use akidb_tiering::DeadLetterQueue;
/// use akidb_vfs::{SystemRandom, sim::{SimClock, SimFs}};
/// use std::{path::Path, sync::Arc};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let (fs, random) = (Arc::new(SimFs::new(1)), Arc::new(SystemRandom::from_seed(1)));
/// let clock = Arc::new(SimClock::new());
/// let queue = DeadLetterQueue::open(fs, random, clock, Path::new("/dead-letters"), 1_000)?;
/// let id = queue.add("demote docs", b"collection 7", "forbidden")?;
/// assert_eq!(queue.list()[0].error, "forbidden");
/// queue.drop_letter(id)?;
/// assert!(queue.list().is_empty());
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct DeadLetterQueue {
    fs: Arc<dyn Fs>,
    random: Arc<dyn Random>,
    clock: Arc<dyn Clock>,
    file: RecordFile,
    max: usize,
    state: Mutex<State>,
}

#[derive(Clone, Debug)]
struct State {
    next: u64,
    letters: Vec<DeadLetter>,
}

impl State {
    fn read(fs: &dyn Fs, file: &RecordFile) -> Result<Self, RecordsError> {
        let read = file.read(fs)?;
        let damage =
            |detail| RecordsError::Corruption { file: file.path.clone(), offset: 0, detail };
        let letters: Option<Vec<_>> = read.bodies.iter().map(|body| decode(body)).collect();
        let letters = letters.ok_or_else(|| damage("a record is not a dead letter"))?;
        let numbers = letters.iter().map(|letter| letter.id).chain([read.next]);
        if !numbers.is_sorted_by(|one, next| one < next) {
            return Err(damage("the numbers of the letters do not rise"));
        }
        let names: BTreeSet<&str> = letters.iter().map(|letter| &*letter.name).collect();
        if names.len() != letters.len() {
            return Err(damage("two letters have one name"));
        }
        Ok(Self { next: read.next, letters })
    }
}

impl DeadLetterQueue {
    /// Opens the queue at `path`; an empty one if there is no file. One process at a time. More than
    /// `max` letters, from an open with a higher bound, are kept.
    ///
    /// # Errors
    /// A failed call; [`RecordsError::Corruption`] and [`RecordsError::Newer`]: the file may be
    /// removed, and what it noted is found again when it fails again.
    pub fn open(
        fs: Arc<dyn Fs>,
        random: Arc<dyn Random>,
        clock: Arc<dyn Clock>,
        path: &Path,
        max: usize,
    ) -> Result<Self, RecordsError> {
        let file = RecordFile { path: path.to_owned(), magic: MAGIC };
        let state = Mutex::new(State::read(&*fs, &file)?);
        Ok(Self { fs, random, clock, file, max, state })
    }

    /// The letters of the queue at `path`, the oldest first; none if there is no file. For whoever looks
    /// at a directory that another process may have open.
    ///
    /// # Errors
    /// As [`DeadLetterQueue::open`].
    pub fn read(fs: &dyn Fs, path: &Path) -> Result<Vec<DeadLetter>, RecordsError> {
        let file = RecordFile { path: path.to_owned(), magic: MAGIC };
        State::read(fs, &file).map(|state| state.letters)
    }

    /// Notes that `name` was given up, and why; durable when it returns. Returns the letter's number:
    /// a new one, or that of the letter of this name, which gets the payload and the error.
    ///
    /// # Errors
    /// [`DeadLetterError::Full`]; a failed call; [`RecordsError::TooLarge`]. The queue is as it was.
    pub fn add(&self, name: &str, payload: &[u8], error: &str) -> Result<u64, DeadLetterError> {
        check_len("the name of a dead letter", name.len(), LETTER_NAME_BYTES_MAX)?;
        check_len("the payload of a dead letter", payload.len(), LETTER_PAYLOAD_BYTES_MAX)?;
        let now = self.clock.unix_ms();
        let mut state = self.state.lock();
        let mut changed = state.clone();
        let known = changed.letters.iter_mut().find(|letter| letter.name == name);
        let id = if let Some(letter) = known {
            letter.payload = payload.to_vec();
            letter.fail(error, now);
            letter.id
        } else {
            let full = || DeadLetterError::Full { max: self.max };
            if changed.letters.len() >= self.max {
                return Err(full());
            }
            let id = changed.next;
            // A file can say anything: the last number is never given.
            changed.next = id.checked_add(1).ok_or_else(full)?;
            let mut letter = DeadLetter {
                id,
                name: name.to_owned(),
                payload: payload.to_vec(),
                error: String::new(),
                failures: 0,
                first_unix_ms: now,
                last_unix_ms: now,
            };
            letter.fail(error, now);
            changed.letters.push(letter);
            id
        };
        self.write(&mut state, changed)?;
        Ok(id)
    }

    /// All letters, the oldest first.
    pub fn list(&self) -> Vec<DeadLetter> {
        self.state.lock().letters.clone()
    }

    /// How many letters there are.
    pub fn len(&self) -> usize {
        self.state.lock().letters.len()
    }

    /// True if there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// One letter.
    ///
    /// # Errors
    /// [`DeadLetterError::NoSuchLetter`].
    pub fn get(&self, id: u64) -> Result<DeadLetter, DeadLetterError> {
        let found = self.state.lock().letters.iter().find(|letter| letter.id == id).cloned();
        found.ok_or(DeadLetterError::NoSuchLetter { id })
    }

    /// Removes a letter without a retry; durable when it returns.
    ///
    /// # Errors
    /// [`DeadLetterError::NoSuchLetter`]; a failed call, after which the letter is still there.
    pub fn drop_letter(&self, id: u64) -> Result<DeadLetter, DeadLetterError> {
        let mut state = self.state.lock();
        let mut changed = state.clone();
        let at = changed.letters.iter().position(|letter| letter.id == id);
        let letter = changed.letters.remove(at.ok_or(DeadLetterError::NoSuchLetter { id })?);
        self.write(&mut state, changed)?;
        Ok(letter)
    }

    /// Removes the letter of a name whose work has succeeded by another way, if there is one.
    ///
    /// # Errors
    /// A failed call, after which the letter is still there.
    pub fn settle(&self, name: &str) -> Result<(), DeadLetterError> {
        let mut state = self.state.lock();
        if state.letters.iter().any(|letter| letter.name == name) {
            let mut changed = state.clone();
            changed.letters.retain(|letter| letter.name != name);
            self.write(&mut state, changed)?;
        }
        Ok(())
    }

    /// Tries a letter again by `attempt`, which must be harmless if it was done already. The letter
    /// goes if it works, and is counted up if it does not.
    ///
    /// # Errors
    /// [`DeadLetterError::NoSuchLetter`]; a failed call on the file. What `attempt` did stays done.
    pub async fn retry<T, E: std::fmt::Display, F: Future<Output = Result<T, E>>>(
        &self,
        id: u64,
        attempt: impl FnOnce(DeadLetter) -> F,
    ) -> Result<Retried<T>, DeadLetterError> {
        let letter = self.get(id)?;
        match attempt(letter.clone()).await {
            Ok(value) => {
                self.settle(&letter.name)?;
                Ok(Retried::Done(value))
            }
            Err(error) => {
                self.add(&letter.name, &letter.payload, &error.to_string())?;
                Ok(Retried::FailedAgain(self.get(id)?))
            }
        }
    }

    fn write(&self, state: &mut State, changed: State) -> Result<(), RecordsError> {
        let bodies = changed.letters.iter().map(encode).collect();
        let records = Records { next: changed.next, bodies };
        self.file.write(&*self.fs, &*self.random, &records)?;
        *state = changed;
        Ok(())
    }
}

impl DeadLetter {
    fn fail(&mut self, error: &str, now: u64) {
        let end = error.floor_char_boundary(ERROR_BYTES_MAX);
        self.error = error.get(..end).unwrap_or_default().to_owned();
        self.failures = self.failures.saturating_add(1);
        self.last_unix_ms = now;
    }
}

fn encode(letter: &DeadLetter) -> Vec<u8> {
    let mut out = Vec::new();
    out.extend_from_slice(&letter.id.to_le_bytes());
    out.extend_from_slice(&letter.failures.to_le_bytes());
    out.extend_from_slice(&letter.first_unix_ms.to_le_bytes());
    out.extend_from_slice(&letter.last_unix_ms.to_le_bytes());
    put_bytes(&mut out, letter.name.as_bytes());
    put_bytes(&mut out, &letter.payload);
    put_bytes(&mut out, letter.error.as_bytes());
    out
}

fn decode(body: &[u8]) -> Option<DeadLetter> {
    let mut fields = Fields(body);
    let (id, failures) = (fields.u64()?, fields.u32()?);
    let (first_unix_ms, last_unix_ms) = (fields.u64()?, fields.u64()?);
    let name = fields.text()?.to_owned();
    let payload = fields.bytes()?.to_vec();
    let error = fields.text()?.to_owned();
    let letter = DeadLetter { id, name, payload, error, failures, first_unix_ms, last_unix_ms };
    fields.0.is_empty().then_some(letter)
}

#[cfg(test)]
mod tests;
