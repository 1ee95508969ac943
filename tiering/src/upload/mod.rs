//! The uploader: objects into a store, several at a time, whole or in parts, checked at the end.
//!
//! Owns the choice between one put and parts, the parts under way, the memory that they take, and
//! the life of an upload in the journal. Never retries (the store it is given does, see
//! [`RetryingStore`](crate::RetryingStore)), never deletes an object, and knows nothing of what is
//! in one. Called by the engine's moves and by [`Shipper`](crate::Shipper).
//!
//! # Protocol of an upload
//! 1. Read the source up to `single_put_max_bytes`. If it ends, put it whole and verify it.
//! 2. Otherwise begin an upload in parts, and write it into the journal.
//! 3. Send parts of equal length while the source is read, a few at a time.
//! 4. Complete, and compare length and checksum of the object with what was read.
//! 5. Strike it from the journal.
//!
//! A failure before step 4 waits for the parts under way, aborts, and strikes; if that fails too, or
//! the outcome of step 4 stays unknown, the journal keeps it for [`Uploader::recover`].
//!
//! # Invariants
//! - `Ok` means that the object is there, durable, with this length and checksum.
//! - Of all sources together no more is held than `memory_bytes_max`, and for each a chunk and the
//!   beginning of a part; a source is not read while there is no memory for it. Whoever waits for memory holds none
//!   that is not on its way out.
//! - Results are in the order of the sources.

use crate::{
    ETag, ObjectKey, ObjectStore, PutId, PutOptions, RecordsError, StoreError, UploadJournal,
    cutter::Cutter,
    gate::{Gate, Pass},
    put_verified,
};
use akidb_vfs::{Clock, Random};
use bytes::{Bytes, BytesMut};
use futures_util::stream::{FuturesUnordered, StreamExt};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use std::{collections::BTreeSet, error::Error, fmt, sync::Arc};

mod parts;
mod recovery;
#[cfg(test)]
mod tests;

pub use recovery::{Recovered, RecoveredEnd, SweepReport};

/// How objects are uploaded. Plain data; sizes in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct UploadSettings {
    /// The most objects under way at once. Default: 10; 0 counts as 1. Raise it where the store is
    /// far away and objects are small.
    pub objects_max: u32,
    /// Objects of up to this size are put whole. Default: 16 MiB.
    pub single_put_max_bytes: u64,
    /// The length of the parts of larger ones. Default: 8 MiB; more where the store demands it, or
    /// where an object would otherwise have too many parts.
    pub part_bytes: u64,
    /// The most parts of one object under way at once. Default: 4; 0 counts as 1.
    pub parts_in_flight: u32,
    /// What all uploads together may hold in memory; further ones wait. Default: 256 MiB.
    pub memory_bytes_max: u64,
}

impl Default for UploadSettings {
    fn default() -> Self {
        Self {
            objects_max: 10,
            single_put_max_bytes: 16 << 20,
            part_bytes: 8 << 20,
            parts_in_flight: 4,
            memory_bytes_max: 256 << 20,
        }
    }
}

/// Why a source could not be read on.
pub type SourceError = Box<dyn Error + Send + Sync>;

/// An object to be: where it goes, and its bytes in order, made while they are asked for.
pub struct ObjectSource<'a> {
    /// Its key: one that no other object has or had.
    pub key: ObjectKey,
    /// Its bytes. Read on the thread that drives the upload.
    pub chunks: Box<dyn Iterator<Item = Result<Bytes, SourceError>> + Send + 'a>,
    /// Its length, if it is known: it saves memory, and another one is an error.
    pub len: Option<u64>,
    /// What goes into the journal, for [`Uploader::resume`].
    pub tag: Vec<u8>,
}

impl<'a> ObjectSource<'a> {
    /// An object that is in memory.
    pub fn whole(key: ObjectKey, body: Bytes) -> Self {
        let len = Some(body.len() as u64);
        Self { key, chunks: Box::new(std::iter::once(Ok(body))), len, tag: Vec::new() }
    }

    /// An object that is made while it is uploaded.
    pub fn streamed(
        key: ObjectKey,
        chunks: impl Iterator<Item = Result<Bytes, SourceError>> + Send + 'a,
    ) -> Self {
        Self { key, chunks: Box::new(chunks), len: None, tag: Vec::new() }
    }
}

impl fmt::Debug for ObjectSource<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ObjectSource")
            .field("key", &self.key)
            .field("len", &self.len)
            .finish_non_exhaustive()
    }
}

/// An object that is there.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Uploaded {
    /// Its key.
    pub key: ObjectKey,
    /// Its length in bytes.
    pub len: u64,
    /// CRC-32 (IEEE) of its bytes.
    pub crc32: u32,
    /// Its tag in the store.
    pub etag: ETag,
    /// In how many parts it went; 0 if it was put whole.
    pub parts: u32,
}

/// Why an object could not be uploaded.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum UploadError {
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The journal; no part was sent.
    #[error("uploading object {key}: the journal of uploads: {source}")]
    Journal {
        /// The object.
        key: ObjectKey,
        /// What the journal said.
        source: RecordsError,
    },
    /// The source; the store is as it was.
    #[error("uploading object {key}: its bytes could not be made: {source}")]
    Source {
        /// The object.
        key: ObjectKey,
        /// What its maker said.
        source: SourceError,
    },
    /// The source gave another length than it had told; the store is as it was.
    #[error("uploading object {key}: {found} bytes came, {told} were told")]
    Length {
        /// The object.
        key: ObjectKey,
        /// The length that was told.
        told: u64,
        /// The bytes that came, or that had come when there were too many.
        found: u64,
    },
}

/// Uploads objects. One per store; shared by all that upload.
///
/// ```
/// use akidb_tiering::{MemoryStore, ObjectKey, ObjectSource, UploadSettings, Uploader};
/// use akidb_vfs::{SystemClock, SystemRandom};
/// use std::sync::Arc;
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let store = Arc::new(MemoryStore::new());
/// let (clock, random) = (Arc::new(SystemClock::new()), Arc::new(SystemRandom::from_seed(1)));
/// let uploader = Uploader::new(store, None, UploadSettings::default(), clock, random);
/// let megabytes = (0..40).map(|n| Ok(vec![n; 1 << 20].into()));
/// let source = ObjectSource::streamed(ObjectKey::new("c/1/rows")?, megabytes);
/// let uploaded = futures_lite::future::block_on(uploader.upload(source))?;
/// assert_eq!((uploaded.len, uploaded.parts), (40 << 20, 5));
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Uploader {
    store: Arc<dyn ObjectStore>,
    journal: Option<Arc<UploadJournal>>,
    settings: UploadSettings,
    clock: Arc<dyn Clock>,
    random: Arc<dyn Random>,
    memory: Arc<Gate>,
    /// The names of uploads in parts that are under way here, so that recovery leaves them alone.
    active: Mutex<BTreeSet<String>>,
    /// The names of uploads in parts whose end the caller knows and the journal could not be told.
    unstruck: Mutex<BTreeSet<String>>,
}

/// What was read of a source before it was known how it goes.
struct Beginning<'a> {
    source: ObjectSource<'a>,
    chunks: Vec<Bytes>,
    len: u64,
    /// For what is in `chunks`.
    credit: Pass,
    ended: bool,
}

impl Uploader {
    /// Into `store`. Without a journal, an upload in parts that a crash interrupts stays in the store
    /// until it is swept.
    pub fn new(
        store: Arc<dyn ObjectStore>,
        journal: Option<Arc<UploadJournal>>,
        settings: UploadSettings,
        clock: Arc<dyn Clock>,
        random: Arc<dyn Random>,
    ) -> Self {
        let memory = Gate::new(settings.memory_bytes_max);
        let (active, unstruck) = (Mutex::default(), Mutex::default());
        Self { store, journal, settings, clock, random, memory, active, unstruck }
    }

    /// The store that it uploads into.
    pub fn store(&self) -> &Arc<dyn ObjectStore> {
        &self.store
    }

    /// What uploads hold in memory now.
    pub fn memory_bytes(&self) -> u64 {
        self.memory.out()
    }

    /// Uploads one object.
    ///
    /// # Errors
    /// [`UploadError`]. After [`Outcome::Unknown`](crate::Outcome::Unknown) the object may be there,
    /// or come to be.
    pub async fn upload(&self, source: ObjectSource<'_>) -> Result<Uploaded, UploadError> {
        let beginning = self.begin(source).await?;
        match self.store.multipart() {
            Some(multipart) if !beginning.ended => self.in_parts(multipart, beginning).await,
            _ => self.whole(beginning).await,
        }
    }

    /// Uploads objects, some at a time. Results are in the order of the sources, which are taken
    /// when it is their turn.
    pub async fn upload_all<'a>(
        &self,
        sources: impl IntoIterator<Item = ObjectSource<'a>>,
    ) -> Vec<Result<Uploaded, UploadError>> {
        let mut sources = sources.into_iter().enumerate();
        let mut running = FuturesUnordered::new();
        let mut results = Vec::new();
        loop {
            while running.len() < self.settings.objects_max.max(1) as usize {
                let Some((at, source)) = sources.next() else { break };
                results.push(None);
                running.push(async move { (at, self.upload(source).await) });
            }
            match running.next().await {
                Some((at, result)) => results[at] = Some(result),
                None => return results.into_iter().flatten().collect(),
            }
        }
    }

    /// Step 1, up to the choice.
    async fn begin<'a>(&self, mut source: ObjectSource<'a>) -> Result<Beginning<'a>, UploadError> {
        let most = self.settings.single_put_max_bytes;
        let mut credit = self.memory.pass(source.len.unwrap_or(most).min(most)).await;
        let (mut chunks, mut len) = (Vec::new(), 0);
        while len <= most {
            let Some(chunk) = next_chunk(&mut source, len)? else {
                // What it did not need, others need: small objects of unknown length would go a few
                // at a time for as long as the store takes.
                let credit = credit.split(len).unwrap_or(credit);
                return Ok(Beginning { source, chunks, len, credit, ended: true });
            };
            len += chunk.len() as u64;
            chunks.push(chunk);
        }
        Ok(Beginning { source, chunks, len, credit, ended: false })
    }

    /// In one put.
    async fn whole(&self, beginning: Beginning<'_>) -> Result<Uploaded, UploadError> {
        let Beginning { mut source, mut chunks, mut len, credit, .. } = beginning;
        // Only a store without parts gets here with more to read.
        while let Some(chunk) = next_chunk(&mut source, len)? {
            len += chunk.len() as u64;
            chunks.push(chunk);
        }
        let body = joined_bytes(chunks);
        let options = PutOptions::default().with_put_id(self.put_id());
        let receipt = put_verified(&*self.store, &source.key, body, options).await?;
        drop(credit);
        let (len, crc32, etag) = (receipt.len, receipt.crc32, receipt.etag);
        Ok(Uploaded { key: source.key, len, crc32, etag, parts: 0 })
    }

    fn put_id(&self) -> PutId {
        PutId::new(self.random.next_u128())
    }

    fn journal_error(key: &ObjectKey) -> impl FnOnce(RecordsError) -> UploadError {
        let key = key.clone();
        |source| UploadError::Journal { key, source }
    }
}

/// The next bytes of a source of which `len` bytes came before. Its length is checked on the way, so
/// that one that tells too little is not read to its end.
fn next_chunk(source: &mut ObjectSource<'_>, len: u64) -> Result<Option<Bytes>, UploadError> {
    let key = &source.key;
    let chunk = source.chunks.next().transpose();
    let chunk = chunk.map_err(|source| UploadError::Source { key: key.clone(), source })?;
    let found = len + chunk.as_ref().map_or(0, |chunk| chunk.len() as u64);
    match source.len {
        Some(told) if found > told || (chunk.is_none() && found < told) => {
            Err(UploadError::Length { key: key.clone(), told, found })
        }
        _ => Ok(chunk),
    }
}

/// One piece stays as it is; several are copied together.
fn joined_bytes(mut chunks: Vec<Bytes>) -> Bytes {
    match chunks.len() {
        0 => Bytes::new(),
        1 => chunks.remove(0),
        _ => {
            let mut all = BytesMut::with_capacity(chunks.iter().map(Bytes::len).sum());
            chunks.iter().for_each(|chunk| all.extend_from_slice(chunk));
            all.freeze()
        }
    }
}
