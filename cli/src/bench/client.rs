//! A client of the S3 server of the benchmarks, as a program would have it: with retries. The server
//! needs no trying out, which would count, and would meet the failures that were asked for.

use crate::error::{CliError, Result};
use akidb::tiering::{
    Capabilities, EndpointSettings, RetryingStore, Surroundings,
    s3::{Credentials, S3Settings, S3Store},
};
use akidb_s3server::{ACCESS_KEY, REGION, SECRET_KEY};
use std::sync::Arc;

/// The bucket of the server.
pub(super) const BUCKET: &str = "bench";

/// A client that makes so many requests at once, or the usual number if that is more.
pub(super) fn open(endpoint: &str, requests: u32) -> Result<Arc<RetryingStore>> {
    let settings = S3Settings::new(BUCKET)
        .endpoint(endpoint)
        .region(REGION)
        .credentials(Credentials::new(ACCESS_KEY, SECRET_KEY))
        .allow_plain_http()
        .assume(Capabilities::ALL_BUT_AGES);
    let store = futures_lite::future::block_on(S3Store::open(settings));
    let store = store.map_err(|error| CliError::Store(Box::new(error)))?;
    let surroundings = Surroundings::of_machine().map_err(CliError::Thread)?;
    let defaults = EndpointSettings::default();
    let requests_max = defaults.requests_max.max(requests);
    let settings = EndpointSettings { requests_max, ..defaults };
    Ok(Arc::new(RetryingStore::new(Arc::new(store), settings, surroundings)))
}
