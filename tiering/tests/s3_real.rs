//! The store over S3 against servers of others, which `scripts/s3-real.sh` installs and starts. Not
//! part of the ordinary tests: each test here is ignored, and fails when it is asked for and the
//! server is not there.
//!
//! The variables: `AKIDB_S3_ENDPOINT`, `AKIDB_S3_REGION`, `AKIDB_S3_BUCKET`, `AKIDB_S3_KEY`,
//! `AKIDB_S3_SECRET`; `AKIDB_S3_LACKS`, what this server is known not to do; `AKIDB_S3_RESTART`, a
//! command that kills it without a warning and starts it again; `AKIDB_S3_TLS_ENDPOINT` and
//! `AKIDB_S3_CA`, the same server over TLS and the authority that vouches for it.

use akidb_tiering::{
    ObjectKey, ObjectStore, Outcome, PutCondition, PutId, PutOptions, StoreErrorKind,
    UploadOptions, contract, get_verified, put_verified,
    s3::{Credentials, S3Settings, S3Store},
};
use akidb_vfs::{RealFs, read_file};
use bytes::Bytes;
use futures_lite::future::block_on;
use std::{collections::BTreeMap, path::Path, process::Command};

fn variable(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| panic!("{name} is not set: run scripts/s3-real.sh"))
}

fn settings() -> S3Settings {
    S3Settings::new(variable("AKIDB_S3_BUCKET"))
        .endpoint(variable("AKIDB_S3_ENDPOINT"))
        .region(variable("AKIDB_S3_REGION"))
        .allow_plain_http()
        .credentials(Credentials::new(variable("AKIDB_S3_KEY"), variable("AKIDB_S3_SECRET")))
        .variables(BTreeMap::new())
}

fn open() -> S3Store {
    block_on(S3Store::open(settings())).expect("the server is there and the bucket can be used")
}

fn key(text: &str) -> ObjectKey {
    ObjectKey::new(text).expect("a valid key")
}

#[test]
#[ignore = "needs a server: scripts/s3-real.sh"]
fn the_probe_finds_what_this_server_is_known_to_lack() {
    let found = open().capabilities().missing().join(",");
    assert_eq!(found, variable("AKIDB_S3_LACKS"), "the server (left), the list (right)");
}

#[test]
#[ignore = "needs a server: scripts/s3-real.sh"]
fn the_store_keeps_the_contract_on_this_server() {
    block_on(contract::run(&open()));
}

#[test]
#[ignore = "needs a server: scripts/s3-real.sh"]
fn wrong_credentials_and_buckets_are_told_apart() {
    let wrong = settings().credentials(Credentials::new(variable("AKIDB_S3_KEY"), "wrong"));
    let error = block_on(S3Store::open(wrong)).expect_err("a wrong secret");
    assert_eq!(error.kind, StoreErrorKind::PermissionDenied, "{error}");
    let elsewhere = S3Settings::new("no-such-bucket-of-ours")
        .endpoint(variable("AKIDB_S3_ENDPOINT"))
        .region(variable("AKIDB_S3_REGION"))
        .allow_plain_http()
        .credentials(Credentials::new(variable("AKIDB_S3_KEY"), variable("AKIDB_S3_SECRET")))
        .variables(BTreeMap::new());
    let error = block_on(S3Store::open(elsewhere)).expect_err("no such bucket");
    let refusals = [StoreErrorKind::Misconfigured, StoreErrorKind::PermissionDenied];
    assert!(refusals.contains(&error.kind), "{error}");
}

#[test]
#[ignore = "needs a server: scripts/s3-real.sh"]
fn tls_trusts_the_authority_that_is_named_and_no_other() {
    let secure = settings().endpoint(variable("AKIDB_S3_TLS_ENDPOINT"));
    let error = block_on(S3Store::open(secure.clone())).expect_err("nobody we know");
    assert_eq!((error.kind, error.outcome), (StoreErrorKind::Misconfigured, Outcome::NotDone));
    assert!(error.to_string().contains("certificate"), "{error}");
    let store = block_on(S3Store::open(secure.ca_file(variable("AKIDB_S3_CA"))));
    let store = store.expect("the authority is named");
    let body = Bytes::from_static(b"over TLS");
    block_on(put_verified(&store, &key("tls"), body, PutOptions::default())).expect("a put");
    block_on(store.delete(&key("tls"))).expect("a delete");
}

/// The server dies without a warning between two parts, and while nobody knows whether the second
/// put was done.
#[test]
#[ignore = "needs a server: scripts/s3-real.sh"]
fn an_upload_goes_on_after_its_server_was_killed_between_parts() {
    let store = open();
    let parts = store.multipart().expect("this server has parts");
    let name = key("killed/whole");
    let bodies = [vec![1_u8; 5 << 20], vec![2; 5 << 20], vec![3; 1_000]].map(Bytes::from);
    let create = parts.create(&name, UploadOptions::default().with_put_id(PutId::new(5)));
    let upload = block_on(create).expect("an upload");
    let put = |number: u32, body: &Bytes| parts.put_part(&upload, number, body.clone());
    let one = block_on(put(1, &bodies[0])).expect("a part");

    let status = Command::new("bash").args(["-c", &variable("AKIDB_S3_RESTART")]).status();
    assert!(status.expect("bash runs").success(), "the server comes back");

    // What the pool kept of the old server breaks; nothing else may.
    let two = match block_on(put(2, &bodies[1])) {
        Ok(two) => two,
        Err(error) => {
            assert_eq!(error.kind, StoreErrorKind::Unavailable, "{error}");
            assert_eq!(error.outcome, Outcome::Unknown, "{error}");
            block_on(put(2, &bodies[1])).expect("a part, put again")
        }
    };
    let three = block_on(put(3, &bodies[2])).expect("a part");
    let listed = block_on(parts.list_parts(&upload, None, 10)).expect("the parts").parts;
    assert_eq!(listed.iter().map(|part| part.number).collect::<Vec<_>>(), [1, 2, 3]);
    let receipt = block_on(parts.complete(&upload, &[one, two, three], PutCondition::Any));
    let receipt = receipt.expect("an object");
    let body = block_on(get_verified(&store, &name, receipt.len, receipt.crc32));
    assert_eq!(body.expect("the object"), bodies.concat());
    block_on(store.delete(&name)).expect("a delete");
}

/// Puts what the script reads back with the tools of others.
#[test]
#[ignore = "needs a server: scripts/s3-real.sh"]
fn leaves_a_table_for_other_readers() {
    let store = open();
    let table = Path::new(env!("CARGO_MANIFEST_DIR")).join("../data/wordnet-queries-100.parquet");
    let body = Bytes::from(read_file(&RealFs, &table).expect("the sample"));
    let name = key("for-others/sample.parquet");
    let put = put_verified(&store, &name, body, PutOptions::default());
    block_on(put).expect("the table");
    // And one that was made of parts.
    let parts = store.multipart().expect("this server has parts");
    let name = key("for-others/parts.bin");
    let upload = block_on(parts.create(&name, UploadOptions::default())).expect("an upload");
    let put = |number: u32, body: Vec<u8>| {
        block_on(parts.put_part(&upload, number, body.into())).expect("a part")
    };
    let receipts = [put(1, vec![b'a'; 5 << 20]), put(2, b"the end".to_vec())];
    block_on(parts.complete(&upload, &receipts, PutCondition::Any)).expect("an object");
}
