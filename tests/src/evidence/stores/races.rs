//! Several writers of one key at once, under one condition: at most one wins, and knows it.

use super::world::{CLIENTS, World, stale};
use akidb_tiering::{
    BoxFuture, BreakerOpen, ObjectKey, ObjectStore, Outcome, PutCondition, PutId, PutOptions,
    PutReceipt, StoreErrorKind, StoreResult,
};
use bytes::Bytes;
use fastrand::Rng;
use std::task::{Context, Poll, Waker};

/// A writer: its mark, and what it wrote.
struct Writer {
    id: PutId,
    body: Bytes,
}

/// One race.
pub(super) fn race(world: &mut World) -> Result<(), String> {
    let (before, key) = (world.truth(), world.key());
    let there = before.get(&key).map(|object| object.head.etag.clone());
    let (condition, holds) = match (world.rng.bool(), there) {
        (true, Some(etag)) => (PutCondition::IfMatch(etag), true),
        (true, None) => (PutCondition::IfMatch(stale()), false),
        (false, there) => (PutCondition::IfAbsent, there.is_none()),
    };
    let writers = writers(world, &key);
    let said = results(world, &key, &condition, &writers);
    let calls = world.calls()?;
    let after = world.truth();
    let (was, is) = (before.get(&key), after.get(&key));
    let found = is.and_then(|object| object.head.put_id);
    let wrong = |text: &str| Err(format!("{text}: {condition:?}, {was:?} -> {is:?}, {said:?}"));
    let mut winners = 0;
    for (writer, said) in writers.iter().zip(&said) {
        let is_there = found == Some(writer.id) && was != is;
        match said {
            Ok(receipt) => {
                winners += 1;
                let told = is.is_some_and(|object| {
                    object.head.etag == receipt.etag && object.body == writer.body
                });
                if !is_there || !told {
                    return wrong("a winner's object is not there");
                }
            }
            Err(error) if error.outcome == Outcome::NotDone && is_there => {
                return wrong("the object of a writer is there that was told it is not");
            }
            Err(error) => world.explained(error, false, &calls)?,
        }
    }
    if winners > u32::from(holds) || (!holds && was != is) {
        return wrong("too many winners");
    }
    let refused = |said: &StoreResult<PutReceipt>| {
        let source = said.as_ref().err().and_then(|error| error.source.as_ref());
        source.is_some_and(|source| source.is::<BreakerOpen>())
    };
    let calm = calls.iter().all(|call| call.fault.is_none()) && !said.iter().any(refused);
    if calm && winners != u32::from(holds) {
        return wrong("nobody has won, though nothing failed");
    }
    let lost = |said: &StoreResult<PutReceipt>| {
        said.as_ref().is_err_and(|error| error.kind == StoreErrorKind::PreconditionFailed)
    };
    if calm && said.iter().filter(|said| lost(said)).count() as u32 + winners != said.len() as u32 {
        return wrong("a loser was not told why");
    }
    world.count(if winners > 0 { "races with a winner" } else { "races without one" });
    Ok(())
}

/// Two or three; now and then all with the same bytes, so that only their marks tell them apart.
fn writers(world: &mut World, key: &ObjectKey) -> Vec<Writer> {
    let same = (world.rng.u8(0..3) == 0).then(|| world.body(key, 20));
    let count = world.rng.usize(2..=CLIENTS);
    let writer = |world: &mut World| {
        let body = same.clone().unwrap_or_else(|| world.body(key, 20));
        Writer { id: PutId::new(world.rng.u128(..)), body }
    };
    (0..count).map(|_| writer(world)).collect()
}

fn results(
    world: &mut World,
    key: &ObjectKey,
    condition: &PutCondition,
    writers: &[Writer],
) -> Vec<StoreResult<PutReceipt>> {
    let puts = world.clients.iter().zip(writers).map(|(client, writer)| {
        let mut options = PutOptions::default().with_put_id(writer.id);
        options.condition = condition.clone();
        client.put(key, writer.body.clone(), options)
    });
    in_any_order(&mut world.rng, puts.collect())
}

/// Polls all of them to their ends, each time another one, by chance.
fn in_any_order<T>(rng: &mut Rng, futures: Vec<BoxFuture<'_, T>>) -> Vec<T> {
    let mut results: Vec<Option<T>> = futures.iter().map(|_| None).collect();
    let mut running: Vec<_> = futures.into_iter().enumerate().collect();
    let mut context = Context::from_waker(Waker::noop());
    while !running.is_empty() {
        let turn = rng.usize(..running.len());
        let (at, future) = &mut running[turn];
        if let Poll::Ready(result) = future.as_mut().poll(&mut context) {
            results[*at] = Some(result);
            drop(running.swap_remove(turn));
        }
    }
    results.into_iter().flatten().collect()
}
