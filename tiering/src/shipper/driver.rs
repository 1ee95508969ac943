//! The side of the shipper that works: takes items in, lets batches leave, and gives the answers in
//! order. One future, driven by whoever owns it.

use super::{
    Answerer, Batch, Batcher, Command, Inbox, Item, Shared, ShipError, Shipped, Shipper,
    ShipperParts, ShipperSettings, ShipperStats,
};
use crate::{BoxFuture, ObjectSource, UploadError, Uploaded, gate::Gate};
use bytes::Bytes;
use futures_util::stream::{FuturesUnordered, StreamExt};
use parking_lot::Mutex;
use std::{
    collections::{BTreeMap, VecDeque},
    future::poll_fn,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

/// Drives a [`Shipper`]. Dropped before its end, it answers what is left with
/// [`ShipError::Closed`]; uploads that it had under way have an unknown outcome.
#[derive(Debug)]
#[must_use = "nothing is shipped unless it is driven"]
pub struct ShipperDriver<G: Ord> {
    settings: ShipperSettings,
    parts: ShipperParts<G>,
    shared: Arc<Shared<G>>,
    batcher: Batcher<G, Item>,
    /// Batches that wait for their turn, with their numbers.
    ready: VecDeque<(u64, Batch<G, Item>)>,
    /// The batches of each group that have no answer yet, in order.
    unanswered: BTreeMap<G, VecDeque<Unanswered>>,
    next_number: u64,
    /// When the running timer ends; so that only one runs.
    alarm: Option<(Duration, Alarm)>,
}

struct Alarm(BoxFuture<'static, ()>);

impl std::fmt::Debug for Alarm {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Alarm")
    }
}

#[derive(Debug)]
struct Unanswered {
    number: u64,
    items: Vec<Item>,
    ended: Option<Result<Arc<Uploaded>, ShipError>>,
}

/// An upload that has ended: whose batch it was, and what came of it.
type Ended<G> = (G, u64, Result<Uploaded, UploadError>);
type Running<'a, G> = FuturesUnordered<BoxFuture<'a, Ended<G>>>;

/// What woke the driver.
enum Event<G> {
    /// Look at the inbox, the memory and the time.
    Look,
    Ended(Ended<G>),
}

impl<G> Drop for ShipperDriver<G>
where
    G: Ord,
{
    fn drop(&mut self) {
        // Nobody would take what comes after this.
        let mut inbox = self.shared.inbox.lock();
        inbox.closed = true;
        let left = std::mem::take(&mut inbox.commands);
        drop(inbox);
        drop(left);
        self.shared.memory.set_capacity(u64::MAX);
    }
}

impl<G: Ord + Clone + Send + 'static> ShipperDriver<G> {
    /// A shipper, and what drives it.
    pub fn new(settings: ShipperSettings, parts: ShipperParts<G>) -> (Shipper<G>, Self) {
        let inbox = Inbox { commands: VecDeque::new(), closed: false, driver: None };
        let shared = Arc::new(Shared {
            memory: Gate::new(settings.memory_bytes_max),
            inbox: Mutex::new(inbox),
            stats: Mutex::default(),
        });
        let driver = Self {
            settings,
            parts,
            shared: shared.clone(),
            batcher: Batcher::new(settings.batch),
            ready: VecDeque::new(),
            unanswered: BTreeMap::new(),
            next_number: 0,
            alarm: None,
        };
        (Shipper { shared }, driver)
    }

    /// Ships until the shipper is closed and everything was answered.
    pub async fn run(mut self) {
        let uploader = self.parts.uploader.clone();
        let mut running: Running<'_, G> = FuturesUnordered::new();
        loop {
            let closed = self.take_in();
            while running.len() < self.settings.batches_in_flight.max(1) as usize {
                let Some((number, batch)) = self.ready.pop_front() else { break };
                let (group, source) = self.source(number, batch);
                let upload = uploader.upload(source);
                running.push(Box::pin(async move { (group, number, upload.await) }));
            }
            self.count(&running);
            if closed && running.is_empty() && self.ready.is_empty() && self.batcher.is_empty() {
                return;
            }
            if let Event::Ended((group, number, result)) =
                poll_fn(|context| self.poll_event(context, &mut running)).await
            {
                self.ended(&group, number, result);
            }
        }
    }

    /// Everything that may leave now leaves. True if nothing more will come.
    fn take_in(&mut self) -> bool {
        let (commands, closed) = {
            let mut inbox = self.shared.inbox.lock();
            (std::mem::take(&mut inbox.commands), inbox.closed)
        };
        let now = self.parts.clock.monotonic();
        for command in commands {
            let leaving = match command {
                Command::Item(group, item) => {
                    let bytes = item.body.len() as u64;
                    self.batcher.push(group, item, bytes, now)
                }
                Command::Flush(Some(group)) => self.batcher.flush(&group).into_iter().collect(),
                Command::Flush(None) => self.batcher.flush_all(),
            };
            self.leave(leaving);
        }
        let due = self.batcher.due(now);
        self.leave(due);
        // Those who wait for memory wait for what is in here.
        if closed || self.shared.memory.is_waited_for() {
            let all = self.batcher.flush_all();
            self.leave(all);
        }
        closed
    }

    fn leave(&mut self, batches: Vec<Batch<G, Item>>) {
        for batch in batches {
            self.ready.push_back((self.next_number, batch));
            self.next_number += 1;
        }
    }

    /// Makes an object of a batch, and remembers whom to answer.
    fn source(&mut self, number: u64, batch: Batch<G, Item>) -> (G, ObjectSource<'static>) {
        let Batch { group, items, bytes, .. } = batch;
        let bodies: Vec<Bytes> = items.iter().map(|item| item.body.clone()).collect();
        let key = (self.parts.name)(&group);
        let chunks = Box::new(bodies.into_iter().map(Ok));
        let source = ObjectSource { key, chunks, len: Some(bytes), tag: Vec::new() };
        let waiting = self.unanswered.entry(group.clone()).or_default();
        waiting.push_back(Unanswered { number, items, ended: None });
        (group, source)
    }

    fn poll_event(
        &mut self,
        context: &mut Context<'_>,
        running: &mut Running<'_, G>,
    ) -> Poll<Event<G>> {
        if let Poll::Ready(Some(ended)) = running.poll_next_unpin(context) {
            return Poll::Ready(Event::Ended(ended));
        }
        {
            let mut inbox = self.shared.inbox.lock();
            // Closed, it has to look once more for what is left, and for the end.
            let last_look = inbox.closed && (running.is_empty() || !self.batcher.is_empty());
            if last_look || !inbox.commands.is_empty() {
                return Poll::Ready(Event::Look);
            }
            inbox.driver = Some(context.waker().clone());
        }
        let Some(due) = self.batcher.next_due() else { return Poll::Pending };
        if self.alarm.as_ref().is_none_or(|(at, _)| *at != due) {
            let wait = due.saturating_sub(self.parts.clock.monotonic());
            self.alarm = Some((due, Alarm(self.parts.sleep.sleep(wait))));
        }
        let Some((_, Alarm(alarm))) = &mut self.alarm else { return Poll::Pending };
        if alarm.as_mut().poll(context).is_pending() {
            return Poll::Pending;
        }
        self.alarm = None;
        Poll::Ready(Event::Look)
    }

    /// Notes what came of a batch, and answers what has its turn.
    fn ended(&mut self, group: &G, number: u64, result: Result<Uploaded, UploadError>) {
        let result = result.map(Arc::new).map_err(|error| ShipError::Upload(Arc::new(error)));
        let Some(waiting) = self.unanswered.get_mut(group) else { return };
        if let Some(batch) = waiting.iter_mut().find(|batch| batch.number == number) {
            batch.ended = Some(result);
        }
        while let Some(Unanswered { items, ended, .. }) =
            waiting.pop_front_if(|batch| batch.ended.is_some())
        {
            if let Some(result) = ended {
                tell(items, &result, &mut self.shared.stats.lock());
            }
        }
        if waiting.is_empty() {
            self.unanswered.remove(group);
        }
    }

    fn count(&self, running: &Running<'_, G>) {
        let mut stats = self.shared.stats.lock();
        stats.waiting_items = self.batcher.len() as u64;
        stats.waiting_batches = self.ready.len() as u64;
        stats.running = running.len() as u64;
    }
}

/// Answers all items of a batch.
fn tell(items: Vec<Item>, result: &Result<Arc<Uploaded>, ShipError>, stats: &mut ShipperStats) {
    match result {
        Ok(_) => {
            stats.shipped_batches += 1;
            stats.shipped_items += items.len() as u64;
        }
        Err(_) => stats.failed_batches += 1,
    }
    let mut offset = 0;
    for Item { body, answer, .. } in items {
        let len = body.len() as u64;
        let crc32 = crc32fast::hash(&body);
        Answerer::give(answer, result.clone().map(|object| Shipped { object, offset, len, crc32 }));
        offset += len;
    }
}
