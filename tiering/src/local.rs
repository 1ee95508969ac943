//! Objects as plain files below one directory: a key is a relative path, an object's bytes are
//! the file's bytes and nothing stands beside them, so that DuckDB or a shell glob over the
//! directory sees exactly the objects.
//!
//! # Protocol of a put
//! 1. The missing directories are created durably.
//! 2. The body goes to a temporary file in the directory of the object, whose name (`name~7`) no
//!    key can have, and is synced.
//! 3. Under the store's lock: the condition is checked, the file renamed into place, and every
//!    directory from there up to the root synced.
//!
//! # Invariants
//! - Readers see the old object or the new one, whole: they hold one open file throughout.
//! - The checksum in [`Head`] is computed from the stored bytes each time. A stored checksum would
//!   need a second file, renamed at another moment than the first; and it would tell a caller
//!   that is about to delete its own copy what was once written, not what is there.
//! - `head` reports only what is durable. A process may die between the rename and the sync of a
//!   put, and its successor finds the object; so `head` syncs the directories itself. Where such a
//!   sync failed, a later success proves nothing (`akidb_vfs`), so the key stays in doubt, and its
//!   `head` fails, until it is put again.
//! - The tag is made of length and checksum: equal bytes have equal tags, as on stores that hash.
//!
//! # Crash consistency
//! A kill before the rename leaves a temporary file, which listings skip and
//! [`LocalStore::sweep_unfinished`] removes. A kill after it leaves the object, of an unknown
//! outcome to the caller. Uploads in parts outlive a kill; `uploads` says how.
//!
//! # Not here
//! Conditions hold among the users of one value (or its clones in an `Arc`). Two processes on one
//! directory are not fenced from each other; the engine's directory lock does that. A key cannot
//! also be the directory of another (`a` and `a/b`); such a put fails with `Unsupported`.

#![deny(clippy::indexing_slicing)]

use crate::{
    Capabilities, ETag, Head, ListPage, ListedObject, MultipartStore, Object, ObjectKey,
    ObjectStore, Outcome, PageToken, PartLimits, PutCondition, PutOptions, PutReceipt, StoreError,
    StoreErrorKind, StoreResult,
    store::{BoxFuture, checked_range},
};
use akidb_vfs::{EntryKind, Fs, FsError, FsFile, OpenMode, Random, SystemRandom};
use bytes::Bytes;
use parking_lot::Mutex;
use std::{
    collections::BTreeSet,
    io::ErrorKind,
    ops::Range,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

mod uploads;

/// `head` reads objects through a buffer of this size.
const HEAD_BUFFER_BYTES: usize = 1 << 18;

/// Stands in the name of a temporary file; no key contains it.
const TEMP_MARK: char = '~';

/// An object store in a directory.
///
/// ```
/// use akidb_tiering::{LocalStore, ObjectKey, ObjectStore, PutOptions};
/// use akidb_vfs::RealFs;
/// use std::sync::Arc;
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let dir = tempfile::tempdir()?;
/// let store = LocalStore::open(Arc::new(RealFs), dir.path().join("bucket"))?;
/// let key = ObjectKey::new("c/1/rows.parquet")?;
/// futures_lite::future::block_on(store.put(&key, "bytes".into(), PutOptions::default()))?;
/// assert_eq!(futures_lite::future::block_on(store.get(&key))?.body, "bytes");
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct LocalStore {
    fs: Arc<dyn Fs>,
    root: PathBuf,
    /// Makes temporary names differ between the puts of this value.
    attempts: AtomicU64,
    /// Makes the ids of uploads differ for ever: one that is written down may be old.
    random: Arc<dyn Random>,
    /// Keys whose name may not be durable although it can be seen. Holding it also makes
    /// "check the condition, then rename" one step.
    doubtful: Mutex<BTreeSet<ObjectKey>>,
}

impl LocalStore {
    /// Opens the store in `root`, creating the directory if it is missing.
    pub fn open(fs: Arc<dyn Fs>, root: impl Into<PathBuf>) -> Result<Self, FsError> {
        let root = root.into();
        fs.create_dir_all(&root)?;
        // A process may have died between making this directory and syncing its name.
        if let Some(parent) = root.parent().filter(|parent| !parent.as_os_str().is_empty()) {
            fs.sync_dir(parent)?;
        }
        let (attempts, doubtful) = (AtomicU64::new(0), Mutex::new(BTreeSet::new()));
        let random = Arc::new(SystemRandom::new());
        Ok(Self { fs, root, attempts, random, doubtful })
    }

    /// The same store, with the ids of uploads from this source: a simulation injects its own.
    #[must_use]
    pub fn with_random(mut self, random: Arc<dyn Random>) -> Self {
        self.random = random;
        self
    }

    /// The directory.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Removes the temporary files that crashed puts left, and uploads that nobody was told of,
    /// and returns how many. To be called only while nobody else uses the directory: a file of a
    /// put in progress would go too. Uploads under way stay: they are their owner's to abort.
    pub fn sweep_unfinished(&self) -> Result<u64, FsError> {
        let mut removed = self.sweep_uploads()?;
        for (_, path) in self.files("")?.into_iter().filter(|(name, _)| is_temporary(name)) {
            self.fs.remove_file(&path)?;
            removed += 1;
        }
        Ok(removed)
    }

    fn path(&self, key: &ObjectKey) -> PathBuf {
        self.root.join(key.as_str())
    }

    fn put_now(
        &self,
        key: &ObjectKey,
        body: &[u8],
        options: &PutOptions,
    ) -> StoreResult<PutReceipt> {
        let path = self.path(key);
        let receipt = PutReceipt::new(body, etag(body.len() as u64, crc32fast::hash(body)));
        self.fs
            .create_dir_all(self.directory_of(&path))
            .map_err(|source| failed(key, Outcome::NotDone, source))?;
        let temp = self
            .write_temporary(&path, |file| file.write_all_at(body, 0))
            .map_err(|source| failed(key, Outcome::NotDone, source))?;
        let published = self.publish(key, &temp, &path, &options.condition);
        if published.is_err() {
            // The error is what matters; a leftover is swept later.
            let _ = self.fs.remove_file(&temp);
        }
        published.map(|()| receipt)
    }

    /// Step 2 of a put: the body, synced, under a name of its own.
    fn write_temporary<E: From<FsError>>(
        &self,
        path: &Path,
        fill: impl FnOnce(&dyn FsFile) -> Result<(), E>,
    ) -> Result<PathBuf, E> {
        let (temp, file) = loop {
            let attempt = self.attempts.fetch_add(1, Ordering::Relaxed);
            let mut name = path.as_os_str().to_owned();
            name.push(format!("{TEMP_MARK}{attempt}"));
            match self.fs.create_new(Path::new(&name)) {
                // Left by a crash, or being written by another process: take the next name.
                Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
                created => break (PathBuf::from(name), created?),
            }
        };
        let written = fill(file.as_ref()).and_then(|()| Ok(file.sync_all()?));
        match written {
            Ok(()) => Ok(temp),
            Err(error) => {
                let _ = self.fs.remove_file(&temp);
                Err(error)
            }
        }
    }

    /// Step 3 of a put: checks the condition and makes the name point to the new body.
    fn publish(
        &self,
        key: &ObjectKey,
        temp: &Path,
        path: &Path,
        condition: &PutCondition,
    ) -> StoreResult<()> {
        let mut doubtful = self.doubtful.lock();
        self.check_condition(key, path, condition)?;
        let published = self.fs.rename(temp, path).and_then(|()| self.sync_names(path));
        match published {
            Ok(()) => {
                doubtful.remove(key);
                Ok(())
            }
            Err(source) => {
                doubtful.insert(key.clone());
                Err(failed(key, Outcome::Unknown, source))
            }
        }
    }

    fn check_condition(
        &self,
        key: &ObjectKey,
        path: &Path,
        condition: &PutCondition,
    ) -> StoreResult<()> {
        let holds = match (condition, self.kind_of(key, path)?) {
            (_, Some(EntryKind::Dir | EntryKind::Other)) => {
                let detail = "a directory of that name holds other objects";
                let error = StoreError::not_done(StoreErrorKind::Unsupported, key);
                return Err(error.with_source(detail));
            }
            (PutCondition::Any, _) | (PutCondition::IfAbsent, None) => true,
            (PutCondition::IfAbsent, Some(EntryKind::File)) | (PutCondition::IfMatch(_), None) => {
                false
            }
            (PutCondition::IfMatch(etag), Some(EntryKind::File)) => {
                let file = self.open_file(key)?;
                describe(key, file.as_ref())?.etag == *etag
            }
        };
        if holds {
            return Ok(());
        }
        Err(StoreError::not_done(StoreErrorKind::PreconditionFailed, key))
    }

    fn head_now(&self, key: &ObjectKey) -> StoreResult<Head> {
        let path = self.path(key);
        let file = self.open_file(key)?;
        // Waits for a put that has renamed and not yet synced, so its failure is known here.
        if self.doubtful.lock().contains(key) {
            let error = StoreError::not_done(StoreErrorKind::Unavailable, key);
            return Err(error.with_source("its last put could not be made durable; put it again"));
        }
        self.sync_names(&path).map_err(|source| failed(key, Outcome::NotDone, source))?;
        describe(key, file.as_ref())
    }

    fn get_now(&self, key: &ObjectKey) -> StoreResult<Object> {
        let file = self.open_file(key)?;
        let len = len_of(key, file.as_ref())?;
        let body = read(key, file.as_ref(), 0..len)?;
        let mut object = Object::new(body, ETag::new(""));
        object.head.etag = etag(object.head.len, object.head.crc32);
        Ok(object)
    }

    fn get_ranges_now(&self, key: &ObjectKey, ranges: &[Range<u64>]) -> StoreResult<Vec<Bytes>> {
        let file = self.open_file(key)?;
        let len = len_of(key, file.as_ref())?;
        let part = |range| read(key, file.as_ref(), checked_range(key, range, len)?);
        ranges.iter().map(part).collect()
    }

    fn delete_now(&self, key: &ObjectKey) -> StoreResult<()> {
        let path = self.path(key);
        let mut doubtful = self.doubtful.lock();
        let unknown = |source| failed(key, Outcome::Unknown, source);
        if self.kind_of(key, &path)? == Some(EntryKind::File) {
            self.fs.remove_file(&path).map_err(unknown)?;
        }
        // Also if the file was gone already: the delete that took it may not have been synced.
        let directory = self.directory_of(&path);
        if self.kind_of(key, directory)? == Some(EntryKind::Dir) {
            self.fs.sync_dir(directory).map_err(unknown)?;
        }
        doubtful.remove(key);
        Ok(())
    }

    fn list_now(
        &self,
        prefix: &str,
        after: Option<&PageToken>,
        limit: usize,
    ) -> Result<ListPage, FsError> {
        let mut found: Vec<(ObjectKey, PathBuf)> = self
            .files(prefix)?
            .into_iter()
            .filter(|(name, _)| after.is_none_or(|token| name.as_str() > token.as_str()))
            .filter_map(|(name, path)| Some((ObjectKey::new(name).ok()?, path)))
            .collect();
        // By whole keys: `a-b` sorts before `a/b`, which a walk of directories meets first.
        found.sort_unstable();
        let more = found.len() > limit.max(1);
        found.truncate(limit.max(1));
        let last = found.last().map(|(key, _)| PageToken::new(key.as_str()));
        let mut objects = Vec::with_capacity(found.len());
        for (key, path) in found {
            match self.fs.metadata(&path) {
                Ok(meta) => objects.push(ListedObject::new(key, meta.len)),
                Err(error) if error.is_not_found() => {}
                Err(error) => return Err(error),
            }
        }
        Ok(ListPage::new(objects, last.filter(|_| more)))
    }

    /// All files below the root whose relative name starts with `prefix`, unsorted.
    fn files(&self, prefix: &str) -> Result<Vec<(String, PathBuf)>, FsError> {
        let mut files = Vec::new();
        let mut left = vec![(String::new(), self.root.clone())];
        while let Some((directory, path)) = left.pop() {
            let entries = match self.fs.list_dir(&path) {
                Err(error) if error.is_not_found() => continue,
                entries => entries?,
            };
            for entry in entries {
                // A name that is not text is nothing of ours.
                let Some(name) = entry.name.to_str() else {
                    continue;
                };
                let child = format!("{directory}{name}");
                match entry.kind {
                    EntryKind::File if child.starts_with(prefix) => {
                        files.push((child, path.join(name)));
                    }
                    // No key has such a part: uploads in parts.
                    EntryKind::Dir if name.starts_with(TEMP_MARK) => {}
                    EntryKind::Dir => {
                        let inner = format!("{child}/");
                        if inner.starts_with(prefix) || prefix.starts_with(&inner) {
                            left.push((inner, path.join(name)));
                        }
                    }
                    EntryKind::File | EntryKind::Other => {}
                }
            }
        }
        Ok(files)
    }

    fn directory_of<'a>(&'a self, path: &'a Path) -> &'a Path {
        path.parent().unwrap_or(&self.root)
    }

    /// Makes every name on the way from the root to `path` durable.
    fn sync_names(&self, path: &Path) -> Result<(), FsError> {
        path.ancestors()
            .skip(1)
            .take_while(|directory| directory.starts_with(&self.root))
            .try_for_each(|directory| self.fs.sync_dir(directory))
    }

    /// What `path` is; `None` if there is nothing.
    fn kind_of(&self, key: &ObjectKey, path: &Path) -> StoreResult<Option<EntryKind>> {
        match self.fs.metadata(path) {
            Ok(meta) => Ok(Some(meta.kind)),
            Err(error) if error.is_not_found() => Ok(None),
            // An object stands where the key has a directory, so there is nothing below it.
            Err(error) if error.kind() == ErrorKind::NotADirectory => Ok(None),
            Err(source) => Err(failed(key, Outcome::NotDone, source)),
        }
    }

    fn open_file(&self, key: &ObjectKey) -> StoreResult<Arc<dyn FsFile>> {
        let path = self.path(key);
        if self.kind_of(key, &path)? != Some(EntryKind::File) {
            return Err(StoreError::not_done(StoreErrorKind::NotFound, key));
        }
        let opened = self.fs.open(&path, OpenMode::Read);
        opened.map_err(|source| failed(key, Outcome::NotDone, source))
    }
}

/// Length and checksum of what is stored, read through a small buffer.
fn describe(key: &ObjectKey, file: &dyn FsFile) -> StoreResult<Head> {
    let len = len_of(key, file)?;
    let mut buffer = vec![0; HEAD_BUFFER_BYTES];
    let mut hasher = crc32fast::Hasher::new();
    let mut offset = 0;
    while offset < len {
        let want = (len - offset).min(HEAD_BUFFER_BYTES as u64) as usize;
        let part = buffer.get_mut(..want).expect("want is at most the length of the buffer");
        file.read_exact_at(part, offset).map_err(|source| failed(key, Outcome::NotDone, source))?;
        hasher.update(part);
        offset += want as u64;
    }
    let crc32 = hasher.finalize();
    Ok(Head::new(len, crc32, etag(len, crc32)))
}

fn len_of(key: &ObjectKey, file: &dyn FsFile) -> StoreResult<u64> {
    file.len().map_err(|source| failed(key, Outcome::NotDone, source))
}

/// Reads a range that lies within the file.
fn read(key: &ObjectKey, file: &dyn FsFile, range: Range<u64>) -> StoreResult<Bytes> {
    let too_large = |_| StoreError::not_done(StoreErrorKind::InvalidRange, key);
    let mut buffer = vec![0; usize::try_from(range.end - range.start).map_err(too_large)?];
    file.read_exact_at(&mut buffer, range.start)
        .map_err(|source| failed(key, Outcome::NotDone, source))?;
    Ok(buffer.into())
}

fn etag(len: u64, crc32: u32) -> ETag {
    ETag::new(format!("\"{len:x}-{crc32:08x}\""))
}

fn is_temporary(name: &str) -> bool {
    name.rsplit_once(TEMP_MARK).is_some_and(|(object, attempt)| {
        ObjectKey::new(object).is_ok()
            && !attempt.is_empty()
            && attempt.bytes().all(|b| b.is_ascii_digit())
    })
}

/// Wraps a failed file call.
fn failed(key: &ObjectKey, outcome: Outcome, source: FsError) -> StoreError {
    let kind = match source.kind() {
        _ if source.is_no_space() => StoreErrorKind::NoSpace,
        _ if source.is_read_only() => StoreErrorKind::PermissionDenied,
        ErrorKind::NotFound => StoreErrorKind::NotFound,
        ErrorKind::NotADirectory | ErrorKind::IsADirectory | ErrorKind::AlreadyExists => {
            StoreErrorKind::Unsupported
        }
        _ => StoreErrorKind::Unavailable,
    };
    StoreError { outcome, ..StoreError::not_done(kind, key) }.with_source(source)
}

impl ObjectStore for LocalStore {
    fn put<'a>(
        &'a self,
        key: &'a ObjectKey,
        body: Bytes,
        options: PutOptions,
    ) -> BoxFuture<'a, StoreResult<PutReceipt>> {
        Box::pin(async move { self.put_now(key, &body, &options) })
    }

    fn get<'a>(&'a self, key: &'a ObjectKey) -> BoxFuture<'a, StoreResult<Object>> {
        Box::pin(async move { self.get_now(key) })
    }

    fn get_ranges<'a>(
        &'a self,
        key: &'a ObjectKey,
        ranges: &'a [Range<u64>],
    ) -> BoxFuture<'a, StoreResult<Vec<Bytes>>> {
        Box::pin(async move { self.get_ranges_now(key, ranges) })
    }

    fn head<'a>(&'a self, key: &'a ObjectKey) -> BoxFuture<'a, StoreResult<Head>> {
        Box::pin(async move { self.head_now(key) })
    }

    fn delete<'a>(&'a self, key: &'a ObjectKey) -> BoxFuture<'a, StoreResult<()>> {
        Box::pin(async move { self.delete_now(key) })
    }

    fn list<'a>(
        &'a self,
        prefix: &'a str,
        after: Option<&'a PageToken>,
        limit: usize,
    ) -> BoxFuture<'a, StoreResult<ListPage>> {
        Box::pin(async move {
            self.list_now(prefix, after, limit).map_err(|source| {
                StoreError::listing(StoreErrorKind::Unavailable).with_source(source)
            })
        })
    }

    fn multipart(&self) -> Option<&dyn MultipartStore> {
        Some(self)
    }

    fn capabilities(&self) -> Capabilities {
        let parts = Some(PartLimits::S3.with_part_min(1));
        Capabilities { put_ids: false, batch_delete: false, parts, ..Capabilities::ALL_BUT_AGES }
    }
}
