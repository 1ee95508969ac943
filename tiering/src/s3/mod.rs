//! Objects in a bucket that speaks S3: AWS, MinIO, Garage, Ceph, R2 and others, over HTTP.
//!
//! Owns the translation of the contract of [`ObjectStore`] into requests of S3, and of its answers
//! into outcomes. Never retries what may have happened, never follows a redirect, never trusts a
//! checksum or a condition that the server was not seen to keep: [`S3Store::open`] tries them
//! ([`Capabilities`] says what was found). Called by the engine and the uploader through the trait.
//!
//! # Threads
//! One thread per store drives all sockets. A call is handed to it at its first poll, so any executor
//! may wait for the answer; the checksum of a body is computed before, on the caller's thread.
//!
//! # Secrets
//! Requests are signed in their address, which is therefore a secret itself. Neither addresses nor
//! credentials are in errors, `Debug` or what the HTTP client logs at any level
//! (`nothing_that_is_logged_or_shown_holds_a_secret`).
//!
//! # Checksums
//! Each put and each part carries its CRC-32, which the server verifies. [`ObjectStore::head`] tells
//! the sum that the server keeps of the whole; where it keeps none, or one over sums of parts, or was
//! seen not to verify, the object is read and summed here.

use crate::{
    BoxFuture, Capabilities, Head, ListPage, MultipartStore, Object, ObjectKey, ObjectStore,
    PageToken, PutCondition, PutOptions, PutReceipt, StoreError, StoreErrorKind, StoreResult,
};
use akidb_vfs::{Clock, Fs, Random, RealFs, SystemClock, SystemRandom};
use bytes::Bytes;
use client::{Client, Driver, Machine};
use errors::About;
use parking_lot::RwLock;
use std::{fmt, ops::Range, sync::Arc};

mod checks;
mod client;
mod credentials;
mod errors;
mod objects;
mod secret;
mod settings;
mod sign;
mod tls;
mod uploads;
mod xml;

pub use credentials::{CredentialError, Credentials};
pub use secret::Secret;
pub use settings::{Addressing, CredentialSource, Encryption, S3Settings, Timeouts};

/// An object store in a bucket.
///
/// ```no_run
/// use akidb_tiering::{ObjectStore, s3::{S3Settings, S3Store}};
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let settings = S3Settings::new("vectors").region("eu-west-1").prefix("production");
/// let store = futures_lite::future::block_on(S3Store::open(settings))?;
/// for missing in store.capabilities().missing() {
///     println!("this server lacks {missing}");
/// }
/// # Ok(())
/// # }
/// ```
pub struct S3Store {
    inner: Arc<Inner>,
    driver: Driver,
}

/// What a call needs on the thread of the sockets.
struct Inner {
    client: Client,
    /// Before every key; empty, or with its slash.
    prefix: String,
    encryption: Encryption,
    known: RwLock<Known>,
}

/// What is known of the server.
#[derive(Clone, Copy, Debug)]
enum Known {
    /// Being found out: nothing is refused beforehand.
    Trying(Capabilities),
    /// Found out, or told.
    For(Capabilities),
}

impl S3Store {
    /// Opens a bucket: finds credentials, checks that it can be written and read, and tries what the
    /// server can do, with some 30 small requests below `akidb-probe/`.
    ///
    /// # Errors
    /// [`StoreErrorKind::Misconfigured`] if the settings, the region, the bucket, the clock or the
    /// certificate are wrong; [`StoreErrorKind::PermissionDenied`] for wrong or missing
    /// credentials; others as from any call.
    pub async fn open(settings: S3Settings) -> StoreResult<Self> {
        let (fs, clock) = (Arc::new(RealFs), Arc::new(SystemClock::new()));
        Self::open_on(settings, fs, clock, Arc::new(SystemRandom::new())).await
    }

    /// As [`S3Store::open`], with files, time and randomness from these.
    ///
    /// # Errors
    /// As [`S3Store::open`].
    pub async fn open_on(
        settings: S3Settings,
        fs: Arc<dyn Fs>,
        clock: Arc<dyn Clock>,
        random: Arc<dyn Random>,
    ) -> StoreResult<Self> {
        let machine = Machine { fs, clock, random };
        let store = Self::unopened(&settings, &machine)?;
        let known = match settings.assumed {
            Some(assumed) => assumed,
            None => checks::run(&store, machine.random.next_u128()).await?,
        };
        *store.inner.known.write() = Known::For(known);
        Ok(store)
    }

    fn unopened(settings: &S3Settings, machine: &Machine) -> StoreResult<Self> {
        let wrong =
            |detail: String| StoreError::listing(StoreErrorKind::Misconfigured).with_source(detail);
        let inner = Inner {
            client: Client::new(settings, machine).map_err(wrong)?,
            prefix: settings.key_prefix().map_err(wrong)?,
            encryption: settings.encryption.clone(),
            known: RwLock::new(Known::Trying(Capabilities::default())),
        };
        let no_thread = |error: std::io::Error| {
            StoreError::listing(StoreErrorKind::Unavailable).with_source(error)
        };
        Ok(Self { inner: Arc::new(inner), driver: Driver::start().map_err(no_thread)? })
    }

    /// Runs a call on the thread of the sockets.
    async fn run<T: Send + 'static, F: Future<Output = StoreResult<T>> + Send + 'static>(
        &self,
        call: impl FnOnce(Arc<Inner>) -> F + Send,
    ) -> StoreResult<T> {
        self.driver.run(call(self.inner.clone())).await?
    }
}

impl Inner {
    fn path(&self, key: &ObjectKey) -> Option<String> {
        Some(format!("{}{key}", self.prefix))
    }

    fn capabilities(&self) -> Capabilities {
        match *self.known.read() {
            Known::Trying(known) | Known::For(known) => known,
        }
    }

    /// Refuses a condition that the server is known to ignore.
    fn check_condition(&self, about: &About<'_>, condition: &PutCondition) -> StoreResult<()> {
        let Known::For(can) = *self.known.read() else { return Ok(()) };
        let (held, name) = match condition {
            PutCondition::Any => return Ok(()),
            PutCondition::IfAbsent => (can.if_absent, "if-absent"),
            PutCondition::IfMatch(_) => (can.if_match, "if-match"),
        };
        if held {
            return Ok(());
        }
        let detail = format!("this server does not keep to {name}, so the put was not sent");
        Err(about.refused(StoreErrorKind::Unsupported).with_source(detail))
    }
}

impl fmt::Debug for S3Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("S3Store")
            .field("bucket", &self.inner.client.bucket.base_url().as_str())
            .field("prefix", &self.inner.prefix)
            .field("known", &*self.inner.known.read())
            .finish_non_exhaustive()
    }
}

impl ObjectStore for S3Store {
    fn put<'a>(
        &'a self,
        key: &'a ObjectKey,
        body: Bytes,
        options: PutOptions,
    ) -> BoxFuture<'a, StoreResult<PutReceipt>> {
        Box::pin(async move {
            let (key, crc32) = (key.clone(), crc32fast::hash(&body));
            self.run(|s| async move { s.put(&key, body, crc32, options).await }).await
        })
    }

    fn get<'a>(&'a self, key: &'a ObjectKey) -> BoxFuture<'a, StoreResult<Object>> {
        Box::pin(async move {
            let key = key.clone();
            self.run(|s| async move { s.get(&key).await }).await
        })
    }

    fn get_ranges<'a>(
        &'a self,
        key: &'a ObjectKey,
        ranges: &'a [Range<u64>],
    ) -> BoxFuture<'a, StoreResult<Vec<Bytes>>> {
        Box::pin(async move {
            let (key, ranges) = (key.clone(), ranges.to_vec());
            self.run(|s| async move { s.get_ranges(&key, &ranges).await }).await
        })
    }

    fn head<'a>(&'a self, key: &'a ObjectKey) -> BoxFuture<'a, StoreResult<Head>> {
        Box::pin(async move {
            let key = key.clone();
            self.run(|s| async move { s.head(&key).await }).await
        })
    }

    fn delete<'a>(&'a self, key: &'a ObjectKey) -> BoxFuture<'a, StoreResult<()>> {
        Box::pin(async move {
            let key = key.clone();
            self.run(|s| async move { s.delete(&key).await }).await
        })
    }

    fn delete_many<'a>(&'a self, keys: &'a [ObjectKey]) -> BoxFuture<'a, Vec<StoreResult<()>>> {
        Box::pin(async move {
            let own = keys.to_vec();
            let deleted = self.run(|s| async move { Ok(s.delete_many(&own).await) }).await;
            deleted.unwrap_or_else(|error| objects::same_for_all(keys, &error))
        })
    }

    fn list<'a>(
        &'a self,
        prefix: &'a str,
        after: Option<&'a PageToken>,
        limit: usize,
    ) -> BoxFuture<'a, StoreResult<ListPage>> {
        Box::pin(async move {
            let (prefix, after) = (prefix.to_owned(), after.cloned());
            self.run(|s| async move { s.list(&prefix, after.as_ref(), limit).await }).await
        })
    }

    fn multipart(&self) -> Option<&dyn MultipartStore> {
        match *self.inner.known.read() {
            Known::For(can) if can.parts.is_none() => None,
            _ => Some(self),
        }
    }

    fn capabilities(&self) -> Capabilities {
        self.inner.capabilities()
    }
}

/// The text of an error of the HTTP client and of what caused it, without the address, which holds a
/// signature.
fn without_address(error: reqwest::Error) -> String {
    let mut text = String::new();
    let error = error.without_url();
    let mut cause: Option<&dyn std::error::Error> = Some(&error);
    while let Some(error) = cause {
        if !text.is_empty() {
            text.push_str(": ");
        }
        text.push_str(&error.to_string());
        cause = error.source();
    }
    secret_free(&text)
}

/// Cuts text of another's before a signature or token that it quotes.
fn secret_free(text: &str) -> String {
    let at = ["X-Amz-", "x-amz-"].iter().filter_map(|mark| text.find(mark)).min();
    match at.and_then(|at| text.get(..at)) {
        Some(harmless) => format!("{harmless}..."),
        None => text.to_owned(),
    }
}
