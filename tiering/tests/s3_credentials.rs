//! Where credentials come from, when they are fetched again, and where they never are.

use akidb_s3server::{ACCESS_KEY, Fault, REGION, S3Server, SECRET_KEY, Strike};
use akidb_tiering::{
    ObjectKey, ObjectStore, StoreErrorKind,
    s3::{Credentials, S3Settings, S3Store},
};
use akidb_vfs::{RealFs, SystemClock, SystemRandom, thread::spawn, write_file_durably};
use futures_lite::future::block_on;
use parking_lot::Mutex;
use std::{
    collections::BTreeMap,
    io::{BufRead, BufReader, Read, Write},
    net::{TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
};

/// A service that hands out credentials: answers by path, over plain HTTP, one at a time.
struct Agent {
    address: String,
    asked: Arc<Mutex<Vec<String>>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

type Answer = fn(&str) -> String;

impl Agent {
    fn start(answer: Answer) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a port of loopback");
        let address = format!("http://{}", listener.local_addr().expect("an address"));
        let (asked, stop) = (Arc::new(Mutex::new(Vec::new())), Arc::new(AtomicBool::new(false)));
        let (seen, stopped) = (asked.clone(), stop.clone());
        let serve = move || {
            for stream in listener.incoming() {
                if stopped.load(Ordering::SeqCst) {
                    return;
                }
                // Noted before the answer: whoever has that may count what was asked.
                let mut stream = stream.expect("a connection");
                let request = read_one(&stream);
                let first = request.lines().next().unwrap_or_default().to_owned();
                seen.lock().push(request);
                answer_one(&mut stream, &answer(&first));
            }
        };
        let thread = Some(spawn("agent", serve).expect("a thread"));
        Self { address, asked, stop, thread }
    }

    fn asked(&self) -> Vec<String> {
        self.asked.lock().clone()
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        let host = self.address.trim_start_matches("http://");
        drop(TcpStream::connect(host));
        if let Some(thread) = self.thread.take() {
            thread.join().expect("the agent does not panic");
        }
    }
}

/// Reads one request, its body too.
fn read_one(stream: &TcpStream) -> String {
    let mut reader = BufReader::new(stream);
    let (mut text, mut body_len) = (String::new(), 0);
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).expect("a line") <= 2 {
            break;
        }
        if let Some(len) = line.to_ascii_lowercase().strip_prefix("content-length:") {
            body_len = len.trim().parse().expect("a length");
        }
        text.push_str(&line);
    }
    let mut body = vec![0; body_len];
    reader.read_exact(&mut body).expect("the body");
    text.push_str(&String::from_utf8_lossy(&body));
    text
}

fn answer_one(stream: &mut TcpStream, body: &str) {
    let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: close", body.len());
    // A client that has gone is its own business.
    drop(stream.write_all(format!("{head}\r\n\r\n{body}").as_bytes()));
}

const FAR_END: &str = "2999-01-01T00:00:00Z";
const PAST_END: &str = "2001-01-01T00:00:00Z";

fn as_json(end: &str) -> String {
    format!(
        r#"{{"AccessKeyId":"{ACCESS_KEY}","SecretAccessKey":"{SECRET_KEY}","Expiration":"{end}"}}"#
    )
}

fn open_with(server: &S3Server, variables: &[(&str, &str)]) -> Result<S3Store, String> {
    let own = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
    let mut variables: BTreeMap<_, _> = variables.iter().map(own).collect();
    variables.entry("AWS_EC2_METADATA_DISABLED".into()).or_insert("true".into());
    let settings = S3Settings::new("rows")
        .endpoint(server.endpoint())
        .region(REGION)
        .allow_plain_http()
        .variables(variables);
    block_on(S3Store::open(settings)).map_err(|error| error.to_string())
}

fn server() -> S3Server {
    S3Server::start("rows").expect("a port of loopback")
}

#[test]
fn each_source_of_the_chain_opens_a_bucket() {
    let server = server();
    let dir = tempfile::tempdir().expect("a directory");
    let file = |name: &str, text: &str| {
        let path = dir.path().join(name);
        write_file_durably(&RealFs, &path, text.as_bytes()).expect("a file");
        path.to_string_lossy().into_owned()
    };
    let environment = [("AWS_ACCESS_KEY_ID", ACCESS_KEY), ("AWS_SECRET_ACCESS_KEY", SECRET_KEY)];
    open_with(&server, &environment).expect("from the environment");

    let profile =
        format!("[p]\naws_access_key_id={ACCESS_KEY}\naws_secret_access_key={SECRET_KEY}");
    let profile = file("credentials", &profile);
    open_with(&server, &[("AWS_SHARED_CREDENTIALS_FILE", &profile), ("AWS_PROFILE", "p")])
        .expect("from a profile");

    let sts = Agent::start(|_| {
        format!(
            "<AssumeRoleWithWebIdentityResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\">\
             <AssumeRoleWithWebIdentityResult><Credentials><AccessKeyId>{ACCESS_KEY}</AccessKeyId>\
             <SecretAccessKey>{SECRET_KEY}</SecretAccessKey><Expiration>{FAR_END}</Expiration>\
             </Credentials></AssumeRoleWithWebIdentityResult></AssumeRoleWithWebIdentityResponse>"
        )
    });
    let token = file("token", "the web token\n");
    let web = [
        ("AWS_WEB_IDENTITY_TOKEN_FILE", &*token),
        ("AWS_ROLE_ARN", "arn:aws:iam::1:role/r"),
        ("AWS_ENDPOINT_URL_STS", &*sts.address),
    ];
    open_with(&server, &web).expect("from a web identity");
    let asked = sts.asked();
    assert!(asked[0].starts_with("POST / "), "the token is not in the address: {asked:?}");
    assert!(asked[0].ends_with("WebIdentityToken=the+web+token"), "{asked:?}");

    let agent = Agent::start(|_| as_json(FAR_END));
    let url = format!("{}/v2/credentials", agent.address);
    let container = [
        ("AWS_CONTAINER_CREDENTIALS_FULL_URI", &*url),
        ("AWS_CONTAINER_AUTHORIZATION_TOKEN", "let me in"),
    ];
    open_with(&server, &container).expect("from a container's agent");
    assert_eq!(agent.asked().len(), 1, "asked once for all requests");
    assert!(agent.asked()[0].contains("authorization: let me in"));

    let metadata = Agent::start(|line| match line {
        line if line.starts_with("PUT /latest/api/token ") => "session".into(),
        line if line.contains("/security-credentials/the-role ") => as_json(FAR_END),
        _ => "the-role\n".into(),
    });
    let instance = [
        ("AWS_EC2_METADATA_SERVICE_ENDPOINT", &*metadata.address),
        ("AWS_EC2_METADATA_DISABLED", "false"),
    ];
    open_with(&server, &instance).expect("from an instance");
    let asked = metadata.asked();
    assert_eq!(asked.len(), 3);
    assert!(asked[2].contains("x-aws-ec2-metadata-token: session"), "{}", asked[2]);
}

#[test]
fn a_source_that_is_set_up_and_fails_ends_the_chain_and_is_named() {
    let server = server();
    let nothing = open_with(&server, &[]).expect_err("no credentials");
    assert!(nothing.contains("AWS_ACCESS_KEY_ID"), "{nothing}");
    let half = open_with(&server, &[("AWS_ACCESS_KEY_ID", "x")]).expect_err("half");
    assert!(half.contains("the environment"), "{half}");
    let agent = Agent::start(|_| "{\"AccessKeyId\":\"x\"}".into());
    let url = agent.address.clone();
    let short = open_with(&server, &[("AWS_CONTAINER_CREDENTIALS_FULL_URI", &url)]);
    assert!(short.expect_err("no secret").contains("container"));
    let open = [("AWS_CONTAINER_CREDENTIALS_FULL_URI", "http://192.0.2.1/credentials")];
    let far = open_with(&server, &open).expect_err("plain HTTP over the network");
    assert!(far.contains("TLS"), "{far}");
    assert_eq!(server.requests(), 0, "nothing was signed with something else");
}

#[test]
fn credentials_are_fetched_again_before_they_end_and_when_the_server_says_so() {
    let server = server();
    let ending = Agent::start(|_| as_json(PAST_END));
    let url = ending.address.clone();
    let variables = [("AWS_CONTAINER_CREDENTIALS_FULL_URI", &*url)];
    let store = open_with(&server, &variables).expect("it opens");
    let before = ending.asked().len();
    let key = ObjectKey::new("a").expect("a key");
    for _ in 0..3 {
        block_on(store.put(&key, "x".into(), Default::default())).expect("a put");
    }
    assert_eq!(ending.asked().len() - before, 3, "what has ended is fetched each time");

    let lasting = Agent::start(|_| as_json(FAR_END));
    let url = lasting.address.clone();
    let variables = [("AWS_CONTAINER_CREDENTIALS_FULL_URI", &*url)];
    let store = open_with(&server, &variables).expect("it opens");
    assert_eq!(lasting.asked().len(), 1);
    server.fail(Strike::next(1), Fault::status(400, "ExpiredToken"));
    block_on(store.put(&key, "x".into(), Default::default())).expect("a put, signed anew");
    assert_eq!(lasting.asked().len(), 2);
    server.fail(Strike::next(2), Fault::status(400, "ExpiredToken"));
    let error = block_on(store.put(&key, "x".into(), Default::default())).expect_err("only once");
    assert_eq!(error.kind, StoreErrorKind::PermissionDenied, "{error}");
}

/// Everything that anything logs in this process.
struct Logged(Mutex<String>);

impl log::Log for Logged {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        let mut text = self.0.lock();
        text.push_str(&format!("{} {}\n", record.target(), record.args()));
    }

    fn flush(&self) {}
}

static LOGGED: Logged = Logged(Mutex::new(String::new()));

/// An address of a request is signed, so whoever reads it in a log can send the request.
#[test]
fn nothing_that_is_logged_or_shown_holds_a_secret() {
    log::set_logger(&LOGGED).expect("the only logger of this process");
    log::set_max_level(log::LevelFilter::Trace);
    let server = server();
    let token = "a-session-token-that-no-log-may-hold";
    let settings = S3Settings::new("rows")
        .endpoint(server.endpoint().replace("http://", "http://user:pass-in-address@"))
        .region(REGION)
        .allow_plain_http()
        .variables(BTreeMap::new())
        .credentials(Credentials::new(ACCESS_KEY, SECRET_KEY).with_token(token));
    let mut shown = format!("{settings:?}");
    let clock = Arc::new(SystemClock::new());
    let random = Arc::new(SystemRandom::new());
    let opened = block_on(S3Store::open_on(settings.clone(), Arc::new(RealFs), clock, random));
    let store = opened.expect("it opens");
    shown.push_str(&format!("{store:?}"));
    let key = ObjectKey::new("a").expect("a key");
    for fault in [
        Fault::reset_before(),
        Fault::reset_after(),
        Fault::status(403, "SignatureDoesNotMatch"),
        Fault::status(500, "https://x/?X-Amz-Signature=0123"),
        Fault::truncated(),
    ] {
        server.fail(Strike::next(1), fault);
        if let Err(error) = block_on(store.get(&key)) {
            shown.push_str(&format!("{error}\n{error:?}\n"));
        }
    }
    let wrong = settings.credentials(Credentials::new(ACCESS_KEY, "another-secret"));
    let error = block_on(S3Store::open(wrong)).expect_err("a wrong secret");
    shown.push_str(&format!("{error}\n{error:?}\n"));
    let logged = LOGGED.0.lock().clone();
    assert!(
        logged.contains("reqwest") || logged.contains("hyper"),
        "the client logs: {logged:.200}"
    );
    for secret in [SECRET_KEY, token, "another-secret", "X-Amz-Signature", "pass-in-address"] {
        for (where_, text) in [("shown", &shown), ("logged", &logged)] {
            let line = text.lines().find(|line| line.contains(secret));
            assert_eq!(line, None, "{secret} is {where_}");
        }
    }
}
