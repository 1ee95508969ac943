//! What is stored: buckets, objects and uploads in maps under one lock, so that a condition is
//! checked and the object replaced in one step.

use akidb_vfs::{Clock, SystemClock};
use async_trait::async_trait;
use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::{Bytes, BytesMut};
use futures_core::Stream;
use parking_lot::Mutex;
use s3s::{
    S3, S3Request, S3Response, S3Result,
    dto::{
        AbortMultipartUploadInput, AbortMultipartUploadOutput, CompleteMultipartUploadInput,
        CompleteMultipartUploadOutput, CreateMultipartUploadInput, CreateMultipartUploadOutput,
        DeleteObjectInput, DeleteObjectOutput, DeleteObjectsInput, DeleteObjectsOutput,
        DeletedObject, ETag, ETagCondition, GetObjectInput, GetObjectOutput, HeadBucketInput,
        HeadBucketOutput, HeadObjectInput, HeadObjectOutput, ListMultipartUploadsInput,
        ListMultipartUploadsOutput, ListObjectsV2Input, ListObjectsV2Output, ListPartsInput,
        ListPartsOutput, Metadata, Object, PutObjectInput, PutObjectOutput, Range,
        ServerSideEncryption, StreamingBlob, Timestamp, UploadPartInput, UploadPartOutput,
    },
    s3_error,
};
use std::{
    collections::BTreeMap,
    future::poll_fn,
    ops::Bound,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use crate::uploads::Pending;

/// Keys in a listing.
const KEYS_MAX: i32 = 1_000;

/// Buckets in memory.
#[derive(Debug)]
pub(crate) struct Backend {
    clock: SystemClock,
    /// Set, conditions of puts are ignored, as some servers do.
    pub(crate) ignores_conditions: AtomicBool,
    /// Set, checksums are neither verified nor kept.
    pub(crate) ignores_checksums: AtomicBool,
    state: Mutex<State>,
}

/// One bucket and what is in it.
#[derive(Debug)]
pub(crate) struct State {
    bucket: String,
    objects: BTreeMap<String, Stored>,
    pub(crate) uploads: BTreeMap<String, Pending>,
    made: u64,
}

/// One object.
#[derive(Clone, Debug)]
pub(crate) struct Stored {
    pub(crate) body: Bytes,
    pub(crate) etag: String,
    /// The sum of the bytes that were put: damage does not change it.
    pub(crate) crc32: u32,
    pub(crate) metadata: Option<Metadata>,
    pub(crate) encryption: Option<ServerSideEncryption>,
    pub(crate) put_at: SystemTime,
}

/// A condition of a put.
pub(crate) struct Conditions {
    pub(crate) if_match: Option<ETagCondition>,
    pub(crate) if_none_match: Option<ETagCondition>,
}

impl State {
    /// A number that was never given before.
    pub(crate) fn next(&mut self) -> u64 {
        self.made += 1;
        self.made
    }

    pub(crate) fn check_bucket(&self, bucket: &str) -> S3Result<()> {
        if bucket == self.bucket { Ok(()) } else { Err(s3_error!(NoSuchBucket)) }
    }

    /// Stores an object if the conditions hold.
    pub(crate) fn store(
        &mut self,
        key: &str,
        object: Stored,
        conditions: &Conditions,
    ) -> S3Result<()> {
        let current = self.objects.get(key);
        if conditions.if_none_match.is_some() && current.is_some() {
            return Err(s3_error!(PreconditionFailed));
        }
        if let Some(wanted) = &conditions.if_match {
            let Some(current) = current else { return Err(s3_error!(NoSuchKey)) };
            if !matches(wanted, &current.etag) {
                return Err(s3_error!(PreconditionFailed));
            }
        }
        self.objects.insert(key.to_owned(), object);
        Ok(())
    }
}

fn matches(wanted: &ETagCondition, etag: &str) -> bool {
    match wanted {
        ETagCondition::Any => true,
        ETagCondition::ETag(wanted) => wanted.value() == etag,
    }
}

impl Backend {
    pub(crate) fn new(bucket: &str) -> Self {
        let state = State {
            bucket: bucket.to_owned(),
            objects: BTreeMap::new(),
            uploads: BTreeMap::new(),
            made: 0,
        };
        Self {
            clock: SystemClock::new(),
            ignores_conditions: AtomicBool::new(false),
            ignores_checksums: AtomicBool::new(false),
            state: Mutex::new(state),
        }
    }

    pub(crate) fn objects(&self) -> usize {
        self.state.lock().objects.len()
    }

    pub(crate) fn uploads(&self) -> usize {
        self.state.lock().uploads.len()
    }

    pub(crate) fn damage(&self, key: &str) -> bool {
        let mut state = self.state.lock();
        let Some(stored) = state.objects.get_mut(key) else { return false };
        let mut bytes = stored.body.to_vec();
        let middle = bytes.len() / 2;
        match bytes.get_mut(middle) {
            Some(byte) => *byte ^= 1,
            None => return false,
        }
        stored.body = bytes.into();
        true
    }

    pub(crate) fn encryption_of(&self, key: &str) -> Option<String> {
        let state = self.state.lock();
        Some(state.objects.get(key)?.encryption.as_ref()?.as_str().to_owned())
    }

    /// What a put demands of the object before it, as far as this server looks at it.
    pub(crate) fn conditions(
        &self,
        if_match: Option<ETagCondition>,
        if_none_match: Option<ETagCondition>,
    ) -> Conditions {
        if self.ignores_conditions.load(Ordering::Relaxed) {
            return Conditions { if_match: None, if_none_match: None };
        }
        Conditions { if_match, if_none_match }
    }

    /// The CRC-32 of a body, which must be the one that was sent along.
    pub(crate) fn checked_crc32(&self, body: &[u8], told: Option<&String>) -> S3Result<u32> {
        let crc32 = crc32fast::hash(body);
        match told.filter(|_| self.keeps_checksums()) {
            Some(told) if *told != encode_crc32(crc32) => Err(s3_error!(BadDigest)),
            _ => Ok(crc32),
        }
    }

    pub(crate) fn keeps_checksums(&self) -> bool {
        !self.ignores_checksums.load(Ordering::Relaxed)
    }

    pub(crate) fn now(&self) -> SystemTime {
        UNIX_EPOCH + Duration::from_millis(self.clock.unix_ms())
    }

    /// Locks what is in a bucket, if there is one of that name.
    pub(crate) fn bucket(&self, name: &str) -> S3Result<parking_lot::MutexGuard<'_, State>> {
        let state = self.state.lock();
        state.check_bucket(name)?;
        Ok(state)
    }

    fn stored(&self, bucket: &str, key: &str) -> S3Result<Stored> {
        let found = self.bucket(bucket)?.objects.get(key).cloned();
        found.ok_or_else(|| s3_error!(NoSuchKey))
    }
}

/// The bytes of a body that is being sent.
pub(crate) async fn collect(body: Option<StreamingBlob>) -> S3Result<Bytes> {
    let Some(mut body) = body else { return Ok(Bytes::new()) };
    let mut bytes = BytesMut::new();
    while let Some(chunk) = poll_fn(|context| Pin::new(&mut body).poll_next(context)).await {
        bytes.extend_from_slice(&chunk.map_err(|_| s3_error!(IncompleteBody))?);
    }
    Ok(bytes.freeze())
}

pub(crate) fn encode_crc32(crc32: u32) -> String {
    STANDARD.encode([24, 16, 8, 0].map(|shift| (crc32 >> shift & 0xff) as u8))
}

pub(crate) fn timestamp(time: SystemTime) -> Option<Timestamp> {
    Some(Timestamp::from(time))
}

fn no_such_condition(wanted: Option<&ETagCondition>, etag: &str) -> bool {
    wanted.is_some_and(|wanted| !matches(wanted, etag))
}

/// The verbs of S3 over a backend.
pub(crate) struct Api(pub(crate) Arc<Backend>);

#[async_trait]
impl S3 for Api {
    async fn head_bucket(
        &self,
        request: S3Request<HeadBucketInput>,
    ) -> S3Result<S3Response<HeadBucketOutput>> {
        drop(self.0.bucket(&request.input.bucket)?);
        Ok(S3Response::new(HeadBucketOutput::default()))
    }

    async fn put_object(
        &self,
        request: S3Request<PutObjectInput>,
    ) -> S3Result<S3Response<PutObjectOutput>> {
        let input = request.input;
        drop(self.0.bucket(&input.bucket)?);
        let body = collect(input.body).await?;
        let crc32 = self.0.checked_crc32(&body, input.checksum_crc32.as_ref())?;
        let conditions = self.0.conditions(input.if_match, input.if_none_match);
        let mut state = self.0.bucket(&input.bucket)?;
        let etag = format!("{:016x}{crc32:08x}", state.next());
        let object = Stored {
            body,
            etag: etag.clone(),
            crc32,
            metadata: input.metadata,
            encryption: input.server_side_encryption,
            put_at: self.0.now(),
        };
        state.store(&input.key, object, &conditions)?;
        Ok(S3Response::new(PutObjectOutput {
            e_tag: Some(ETag::Strong(etag)),
            checksum_crc32: Some(encode_crc32(crc32)),
            ..PutObjectOutput::default()
        }))
    }

    async fn get_object(
        &self,
        request: S3Request<GetObjectInput>,
    ) -> S3Result<S3Response<GetObjectOutput>> {
        let input = request.input;
        let stored = self.0.stored(&input.bucket, &input.key)?;
        if no_such_condition(input.if_match.as_ref(), &stored.etag) {
            return Err(s3_error!(PreconditionFailed));
        }
        if input.if_none_match.as_ref().is_some_and(|wanted| matches(wanted, &stored.etag)) {
            return Err(s3_error!(NotModified));
        }
        let len = stored.body.len() as u64;
        let (body, content_range) = match input.range {
            None => (stored.body.clone(), None),
            Some(range) => part_of(&stored.body, range)?,
        };
        let kept = body.len() as u64 == len && self.0.keeps_checksums();
        Ok(S3Response::new(GetObjectOutput {
            content_length: i64::try_from(body.len()).ok(),
            content_range,
            body: Some(StreamingBlob::from(s3s::Body::from(body))),
            e_tag: Some(ETag::Strong(stored.etag)),
            checksum_crc32: kept.then(|| encode_crc32(stored.crc32)),
            checksum_type: kept.then(full_object),
            last_modified: timestamp(stored.put_at),
            metadata: stored.metadata,
            server_side_encryption: stored.encryption,
            ..GetObjectOutput::default()
        }))
    }

    async fn head_object(
        &self,
        request: S3Request<HeadObjectInput>,
    ) -> S3Result<S3Response<HeadObjectOutput>> {
        let input = request.input;
        let stored = self.0.stored(&input.bucket, &input.key)?;
        let kept = self.0.keeps_checksums();
        Ok(S3Response::new(HeadObjectOutput {
            content_length: i64::try_from(stored.body.len()).ok(),
            e_tag: Some(ETag::Strong(stored.etag)),
            checksum_crc32: kept.then(|| encode_crc32(stored.crc32)),
            checksum_type: kept.then(full_object),
            last_modified: timestamp(stored.put_at),
            metadata: stored.metadata,
            server_side_encryption: stored.encryption,
            ..HeadObjectOutput::default()
        }))
    }

    async fn delete_object(
        &self,
        request: S3Request<DeleteObjectInput>,
    ) -> S3Result<S3Response<DeleteObjectOutput>> {
        self.0.bucket(&request.input.bucket)?.objects.remove(&request.input.key);
        Ok(S3Response::new(DeleteObjectOutput::default()))
    }

    async fn delete_objects(
        &self,
        request: S3Request<DeleteObjectsInput>,
    ) -> S3Result<S3Response<DeleteObjectsOutput>> {
        let input = request.input;
        if input.delete.objects.len() > KEYS_MAX as usize {
            return Err(s3_error!(MalformedXML));
        }
        let mut state = self.0.bucket(&input.bucket)?;
        let mut deleted = Vec::new();
        for object in input.delete.objects {
            state.objects.remove(&object.key);
            deleted.push(DeletedObject { key: Some(object.key), ..DeletedObject::default() });
        }
        let deleted = Some(deleted).filter(|_| input.delete.quiet != Some(true));
        Ok(S3Response::new(DeleteObjectsOutput { deleted, ..DeleteObjectsOutput::default() }))
    }

    async fn list_objects_v2(
        &self,
        request: S3Request<ListObjectsV2Input>,
    ) -> S3Result<S3Response<ListObjectsV2Output>> {
        let input = request.input;
        let state = self.0.bucket(&input.bucket)?;
        let prefix = input.prefix.clone().unwrap_or_default();
        let limit = input.max_keys.unwrap_or(KEYS_MAX).clamp(1, KEYS_MAX) as usize;
        // Our token is the last key of the page before, so that it says the same as a start.
        let after = input.continuation_token.as_ref().or(input.start_after.as_ref());
        let start = match after {
            Some(after) if *after >= prefix => Bound::Excluded(after.clone()),
            _ => Bound::Included(prefix.clone()),
        };
        let mut matching = state
            .objects
            .range((start, Bound::Unbounded))
            .take_while(|(key, _)| key.starts_with(&prefix));
        let object = |(key, stored): (&String, &Stored)| Object {
            key: Some(key.clone()),
            size: i64::try_from(stored.body.len()).ok(),
            e_tag: Some(ETag::Strong(stored.etag.clone())),
            last_modified: timestamp(stored.put_at),
            ..Object::default()
        };
        let contents: Vec<_> = matching.by_ref().take(limit).map(object).collect();
        let more = matching.next().is_some();
        let last = contents.last().and_then(|object| object.key.clone());
        Ok(S3Response::new(ListObjectsV2Output {
            name: Some(input.bucket),
            prefix: Some(prefix),
            max_keys: i32::try_from(limit).ok(),
            key_count: i32::try_from(contents.len()).ok(),
            is_truncated: Some(more),
            next_continuation_token: last.filter(|_| more),
            contents: Some(contents),
            ..ListObjectsV2Output::default()
        }))
    }

    async fn create_multipart_upload(
        &self,
        request: S3Request<CreateMultipartUploadInput>,
    ) -> S3Result<S3Response<CreateMultipartUploadOutput>> {
        self.0.create(request.input).map(S3Response::new)
    }

    async fn upload_part(
        &self,
        request: S3Request<UploadPartInput>,
    ) -> S3Result<S3Response<UploadPartOutput>> {
        self.0.put_part(request.input).await.map(S3Response::new)
    }

    async fn complete_multipart_upload(
        &self,
        request: S3Request<CompleteMultipartUploadInput>,
    ) -> S3Result<S3Response<CompleteMultipartUploadOutput>> {
        self.0.complete(request.input).map(S3Response::new)
    }

    async fn abort_multipart_upload(
        &self,
        request: S3Request<AbortMultipartUploadInput>,
    ) -> S3Result<S3Response<AbortMultipartUploadOutput>> {
        self.0.abort(&request.input).map(S3Response::new)
    }

    async fn list_parts(
        &self,
        request: S3Request<ListPartsInput>,
    ) -> S3Result<S3Response<ListPartsOutput>> {
        self.0.parts(request.input).map(S3Response::new)
    }

    async fn list_multipart_uploads(
        &self,
        request: S3Request<ListMultipartUploadsInput>,
    ) -> S3Result<S3Response<ListMultipartUploadsOutput>> {
        self.0.uploads_under_way(request.input).map(S3Response::new)
    }
}

/// How a sum over all bytes is named, in contrast to one over the sums of parts.
pub(crate) fn full_object() -> s3s::dto::ChecksumType {
    s3s::dto::ChecksumType::from_static(s3s::dto::ChecksumType::FULL_OBJECT)
}

/// The asked part of a body, and how its answer names it.
fn part_of(body: &Bytes, range: Range) -> S3Result<(Bytes, Option<String>)> {
    let len = body.len() as u64;
    let found = range.check(len)?;
    let header = format!("bytes {}-{}/{len}", found.start, found.end.saturating_sub(1));
    // Within the body, whose length is a usize.
    Ok((body.slice(found.start as usize..found.end as usize), Some(header)))
}
