//! The store over S3 against a real HTTP server on loopback: the contract, what it does when the
//! network fails, when the settings are wrong, and when the server keeps less than it says.
//!
//! The server runs in this process, but its protocol and signatures are of other makers than ours.
//! `scripts/s3-real.sh` runs the same contract against servers of others altogether.

use akidb_s3server::{ACCESS_KEY, Fault, REGION, S3Server, SECRET_KEY, Strike};
use akidb_tiering::{
    ObjectKey, ObjectStore, Outcome, PutCondition, PutId, PutOptions, StoreError, StoreErrorKind,
    UploadOptions, contract, put_verified,
    s3::{Credentials, Encryption, S3Settings, S3Store, Timeouts},
};
use akidb_vfs::{RealFs, SystemRandom, sim::SimClock};
use bytes::Bytes;
use futures_lite::future::block_on;
use std::{collections::BTreeMap, sync::Arc, time::Duration};

fn server() -> S3Server {
    S3Server::start("rows").expect("a port of loopback")
}

fn settings(server: &S3Server) -> S3Settings {
    S3Settings::new("rows")
        .endpoint(server.endpoint())
        .region(REGION)
        .allow_plain_http()
        .credentials(Credentials::new(ACCESS_KEY, SECRET_KEY))
        .variables(BTreeMap::new())
}

fn open(server: &S3Server) -> S3Store {
    block_on(S3Store::open(settings(server))).expect("the server is there")
}

/// With waits so short that a server that hangs is noticed at once.
fn hurried(server: &S3Server) -> S3Store {
    let short = Duration::from_millis(300);
    let timeouts = Timeouts { idle: short, complete: short, ..Timeouts::default() };
    block_on(S3Store::open(settings(server).timeouts(timeouts))).expect("the server is there")
}

fn key(text: &str) -> ObjectKey {
    ObjectKey::new(text).expect("a valid key")
}

fn put(store: &S3Store, name: &str, body: &'static [u8]) -> Result<(), StoreError> {
    let body = Bytes::from_static(body);
    block_on(store.put(&key(name), body, PutOptions::default())).map(drop)
}

fn has(store: &S3Store, name: &str) -> bool {
    block_on(store.head(&key(name))).is_ok()
}

#[test]
fn the_store_over_s3_keeps_the_contract() {
    let server = server();
    let store = open(&server);
    assert_eq!(store.capabilities().missing(), [""; 0], "this server can do everything");
    block_on(contract::run(&store));
    assert_eq!((server.objects(), server.uploads()), (0, 0), "nothing is left behind");
}

#[test]
fn two_prefixes_of_one_bucket_do_not_see_each_other() {
    let server = server();
    let open = |prefix: &str| block_on(S3Store::open(settings(&server).prefix(prefix)));
    let (one, two) = (open("db/one").expect("it opens"), open("db/two/").expect("it opens"));
    put(&one, "a", b"1").expect("a put");
    assert!(has(&one, "a") && !has(&two, "a"));
    block_on(contract::run(&two));
    let listed = block_on(one.list("", None, 10)).expect("a listing").objects;
    assert_eq!(listed.iter().map(|object| object.key.as_str()).collect::<Vec<_>>(), ["a"]);
    assert_eq!(server.objects(), 1);
}

#[test]
fn every_put_carries_its_checksum_and_one_connection_serves_many() {
    let server = server();
    let store = open(&server);
    let before = server.seen().len();
    for _ in 0..20 {
        put(&store, "a", b"body").expect("a put");
    }
    let seen = server.seen();
    let puts = &seen[before..];
    assert_eq!(puts.len(), 20);
    for one in puts {
        let sum = one.headers.iter().any(|header| header.starts_with("x-amz-checksum-crc32: "));
        assert!(sum, "{one:?}");
    }
    // The probe's racing creates open some.
    assert!(server.connections() <= 12, "{} connections", server.connections());
}

#[test]
fn ranges_that_lie_close_share_a_request() {
    let server = server();
    let store = open(&server);
    let body: Vec<u8> = (0..1_000_000_u32).map(|n| (n % 251) as u8).collect();
    let name = key("ranged");
    block_on(store.put(&name, body.clone().into(), PutOptions::default())).expect("a put");
    let ranges = |asked: &[std::ops::Range<u64>]| {
        let before = server.requests();
        let parts = block_on(store.get_ranges(&name, asked)).expect("the ranges");
        for (range, part) in asked.iter().zip(parts) {
            assert_eq!(part, body[range.start as usize..range.end as usize], "{range:?}");
        }
        server.requests() - before
    };
    assert_eq!(ranges(&[100..200, 0..50, 300..4_000]), 1, "close ones share");
    assert_eq!(ranges(&[0..10, 500_000..500_010, 999_990..1_000_000]), 3, "far ones do not");
    let many: Vec<_> = (0..400).map(|n| n * 2_500..n * 2_500 + 100).collect();
    assert_eq!(ranges(&many), 1);
}

#[test]
fn encryption_is_asked_for_with_each_object() {
    let server = server();
    for (encryption, wanted) in
        [(Encryption::Aes256, "AES256"), (Encryption::Kms(Some("key-7".into())), "aws:kms")]
    {
        let store = block_on(S3Store::open(settings(&server).encryption(encryption)));
        let store = store.expect("it opens");
        put(&store, "whole", b"1").expect("a put");
        let parts = store.multipart().expect("parts");
        let upload = block_on(parts.create(&key("parts"), UploadOptions::default()));
        let upload = upload.expect("an upload");
        let part = block_on(parts.put_part(&upload, 1, "x".into())).expect("a part");
        block_on(parts.complete(&upload, &[part], PutCondition::Any)).expect("an object");
        for name in ["whole", "parts"] {
            assert_eq!(server.encryption_of(name).as_deref(), Some(wanted), "{name}");
        }
    }
    let kms = server.seen().into_iter().flat_map(|seen| seen.headers);
    let named = |header: &String| header.ends_with("kms-key-id: key-7");
    assert!(kms.into_iter().any(|header| named(&header)));
}

/// A fault, and what a put that is struck by it must say: how it failed, whether it may have
/// happened, and whether it did.
#[test]
fn each_fault_of_the_network_has_its_outcome() {
    use StoreErrorKind::{PermissionDenied, Throttled, Unavailable};
    let server = server();
    let store = hurried(&server);
    let long = Duration::from_secs(60);
    let cases = [
        (Fault::status(503, "SlowDown").retry_after(7), Throttled, Outcome::Unknown, false),
        (Fault::status(429, "TooManyRequests"), Throttled, Outcome::NotDone, false),
        (Fault::status(500, "InternalError"), Unavailable, Outcome::Unknown, false),
        (Fault::status(403, "AccessDenied"), PermissionDenied, Outcome::NotDone, false),
        (
            Fault::status(409, "ConditionalRequestConflict"),
            StoreErrorKind::Conflict,
            Outcome::NotDone,
            false,
        ),
        (Fault::reset_before(), Unavailable, Outcome::Unknown, false),
        (Fault::reset_after(), Unavailable, Outcome::Unknown, true),
        (Fault::hang_before(long), Unavailable, Outcome::Unknown, false),
        (Fault::hang_after(long), Unavailable, Outcome::Unknown, true),
    ];
    for (number, (fault, kind, outcome, done)) in cases.into_iter().enumerate() {
        let name = format!("case/{number}");
        let told = format!("{number}: {fault:?}");
        server.fail(Strike::next(1).of("PUT"), fault);
        let error = put(&store, &name, b"body").expect_err(&told);
        assert_eq!((error.kind, error.outcome), (kind, outcome), "{told}: {error}");
        assert_eq!(has(&store, &name), done, "{told}");
        if kind == Throttled && outcome == Outcome::Unknown {
            assert_eq!(error.retry_after, Some(Duration::from_secs(7)));
        }
    }
}

#[test]
fn a_read_that_is_cut_short_or_refused_is_never_taken_for_the_object() {
    let server = server();
    let store = hurried(&server);
    put(&store, "a", b"the whole body").expect("a put");
    let get = || block_on(store.get(&key("a")));
    for fault in [
        Fault::truncated(),
        Fault::reset_before(),
        Fault::slow_body(Duration::from_secs(60)),
        Fault::status(500, "InternalError"),
    ] {
        let told = format!("{fault:?}");
        server.fail(Strike::next(1).of("GET"), fault);
        let error = get().expect_err(&told);
        assert_eq!(error.kind, StoreErrorKind::Unavailable, "{told}: {error}");
        assert_eq!(error.outcome, Outcome::NotDone, "a read changes nothing");
    }
    server.fail(Strike::next(1).of("GET"), Fault::slow_body(Duration::from_millis(50)));
    assert_eq!(get().expect("slow is not lost").body, "the whole body");
    assert!(server.damage("a"));
    assert_eq!(get().expect_err("other bytes").kind, StoreErrorKind::Corrupt);
}

/// The rows were put, the answer was lost, and the caller would have put them again or, worse, given
/// up on what is there.
#[test]
fn a_verified_put_reads_back_what_came_of_a_lost_answer() {
    let server = server();
    let store = open(&server);
    let put = |name: &str, options: PutOptions| {
        block_on(put_verified(&store, &key(name), Bytes::from_static(b"rows"), options))
    };
    let marked = || PutOptions::if_absent().with_put_id(PutId::new(77));
    server.fail(Strike::next(1).of("PUT"), Fault::reset_after());
    let receipt = put("a", marked()).expect("it is there, and ours by its mark");
    assert_eq!(block_on(store.head(&key("a"))).expect("a head").etag, receipt.etag);

    server.fail(Strike::next(1).of("PUT"), Fault::reset_before());
    let error = put("b", marked()).expect_err("it is not there");
    assert_eq!(error.outcome, Outcome::Unknown);

    // Another writer's object of the same bytes is not ours.
    put("c", PutOptions::if_absent().with_put_id(PutId::new(78))).expect("another writer");
    server.fail(Strike::next(1).of("PUT"), Fault::reset_before());
    let error = put("c", marked()).expect_err("it is another's");
    assert_eq!(error.outcome, Outcome::Unknown);
}

#[test]
fn a_complete_that_fails_within_a_200_or_unheard_is_unknown() {
    let server = server();
    let store = hurried(&server);
    let parts = store.multipart().expect("parts");
    let upload = |name: &str| {
        let upload = block_on(parts.create(&key(name), UploadOptions::default()));
        let upload = upload.expect("an upload");
        let part = block_on(parts.put_part(&upload, 1, "part".into())).expect("a part");
        (upload, part)
    };
    for (name, fault, done) in [
        ("inside", Fault::error_inside(), false),
        ("lost", Fault::reset_after(), true),
        ("late", Fault::hang_after(Duration::from_secs(60)), true),
    ] {
        let (upload, part) = upload(name);
        server.fail(Strike::next(1).of("POST"), fault);
        let parts_of = [part];
        let ended = block_on(parts.complete(&upload, &parts_of, PutCondition::Any));
        let error = ended.expect_err(name);
        assert_eq!(error.outcome, Outcome::Unknown, "{name}: {error}");
        assert_eq!(has(&store, name), done, "{name}");
        let again = block_on(parts.complete(&upload, &parts_of, PutCondition::Any));
        let ended = again.map(drop).map_err(|error| error.kind);
        assert_eq!(ended, if done { Err(StoreErrorKind::NoSuchUpload) } else { Ok(()) }, "{name}");
    }
}

#[test]
fn a_delete_that_fails_within_a_200_is_not_taken_for_done() {
    let server = server();
    let store = hurried(&server);
    block_on(store.put(&key("a"), "rows".into(), PutOptions::default())).expect("a put");
    server.fail(Strike::next(1).of("DELETE"), Fault::error_inside());
    let error = block_on(store.delete(&key("a"))).expect_err("it is still there");
    assert_eq!(error.outcome, Outcome::Unknown, "{error}");
    assert!(has(&store, "a"));
    block_on(store.delete(&key("a"))).expect("a delete");
    assert!(!has(&store, "a"));
}

fn refused(settings: S3Settings) -> StoreError {
    let error = block_on(S3Store::open(settings)).expect_err("it must not open");
    assert_eq!(error.outcome, Outcome::NotDone, "{error}");
    error
}

#[test]
fn wrong_settings_are_told_when_the_bucket_is_opened() {
    use StoreErrorKind::{Misconfigured, PermissionDenied, Unavailable};
    let server = server();
    let good = || settings(&server);
    let wrong_bucket = S3Settings::new("other").endpoint(server.endpoint()).allow_plain_http();
    let wrong_bucket = wrong_bucket
        .credentials(Credentials::new(ACCESS_KEY, SECRET_KEY))
        .variables(BTreeMap::new());
    let cases = [
        ("bucket", wrong_bucket, Misconfigured),
        ("secret", good().credentials(Credentials::new(ACCESS_KEY, "wrong")), PermissionDenied),
        ("key id", good().credentials(Credentials::new("wrong", SECRET_KEY)), PermissionDenied),
        ("endpoint", good().endpoint("not an address"), Misconfigured),
        ("nobody there", good().endpoint("http://127.0.0.1:9"), Unavailable),
        (
            "TLS to a plain port",
            good().endpoint(server.endpoint().replace("http", "https")),
            Unavailable,
        ),
        ("CA file", good().ca_file("/nowhere/ca.pem"), Misconfigured),
        ("prefix", good().prefix("../other"), Misconfigured),
    ];
    for (what, settings, kind) in cases {
        let error = refused(settings);
        assert_eq!(error.kind, kind, "{what}: {error}");
    }
    let plain = S3Settings::new("rows").endpoint(server.endpoint()).variables(BTreeMap::new());
    let error = refused(plain);
    assert_eq!(error.kind, Misconfigured);
    assert!(error.to_string().contains("TLS"), "{error}");
    assert_eq!(server.objects(), 0, "nothing was changed");
}

/// A machine whose clock is months behind signs addresses that have ended long ago. The server's
/// own date is in its refusal; with it the same request is signed again, once.
#[test]
fn a_wrong_clock_is_corrected_by_the_servers() {
    let server = server();
    let (fs, clock) = (Arc::new(RealFs), Arc::new(SimClock::new()));
    let random = Arc::new(SystemRandom::from_seed(1));
    let store = block_on(S3Store::open_on(settings(&server), fs, clock, random));
    let store = store.expect("the clock is corrected");
    put(&store, "a", b"1").expect("a put");
    let before = server.requests();
    put(&store, "a", b"2").expect("a put");
    assert_eq!(server.requests() - before, 1, "the offset is remembered");
    let listed = block_on(store.list("", None, 1)).expect("a listing");
    let age = listed.objects[0].age.expect("ages are the server's");
    assert!(age < Duration::from_secs(3600), "{age:?}");
}

/// Servers that answer 200 to a conditional put and do not look at the condition: two writers would
/// both believe to have won.
#[test]
fn conditions_that_the_server_ignores_are_not_promised_and_not_sent() {
    let server = server();
    server.ignore_conditions();
    let store = open(&server);
    let can = store.capabilities();
    assert_eq!(can.missing(), ["if-absent", "if-match", "conditional-complete"]);
    assert!(can.require_multi_writer().is_err());
    let before = server.requests();
    let body = Bytes::from_static(b"x");
    let error = block_on(store.put(&key("a"), body, PutOptions::if_absent()));
    let error = error.expect_err("it could not be kept");
    assert_eq!((error.kind, error.outcome), (StoreErrorKind::Unsupported, Outcome::NotDone));
    assert_eq!(server.requests(), before, "nothing was sent");
    block_on(contract::run(&store));
}

/// Servers that take any checksum and return what was claimed: the head of a damaged object would
/// say that all is well.
#[test]
fn without_checksums_a_head_reads_the_object() {
    let server = server();
    server.ignore_checksums();
    let store = open(&server);
    assert_eq!(store.capabilities().missing(), ["checksums"]);
    block_on(contract::run(&store));
    put(&store, "a", b"as it was put").expect("a put");
    assert!(server.damage("a"));
    let head = block_on(store.head(&key("a"))).expect("a head");
    assert_ne!(head.crc32, crc32fast::hash(b"as it was put"), "the sum of what is stored");
}

#[test]
fn a_dropped_store_and_a_dropped_call_leave_nobody_waiting() {
    let server = server();
    let store = open(&server);
    server.set_latency(Duration::from_secs(3600));
    let name = key("a");
    let mut call = store.head(&name);
    let waker = std::task::Waker::noop();
    assert!(call.as_mut().poll(&mut std::task::Context::from_waker(waker)).is_pending());
    drop(call);
    drop(store);
}
