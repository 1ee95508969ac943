//! The contract of [`ObjectStore`] as a suite that any implementation can run, users' own too.
//!
//! It checks what can be checked without a crash; durability is each store's own test. The plain
//! verbs are demanded of every store, and each capability of those that claim it, so that a store
//! cannot claim what it does not do. It works below the prefix `akidb-contract/`, which must be
//! empty and is left empty; it puts about 40 MiB where a part must be long.

use crate::{
    ETag, ObjectKey, ObjectStore, Outcome, PutOptions, StoreError, StoreErrorKind, StoreResult,
};
use bytes::Bytes;
use std::{fmt::Debug, time::Duration};

mod conditions;
mod parts;

const PREFIX: &str = "akidb-contract/";

/// Runs every clause.
///
/// ```
/// let store = akidb_tiering::MemoryStore::new();
/// futures_lite::future::block_on(akidb_tiering::contract::run(&store));
/// ```
///
/// # Panics
/// At the first broken clause, which the message names.
pub async fn run(store: &dyn ObjectStore) {
    whole_objects(store).await;
    ranges(store).await;
    missing_objects(store).await;
    deletes(store).await;
    conditions::run(store).await;
    listing(store).await;
    laziness(store).await;
    assert_eq!(
        store.multipart().is_some(),
        store.capabilities().parts.is_some(),
        "contract: a store that has uploads in parts says so, and the other way round"
    );
    if let (Some(multipart), Some(limits)) = (store.multipart(), store.capabilities().parts) {
        parts::run(store, multipart, limits).await;
    }
    let page = ok("list at the end", store.list(PREFIX, None, 10).await);
    assert!(page.objects.is_empty(), "contract: the suite leaves nothing behind");
}

fn key(name: &str) -> ObjectKey {
    ObjectKey::new(format!("{PREFIX}{name}")).expect("the suite's names follow the rules of keys")
}

#[track_caller]
fn ok<T>(what: &str, result: StoreResult<T>) -> T {
    match result {
        Ok(value) => value,
        Err(error) => panic!("contract: {what} must succeed, got: {error}"),
    }
}

#[track_caller]
fn refused<T: Debug>(what: &str, result: StoreResult<T>, kind: StoreErrorKind) -> StoreError {
    match result {
        Ok(value) => panic!("contract: {what} must fail with {kind:?}, got {value:?}"),
        Err(error) => {
            assert_eq!(error.kind, kind, "contract: {what} fails with {kind:?}: {error}");
            assert_eq!(error.outcome, Outcome::NotDone, "contract: {what} changes nothing");
            error
        }
    }
}

async fn put(store: &dyn ObjectStore, key: &ObjectKey, body: &Bytes, options: PutOptions) -> ETag {
    let receipt = ok("put", store.put(key, body.clone(), options).await);
    assert_eq!(receipt.len, body.len() as u64, "contract: the receipt tells the length");
    assert_eq!(receipt.crc32, crc32fast::hash(body), "contract: the receipt tells the CRC-32");
    receipt.etag
}

async fn expect(store: &dyn ObjectStore, key: &ObjectKey, body: &Bytes, etag: &ETag) {
    let object = ok("get", store.get(key).await);
    assert_eq!(object.body, body, "contract: get returns what was put last");
    let head = ok("head", store.head(key).await);
    assert_eq!(head, object.head, "contract: get and head agree");
    assert_eq!(head.len, body.len() as u64, "contract: head tells the length");
    assert_eq!(head.crc32, crc32fast::hash(body), "contract: head tells the CRC-32");
    assert_eq!(&head.etag, etag, "contract: head gives the tag that the put gave");
}

async fn whole_objects(store: &dyn ObjectStore) {
    let name = key("deep/er/object_1=a.bin");
    let bodies = [Bytes::new(), Bytes::from_static(b"x"), Bytes::from(vec![7; 700_001])];
    for body in &bodies {
        let etag = put(store, &name, body, PutOptions::default()).await;
        expect(store, &name, body, &etag).await;
    }
    ok("delete", store.delete(&name).await);
    refused("get after delete", store.get(&name).await, StoreErrorKind::NotFound);
    ok("a second delete", store.delete(&name).await);
}

async fn ranges(store: &dyn ObjectStore) {
    let name = key("ranges");
    put(store, &name, &Bytes::from_static(b"0123456789"), PutOptions::default()).await;
    let parts = ok("get_ranges", store.get_ranges(&name, &[7..10, 0..1, 3..3, 0..10, 2..8]).await);
    let want: [&[u8]; 5] = [b"789", b"0", b"", b"0123456789", b"234567"];
    assert_eq!(parts, want, "contract: ranges come whole and in the order asked for");
    let none = ok("get_ranges of none", store.get_ranges(&name, &[]).await);
    assert!(none.is_empty(), "contract: no ranges, no parts");
    #[expect(clippy::reversed_empty_ranges, reason = "a store must refuse it")]
    for bad in [9..11, 11..12, u64::MAX - 1..u64::MAX, 5..4] {
        let result = store.get_ranges(&name, std::slice::from_ref(&bad)).await;
        refused("a range outside the object", result, StoreErrorKind::InvalidRange);
    }
    ok("delete", store.delete(&name).await);
}

async fn missing_objects(store: &dyn ObjectStore) {
    let name = key("nothing/here");
    let kind = StoreErrorKind::NotFound;
    let error = refused("get of nothing", store.get(&name).await, kind);
    assert_eq!(error.key.as_ref(), Some(&name), "contract: an error names its object");
    refused("head of nothing", store.head(&name).await, kind);
    refused("get_ranges of nothing", store.get_ranges(&name, &[0..0, 0..1]).await, kind);
    ok("delete of nothing", store.delete(&name).await);
}

async fn deletes(store: &dyn ObjectStore) {
    let there = ["d/1", "d/2", "d/3"].map(key);
    for name in &there {
        put(store, name, &Bytes::from_static(b"x"), PutOptions::default()).await;
    }
    // More than the 1,000 that S3 takes in one request, most of them not there.
    let mut names: Vec<_> = (0..1_001).map(|n| key(&format!("d/none/{n}"))).collect();
    names.splice(500..501, there.clone());
    let results = store.delete_many(&names).await;
    assert_eq!(results.len(), names.len(), "contract: one result for each key");
    for result in results {
        ok("a delete among many", result);
    }
    for name in &there {
        refused("head after deletes", store.head(name).await, StoreErrorKind::NotFound);
    }
    assert!(store.delete_many(&[]).await.is_empty(), "contract: no keys, no results");
}

/// No store's clock and none of ours makes what was put just now this old.
const AGE_MAX: Duration = Duration::from_secs(3600);

fn check_age(store: &dyn ObjectStore, age: Option<Duration>) {
    let claims = store.capabilities().ages;
    assert_eq!(age.is_some(), claims, "contract: ages are listed where they are promised");
    assert!(age.unwrap_or_default() < AGE_MAX, "contract: what was put just now is young: {age:?}");
}

async fn listing(store: &dyn ObjectStore) {
    // '-' and '.' sort before '/', letters after it: directory order is not key order.
    let names = ["a-b", "a.b", "a/b", "a/c/d", "ab", "b"].map(|name| key(&format!("l/{name}")));
    for (len, name) in names.iter().enumerate().rev() {
        put(store, name, &Bytes::from(vec![1; len]), PutOptions::default()).await;
    }
    for limit in [1, 2, 5, 6, 1000] {
        let seen = list_all(store, &format!("{PREFIX}l/"), limit).await;
        let keys: Vec<&ObjectKey> = seen.iter().map(|(key, _)| key).collect();
        assert_eq!(keys, names.iter().collect::<Vec<_>>(), "contract: all keys, in byte order");
        assert!(seen.iter().map(|(_, len)| *len).eq(0..6), "contract: a listing tells lengths");
    }
    for (prefix, count) in [("l/a", 5), ("l/a/", 2), ("l/a/c/d", 1), ("l/x", 0), ("l/a/c/dd", 0)] {
        let found = list_all(store, &format!("{PREFIX}{prefix}"), 2).await.len();
        assert_eq!(found, count, "contract: {prefix:?} is a prefix of text, not of directories");
    }
    for name in &names {
        ok("delete", store.delete(name).await);
    }
}

async fn list_all(store: &dyn ObjectStore, prefix: &str, limit: usize) -> Vec<(ObjectKey, u64)> {
    let mut all = Vec::new();
    let mut after = None;
    loop {
        let page = ok("list", store.list(prefix, after.as_ref(), limit).await);
        assert!(page.objects.len() <= limit, "contract: a page keeps to its limit");
        page.objects.iter().for_each(|object| check_age(store, object.age));
        all.extend(page.objects.into_iter().map(|object| (object.key, object.len)));
        match page.next {
            Some(token) => after = Some(token),
            None => return all,
        }
    }
}

async fn laziness(store: &dyn ObjectStore) {
    let name = key("lazy");
    drop(store.put(&name, Bytes::from_static(b"x"), PutOptions::default()));
    let result = store.head(&name).await;
    refused("head after a put that was never polled", result, StoreErrorKind::NotFound);
}
