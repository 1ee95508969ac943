//! Finding out what a server can do when a bucket is opened: what only this client can see (ranges,
//! batches, checksums), then what any store can be asked ([`probe`](crate::probe())).

use super::{
    Inner, Known, S3Store,
    client::Reading,
    errors::{About, Said},
    sign::Request,
};
use crate::{Capabilities, ObjectKey, StoreError, StoreErrorKind, StoreResult, probe};
use bytes::Bytes;
use rusty_s3::Method;

/// What the checks put.
const BODY: &[u8] = b"akidb probe: sixteen bytes and some more";

/// Tries everything below keys that end in `nonce`, and returns what was found.
pub(super) async fn run(store: &S3Store, nonce: u128) -> StoreResult<Capabilities> {
    let scratch = format!("akidb-probe/{nonce:032x}");
    let key = |text: String| {
        ObjectKey::new(text)
            .map_err(|error| StoreError::listing(StoreErrorKind::Misconfigured).with_source(error))
    };
    let checked = key(format!("{scratch}/checked"))?;
    let found = store.run(|inner| async move { inner.check(&checked).await }).await?;
    *store.inner.known.write() = Known::Trying(found);
    probe(store, &key(scratch)?).await
}

impl Inner {
    async fn check(&self, key: &ObjectKey) -> StoreResult<Capabilities> {
        // Says at once if the bucket is wrong, before anything is put into it.
        self.list("akidb-probe/", None, 1).await?;
        let found = self.check_with(key).await;
        // A leftover is garbage below the probe's prefix.
        drop(self.delete(key).await);
        found
    }

    async fn check_with(&self, key: &ObjectKey) -> StoreResult<Capabilities> {
        let checksums = self.verifies(key).await? && self.keeps_checksum(key).await?;
        let ranges = self.has_ranges(key).await?;
        let batch_delete = match self.delete_batch(std::slice::from_ref(key)).await {
            Ok(results) => results.iter().all(Result::is_ok),
            Err(error) if error.kind.is_transient() => return Err(error),
            Err(_) => false,
        };
        Ok(Capabilities { checksums, ranges, batch_delete, ..Capabilities::default() })
    }

    /// True if a put with a wrong checksum is refused. Leaves the object with the right bytes.
    async fn verifies(&self, key: &ObjectKey) -> StoreResult<bool> {
        let about = About::changing(key);
        let put = |crc32: u32| {
            let request = Request::new(Method::Put, self.path(key));
            request.body(Bytes::from_static(BODY)).checksum(crc32).encryption(&self.encryption)
        };
        let right = crc32fast::hash(BODY);
        let wrong = self.client.send(&put(!right), &about, Reading::TEXT).await;
        self.client.send(&put(right), &about, Reading::TEXT).await?;
        match wrong {
            Ok(_) => Ok(false),
            // Any 400 says that it was looked at; servers differ in the code.
            Err(error) if status(&error) == Some(400) => Ok(true),
            Err(error) if error.kind.is_transient() => Err(error),
            Err(_) => Ok(false),
        }
    }

    async fn keeps_checksum(&self, key: &ObjectKey) -> StoreResult<bool> {
        let request = Request::new(Method::Head, self.path(key));
        let request = request.header("x-amz-checksum-mode", "ENABLED");
        let answer = self.client.send(&request, &About::reading(key), Reading::TEXT).await?;
        let kept = answer.header("x-amz-checksum-crc32").and_then(super::sign::decode_crc32);
        Ok(kept == Some(crc32fast::hash(BODY)))
    }

    async fn has_ranges(&self, key: &ObjectKey) -> StoreResult<bool> {
        let request = Request::new(Method::Get, self.path(key)).header("range", "bytes=3-5");
        let answer = self.client.send(&request, &About::reading(key), Reading::TEXT).await?;
        Ok(BODY.get(3..6) == Some(&answer.body[..]))
    }
}

/// The status in the answer behind an error.
fn status(error: &StoreError) -> Option<u16> {
    error.source.as_deref()?.downcast_ref::<Said>().map(|said| said.status)
}
