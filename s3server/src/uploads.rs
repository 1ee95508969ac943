//! Uploads in parts.

use crate::backend::{Backend, Stored, collect, encode_crc32, full_object, timestamp};
use bytes::{Bytes, BytesMut};
use s3s::{
    S3Result,
    dto::{
        AbortMultipartUploadInput, AbortMultipartUploadOutput, CompleteMultipartUploadInput,
        CompleteMultipartUploadOutput, CompletedPart, CreateMultipartUploadInput,
        CreateMultipartUploadOutput, ETag, ListMultipartUploadsInput, ListMultipartUploadsOutput,
        ListPartsInput, ListPartsOutput, Metadata, MultipartUpload, Part, ServerSideEncryption,
        UploadPartInput, UploadPartOutput,
    },
    s3_error,
};
use std::{collections::BTreeMap, time::SystemTime};

/// What AWS demands of every part but the last.
const PART_MIN: usize = 5 << 20;
const LISTED_MAX: i32 = 1_000;

/// An upload under way.
#[derive(Debug)]
pub(crate) struct Pending {
    key: String,
    metadata: Option<Metadata>,
    encryption: Option<ServerSideEncryption>,
    begun_at: SystemTime,
    parts: BTreeMap<i32, OnePart>,
}

#[derive(Clone, Debug)]
struct OnePart {
    body: Bytes,
    etag: String,
    crc32: u32,
}

impl Pending {
    /// The bytes that the parts make, in their order.
    fn assemble(&self, named: &[CompletedPart]) -> S3Result<Bytes> {
        let mut whole = BytesMut::new();
        let mut before = 0;
        for (at, part) in named.iter().enumerate() {
            let number = part.part_number.unwrap_or(0);
            if number <= before {
                return Err(s3_error!(InvalidPartOrder));
            }
            before = number;
            let found = self.parts.get(&number).ok_or_else(|| s3_error!(InvalidPart))?;
            let same_tag = part.e_tag.as_ref().is_some_and(|etag| etag.value() == found.etag);
            let sum = encode_crc32(found.crc32);
            if !same_tag || part.checksum_crc32.as_ref().is_some_and(|told| *told != sum) {
                return Err(s3_error!(InvalidPart));
            }
            if at + 1 < named.len() && found.body.len() < PART_MIN {
                return Err(s3_error!(EntityTooSmall));
            }
            whole.extend_from_slice(&found.body);
        }
        Ok(whole.freeze())
    }
}

impl Backend {
    pub(crate) fn create(
        &self,
        input: CreateMultipartUploadInput,
    ) -> S3Result<CreateMultipartUploadOutput> {
        let mut state = self.bucket(&input.bucket)?;
        let id = format!("upload-{:016x}", state.next());
        let pending = Pending {
            key: input.key.clone(),
            metadata: input.metadata,
            encryption: input.server_side_encryption,
            begun_at: self.now(),
            parts: BTreeMap::new(),
        };
        state.uploads.insert(id.clone(), pending);
        Ok(CreateMultipartUploadOutput {
            bucket: Some(input.bucket),
            key: Some(input.key),
            upload_id: Some(id),
            ..CreateMultipartUploadOutput::default()
        })
    }

    pub(crate) async fn put_part(&self, input: UploadPartInput) -> S3Result<UploadPartOutput> {
        drop(self.bucket(&input.bucket)?);
        let body = collect(input.body).await?;
        let crc32 = self.checked_crc32(&body, input.checksum_crc32.as_ref())?;
        let mut state = self.bucket(&input.bucket)?;
        let etag = format!("{:016x}{crc32:08x}", state.next());
        let pending = state.uploads.get_mut(&input.upload_id);
        let pending = pending.filter(|pending| pending.key == input.key);
        let pending = pending.ok_or_else(|| s3_error!(NoSuchUpload))?;
        pending.parts.insert(input.part_number, OnePart { body, etag: etag.clone(), crc32 });
        Ok(UploadPartOutput {
            e_tag: Some(ETag::Strong(etag)),
            checksum_crc32: Some(encode_crc32(crc32)),
            ..UploadPartOutput::default()
        })
    }

    pub(crate) fn complete(
        &self,
        input: CompleteMultipartUploadInput,
    ) -> S3Result<CompleteMultipartUploadOutput> {
        let mut state = self.bucket(&input.bucket)?;
        let tag = state.next();
        let pending = state.uploads.get(&input.upload_id);
        let pending = pending.filter(|pending| pending.key == input.key);
        let pending = pending.ok_or_else(|| s3_error!(NoSuchUpload))?;
        let named = input.multipart_upload.and_then(|named| named.parts).unwrap_or_default();
        if named.is_empty() {
            return Err(s3_error!(MalformedXML));
        }
        let body = pending.assemble(&named)?;
        let etag = format!("{tag:032x}-{}", named.len());
        let object = Stored {
            crc32: crc32fast::hash(&body),
            body,
            etag: etag.clone(),
            metadata: pending.metadata.clone(),
            encryption: pending.encryption.clone(),
            put_at: self.now(),
        };
        let sum = encode_crc32(object.crc32);
        let conditions = self.conditions(input.if_match, input.if_none_match);
        state.store(&input.key, object, &conditions)?;
        state.uploads.remove(&input.upload_id);
        Ok(CompleteMultipartUploadOutput {
            bucket: Some(input.bucket),
            key: Some(input.key),
            e_tag: Some(ETag::Strong(etag)),
            checksum_crc32: Some(sum),
            checksum_type: Some(full_object()),
            ..CompleteMultipartUploadOutput::default()
        })
    }

    pub(crate) fn abort(
        &self,
        input: &AbortMultipartUploadInput,
    ) -> S3Result<AbortMultipartUploadOutput> {
        let mut state = self.bucket(&input.bucket)?;
        match state.uploads.remove(&input.upload_id) {
            Some(_) => Ok(AbortMultipartUploadOutput::default()),
            None => Err(s3_error!(NoSuchUpload)),
        }
    }

    pub(crate) fn parts(&self, input: ListPartsInput) -> S3Result<ListPartsOutput> {
        let state = self.bucket(&input.bucket)?;
        let pending = state.uploads.get(&input.upload_id);
        let pending = pending.filter(|pending| pending.key == input.key);
        let pending = pending.ok_or_else(|| s3_error!(NoSuchUpload))?;
        let limit = input.max_parts.unwrap_or(LISTED_MAX).clamp(1, LISTED_MAX) as usize;
        let after = input.part_number_marker.unwrap_or(0);
        let mut left = pending.parts.range(after.saturating_add(1)..);
        let part = |(number, part): (&i32, &OnePart)| Part {
            part_number: Some(*number),
            size: i64::try_from(part.body.len()).ok(),
            e_tag: Some(ETag::Strong(part.etag.clone())),
            checksum_crc32: Some(encode_crc32(part.crc32)),
            ..Part::default()
        };
        let parts: Vec<_> = left.by_ref().take(limit).map(part).collect();
        let more = left.next().is_some();
        let last = parts.last().and_then(|part| part.part_number);
        Ok(ListPartsOutput {
            bucket: Some(input.bucket),
            key: Some(input.key),
            upload_id: Some(input.upload_id),
            is_truncated: Some(more),
            next_part_number_marker: last.filter(|_| more),
            parts: Some(parts),
            ..ListPartsOutput::default()
        })
    }

    pub(crate) fn uploads_under_way(
        &self,
        input: ListMultipartUploadsInput,
    ) -> S3Result<ListMultipartUploadsOutput> {
        let state = self.bucket(&input.bucket)?;
        let prefix = input.prefix.clone().unwrap_or_default();
        let limit = input.max_uploads.unwrap_or(LISTED_MAX).clamp(1, LISTED_MAX) as usize;
        let marker = (
            input.key_marker.clone().unwrap_or_default(),
            input.upload_id_marker.clone().unwrap_or_default(),
        );
        let mut found: Vec<_> = state
            .uploads
            .iter()
            .filter(|(_, pending)| pending.key.starts_with(&prefix))
            .map(|(id, pending)| ((pending.key.clone(), id.clone()), pending.begun_at))
            .filter(|(place, _)| *place > marker)
            .collect();
        found.sort();
        let more = found.len() > limit;
        found.truncate(limit);
        let last = found.last().map(|(place, _)| place.clone()).filter(|_| more).unzip();
        let upload = |((key, id), begun_at): ((String, String), SystemTime)| MultipartUpload {
            key: Some(key),
            upload_id: Some(id),
            initiated: timestamp(begun_at),
            ..MultipartUpload::default()
        };
        Ok(ListMultipartUploadsOutput {
            bucket: Some(input.bucket),
            prefix: Some(prefix),
            is_truncated: Some(more),
            next_key_marker: last.0,
            next_upload_id_marker: last.1,
            uploads: Some(found.into_iter().map(upload).collect()),
            ..ListMultipartUploadsOutput::default()
        })
    }
}
