//! The server: a thread, a listener, and what every request goes through before S3 sees it.

use crate::{
    Fault, Strike,
    backend::{Api, Backend},
    body::Out,
    faults::{Kind, Plan},
};
use akidb_vfs::thread;
use hyper::{
    Request, Response, StatusCode,
    body::Incoming,
    header::{CONTENT_TYPE, HeaderValue, RETRY_AFTER},
    server::conn::http1,
    service::{Service, service_fn},
};
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use s3s::{
    auth::SimpleAuth,
    service::{S3Service, S3ServiceBuilder},
};
use std::{
    io,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::JoinHandle,
    time::Duration,
};
use tokio::{net::TcpListener, runtime, sync::oneshot};

/// The key id that the server knows.
pub const ACCESS_KEY: &str = "akidb-test-id";
/// The secret of that id.
pub const SECRET_KEY: &str = "akidb-test-secret-that-no-log-may-hold";
/// The region that the server says it is in.
pub const REGION: &str = "loopback-1";

/// A request that came in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// Its method.
    pub method: String,
    /// Path and query, without the part that signs it.
    pub target: String,
    /// Headers that begin with `x-amz-`, and conditions, as `name: value`.
    pub headers: Vec<String>,
}

/// A server that runs until it is dropped.
#[derive(Debug)]
pub struct S3Server {
    address: SocketAddr,
    shared: Arc<Shared>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    backend: Arc<Backend>,
    plan: Plan,
    seen: Mutex<Vec<Seen>>,
    records: AtomicBool,
    requests: AtomicU64,
    connections: AtomicU64,
}

/// A connection that is to be closed without an answer.
#[derive(Debug)]
struct Closed;

impl std::fmt::Display for Closed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("closed on request")
    }
}

impl std::error::Error for Closed {}

impl S3Server {
    /// Starts a server with one bucket of this name, on a free port of loopback.
    ///
    /// # Errors
    /// The system's error when it gives no port or no thread.
    pub fn start(bucket: &str) -> io::Result<Self> {
        let backend = Arc::new(Backend::new(bucket));
        let mut builder = S3ServiceBuilder::new(Api(backend.clone()));
        builder.set_auth(SimpleAuth::from_single(ACCESS_KEY, SECRET_KEY));
        let service = builder.build();
        let shared = Arc::new(Shared {
            backend,
            plan: Plan::new(),
            seen: Mutex::default(),
            records: AtomicBool::new(true),
            requests: AtomicU64::new(0),
            connections: AtomicU64::new(0),
        });
        let listener = std::net::TcpListener::bind(("127.0.0.1", 0))?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
        let (stop, stopped) = oneshot::channel();
        let accepting = shared.clone();
        let thread = thread::spawn("s3-server", move || {
            runtime.spawn(async move {
                // The system gave the socket already; this only hands it to the runtime.
                if let Ok(listener) = TcpListener::from_std(listener) {
                    accept(listener, service, accepting).await;
                }
            });
            drop(runtime.block_on(stopped));
        })?;
        Ok(Self { address, shared, stop: Some(stop), thread: Some(thread) })
    }

    /// The address, without a path.
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Lets a fault strike requests from now on.
    pub fn fail(&self, strike: Strike, fault: Fault) {
        self.shared.plan.add(strike, fault);
    }

    /// No faults from now on. Latency stays.
    pub fn heal(&self) {
        self.shared.plan.heal();
    }

    /// Ignores the conditions of puts from now on, without an error, as some servers do.
    pub fn ignore_conditions(&self) {
        self.shared.backend.ignores_conditions.store(true, Ordering::Relaxed);
    }

    /// Neither verifies nor keeps checksums from now on, as some servers do.
    pub fn ignore_checksums(&self) {
        self.shared.backend.ignores_checksums.store(true, Ordering::Relaxed);
    }

    /// Lets each request wait this long before anything is done.
    pub fn set_latency(&self, latency: Duration) {
        self.shared.plan.set_latency(latency);
    }

    /// The requests so far, unless [`S3Server::stop_recording`] was called before them.
    pub fn seen(&self) -> Vec<Seen> {
        self.shared.seen.lock().clone()
    }

    /// Remembers no more requests: for measurements.
    pub fn stop_recording(&self) {
        self.shared.records.store(false, Ordering::Relaxed);
    }

    /// How many requests came in.
    pub fn requests(&self) -> u64 {
        self.shared.requests.load(Ordering::Relaxed)
    }

    /// How many connections were accepted.
    pub fn connections(&self) -> u64 {
        self.shared.connections.load(Ordering::Relaxed)
    }

    /// How many objects there are.
    pub fn objects(&self) -> usize {
        self.shared.backend.objects()
    }

    /// How many uploads in parts are under way.
    pub fn uploads(&self) -> usize {
        self.shared.backend.uploads()
    }

    /// Changes the stored bytes of an object behind its back. Returns false if there is none.
    pub fn damage(&self, key: &str) -> bool {
        self.shared.backend.damage(key)
    }

    /// How an object is encrypted, as its put asked for.
    pub fn encryption_of(&self, key: &str) -> Option<String> {
        self.shared.backend.encryption_of(key)
    }
}

impl Drop for S3Server {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // A panic there was reported by its own hook.
            drop(thread.join());
        }
    }
}

async fn accept(listener: TcpListener, service: S3Service, shared: Arc<Shared>) {
    loop {
        let Ok((socket, _)) = listener.accept().await else { continue };
        shared.connections.fetch_add(1, Ordering::Relaxed);
        // Else each short answer waits 40 ms for the client's acknowledgement of the one before.
        drop(socket.set_nodelay(true));
        let (service, shared) = (service.clone(), shared.clone());
        tokio::spawn(async move {
            let serve = service_fn(move |request| {
                let (service, shared) = (service.clone(), shared.clone());
                async move { shared.serve(&service, request).await }
            });
            // How a connection ends is the client's business.
            drop(http1::Builder::new().serve_connection(TokioIo::new(socket), serve).await);
        });
    }
}

impl Shared {
    async fn serve(
        &self,
        service: &S3Service,
        request: Request<Incoming>,
    ) -> Result<Response<Out>, Closed> {
        let seen = self.record(&request);
        let latency = self.plan.latency();
        if !latency.is_zero() {
            tokio::time::sleep(latency).await;
        }
        let fault = self.plan.decide(&seen.0, &seen.1);
        match fault.as_ref().map(|fault| fault.kind) {
            None => run(service, request).await.map(|answer| answer.map(Out::whole)),
            Some(Kind::Status(status, code)) => {
                Ok(refusal(status, code, fault.and_then(|fault| fault.retry_after)))
            }
            Some(Kind::ErrorInside) => Ok(refusal(200, "InternalError", None)),
            Some(Kind::ResetBefore) => Err(Closed),
            Some(Kind::ResetAfter) => {
                drop(run(service, request).await);
                Err(Closed)
            }
            Some(Kind::HangBefore(wait)) => {
                tokio::time::sleep(wait).await;
                Err(Closed)
            }
            Some(Kind::HangAfter(wait)) => {
                drop(run(service, request).await);
                tokio::time::sleep(wait).await;
                Err(Closed)
            }
            Some(Kind::Truncated) => run(service, request).await.map(|answer| answer.map(Out::cut)),
            Some(Kind::SlowBody(wait)) => {
                run(service, request).await.map(|answer| answer.map(|body| Out::late(body, wait)))
            }
        }
    }

    /// Remembers a request, and returns its method and target.
    fn record(&self, request: &Request<Incoming>) -> (String, String) {
        self.requests.fetch_add(1, Ordering::Relaxed);
        let method = request.method().as_str().to_owned();
        let unsigned = |query: &str| {
            let kept = query.split('&').filter(|pair| !pair.starts_with("X-Amz-"));
            kept.collect::<Vec<_>>().join("&")
        };
        let query = request.uri().query().map(unsigned).unwrap_or_default();
        let target = format!("{}?{query}", request.uri().path());
        let target = target.trim_end_matches('?').to_owned();
        if self.records.load(Ordering::Relaxed) {
            let interesting = |name: &str| name.starts_with("x-amz-") || name.starts_with("if-");
            let headers = request.headers().iter().filter(|(name, _)| interesting(name.as_str()));
            let headers = headers
                .map(|(name, value)| format!("{name}: {}", value.to_str().unwrap_or_default()))
                .collect();
            let seen = Seen { method: method.clone(), target: target.clone(), headers };
            self.seen.lock().push(seen);
        }
        (method, target)
    }
}

async fn run(
    service: &S3Service,
    request: Request<Incoming>,
) -> Result<Response<s3s::Body>, Closed> {
    Service::call(service, request).await.map_err(|_| Closed)
}

/// An answer in the form of S3's errors.
fn refusal(status: u16, code: &str, retry_after: Option<u64>) -> Response<Out> {
    let text = format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?><Error><Code>{code}</Code>\
         <Message>injected</Message></Error>"
    );
    let mut response = Response::new(Out::whole(s3s::Body::from(text)));
    *response.status_mut() =
        StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/xml"));
    if let Some(seconds) = retry_after {
        headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
    }
    response
}
