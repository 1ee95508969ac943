//! Conditional puts, marks, and the two verified ways that rest on them.

use super::{expect, key, ok, put, refused};
use crate::{
    ETag, ObjectStore, Outcome, PutId, PutOptions, StoreErrorKind, get_verified, join,
    put_verified, store::BoxFuture,
};
use bytes::Bytes;

/// How many puts race.
const RACING: u8 = 8;

pub(super) async fn run(store: &dyn ObjectStore) {
    let can = store.capabilities();
    if can.if_absent {
        if_absent(store).await;
        racing_creates(store).await;
    }
    if can.if_match {
        if_match(store).await;
        racing_replaces(store).await;
    }
    marks(store).await;
    verified_reads(store).await;
    verified_puts(store).await;
}

async fn if_absent(store: &dyn ObjectStore) {
    let name = key("pointer");
    let (one, two) = (Bytes::from_static(b"version 1"), Bytes::from_static(b"version 2"));
    let first = put(store, &name, &one, PutOptions::if_absent()).await;
    let result = store.put(&name, two, PutOptions::if_absent()).await;
    refused("a second create", result, StoreErrorKind::PreconditionFailed);
    expect(store, &name, &one, &first).await;
    ok("delete", store.delete(&name).await);
    put(store, &name, &one, PutOptions::if_absent()).await;
    ok("delete", store.delete(&name).await);
}

async fn if_match(store: &dyn ObjectStore) {
    let name = key("pointer");
    let (one, two) = (Bytes::from_static(b"version 1"), Bytes::from_static(b"version 2"));
    let lost = StoreErrorKind::PreconditionFailed;

    let stray = PutOptions::if_match(ETag::new("\"no such tag\""));
    let result = store.put(&name, two.clone(), stray.clone()).await;
    refused("if-match on a missing object", result, lost);
    refused("get after a refused put", store.get(&name).await, StoreErrorKind::NotFound);

    let first = put(store, &name, &one, PutOptions::default()).await;
    refused("if-match with a wrong tag", store.put(&name, two.clone(), stray).await, lost);
    expect(store, &name, &one, &first).await;

    let second = put(store, &name, &two, PutOptions::if_match(first.clone())).await;
    assert_ne!(first, second, "contract: other bytes have another tag");
    let result = store.put(&name, one.clone(), PutOptions::if_match(first)).await;
    refused("if-match with an old tag", result, lost);
    expect(store, &name, &two, &second).await;
    ok("delete", store.delete(&name).await);
}

async fn racing_creates(store: &dyn ObjectStore) {
    let name = key("raced");
    for _ in 0..4 {
        one_winner(store, PutOptions::if_absent()).await;
        ok("delete", store.delete(&name).await);
    }
}

async fn racing_replaces(store: &dyn ObjectStore) {
    let name = key("raced");
    for _ in 0..4 {
        let first = put(store, &name, &Bytes::from_static(b"first"), PutOptions::default()).await;
        one_winner(store, PutOptions::if_match(first)).await;
    }
    ok("delete", store.delete(&name).await);
}

/// Puts with the same condition at once: one is done and its body is there, the others lost.
async fn one_winner(store: &dyn ObjectStore, options: PutOptions) {
    let name = key("raced");
    let body = |fill: u8| Bytes::from(vec![fill; 2_000]);
    let racer = |fill| -> BoxFuture<'_, _> { store.put(&name, body(fill), options.clone()) };
    let results = join::all((1..=RACING).map(racer).collect()).await;
    let mut winners = Vec::new();
    for (fill, result) in (1..).zip(results) {
        match result {
            Ok(receipt) => winners.push((fill, receipt.etag)),
            Err(error) => {
                let lost = [StoreErrorKind::PreconditionFailed, StoreErrorKind::Conflict];
                assert!(lost.contains(&error.kind), "contract: a loser is told so: {error}");
                assert_eq!(error.outcome, Outcome::NotDone, "contract: a loser changed nothing");
            }
        }
    }
    let [(fill, etag)] = &winners[..] else {
        panic!("contract: exactly one of {RACING} racing puts wins, not {}", winners.len());
    };
    expect(store, &name, &body(*fill), etag).await;
}

async fn marks(store: &dyn ObjectStore) {
    let name = key("marked");
    let body = Bytes::from_static(b"marked");
    for mark in [PutId::new(7), PutId::new(u128::MAX)] {
        put(store, &name, &body, PutOptions::default().with_put_id(mark)).await;
        let found = ok("head", store.head(&name).await).put_id;
        let promised = store.capabilities().put_ids.then_some(mark);
        assert_eq!(found, promised, "contract: marks come back where they are promised");
    }
    put(store, &name, &body, PutOptions::default()).await;
    let found = ok("head", store.head(&name).await).put_id;
    assert_eq!(found, None, "contract: a put without a mark leaves none");
    ok("delete", store.delete(&name).await);
}

async fn verified_reads(store: &dyn ObjectStore) {
    let name = key("verified");
    let body = Bytes::from_static(b"named by a manifest");
    let (len, crc32) = (body.len() as u64, crc32fast::hash(&body));
    put(store, &name, &body, PutOptions::default()).await;
    let got = ok("a verified get", get_verified(store, &name, len, crc32).await);
    assert_eq!(got, body, "contract: a verified get returns the object");
    for (len, crc32) in [(len + 1, crc32), (len, crc32 ^ 1)] {
        let result = get_verified(store, &name, len, crc32).await;
        refused("a get of other bytes than named", result, StoreErrorKind::Corrupt);
    }
    ok("delete", store.delete(&name).await);
}

async fn verified_puts(store: &dyn ObjectStore) {
    let name = key("verified");
    let body = Bytes::from(vec![3; 10_000]);
    let options = PutOptions::default().with_put_id(PutId::new(11));
    let receipt = ok("a verified put", put_verified(store, &name, body.clone(), options).await);
    expect(store, &name, &body, &receipt.etag).await;
    if store.capabilities().if_absent {
        let again = put_verified(store, &name, body, PutOptions::if_absent()).await;
        refused("a verified create of what is there", again, StoreErrorKind::PreconditionFailed);
    }
    ok("delete", store.delete(&name).await);
}
