//! What becomes of uploads in parts that were not ended: after a crash, by the journal; and those
//! that no journal names, by sweeping.
//!
//! Never deletes an object: that one is there may be news, and whether it is wanted is for the
//! manifest of the caller to say.

use super::{ObjectSource, UploadError, Uploaded, Uploader, parts::Active};
use crate::{
    Head, JournalEntry, MultipartStore, StoreError, StoreErrorKind, StoreResult, Upload, UploadPage,
};
use std::time::Duration;

/// How often an upload is aborted that is still there afterwards.
const ABORTS_MAX: u32 = 3;
/// Uploads or parts asked for at a time.
const PAGE: usize = 1_000;

/// An upload of the journal, and what became of it.
#[derive(Debug)]
#[non_exhaustive]
pub struct Recovered {
    /// What the journal said.
    pub entry: JournalEntry,
    /// Where it stands.
    pub end: RecoveredEnd,
}

/// What became of an upload that was not ended.
#[derive(Debug)]
#[non_exhaustive]
pub enum RecoveredEnd {
    /// It is over, and there is no object under its key.
    Aborted,
    /// It is over, and there is an object under its key: the upload had been completed. It is the
    /// caller's to delete, unless a manifest names it.
    Object(Head),
    /// The store could not be asked. The journal keeps it.
    Unsettled(StoreError),
}

/// What a sweep found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct SweepReport {
    /// Uploads under way in the store.
    pub found: u64,
    /// Of these: aborted.
    pub aborted: u64,
    /// Left alone: in the journal, or under way here.
    pub ours: u64,
    /// Left alone: too young, or of an age that the store does not tell.
    pub young: u64,
    /// Could not be aborted.
    pub failed: u64,
}

impl Uploader {
    /// Ends all uploads that the journal names and that are not under way here. After an open, and
    /// whenever an upload had failed with an unknown outcome. What this process has ended itself, its
    /// caller knows: it is never among those that are returned, whose objects nobody may be about to name.
    pub async fn recover(&self) -> Vec<Recovered> {
        let Some(journal) = &self.journal else { return Vec::new() };
        let mut recovered = Vec::new();
        for entry in journal.entries() {
            let upload = &entry.upload;
            // In this order: an upload that ends here is struck before it is active no more. Else one
            // that has ended while another was settled would be taken for one that nobody waits for.
            if self.is_active(upload) || !journal.contains(upload) {
                continue;
            }
            if self.unstruck.lock().contains(upload.id.as_str()) {
                self.strike(upload);
                continue;
            }
            let end = self.settle(&entry.upload).await.unwrap_or_else(RecoveredEnd::Unsettled);
            recovered.push(Recovered { entry, end });
        }
        recovered
    }

    /// Goes on with an upload of the journal, whose source gives the very same bytes: parts that the
    /// store has are not sent again.
    ///
    /// # Errors
    /// As [`Uploader::upload`]. [`StoreErrorKind::NoSuchUpload`] if it is over.
    /// [`StoreErrorKind::Corrupt`] if the parts that were there had other bytes: the object is
    /// there, and wrong; upload it anew under another key.
    pub async fn resume(
        &self,
        entry: &JournalEntry,
        source: ObjectSource<'_>,
    ) -> Result<Uploaded, UploadError> {
        let key = &entry.upload.key;
        let unsupported = || StoreError::not_done(StoreErrorKind::Unsupported, key);
        let multipart = self.store.multipart().ok_or_else(unsupported)?;
        let _active = Active::new(self, &entry.upload);
        let mut known = super::parts::Known::new();
        let mut after = None;
        loop {
            let page = multipart.list_parts(&entry.upload, after, PAGE).await?;
            known.extend(page.parts.into_iter().map(|part| (part.number, part)));
            after = page.next;
            if after.is_none() {
                break;
            }
        }
        let source = ObjectSource { key: key.clone(), ..source };
        let beginning = self.begin(source).await?;
        self.carry_through(multipart, entry, beginning, known).await
    }

    /// Aborts uploads under way in the store whose key starts with `prefix`, that no journal names,
    /// and that are at least `age_min` old by the store's own clock. Another process may be at work
    /// on a younger one: give a day or more where there may be several.
    ///
    /// # Errors
    /// [`StoreError`] if the store could not be asked what there is.
    pub async fn sweep(&self, prefix: &str, age_min: Duration) -> StoreResult<SweepReport> {
        let mut report = SweepReport::default();
        let Some(multipart) = self.store.multipart() else { return Ok(report) };
        let mut after = None;
        loop {
            let page = multipart.list_uploads(prefix, after.as_ref(), PAGE).await?;
            let UploadPage { uploads, next, .. } = page;
            for listed in uploads {
                report.found += 1;
                let upload = &listed.upload;
                let named = self.journal.as_ref().is_some_and(|journal| journal.contains(upload));
                if named || self.is_active(upload) {
                    report.ours += 1;
                } else if listed.age.is_none_or(|age| age < age_min) {
                    report.young += 1;
                } else if self.give_up(multipart, upload).await.is_ok() {
                    report.aborted += 1;
                } else {
                    report.failed += 1;
                }
            }
            after = next;
            if after.is_none() {
                return Ok(report);
            }
        }
    }

    /// Aborts an upload until the store says that it is over: a part that was on its way may have
    /// come in after the first abort.
    pub(super) async fn give_up(
        &self,
        multipart: &dyn MultipartStore,
        upload: &Upload,
    ) -> StoreResult<()> {
        for _ in 0..ABORTS_MAX {
            multipart.abort(upload).await?;
            match multipart.list_parts(upload, None, 1).await {
                Err(error) if error.kind == StoreErrorKind::NoSuchUpload => return Ok(()),
                Err(error) => return Err(error),
                Ok(_) => {}
            }
        }
        let error = StoreError::unknown(StoreErrorKind::Unavailable, &upload.key);
        Err(error.with_source("an upload in parts is still there after it was aborted"))
    }

    async fn settle(&self, upload: &Upload) -> StoreResult<RecoveredEnd> {
        if let Some(multipart) = self.store.multipart() {
            self.give_up(multipart, upload).await?;
        }
        let end = match self.store.head(&upload.key).await {
            Ok(head) => RecoveredEnd::Object(head),
            Err(error) if error.kind == StoreErrorKind::NotFound => RecoveredEnd::Aborted,
            Err(error) => return Err(error),
        };
        self.strike(upload);
        Ok(end)
    }

    fn is_active(&self, upload: &Upload) -> bool {
        self.active.lock().contains(upload.id.as_str())
    }
}
