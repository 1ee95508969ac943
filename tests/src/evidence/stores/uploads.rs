//! Uploads by the uploader, with its journal on a simulated disk: they end, fail, are killed or lose
//! power, and are recovered or gone on with; and the end of a life, when nothing may be left.

use super::{
    verbs::lost_begins,
    world::{PART_MIN, Truth, Wanted, World, drive, key},
};
use akidb_tiering::{
    JournalEntry, ObjectKey, ObjectSource, ObjectStore, Outcome, RecoveredEnd, SourceError,
    StoreError, StoreErrorKind, Upload, UploadError, UploadJournal, UploadSettings, Uploaded,
    Uploader,
};
use akidb_vfs::sim::{CrashPolicy, PowerMoment};
use bytes::Bytes;
use std::{
    future::Future,
    path::Path,
    pin::pin,
    sync::Arc,
    task::{Context, Poll, Waker},
    time::Duration,
};

const SETTINGS: UploadSettings = UploadSettings {
    objects_max: 2,
    single_put_max_bytes: 3 * PART_MIN,
    part_bytes: 2 * PART_MIN,
    parts_in_flight: 2,
    memory_bytes_max: 8 * PART_MIN,
};
const JOURNAL: &str = "/uploads";

/// How the process ends that uploads.
#[derive(Clone, Copy, Debug)]
enum End {
    /// Not at all.
    None,
    /// It is killed when it was polled so often.
    Kill(u32),
    /// The power goes at this call on the disk, or else after so many polls.
    Power(u64, u32),
}

/// The uploader of a process that has just begun.
fn start(world: &World) -> Result<Uploader, String> {
    let (fs, random) = (Arc::new(world.disk.clone()), world.random.clone());
    let journal = UploadJournal::open(fs, random.clone(), Path::new(JOURNAL));
    let journal = Some(Arc::new(journal.map_err(|error| error.to_string())?));
    let store: Arc<dyn ObjectStore> = world.clients[0].clone();
    Ok(Uploader::new(store, journal, SETTINGS, Arc::new(world.clock.clone()), random))
}

/// What the journal on the disk says.
fn journal(world: &World) -> Result<Vec<JournalEntry>, String> {
    let (fs, random) = (Arc::new(world.disk.clone()), world.random.clone());
    let journal = UploadJournal::open(fs, random, Path::new(JOURNAL));
    journal.map(|journal| journal.entries()).map_err(|error| error.to_string())
}

/// The bytes of an object, in pieces; with an error after so many of them, if so.
fn source(
    key: &ObjectKey,
    body: &Bytes,
    piece: usize,
    ends: Option<usize>,
) -> ObjectSource<'static> {
    let (body, whole) = (body.clone(), ends.unwrap_or(usize::MAX));
    let starts = (0..body.len()).step_by(piece);
    let chunks = starts.map(move |at| {
        if at >= whole {
            return Err(SourceError::from("the rows cannot be read"));
        }
        Ok(body.slice(at..body.len().min(at + piece)))
    });
    ObjectSource::streamed(key.clone(), chunks)
}

/// One upload in a process of its own, which may end early; after that, what the next one makes of
/// the journal.
pub(super) fn upload(world: &mut World) -> Result<(), String> {
    let (before, name) = (world.truth(), key(&format!("u/{}", world.rng.u64(..))));
    let len = world.rng.usize(8..220);
    let body = world.body(&name, len);
    let (piece, fails) = (world.rng.usize(1..50), world.rng.u8(0..12) == 0);
    let ends = fails.then(|| world.rng.usize(..len));
    let end = match world.rng.u8(0..6) {
        0 => End::Kill(world.rng.u32(1..60)),
        1 => End::Power(world.rng.u64(1..12), world.rng.u32(20..60)),
        _ => End::None,
    };
    let uploader = start(world)?;
    let said = run(world, end, uploader.upload(source(&name, &body, piece, ends)));
    let Some(said) = said else {
        drop(uploader);
        return after_the_end(world, end, (&name, &body, &before));
    };
    drop(uploader);
    judge(world, &said, (&name, &body, &before))?;
    if said.is_ok() && journal(world)?.iter().any(|entry| entry.upload.key == name) {
        return Err("the journal keeps an upload that was done".to_owned());
    }
    known(world)
}

/// What was said of an upload, and what became of it.
fn judge(
    world: &mut World,
    said: &Result<Uploaded, UploadError>,
    (name, body, before): (&ObjectKey, &Bytes, &Truth),
) -> Result<(), String> {
    let calls = world.calls()?;
    lost_begins(world, &calls);
    let wanted = Wanted::Body(body, true);
    let facts = (name, before, &calls[..]);
    match said {
        Ok(uploaded) => {
            let told = (uploaded.len, uploaded.crc32);
            if told != (body.len() as u64, crc32fast::hash(body)) {
                return Err(format!("told {told:?} of {} bytes", body.len()));
            }
            world.judge("upload", Ok::<_, &StoreError>(uploaded), wanted, facts)
        }
        Err(UploadError::Store(error)) => {
            world.judge("upload", Err::<&Uploaded, _>(error), wanted, facts)
        }
        Err(UploadError::Source { .. }) if world.truth() == *before => Ok(()),
        Err(error) => Err(format!("nothing explains this end: {error}")),
    }
}

/// Polls an upload until it ends or its process does.
fn run<T>(world: &mut World, end: End, future: impl Future<Output = T>) -> Option<T> {
    let mut future = pin!(future);
    let mut context = Context::from_waker(Waker::noop());
    let polls = match end {
        End::None => u32::MAX,
        End::Kill(polls) => polls,
        End::Power(call, polls) => {
            let moments = [PowerMoment::Before, PowerMoment::Middle, PowerMoment::After];
            world.disk.power_off_at_moment(call, moments[world.rng.usize(..moments.len())]);
            polls
        }
    };
    for _ in 0..polls {
        let polled = future.as_mut().poll(&mut context);
        if !world.disk.is_powered() {
            return None;
        }
        if let Poll::Ready(value) = polled {
            if matches!(end, End::Power(..)) {
                // It was quicker.
                world.disk.reboot(CrashPolicy::KeepAll);
            }
            return Some(value);
        }
    }
    None
}

/// The next process: what was there is the object or nothing, and the journal is enough to end all
/// uploads that had been written down.
fn after_the_end(
    world: &mut World,
    end: End,
    (name, body, before): (&ObjectKey, &Bytes, &Truth),
) -> Result<(), String> {
    let policies = [CrashPolicy::DropAll, CrashPolicy::KeepAll, CrashPolicy::Random];
    match end {
        End::Power(..) => {
            world.disk.crash(policies[world.rng.usize(..policies.len())]);
            world.count("uploads that lost power");
        }
        _ => {
            world.disk.kill();
            world.count("uploads killed");
        }
    }
    let calls = world.calls()?;
    lost_begins(world, &calls);
    // Begun, and not yet written down.
    *world.orphans.entry(name.clone()).or_default() += 1;
    let after = world.truth();
    let whole = after.get(name).is_none_or(|object| object.body == *body);
    if !whole || after.len() > before.len() + 1 {
        return Err("a killed upload left something else than its object".to_owned());
    }
    known(world)?;
    let entry = journal(world)?.into_iter().find(|entry| entry.upload.key == *name);
    match entry {
        Some(entry) if world.rng.bool() => resume(world, &entry, (name, body)),
        _ => recover(world).map(drop),
    }
}

/// Goes on with an upload of another process.
fn resume(
    world: &mut World,
    entry: &JournalEntry,
    (name, body): (&ObjectKey, &Bytes),
) -> Result<(), String> {
    let (uploader, before) = (start(world)?, world.truth());
    let piece = world.rng.usize(1..50);
    let said = drive(uploader.resume(entry, source(name, body, piece, None)));
    match &said {
        // It had been completed.
        Err(UploadError::Store(error))
            if error.kind == StoreErrorKind::NoSuchUpload
                && !world.under_way().contains(&entry.upload) =>
        {
            world.calls()?;
            if world.truth() != before && error.outcome == Outcome::NotDone {
                return Err("an upload that was over has changed something".to_owned());
            }
        }
        said => {
            judge(world, said, (name, body, &before))?;
            if said.is_ok() {
                world.count("uploads resumed");
            }
        }
    }
    known(world)
}

/// Recovers as the next process would; true if the journal is empty after it.
fn recover(world: &mut World) -> Result<bool, String> {
    let uploader = start(world)?;
    let before = world.truth();
    let recovered = drive(uploader.recover());
    world.calls()?;
    if world.truth() != before {
        return Err("a recovery changed an object".to_owned());
    }
    for recovered in recovered {
        let upload = &recovered.entry.upload;
        let (goes_on, object) = (world.under_way().contains(upload), before.get(&upload.key));
        match (recovered.end, object) {
            (RecoveredEnd::Aborted, None) if !goes_on => world.count("recovered: aborted"),
            (RecoveredEnd::Object(head), Some(object)) if !goes_on && head == object.head => {
                world.count("recovered: object");
            }
            (RecoveredEnd::Unsettled(_), _) => world.count("recovered: not yet"),
            (end, object) => return Err(format!("{upload:?} is {end:?}, and there is {object:?}")),
        }
    }
    known(world)?;
    Ok(journal(world)?.is_empty())
}

/// Every upload of the uploader that the store has is in the journal, but those that a lost answer or a
/// crash explains.
fn known(world: &World) -> Result<(), String> {
    let journal = journal(world)?;
    let named = |upload: &Upload| journal.iter().any(|entry| entry.upload == *upload);
    let mut unnamed = std::collections::BTreeMap::<ObjectKey, usize>::new();
    for upload in world.under_way() {
        if !named(&upload) && !world.begun.iter().any(|begun| begun.upload == upload) {
            *unnamed.entry(upload.key).or_default() += 1;
        }
    }
    for (key, count) in unnamed {
        let explained = world.orphans.get(&key).copied().unwrap_or(0);
        if count > explained {
            return Err(format!("{count} uploads of {key} are forgotten, {explained} explained"));
        }
    }
    Ok(())
}

/// The end of a life: once the store works, the journal and a sweep leave no upload.
pub(super) fn finish(world: &mut World) -> Result<(), String> {
    world.fair_weather();
    if !recover(world)? {
        return Err("the journal is not empty, though the store works".to_owned());
    }
    let (uploader, left, before) = (start(world)?, world.under_way().len(), world.truth());
    let report = drive(uploader.sweep("", Duration::ZERO)).map_err(|error| error.to_string())?;
    world.calls()?;
    if !world.under_way().is_empty() || (report.found, report.aborted) != (left as u64, left as u64)
    {
        return Err(format!("{left} uploads were left, {report:?}, {:?}", world.under_way()));
    }
    if left > 0 {
        world.count("swept");
    }
    world.begun.clear();
    if world.truth() == before { Ok(()) } else { Err("a sweep changed an object".to_owned()) }
}
