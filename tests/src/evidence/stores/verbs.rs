//! Steps of one verb by one client.

use super::world::{Begun, Truth, Wanted, World, drive, stale};
use akidb_tiering::{
    MultipartStore, ObjectKey, ObjectStore, Outcome, PartReceipt, PutCondition, PutOptions,
    StoreError, StoreErrorKind, Upload, faulty::Verb, get_verified,
};
use bytes::Bytes;
use std::collections::BTreeMap;

/// A put under any condition.
pub(super) fn put(world: &mut World) -> Result<(), String> {
    let (before, key) = (world.truth(), world.key());
    let len = world.rng.usize(0..64);
    let body = world.body(&key, len);
    let there = before.get(&key).map(|object| object.head.etag.clone());
    let (condition, holds) = match (world.rng.u8(0..5), there) {
        (0 | 1, _) => (PutCondition::Any, true),
        (2, there) => (PutCondition::IfAbsent, there.is_none()),
        (3, Some(etag)) => (PutCondition::IfMatch(etag), true),
        _ => (PutCondition::IfMatch(stale()), false),
    };
    let mut options = PutOptions::default();
    options.condition = condition;
    let client = world.client();
    let said = drive(client.put(&key, body.clone(), options));
    let calls = world.tries(Verb::Put)?;
    let facts = (&key, &before, &calls[..]);
    world.judge("put", said.as_ref(), Wanted::Body(&body, holds), facts)?;
    match (said, world.truth().get(&key)) {
        (Ok(receipt), Some(object)) => {
            let told = (receipt.len, receipt.crc32, &receipt.etag);
            let found = (object.head.len, object.head.crc32, &object.head.etag);
            if told == found { Ok(()) } else { Err(format!("told {told:?}, found {found:?}")) }
        }
        _ => Ok(()),
    }
}

/// An error of a call that changes nothing: it says so, and something explains it.
fn unread(world: &mut World, error: &StoreError, verb: Verb) -> Result<(), String> {
    let calls = world.tries(verb)?;
    if error.outcome != Outcome::NotDone {
        return Err(format!("a call that changes nothing is in doubt: {error}"));
    }
    world.explained(error, false, &calls)
}

/// The whole object, as a manifest names it.
pub(super) fn get(world: &mut World) -> Result<(), String> {
    let (truth, key, client) = (world.truth(), world.key(), world.client());
    let named = truth.get(&key).map_or((8, 0), |object| (object.head.len, object.head.crc32));
    let got = drive(get_verified(&*client, &key, named.0, named.1));
    match (got, truth.get(&key)) {
        (Ok(body), Some(object)) if body == object.body => world.tries(Verb::Get).map(drop),
        (Err(error), None) if error.kind == StoreErrorKind::NotFound => {
            world.tries(Verb::Get).map(drop)
        }
        // Each of the reads was cut off.
        (Err(error), Some(_)) if error.kind == StoreErrorKind::Corrupt => {
            let calls = world.tries(Verb::Get)?;
            let cut = calls.iter().filter(|call| call.failed.is_none() && call.fault.is_some());
            if cut.count() >= 3 { Ok(()) } else { Err(error.to_string()) }
        }
        (Err(error), _) => unread(world, &error, Verb::Get),
        (Ok(body), object) => Err(format!("read {body:?}, and there is {object:?}")),
    }
}

/// Parts of an object.
pub(super) fn get_ranges(world: &mut World) -> Result<(), String> {
    let (truth, key, client) = (world.truth(), world.key(), world.client());
    let len = truth.get(&key).map_or(8, |object| object.head.len);
    let range = |world: &mut World| {
        let start = world.rng.u64(0..=len);
        start..world.rng.u64(start..=len)
    };
    let ranges: Vec<_> = (0..world.rng.usize(0..4)).map(|_| range(world)).collect();
    match (drive(client.get_ranges(&key, &ranges)), truth.get(&key)) {
        (Ok(parts), Some(object)) => {
            let calls = world.tries(Verb::GetRanges)?;
            // A read of ranges carries no checksum: a cut one is the caller's to find.
            let cut = calls.last().is_some_and(|call| call.fault.is_some());
            let slice = |range: &std::ops::Range<u64>| {
                object.body.slice(range.start as usize..range.end as usize)
            };
            let whole: Vec<_> = ranges.iter().map(slice).collect();
            if cut || parts == whole { Ok(()) } else { Err(format!("{parts:?}, not {whole:?}")) }
        }
        (Err(error), None) if error.kind == StoreErrorKind::NotFound => {
            world.tries(Verb::GetRanges).map(drop)
        }
        (Err(error), _) => unread(world, &error, Verb::GetRanges),
        (Ok(parts), None) => Err(format!("read {parts:?} of nothing")),
    }
}

/// What is known of an object.
pub(super) fn head(world: &mut World) -> Result<(), String> {
    let (truth, key, client) = (world.truth(), world.key(), world.client());
    match (drive(client.head(&key)), truth.get(&key)) {
        (Ok(head), Some(object)) if head == object.head => world.tries(Verb::Head).map(drop),
        (Err(error), None) if error.kind == StoreErrorKind::NotFound => {
            world.tries(Verb::Head).map(drop)
        }
        (Err(error), _) => unread(world, &error, Verb::Head),
        (Ok(head), object) => Err(format!("told {head:?}, and there is {object:?}")),
    }
}

/// One delete.
pub(super) fn delete(world: &mut World) -> Result<(), String> {
    let (before, key, client) = (world.truth(), world.key(), world.client());
    let said = drive(client.delete(&key));
    let calls = world.tries(Verb::Delete)?;
    world.judge("delete", said.as_ref(), Wanted::Gone, (&key, &before, &calls))
}

/// Several at once: each key for itself.
pub(super) fn delete_many(world: &mut World) -> Result<(), String> {
    let (before, client) = (world.truth(), world.client());
    let mut keys: Vec<_> = (0..world.rng.usize(1..4)).map(|_| world.key()).collect();
    keys.sort_unstable();
    keys.dedup();
    let said = drive(client.delete_many(&keys));
    let calls = world.tries(Verb::Delete)?;
    let after = world.truth();
    if said.len() != keys.len() {
        return Err(format!("{} results of {} keys", said.len(), keys.len()));
    }
    for (key, said) in keys.iter().zip(&said) {
        // For this key alone: of the others it says nothing.
        let only = |truth: &Truth| {
            let mut rest: Truth = after.clone();
            rest.remove(key);
            rest.extend(truth.get(key).map(|object| (key.clone(), object.clone())));
            rest
        };
        world.judge(
            "delete of many",
            said.as_ref(),
            Wanted::Gone,
            (key, &only(&before), &calls),
        )?;
    }
    Ok(())
}

/// A whole listing, in pages.
pub(super) fn list(world: &mut World) -> Result<(), String> {
    let (truth, client) = (world.truth(), world.client());
    let (mut found, mut after, limit) = (Vec::new(), None, world.rng.usize(1..4));
    loop {
        match drive(client.list("k/", after.as_ref(), limit)) {
            Ok(page) => {
                found.extend(page.objects.into_iter().map(|object| (object.key, object.len)));
                after = page.next;
            }
            Err(error) => return unread(world, &error, Verb::List),
        }
        if after.is_none() {
            break;
        }
    }
    world.tries(Verb::List)?;
    let there = truth.into_iter().filter(|(key, _)| key.as_str().starts_with("k/"));
    let there: Vec<_> = there.map(|(key, object)| (key, object.head.len)).collect();
    if found == there { Ok(()) } else { Err(format!("listed {found:?}, and there is {there:?}")) }
}

fn multipart(client: &dyn ObjectStore) -> Result<&dyn MultipartStore, String> {
    client.multipart().ok_or_else(|| "a client hides the uploads in parts".to_owned())
}

/// How many uploads of this key may be there without anybody knowing, because of answers of a begin
/// that were lost.
pub(super) fn lost_begins(world: &mut World, calls: &[akidb_tiering::faulty::Call]) {
    for call in calls.iter().filter(|call| call.verb == Verb::CreateUpload) {
        if let (Some(key), Some(_), Some(_)) = (&call.key, call.fault, call.failed) {
            *world.orphans.entry(key.clone()).or_default() += 1;
        }
    }
}

/// The begin of an upload in parts.
pub(super) fn begin(world: &mut World) -> Result<(), String> {
    let (key, client) = (world.key(), world.client());
    let said = drive(multipart(&*client)?.create(&key, Default::default()));
    let calls = world.tries(Verb::CreateUpload)?;
    lost_begins(world, &calls);
    match said {
        Ok(upload) if world.under_way().contains(&upload) => {
            world.begun.push(Begun { upload, parts: BTreeMap::new() });
            Ok(())
        }
        Ok(upload) => Err(format!("{upload:?} was not begun")),
        Err(error) => world.explained(&error, true, &calls),
    }
}

/// One of the uploads under way, if there is one, taken out of the model.
fn take_begun(world: &mut World) -> Option<Begun> {
    let at = world.rng.usize(..world.begun.len().max(1));
    (at < world.begun.len()).then(|| world.begun.swap_remove(at))
}

/// A part, perhaps in the place of another.
pub(super) fn part(world: &mut World) -> Result<(), String> {
    let Some(Begun { upload, mut parts }) = take_begun(world) else { return begin(world) };
    let (client, number) = (world.client(), world.rng.u32(1..4));
    let len = world.rng.usize(16..40);
    let body: Bytes = (0..len).map(|_| world.rng.u8(..)).collect();
    let said = drive(multipart(&*client)?.put_part(&upload, number, body.clone()));
    let calls = world.tries(Verb::PutPart)?;
    match said {
        Ok(receipt) => {
            let sum = (receipt.number, receipt.len, receipt.crc32);
            if sum != (number, body.len() as u64, crc32fast::hash(&body)) {
                return Err(format!("part {number} was told as {receipt:?}"));
            }
            parts.insert(number, (body, receipt));
        }
        Err(error) => {
            world.explained(&error, true, &calls)?;
            if error.outcome == Outcome::Unknown {
                // Which of the two it is now, only its tag would say.
                parts.remove(&number);
            }
        }
    }
    same_parts(world, &upload, &parts)?;
    world.begun.push(Begun { upload, parts });
    Ok(())
}

/// Every part that the model has is in the store, and listed by a client as it is there.
fn same_parts(
    world: &mut World,
    upload: &Upload,
    parts: &BTreeMap<u32, (Bytes, PartReceipt)>,
) -> Result<(), String> {
    let truth = drive(world.memory.list_parts(upload, None, usize::MAX));
    let there = truth.map_err(|error| error.to_string())?.parts;
    for (number, (body, receipt)) in parts {
        let found = there.iter().find(|part| part.number == *number);
        let kept = |part: &akidb_tiering::ListedPart| {
            part.len == body.len() as u64 && part.etag == receipt.etag
        };
        if !found.is_some_and(kept) {
            return Err(format!("part {number} is not the one that was told: {found:?}"));
        }
    }
    let (client, mut listed, mut after) = (world.client(), Vec::new(), None);
    loop {
        match drive(multipart(&*client)?.list_parts(upload, after, 2)) {
            Ok(page) => {
                listed.extend(page.parts);
                after = page.next;
            }
            Err(error) => return unread(world, &error, Verb::ListParts),
        }
        if after.is_none() {
            world.tries(Verb::ListParts)?;
            let same = listed == there;
            return if same { Ok(()) } else { Err(format!("listed {listed:?}, not {there:?}")) };
        }
    }
}

/// The end of an upload: the object of its parts.
pub(super) fn complete(world: &mut World) -> Result<(), String> {
    let Some(begun) = take_begun(world) else { return begin(world) };
    if begun.parts.is_empty() {
        world.begun.push(begun);
        return part(world);
    }
    let Begun { upload, parts } = begun;
    let (before, client) = (world.truth(), world.client());
    let key: ObjectKey = upload.key.clone();
    let whole = Bytes::from(parts.values().flat_map(|(body, _)| body.to_vec()).collect::<Vec<_>>());
    world.means(&key, &whole);
    let receipts: Vec<_> = parts.values().map(|(_, receipt)| receipt.clone()).collect();
    let (condition, holds) = match world.rng.u8(0..3) {
        0 => (PutCondition::IfAbsent, !before.contains_key(&key)),
        _ => (PutCondition::Any, true),
    };
    let said = drive(multipart(&*client)?.complete(&upload, &receipts, condition));
    let calls = world.tries(Verb::Complete)?;
    let facts = (&key, &before, &calls[..]);
    world.judge("complete", said.as_ref(), Wanted::Body(&whole, holds), facts)?;
    let goes_on = world.under_way().contains(&upload);
    match said {
        Ok(_) if goes_on => Err("a completed upload goes on".to_owned()),
        Err(error) if error.outcome == Outcome::NotDone && !goes_on => {
            Err(format!("an upload has ended that was not completed: {error}"))
        }
        _ if goes_on => {
            world.begun.push(Begun { upload, parts });
            Ok(())
        }
        _ => Ok(()),
    }
}

/// The end of an upload that comes to nothing.
pub(super) fn abort(world: &mut World) -> Result<(), String> {
    let Some(begun) = take_begun(world) else { return begin(world) };
    let (before, client) = (world.truth(), world.client());
    let said = drive(multipart(&*client)?.abort(&begun.upload));
    let calls = world.tries(Verb::Abort)?;
    if world.truth() != before {
        return Err("an abort changed an object".to_owned());
    }
    let goes_on = world.under_way().contains(&begun.upload);
    match said {
        Ok(()) if goes_on => return Err("an aborted upload goes on".to_owned()),
        Ok(()) => {}
        Err(error) => {
            world.explained(&error, true, &calls)?;
            if error.outcome == Outcome::NotDone && !goes_on {
                return Err(format!("an upload has ended that was not aborted: {error}"));
            }
        }
    }
    if goes_on {
        world.begun.push(begun);
    }
    Ok(())
}

/// All uploads under way, in pages.
pub(super) fn list_uploads(world: &mut World) -> Result<(), String> {
    let (client, mut listed, mut after) = (world.client(), Vec::new(), None);
    loop {
        match drive(multipart(&*client)?.list_uploads("", after.as_ref(), 2)) {
            Ok(page) => {
                listed.extend(page.uploads.into_iter().map(|listed| listed.upload));
                after = page.next;
            }
            Err(error) => return unread(world, &error, Verb::ListUploads),
        }
        if after.is_none() {
            world.tries(Verb::ListUploads)?;
            let there = world.under_way();
            let same = listed == there;
            return if same { Ok(()) } else { Err(format!("listed {listed:?}, not {there:?}")) };
        }
    }
}
