//! Retries over the store that fails on request.

use super::*;
use crate::{
    BreakerState, Capabilities, MemoryStore, PartLimits, PutCondition,
    faulty::{Fault, FaultyStore, Verb},
    join,
};
use akidb_vfs::{SystemRandom, sim::SimClock};
use futures_lite::future::block_on;
use parking_lot::Mutex;
use proptest::prelude::*;

/// Pauses that take no time but move the clock.
#[derive(Debug)]
struct ClockSleep {
    clock: SimClock,
    pauses: Mutex<Vec<Duration>>,
}

impl Sleep for ClockSleep {
    fn sleep(&self, wait: Duration) -> BoxFuture<'static, ()> {
        self.pauses.lock().push(wait);
        self.clock.advance(wait);
        Box::pin(std::future::ready(()))
    }
}

struct Bed {
    memory: Arc<MemoryStore>,
    faulty: Arc<FaultyStore>,
    store: RetryingStore,
    clock: SimClock,
    sleep: Arc<ClockSleep>,
}

fn bed(seed: u64) -> Bed {
    bed_with(seed, EndpointSettings::default())
}

fn bed_with(seed: u64, settings: EndpointSettings) -> Bed {
    let memory = Arc::new(MemoryStore::new());
    let faulty = Arc::new(FaultyStore::new(memory.clone(), seed));
    let clock = SimClock::new();
    let sleep = Arc::new(ClockSleep { clock: clock.clone(), pauses: Mutex::default() });
    let surroundings = Surroundings {
        clock: Arc::new(clock.clone()),
        sleep: sleep.clone(),
        random: Arc::new(SystemRandom::from_seed(seed)),
    };
    let store = RetryingStore::new(faulty.clone(), settings, surroundings);
    Bed { memory, faulty, store, clock, sleep }
}

fn key(name: &str) -> ObjectKey {
    ObjectKey::new(name).unwrap()
}

const LOST: [Fault; 7] = [
    Fault::ServerError,
    Fault::TimeoutBefore,
    Fault::TimeoutAfter,
    Fault::Reset,
    Fault::ErrorInside,
    Fault::Truncated,
    Fault::Throttle { retry_after: None },
];

#[test]
fn a_500_is_tried_again_and_a_403_is_not() {
    let bed = bed(1);
    bed.faulty.fail_next(Some(Verb::Put), 1, Fault::ServerError);
    block_on(bed.store.put(&key("a"), "rows".into(), PutOptions::default())).unwrap();
    assert_eq!(bed.faulty.counts().of(Verb::Put), 2);
    bed.faulty.fail_next(Some(Verb::Put), 1, Fault::Forbidden);
    let refused = block_on(bed.store.put(&key("b"), "rows".into(), PutOptions::default()));
    assert_eq!(refused.unwrap_err().kind, StoreErrorKind::PermissionDenied);
    assert_eq!(bed.faulty.counts().of(Verb::Put), 3);
    bed.faulty.fail_next(Some(Verb::Get), 1, Fault::NotFound);
    assert!(block_on(bed.store.get(&key("a"))).is_err());
    assert_eq!(bed.faulty.counts().of(Verb::Get), 1);
}

#[test]
fn a_put_whose_answer_was_lost_is_found_and_not_made_twice() {
    for options in [PutOptions::default(), PutOptions::if_absent()] {
        let bed = bed(1);
        bed.faulty.fail_next(Some(Verb::Put), 1, Fault::TimeoutAfter);
        let receipt = block_on(bed.store.put(&key("a"), "rows".into(), options)).unwrap();
        assert_eq!(receipt.etag, block_on(bed.memory.head(&key("a"))).unwrap().etag);
        assert_eq!(bed.faulty.counts().of(Verb::Put), 1);
        assert!(bed.sleep.pauses.lock().is_empty());
    }
}

#[test]
fn ones_own_lost_put_is_not_taken_for_another_writers() {
    let bed = bed(1);
    // The put happens, its answer is lost, and so is the first look; the second put is refused.
    bed.faulty.fail_next(Some(Verb::Put), 1, Fault::TimeoutAfter);
    bed.faulty.fail_next(Some(Verb::Head), 1, Fault::Forbidden);
    let put = || block_on(bed.store.put(&key("a"), "rows".into(), PutOptions::if_absent()));
    assert!(put().is_ok(), "it was our own object");
    assert_eq!(bed.faulty.counts().of(Verb::Put), 2);
    // Here somebody else was first, with the very same bytes.
    let refused = put().unwrap_err();
    assert_eq!(refused.kind, StoreErrorKind::PreconditionFailed);
    assert_eq!(refused.outcome, Outcome::NotDone);
}

#[test]
fn a_doubt_that_nobody_settled_stays_one() {
    let bed = bed(1);
    bed.faulty.fail_next(Some(Verb::Put), 1, Fault::TimeoutAfter);
    bed.faulty.fail_always(Some(Verb::Head), Fault::Forbidden);
    bed.faulty.fail_nth(Verb::Put, 2, Fault::Forbidden);
    let error = block_on(bed.store.put(&key("a"), "rows".into(), PutOptions::default()));
    let error = error.unwrap_err();
    assert_eq!(error.kind, StoreErrorKind::PermissionDenied, "what the last try said");
    assert_eq!(error.outcome, Outcome::Unknown, "what the first left behind");
}

#[test]
fn the_store_says_how_long_to_wait_and_gets_fewer_requests() {
    let bed = bed_with(1, EndpointSettings { requests_max: 8, ..EndpointSettings::default() });
    let retry_after = Some(Duration::from_secs(7));
    bed.faulty.fail_next(None, 3, Fault::Throttle { retry_after });
    block_on(bed.store.put(&key("a"), "rows".into(), PutOptions::default())).unwrap();
    let pauses = bed.sleep.pauses.lock().clone();
    assert!(pauses.iter().all(|pause| *pause >= Duration::from_secs(7)), "{pauses:?}");
    let stats = bed.store.stats();
    assert!(stats.limit < 8 && stats.throttled > 0, "{stats:?}");
    assert_eq!(stats.breaker.failures, 0, "a throttling endpoint works");
}

#[test]
fn a_store_that_is_down_is_left_alone_until_it_may_be_back() {
    let bed = bed(1);
    bed.faulty.fail_always(None, Fault::TimeoutBefore);
    let get = || block_on(bed.store.get(&key("a"))).unwrap_err();
    while bed.store.stats().breaker.state == BreakerState::Closed {
        assert_eq!(get().kind, StoreErrorKind::Unavailable);
    }
    let asked = bed.faulty.counts().total();
    let error = get();
    assert!(error.to_string().contains("failed most calls"), "{error}");
    assert!(error.retry_after.is_some());
    assert_eq!(bed.faulty.counts().total(), asked, "nothing was sent");
    bed.faulty.heal();
    bed.clock.advance(Duration::from_secs(60));
    (0..2).for_each(|_| assert_eq!(get().kind, StoreErrorKind::NotFound));
    assert_eq!(bed.store.stats().breaker.state, BreakerState::Closed);
}

#[test]
fn no_more_requests_are_under_way_than_allowed() {
    let bed = bed_with(3, EndpointSettings { requests_max: 5, ..EndpointSettings::default() });
    let keys: Vec<_> = (0..40).map(|n| key(&format!("k{n}"))).collect();
    let put = |key| bed.store.put(key, "rows".into(), PutOptions::default());
    let results = block_on(join::all(keys.iter().map(put).collect()));
    assert!(results.iter().all(Result::is_ok));
    assert!(bed.faulty.counts().running_max <= 5);
    assert_eq!(bed.store.stats().running, 0);
}

#[test]
fn what_a_delete_of_many_left_is_deleted_one_by_one() {
    let bed = bed(1);
    let keys = ["a", "b"].map(key);
    for key in &keys {
        block_on(bed.store.put(key, "rows".into(), PutOptions::default())).unwrap();
    }
    bed.faulty.fail_next(Some(Verb::DeleteMany), 1, Fault::ServerError);
    assert!(block_on(bed.store.delete_many(&keys)).iter().all(Result::is_ok));
    assert!(block_on(bed.memory.list("", None, 10)).unwrap().objects.is_empty());
}

#[test]
fn a_delete_of_many_whose_answer_was_lost_stays_in_doubt_whatever_comes_after() {
    let bed = bed(1);
    let keys = [key("a"), key("b")];
    block_on(bed.store.put(&keys[0], "rows".into(), PutOptions::default())).unwrap();
    bed.faulty.fail_next(Some(Verb::DeleteMany), 1, Fault::TimeoutAfter);
    bed.faulty.fail_next(Some(Verb::Delete), 1, Fault::Forbidden);
    let results = block_on(bed.store.delete_many(&keys));
    let refused = results[0].as_ref().unwrap_err();
    let told = (refused.kind, refused.outcome);
    assert_eq!(told, (StoreErrorKind::PermissionDenied, Outcome::Unknown), "it is gone");
    assert!(results[1].is_ok());
}

#[test]
fn a_delete_of_many_waits_as_long_as_the_store_asks_for_before_it_goes_on_one_by_one() {
    let bed = bed(1);
    let asked = Duration::from_secs(30);
    let throttled = Fault::Throttle { retry_after: Some(asked) };
    bed.faulty.fail_next(Some(Verb::DeleteMany), 1, throttled);
    assert!(block_on(bed.store.delete_many(&[key("a"), key("b")])).iter().all(Result::is_ok));
    let pauses = bed.sleep.pauses.lock().clone();
    assert!(matches!(pauses[..], [pause] if pause >= asked), "{pauses:?}");
    assert_eq!(bed.store.stats().retries, 1);
}

#[test]
fn it_promises_what_the_store_behind_it_promises() {
    let bed = bed(1);
    assert_eq!(bed.store.capabilities(), bed.memory.capabilities());
    assert!(bed.store.multipart().is_some());
    let parts = Some(PartLimits::S3);
    assert_eq!(Capabilities { parts, ..bed.store.capabilities() }.parts, parts);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    /// What is said to be done is there; what is said not to be done is not.
    #[test]
    fn an_answer_is_true_whatever_fails(
        seed: u64,
        per_mille in 0_u64..900,
        conditional: bool,
        puts in 1_usize..8,
    ) {
        let bed = bed(seed);
        bed.faulty.fail_randomly(per_mille, &LOST);
        for at in 0..puts {
            let (key, body) = (key(&format!("k{at}")), Bytes::from(format!("rows {at}")));
            let options = if conditional { PutOptions::if_absent() } else { PutOptions::default() };
            let result = block_on(bed.store.put(&key, body.clone(), options));
            let stored = block_on(bed.memory.get(&key));
            match result {
                Ok(_) => prop_assert_eq!(stored.unwrap().body, body),
                Err(error) if error.outcome == Outcome::NotDone => prop_assert!(stored.is_err()),
                Err(_) => {}
            }
        }
    }

    /// The same for objects in parts.
    #[test]
    fn a_complete_is_true_whatever_fails(seed: u64, per_mille in 0_u64..700) {
        let bed = bed(seed);
        bed.faulty.fail_randomly(per_mille, &LOST);
        let parts = bed.store.multipart().unwrap();
        let key = key("large");
        let body = Bytes::from(vec![7; 1_000]);
        let uploaded = block_on(async {
            let upload = parts.create(&key, Default::default()).await?;
            let part = parts.put_part(&upload, 1, body.clone()).await?;
            parts.complete(&upload, &[part], PutCondition::Any).await
        });
        let stored = block_on(bed.memory.get(&key));
        match uploaded {
            Ok(_) => prop_assert_eq!(stored.unwrap().body, body),
            Err(error) if error.outcome == Outcome::NotDone => prop_assert!(stored.is_err()),
            Err(_) => {}
        }
    }
}
