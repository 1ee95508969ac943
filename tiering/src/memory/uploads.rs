//! Uploads in parts to a store in memory, with the answers that S3 gives: a part that is too short
//! is refused when the upload is completed, not when it is put.

use super::MemoryStore;
use crate::{
    ETag, ListedPart, ListedUpload, MultipartStore, ObjectKey, PageToken, PartPage, PartReceipt,
    PutCondition, PutId, PutReceipt, StoreResult, Upload, UploadId, UploadOptions, UploadPage,
    joined,
    multipart::{bad_part, check_number, check_order, ended},
    store::BoxFuture,
};
use bytes::{Bytes, BytesMut};
use std::{collections::BTreeMap, ops::Bound, time::Duration};

/// An upload under way.
#[derive(Debug)]
pub(super) struct Pending {
    key: ObjectKey,
    put_id: Option<PutId>,
    begun_at: Option<Duration>,
    parts: BTreeMap<u32, (Bytes, ETag)>,
}

impl Pending {
    /// The bytes of the object that these parts make, all but the last of this length at least.
    fn assemble(
        &self,
        key: &ObjectKey,
        parts: &[PartReceipt],
        part_min: u64,
    ) -> StoreResult<Bytes> {
        check_order(key, parts)?;
        let mut whole = BytesMut::new();
        for (at, part) in parts.iter().enumerate() {
            let body = match self.parts.get(&part.number) {
                Some((body, etag)) if *etag == part.etag => body,
                _ => return Err(bad_part(key, format!("part {} is not there", part.number))),
            };
            let last = at + 1 == parts.len();
            if !last && (body.len() as u64) < part_min {
                let detail = format!("part {} has only {} bytes", part.number, body.len());
                return Err(bad_part(key, detail));
            }
            whole.extend_from_slice(body);
        }
        Ok(whole.freeze())
    }
}

impl MemoryStore {
    fn create_now(&self, key: &ObjectKey, options: &UploadOptions) -> Upload {
        let mut state = self.0.lock();
        let id = format!("u{:020}", state.next());
        let pending = Pending {
            key: key.clone(),
            put_id: options.put_id,
            begun_at: state.now(),
            parts: BTreeMap::new(),
        };
        state.uploads.insert(id.clone(), pending);
        Upload { key: key.clone(), id: UploadId::new(id) }
    }

    fn put_part_now(&self, upload: &Upload, number: u32, body: Bytes) -> StoreResult<PartReceipt> {
        check_number(&upload.key, number)?;
        let mut state = self.0.lock();
        let etag = ETag::new(format!("\"part-{}\"", state.next()));
        let pending = state.uploads.get_mut(upload.id.as_str()).ok_or_else(|| ended(upload))?;
        let receipt = PartReceipt::new(number, &body, etag.clone());
        pending.parts.insert(number, (body, etag));
        Ok(receipt)
    }

    fn complete_now(
        &self,
        upload: &Upload,
        parts: &[PartReceipt],
        condition: &PutCondition,
    ) -> StoreResult<PutReceipt> {
        let mut state = self.0.lock();
        let pending = state.uploads.get(upload.id.as_str()).ok_or_else(|| ended(upload))?;
        let body = pending.assemble(&upload.key, parts, state.limits().part_min)?;
        let put_id = pending.put_id;
        let etag = state.store(&upload.key, body, condition, put_id)?;
        state.uploads.remove(upload.id.as_str());
        let (len, crc32) = joined(parts);
        Ok(PutReceipt::of(len, crc32, etag))
    }

    fn list_parts_now(
        &self,
        upload: &Upload,
        after: Option<u32>,
        limit: usize,
    ) -> StoreResult<PartPage> {
        let state = self.0.lock();
        let pending = state.uploads.get(upload.id.as_str()).ok_or_else(|| ended(upload))?;
        let start = after.map_or(Bound::Unbounded, Bound::Excluded);
        let mut left =
            pending.parts.range((start, Bound::Unbounded)).map(|(number, (body, etag))| {
                ListedPart::new(*number, body.len() as u64, etag.clone())
            });
        let parts: Vec<_> = left.by_ref().take(limit.max(1)).collect();
        let more = left.next().is_some();
        let last = parts.last().map(|part| part.number);
        Ok(PartPage::new(parts, last.filter(|_| more)))
    }

    fn list_uploads_now(
        &self,
        prefix: &str,
        after: Option<&PageToken>,
        limit: usize,
    ) -> UploadPage {
        let state = self.0.lock();
        let start = after.map_or(Bound::Unbounded, |token| Bound::Excluded(token.as_str()));
        let mut left = state
            .uploads
            .range::<str, _>((start, Bound::Unbounded))
            .filter(|(_, pending)| pending.key.as_str().starts_with(prefix))
            .map(|(id, pending)| {
                let upload = Upload { key: pending.key.clone(), id: UploadId::new(&**id) };
                ListedUpload::new(upload, state.age(pending.begun_at))
            });
        let uploads: Vec<_> = left.by_ref().take(limit.max(1)).collect();
        let more = left.next().is_some();
        let last = uploads.last().map(|listed| PageToken::new(listed.upload.id.as_str()));
        UploadPage::new(uploads, last.filter(|_| more))
    }
}

impl MultipartStore for MemoryStore {
    fn create<'a>(
        &'a self,
        key: &'a ObjectKey,
        options: UploadOptions,
    ) -> BoxFuture<'a, StoreResult<Upload>> {
        Box::pin(async move { Ok(self.create_now(key, &options)) })
    }

    fn put_part<'a>(
        &'a self,
        upload: &'a Upload,
        number: u32,
        body: Bytes,
    ) -> BoxFuture<'a, StoreResult<PartReceipt>> {
        Box::pin(async move { self.put_part_now(upload, number, body) })
    }

    fn complete<'a>(
        &'a self,
        upload: &'a Upload,
        parts: &'a [PartReceipt],
        condition: PutCondition,
    ) -> BoxFuture<'a, StoreResult<PutReceipt>> {
        Box::pin(async move { self.complete_now(upload, parts, &condition) })
    }

    fn abort<'a>(&'a self, upload: &'a Upload) -> BoxFuture<'a, StoreResult<()>> {
        Box::pin(async move {
            self.0.lock().uploads.remove(upload.id.as_str());
            Ok(())
        })
    }

    fn list_parts<'a>(
        &'a self,
        upload: &'a Upload,
        after: Option<u32>,
        limit: usize,
    ) -> BoxFuture<'a, StoreResult<PartPage>> {
        Box::pin(async move { self.list_parts_now(upload, after, limit) })
    }

    fn list_uploads<'a>(
        &'a self,
        prefix: &'a str,
        after: Option<&'a PageToken>,
        limit: usize,
    ) -> BoxFuture<'a, StoreResult<UploadPage>> {
        Box::pin(async move { Ok(self.list_uploads_now(prefix, after, limit)) })
    }
}
