//! The two ways of the engine's data: into a store and out of it, each checked at its end.
//!
//! Owns the read-back after an unknown outcome (an answer that was lost is not a failure) and the
//! comparison of length and checksum. Never retries: that is the layer above, which hands the same
//! [`PutId`](crate::PutId) to each try. Called by the engine, the uploader and the contract.

use crate::{
    Head, Object, ObjectKey, ObjectStore, Outcome, PutOptions, PutReceipt, StoreError,
    StoreErrorKind, StoreResult,
};
use bytes::Bytes;

/// Gets an object and checks that it is the one a manifest names; otherwise
/// [`StoreErrorKind::Corrupt`]. This is the only way data leaves a store for the engine.
pub async fn get_verified(
    store: &dyn ObjectStore,
    key: &ObjectKey,
    len: u64,
    crc32: u32,
) -> StoreResult<Bytes> {
    let Object { body, head } = store.get(key).await?;
    same(key, &head, len, crc32).map(|()| body)
}

/// Puts an object and checks what is stored: `Ok` means that these bytes are under the key,
/// durable, and were read back or summed by the store itself.
///
/// After an unknown outcome the object is looked at: if it is this put's (its mark, where the
/// store keeps marks; its length and checksum, where the put was unconditional), the put was done.
/// A conditional put without a mark stays [`Outcome::Unknown`], since another writer's object of
/// the same bytes cannot be told from one's own.
///
/// Fails with [`StoreErrorKind::Corrupt`] and [`Outcome::Unknown`] if other bytes are stored than
/// were put.
pub async fn put_verified(
    store: &dyn ObjectStore,
    key: &ObjectKey,
    body: Bytes,
    options: PutOptions,
) -> StoreResult<PutReceipt> {
    let (len, crc32) = (body.len() as u64, crc32fast::hash(&body));
    let error = match store.put(key, body, options.clone()).await {
        Ok(receipt) => {
            let head = store.head(key).await.map_err(after_a_put)?;
            same(key, &head, len, crc32).map_err(after_a_put)?;
            return Ok(receipt);
        }
        Err(error) if error.outcome == Outcome::Unknown => error,
        Err(error) => return Err(error),
    };
    let Ok(head) = store.head(key).await else { return Err(error) };
    if is_this_put(&head, &options, len, crc32) {
        return Ok(PutReceipt::of(len, crc32, head.etag));
    }
    Err(error)
}

/// A check that fails after a put that was done does not undo it: the object is there, and whoever
/// takes the put for not done would leave it, or delete what it names.
fn after_a_put(mut error: StoreError) -> StoreError {
    error.outcome = Outcome::Unknown;
    error
}

/// True if what lies there is what a put of these bytes, with these options, stored.
pub(crate) fn is_this_put(head: &Head, options: &PutOptions, len: u64, crc32: u32) -> bool {
    if head.len != len || head.crc32 != crc32 {
        return false;
    }
    match (options.put_id, head.put_id) {
        (Some(ours), Some(found)) => ours == found,
        _ => options.condition == crate::PutCondition::Any,
    }
}

fn same(key: &ObjectKey, head: &Head, len: u64, crc32: u32) -> StoreResult<()> {
    if head.len == len && head.crc32 == crc32 {
        return Ok(());
    }
    let found = format!(
        "expected {len} bytes with CRC-32 {crc32:08x}, found {} with {:08x}",
        head.len, head.crc32
    );
    Err(StoreError::not_done(StoreErrorKind::Corrupt, key).with_source(found))
}
