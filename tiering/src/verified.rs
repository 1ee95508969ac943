//! The two ways of the engine's data: into a store and out of it, each checked at its end.
//!
//! Owns the read-back after an unknown outcome (an answer that was lost is not a failure) and the
//! comparison of length and checksum; a read that does not pass is made again, because bytes are lost
//! on the way more often than in a store. Never repeats a call that failed: that is the layer above,
//! which hands the same [`PutId`](crate::PutId) to each try. Called by the engine, the uploader and
//! the contract.

use crate::{
    Head, Object, ObjectKey, ObjectStore, Outcome, PutOptions, PutReceipt, StoreError,
    StoreErrorKind, StoreResult,
};
use akidb_vfs::planted;
use bytes::Bytes;
use std::ops::Range;

/// How often an object is read whose bytes are not those expected: one cut connection must not pass
/// for damage, and neither must two in a row; more would only make real damage slower to tell.
const READS_MAX: u32 = 3;

/// Gets an object and checks that it is the one a manifest names. Data leaves a store for the engine
/// in this way, or piece by piece with the same check ([`Misreads`]).
///
/// An object whose length or checksum is another is read again, at once, three times in all. Damage
/// in the store reads the same each time: then it fails with [`StoreErrorKind::Corrupt`]. A body that
/// was cut or changed on its way does not: if no read passed and they differ, it fails with
/// [`StoreErrorKind::Unavailable`], and may be tried again later.
pub async fn get_verified(
    store: &dyn ObjectStore,
    key: &ObjectKey,
    len: u64,
    crc32: u32,
) -> StoreResult<Bytes> {
    let mut misreads = Misreads::of(len, crc32);
    loop {
        let Object { body, head } = store.get(key).await?;
        if misreads.passes(head.len, head.crc32) {
            return Ok(body);
        }
        misreads.note(key, head.len, head.crc32)?;
    }
}

/// Gets a part of an object, and checks that it is the one a manifest names; as [`get_verified`].
/// An object that ends before the range does is damage.
pub async fn get_slice_verified(
    store: &dyn ObjectStore,
    key: &ObjectKey,
    range: Range<u64>,
    crc32: u32,
) -> StoreResult<Bytes> {
    let mut misreads = Misreads::of(range.end.saturating_sub(range.start), crc32);
    loop {
        let mut parts = match store.get_ranges(key, std::slice::from_ref(&range)).await {
            Err(error) if error.kind == StoreErrorKind::InvalidRange => Vec::new(),
            parts => parts?,
        };
        let body = parts.pop().unwrap_or_default();
        let (len, crc32) = (body.len() as u64, crc32fast::hash(&body));
        if misreads.passes(len, crc32) {
            return Ok(body);
        }
        misreads.note(key, len, crc32)?;
    }
}

/// Reads of one object whose bytes were not those that a manifest names: how many there were, and
/// whether to read once more. For those who read an object otherwise than [`get_verified`] does.
#[derive(Clone, Copy, Debug)]
pub struct Misreads {
    expected: (u64, u32),
    reads: u32,
    found: Option<(u64, u32)>,
    differ: bool,
}

impl Misreads {
    /// None yet, of an object of this length and checksum.
    pub fn of(len: u64, crc32: u32) -> Self {
        Self { expected: (len, crc32), reads: 0, found: None, differ: false }
    }

    /// True if what a read found is the object.
    pub fn passes(&self, len: u64, crc32: u32) -> bool {
        (len, crc32) == self.expected || planted("verified.get-unchecked")
    }

    /// Notes a read that did not pass. `Ok` if it is worth another.
    ///
    /// # Errors
    /// After the third: [`StoreErrorKind::Corrupt`] if all found the same, else
    /// [`StoreErrorKind::Unavailable`].
    pub fn note(&mut self, key: &ObjectKey, len: u64, crc32: u32) -> StoreResult<()> {
        self.reads += 1;
        self.differ |= self.found.is_some_and(|before| before != (len, crc32));
        self.found = Some((len, crc32));
        if self.reads < READS_MAX {
            return Ok(());
        }
        let differ = self.differ;
        let kind = if differ { StoreErrorKind::Unavailable } else { StoreErrorKind::Corrupt };
        let how = if differ { "other bytes in each of" } else { "the same in all of" };
        let (expected_len, expected_crc32) = self.expected;
        let detail = format!(
            "expected {expected_len} bytes with CRC-32 {expected_crc32:08x}, found {len} with \
             {crc32:08x}, {how} {READS_MAX} reads"
        );
        Err(StoreError::not_done(kind, key).with_source(detail))
    }
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
        (Some(ours), Some(found)) => ours == found || planted("retry.mark-ignored"),
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
