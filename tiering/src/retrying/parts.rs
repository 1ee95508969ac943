//! Uploads in parts, tried again. A part may be put any number of times, and so may an abort; a
//! begin whose answer was lost leaves an upload that the sweep finds; a complete whose answer was
//! lost is looked for under its key.

use super::RetryingStore;
use crate::{
    BoxFuture, MultipartStore, ObjectStore, PageToken, PartPage, PartReceipt, PutCondition,
    PutReceipt, StoreError, StoreErrorKind, StoreResult, Upload, UploadOptions, UploadPage, joined,
};
use bytes::Bytes;

impl RetryingStore {
    fn parts(&self) -> StoreResult<&dyn MultipartStore> {
        self.inner.multipart().ok_or_else(|| {
            let error = StoreError::listing(StoreErrorKind::Unsupported);
            error.with_source("this store has no uploads in parts")
        })
    }

    async fn complete_looked_for(
        &self,
        upload: &Upload,
        parts: &[PartReceipt],
        condition: PutCondition,
    ) -> StoreResult<PutReceipt> {
        let (store, mut tries) = (self.parts()?, self.tries());
        loop {
            let call = store.complete(upload, parts, condition.clone());
            let error = match self.attempt(Some(&upload.key), call).await {
                Ok(receipt) => return Ok(receipt),
                Err(error) => error,
            };
            // Under a condition, an object of the same bytes may be another writer's.
            if tries.may_have_happened(&error) && condition == PutCondition::Any {
                let (len, crc32) = joined(parts);
                if let Ok(head) = self.head(&upload.key).await
                    && (head.len, head.crc32) == (len, crc32)
                {
                    return Ok(PutReceipt::of(len, crc32, head.etag));
                }
            }
            tries.again(error).await?;
        }
    }
}

impl MultipartStore for RetryingStore {
    fn create<'a>(
        &'a self,
        key: &'a crate::ObjectKey,
        mut options: UploadOptions,
    ) -> BoxFuture<'a, StoreResult<Upload>> {
        options.put_id = self.mark(options.put_id);
        Box::pin(async move {
            let parts = self.parts()?;
            self.repeated(Some(key), || parts.create(key, options.clone())).await
        })
    }

    fn put_part<'a>(
        &'a self,
        upload: &'a Upload,
        number: u32,
        body: Bytes,
    ) -> BoxFuture<'a, StoreResult<PartReceipt>> {
        Box::pin(async move {
            let parts = self.parts()?;
            let put = || parts.put_part(upload, number, body.clone());
            self.repeated(Some(&upload.key), put).await
        })
    }

    fn complete<'a>(
        &'a self,
        upload: &'a Upload,
        parts: &'a [PartReceipt],
        condition: PutCondition,
    ) -> BoxFuture<'a, StoreResult<PutReceipt>> {
        Box::pin(self.complete_looked_for(upload, parts, condition))
    }

    fn abort<'a>(&'a self, upload: &'a Upload) -> BoxFuture<'a, StoreResult<()>> {
        Box::pin(async move {
            let parts = self.parts()?;
            self.repeated(Some(&upload.key), || parts.abort(upload)).await
        })
    }

    fn list_parts<'a>(
        &'a self,
        upload: &'a Upload,
        after: Option<u32>,
        limit: usize,
    ) -> BoxFuture<'a, StoreResult<PartPage>> {
        Box::pin(async move {
            let parts = self.parts()?;
            self.repeated(Some(&upload.key), || parts.list_parts(upload, after, limit)).await
        })
    }

    fn list_uploads<'a>(
        &'a self,
        prefix: &'a str,
        after: Option<&'a PageToken>,
        limit: usize,
    ) -> BoxFuture<'a, StoreResult<UploadPage>> {
        Box::pin(async move {
            let parts = self.parts()?;
            self.repeated(None, || parts.list_uploads(prefix, after, limit)).await
        })
    }
}
