//! One request at a time from here to the server and back: signing, sending, waiting, reading.
//!
//! Owns the HTTP client with its pool, the thread that drives its sockets, the offset of the
//! server's clock, and every timeout. Never retries what may have happened: a request is sent again
//! only if the server refused its signature for its time or for credentials that have ended, which
//! changed nothing. Called by the verbs in `objects` and `uploads`.

use super::{
    credentials::{Provider, World},
    errors::{About, Said, http_date},
    settings::{S3Settings, Timeouts},
    sign::Request,
    tls, without_address,
};
use crate::{StoreError, StoreErrorKind, StoreResult};
use akidb_vfs::{Clock, Fs, Random, thread};
use bytes::{Bytes, BytesMut};
use reqwest::{StatusCode, header::HeaderMap};
use rusty_s3::Bucket;
use std::{
    future::Future,
    io,
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    thread::JoinHandle,
    time::Duration,
};
use tokio::{runtime, sync::oneshot, time::timeout};

/// What a server says about a failure, or in a listing, is shorter.
pub(super) const TEXT_BYTES_MAX: u64 = 16 << 20;

/// Clocks this close are not why a signature was refused: servers allow for some minutes.
const SKEW_MIN: Duration = Duration::from_secs(60);

/// The answer of a server that is no failure.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
}

impl Answer {
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }
}

/// How to wait for an answer, and how much of it to read.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reading {
    pub(super) bytes_max: u64,
    /// For the answer to begin; the default follows from the size of the request.
    pub(super) begin: Option<Duration>,
}

impl Reading {
    pub(super) const TEXT: Self = Self { bytes_max: TEXT_BYTES_MAX, begin: None };
}

pub(super) struct Client {
    http: reqwest::Client,
    pub(super) bucket: Bucket,
    credentials: Provider,
    clock: Arc<dyn Clock>,
    /// What to add to our clock to get the server's, in milliseconds.
    clock_offset: AtomicI64,
    pub(super) timeouts: Timeouts,
}

/// What the client needs of the machine.
#[derive(Clone, Debug)]
pub(super) struct Machine {
    pub(super) fs: Arc<dyn Fs>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) random: Arc<dyn Random>,
}

impl Client {
    pub(super) fn new(settings: &S3Settings, machine: &Machine) -> Result<Self, String> {
        let bucket = settings.bucket()?;
        let tls = tls::config(machine.fs.as_ref(), settings.ca_file.as_deref())?;
        let http = reqwest::Client::builder()
            .tls_backend_preconfigured(tls)
            .http1_only()
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            // Ours are the retries, and they know what may have happened.
            .retry(reqwest::retry::never())
            .connect_timeout(settings.timeouts.connect)
            .pool_max_idle_per_host(settings.idle_connections)
            .pool_idle_timeout(settings.idle_connection_life)
            .tcp_nodelay(true)
            .build()
            .map_err(without_address)?;
        let world = World {
            variables: settings.variables.clone(),
            fs: machine.fs.clone(),
            clock: machine.clock.clone(),
            random: machine.random.clone(),
            http: http.clone(),
            region: settings.effective_region(),
        };
        Ok(Self {
            http,
            bucket,
            credentials: Provider::new(settings.credentials.clone(), world),
            clock: machine.clock.clone(),
            clock_offset: AtomicI64::new(0),
            timeouts: settings.timeouts,
        })
    }

    /// Sends a request and returns the answer if its status says that it went well.
    pub(super) async fn send(
        &self,
        request: &Request,
        about: &About<'_>,
        reading: Reading,
    ) -> StoreResult<Answer> {
        let mut corrected = false;
        loop {
            let credentials = self.credentials.get().await?;
            let answer = self.send_once(request, &credentials, about, reading).await?;
            if answer.status.is_success() {
                return Ok(answer);
            }
            let said = Said::of(answer.status, &answer.headers, &answer.body);
            // Of an address that is not valid yet or any more, most servers only say that it is.
            let again = match said.status {
                _ if corrected => false,
                400 | 403 if said.code == "ExpiredToken" => {
                    self.credentials.expired(&credentials).await
                }
                400 | 403 => self.learn_clock(&answer),
                _ => false,
            };
            if !again {
                return Err(said.into_error(about, &answer.headers));
            }
            corrected = true;
        }
    }

    async fn send_once(
        &self,
        request: &Request,
        credentials: &super::Credentials,
        about: &About<'_>,
        reading: Reading,
    ) -> StoreResult<Answer> {
        let now = self.our_time().saturating_add(self.clock_offset.load(Ordering::Relaxed));
        let unsigned = || {
            let error = about.refused(StoreErrorKind::Misconfigured);
            error.with_source("the clock is out of the range of dates")
        };
        let url = request.url(&self.bucket, credentials, now).ok_or_else(unsigned)?;
        let method = reqwest::Method::from_bytes(request.method.to_str().as_bytes());
        let mut builder = self.http.request(method.unwrap_or(reqwest::Method::GET), url);
        for (name, value) in request.headers() {
            builder = builder.header(name, value);
        }
        if request.body.is_empty() {
            // Servers refuse a body of unknown length, which is what no header means to some.
            builder = builder.header("content-length", "0");
        } else {
            builder = builder.body(request.body.clone());
        }
        let sent = request.body.len() as u64;
        let begin = reading.begin.unwrap_or_else(|| self.timeouts.transfer(sent));
        let response = match timeout(begin, builder.send()).await {
            Ok(Ok(response)) => response,
            Ok(Err(error)) => return Err(not_sent(about, error)),
            Err(_) => return Err(no_answer(about, begin)),
        };
        let (status, headers) = (response.status(), response.headers().clone());
        let limit = if status.is_success() { reading.bytes_max } else { TEXT_BYTES_MAX };
        let body = self.read(response, limit, about).await?;
        Ok(Answer { status, headers, body })
    }

    async fn read(
        &self,
        mut response: reqwest::Response,
        bytes_max: u64,
        about: &About<'_>,
    ) -> StoreResult<Bytes> {
        let told = response.content_length().unwrap_or(0);
        if told > bytes_max {
            return Err(too_long(about, told));
        }
        let read = async {
            let mut body = BytesMut::with_capacity(usize::try_from(told).unwrap_or(0));
            loop {
                match timeout(self.timeouts.idle, response.chunk()).await {
                    Ok(Ok(Some(chunk))) => body.extend_from_slice(&chunk),
                    Ok(Ok(None)) => return Ok(body.freeze()),
                    Ok(Err(error)) => return Err(cut(about, error)),
                    Err(_) => return Err(no_answer(about, self.timeouts.idle)),
                }
                if body.len() as u64 > bytes_max {
                    return Err(too_long(about, body.len() as u64));
                }
            }
        };
        // A server that sends a byte a second is never idle, and never done.
        let whole = self.timeouts.transfer(told.max(64 << 10));
        timeout(whole, read).await.unwrap_or_else(|_| Err(no_answer(about, whole)))
    }

    /// Learns the server's clock from an answer. Returns false if it is not far from what requests
    /// are signed with.
    fn learn_clock(&self, answer: &Answer) -> bool {
        let Some(theirs) = answer.header("date").and_then(http_date) else { return false };
        let offset = theirs.saturating_mul(1_000).saturating_sub(self.our_time());
        let before = self.clock_offset.load(Ordering::Relaxed);
        if offset.saturating_sub(before).unsigned_abs() < SKEW_MIN.as_millis() as u64 {
            return false;
        }
        self.clock_offset.store(offset, Ordering::Relaxed);
        true
    }

    /// Milliseconds since 1970 by our clock.
    fn our_time(&self) -> i64 {
        i64::try_from(self.clock.unix_ms()).unwrap_or(i64::MAX)
    }
}

fn not_sent(about: &About<'_>, error: reqwest::Error) -> StoreError {
    let kind =
        if is_tls(&error) { StoreErrorKind::Misconfigured } else { StoreErrorKind::Unavailable };
    // Without a connection nothing was sent.
    let found = if error.is_connect() { about.refused(kind) } else { about.lost(kind) };
    found.with_source(without_address(error))
}

/// True if the other side is not whom we trust, which no retry changes.
fn is_tls(error: &reqwest::Error) -> bool {
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        let inner = cause.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        let tls = inner.and_then(|inner| inner.downcast_ref::<rustls::Error>());
        if let Some(rustls::Error::InvalidCertificate(_)) = tls.or_else(|| cause.downcast_ref()) {
            return true;
        }
        source = cause.source();
    }
    false
}

fn no_answer(about: &About<'_>, waited: Duration) -> StoreError {
    let error = about.lost(StoreErrorKind::Unavailable);
    error.with_source(format!("no answer within {} ms", waited.as_millis()))
}

fn cut(about: &About<'_>, error: reqwest::Error) -> StoreError {
    let found = about.lost(StoreErrorKind::Unavailable);
    found.with_source(format!("the answer was cut short: {}", without_address(error)))
}

fn too_long(about: &About<'_>, bytes: u64) -> StoreError {
    let error = about.lost(StoreErrorKind::Corrupt);
    error.with_source(format!("an answer of {bytes} bytes is longer than can be"))
}

/// The thread that drives the sockets, for callers without a runtime or with another one.
#[derive(Debug)]
pub(super) struct Driver {
    handle: runtime::Handle,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Driver {
    pub(super) fn start() -> io::Result<Self> {
        let runtime = runtime::Builder::new_current_thread()
            .enable_all()
            .thread_name("akidb-s3-dns")
            .build()?;
        let handle = runtime.handle().clone();
        let (stop, stopped) = oneshot::channel();
        let thread = thread::spawn("s3", move || {
            // An error says that the sender is gone, which is the same wish.
            drop(runtime.block_on(stopped));
            // Look-ups of names cannot be cut short and nobody waits for them.
            runtime.shutdown_background();
        })?;
        Ok(Self { handle, stop: Some(stop), thread: Some(thread) })
    }

    /// Runs a future on the thread. Dropping the returned one ends it there too, so that a caller
    /// that gave up holds no connection.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        work: impl Future<Output = T> + Send + 'static,
    ) -> Result<T, StoreError> {
        let mut task = AbortOnDrop(self.handle.spawn(work));
        (&mut task.0).await.map_err(|error| {
            let kind = StoreErrorKind::Unavailable;
            let mut lost = StoreError::listing(kind).with_source(error.to_string());
            lost.outcome = crate::Outcome::Unknown;
            lost
        })
    }
}

struct AbortOnDrop<T>(tokio::task::JoinHandle<T>);

impl<T> Drop for AbortOnDrop<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // A panic there was reported by its own hook, and nothing is left to undo.
            drop(thread.join());
        }
    }
}
