//! The store, its clients, and what is really in it; and the judgement that all steps share.

use super::{super::Counts, weather};
use akidb_tiering::{
    BreakerOpen, ETag, EndpointSettings, MemoryStore, MultipartStore, Object, ObjectKey,
    ObjectStore, Outcome, PartReceipt, RetryPolicy, RetryingStore, StoreError, StoreErrorKind,
    Surroundings, Upload,
    faulty::{Call, Fault, FaultyStore, Verb},
};
use akidb_vfs::{
    Random, SystemRandom,
    sim::{SimClock, SimFs},
};
use bytes::Bytes;
use fastrand::Rng;
use futures_lite::future::block_on;
use parking_lot::Mutex;
use std::{
    collections::{BTreeMap, BTreeSet},
    future::Future,
    pin::pin,
    sync::Arc,
    task::{Context, Poll, Waker},
    time::Duration,
};
use weather::{Pauses, Turns};

/// The shortest part, in bytes: small, so that a life of hundreds of parts takes a millisecond.
pub(super) const PART_MIN: u64 = 16;
/// How many clients there are.
pub(super) const CLIENTS: usize = 3;
/// The most calls that a step may make; far above what the tries of one call come to.
const CALLS_MAX: usize = 3_000;

/// What the store really holds.
pub(super) type Truth = BTreeMap<ObjectKey, Object>;

/// An upload in parts that a step began.
#[derive(Debug)]
pub(super) struct Begun {
    pub(super) upload: Upload,
    pub(super) parts: BTreeMap<u32, (Bytes, PartReceipt)>,
}

/// All of it.
pub(super) struct World {
    pub(super) rng: Rng,
    pub(super) clock: SimClock,
    pub(super) random: Arc<dyn Random>,
    /// What is really there.
    pub(super) memory: Arc<MemoryStore>,
    pub(super) faulty: Arc<FaultyStore>,
    pub(super) clients: Vec<Arc<RetryingStore>>,
    pub(super) disk: SimFs,
    pub(super) begun: Vec<Begun>,
    /// Every body that was ever to be put under a key.
    meant: BTreeMap<ObjectKey, BTreeSet<Bytes>>,
    /// How many uploads in parts may be there that nobody knows.
    pub(super) orphans: BTreeMap<ObjectKey, usize>,
    pauses: Arc<Pauses>,
    /// Those of the last step.
    paused: Vec<Duration>,
    refusals: bool,
    bodies: u64,
    seen: usize,
    counts: Counts,
}

/// What a change should have made of an object.
#[derive(Clone, Copy, Debug)]
pub(super) enum Wanted<'a> {
    /// These bytes, if the condition holds.
    Body(&'a Bytes, bool),
    /// Nothing there.
    Gone,
}

impl World {
    pub(super) fn new(seed: u64) -> Self {
        let clock = SimClock::new();
        let memory = MemoryStore::with_clock(Arc::new(clock.clone())).with_part_min(PART_MIN);
        let memory = Arc::new(memory);
        let turns = Turns(Mutex::new(Rng::with_seed(seed)));
        let faulty = FaultyStore::new(memory.clone(), seed).with_sleep(Arc::new(turns));
        faulty.set_latency(Duration::from_millis(20));
        let faulty = Arc::new(faulty);
        let pauses = Arc::new(Pauses::new(clock.clone()));
        let random: Arc<dyn Random> = Arc::new(SystemRandom::from_seed(seed));
        let client = |_| {
            let (clock, sleep, random) = (Arc::new(clock.clone()), pauses.clone(), random.clone());
            let surroundings = Surroundings { clock, sleep, random };
            let settings = EndpointSettings::default();
            Arc::new(RetryingStore::new(faulty.clone(), settings, surroundings))
        };
        Self {
            rng: Rng::with_seed(seed),
            clients: (0..CLIENTS).map(client).collect(),
            refusals: seed.is_multiple_of(2),
            disk: SimFs::new(seed),
            begun: Vec::new(),
            meant: BTreeMap::new(),
            orphans: BTreeMap::new(),
            bodies: 0,
            seen: 0,
            paused: Vec::new(),
            counts: Counts::default(),
            clock,
            random,
            memory,
            faulty,
            pauses,
        }
    }

    pub(super) fn change_weather(&mut self) {
        self.clock.advance(Duration::from_secs(self.rng.u64(0..30)));
        weather::change(&self.faulty, &mut self.rng, self.refusals);
    }

    /// The store works from now on, and the breakers have had their rest.
    pub(super) fn fair_weather(&mut self) {
        self.faulty.heal();
        self.clock.advance(Duration::from_secs(3600));
    }

    pub(super) fn client(&mut self) -> Arc<RetryingStore> {
        self.clients[self.rng.usize(..CLIENTS)].clone()
    }

    /// One of few keys, so that steps meet.
    pub(super) fn key(&mut self) -> ObjectKey {
        key(&format!("k/{}", self.rng.u8(0..4)))
    }

    /// Bytes that no other call is given, to be put under a key.
    pub(super) fn body(&mut self, key: &ObjectKey, len: usize) -> Bytes {
        self.bodies += 1;
        let mut rng = Rng::with_seed(self.bodies);
        let mut body = self.bodies.to_le_bytes().to_vec();
        body.resize_with(len.max(8), || rng.u8(..));
        let body = Bytes::from(body);
        self.means(key, &body);
        body
    }

    /// These bytes may come to be under the key.
    pub(super) fn means(&mut self, key: &ObjectKey, body: &Bytes) {
        self.meant.entry(key.clone()).or_default().insert(body.clone());
    }

    /// What the store really holds.
    pub(super) fn truth(&self) -> Truth {
        let page = block_on(self.memory.list("", None, usize::MAX)).expect("memory lists");
        let object =
            |key: &ObjectKey| block_on(self.memory.get(key)).expect("what memory lists is there");
        page.objects.into_iter().map(|listed| (listed.key.clone(), object(&listed.key))).collect()
    }

    /// Uploads in parts that the store really has under way.
    pub(super) fn under_way(&self) -> Vec<Upload> {
        let page = block_on(self.memory.list_uploads("", None, usize::MAX)).expect("memory lists");
        page.uploads.into_iter().map(|listed| listed.upload).collect()
    }

    /// Every object is one that somebody put there, whole.
    pub(super) fn nothing_foreign(&self) -> Result<(), String> {
        for (key, object) in self.truth() {
            if !self.meant.get(&key).is_some_and(|bodies| bodies.contains(&object.body)) {
                return Err(format!("{key} has {} bytes that nobody put", object.body.len()));
            }
        }
        Ok(())
    }

    pub(super) fn count(&mut self, what: &str) {
        self.counts.add(what, 1);
    }

    pub(super) fn count_all(self, counts: &mut Counts) {
        counts.merge(&self.counts);
    }

    /// The calls that the store has seen since the last time.
    pub(super) fn calls(&mut self) -> Result<Vec<Call>, String> {
        let mut all = self.faulty.calls();
        let new = all.split_off(self.seen);
        self.seen += new.len();
        self.paused = self.pauses.take();
        for call in &new {
            self.counts.state();
            if let Some(fault) = call.fault {
                self.counts.add(&format!("{:?}: {}", call.verb, weather::name(fault)), 1);
            }
        }
        if new.len() > CALLS_MAX {
            return Err(format!("{} calls in one step", new.len()));
        }
        Ok(new)
    }

    /// The calls of a step with one client, and whether all of this verb were made as they must be:
    /// a refusal once, other failures not too often and not too soon.
    pub(super) fn tries(&mut self, verb: Verb) -> Result<Vec<Call>, String> {
        let calls = self.calls()?;
        let mut failed: BTreeMap<&Option<ObjectKey>, (u32, Option<&Call>)> = BTreeMap::new();
        for call in calls.iter().filter(|call| call.verb == verb) {
            let (in_a_row, last) = failed.entry(&call.key).or_default();
            // What many deletes at once left is deleted one by one.
            let many = || calls.iter().find(|call| call.verb == Verb::DeleteMany);
            if let Some(last) = last.replace(call).or_else(many) {
                may_follow(last, &self.paused)?;
            }
            *in_a_row = if call.failed.is_some() { *in_a_row + 1 } else { 0 };
            if *in_a_row > RetryPolicy::default().attempts_max {
                return Err(format!("failed {in_a_row} times in a row: {call:?}"));
            }
        }
        Ok(calls)
    }

    /// Judges a change of one object by one client: what was said of it, and what became of it.
    pub(super) fn judge<T>(
        &mut self,
        what: &str,
        said: Result<&T, &StoreError>,
        wanted: Wanted<'_>,
        (key, before, calls): (&ObjectKey, &Truth, &[Call]),
    ) -> Result<(), String> {
        let after = self.truth();
        let rest = |truth: &Truth| {
            let others = truth.iter().filter(|(other, _)| *other != key);
            others.map(|(key, object)| (key.clone(), object.clone())).collect::<Truth>()
        };
        if rest(before) != rest(&after) {
            return Err("it changed another object".to_owned());
        }
        let same = before.get(key) == after.get(key);
        let (done, possible) = match wanted {
            Wanted::Body(body, holds) => {
                (after.get(key).is_some_and(|found| found.body == *body), holds)
            }
            Wanted::Gone => (!after.contains_key(key), true),
        };
        let wrong = |text: &str| {
            let (was, is) = (before.get(key), after.get(key));
            Err(format!("{text}; {key}: {was:?} -> {is:?}, {wanted:?}"))
        };
        let outcome = match said {
            Ok(_) if done && possible => "done",
            Ok(_) => return wrong("it said that it was done"),
            Err(error) => {
                self.explained(error, possible, calls)?;
                match error.outcome {
                    Outcome::NotDone if same => "not done",
                    Outcome::NotDone => return wrong("it said that nothing changed"),
                    Outcome::Unknown if same => "unknown, was not done",
                    Outcome::Unknown if done && possible => "unknown, was done",
                    Outcome::Unknown => return wrong("it is neither done nor not"),
                }
            }
        };
        self.count(&format!("{what}: {outcome}"));
        if said.is_err_and(|error| error.outcome == Outcome::Unknown) {
            self.settle(key)?;
        }
        Ok(())
    }

    /// Reading back, once the store works, tells what an unknown outcome was.
    fn settle(&mut self, key: &ObjectKey) -> Result<(), String> {
        self.fair_weather();
        let client = self.client();
        let found = drive(client.head(key));
        self.calls()?;
        match (found, self.truth().get(key)) {
            (Ok(head), Some(object)) if head == object.head => Ok(()),
            (Err(error), None) if error.kind == StoreErrorKind::NotFound => Ok(()),
            (found, truth) => Err(format!("read back {found:?}, and there is {truth:?}")),
        }
    }

    /// An error must come from a failure that was made, from the breaker, or from a condition that
    /// does not hold.
    pub(super) fn explained(
        &mut self,
        error: &StoreError,
        possible: bool,
        calls: &[Call],
    ) -> Result<(), String> {
        use StoreErrorKind as Kind;
        if error.source.as_ref().is_some_and(|source| source.is::<BreakerOpen>()) {
            self.count("refused by the breaker");
            return Ok(());
        }
        let struck = calls.iter().any(|call| call.fault.is_some());
        let fits = match error.kind {
            Kind::Unavailable | Kind::Throttled | Kind::Conflict => struck,
            Kind::PermissionDenied | Kind::Misconfigured => struck && self.refusals,
            Kind::PreconditionFailed => !possible || error.outcome == Outcome::Unknown,
            // One's own complete, whose answer was lost.
            Kind::NoSuchUpload => error.outcome == Outcome::Unknown,
            _ => false,
        };
        if fits { Ok(()) } else { Err(format!("nothing explains this error: {error}")) }
    }
}

/// Whether another try may follow this one, with these pauses made in the step.
fn may_follow(last: &Call, pauses: &[Duration]) -> Result<(), String> {
    if last.failed.is_some_and(|kind| !kind.is_transient()) {
        return Err(format!("tried again after a refusal: {last:?}"));
    }
    let Some(Fault::Throttle { retry_after: Some(asked) }) = last.fault else { return Ok(()) };
    let asked = asked.min(Duration::from_millis(RetryPolicy::default().retry_after_max_ms));
    if pauses.iter().any(|pause| *pause >= asked) {
        return Ok(());
    }
    Err(format!("{asked:?} were asked for, and the pauses were {pauses:?}"))
}

/// A key of ours.
pub(super) fn key(text: &str) -> ObjectKey {
    ObjectKey::new(text).expect("keys of steps are valid")
}

/// The tag of an object that never was.
pub(super) fn stale() -> ETag {
    ETag::new("\"stale\"")
}

/// Polls until it ends: nothing here waits for anything but its turn.
pub(super) fn drive<T>(future: impl Future<Output = T>) -> T {
    let mut future = pin!(future);
    let mut context = Context::from_waker(Waker::noop());
    loop {
        if let Poll::Ready(value) = future.as_mut().poll(&mut context) {
            return value;
        }
    }
}
