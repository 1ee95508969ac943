//! One request to S3, and its signed address. Every header that is sent and begins with `x-amz-` is
//! signed, and so are conditions: a proxy that adds or drops one makes the server refuse.
//!
//! The signature stands in the address, so an address is a secret for as long as it is valid: a few
//! minutes. No address leaves this module and the client (`secret_free`).

use super::{Credentials, Encryption};
use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::Bytes;
use jiff::Timestamp;
use rusty_s3::{Bucket, Map, Method, signing};

/// Addresses are used at once; what is longer only helps whoever finds one.
const VALID_SECONDS: u64 = 600;

/// A request, not signed yet, so that it can be signed again for another try.
#[derive(Clone, Debug)]
pub(super) struct Request {
    pub(super) method: Method,
    /// The whole key in the bucket; `None` for the bucket itself.
    pub(super) key: Option<String>,
    query: Map<'static>,
    headers: Map<'static>,
    pub(super) body: Bytes,
}

impl Request {
    pub(super) fn new(method: Method, key: Option<String>) -> Self {
        Self { method, key, query: Map::new(), headers: Map::new(), body: Bytes::new() }
    }

    #[must_use]
    pub(super) fn query(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.query.insert(name, value.into());
        self
    }

    #[must_use]
    pub(super) fn header(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.insert(name, value.into());
        self
    }

    #[must_use]
    pub(super) fn body(mut self, body: Bytes) -> Self {
        self.body = body;
        self
    }

    /// Sends the checksum along, for the server to verify and to keep.
    #[must_use]
    pub(super) fn checksum(self, crc32: u32) -> Self {
        self.header("x-amz-checksum-crc32", encode_crc32(crc32))
    }

    #[must_use]
    pub(super) fn encryption(self, encryption: &Encryption) -> Self {
        const HEADER: &str = "x-amz-server-side-encryption";
        match encryption {
            Encryption::Bucket => self,
            Encryption::Aes256 => self.header(HEADER, "AES256"),
            Encryption::Kms(None) => self.header(HEADER, "aws:kms"),
            Encryption::Kms(Some(key)) => self
                .header(HEADER, "aws:kms")
                .header("x-amz-server-side-encryption-aws-kms-key-id", &**key),
        }
    }

    /// The headers to send.
    pub(super) fn headers(&self) -> impl Iterator<Item = (&str, &str)> + Clone {
        self.headers.iter()
    }

    /// The signed address.
    pub(super) fn url(
        &self,
        bucket: &Bucket,
        credentials: &Credentials,
        unix_ms: i64,
    ) -> Option<reqwest::Url> {
        let url = match &self.key {
            Some(key) => bucket.object_url(key),
            None => bucket.base_url().clone(),
        };
        let time = Timestamp::from_millisecond(unix_ms).ok()?;
        Some(signing::sign(
            &time,
            self.method,
            url,
            &credentials.key_id,
            credentials.secret.reveal(),
            credentials.token.as_ref().map(super::Secret::reveal),
            bucket.region(),
            VALID_SECONDS,
            self.query.iter(),
            self.headers.iter(),
        ))
    }
}

/// A CRC-32 as S3 writes it.
pub(super) fn encode_crc32(crc32: u32) -> String {
    STANDARD.encode(in_network_order(crc32))
}

/// A CRC-32 that S3 wrote; `None` for the sum over the sums of parts (`...-2`) and what is none.
pub(super) fn decode_crc32(text: &str) -> Option<u32> {
    let bytes: [u8; 4] = STANDARD.decode(text.trim()).ok()?.try_into().ok()?;
    Some(bytes.iter().fold(0, |sum, byte| (sum << 8) | u32::from(*byte)))
}

/// By hand, as the order of bytes is S3's and not that of our files.
fn in_network_order(value: u32) -> [u8; 4] {
    [24, 16, 8, 0].map(|shift| (value >> shift & 0xff) as u8)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checksums_are_written_as_s3_writes_them() {
        // The value of AWS's documentation for "Hello world".
        let crc32 = crc32fast::hash(b"Hello world");
        assert_eq!(encode_crc32(crc32), "i9aeUg==");
        assert_eq!(decode_crc32("i9aeUg=="), Some(crc32));
        for bad in ["", "i9aeUg==-2", "AAAA", "!", "i9aeUg"] {
            assert_eq!(decode_crc32(bad), None, "{bad}");
        }
    }

    #[test]
    fn every_header_that_is_sent_is_signed() {
        let endpoint = "https://s3.example".parse().unwrap();
        let bucket = Bucket::new(endpoint, rusty_s3::UrlStyle::Path, "rows", "here").unwrap();
        let request = Request::new(Method::Put, Some("a/b".into()))
            .query("partNumber", "3")
            .header("if-none-match", "*")
            .checksum(7)
            .encryption(&Encryption::Kms(Some("key-1".into())));
        let url =
            request.url(&bucket, &Credentials::new("id", "secret"), 1_700_000_000_000).unwrap();
        let query = url.query().unwrap();
        let names: Vec<_> = request.headers().map(|(name, _)| name).collect();
        assert_eq!(names.len(), 4);
        let signed = format!("X-Amz-SignedHeaders=host%3B{}", names.join("%3B"));
        assert!(query.contains(&signed), "{signed} not in {query}");
        assert!(query.contains("X-Amz-Expires=600") && query.contains("partNumber=3"));
    }
}
