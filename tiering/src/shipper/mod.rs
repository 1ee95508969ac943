//! Ships small things together: items handed in by many callers leave as batches, each batch as one
//! object, several batches at a time, and every caller hears where its item lies.
//!
//! Owns the way from an item to its answer: memory, batch, turn, answer. The pieces are elsewhere:
//! [`Batcher`] says when a batch leaves, [`Uploader`] puts it. Knows neither what an item is nor why
//! it is shipped. Called by programs that ship what callers hand in one by one, and by the measurement of
//! shipping. The engine knows what goes together, and hands its packs to the uploader itself.
//!
//! # Invariants
//! - Every item gets one answer: where it lies, or why not. If the driver goes away, that it did.
//! - Answers of a group come in the order of its items, though batches end in any order: whoever
//!   writes a manifest as answers come never names a later item before an earlier one.
//! - Items that wait or are under way hold at most `memory_bytes_max`; further callers wait, and what
//!   waits for company leaves at once, so that they do not wait for its age.
//! - An object with one item has exactly its bytes.

use crate::{
    Batch, BatchSettings, Batcher, ObjectKey, Sleep, UploadError, Uploaded, Uploader,
    gate::{Gate, Pass},
};
use akidb_vfs::Clock;
use bytes::Bytes;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use std::{
    collections::VecDeque,
    fmt,
    future::{Future, poll_fn},
    pin::pin,
    sync::Arc,
    task::{Poll, Waker},
};

mod answers;
mod driver;
#[cfg(test)]
mod tests;

pub use answers::Answer;
use answers::{Answerer, answer};
pub use driver::ShipperDriver;

/// How items are shipped. Plain data.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ShipperSettings {
    /// When a batch leaves.
    pub batch: BatchSettings,
    /// The most batches under way at once. Default: 10; 0 counts as 1.
    pub batches_in_flight: u32,
    /// What items that wait or are under way may hold, in bytes; further callers wait. Default:
    /// 256 MiB.
    pub memory_bytes_max: u64,
}

impl Default for ShipperSettings {
    fn default() -> Self {
        let batch = BatchSettings::default();
        Self { batch, batches_in_flight: 10, memory_bytes_max: 256 << 20 }
    }
}

/// Where an item lies.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Shipped {
    /// The object that it went with.
    pub object: Arc<Uploaded>,
    /// Where it begins in the object, in bytes.
    pub offset: u64,
    /// Its length in bytes.
    pub len: u64,
    /// CRC-32 (IEEE) of its bytes.
    pub crc32: u32,
}

/// Why an item was not shipped.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ShipError {
    /// Its batch could not be uploaded; all items of the batch hear the same.
    #[error(transparent)]
    Upload(Arc<UploadError>),
    /// The shipper was closed, or is not driven any more.
    #[error("nothing is shipped any more: the shipper was closed")]
    Closed,
}

/// What a shipper is at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ShipperStats {
    /// Bytes of items that wait or are under way.
    pub memory_bytes: u64,
    /// Items that wait for company.
    pub waiting_items: u64,
    /// Batches that wait for their turn.
    pub waiting_batches: u64,
    /// Batches under way.
    pub running: u64,
    /// Batches that were uploaded.
    pub shipped_batches: u64,
    /// Items that were uploaded.
    pub shipped_items: u64,
    /// Batches that failed.
    pub failed_batches: u64,
}

/// Names the object of a batch. Asked once per batch; a name is never used again.
pub type NameBatch<G> = Box<dyn Fn(&G) -> ObjectKey + Send + Sync>;

/// What a shipper needs of its surroundings.
pub struct ShipperParts<G> {
    /// Uploads the batches.
    pub uploader: Arc<Uploader>,
    /// Names them.
    pub name: NameBatch<G>,
    /// Tells the age of batches.
    pub clock: Arc<dyn Clock>,
    /// Wakes the driver when one is old.
    pub sleep: Arc<dyn Sleep>,
}

impl<G> fmt::Debug for ShipperParts<G> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ShipperParts").field("uploader", &self.uploader).finish_non_exhaustive()
    }
}

/// Hands items to a [`ShipperDriver`]. Clones hand to the same.
///
/// ```
/// use akidb_tiering::{MemoryStore, ObjectKey, ShipperDriver, ShipperParts, ShipperSettings};
/// use akidb_tiering::{TimerSleep, UploadSettings, Uploader};
/// use akidb_vfs::{Random, SystemClock, SystemRandom};
/// use std::sync::Arc;
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let (clock, random) = (Arc::new(SystemClock::new()), Arc::new(SystemRandom::from_seed(1)));
/// let store = Arc::new(MemoryStore::new());
/// let settings = UploadSettings::default();
/// let uploader = Arc::new(Uploader::new(store, None, settings, clock.clone(), random.clone()));
/// let name = Box::new(move |group: &u32| {
///     ObjectKey::new(format!("c{group}/{:032x}", random.next_u128())).expect("hexadecimal")
/// });
/// let parts = ShipperParts { uploader, name, clock, sleep: Arc::new(TimerSleep::start()?) };
/// let (shipper, driver) = ShipperDriver::new(ShipperSettings::default(), parts);
/// let driving = akidb_vfs::thread::spawn("ship", || futures_lite::future::block_on(driver.run()))?;
///
/// let first = futures_lite::future::block_on(shipper.submit(7, "rows".into()))?;
/// let second = futures_lite::future::block_on(shipper.submit(7, "more rows".into()))?;
/// shipper.flush(Some(7));
/// let (first, second) = (futures_lite::future::block_on(first)?, futures_lite::future::block_on(second)?);
/// assert_eq!(first.object, second.object);
/// assert_eq!((second.offset, second.len), (4, 9));
/// shipper.close();
/// driving.join().expect("the driver does not panic");
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Shipper<G> {
    shared: Arc<Shared<G>>,
}

impl<G> Clone for Shipper<G> {
    fn clone(&self) -> Self {
        Self { shared: self.shared.clone() }
    }
}

/// What handles and driver share.
#[derive(Debug)]
struct Shared<G> {
    memory: Arc<Gate>,
    inbox: Mutex<Inbox<G>>,
    stats: Mutex<ShipperStats>,
}

#[derive(Debug)]
struct Inbox<G> {
    commands: VecDeque<Command<G>>,
    /// Nothing more is taken.
    closed: bool,
    driver: Option<Waker>,
}

#[derive(Debug)]
enum Command<G> {
    Item(G, Item),
    /// One group, or all.
    Flush(Option<G>),
}

/// An item on its way.
#[derive(Debug)]
struct Item {
    body: Bytes,
    /// Held until the answer.
    _pass: Pass,
    answer: Answerer,
}

impl<G> Shipper<G> {
    /// Hands in an item, as soon as there is memory for it. What is returned is waited for
    /// separately, so that a caller can hand in many.
    ///
    /// # Errors
    /// [`ShipError::Closed`].
    pub async fn submit(&self, group: G, body: Bytes) -> Result<Answer, ShipError> {
        let pass = self.memory(body.len() as u64).await?;
        let (answerer, answer) = answer();
        let item = Item { body, _pass: pass, answer: answerer };
        self.send(Command::Item(group, item))?;
        Ok(answer)
    }

    /// Lets what waits for company leave now: of one group, or of all.
    pub fn flush(&self, group: Option<G>) {
        // A closed shipper has let everything leave.
        drop(self.send(Command::Flush(group)));
    }

    /// Takes nothing more. What was handed in leaves, and then the driver ends.
    pub fn close(&self) {
        let driver = {
            let mut inbox = self.shared.inbox.lock();
            inbox.closed = true;
            inbox.driver.take()
        };
        if let Some(driver) = driver {
            driver.wake();
        }
        // Whoever waits for memory looks again, and finds it closed.
        self.shared.memory.set_capacity(u64::MAX);
    }

    /// What it is at.
    pub fn stats(&self) -> ShipperStats {
        ShipperStats { memory_bytes: self.shared.memory.out(), ..*self.shared.stats.lock() }
    }

    /// Waits for memory. What only waits for company is told to leave, or it would be what
    /// everybody waits for.
    async fn memory(&self, bytes: u64) -> Result<Pass, ShipError> {
        let mut passing = pin!(self.shared.memory.pass(bytes));
        let mut told = false;
        poll_fn(|context| {
            let polled = passing.as_mut().poll(context);
            if polled.is_ready() || told {
                return polled.map(Ok);
            }
            // After its place in the queue was taken: the driver looks at the queue.
            told = true;
            match self.send(Command::Flush(None)) {
                Ok(()) => Poll::Pending,
                Err(closed) => Poll::Ready(Err(closed)),
            }
        })
        .await
    }

    fn send(&self, command: Command<G>) -> Result<(), ShipError> {
        let driver = {
            let mut inbox = self.shared.inbox.lock();
            if inbox.closed {
                return Err(ShipError::Closed);
            }
            inbox.commands.push_back(command);
            inbox.driver.take()
        };
        // Outside of the lock: a waker may poll on this thread.
        if let Some(driver) = driver {
            driver.wake();
        }
        Ok(())
    }
}
