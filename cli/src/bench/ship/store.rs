//! Level `store`: objects that the engine has encoded, through batcher and uploader, each verified in
//! the store. What a machine could ship if encoding and the database's own record of it cost nothing.

use super::worker::{self, Done, failed, fill};
use crate::{
    args::ShipWorkerArgs,
    error::{CliError, Result},
    machine,
};
use akidb::{
    TierSettings,
    tiering::{
        Answer, BatchSettings, MemoryStore, NameBatch, ObjectKey, ObjectStore, ShipError, Shipper,
        ShipperDriver, ShipperParts, ShipperSettings, TimerSleep, UploadSettings, Uploader,
    },
    vfs::{Clock, Random, SystemClock, SystemRandom, thread},
};
use bytes::Bytes;
use std::{collections::VecDeque, panic::resume_unwind, sync::Arc, time::Duration};

/// Different objects; collections take them in turn.
const SAMPLES: usize = 16;
/// What is handed in and not answered holds no more than this, so that no batch leaves early for want
/// of memory.
const AHEAD_BYTES_MAX: usize = 200 << 20;

/// Ships until all are there or the time is over.
pub(super) fn ship(args: &ShipWorkerArgs, store: Arc<dyn ObjectStore>) -> Result<Done> {
    let samples = samples(args)?;
    let (shipper, driver) = shipper(args, store)?;
    let rss_before_bytes = machine::resident().map(|now| now.anonymous_bytes + now.mapped_bytes);
    let driving =
        thread::spawn("bench-shipper", move || futures_lite::future::block_on(driver.run()));
    let driving = driving.map_err(CliError::Thread)?;
    let done = futures_lite::future::block_on(hand_in(args, &shipper, &samples));
    shipper.close();
    driving.join().unwrap_or_else(|panic| resume_unwind(panic));
    Ok(Done { rss_before_bytes, ..done? })
}

/// Objects as demotions make them, read back from a store in memory.
fn samples(args: &ShipWorkerArgs) -> Result<Vec<Bytes>> {
    let dir = tempfile::Builder::new().prefix("ship-").tempdir_in(&args.dir);
    let dir = dir.map_err(CliError::TempDir)?;
    let memory = Arc::new(MemoryStore::new());
    let db = worker::open(dir.path(), memory.clone(), &TierSettings::default())?;
    let mut keys = Vec::new();
    for collection in fill(&db, args, 0..SAMPLES.min(args.collections))? {
        collection.demote()?;
        keys.extend(collection.stats().cold.into_iter().map(|object| object.key));
    }
    db.close()?;
    let read = |key: String| {
        let key = ObjectKey::new(key)
            .map_err(|error| CliError::Check { detail: format!("an object's key: {error}") })?;
        Ok(futures_lite::future::block_on(memory.get(&key)).map_err(failed)?.body)
    };
    keys.into_iter().map(read).collect()
}

fn shipper(
    args: &ShipWorkerArgs,
    store: Arc<dyn ObjectStore>,
) -> Result<(Shipper<()>, ShipperDriver<()>)> {
    let (clock, random) = (Arc::new(SystemClock::new()), Arc::new(SystemRandom::new()));
    let uploads = UploadSettings::default();
    let uploader = Arc::new(Uploader::new(store, None, uploads, clock.clone(), random.clone()));
    let name: NameBatch<()> = Box::new(move |()| {
        ObjectKey::new(format!("ship/{:032x}", random.next_u128()))
            .expect("hexadecimal digits are a key")
    });
    let sleep = Arc::new(TimerSleep::start().map_err(CliError::Thread)?);
    let defaults = BatchSettings::default();
    let batch = BatchSettings { enabled: args.batch > 1, items_max: args.batch as u32, ..defaults };
    let batches_in_flight = args.concurrency as u32;
    let settings = ShipperSettings { batch, batches_in_flight, ..ShipperSettings::default() };
    Ok(ShipperDriver::new(settings, ShipperParts { uploader, name, clock, sleep }))
}

/// Hands the collections in, a little ahead of what is under way, and counts the answers.
async fn hand_in(args: &ShipWorkerArgs, shipper: &Shipper<()>, samples: &[Bytes]) -> Result<Done> {
    let clock = SystemClock::new();
    let largest = samples.iter().map(Bytes::len).max().unwrap_or(1).max(1);
    let ahead = (2 * args.concurrency * args.batch).min(AHEAD_BYTES_MAX / largest).max(1);
    let (mut done, mut waiting) = (Done::default(), VecDeque::with_capacity(ahead));
    for sample in samples.iter().cycle().take(args.collections) {
        if clock.monotonic() >= Duration::from_secs(args.seconds) {
            break;
        }
        if waiting.len() >= ahead {
            take(&mut waiting, &mut done).await;
        }
        // Each its own: a collection that is shipped takes memory.
        let answer = shipper.submit((), Bytes::copy_from_slice(sample)).await;
        waiting.push_back(answer.map_err(|error| broken(&error))?);
    }
    shipper.flush(None);
    while !waiting.is_empty() {
        take(&mut waiting, &mut done).await;
    }
    done.elapsed_s = clock.monotonic().as_secs_f64();
    Ok(done)
}

/// The oldest answer.
async fn take(waiting: &mut VecDeque<Answer>, done: &mut Done) {
    let Some(answer) = waiting.pop_front() else { return };
    match answer.await {
        Ok(shipped) => {
            done.collections += 1;
            done.bytes += shipped.len;
        }
        Err(_) => done.failed += 1,
    }
}

fn broken(error: &ShipError) -> CliError {
    CliError::Check { detail: error.to_string() }
}
