//! The verbs on whole objects, as requests.

use super::{
    Inner,
    client::{Answer, Reading},
    errors::About,
    sign::{Request, decode_crc32},
    xml::{self, Element},
};
use crate::{
    BoxFuture, ETag, Head, ListPage, ListedObject, Object, ObjectKey, PageToken, PutCondition,
    PutId, PutOptions, PutReceipt, StoreError, StoreErrorKind, StoreResult, join, ranges,
    store::checked_range,
};
use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::Bytes;
use md5::{Digest, Md5};
use rusty_s3::Method;
use std::{ops::Range, time::Duration};

/// The header that carries the mark of a put.
pub(super) const PUT_ID: &str = "x-amz-meta-akidb-put-id";
/// What S3 takes in one request to delete, and lists in one answer.
const KEYS_MAX: usize = 1_000;
/// Requests of one call that are under way at once.
const SIDE_BY_SIDE: usize = 8;
/// The longest object that is read whole: what one put can make.
const OBJECT_BYTES_MAX: u64 = 5 << 30;
/// Ranges this close share a request: as long as the transfer takes less than another round trip.
const RANGE_GAP: u64 = 64 << 10;
/// Ranges are not joined to requests longer than this.
const RANGE_REQUEST_MAX: u64 = 8 << 20;
/// Beyond any object: a range here need not be asked for.
const OFFSET_MAX: u64 = 1 << 43;

const OBJECT: Reading = Reading { bytes_max: OBJECT_BYTES_MAX, begin: None };

impl Inner {
    pub(super) async fn put(
        &self,
        key: &ObjectKey,
        body: Bytes,
        crc32: u32,
        options: PutOptions,
    ) -> StoreResult<PutReceipt> {
        let about = changing_if(key, &options.condition);
        self.check_condition(&about, &options.condition)?;
        let len = body.len() as u64;
        let mut request = Request::new(Method::Put, self.path(key))
            .body(body)
            .checksum(crc32)
            .encryption(&self.encryption);
        request = conditional(request, &options.condition);
        if let Some(put_id) = options.put_id {
            request = request.header(PUT_ID, put_id.to_string());
        }
        let answer = self.client.send(&request, &about, Reading::TEXT).await?;
        Ok(PutReceipt::of(len, crc32, etag(&answer, &about)?))
    }

    pub(super) async fn get(&self, key: &ObjectKey) -> StoreResult<Object> {
        self.get_if(key, None).await
    }

    /// The whole object, of one version if a tag is given.
    async fn get_if(&self, key: &ObjectKey, version: Option<&ETag>) -> StoreResult<Object> {
        let about = About { if_match: version.is_some(), ..About::reading(key) };
        let mut request =
            Request::new(Method::Get, self.path(key)).header("x-amz-checksum-mode", "ENABLED");
        if let Some(version) = version {
            request = request.header("if-match", version.as_str());
        }
        let answer = self.client.send(&request, &about, OBJECT).await?;
        let etag = etag(&answer, &about)?;
        let mut object = Object::new(answer.body.clone(), etag);
        object.head.put_id = put_id(&answer);
        match self.kept_crc32(&answer, &object.head.etag) {
            Some(kept) if kept != object.head.crc32 => {
                let error = about.refused(StoreErrorKind::Corrupt);
                let found = object.head.crc32;
                let detail =
                    format!("the server keeps CRC-32 {kept:08x}, what came has {found:08x}");
                Err(error.with_source(detail))
            }
            _ => Ok(object),
        }
    }

    pub(super) async fn head(&self, key: &ObjectKey) -> StoreResult<Head> {
        let about = About::reading(key);
        let request =
            Request::new(Method::Head, self.path(key)).header("x-amz-checksum-mode", "ENABLED");
        let answer = self.client.send(&request, &about, Reading::TEXT).await?;
        let etag = etag(&answer, &about)?;
        let len = answer.header("content-length").and_then(|len| len.parse().ok());
        if let (Some(len), Some(crc32)) = (len, self.kept_crc32(&answer, &etag)) {
            return Ok(Head::new(len, crc32, etag).with_put_id(put_id(&answer)));
        }
        // Of any version: a put meanwhile is what the head would have told a moment later.
        self.get(key).await.map(|object| object.head)
    }

    /// The CRC-32 of the whole object that the server keeps, if it is one to be trusted.
    fn kept_crc32(&self, answer: &Answer, etag: &ETag) -> Option<u32> {
        if !self.capabilities().checksums {
            return None;
        }
        // Of an object from parts some servers keep a sum over the sums of parts, and not all of
        // them mark it as such.
        let parts = etag.as_str().trim_matches('"').contains('-');
        let whole = answer.header("x-amz-checksum-type") == Some("FULL_OBJECT");
        if parts && !whole {
            return None;
        }
        decode_crc32(answer.header("x-amz-checksum-crc32")?)
    }

    pub(super) async fn delete(&self, key: &ObjectKey) -> StoreResult<()> {
        let request = Request::new(Method::Delete, self.path(key));
        let about = About::changing(key);
        match self.client.send(&request, &about, Reading::TEXT).await {
            Err(error) if error.kind == StoreErrorKind::NotFound => Ok(()),
            // Success has nothing to say. What says something is a proxy or a server that failed after
            // its first line: taken for done, the object would stay for ever.
            Ok(answer) if !answer.body.is_empty() => understood(&answer, "", &about).map(drop),
            result => result.map(drop),
        }
    }

    pub(super) async fn delete_many(&self, keys: &[ObjectKey]) -> Vec<StoreResult<()>> {
        let mut results = Vec::with_capacity(keys.len());
        if self.capabilities().batch_delete {
            for batch in keys.chunks(KEYS_MAX) {
                match self.delete_batch(batch).await {
                    Ok(of_batch) => results.extend(of_batch),
                    Err(error) => results.extend(same_for_all(batch, &error)),
                }
            }
        } else {
            for group in keys.chunks(SIDE_BY_SIDE) {
                let one = |key| -> BoxFuture<'_, _> { Box::pin(self.delete(key)) };
                results.extend(join::all(group.iter().map(one).collect()).await);
            }
        }
        results
    }

    /// One request for at most 1,000 keys.
    pub(super) async fn delete_batch(
        &self,
        keys: &[ObjectKey],
    ) -> StoreResult<Vec<StoreResult<()>>> {
        let mut body = String::from("<Delete xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">");
        for key in keys {
            body.push_str("<Object>");
            xml::write_text(&mut body, "Key", &format!("{}{key}", self.prefix));
            body.push_str("</Object>");
        }
        body.push_str("<Quiet>true</Quiet></Delete>");
        let body = Bytes::from(body);
        let about = About { changes: true, ..About::store() };
        let request = Request::new(Method::Post, None)
            .query("delete", "")
            // Older servers demand this one, and newer ones either.
            .header("content-md5", STANDARD.encode(Md5::digest(&body)))
            .checksum(crc32fast::hash(&body))
            .body(body);
        let answer = self.client.send(&request, &about, Reading::TEXT).await?;
        let root = understood(&answer, "DeleteResult", &about)?;
        let mut results: Vec<StoreResult<()>> = keys.iter().map(|_| Ok(())).collect();
        for error in root.all("Error") {
            let name = error.text("Key").and_then(|key| key.strip_prefix(&*self.prefix));
            let at = keys.iter().position(|key| Some(key.as_str()) == name);
            let Some((key, result)) = at.and_then(|at| Some((keys.get(at)?, results.get_mut(at)?)))
            else {
                continue;
            };
            *result = match error.text("Code").unwrap_or_default() {
                "NoSuchKey" => Ok(()),
                "AccessDenied" => Err(StoreError::not_done(StoreErrorKind::PermissionDenied, key)),
                code => {
                    let error = StoreError::unknown(StoreErrorKind::Unavailable, key);
                    Err(error.with_source(super::secret_free(code)))
                }
            };
        }
        Ok(results)
    }

    pub(super) async fn list(
        &self,
        prefix: &str,
        after: Option<&PageToken>,
        limit: usize,
    ) -> StoreResult<ListPage> {
        let about = About::store();
        let mut request = Request::new(Method::Get, None)
            .query("list-type", "2")
            .query("encoding-type", "url")
            .query("prefix", format!("{}{prefix}", self.prefix))
            .query("max-keys", limit.clamp(1, KEYS_MAX).to_string());
        if let Some(token) = after {
            request = request.query("continuation-token", token.as_str());
        }
        let answer = self.client.send(&request, &about, Reading::TEXT).await?;
        let root = understood(&answer, "ListBucketResult", &about)?;
        let encoded = root.text("EncodingType") == Some("url");
        let objects = root.all("Contents").filter_map(|found| {
            let key = self.own_key(found.text("Key")?, encoded)?;
            let age = age(&answer, found.text("LastModified"));
            Some(ListedObject::new(key, found.number("Size")?).with_age(age))
        });
        let objects = objects.collect();
        let next = root.text("NextContinuationToken").filter(|_| root.is_true("IsTruncated"));
        Ok(ListPage::new(objects, next.map(PageToken::new)))
    }

    /// The key of an object of ours; `None` for anything else in the bucket.
    pub(super) fn own_key(&self, listed: &str, encoded: bool) -> Option<ObjectKey> {
        let key = if encoded { xml::decode_key(listed)? } else { listed.to_owned() };
        ObjectKey::new(key.strip_prefix(&*self.prefix)?).ok()
    }

    pub(super) async fn get_ranges(
        &self,
        key: &ObjectKey,
        asked: &[Range<u64>],
    ) -> StoreResult<Vec<Bytes>> {
        let far = asked.iter().any(|range| range.start > range.end || range.end > OFFSET_MAX);
        let requests = ranges::requests(asked, RANGE_GAP, RANGE_REQUEST_MAX);
        let [first, rest @ ..] = &requests[..] else {
            if !asked.is_empty() {
                let len = self.head(key).await?.len;
                asked.iter().try_for_each(|range| checked_range(key, range, len).map(drop))?;
            }
            return Ok(vec![Bytes::new(); asked.len()]);
        };
        if far {
            let len = self.head(key).await?.len;
            asked.iter().try_for_each(|range| checked_range(key, range, len).map(drop))?;
        }
        // The first tells the length and the version, which the others must be of.
        let (body, len, version) = self.get_range(key, first, None).await?;
        asked.iter().try_for_each(|range| checked_range(key, range, len).map(drop))?;
        let mut bodies = vec![body];
        for group in rest.chunks(SIDE_BY_SIDE) {
            let one = |range| -> BoxFuture<'_, _> {
                Box::pin(self.get_range(key, range, Some(&version)))
            };
            for result in join::all(group.iter().map(one).collect()).await {
                bodies.push(result?.0);
            }
        }
        let served = |range: &Range<u64>| {
            if range.is_empty() {
                return Some(Bytes::new());
            }
            requests.iter().zip(&bodies).find_map(|(request, body)| {
                let within = ranges::within(request, range)?;
                (within.end <= body.len()).then(|| body.slice(within))
            })
        };
        let found: Option<Vec<_>> = asked.iter().map(served).collect();
        found.ok_or_else(|| short(key))
    }

    /// One range, the length of the whole object, and its tag.
    pub(super) async fn get_range(
        &self,
        key: &ObjectKey,
        range: &Range<u64>,
        version: Option<&ETag>,
    ) -> StoreResult<(Bytes, u64, ETag)> {
        let about = About { if_match: version.is_some(), ..About::reading(key) };
        let last = range.end.saturating_sub(1);
        let mut request = Request::new(Method::Get, self.path(key))
            .header("range", format!("bytes={}-{last}", range.start));
        if let Some(version) = version {
            request = request.header("if-match", version.as_str());
        }
        let answer = self.client.send(&request, &about, OBJECT).await;
        let answer = answer.map_err(|error| changed_between(error, version, &about))?;
        let etag = etag(&answer, &about)?;
        if version.is_some_and(|version| *version != etag) {
            // A server that does not look at conditions of reads.
            return Err(replaced(&about));
        }
        match answer.header("content-range").and_then(parse_content_range) {
            Some((start, end, len)) => {
                let fits = start == range.start
                    && end == range.end.min(len)
                    && answer.body.len() as u64 == end.saturating_sub(start);
                if fits { Ok((answer.body, len, etag)) } else { Err(short(key)) }
            }
            None => {
                // The whole object, from a server without ranges.
                let len = answer.body.len() as u64;
                let range = checked_range(key, range, len)?;
                // Within the body, whose length is a usize.
                let body = answer.body.slice(range.start as usize..range.end as usize);
                Ok((body, len, etag))
            }
        }
    }
}

fn changed_between(error: StoreError, version: Option<&ETag>, about: &About<'_>) -> StoreError {
    if version.is_some() && error.kind == StoreErrorKind::PreconditionFailed {
        return replaced(about);
    }
    error
}

fn replaced(about: &About<'_>) -> StoreError {
    let error = about.refused(StoreErrorKind::Conflict);
    error.with_source("it was replaced while its ranges were read")
}

fn short(key: &ObjectKey) -> StoreError {
    let error = StoreError::not_done(StoreErrorKind::Unavailable, key);
    error.with_source("the server sent another range than was asked for")
}

/// `bytes 0-9/100` as start, end and length.
fn parse_content_range(text: &str) -> Option<(u64, u64, u64)> {
    let (range, len) = text.trim().strip_prefix("bytes ")?.split_once('/')?;
    let (start, last) = range.split_once('-')?;
    let (start, last): (u64, u64) = (start.parse().ok()?, last.parse().ok()?);
    Some((start, last.checked_add(1)?, len.parse().ok()?))
}

pub(super) fn changing_if<'a>(key: &'a ObjectKey, condition: &PutCondition) -> About<'a> {
    let if_match = matches!(condition, PutCondition::IfMatch(_));
    About { if_match, ..About::changing(key) }
}

pub(super) fn conditional(request: Request, condition: &PutCondition) -> Request {
    match condition {
        PutCondition::Any => request,
        PutCondition::IfAbsent => request.header("if-none-match", "*"),
        PutCondition::IfMatch(etag) => request.header("if-match", etag.as_str()),
    }
}

/// The same failure for each key of a batch.
pub(super) fn same_for_all(keys: &[ObjectKey], error: &StoreError) -> Vec<StoreResult<()>> {
    let text = error.to_string();
    let same = |key| {
        let one = StoreError::not_done(error.kind, key).with_source(text.clone());
        let one = one.with_retry_after(error.retry_after);
        Err(StoreError { outcome: error.outcome, ..one })
    };
    keys.iter().map(same).collect()
}

fn etag(answer: &Answer, about: &About<'_>) -> StoreResult<ETag> {
    let lost = || about.lost(StoreErrorKind::Unavailable).with_source("the answer has no ETag");
    answer.header("etag").map(ETag::new).ok_or_else(lost)
}

fn put_id(answer: &Answer) -> Option<PutId> {
    answer.header(PUT_ID)?.parse().ok()
}

/// The document of an answer, whose root must be this; an error inside a 200 is told as such.
pub(super) fn understood(answer: &Answer, root: &str, about: &About<'_>) -> StoreResult<Element> {
    let document = xml::parse(&answer.body);
    match document {
        Some(document) if document.name == root => Ok(document),
        Some(document) if document.name == "Error" => {
            let said = super::errors::Said::of(answer.status, &answer.headers, &answer.body);
            Err(said.into_error(about, &answer.headers))
        }
        _ => {
            let lost = about.lost(StoreErrorKind::Unavailable);
            Err(lost.with_source("the answer is not what S3 answers; is this an S3 server?"))
        }
    }
}

/// How old something is by the server's own clock, which stands in the same answer.
pub(super) fn age(answer: &Answer, made_at: Option<&str>) -> Option<Duration> {
    let now = super::errors::http_date(answer.header("date")?)?;
    let made_at = made_at?.parse::<jiff::Timestamp>().ok()?.as_second();
    Some(Duration::from_secs(u64::try_from(now.saturating_sub(made_at)).unwrap_or(0)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_ranges_are_read() {
        assert_eq!(parse_content_range("bytes 0-9/100"), Some((0, 10, 100)));
        for bad in ["", "bytes */100", "bytes 0-/9", "0-9/100", "bytes 0-18446744073709551615/1"] {
            assert_eq!(parse_content_range(bad), None, "{bad}");
        }
    }
}
