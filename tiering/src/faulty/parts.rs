//! The faults of uploads in parts.

use super::{Asked, FaultyStore, Verb};
use crate::{
    BoxFuture, MultipartStore, ObjectKey, PageToken, PartPage, PartReceipt, PutCondition,
    PutReceipt, StoreError, StoreErrorKind, StoreResult, Upload, UploadOptions, UploadPage,
};
use bytes::Bytes;

impl FaultyStore {
    /// The uploads of the store below. This one hands itself out only if there are any.
    fn parts(&self) -> StoreResult<&dyn MultipartStore> {
        let none = || StoreError::listing(StoreErrorKind::Unsupported);
        self.inner.multipart().ok_or_else(none)
    }
}

impl MultipartStore for FaultyStore {
    fn create<'a>(
        &'a self,
        key: &'a ObjectKey,
        options: UploadOptions,
    ) -> BoxFuture<'a, StoreResult<Upload>> {
        let asked = Asked { verb: Verb::CreateUpload, key: Some(key), bytes: 0 };
        Box::pin(async move {
            let run = self.parts()?.create(key, options);
            self.call(asked, run).await.map(|(upload, _)| upload)
        })
    }

    fn put_part<'a>(
        &'a self,
        upload: &'a Upload,
        number: u32,
        body: Bytes,
    ) -> BoxFuture<'a, StoreResult<PartReceipt>> {
        let bytes = body.len() as u64;
        let asked = Asked { verb: Verb::PutPart, key: Some(&upload.key), bytes };
        Box::pin(async move {
            let run = self.parts()?.put_part(upload, number, body);
            self.call(asked, run).await.map(|(receipt, _)| receipt)
        })
    }

    fn complete<'a>(
        &'a self,
        upload: &'a Upload,
        parts: &'a [PartReceipt],
        condition: PutCondition,
    ) -> BoxFuture<'a, StoreResult<PutReceipt>> {
        let asked = Asked { verb: Verb::Complete, key: Some(&upload.key), bytes: 0 };
        Box::pin(async move {
            let run = self.parts()?.complete(upload, parts, condition);
            self.call(asked, run).await.map(|(receipt, _)| receipt)
        })
    }

    fn abort<'a>(&'a self, upload: &'a Upload) -> BoxFuture<'a, StoreResult<()>> {
        let asked = Asked { verb: Verb::Abort, key: Some(&upload.key), bytes: 0 };
        Box::pin(async move { self.call(asked, self.parts()?.abort(upload)).await.map(drop) })
    }

    fn list_parts<'a>(
        &'a self,
        upload: &'a Upload,
        after: Option<u32>,
        limit: usize,
    ) -> BoxFuture<'a, StoreResult<PartPage>> {
        let asked = Asked { verb: Verb::ListParts, key: Some(&upload.key), bytes: 0 };
        Box::pin(async move {
            let run = self.parts()?.list_parts(upload, after, limit);
            self.call(asked, run).await.map(|(page, _)| page)
        })
    }

    fn list_uploads<'a>(
        &'a self,
        prefix: &'a str,
        after: Option<&'a PageToken>,
        limit: usize,
    ) -> BoxFuture<'a, StoreResult<UploadPage>> {
        let asked = Asked { verb: Verb::ListUploads, key: None, bytes: 0 };
        Box::pin(async move {
            let run = self.parts()?.list_uploads(prefix, after, limit);
            self.call(asked, run).await.map(|(page, _)| page)
        })
    }
}
