//! Uploads in parts, as requests.

use super::{
    Inner, S3Store,
    client::Reading,
    errors::About,
    objects::{PUT_ID, age, changing_if, conditional, understood},
    sign::{Request, encode_crc32},
    xml,
};
use crate::{
    BoxFuture, ETag, ListedPart, ListedUpload, MultipartStore, ObjectKey, PageToken, PartPage,
    PartReceipt, PutCondition, PutReceipt, StoreErrorKind, StoreResult, Upload, UploadId,
    UploadOptions, UploadPage, joined,
    multipart::{check_number, check_order},
};
use bytes::Bytes;
use rusty_s3::Method;

/// What S3 lists in one answer.
const LISTED_MAX: usize = 1_000;
/// Between the two markers of a page of uploads in our token; in no key.
const MARKERS: char = '\n';

fn of_upload<'a>(upload: &'a Upload, changes: bool) -> About<'a> {
    About { changes, upload: true, ..About::reading(&upload.key) }
}

/// As in a header, where a tag has its quotes; some servers list it without.
fn quoted(etag: &str) -> ETag {
    ETag::new(if etag.starts_with('"') { etag.to_owned() } else { format!("\"{etag}\"") })
}

impl Inner {
    async fn create(&self, key: &ObjectKey, options: &UploadOptions) -> StoreResult<Upload> {
        let about = About::changing(key);
        let mut request = Request::new(Method::Post, self.path(key))
            .query("uploads", "")
            .header("x-amz-checksum-algorithm", "CRC32")
            .header("x-amz-checksum-type", "FULL_OBJECT")
            .encryption(&self.encryption);
        if let Some(put_id) = options.put_id {
            request = request.header(PUT_ID, put_id.to_string());
        }
        let answer = self.client.send(&request, &about, Reading::TEXT).await?;
        let root = understood(&answer, "InitiateMultipartUploadResult", &about)?;
        match root.text("UploadId").filter(|id| !id.is_empty()) {
            Some(id) => Ok(Upload { key: key.clone(), id: UploadId::new(id) }),
            None => {
                let lost = about.lost(StoreErrorKind::Unavailable);
                Err(lost.with_source("the answer names no upload"))
            }
        }
    }

    async fn put_part(
        &self,
        upload: &Upload,
        number: u32,
        body: Bytes,
        crc32: u32,
    ) -> StoreResult<PartReceipt> {
        check_number(&upload.key, number)?;
        let about = of_upload(upload, true);
        let len = body.len() as u64;
        let request = Request::new(Method::Put, self.path(&upload.key))
            .query("partNumber", number.to_string())
            .query("uploadId", upload.id.as_str())
            .checksum(crc32)
            .body(body);
        let answer = self.client.send(&request, &about, Reading::TEXT).await?;
        match answer.header("etag") {
            Some(etag) => Ok(PartReceipt { number, len, crc32, etag: quoted(etag) }),
            None => {
                let lost = about.lost(StoreErrorKind::Unavailable);
                Err(lost.with_source("the answer has no ETag"))
            }
        }
    }

    async fn complete(
        &self,
        upload: &Upload,
        parts: &[PartReceipt],
        condition: &PutCondition,
    ) -> StoreResult<PutReceipt> {
        check_order(&upload.key, parts)?;
        let about = About { upload: true, ..changing_if(&upload.key, condition) };
        self.check_condition(&about, condition)?;
        let checksums = self.capabilities().checksums;
        let mut body = String::from(
            "<CompleteMultipartUpload xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">",
        );
        for part in parts {
            body.push_str("<Part>");
            xml::write_text(&mut body, "PartNumber", &part.number.to_string());
            xml::write_text(&mut body, "ETag", part.etag.as_str());
            if checksums {
                xml::write_text(&mut body, "ChecksumCRC32", &encode_crc32(part.crc32));
            }
            body.push_str("</Part>");
        }
        body.push_str("</CompleteMultipartUpload>");
        let request = Request::new(Method::Post, self.path(&upload.key))
            .query("uploadId", upload.id.as_str())
            .body(Bytes::from(body));
        let request = conditional(request, condition);
        let reading = Reading { begin: Some(self.client.timeouts.complete), ..Reading::TEXT };
        let answer = self.client.send(&request, &about, reading).await?;
        // A server that is at it for long answers 200 first and how it went later.
        let root = understood(&answer, "CompleteMultipartUploadResult", &about)?;
        let (len, crc32) = joined(parts);
        match root.text("ETag").filter(|etag| !etag.is_empty()) {
            Some(etag) => Ok(PutReceipt::of(len, crc32, quoted(etag))),
            None => {
                let lost = about.lost(StoreErrorKind::Unavailable);
                Err(lost.with_source("the answer has no ETag"))
            }
        }
    }

    async fn abort(&self, upload: &Upload) -> StoreResult<()> {
        let request = Request::new(Method::Delete, self.path(&upload.key))
            .query("uploadId", upload.id.as_str());
        match self.client.send(&request, &of_upload(upload, true), Reading::TEXT).await {
            Err(error) if error.kind == StoreErrorKind::NoSuchUpload => Ok(()),
            result => result.map(drop),
        }
    }

    async fn list_parts(
        &self,
        upload: &Upload,
        after: Option<u32>,
        limit: usize,
    ) -> StoreResult<PartPage> {
        let about = of_upload(upload, false);
        let mut request = Request::new(Method::Get, self.path(&upload.key))
            .query("uploadId", upload.id.as_str())
            .query("max-parts", limit.clamp(1, LISTED_MAX).to_string());
        if let Some(after) = after {
            request = request.query("part-number-marker", after.to_string());
        }
        let answer = self.client.send(&request, &about, Reading::TEXT).await?;
        let root = understood(&answer, "ListPartsResult", &about)?;
        let number = |text: Option<u64>| u32::try_from(text?).ok();
        let parts: Vec<_> = root
            .all("Part")
            .filter_map(|part| {
                let etag = quoted(part.text("ETag")?);
                Some(ListedPart::new(
                    number(part.number("PartNumber"))?,
                    part.number("Size")?,
                    etag,
                ))
            })
            .collect();
        let next = number(root.number("NextPartNumberMarker"));
        let next = next.or_else(|| parts.last().map(|part| part.number));
        Ok(PartPage::new(parts, next.filter(|_| root.is_true("IsTruncated"))))
    }

    async fn list_uploads(
        &self,
        prefix: &str,
        after: Option<&PageToken>,
        limit: usize,
    ) -> StoreResult<UploadPage> {
        let about = About::store();
        let mut request = Request::new(Method::Get, None)
            .query("uploads", "")
            .query("prefix", format!("{}{prefix}", self.prefix))
            .query("max-uploads", limit.clamp(1, LISTED_MAX).to_string());
        if let Some((key, id)) = after.and_then(|token| token.as_str().split_once(MARKERS)) {
            request = request.query("key-marker", key).query("upload-id-marker", id);
        }
        let answer = self.client.send(&request, &about, Reading::TEXT).await?;
        let root = understood(&answer, "ListMultipartUploadsResult", &about)?;
        let encoded = root.text("EncodingType") == Some("url");
        let uploads = root.all("Upload").filter_map(|found| {
            let key = self.own_key(found.text("Key")?, encoded)?;
            let upload = Upload { key, id: UploadId::new(found.text("UploadId")?) };
            Some(ListedUpload::new(upload, age(&answer, found.text("Initiated"))))
        });
        let uploads = uploads.collect();
        let markers = root.text("NextKeyMarker").zip(root.text("NextUploadIdMarker"));
        let markers = markers.filter(|_| root.is_true("IsTruncated"));
        let next = markers.map(|(key, id)| PageToken::new(format!("{key}{MARKERS}{id}")));
        Ok(UploadPage::new(uploads, next))
    }
}

impl MultipartStore for S3Store {
    fn create<'a>(
        &'a self,
        key: &'a ObjectKey,
        options: UploadOptions,
    ) -> BoxFuture<'a, StoreResult<Upload>> {
        Box::pin(async move {
            let key = key.clone();
            self.run(|s| async move { s.create(&key, &options).await }).await
        })
    }

    fn put_part<'a>(
        &'a self,
        upload: &'a Upload,
        number: u32,
        body: Bytes,
    ) -> BoxFuture<'a, StoreResult<PartReceipt>> {
        Box::pin(async move {
            let (upload, crc32) = (upload.clone(), crc32fast::hash(&body));
            self.run(|s| async move { s.put_part(&upload, number, body, crc32).await }).await
        })
    }

    fn complete<'a>(
        &'a self,
        upload: &'a Upload,
        parts: &'a [PartReceipt],
        condition: PutCondition,
    ) -> BoxFuture<'a, StoreResult<PutReceipt>> {
        Box::pin(async move {
            let (upload, parts) = (upload.clone(), parts.to_vec());
            self.run(|s| async move { s.complete(&upload, &parts, &condition).await }).await
        })
    }

    fn abort<'a>(&'a self, upload: &'a Upload) -> BoxFuture<'a, StoreResult<()>> {
        Box::pin(async move {
            let upload = upload.clone();
            self.run(|s| async move { s.abort(&upload).await }).await
        })
    }

    fn list_parts<'a>(
        &'a self,
        upload: &'a Upload,
        after: Option<u32>,
        limit: usize,
    ) -> BoxFuture<'a, StoreResult<PartPage>> {
        Box::pin(async move {
            let upload = upload.clone();
            self.run(|s| async move { s.list_parts(&upload, after, limit).await }).await
        })
    }

    fn list_uploads<'a>(
        &'a self,
        prefix: &'a str,
        after: Option<&'a PageToken>,
        limit: usize,
    ) -> BoxFuture<'a, StoreResult<UploadPage>> {
        Box::pin(async move {
            let (prefix, after) = (prefix.to_owned(), after.cloned());
            self.run(|s| async move { s.list_uploads(&prefix, after.as_ref(), limit).await }).await
        })
    }
}
