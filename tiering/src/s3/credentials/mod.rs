//! Credentials: what they are, where they come from, and when they are fetched again.
//!
//! Owns the chain (environment, profile, web identity, container, instance: the order of AWS's own
//! tools) and one cached value. A source that is set up and fails ends the chain with an error: going
//! on would sign as somebody else than the operator meant. Called by the client before each request;
//! a fetch is shared by all requests that wait for it.

use super::{CredentialSource, Secret, settings::Variables};
use crate::{StoreError, StoreErrorKind, StoreResult};
use akidb_vfs::{Clock, Fs, Random};
use std::{fmt, path::PathBuf, sync::Arc, time::Duration};
use tokio::sync::Mutex;

mod remote;
mod sources;

pub use sources::CredentialError;

/// Fetched again this long before they end, so that no request is signed with what ends on its way.
const REFRESH_BEFORE: Duration = Duration::from_secs(300);
/// Up to this much earlier, drawn anew each time, so that many processes do not ask at once.
const REFRESH_JITTER: Duration = Duration::from_secs(60);
/// How long to leave a source alone that failed while the old credentials are still good.
const RETRY_AFTER_FAILURE: Duration = Duration::from_secs(30);

/// What a request is signed with.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    pub(crate) key_id: String,
    pub(crate) secret: Secret,
    pub(crate) token: Option<Secret>,
    /// When they end, in milliseconds since 1970; `None`: never.
    pub(crate) ends_at: Option<u64>,
}

impl Credentials {
    /// A key id and its secret, which never end.
    pub fn new(key_id: impl Into<String>, secret: impl Into<String>) -> Self {
        let (key_id, secret) = (key_id.into(), Secret::new(secret));
        Self { key_id, secret, token: None, ends_at: None }
    }

    /// The same, of a session.
    #[must_use]
    pub fn with_token(mut self, token: impl Into<String>) -> Self {
        self.token = Some(Secret::new(token));
        self
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials")
            .field("key_id", &self.key_id)
            .field("secret", &self.secret)
            .field("ends_at", &self.ends_at)
            .finish_non_exhaustive()
    }
}

/// What the sources need of the world.
#[derive(Clone)]
pub(super) struct World {
    pub(super) variables: Variables,
    pub(super) fs: Arc<dyn Fs>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) random: Arc<dyn Random>,
    pub(super) http: reqwest::Client,
    pub(super) region: String,
}

impl World {
    fn home(&self, below: &str) -> Option<PathBuf> {
        let home = self.variables.get("HOME").or_else(|| self.variables.get("USERPROFILE"))?;
        Some(PathBuf::from(home).join(below))
    }
}

/// Hands out credentials that are still good.
pub(super) struct Provider {
    source: CredentialSource,
    world: World,
    cached: Mutex<Option<Cached>>,
}

struct Cached {
    credentials: Credentials,
    /// When to fetch them again, in milliseconds since 1970.
    refresh_at: u64,
}

impl Provider {
    pub(super) fn new(source: CredentialSource, world: World) -> Self {
        Self { source, world, cached: Mutex::new(None) }
    }

    /// Credentials to sign with now.
    pub(super) async fn get(&self) -> StoreResult<Credentials> {
        if let CredentialSource::Fixed(credentials) = &self.source {
            return Ok(credentials.clone());
        }
        // Held while fetching: who comes meanwhile waits for the same answer.
        let mut cached = self.cached.lock().await;
        let now = self.world.clock.unix_ms();
        if let Some(cached) = cached.as_ref().filter(|cached| now < cached.refresh_at) {
            return Ok(cached.credentials.clone());
        }
        match sources::find(&self.world).await {
            Ok(credentials) => {
                let refresh_at = self.refresh_at(&credentials);
                *cached = Some(Cached { credentials: credentials.clone(), refresh_at });
                Ok(credentials)
            }
            Err(error) => match cached.as_mut() {
                Some(old) if old.credentials.ends_at.is_none_or(|end| now < end) => {
                    old.refresh_at = now + RETRY_AFTER_FAILURE.as_millis() as u64;
                    Ok(old.credentials.clone())
                }
                _ => {
                    let kind = StoreErrorKind::PermissionDenied;
                    Err(StoreError::listing(kind).with_source(error))
                }
            },
        }
    }

    /// Forgets credentials that the server says have ended. Returns false if there are no others
    /// to be had.
    pub(super) async fn expired(&self, used: &Credentials) -> bool {
        if matches!(self.source, CredentialSource::Fixed(_)) {
            return false;
        }
        let mut cached = self.cached.lock().await;
        if cached.as_ref().is_some_and(|cached| cached.credentials == *used) {
            *cached = None;
        }
        true
    }

    fn refresh_at(&self, credentials: &Credentials) -> u64 {
        let Some(end) = credentials.ends_at else { return u64::MAX };
        let jitter = self.world.random.next_u64() % REFRESH_JITTER.as_millis() as u64;
        end.saturating_sub(REFRESH_BEFORE.as_millis() as u64 + jitter)
    }
}
