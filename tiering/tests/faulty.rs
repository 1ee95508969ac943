//! The test store does what it is told to, and says what it did; and the two verified ways hold
//! against it.

use akidb_tiering::{
    Conditions, ETag, MemoryStore, ObjectKey, ObjectStore, Outcome, PutCondition, PutId,
    PutOptions, SkippedSleep, StoreError, StoreErrorKind, UploadOptions, contract,
    faulty::{Fault, FaultyStore, Verb},
    get_verified, probe, put_verified,
};
use bytes::Bytes;
use futures_lite::future::block_on;
use proptest::prelude::*;
use std::{sync::Arc, time::Duration};

fn faulty(seed: u64) -> FaultyStore {
    FaultyStore::new(Arc::new(MemoryStore::new()), seed)
}

fn key(text: &str) -> ObjectKey {
    ObjectKey::new(text).expect("a valid key")
}

fn put(store: &dyn ObjectStore, name: &str) -> Result<(), StoreError> {
    block_on(store.put(&key(name), "the body".into(), PutOptions::default())).map(drop)
}

const WAIT: Duration = Duration::from_secs(3);

#[test]
fn without_faults_it_keeps_the_contract_of_the_store_below() {
    let store = faulty(1);
    block_on(contract::run(&store));
    let counts = store.counts();
    assert_eq!((counts.faults, counts.running), (0, 0));
    assert_eq!(counts.running_max, 1, "calls on memory end in their first poll");
    assert_eq!(store.calls().len() as u64, counts.total());
}

#[test]
fn each_fault_of_a_put_says_what_a_server_would_and_does_it() {
    use Outcome::{NotDone, Unknown};
    use StoreErrorKind::{
        Conflict, Misconfigured, NotFound, PermissionDenied, Throttled, Unavailable,
    };
    for fault in Fault::ALL {
        let store = faulty(1);
        store.fail_next(Some(Verb::Put), 1, fault);
        let result = put(&store, "a");
        let there = block_on(store.head(&key("a"))).is_ok();
        let wanted = match fault {
            Fault::Slow(_) => None,
            Fault::Throttle { .. } => Some((Throttled, Unknown, Some(false))),
            Fault::Forbidden => Some((PermissionDenied, NotDone, Some(false))),
            Fault::Skewed => Some((Misconfigured, NotDone, Some(false))),
            Fault::Conflict => Some((Conflict, NotDone, Some(false))),
            Fault::NotFound => Some((NotFound, NotDone, Some(false))),
            Fault::TimeoutAfter => Some((Unavailable, Unknown, Some(true))),
            Fault::Reset => Some((Unavailable, Unknown, None)),
            _ => Some((Unavailable, Unknown, Some(false))),
        };
        let found = result.as_ref().err().map(|error| (error.kind, error.outcome));
        assert_eq!(found, wanted.map(|(kind, outcome, _)| (kind, outcome)), "{fault:?}");
        if let Some(done) = wanted.map_or(Some(true), |(_, _, done)| done) {
            assert_eq!(there, done, "{fault:?}");
        }
        if let Fault::Throttle { retry_after } = fault {
            assert_eq!(result.expect_err("struck").retry_after, retry_after);
        }
        assert!(put(&store, "a").is_ok(), "{fault:?}: only once");
        assert_eq!(store.calls()[0].fault, Some(fault));
    }
}

#[test]
fn rules_count_the_calls_of_their_verb() {
    let store = faulty(1);
    store.fail_nth(Verb::Put, 2, Fault::Forbidden);
    let results: Vec<_> = (0..3).map(|_| put(&store, "a").is_ok()).collect();
    assert_eq!(results, [true, false, true]);
    store.fail_always(None, Fault::ServerError);
    assert!(put(&store, "a").is_err() && block_on(store.get(&key("a"))).is_err());
    let deleted = block_on(store.delete_many(&[key("a"), key("b")]));
    assert!(deleted.iter().all(|one| one.as_ref().is_err_and(|e| e.outcome == Outcome::Unknown)));
    store.heal();
    assert!(put(&store, "a").is_ok());
    let counts = store.counts();
    assert_eq!((counts.of(Verb::Put), counts.failed, counts.faults), (5, 4, 4));
    assert_eq!(counts.bytes, 5 * 8);
}

#[test]
fn a_verified_get_reads_again_what_was_cut_on_its_way() {
    let store = faulty(1);
    put(&store, "a").expect("a put");
    store.fail_next(None, 3, Fault::Truncated);
    assert_eq!(block_on(store.get(&key("a"))).expect("half of it").body, "the ");
    let get = |sum| block_on(get_verified(&store, &key("a"), 8, sum));
    let sum = crc32fast::hash(b"the body");
    assert_eq!(get(sum).expect("the third read is whole"), "the body");
    assert_eq!(store.counts().of(Verb::Get), 4);
}

#[test]
fn a_verified_get_calls_an_object_damaged_that_reads_the_same_each_time_and_no_other() {
    let store = faulty(1);
    put(&store, "a").expect("a put");
    let reads = || store.counts().of(Verb::Get);
    let get = |sum| block_on(get_verified(&store, &key("a"), 8, sum));
    let damaged = get(7).expect_err("other bytes than expected");
    assert_eq!((damaged.kind, reads()), (StoreErrorKind::Corrupt, 3));
    assert!(damaged.to_string().contains("the same in all of 3 reads"), "{damaged}");
    store.fail_nth(Verb::Get, 2, Fault::Truncated);
    let cut = get(7).expect_err("other bytes than expected, and once others still");
    assert_eq!((cut.kind, reads()), (StoreErrorKind::Unavailable, 6));
    store.fail_next(None, 1, Fault::Forbidden);
    let refused = get(7).expect_err("a refusal is not read again");
    assert_eq!((refused.kind, reads()), (StoreErrorKind::PermissionDenied, 7));
}

#[test]
fn latency_and_bandwidth_take_their_time() {
    let sleep = Arc::new(SkippedSleep::new());
    let store = faulty(1).with_sleep(sleep.clone());
    store.set_latency(Duration::from_millis(20));
    store.set_bandwidth(Some(8_000));
    put(&store, "a").expect("a put");
    store.fail_next(None, 1, Fault::Slow(WAIT));
    drop(block_on(store.head(&key("a"))));
    let millis = Duration::from_millis;
    assert_eq!(sleep.pauses(), [millis(21), millis(20) + WAIT]);
}

#[test]
fn parts_fail_on_request_too() {
    let store = faulty(1);
    let parts = store.multipart().expect("memory has parts");
    let upload = block_on(parts.create(&key("a"), UploadOptions::default())).expect("an upload");
    store.fail_next(Some(Verb::PutPart), 1, Fault::TimeoutBefore);
    let part = || block_on(parts.put_part(&upload, 1, "part".into()));
    assert_eq!(part().expect_err("no answer").outcome, Outcome::Unknown);
    let named = [part().expect("a part")];
    store.fail_next(Some(Verb::Complete), 1, Fault::TimeoutAfter);
    let complete = || block_on(parts.complete(&upload, &named, PutCondition::Any));
    assert_eq!(complete().expect_err("no answer").outcome, Outcome::Unknown);
    assert_eq!(complete().expect_err("it was done").kind, StoreErrorKind::NoSuchUpload);
    assert_eq!(block_on(store.get(&key("a"))).expect("it was done").body, "part");
}

#[test]
fn the_probe_believes_no_store_and_tells_no_answer_from_no_ability() {
    let liar = MemoryStore::new().with_conditions(Conditions::Ignored);
    let found = block_on(probe(&liar, &key("probe"))).expect("it answers");
    assert!(liar.capabilities().require_multi_writer().is_ok(), "it says so");
    assert!(!found.if_absent && !found.if_match && !found.conditional_complete && found.put_ids);

    for nth in 1..=9 {
        let store = faulty(1);
        store.fail_nth(Verb::Put, nth, Fault::ServerError);
        let error = block_on(probe(&store, &key("probe"))).expect_err("nobody knows");
        assert!(error.kind.is_transient(), "put {nth}: {error}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    /// Whatever fails in between: retried until it says so, a verified put is there, once, and is
    /// the last writer's.
    #[test]
    fn a_verified_put_that_is_retried_ends_with_its_bytes(seed in any::<u64>(), odds in 0_u64..600) {
        let store = faulty(seed);
        let transient = [Fault::ServerError, Fault::TimeoutBefore, Fault::TimeoutAfter,
            Fault::Reset, Fault::ErrorInside, Fault::Throttle { retry_after: None }];
        store.fail_randomly(odds, &transient);
        let mut before: Option<ETag> = None;
        for version in 0..4_u8 {
            let body = Bytes::from(vec![version; 100]);
            let base = match &before {
                None => PutOptions::if_absent(),
                Some(etag) => PutOptions::if_match(etag.clone()),
            };
            let options = base.with_put_id(PutId::new(u128::from(version)));
            let mut tries = 0;
            let receipt = loop {
                tries += 1;
                prop_assert!(tries < 1_000, "it never ends");
                match block_on(put_verified(&store, &key("a"), body.clone(), options.clone())) {
                    Ok(receipt) => break receipt,
                    Err(error) if error.kind.is_transient() => {}
                    // A try before was done, and its answer and its read-back were lost.
                    Err(error) => {
                        prop_assert_eq!(error.kind, StoreErrorKind::PreconditionFailed);
                        let Ok(head) = block_on(store.head(&key("a"))) else { continue };
                        prop_assert_eq!(head.put_id, options.put_id, "another's object");
                        break akidb_tiering::PutReceipt::of(head.len, head.crc32, head.etag);
                    }
                }
            };
            before = Some(receipt.etag);
        }
        store.heal();
        let object = block_on(store.get(&key("a"))).expect("it is there");
        prop_assert_eq!(object.body, vec![3_u8; 100]);
    }

    #[test]
    fn the_same_seed_fails_the_same_calls(seed in any::<u64>()) {
        let history = || {
            let store = faulty(seed);
            store.fail_randomly(300, &Fault::ALL);
            for n in 0..50 {
                drop(put(&store, &format!("k/{n}")));
            }
            store.calls()
        };
        prop_assert_eq!(history(), history());
    }
}
