//! From an answer that is a failure to a [`StoreError`]: what it means, and whether the call may
//! have happened. The rule: a definite refusal (4xx) changed nothing; anything else after the
//! request was sent (no answer, a 5xx, an error inside a 200) is unknown. A 503 too: servers answer
//! it when a write reached some of their disks and not enough of them.

use super::{secret_free, xml};
use crate::{ObjectKey, Outcome, StoreError, StoreErrorKind};
use bytes::Bytes;
use reqwest::{StatusCode, header::HeaderMap};
use std::{fmt, time::Duration};

/// A longer wait than this is not obeyed: it may be an attack, or a clock.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(300);
/// Text of a server that goes into an error message.
const MESSAGE_CHARS_MAX: usize = 300;

/// What a request was about, for its errors.
#[derive(Clone, Copy, Debug)]
pub(super) struct About<'a> {
    pub(super) key: Option<&'a ObjectKey>,
    /// True if the call changes the store.
    pub(super) changes: bool,
    /// True if it has a condition, so that "no such key" says that it does not hold.
    pub(super) if_match: bool,
    /// True for calls within an upload in parts.
    pub(super) upload: bool,
}

impl<'a> About<'a> {
    pub(super) const fn store() -> Self {
        Self { key: None, changes: false, if_match: false, upload: false }
    }

    pub(super) const fn reading(key: &'a ObjectKey) -> Self {
        Self { key: Some(key), ..Self::store() }
    }

    pub(super) const fn changing(key: &'a ObjectKey) -> Self {
        Self { key: Some(key), changes: true, ..Self::store() }
    }

    /// A failure that changed nothing.
    pub(super) fn refused(&self, kind: StoreErrorKind) -> StoreError {
        match self.key {
            Some(key) => StoreError::not_done(kind, key),
            None => StoreError::listing(kind),
        }
    }

    /// A failure after which a change may have happened.
    pub(super) fn lost(&self, kind: StoreErrorKind) -> StoreError {
        let mut error = self.refused(kind);
        if self.changes {
            error.outcome = Outcome::Unknown;
        }
        error
    }
}

/// What a server said: its status, the code in its XML, and its message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Said {
    pub(super) status: u16,
    pub(super) code: String,
    message: String,
    /// The region that the bucket is in, if that is what was wrong.
    region: Option<String>,
}

impl fmt::Display for Said {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "HTTP {}", self.status)?;
        if !self.code.is_empty() {
            write!(f, " {}", self.code)?;
        }
        if !self.message.is_empty() {
            write!(f, ": {}", self.message)?;
        }
        match &self.region {
            Some(region) => write!(f, " (the bucket is in the region {region:?})"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for Said {}

impl Said {
    pub(super) fn of(status: StatusCode, headers: &HeaderMap, body: &Bytes) -> Self {
        let root = xml::parse(body);
        // Some servers wrap the error.
        let error = root.as_ref().map(|root| root.child("Error").unwrap_or(root));
        let text = |name| {
            let text = error.and_then(|error| error.text(name)).unwrap_or_default();
            secret_free(text).chars().take(MESSAGE_CHARS_MAX).collect::<String>()
        };
        let region = headers.get("x-amz-bucket-region").and_then(|value| value.to_str().ok());
        let region = region.or_else(|| error?.text("Region"));
        Self {
            status: status.as_u16(),
            code: text("Code"),
            message: text("Message"),
            region: region.filter(|_| status != StatusCode::FORBIDDEN).map(str::to_owned),
        }
    }

    /// What it means for a caller.
    fn kind(&self, about: &About<'_>) -> StoreErrorKind {
        use StoreErrorKind as Kind;
        match &*self.code {
            "NoSuchKey" | "NoSuchVersion" if about.if_match => Kind::PreconditionFailed,
            "NoSuchKey" | "NoSuchVersion" => Kind::NotFound,
            "PreconditionFailed" => Kind::PreconditionFailed,
            "ConditionalRequestConflict" | "OperationAborted" => Kind::Conflict,
            "NoSuchUpload" => Kind::NoSuchUpload,
            "InvalidPart" | "InvalidPartOrder" | "EntityTooSmall" | "InvalidPartNumber" => {
                Kind::InvalidPart
            }
            "InvalidRange" => Kind::InvalidRange,
            "NoSuchBucket"
            | "InvalidBucketName"
            | "PermanentRedirect"
            | "TemporaryRedirect"
            | "AuthorizationHeaderMalformed"
            | "AuthorizationQueryParametersError"
            | "IllegalLocationConstraintException"
            | "RequestTimeTooSkewed" => Kind::Misconfigured,
            "SlowDown"
            | "SlowDownRead"
            | "SlowDownWrite"
            | "TooManyRequests"
            | "Throttling"
            | "ThrottlingException"
            | "RequestLimitExceeded"
            | "ServiceUnavailable" => Kind::Throttled,
            "ExpiredToken" | "InvalidToken" | "InvalidAccessKeyId" | "SignatureDoesNotMatch" => {
                Kind::PermissionDenied
            }
            "QuotaExceeded" | "InsufficientStorage" | "XMinioStorageFull" => Kind::NoSpace,
            "NotImplemented" | "EntityTooLarge" | "KeyTooLongError" | "MethodNotAllowed" => {
                Kind::Unsupported
            }
            // Damaged or cut short on the way: the same bytes may arrive next time.
            "BadDigest"
            | "InvalidDigest"
            | "IncompleteBody"
            | "RequestTimeout"
            | "XAmzContentChecksumMismatch"
            | "InternalError" => Kind::Unavailable,
            _ => self.kind_by_status(about),
        }
    }

    fn kind_by_status(&self, about: &About<'_>) -> StoreErrorKind {
        use StoreErrorKind as Kind;
        match self.status {
            301 | 307 | 308 | 400 => Kind::Misconfigured,
            401 | 403 => Kind::PermissionDenied,
            404 if about.if_match => Kind::PreconditionFailed,
            404 if about.upload => Kind::NoSuchUpload,
            404 if about.key.is_some() => Kind::NotFound,
            404 => Kind::Misconfigured,
            409 => Kind::Conflict,
            412 => Kind::PreconditionFailed,
            416 => Kind::InvalidRange,
            429 | 503 => Kind::Throttled,
            405 | 501 => Kind::Unsupported,
            507 => Kind::NoSpace,
            _ => Kind::Unavailable,
        }
    }

    /// The failure, for a caller.
    pub(super) fn into_error(self, about: &About<'_>, headers: &HeaderMap) -> StoreError {
        let kind = self.kind(about);
        let definite = (300..500).contains(&self.status)
            && self.status != 408
            && !matches!(&*self.code, "RequestTimeout" | "InternalError" | "IncompleteBody");
        let error = if definite { about.refused(kind) } else { about.lost(kind) };
        error.with_retry_after(retry_after(headers)).with_source(self)
    }
}

/// The wait that a server asks for: seconds, or a date, which is compared with the server's own
/// date and never with our clock.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get("retry-after")?.to_str().ok()?;
    let wait = match text.trim().parse() {
        Ok(seconds) => Duration::from_secs(seconds),
        Err(_) => {
            let now = http_date(headers.get("date")?.to_str().ok()?)?;
            Duration::from_secs(u64::try_from(http_date(text)?.saturating_sub(now)).ok()?)
        }
    };
    Some(wait.min(RETRY_AFTER_MAX))
}

/// Seconds since 1970 of a date as HTTP writes it.
pub(super) fn http_date(text: &str) -> Option<i64> {
    let parser = jiff::fmt::rfc2822::DateTimeParser::new();
    parser.parse_timestamp(text.trim()).ok().map(jiff::Timestamp::as_second)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(status: u16, body: &str) -> Said {
        let status = StatusCode::from_u16(status).unwrap();
        Said::of(status, &HeaderMap::new(), &Bytes::from(body.to_owned()))
    }

    fn error(status: u16, code: &str, about: &About<'_>) -> StoreError {
        let body = format!("<Error><Code>{code}</Code><Message>told</Message></Error>");
        said(status, &body).into_error(about, &HeaderMap::new())
    }

    #[test]
    fn a_refusal_changed_nothing_and_anything_else_may_have() {
        let key = ObjectKey::new("k").unwrap();
        let put = About::changing(&key);
        for (status, code) in [(403, "AccessDenied"), (412, "PreconditionFailed"), (409, "X")] {
            assert_eq!(error(status, code, &put).outcome, Outcome::NotDone, "{status} {code}");
        }
        let unknown = [
            (500, "InternalError"),
            (503, "SlowDown"),
            (200, "InternalError"),
            (400, "RequestTimeout"),
        ];
        for (status, code) in unknown {
            assert_eq!(error(status, code, &put).outcome, Outcome::Unknown, "{status} {code}");
        }
        let read = error(500, "InternalError", &About::reading(&key));
        assert_eq!(read.outcome, Outcome::NotDone, "a read changes nothing");
    }

    #[test]
    fn codes_and_statuses_become_what_a_caller_can_act_on() {
        use StoreErrorKind as Kind;
        let key = ObjectKey::new("k").unwrap();
        let read = About::reading(&key);
        let cases = [
            (404, "NoSuchKey", Kind::NotFound),
            (404, "", Kind::NotFound),
            (404, "NoSuchBucket", Kind::Misconfigured),
            (301, "PermanentRedirect", Kind::Misconfigured),
            (403, "SignatureDoesNotMatch", Kind::PermissionDenied),
            (400, "ExpiredToken", Kind::PermissionDenied),
            (403, "RequestTimeTooSkewed", Kind::Misconfigured),
            (409, "ConditionalRequestConflict", Kind::Conflict),
            (503, "SlowDown", Kind::Throttled),
            (429, "", Kind::Throttled),
            (502, "", Kind::Unavailable),
            (501, "NotImplemented", Kind::Unsupported),
            (507, "", Kind::NoSpace),
        ];
        for (status, code, kind) in cases {
            assert_eq!(error(status, code, &read).kind, kind, "{status} {code}");
        }
        let replace = About { if_match: true, ..About::changing(&key) };
        assert_eq!(error(404, "NoSuchKey", &replace).kind, Kind::PreconditionFailed);
        let part = About { upload: true, ..About::changing(&key) };
        assert_eq!(error(404, "", &part).kind, Kind::NoSuchUpload);
    }

    #[test]
    fn a_wait_is_read_as_seconds_or_by_the_servers_own_clock() {
        let headers = |after: &str| {
            let mut headers = HeaderMap::new();
            headers.insert("retry-after", after.parse().unwrap());
            headers.insert("date", "Sun, 06 Nov 1994 08:49:37 GMT".parse().unwrap());
            retry_after(&headers)
        };
        assert_eq!(headers("7"), Some(Duration::from_secs(7)));
        assert_eq!(headers("Sun, 06 Nov 1994 08:50:37 GMT"), Some(Duration::from_secs(60)));
        assert_eq!(headers("999999999"), Some(RETRY_AFTER_MAX));
        assert_eq!(headers("soon"), None);
        assert_eq!(headers("Sun, 06 Nov 1994 08:00:00 GMT"), None);
    }

    #[test]
    fn a_message_is_cut_and_names_code_and_region() {
        let long = "x".repeat(5_000);
        let found = said(400, &format!("<Error><Code>C</Code><Message>{long}</Message></Error>"));
        assert!(found.to_string().len() < 400);
        let mut headers = HeaderMap::new();
        headers.insert("x-amz-bucket-region", "eu-west-1".parse().unwrap());
        let moved = Said::of(StatusCode::MOVED_PERMANENTLY, &headers, &Bytes::new());
        assert!(moved.to_string().contains("eu-west-1"), "{moved}");
    }
}
