//! Finding out what a store can do by trying it, under keys of the probe's own.
//!
//! Servers that speak S3 answer 200 to a conditional put whose condition they did not look at, so
//! the only proof is to lose a race on purpose. Called when a store over a network is opened, and
//! by whoever writes a store; [`Capabilities`] says what the answers are used for.
//!
//! Leaves nothing behind unless the store fails meanwhile; what is left lies below the given key.

use crate::{
    Capabilities, ETag, MultipartStore, ObjectKey, ObjectStore, PartLimits, PutCondition, PutId,
    PutOptions, StoreError, StoreErrorKind, StoreResult, UploadOptions, join, store::BoxFuture,
};
use bytes::Bytes;

/// How many creates race: with fewer a server that checks and then writes may look atomic.
const RACING_CREATES: u8 = 8;

/// Tries out conditional puts (also racing ones), marks, ages and uploads in parts, below
/// `scratch`, a key that nobody else uses. What it cannot see from here (ranges, batches,
/// checksums) is taken from the store's own word.
///
/// # Errors
/// Whatever keeps it from finding out: no access, no such bucket, no answer, or other bytes read
/// than put.
///
/// ```
/// use akidb_tiering::{MemoryStore, ObjectKey, ObjectStore, probe};
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let store = MemoryStore::new();
/// let found = futures_lite::future::block_on(probe(&store, &ObjectKey::new("probe/1f")?))?;
/// assert_eq!(found, store.capabilities());
/// # Ok(())
/// # }
/// ```
pub async fn probe(store: &dyn ObjectStore, scratch: &ObjectKey) -> StoreResult<Capabilities> {
    let keys = Keys::below(scratch)?;
    let found = run(store, &keys).await;
    for key in [&keys.whole, &keys.absent, &keys.raced, &keys.parts] {
        // What was found counts; a leftover is garbage below the scratch key.
        drop(store.delete(key).await);
    }
    found
}

/// The objects of one probe.
struct Keys {
    whole: ObjectKey,
    absent: ObjectKey,
    raced: ObjectKey,
    parts: ObjectKey,
}

impl Keys {
    fn below(scratch: &ObjectKey) -> StoreResult<Self> {
        let key = |name: &str| {
            ObjectKey::new(format!("{scratch}/{name}")).map_err(|error| {
                StoreError::not_done(StoreErrorKind::Unsupported, scratch).with_source(error)
            })
        };
        let (whole, absent) = (key("whole")?, key("absent")?);
        Ok(Self { whole, absent, raced: key("raced")?, parts: key("parts")? })
    }
}

async fn run(store: &dyn ObjectStore, keys: &Keys) -> StoreResult<Capabilities> {
    let told = store.capabilities();
    let (etag, put_ids) = whole(store, &keys.whole).await?;
    let ages = has_ages(store, &keys.whole).await?;
    let if_absent =
        keeps_existing(store, &keys.whole).await? && one_wins(store, &keys.raced).await?;
    let if_match = matches_tags(store, keys, etag).await?;
    let (parts, conditional_complete) = match store.multipart() {
        Some(multipart) => parts(store, multipart, &keys.parts, told.parts).await?,
        None => (None, false),
    };
    let conditional_complete = conditional_complete && if_absent;
    Ok(Capabilities { if_absent, if_match, put_ids, ages, parts, conditional_complete, ..told })
}

/// One plain put, and whether its mark comes back. A store that gets this wrong is no store.
async fn whole(store: &dyn ObjectStore, key: &ObjectKey) -> StoreResult<(ETag, bool)> {
    let put_id = PutId::new(u128::from(crc32fast::hash(key.as_str().as_bytes())));
    let body = Bytes::from_static(b"akidb probe");
    let crc32 = crc32fast::hash(&body);
    let options = PutOptions::default().with_put_id(put_id);
    let receipt = store.put(key, body.clone(), options).await?;
    let head = store.head(key).await?;
    if head.len != body.len() as u64 || head.crc32 != crc32 || store.get(key).await?.body != body {
        let detail = "the store gives back other bytes than it was given";
        return Err(StoreError::not_done(StoreErrorKind::Corrupt, key).with_source(detail));
    }
    Ok((receipt.etag, head.put_id == Some(put_id)))
}

async fn has_ages(store: &dyn ObjectStore, key: &ObjectKey) -> StoreResult<bool> {
    let page = store.list(key.as_str(), None, 1).await?;
    Ok(page.objects.first().is_some_and(|object| object.age.is_some()))
}

/// True if the condition was seen to be refused; false if it was ignored or is not known.
fn refused<T>(result: StoreResult<T>) -> StoreResult<bool> {
    match result {
        Ok(_) => Ok(false),
        Err(error) if error.kind == StoreErrorKind::PreconditionFailed => Ok(true),
        // No answer is no proof of anything: the caller asks again later.
        Err(error) if error.kind.is_transient() => Err(error),
        Err(_) => Ok(false),
    }
}

async fn keeps_existing(store: &dyn ObjectStore, key: &ObjectKey) -> StoreResult<bool> {
    let second = store.put(key, Bytes::from_static(b"second"), PutOptions::if_absent()).await;
    refused(second)
}

async fn one_wins(store: &dyn ObjectStore, key: &ObjectKey) -> StoreResult<bool> {
    let create = |body: u8| -> BoxFuture<'_, _> {
        store.put(key, Bytes::from(vec![body; 64]), PutOptions::if_absent())
    };
    let results = join::all((0..RACING_CREATES).map(create).collect()).await;
    let mut winners = 0;
    for result in results {
        match result {
            Ok(_) => winners += 1,
            // Answered to some racers; the winner has been told that it is.
            Err(error) if error.kind == StoreErrorKind::Conflict => {}
            lost => drop(refused(lost)?),
        }
    }
    Ok(winners == 1)
}

async fn matches_tags(store: &dyn ObjectStore, keys: &Keys, etag: ETag) -> StoreResult<bool> {
    let body = Bytes::from_static(b"akidb probe, replaced");
    // Of the form of a tag, since some servers refuse others as malformed.
    let stray = ETag::new("\"00000000000000000000000000000000\"");
    for key in [&keys.whole, &keys.absent] {
        let put = store.put(key, body.clone(), PutOptions::if_match(stray.clone())).await;
        if !refused(put)? {
            return Ok(false);
        }
    }
    match store.put(&keys.whole, body.clone(), PutOptions::if_match(etag)).await {
        Ok(_) => Ok(true),
        Err(error) if error.kind.is_transient() => Err(error),
        Err(_) => Ok(false),
    }
}

/// A whole upload of one short part, and whether its end looks at conditions.
async fn parts(
    store: &dyn ObjectStore,
    multipart: &dyn MultipartStore,
    key: &ObjectKey,
    told: Option<PartLimits>,
) -> StoreResult<(Option<PartLimits>, bool)> {
    let limits = told.unwrap_or(PartLimits::S3);
    match upload_one(multipart, key, PutCondition::Any).await {
        Ok(()) => {}
        Err(error) if error.kind.is_transient() => return Err(error),
        Err(_) => return Ok((None, false)),
    }
    if store.head(key).await?.len != PART.len() as u64 {
        return Ok((None, false));
    }
    let second = upload_one(multipart, key, PutCondition::IfAbsent).await;
    Ok((Some(limits), refused(second)?))
}

const PART: &[u8] = b"akidb probe, in parts";

async fn upload_one(
    multipart: &dyn MultipartStore,
    key: &ObjectKey,
    condition: PutCondition,
) -> StoreResult<()> {
    let upload = multipart.create(key, UploadOptions::default()).await?;
    let ended = async {
        let part = multipart.put_part(&upload, 1, Bytes::from_static(PART)).await?;
        multipart.complete(&upload, &[part], condition).await
    };
    let ended = ended.await;
    if ended.is_err() {
        // A store that cannot even abort leaves it to its own clean-up.
        drop(multipart.abort(&upload).await);
    }
    ended.map(drop)
}
