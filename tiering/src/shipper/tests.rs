//! The shipper over a store that fails and takes its time.

use super::*;
use crate::{
    BoxFuture, MemoryStore, ObjectStore, UploadSettings,
    faulty::{Fault, FaultyStore, Verb},
    join,
};
use akidb_vfs::{Random, SystemRandom, sim::SimClock};
use futures_lite::future::block_on;
use proptest::prelude::*;
use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

/// Pauses that end when the clock has come so far; a pause that everybody waits for moves it.
#[derive(Clone, Debug)]
struct Time {
    clock: SimClock,
    /// Polls since something happened other than waiting.
    idle: Arc<AtomicU64>,
}

impl Time {
    fn new() -> Self {
        Self { clock: SimClock::new(), idle: Arc::default() }
    }
}

impl Sleep for Time {
    fn sleep(&self, wait: Duration) -> BoxFuture<'static, ()> {
        let (clock, idle) = (self.clock.clone(), self.idle.clone());
        let end = clock.monotonic() + wait;
        Box::pin(poll_fn(move |context| {
            if clock.monotonic() >= end {
                return Poll::Ready(());
            }
            // All that can go on does so between two polls of this; then a millisecond passes.
            if idle.fetch_add(1, Ordering::SeqCst) % 8 == 7 {
                clock.advance(Duration::from_millis(1));
            }
            context.waker().wake_by_ref();
            Poll::Pending
        }))
    }
}

struct Bed {
    memory: Arc<MemoryStore>,
    faulty: Arc<FaultyStore>,
    time: Time,
    shipper: Shipper<u32>,
    driver: ShipperDriver<u32>,
}

fn bed(seed: u64, settings: ShipperSettings) -> Bed {
    let (memory, time) = (Arc::new(MemoryStore::new()), Time::new());
    let faulty = FaultyStore::new(memory.clone(), seed).with_sleep(Arc::new(time.clone()));
    let faulty = Arc::new(faulty);
    let random: Arc<dyn Random> = Arc::new(SystemRandom::from_seed(seed));
    let clock = Arc::new(time.clock.clone());
    let uploads = UploadSettings::default();
    let uploader =
        Arc::new(Uploader::new(faulty.clone(), None, uploads, clock.clone(), random.clone()));
    let name = Box::new(move |group: &u32| {
        ObjectKey::new(format!("g{group}/{:032x}", random.next_u128())).unwrap()
    });
    let sleep = Arc::new(time.clone());
    let parts = ShipperParts { uploader, name, clock, sleep };
    let (shipper, driver) = ShipperDriver::new(settings, parts);
    Bed { memory, faulty, time, shipper, driver }
}

impl Bed {
    /// Drives the shipper beside `work`, to the end of both.
    fn beside<T>(self, work: impl Future<Output = T>) -> (T, Arc<MemoryStore>, Arc<FaultyStore>) {
        let Self { memory, faulty, driver, shipper, .. } = self;
        let mut result = None;
        {
            let work = async {
                result = Some(work.await);
                shipper.close();
            };
            block_on(both(driver.run(), work));
        }
        (result.unwrap(), memory, faulty)
    }
}

async fn both(one: impl Future<Output = ()>, other: impl Future<Output = ()>) {
    let (mut one, mut other) = (pin!(one), pin!(other));
    let mut ended = [false; 2];
    poll_fn(move |context| {
        ended[0] = ended[0] || one.as_mut().poll(context).is_ready();
        ended[1] = ended[1] || other.as_mut().poll(context).is_ready();
        if ended == [true; 2] { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
}

/// The bytes of an item, as the store has them.
fn fetched(memory: &MemoryStore, shipped: &Shipped) -> Bytes {
    let object = block_on(memory.get(&shipped.object.key)).unwrap().body;
    object.slice(shipped.offset as usize..(shipped.offset + shipped.len) as usize)
}

#[test]
fn twenty_five_items_at_ten_a_batch_are_three_objects() {
    let bed = bed(1, ShipperSettings::default());
    let (shipper, time) = (bed.shipper.clone(), bed.time.clone());
    let (shipped, memory, faulty) = bed.beside(async {
        let mut answers = Vec::new();
        for n in 0..25_u8 {
            answers.push(shipper.submit(1, vec![n; 100].into()).await.unwrap());
        }
        let mut shipped = Vec::new();
        for answer in answers {
            shipped.push(answer.await.unwrap());
        }
        shipped
    });
    assert!(time.clock.monotonic() >= Duration::from_secs(5), "the last five waited for company");
    assert_eq!(faulty.counts().of(Verb::Put), 3);
    let lens: Vec<_> = shipped.iter().map(|shipped| shipped.object.len).collect();
    assert_eq!(lens, [[1_000; 20].as_slice(), &[500; 5]].concat());
    for (n, shipped) in (0..).zip(&shipped) {
        let body = fetched(&memory, shipped);
        assert_eq!((body.as_ref(), shipped.crc32), ([n; 100].as_slice(), crc32fast::hash(&body)));
    }
}

#[test]
fn switched_off_each_item_is_an_object_of_exactly_its_bytes() {
    let batch = BatchSettings { enabled: false, ..BatchSettings::default() };
    let bed = bed(1, ShipperSettings { batch, ..ShipperSettings::default() });
    let shipper = bed.shipper.clone();
    let (shipped, memory, _) = bed.beside(async {
        let answer = shipper.submit(1, "rows".into()).await.unwrap();
        answer.await.unwrap()
    });
    assert_eq!((shipped.offset, shipped.object.len), (0, 4));
    assert_eq!(fetched(&memory, &shipped), "rows");
}

#[test]
fn a_batch_that_fails_tells_its_items_and_no_others() {
    let bed = bed(1, ShipperSettings::default());
    bed.faulty.fail_nth(Verb::Put, 1, Fault::Forbidden);
    let shipper = bed.shipper.clone();
    let (ends, _, _) = bed.beside(async {
        let mut ends = Vec::new();
        for group in [1, 2] {
            let answers = [
                shipper.submit(group, "a".into()).await.unwrap(),
                shipper.submit(group, "b".into()).await.unwrap(),
            ];
            shipper.flush(Some(group));
            for answer in answers {
                ends.push(answer.await);
            }
        }
        ends
    });
    assert!(ends[..2].iter().all(|end| matches!(end, Err(ShipError::Upload(_)))));
    assert!(ends[2..].iter().all(Result::is_ok));
}

#[test]
fn callers_beyond_the_memory_wait_and_what_waits_for_company_leaves_for_them() {
    let batch = BatchSettings { items_max: 1_000, ..BatchSettings::default() };
    let settings = ShipperSettings { batch, memory_bytes_max: 250, ..ShipperSettings::default() };
    let bed = bed(1, settings);
    let (shipper, time) = (bed.shipper.clone(), bed.time.clone());
    let most = AtomicU64::new(0);
    let ((), _, faulty) = bed.beside(async {
        for n in 0..10_u8 {
            // Nobody waits for the answers: the memory is what comes back.
            drop(shipper.submit(1, vec![n; 100].into()).await.unwrap());
            most.fetch_max(shipper.stats().memory_bytes, Ordering::SeqCst);
        }
    });
    assert!(most.load(Ordering::SeqCst) <= 250);
    assert!(time.clock.monotonic() < Duration::from_secs(5), "nobody waited for an age");
    assert_eq!(faulty.counts().of(Verb::Put), 5);
}

#[test]
fn a_driver_that_goes_away_keeps_nobody_waiting() {
    let bed = bed(1, ShipperSettings { memory_bytes_max: 10, ..ShipperSettings::default() });
    let answer = block_on(bed.shipper.submit(1, "rows".into())).unwrap();
    let shipper = bed.shipper.clone();
    let mut waiting = pin!(bed.shipper.submit(1, vec![0; 9].into()));
    let mut context = std::task::Context::from_waker(Waker::noop());
    assert!(waiting.as_mut().poll(&mut context).is_pending());
    drop(bed.driver);
    assert!(matches!(block_on(answer), Err(ShipError::Closed)));
    assert!(matches!(block_on(waiting), Err(ShipError::Closed)));
    assert!(matches!(block_on(shipper.submit(1, "late".into())), Err(ShipError::Closed)));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Every item is answered once, in the order of its group, and lies where it is said to.
    #[test]
    fn every_item_is_answered_in_order_and_lies_where_it_is_said_to(
        seed: u64,
        items in prop::collection::vec((0_u32..3, 0_usize..300), 1..60),
        items_max in 1_u32..6,
        batches_in_flight in 0_u32..5,
        memory_bytes_max in 200_u64..2_000,
        per_mille in 0_u64..300,
    ) {
        let batch = BatchSettings { items_max, bytes_max: 600, ..BatchSettings::default() };
        let settings = ShipperSettings { batch, batches_in_flight, memory_bytes_max };
        let bed = bed(seed, settings);
        // Batches end out of order.
        let slow = |ms| Fault::Slow(Duration::from_millis(ms));
        bed.faulty.fail_randomly(per_mille * 3, &[slow(3), slow(20), Fault::ServerError]);
        let shipper = &bed.shipper.clone();
        let order = Mutex::new(Vec::new());
        let (ends, memory, faulty) = bed.beside(async {
            let mut running: Vec<BoxFuture<'_, _>> = Vec::new();
            for (n, (group, len)) in items.iter().enumerate() {
                let body = Bytes::from(vec![n as u8; *len]);
                let answer = shipper.submit(*group, body).await.unwrap();
                let order = &order;
                running.push(Box::pin(async move {
                    let end = answer.await;
                    order.lock().push((*group, n));
                    end
                }));
            }
            join::all(running).await
        });
        for (n, (end, (_, len))) in ends.iter().zip(&items).enumerate() {
            if let Ok(shipped) = end {
                prop_assert_eq!(fetched(&memory, shipped), vec![n as u8; *len]);
            }
        }
        prop_assert!(per_mille > 0 || ends.iter().all(Result::is_ok));
        for group in 0..3 {
            let of_group: Vec<_> = order.lock().iter().filter(|at| at.0 == group).copied().collect();
            prop_assert!(of_group.is_sorted(), "{of_group:?}");
        }
        prop_assert!(faulty.counts().running_max <= u64::from(batches_in_flight.max(1)));
        let stats = shipper.stats();
        prop_assert_eq!((stats.memory_bytes, stats.waiting_items, stats.running), (0, 0, 0));
    }
}
