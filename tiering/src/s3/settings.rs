//! What can be set of a store over S3, with the defaults that AWS needs and the checks that keep a
//! wrong setting from becoming a wrong request. Pure; read by the client when the store is opened.

use super::Credentials;
use crate::{Capabilities, ObjectKey};
use rusty_s3::{Bucket, UrlStyle};
use std::{
    collections::BTreeMap, fmt, fmt::Debug, num::NonZeroU64, path::PathBuf, sync::Arc,
    time::Duration,
};

/// How the name of the bucket gets into the address.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Addressing {
    /// `https://endpoint/bucket/key`: what other servers than AWS expect. The default for a custom
    /// endpoint.
    Path,
    /// `https://bucket.endpoint/key`: what AWS expects.
    VirtualHost,
    /// The one or the other, by whether an endpoint is set.
    #[default]
    Automatic,
}

/// How the server encrypts what it stores.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Encryption {
    /// As the bucket is set up.
    #[default]
    Bucket,
    /// With keys of the store's own (SSE-S3).
    Aes256,
    /// With a key of the key management service (SSE-KMS); `None`: the account's default key.
    Kms(Option<String>),
}

/// Where credentials come from.
#[derive(Clone, Debug, Default)]
pub enum CredentialSource {
    /// Environment, profile, web identity, container, instance: the first that is there.
    #[default]
    Chain,
    /// These.
    Fixed(Credentials),
}

/// How long to wait for what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// For a connection, TLS included.
    pub connect: Duration,
    /// For the next bytes, or for an answer to begin after the request was sent.
    pub idle: Duration,
    /// For the end of an upload in parts, which may take a server minutes.
    pub complete: Duration,
    /// A transfer may take as long as its bytes take at this rate, on top of `idle`.
    pub bytes_per_second_min: NonZeroU64,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(5),
            idle: Duration::from_secs(15),
            complete: Duration::from_secs(300),
            bytes_per_second_min: NonZeroU64::MIN.saturating_add((128 << 10) - 1),
        }
    }
}

impl Timeouts {
    /// How long a transfer of so many bytes may take.
    pub(crate) fn transfer(&self, bytes: u64) -> Duration {
        self.idle.saturating_add(Duration::from_secs(bytes / self.bytes_per_second_min))
    }
}

/// Settings of an [`S3Store`](super::S3Store). The bucket is all that AWS needs; the rest has
/// defaults, or comes from the variables that other tools read.
///
/// ```
/// use akidb_tiering::s3::{Credentials, S3Settings};
/// let garage = S3Settings::new("vectors")
///     .endpoint("https://garage.example:3900")
///     .region("garage")
///     .credentials(Credentials::new("GK0123", "a secret"));
/// assert!(!format!("{garage:?}").contains("a secret"));
/// ```
#[derive(Clone)]
pub struct S3Settings {
    pub(crate) bucket: String,
    pub(crate) region: Option<String>,
    pub(crate) endpoint: Option<String>,
    pub(crate) addressing: Addressing,
    pub(crate) prefix: Option<String>,
    pub(crate) plain_http: bool,
    pub(crate) ca_file: Option<PathBuf>,
    pub(crate) encryption: Encryption,
    pub(crate) credentials: CredentialSource,
    pub(crate) timeouts: Timeouts,
    pub(crate) idle_connections: usize,
    pub(crate) idle_connection_life: Duration,
    pub(crate) variables: Variables,
    pub(crate) assumed: Option<Capabilities>,
}

/// Where variables like `AWS_REGION` are read.
#[derive(Clone)]
pub(crate) struct Variables(Arc<Lookup>);

type Lookup = dyn Fn(&str) -> Option<String> + Send + Sync;

impl Variables {
    /// A variable that is set and not empty: the tools of AWS take an empty one for unset.
    pub(crate) fn get(&self, name: &str) -> Option<String> {
        (self.0)(name).filter(|value| !value.trim().is_empty())
    }
}

impl S3Settings {
    /// Settings for a bucket of AWS, in the region that `AWS_REGION` names.
    pub fn new(bucket: impl Into<String>) -> Self {
        Self {
            bucket: bucket.into(),
            region: None,
            endpoint: None,
            addressing: Addressing::default(),
            prefix: None,
            plain_http: false,
            ca_file: None,
            encryption: Encryption::default(),
            credentials: CredentialSource::default(),
            timeouts: Timeouts::default(),
            idle_connections: 64,
            idle_connection_life: Duration::from_secs(90),
            variables: Variables(Arc::new(|name| std::env::var(name).ok())),
            assumed: None,
        }
    }

    /// The region; by default that of `AWS_REGION` or `AWS_DEFAULT_REGION`, or `us-east-1`.
    #[must_use]
    pub fn region(mut self, region: impl Into<String>) -> Self {
        self.region = Some(region.into());
        self
    }

    /// The address of the server, for other servers than AWS; by default that of
    /// `AWS_ENDPOINT_URL_S3` or `AWS_ENDPOINT_URL`, or AWS in the region.
    #[must_use]
    pub fn endpoint(mut self, url: impl Into<String>) -> Self {
        self.endpoint = Some(url.into());
        self
    }

    /// How the name of the bucket gets into the address.
    #[must_use]
    pub fn addressing(mut self, addressing: Addressing) -> Self {
        self.addressing = addressing;
        self
    }

    /// Keeps all objects below this key of the bucket, so that it can hold several databases and
    /// other things.
    #[must_use]
    pub fn prefix(mut self, prefix: impl Into<String>) -> Self {
        self.prefix = Some(prefix.into());
        self
    }

    /// Allows an endpoint without TLS: everything, addresses with signatures included, can then be
    /// read and changed on the way. For servers on this machine.
    #[must_use]
    pub fn allow_plain_http(mut self) -> Self {
        self.plain_http = true;
        self
    }

    /// Trusts the certificates in this PEM file beside those of the system.
    #[must_use]
    pub fn ca_file(mut self, path: impl Into<PathBuf>) -> Self {
        self.ca_file = Some(path.into());
        self
    }

    /// How the server encrypts what it stores.
    #[must_use]
    pub fn encryption(mut self, encryption: Encryption) -> Self {
        self.encryption = encryption;
        self
    }

    /// Uses these credentials instead of looking for some.
    #[must_use]
    pub fn credentials(mut self, credentials: Credentials) -> Self {
        self.credentials = CredentialSource::Fixed(credentials);
        self
    }

    /// How long to wait for what.
    #[must_use]
    pub fn timeouts(mut self, timeouts: Timeouts) -> Self {
        self.timeouts = timeouts;
        self
    }

    /// How many idle connections to keep, and for how long: 64, for 90 s by default.
    #[must_use]
    pub fn idle_connections(mut self, most: usize, life: Duration) -> Self {
        (self.idle_connections, self.idle_connection_life) = (most, life);
        self
    }

    /// Reads variables like `AWS_REGION` here and not in the environment of the process.
    #[must_use]
    pub fn variables(mut self, variables: BTreeMap<String, String>) -> Self {
        self.variables = Variables(Arc::new(move |name| variables.get(name).cloned()));
        self
    }

    /// Takes the server's abilities as known and sends no request to try them: for commands that
    /// run for a moment. A claim that is wrong is a lost update between writers.
    #[must_use]
    pub fn assume(mut self, capabilities: Capabilities) -> Self {
        self.assumed = Some(capabilities);
        self
    }

    pub(crate) fn effective_region(&self) -> String {
        let from = |name| self.variables.get(name);
        let named = self.region.clone().or_else(|| from("AWS_REGION"));
        named.or_else(|| from("AWS_DEFAULT_REGION")).unwrap_or_else(|| "us-east-1".to_owned())
    }

    /// The bucket's address, checked.
    pub(crate) fn bucket(&self) -> Result<Bucket, String> {
        let region = self.effective_region();
        let named = self.endpoint.clone().or_else(|| self.variables.get("AWS_ENDPOINT_URL_S3"));
        let named = named.or_else(|| self.variables.get("AWS_ENDPOINT_URL"));
        let custom = named.is_some();
        let url = named.unwrap_or_else(|| format!("https://s3.{region}.amazonaws.com"));
        let endpoint: reqwest::Url =
            url.parse().map_err(|error| format!("the endpoint {url:?} is no URL: {error}"))?;
        if endpoint.scheme() == "http" && !self.plain_http {
            return Err(format!(
                "the endpoint {url:?} has no TLS: use https, or allow plain HTTP where nobody \
                 can listen"
            ));
        }
        let style = match (self.addressing, custom) {
            (Addressing::Path, _) | (Addressing::Automatic, true) => UrlStyle::Path,
            (Addressing::VirtualHost, _) | (Addressing::Automatic, false) => UrlStyle::VirtualHost,
        };
        check_bucket_name(&self.bucket)?;
        Bucket::new(endpoint, style, self.bucket.clone(), region)
            .map_err(|error| format!("the bucket {:?} at {url:?}: {error}", self.bucket))
    }

    /// The prefix of all keys, checked, with its slash; empty if there is none.
    pub(crate) fn key_prefix(&self) -> Result<String, String> {
        let Some(prefix) = &self.prefix else { return Ok(String::new()) };
        let checked = ObjectKey::new(prefix.trim_end_matches('/'));
        checked.map(|key| format!("{key}/")).map_err(|error| format!("the prefix: {error}"))
    }
}

/// The rules of S3 that keep a name from changing what is addressed.
fn check_bucket_name(name: &str) -> Result<(), String> {
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let inner = |byte: u8| plain(byte) || matches!(byte, b'-' | b'.');
    let bytes = name.as_bytes();
    let ends = bytes.first().zip(bytes.last());
    let good = (3..=63).contains(&name.len())
        && bytes.iter().copied().all(inner)
        && ends.is_some_and(|(first, last)| plain(*first) && plain(*last))
        && !name.contains("..");
    if good {
        return Ok(());
    }
    Err(format!("{name:?} cannot be a bucket: 3 to 63 of a-z, 0-9, - and ., ends without - and ."))
}

impl Debug for S3Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("S3Settings")
            .field("bucket", &self.bucket)
            .field("region", &self.region)
            // An address may hold a password.
            .field("endpoint", &self.bucket().map(|bucket| bucket.base_url().to_string()).ok())
            .field("addressing", &self.addressing)
            .field("prefix", &self.prefix)
            .field("plain_http", &self.plain_http)
            .field("ca_file", &self.ca_file)
            .field("encryption", &self.encryption)
            .field("credentials", &self.credentials)
            .field("timeouts", &self.timeouts)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(settings: &S3Settings) -> Result<String, String> {
        settings.bucket().map(|bucket| bucket.object_url("k=1").to_string())
    }

    fn bare(bucket: &str) -> S3Settings {
        S3Settings::new(bucket).variables(BTreeMap::new())
    }

    #[test]
    fn addresses_follow_the_endpoint_and_the_style() {
        let aws = bare("rows").region("eu-west-1");
        assert_eq!(url(&aws).unwrap(), "https://rows.s3.eu-west-1.amazonaws.com/k%3D1");
        let path = aws.clone().addressing(Addressing::Path);
        assert_eq!(url(&path).unwrap(), "https://s3.eu-west-1.amazonaws.com/rows/k%3D1");
        let own = bare("rows").endpoint("https://minio.example:9000");
        assert_eq!(url(&own).unwrap(), "https://minio.example:9000/rows/k%3D1");
        let host = own.addressing(Addressing::VirtualHost);
        assert_eq!(url(&host).unwrap(), "https://rows.minio.example:9000/k%3D1");
    }

    #[test]
    fn variables_name_region_and_endpoint_unless_settings_do() {
        let set = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let variables = BTreeMap::from([
            set("AWS_DEFAULT_REGION", "us-west-2"),
            set("AWS_REGION", " "),
            set("AWS_ENDPOINT_URL", "https://other.example"),
        ]);
        let settings = S3Settings::new("rows").variables(variables);
        assert_eq!(settings.effective_region(), "us-west-2");
        assert_eq!(url(&settings).unwrap(), "https://other.example/rows/k%3D1");
        assert_eq!(settings.region("here").effective_region(), "here");
    }

    #[test]
    fn an_endpoint_without_tls_is_refused_unless_asked_for() {
        let plain = bare("rows").endpoint("http://127.0.0.1:9000");
        assert!(url(&plain).unwrap_err().contains("TLS"));
        assert!(url(&plain.allow_plain_http()).is_ok());
    }

    #[test]
    fn names_that_would_address_something_else_are_refused() {
        for bad in ["", "ab", "a/b", "../x", "UPPER", "a..b", "-ab", "ab-", &"x".repeat(64)] {
            assert!(url(&bare(bad)).is_err(), "{bad}");
        }
        for bad in ["a/../b", "A", "/a"] {
            assert!(bare("rows").prefix(bad).key_prefix().is_err(), "{bad}");
        }
        assert_eq!(bare("rows").prefix("db/one/").key_prefix().unwrap(), "db/one/");
        for bad in ["not a url", "ftp://x.example", "https://"] {
            assert!(url(&bare("rows").endpoint(bad)).is_err(), "{bad}");
        }
    }
}
