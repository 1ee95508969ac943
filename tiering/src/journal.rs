//! The journal of uploads in parts: which ones this process began and has not ended, so that the
//! next one can finish or abort them. An upload that nobody remembers costs storage for ever.
//!
//! Owns the list and its file (`docs/format/uploads.md`). Makes no request: the uploader does, and
//! writes down an upload here after the store named it and before it sends a part.
//!
//! # Crash consistency
//! Each change replaces the file durably before it returns. A crash between the store's answer and
//! the first write leaves an upload without parts that only the sweep finds; a crash after the end
//! of an upload, one that the store does not know any more.

#![deny(clippy::indexing_slicing)]

use crate::{
    ObjectKey, PutId, RecordsError, Upload, UploadId,
    records::{Fields, RecordFile, Records, check_len, put_bytes},
};
use akidb_vfs::{Fs, Random};
use parking_lot::Mutex;
use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

/// The first bytes of the file.
const MAGIC: [u8; 8] = *b"AKIDBUPL";
/// Stores name uploads in some hundred bytes.
const ID_BYTES_MAX: usize = 4096;
/// The longest tag.
pub const TAG_BYTES_MAX: usize = 1024;

/// An upload that was begun.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JournalEntry {
    /// The object to be, and the store's name for the upload.
    pub upload: Upload,
    /// The mark of the put.
    pub put_id: Option<PutId>,
    /// The length of each part but the last.
    pub part_bytes: u64,
    /// What its owner needs to know to make the same bytes again; at most 1,024 bytes.
    pub tag: Vec<u8>,
    /// When it was begun, by the wall clock, for people.
    pub begun_unix_ms: u64,
}

/// The uploads that are not ended.
///
/// ```
/// use akidb_tiering::{JournalEntry, ObjectKey, Upload, UploadId, UploadJournal};
/// use akidb_vfs::{SystemRandom, sim::SimFs};
/// use std::{path::Path, sync::Arc};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let (fs, random) = (Arc::new(SimFs::new(1)), Arc::new(SystemRandom::from_seed(1)));
/// let open = || UploadJournal::open(fs.clone(), random.clone(), Path::new("/uploads"));
/// let upload = Upload { key: ObjectKey::new("c/1")?, id: UploadId::new("the store's name") };
/// let entry =
///     JournalEntry { upload, put_id: None, part_bytes: 8 << 20, tag: vec![], begun_unix_ms: 0 };
/// open()?.begin(entry.clone())?;
/// assert_eq!(open()?.entries(), [entry]);
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct UploadJournal {
    fs: Arc<dyn Fs>,
    random: Arc<dyn Random>,
    file: RecordFile,
    entries: Mutex<Vec<JournalEntry>>,
}

impl UploadJournal {
    /// Opens the journal at `path`; an empty one if there is no file. One process at a time.
    ///
    /// # Errors
    /// A failed call; [`RecordsError::Corruption`] and [`RecordsError::Newer`]: without the file,
    /// which may be removed, nothing is lost but that the sweep takes longer to find what it named.
    pub fn open(
        fs: Arc<dyn Fs>,
        random: Arc<dyn Random>,
        path: &Path,
    ) -> Result<Self, RecordsError> {
        let file = RecordFile { path: path.to_owned(), magic: MAGIC };
        let entries = Mutex::new(Self::read(&*fs, path)?);
        Ok(Self { fs, random, file, entries })
    }

    /// What the journal at `path` says, in the order in which it was written down; nothing if there is
    /// no file. For whoever looks at a directory that another process may have open.
    ///
    /// # Errors
    /// As [`UploadJournal::open`].
    pub fn read(fs: &dyn Fs, path: &Path) -> Result<Vec<JournalEntry>, RecordsError> {
        let read = RecordFile { path: path.to_owned(), magic: MAGIC }.read(fs)?;
        let entry = |body: &Vec<u8>| decode(body).ok_or_else(|| malformed(path));
        read.bodies.iter().map(entry).collect()
    }

    /// Writes down an upload; durable when it returns.
    ///
    /// # Errors
    /// A failed call, or [`RecordsError::TooLarge`]; the journal is as it was.
    pub fn begin(&self, entry: JournalEntry) -> Result<(), RecordsError> {
        check_len("the name of an upload", entry.upload.id.as_str().len(), ID_BYTES_MAX)?;
        check_len("the tag of an upload", entry.tag.len(), TAG_BYTES_MAX)?;
        self.change(|entries| entries.push(entry))
    }

    /// Strikes an upload that has ended; nothing happens if it is not there. Durable when it
    /// returns.
    ///
    /// # Errors
    /// A failed call; the journal is as it was.
    pub fn end(&self, upload: &Upload) -> Result<(), RecordsError> {
        if !self.contains(upload) {
            return Ok(());
        }
        self.change(|entries| entries.retain(|entry| entry.upload != *upload))
    }

    /// What is written down, in the order in which it was.
    pub fn entries(&self) -> Vec<JournalEntry> {
        self.entries.lock().clone()
    }

    /// True if an upload is written down.
    pub fn contains(&self, upload: &Upload) -> bool {
        self.entries.lock().iter().any(|entry| entry.upload == *upload)
    }

    fn change(&self, change: impl FnOnce(&mut Vec<JournalEntry>)) -> Result<(), RecordsError> {
        let mut entries = self.entries.lock();
        let mut changed = entries.clone();
        change(&mut changed);
        let records = Records { next: 0, bodies: changed.iter().map(encode).collect() };
        self.file.write(&*self.fs, &*self.random, &records)?;
        *entries = changed;
        Ok(())
    }
}

fn malformed(path: &Path) -> RecordsError {
    let (file, detail) = (PathBuf::from(path), "a record is not an upload");
    RecordsError::Corruption { file, offset: 0, detail }
}

fn encode(entry: &JournalEntry) -> Vec<u8> {
    let mut out = Vec::new();
    out.extend_from_slice(&entry.part_bytes.to_le_bytes());
    out.extend_from_slice(&entry.begun_unix_ms.to_le_bytes());
    out.push(u8::from(entry.put_id.is_some()));
    let put_id = entry.put_id.map_or(0, PutId::bits);
    out.extend_from_slice(&put_id.to_le_bytes());
    put_bytes(&mut out, entry.upload.key.as_str().as_bytes());
    put_bytes(&mut out, entry.upload.id.as_str().as_bytes());
    put_bytes(&mut out, &entry.tag);
    out
}

fn decode(body: &[u8]) -> Option<JournalEntry> {
    let mut fields = Fields(body);
    let (part_bytes, begun_unix_ms) = (fields.u64()?, fields.u64()?);
    let (marked, bits) = (fields.u8()?, fields.u128()?);
    let put_id = match marked {
        0 => None,
        1 => Some(PutId::new(bits)),
        _ => return None,
    };
    let key = ObjectKey::new(fields.text()?).ok()?;
    let upload = Upload { key, id: UploadId::new(fields.text()?) };
    let tag = fields.bytes()?.to_vec();
    let entry = JournalEntry { upload, put_id, part_bytes, tag, begun_unix_ms };
    fields.0.is_empty().then_some(entry)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::records::tests::{check_golden, crash_at_every_call, example_in};
    use akidb_vfs::{SystemRandom, read_file, sim::SimFs};
    use proptest::prelude::*;

    fn open(fs: SimFs) -> Result<UploadJournal, RecordsError> {
        let random = Arc::new(SystemRandom::from_seed(7));
        UploadJournal::open(Arc::new(fs), random, Path::new("/uploads"))
    }

    fn entry(name: &str, part_bytes: u64, tag: &[u8]) -> JournalEntry {
        let key = ObjectKey::new(format!("c/{name}")).unwrap();
        JournalEntry {
            upload: Upload { key, id: UploadId::new(format!("id of {name}")) },
            put_id: part_bytes
                .is_multiple_of(2)
                .then(|| PutId::new(u128::from(part_bytes) << 64 | 5)),
            part_bytes,
            tag: tag.to_vec(),
            begun_unix_ms: 1_767_225_600_000,
        }
    }

    proptest! {
        #[test]
        fn what_was_begun_and_not_ended_is_found_again(
            uploads in prop::collection::btree_map("[a-z]{1,8}", any::<u64>(), 0..8),
            ended in prop::collection::vec(any::<prop::sample::Index>(), 0..4),
            tag in prop::collection::vec(any::<u8>(), 0..30),
        ) {
            let fs = SimFs::new(1);
            let journal = open(fs.clone()).unwrap();
            let mut expected: Vec<_> =
                uploads.into_iter().map(|(name, bytes)| entry(&name, bytes, &tag)).collect();
            for entry in &expected {
                journal.begin(entry.clone()).unwrap();
            }
            for at in ended {
                if !expected.is_empty() {
                    let gone = expected.remove(at.index(expected.len()));
                    journal.end(&gone.upload).unwrap();
                    journal.end(&gone.upload).unwrap();
                }
            }
            prop_assert_eq!(&journal.entries(), &expected);
            prop_assert_eq!(open(fs).unwrap().entries(), expected);
        }

        #[test]
        fn a_record_that_lies_with_right_checksums_is_refused(
            body in prop::collection::vec(any::<u8>(), 0..60),
        ) {
            if let Some(entry) = decode(&body) {
                prop_assert_eq!(encode(&entry).len(), body.len());
            }
        }
    }

    #[test]
    fn the_power_may_go_at_any_call() {
        crash_at_every_call(
            |fs| open(fs).unwrap().begin(entry("a", 1, b"x")).unwrap(),
            |fs| open(fs)?.begin(entry("b", 2, b"y")),
            |fs| open(fs).unwrap().entries(),
        );
        crash_at_every_call(
            |fs| open(fs).unwrap().begin(entry("a", 1, b"x")).unwrap(),
            |fs| open(fs)?.end(&entry("a", 1, b"x").upload),
            |fs| open(fs).unwrap().entries(),
        );
    }

    #[test]
    fn what_does_not_fit_is_refused_before_anything_is_written() {
        let fs = SimFs::new(1);
        let journal = open(fs.clone()).unwrap();
        let error = journal.begin(entry("a", 1, &[0; TAG_BYTES_MAX + 1])).unwrap_err();
        assert!(matches!(error, RecordsError::TooLarge { bytes: 1025, .. }), "{error}");
        assert!(journal.entries().is_empty() && fs.files().is_empty());
    }

    #[test]
    fn the_golden_file_opens_and_is_the_example_of_its_page() {
        let fs = SimFs::new(1);
        let journal = open(fs.clone()).unwrap();
        let written = [entry("1/rows", 8 << 20, b"tag"), entry("2/rows", 9_999_999, b"")];
        written.iter().for_each(|entry| journal.begin(entry.clone()).unwrap());
        let bytes = read_file(&fs, Path::new("/uploads")).unwrap();
        let golden = check_golden("uploads-v1.bin", &bytes);
        assert_eq!(example_in("uploads.md"), golden);
        let again = SimFs::new(1);
        akidb_vfs::write_file_durably(&again, Path::new("/uploads"), &golden).unwrap();
        assert_eq!(open(again).unwrap().entries(), written);
    }
}
