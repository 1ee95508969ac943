//! An upload in parts, from its first part to its end: steps 2 to 5 of the protocol.
//!
//! Owns the parts under way. Called by [`Uploader::upload`] and [`Uploader::resume`].

use super::{Beginning, Cutter, UploadError, Uploaded, Uploader, next_chunk};
use crate::{
    BoxFuture, JournalEntry, MultipartStore, Outcome, PartLimits, PartReceipt, PutCondition,
    PutReceipt, StoreError, StoreErrorKind, StoreResult, Upload, UploadOptions, cutter::part_bytes,
    gate::Pass, joined,
};
use akidb_vfs::planted;
use bytes::Bytes;
use futures_util::stream::{FuturesUnordered, StreamExt};
use std::{collections::BTreeMap, future::Future, future::poll_fn, pin::pin, task::Poll};

/// Parts that the store has already: number to length and tag.
pub(super) type Known = BTreeMap<u32, crate::ListedPart>;

/// The parts of one upload that are under way or stored.
struct Flight<'a> {
    running: FuturesUnordered<BoxFuture<'a, StoreResult<PartReceipt>>>,
    stored: Vec<PartReceipt>,
    next: u32,
}

/// While it lives, recovery leaves the upload alone.
pub(super) struct Active<'a> {
    uploader: &'a Uploader,
    id: String,
}

impl<'a> Active<'a> {
    pub(super) fn new(uploader: &'a Uploader, upload: &Upload) -> Self {
        let id = upload.id.as_str().to_owned();
        uploader.active.lock().insert(id.clone());
        Self { uploader, id }
    }
}

impl Drop for Active<'_> {
    fn drop(&mut self) {
        self.uploader.active.lock().remove(&self.id);
    }
}

impl Uploader {
    /// Step 2, and the way from there.
    pub(super) async fn in_parts(
        &self,
        multipart: &dyn MultipartStore,
        beginning: Beginning<'_>,
    ) -> Result<Uploaded, UploadError> {
        let key = beginning.source.key.clone();
        let put_id = self.put_id();
        let options = UploadOptions::default().with_put_id(put_id);
        let upload = multipart.create(&key, options).await?;
        let _active = Active::new(self, &upload);
        let limits = self.store.capabilities().parts.unwrap_or(PartLimits::S3);
        let entry = JournalEntry {
            upload: upload.clone(),
            put_id: Some(put_id),
            part_bytes: part_bytes(self.settings.part_bytes, beginning.source.len, limits),
            tag: beginning.source.tag.clone(),
            begun_unix_ms: self.clock.unix_ms(),
        };
        if let Some(journal) = &self.journal
            && let Err(error) = journal.begin(entry.clone())
        {
            // Nobody would remember it. What stays if this fails too is for the sweep.
            drop(multipart.abort(&upload).await);
            return Err(Self::journal_error(&key)(error));
        }
        self.carry_through(multipart, &entry, beginning, Known::new()).await
    }

    /// Steps 3 to 5.
    pub(super) async fn carry_through(
        &self,
        multipart: &dyn MultipartStore,
        entry: &JournalEntry,
        beginning: Beginning<'_>,
        known: Known,
    ) -> Result<Uploaded, UploadError> {
        let upload = &entry.upload;
        let mut flight = Flight { running: FuturesUnordered::new(), stored: vec![], next: 1 };
        let sent = self.send(multipart, entry, beginning, known, &mut flight).await;
        if let Err(error) = sent {
            // A part that arrives after the abort would stay for ever.
            while flight.running.next().await.is_some() {}
            if self.give_up(multipart, upload).await.is_ok() || planted("upload.struck-too-early") {
                self.strike(upload);
            }
            return Err(error);
        }
        let mut parts = flight.stored;
        parts.sort_unstable_by_key(|part| part.number);
        let receipt = self.complete(multipart, upload, &parts).await?;
        self.strike(upload);
        let (key, count) = (upload.key.clone(), parts.len() as u32);
        let PutReceipt { len, crc32, etag, .. } = receipt;
        Ok(Uploaded { key, len, crc32, etag, parts: count })
    }

    /// Step 3.
    async fn send<'a>(
        &self,
        multipart: &'a dyn MultipartStore,
        entry: &'a JournalEntry,
        beginning: Beginning<'_>,
        known: Known,
        flight: &mut Flight<'a>,
    ) -> Result<(), UploadError> {
        let Beginning { mut source, chunks, mut len, mut credit, ended } = beginning;
        let mut cutter = Cutter::new(entry.part_bytes);
        let mut begun = chunks.into_iter();
        let mut reserved: Option<Pass> = None;
        loop {
            while let Some(part) = cutter.next_part() {
                let pass = match credit.split(part.len() as u64).or_else(|| reserved.take()) {
                    Some(pass) => pass,
                    None => {
                        // What is left of it is less than a part: held on to while waiting, it
                        // could be what another upload waits for.
                        credit.release();
                        self.reserve(part.len() as u64, flight).await?
                    }
                };
                self.launch(multipart, &entry.upload, part, pass, &known, flight).await?;
            }
            if let Some(chunk) = begun.next() {
                cutter.push(chunk);
                continue;
            }
            if ended {
                break;
            }
            if reserved.is_none() {
                credit.release();
                reserved = Some(self.reserve(entry.part_bytes, flight).await?);
            }
            let Some(chunk) = next_chunk(&mut source, len)? else { break };
            len += chunk.len() as u64;
            cutter.push(chunk);
        }
        if let Some(last) = cutter.finish() {
            let pass = reserved.take().unwrap_or(credit);
            self.launch(multipart, &entry.upload, last, pass, &known, flight).await?;
        }
        while let Some(stored) = flight.running.next().await {
            flight.stored.push(stored?);
        }
        Ok(())
    }

    /// Waits for memory, and goes on with the parts under way, which may be what holds it.
    async fn reserve(&self, bytes: u64, flight: &mut Flight<'_>) -> Result<Pass, UploadError> {
        let mut passing = pin!(self.memory.pass(bytes));
        poll_fn(|context| {
            while let Poll::Ready(Some(stored)) = flight.running.poll_next_unpin(context) {
                match stored {
                    Ok(part) => flight.stored.push(part),
                    Err(error) => return Poll::Ready(Err(error.into())),
                }
            }
            passing.as_mut().poll(context).map(Ok)
        })
        .await
    }

    /// Sends a part, or takes the one that is there, and waits if enough are under way.
    async fn launch<'a>(
        &self,
        multipart: &'a dyn MultipartStore,
        upload: &'a Upload,
        part: Bytes,
        pass: Pass,
        known: &Known,
        flight: &mut Flight<'a>,
    ) -> Result<(), UploadError> {
        let number = flight.next;
        flight.next += 1;
        if let Some(there) = known.get(&number)
            && there.len == part.len() as u64
        {
            // Whether its bytes are these, the checksum of the whole will tell.
            flight.stored.push(PartReceipt::new(number, &part, there.etag.clone()));
            return Ok(());
        }
        flight.running.push(Box::pin(async move {
            let stored = multipart.put_part(upload, number, part).await;
            drop(pass);
            stored
        }));
        while flight.running.len() >= self.settings.parts_in_flight.max(1) as usize {
            let Some(stored) = flight.running.next().await else { break };
            flight.stored.push(stored?);
        }
        Ok(())
    }

    /// Step 4. The object is looked at in any case: what counts is what is there.
    async fn complete(
        &self,
        multipart: &dyn MultipartStore,
        upload: &Upload,
        parts: &[PartReceipt],
    ) -> Result<PutReceipt, UploadError> {
        let (len, crc32) = joined(parts);
        let completed = multipart.complete(upload, parts, PutCondition::Any).await;
        let error = match completed {
            Ok(_) => None,
            Err(error) if error.outcome == Outcome::Unknown => Some(error),
            Err(error) => {
                if self.give_up(multipart, upload).await.is_ok() {
                    self.strike(upload);
                }
                return Err(error.into());
            }
        };
        let found = self.store.head(&upload.key).await;
        match (found, error) {
            (Ok(head), _) if (head.len, head.crc32) == (len, crc32) => {
                Ok(PutReceipt::of(len, crc32, head.etag))
            }
            // Nobody knows whether it happens yet: the journal keeps it.
            (_, Some(error)) => Err(error.into()),
            (Ok(head), None) => {
                self.strike(upload);
                let found = format!(
                    "expected {len} bytes with CRC-32 {crc32:08x}, found {} with {:08x}",
                    head.len, head.crc32
                );
                let error = StoreError::unknown(StoreErrorKind::Corrupt, &upload.key);
                Err(error.with_source(found).into())
            }
            (Err(error), None) => Err(StoreError { outcome: Outcome::Unknown, ..error }.into()),
        }
    }

    /// Step 5. What cannot be struck now is struck by the next recovery of this process, which must not
    /// take it for an upload that nobody waited for; after a restart it is one.
    pub(super) fn strike(&self, upload: &Upload) {
        let Some(journal) = &self.journal else { return };
        let id = upload.id.as_str();
        match journal.end(upload) {
            Ok(_) => drop(self.unstruck.lock().remove(id)),
            Err(_) => drop(self.unstruck.lock().insert(id.to_owned())),
        }
    }
}
