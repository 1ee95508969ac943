//! The uploader over the store in memory, whose parts have the limits of S3, behind one that fails,
//! pauses and counts.

use super::*;
use crate::{
    BoxFuture, EndpointSettings, MemoryStore, Outcome, PartLimits, RetryingStore, SkippedSleep,
    Sleep, StoreErrorKind, Surroundings, UploadOptions,
    faulty::{Fault, FaultyStore, Verb},
};
use akidb_vfs::{
    SystemRandom,
    sim::{self, SimClock, SimFs},
};
use futures_lite::future::block_on;
use futures_util::future::join;
use proptest::prelude::*;
use std::{
    future::{Future, poll_fn},
    path::Path,
    pin::pin,
    sync::{
        LazyLock,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll, Waker},
    time::Duration,
};

const MIB: u64 = 1 << 20;

/// Bytes that no two places of have in common, to be sliced without copying.
static BYTES: LazyLock<Bytes> = LazyLock::new(|| {
    (0..40 * MIB / 8)
        .flat_map(|n: u64| (n.wrapping_mul(0x9E37_79B9_7F4A_7C15)).to_le_bytes())
        .collect()
});

fn bytes(len: u64) -> Bytes {
    BYTES.slice(..len as usize)
}

/// Pauses that end when they were polled a few times: what runs side by side is interleaved.
#[derive(Debug)]
struct Yields(u32);

impl Sleep for Yields {
    fn sleep(&self, _: Duration) -> BoxFuture<'static, ()> {
        let mut left = self.0;
        Box::pin(poll_fn(move |context| {
            context.waker().wake_by_ref();
            left = left.saturating_sub(1);
            if left == 0 { Poll::Ready(()) } else { Poll::Pending }
        }))
    }
}

struct Bed {
    memory: Arc<MemoryStore>,
    faulty: Arc<FaultyStore>,
    fs: SimFs,
    seed: u64,
    settings: UploadSettings,
    retries: bool,
}

/// Small enough for a test, large enough for the store.
fn settings() -> UploadSettings {
    UploadSettings {
        single_put_max_bytes: 6 * MIB,
        part_bytes: 5 * MIB,
        memory_bytes_max: 64 * MIB,
        ..UploadSettings::default()
    }
}

fn bed(seed: u64) -> Bed {
    let memory = Arc::new(MemoryStore::new());
    let faulty = FaultyStore::new(memory.clone(), seed).with_sleep(Arc::new(Yields(3)));
    faulty.set_latency(Duration::from_millis(20));
    let (faulty, fs) = (Arc::new(faulty), SimFs::new(seed));
    Bed { memory, faulty, fs, seed, settings: settings(), retries: false }
}

impl Bed {
    /// An uploader as after an open.
    fn uploader(&self) -> Uploader {
        let clock = Arc::new(SimClock::new());
        let random: Arc<dyn Random> = Arc::new(SystemRandom::from_seed(self.seed));
        let store: Arc<dyn ObjectStore> = if self.retries {
            let (clock, random) = (clock.clone(), random.clone());
            let surroundings = Surroundings { clock, sleep: Arc::new(SkippedSleep::new()), random };
            let settings = EndpointSettings::default();
            Arc::new(RetryingStore::new(self.faulty.clone(), settings, surroundings))
        } else {
            self.faulty.clone()
        };
        Uploader::new(store, Some(Arc::new(self.journal())), self.settings, clock, random)
    }

    fn journal(&self) -> UploadJournal {
        let random = Arc::new(SystemRandom::from_seed(1));
        UploadJournal::open(Arc::new(self.fs.clone()), random, Path::new("/uploads")).unwrap()
    }

    fn stored(&self, key: &ObjectKey) -> Option<Bytes> {
        block_on(self.memory.get(key)).ok().map(|object| object.body)
    }

    /// Uploads in parts that the store has under way.
    fn pending(&self) -> usize {
        let parts = self.memory.multipart().unwrap();
        block_on(parts.list_uploads("", None, 1_000)).unwrap().uploads.len()
    }
}

fn key(name: &str) -> ObjectKey {
    ObjectKey::new(name).unwrap()
}

/// A source of these bytes in pieces.
fn streamed(name: &str, body: &Bytes, piece: u64) -> ObjectSource<'static> {
    let (body, piece) = (body.clone(), piece as usize);
    let starts = (0..body.len()).step_by(piece);
    let chunks = starts.map(move |at| Ok(body.slice(at..body.len().min(at + piece))));
    ObjectSource::streamed(key(name), chunks)
}

#[test]
fn a_small_object_is_one_put_and_a_large_one_goes_in_equal_parts() {
    let bed = bed(1);
    let uploader = bed.uploader();
    let small = block_on(uploader.upload(streamed("small", &bytes(6 * MIB), MIB))).unwrap();
    assert_eq!((small.parts, bed.faulty.counts().of(Verb::Put)), (0, 1));
    let body = bytes(17 * MIB + 5);
    let large = block_on(uploader.upload(streamed("large", &body, 777_777))).unwrap();
    assert_eq!((large.parts, large.len), (4, body.len() as u64));
    assert_eq!(large.crc32, crc32fast::hash(&body));
    assert_eq!(bed.stored(&key("large")).unwrap(), body);
    let parts = bed.faulty.calls().into_iter().filter(|call| call.verb == Verb::PutPart);
    let mut lengths: Vec<_> = parts.map(|call| call.bytes).collect();
    lengths.sort_unstable();
    assert_eq!(lengths, [2 * MIB + 5, 5 * MIB, 5 * MIB, 5 * MIB]);
    assert_eq!((bed.journal().entries().len(), uploader.memory_bytes()), (0, 0));
}

#[test]
fn results_come_in_the_order_of_the_sources_and_no_more_run_than_allowed() {
    let mut bed = bed(2);
    bed.settings.objects_max = 4;
    let sources = (0..50).map(|n| ObjectSource::whole(key(&format!("k{n}")), bytes(n)));
    bed.faulty.fail_nth(Verb::Put, 7, Fault::Forbidden);
    let uploader = bed.uploader();
    let results = block_on(uploader.upload_all(sources));
    assert_eq!(results.len(), 50);
    for (n, result) in (0..).zip(&results) {
        match result {
            Ok(uploaded) => assert_eq!((uploaded.len, &uploaded.key), (n, &key(&format!("k{n}")))),
            Err(error) => assert!(error.to_string().contains("refuses access"), "{error}"),
        }
    }
    assert_eq!(results.iter().filter(|result| result.is_err()).count(), 1);
    assert_eq!(bed.faulty.counts().running_max, 4);
}

#[test]
fn a_store_without_parts_gets_large_objects_whole() {
    let store = Arc::new(MemoryStore::new().without_parts());
    let (clock, random) = (Arc::new(SimClock::new()), Arc::new(SystemRandom::from_seed(1)));
    let uploader = Uploader::new(store.clone(), None, settings(), clock, random);
    let body = bytes(13 * MIB);
    let uploaded = block_on(uploader.upload(streamed("large", &body, MIB))).unwrap();
    assert_eq!(uploaded.parts, 0);
    assert_eq!(block_on(store.get(&key("large"))).unwrap().body, body);
    assert!(block_on(uploader.recover()).is_empty());
    assert_eq!(block_on(uploader.sweep("", Duration::ZERO)).unwrap(), SweepReport::default());
}

#[test]
fn a_source_that_fails_or_lies_about_its_length_leaves_nothing() {
    let bed = bed(3);
    let uploader = bed.uploader();
    let body = bytes(12 * MIB);
    let pieces = (0..12).map(|n| match n {
        11 => Err("the encoder gave up".into()),
        _ => Ok(bytes(MIB)),
    });
    let error = block_on(uploader.upload(ObjectSource::streamed(key("a"), pieces))).unwrap_err();
    assert!(matches!(error, UploadError::Source { .. }), "{error}");
    for told in [body.len() as u64 - 1, body.len() as u64 + 1, 3] {
        let source = ObjectSource { len: Some(told), ..streamed("a", &body, MIB) };
        let error = block_on(uploader.upload(source)).unwrap_err();
        assert!(matches!(error, UploadError::Length { .. }), "{error}");
    }
    assert_eq!((bed.stored(&key("a")), bed.pending()), (None, 0));
    assert_eq!((bed.journal().entries().len(), uploader.memory_bytes()), (0, 0));
}

#[test]
fn a_part_that_fails_for_good_ends_the_upload() {
    let bed = bed(4);
    bed.faulty.fail_nth(Verb::PutPart, 2, Fault::Forbidden);
    let error = block_on(bed.uploader().upload(streamed("a", &bytes(22 * MIB), MIB))).unwrap_err();
    let UploadError::Store(error) = error else { panic!("{error}") };
    assert_eq!(error.kind, StoreErrorKind::PermissionDenied);
    assert_eq!((bed.stored(&key("a")), bed.pending()), (None, 0));
    assert!(bed.journal().entries().is_empty());
}

#[test]
fn a_complete_whose_answer_was_lost_is_found() {
    let bed = bed(5);
    bed.faulty.fail_nth(Verb::Complete, 1, Fault::TimeoutAfter);
    let uploaded = block_on(bed.uploader().upload(streamed("a", &bytes(9 * MIB), MIB))).unwrap();
    assert_eq!(uploaded.parts, 2);
    assert!(bed.journal().entries().is_empty());
}

#[test]
fn an_unknown_end_stays_in_the_journal_until_it_is_settled() {
    for (fault, there) in [(Fault::TimeoutBefore, false), (Fault::TimeoutAfter, true)] {
        let bed = bed(6);
        bed.faulty.fail_nth(Verb::Complete, 1, fault);
        bed.faulty.fail_next(Some(Verb::Head), 1, Fault::ServerError);
        let uploader = bed.uploader();
        let error = block_on(uploader.upload(streamed("a", &bytes(9 * MIB), MIB))).unwrap_err();
        let UploadError::Store(error) = error else { panic!("{error}") };
        assert_eq!(error.outcome, Outcome::Unknown);
        assert_eq!(bed.journal().entries().len(), 1);
        let recovered = block_on(uploader.recover());
        let [Recovered { end, .. }] = &recovered[..] else { panic!("{recovered:?}") };
        assert_eq!(matches!(end, RecoveredEnd::Object(_)), there, "{end:?}");
        assert_eq!(bed.stored(&key("a")).is_some(), there, "an object is never deleted");
        assert_eq!((bed.journal().entries().len(), bed.pending()), (0, 0));
    }
}

#[test]
fn a_store_that_is_down_at_recovery_keeps_the_journal() {
    let bed = bed(7);
    bed.faulty.fail_always(Some(Verb::Abort), Fault::ServerError);
    bed.faulty.fail_nth(Verb::PutPart, 1, Fault::Forbidden);
    let uploader = bed.uploader();
    assert!(block_on(uploader.upload(streamed("a", &bytes(9 * MIB), MIB))).is_err());
    assert_eq!((bed.journal().entries().len(), bed.pending()), (1, 1));
    let recovered = block_on(uploader.recover());
    assert!(matches!(recovered[0].end, RecoveredEnd::Unsettled(_)));
    bed.faulty.heal();
    assert!(matches!(block_on(uploader.recover())[0].end, RecoveredEnd::Aborted));
    assert_eq!((bed.journal().entries().len(), bed.pending()), (0, 0));
}

#[test]
fn what_was_uploaded_and_not_struck_is_not_taken_for_what_nobody_waited_for() {
    let bed = bed(11);
    let uploader = bed.uploader();
    let pieces = (0..9).map(|n| {
        if n == 8 {
            // The beginning is in the journal by now, and its end has no room.
            bed.fs.inject(sim::Fault::new(sim::FaultKind::NoSpace).sticky());
        }
        Ok(bytes(MIB))
    });
    let uploaded = block_on(uploader.upload(ObjectSource::streamed(key("a"), pieces))).unwrap();
    assert_eq!(uploaded.parts, 2);
    assert!(block_on(uploader.recover()).is_empty(), "and the journal fails still");
    bed.fs.clear_faults();
    assert_eq!(bed.journal().entries().len(), 1);
    assert!(block_on(uploader.recover()).is_empty());
    assert!(bed.journal().entries().is_empty());
}

#[test]
fn what_ends_while_others_are_recovered_is_not_recovered() {
    for polls in 0..60 {
        let bed = bed(12);
        bed.faulty.fail_nth(Verb::Complete, 1, Fault::TimeoutBefore);
        bed.faulty.fail_next(Some(Verb::Head), 1, Fault::ServerError);
        let uploader = bed.uploader();
        assert!(block_on(uploader.upload(streamed("0", &bytes(9 * MIB), MIB))).is_err());
        let body = bytes(9 * MIB);
        let mut upload = pin!(uploader.upload(streamed("a", &body, MIB)));
        let mut context = Context::from_waker(Waker::noop());
        if (0..polls).any(|_| upload.as_mut().poll(&mut context).is_ready()) {
            assert!(polls > 5, "an upload takes longer than that");
            break;
        }
        let (uploaded, recovered) = block_on(join(upload, uploader.recover()));
        uploaded.unwrap();
        let keys: Vec<_> = recovered.iter().map(|r| r.entry.upload.key.as_str()).collect();
        assert_eq!(keys, ["0"], "{polls}");
    }
}

/// Polls a future so many times, then drops it, as a crash does.
fn interrupted(future: impl Future, polls: u32) -> bool {
    let mut future = pin!(future);
    let mut context = Context::from_waker(Waker::noop());
    (0..polls).any(|_| future.as_mut().poll(&mut context).is_ready())
}

#[test]
fn a_crash_at_any_moment_leaves_nothing_behind_that_recovery_does_not_end() {
    let body = bytes(17 * MIB);
    for polls in 1.. {
        let bed = bed(8);
        let ended = interrupted(bed.uploader().upload(streamed("a", &body, 4 * MIB)), polls);
        let before = bed.journal().entries().len();
        let uploader = bed.uploader();
        let recovered = block_on(uploader.recover());
        assert_eq!(recovered.len(), before);
        assert_eq!((bed.journal().entries().len(), bed.pending()), (0, 0), "after {polls} polls");
        let stored = bed.stored(&key("a"));
        assert!(stored.is_none_or(|stored| stored == body), "all of it or nothing");
        // And the next attempt works.
        let source = ObjectSource { len: Some(17 * MIB), ..streamed("b", &body, MIB) };
        assert_eq!(block_on(uploader.upload(source)).unwrap().parts, 4);
        if ended {
            return;
        }
    }
}

#[test]
fn an_interrupted_upload_goes_on_with_the_parts_that_are_there() {
    let (bed, body) = (bed(9), bytes(22 * MIB));
    bed.faulty.fail_always(Some(Verb::Abort), Fault::ServerError);
    bed.faulty.fail_nth(Verb::PutPart, 4, Fault::Forbidden);
    let source = ObjectSource { tag: b"c7".to_vec(), ..streamed("a", &body, MIB) };
    assert!(block_on(bed.uploader().upload(source)).is_err());
    bed.faulty.heal();
    let sent = bed.faulty.counts().of(Verb::PutPart);
    let (uploader, entry) = (bed.uploader(), bed.journal().entries().remove(0));
    assert_eq!(entry.tag, b"c7");
    let uploaded = block_on(uploader.resume(&entry, streamed("a", &body, 3 * MIB))).unwrap();
    assert_eq!(uploaded.parts, 5);
    let again = bed.faulty.counts().of(Verb::PutPart) - sent;
    assert!(again < 5, "{again} parts were sent again");
    assert_eq!(bed.stored(&key("a")).unwrap(), body);
    assert!(bed.journal().entries().is_empty());
    let error = block_on(uploader.resume(&entry, streamed("a", &body, MIB))).unwrap_err();
    let UploadError::Store(error) = error else { panic!("{error}") };
    assert_eq!(error.kind, StoreErrorKind::NoSuchUpload);
}

#[test]
fn going_on_with_other_bytes_is_noticed() {
    let bed = bed(10);
    bed.faulty.fail_always(Some(Verb::Abort), Fault::ServerError);
    bed.faulty.fail_nth(Verb::PutPart, 3, Fault::Forbidden);
    assert!(block_on(bed.uploader().upload(streamed("a", &bytes(12 * MIB), MIB))).is_err());
    bed.faulty.heal();
    let other = BYTES.slice(MIB as usize..13 * MIB as usize);
    let entry = bed.journal().entries().remove(0);
    let error = block_on(bed.uploader().resume(&entry, streamed("a", &other, MIB))).unwrap_err();
    let UploadError::Store(error) = error else { panic!("{error}") };
    assert_eq!((error.kind, error.outcome), (StoreErrorKind::Corrupt, Outcome::Unknown));
}

#[test]
fn a_sweep_ends_what_is_old_and_nobodys() {
    let clock = SimClock::new();
    let memory = Arc::new(MemoryStore::with_clock(Arc::new(clock.clone())));
    let parts = memory.multipart().unwrap();
    let begin = |name| block_on(parts.create(&key(name), UploadOptions::default())).unwrap();
    let (old, journalled) = (begin("c/old"), begin("c/journalled"));
    let elsewhere = begin("other/old");
    clock.advance(Duration::from_secs(86_400));
    let young = begin("c/young");
    let bed = Bed { memory: memory.clone(), ..bed(11) };
    let journal = bed.journal();
    let entry = JournalEntryOf(&journalled).entry();
    journal.begin(entry).unwrap();
    let random = Arc::new(SystemRandom::from_seed(1));
    let clock = Arc::new(clock);
    let uploader =
        Uploader::new(memory.clone(), Some(Arc::new(journal)), settings(), clock, random);
    let report = block_on(uploader.sweep("c/", Duration::from_secs(3_600))).unwrap();
    let expected = SweepReport { found: 3, aborted: 1, ours: 1, young: 1, failed: 0 };
    assert_eq!(report, expected);
    let left = block_on(parts.list_uploads("", None, 10)).unwrap().uploads;
    let left: Vec<_> = left.into_iter().map(|listed| listed.upload).collect();
    assert!(!left.contains(&old));
    assert!([journalled, elsewhere, young].iter().all(|upload| left.contains(upload)));
}

/// Makes an entry of the journal for an upload.
struct JournalEntryOf<'a>(&'a crate::Upload);

impl JournalEntryOf<'_> {
    fn entry(&self) -> crate::JournalEntry {
        let upload = self.0.clone();
        crate::JournalEntry { upload, put_id: None, part_bytes: 1, tag: vec![], begun_unix_ms: 0 }
    }
}

#[test]
fn uploads_that_share_little_memory_wait_for_each_other_and_all_end() {
    let mut bed = bed(12);
    // Room for one beginning and one part: every upload wants more than that at some time.
    bed.settings.memory_bytes_max = 8 * MIB;
    bed.settings.part_bytes = 7 * MIB;
    let uploader = bed.uploader();
    let (most, pulled) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    let sources = (0..6).map(|n| {
        let (most, pulled, uploader) = (most.clone(), pulled.clone(), &uploader);
        let chunks = (0..16).map(move |_| {
            most.fetch_max(uploader.memory_bytes(), Ordering::SeqCst);
            pulled.fetch_add(1, Ordering::SeqCst);
            Ok(bytes(MIB))
        });
        ObjectSource::streamed(key(&format!("k{n}")), chunks)
    });
    let results = block_on(uploader.upload_all(sources));
    assert!(results.iter().all(Result::is_ok), "{results:?}");
    assert_eq!((pulled.load(Ordering::SeqCst), uploader.memory_bytes()), (96, 0));
    assert!(most.load(Ordering::SeqCst) <= 8 * MIB);
}

#[test]
fn small_objects_of_unknown_length_do_not_wait_for_each_other() {
    let mut bed = bed(14);
    // Room for one beginning.
    bed.settings.memory_bytes_max = 8 * MIB;
    let uploader = bed.uploader();
    let ended = AtomicU64::new(0);
    let upload = |name| {
        let chunks = (0..1).map(|_| {
            assert_eq!(ended.load(Ordering::SeqCst), 0, "it waited");
            Ok(bytes(9))
        });
        let upload = uploader.upload(ObjectSource::streamed(key(name), chunks));
        async {
            upload.await.unwrap();
            ended.fetch_add(1, Ordering::SeqCst);
        }
    };
    block_on(join(upload("a"), upload("b")));
    assert_eq!((ended.into_inner(), uploader.memory_bytes()), (2, 0));
}

#[test]
fn thirty_percent_of_failures_over_a_hundred_uploads_cost_retries_and_nothing_else() {
    let mut bed = bed(13);
    bed.retries = true;
    bed.faulty.fail_randomly(300, &[Fault::ServerError, Fault::TimeoutAfter, Fault::Reset]);
    let sources = (0..100).map(|n| ObjectSource::whole(key(&format!("k{n}")), bytes(n + 1)));
    let results = block_on(bed.uploader().upload_all(sources));
    for (n, result) in (0..).zip(results) {
        assert_eq!(result.unwrap().len, n + 1);
        assert_eq!(bed.stored(&key(&format!("k{n}"))).unwrap(), bytes(n + 1));
    }
    assert!(bed.faulty.counts().failed > 20);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    /// Whatever fails: what is said to be there is there, whole; what is said not to be is not; and
    /// after a recovery nothing is left in the store or the journal.
    #[test]
    fn an_upload_is_true_whatever_fails(
        seed: u64,
        per_mille in 0_u64..500,
        retries: bool,
        lens in prop::collection::vec(0_u64..18 * MIB, 1..4),
        piece in 100_000_u64..9 * MIB,
        parts_in_flight in 0_u32..4,
    ) {
        let mut bed = bed(seed);
        (bed.retries, bed.settings.parts_in_flight) = (retries, parts_in_flight);
        let faults = [Fault::ServerError, Fault::TimeoutAfter, Fault::Reset, Fault::Forbidden];
        bed.faulty.fail_randomly(per_mille, &faults);
        let uploader = bed.uploader();
        let name = |at| format!("k{at}");
        let sources = (0..).zip(&lens).map(|(at, len)| streamed(&name(at), &bytes(*len), piece));
        let results = block_on(uploader.upload_all(sources));
        for (at, (result, len)) in results.iter().zip(&lens).enumerate() {
            let stored = bed.stored(&key(&name(at)));
            match result {
                Ok(_) => prop_assert!(stored.unwrap() == bytes(*len)),
                Err(UploadError::Store(error)) if error.outcome == Outcome::NotDone => {
                    prop_assert!(stored.is_none(), "{error}");
                }
                Err(_) => prop_assert!(stored.is_none_or(|stored| stored == bytes(*len))),
            }
        }
        prop_assert_eq!(uploader.memory_bytes(), 0);
        bed.faulty.heal();
        block_on(bed.uploader().recover());
        prop_assert_eq!(bed.journal().entries().len(), 0);
        // An upload whose beginning got no answer is nobody's: the sweep's.
        if bed.faulty.calls().iter().all(|c| c.verb != Verb::CreateUpload || c.failed.is_none()) {
            prop_assert_eq!(bed.pending(), 0);
        }
    }
}

#[test]
fn parts_suit_the_store() {
    assert_eq!(bed(1).memory.capabilities().parts, Some(PartLimits::S3));
}
