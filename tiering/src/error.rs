//! The one error of object stores. It answers the two questions a caller has: what to do
//! ([`StoreErrorKind`]), and whether the call may have happened all the same ([`Outcome`]).
//!
//! An unknown outcome is not a failure: a caller that deletes data because a commit *seemed* to
//! fail destroys what the commit has just published. So every error of a changing call says which
//! of the two it is, and stores report `NotDone` only where they know.

use crate::ObjectKey;
use std::{error::Error, fmt, time::Duration};

/// Whether a failed call changed anything. (A call that returned `Ok` was done.)
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// The store is as it was before the call.
    NotDone,
    /// The change may have happened, or may still: read back before acting on it.
    Unknown,
}

/// What went wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum StoreErrorKind {
    /// There is no such object.
    NotFound,
    /// The condition of a put does not hold: somebody else was first.
    PreconditionFailed,
    /// The object's bytes are not those that were put: restore it from a copy.
    Corrupt,
    /// A range does not lie within the object.
    InvalidRange,
    /// The store cannot hold this key or carry out this option: use another one.
    Unsupported,
    /// The store is full: free space and retry.
    NoSpace,
    /// The store refuses access: fix permissions or credentials.
    PermissionDenied,
    /// The store did not answer, or failed for now: retry.
    Unavailable,
    /// The store asks for fewer requests: wait, for [`StoreError::retry_after`] if it is told, and
    /// send fewer at a time.
    Throttled,
    /// Another call on the same object got in the way, and perhaps neither won: read the object
    /// again, then retry.
    Conflict,
    /// No call can succeed as the store is set up: wrong bucket, region, endpoint, clock or the
    /// like. Fix the settings; retrying is of no use.
    Misconfigured,
    /// The upload in parts has ended, or never was.
    NoSuchUpload,
    /// A part is missing, is another one than named, or has a length that the store refuses.
    InvalidPart,
}

impl StoreErrorKind {
    /// True if the same call may succeed later without anybody changing anything. All other
    /// failures come back as often as they are retried.
    pub const fn is_transient(self) -> bool {
        matches!(self, Self::Unavailable | Self::Throttled | Self::Conflict)
    }

    const fn advice(self) -> &'static str {
        match self {
            Self::NotFound => "there is no such object",
            Self::PreconditionFailed => "the put's condition does not hold, read the object again",
            Self::Corrupt => "the object is damaged, restore it from a copy",
            Self::InvalidRange => "the range does not lie within the object",
            Self::Unsupported => "the store cannot do this for this key",
            Self::NoSpace => "the store is full, free some space and retry",
            Self::PermissionDenied => "the store refuses access, fix its permissions",
            Self::Unavailable => "the store failed for now, retry",
            Self::Throttled => "the store asks for fewer requests, wait and retry",
            Self::Conflict => "another call was under way, read the object again and retry",
            Self::Misconfigured => "the store's settings are wrong, fix them",
            Self::NoSuchUpload => "the upload in parts has ended or never was",
            Self::InvalidPart => "a part is missing, another one than named, or of a bad length",
        }
    }
}

/// A failed call on an object store.
#[derive(Debug)]
#[non_exhaustive]
pub struct StoreError {
    /// What went wrong.
    pub kind: StoreErrorKind,
    /// Whether the call may have happened all the same.
    pub outcome: Outcome,
    /// The object it was about; `None` for a listing and for the store as a whole.
    pub key: Option<ObjectKey>,
    /// How long the store asks to wait before the next try, as it said it.
    pub retry_after: Option<Duration>,
    /// What the layer below said.
    pub source: Option<Box<dyn Error + Send + Sync>>,
}

impl StoreError {
    /// A failure that changed nothing.
    pub fn not_done(kind: StoreErrorKind, key: &ObjectKey) -> Self {
        Self { key: Some(key.clone()), ..Self::listing(kind) }
    }

    /// A failure after which the change may or may not be there.
    pub fn unknown(kind: StoreErrorKind, key: &ObjectKey) -> Self {
        Self { outcome: Outcome::Unknown, ..Self::not_done(kind, key) }
    }

    /// A failed listing or opening, which has no key and changes nothing.
    pub fn listing(kind: StoreErrorKind) -> Self {
        Self { kind, outcome: Outcome::NotDone, key: None, retry_after: None, source: None }
    }

    /// The same failure, with the wait that the store asked for.
    #[must_use]
    pub fn with_retry_after(mut self, wait: Option<Duration>) -> Self {
        self.retry_after = wait;
        self
    }

    /// The same failure, with what the layer below said.
    #[must_use]
    pub fn with_source(mut self, source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.key {
            Some(key) => write!(f, "object {key}: {}", self.kind.advice())?,
            None => write!(f, "object store: {}", self.kind.advice())?,
        }
        if self.outcome == Outcome::Unknown {
            f.write_str(" (the change may have happened: read it back first)")?;
        }
        match &self.source {
            Some(source) => write!(f, ": {source}"),
            None => Ok(()),
        }
    }
}

impl Error for StoreError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.source.as_deref().map(|source| source as &(dyn Error + 'static))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_message_names_the_object_the_advice_and_the_doubt() {
        let key = ObjectKey::new("c/1").unwrap();
        let error = StoreError::unknown(StoreErrorKind::NoSpace, &key).with_source("quota of 5 MB");
        let text = error.to_string();
        for part in ["c/1", "free some space", "may have happened", "quota of 5 MB"] {
            assert!(text.contains(part), "{part} is missing in {text}");
        }
        assert!(Error::source(&error).is_some());
        let plain = StoreError::not_done(StoreErrorKind::NotFound, &key).to_string();
        assert!(!plain.contains("may have happened"), "{plain}");
    }
}
