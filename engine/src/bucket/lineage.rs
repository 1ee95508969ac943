//! How a directory knows that the manifest in the bucket is its own: the nonces it wrote under,
//! kept in the local manifest.
//!
//! Owns the judgement of an open. The trap it is built against: a process dies, and a put of its
//! is still under way. So every nonce that may yet appear in the bucket is kept until it cannot.

#![deny(clippy::indexing_slicing)]

use super::{
    error::BucketError,
    root::{Found, Root},
    state::{Nonce, Version},
};
use akidb_vfs::planted;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// What a directory knows of its own writing to the bucket.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Lineage {
    /// The state of the bucket that the directory holds; none before the first opening.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    held: Option<Held>,
    /// Openings since, of which none is known to have succeeded.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    taking: Vec<Taking>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Held {
    writer: Nonce,
    commit: u64,
    /// Part of what was held: a writer whose put was in doubt may replace it by another of the same
    /// number, which is not what the directory holds.
    attempt: u32,
    /// True if it was read from the bucket, so that no later commit of `writer` is this
    /// directory's. Otherwise one may be: it is recorded after it was made.
    adopted: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Taking {
    writer: Nonce,
    /// The one commit that the opening makes before it is recorded.
    commit: u64,
}

impl Held {
    fn of(version: Version, adopted: bool) -> Self {
        let Version { writer, commit, attempt, .. } = version;
        Self { writer, commit, attempt, adopted }
    }

    fn is(&self, version: Version) -> bool {
        *self == Self::of(version, self.adopted)
    }
}

impl Lineage {
    /// Of a directory that is made from a state of the bucket.
    pub(super) fn adopting(version: Version) -> Self {
        Self { held: Some(Held::of(version, true)), taking: Vec::new() }
    }

    /// Of a directory whose own commit this is.
    pub(super) fn holding(version: Version) -> Self {
        Self { held: Some(Held::of(version, false)), taking: Vec::new() }
    }

    /// True if this was made from that commit.
    pub(super) fn records(&self, version: Version) -> bool {
        self.held.is_some_and(|held| held.is(version))
    }

    /// Fails unless what is in the bucket was written by this directory, or there is nothing and
    /// never was. Changes nothing.
    pub(super) fn judge(
        &self,
        root: &Root,
        database: Uuid,
        found: Option<&Found>,
    ) -> Result<(), BucketError> {
        let Some(found) = found else {
            return if self.held.is_none() { Ok(()) } else { Err(root.gone()) };
        };
        if found.state.database != database {
            let (file, database) = (root.file(), found.state.database);
            return Err(BucketError::Foreign { file, database });
        }
        if self.is_ours(found.state.version) || planted("bucket.writer-uncompared") {
            return Ok(());
        }
        Err(root.fenced(&found.state))
    }

    fn is_ours(&self, version: Version) -> bool {
        let Version { writer, commit, .. } = version;
        let held = self.held.is_some_and(|held| {
            let next = held.commit.checked_add(1) == Some(commit) && !held.adopted;
            held.is(version) || (held.writer == writer && next)
        });
        held || self.taking.contains(&Taking { writer, commit })
    }

    /// True if the bucket is ahead by a commit of this directory that it did not record: then the
    /// directory may still name what that commit gave up.
    pub(super) fn is_behind(&self, version: Version) -> bool {
        !self.records(version)
    }

    /// The lineage of a directory that is about to open by this commit, on top of what was found
    /// and judged to be its own; to be made durable before. What the directory holds stays what it
    /// was, however often an opening fails.
    pub(super) fn preparing(&self, found: Option<&Found>, next: Version) -> Self {
        let mut taking = self.taking.clone();
        // The numbers only grow: of those behind, no put can arrive any more.
        let now = found.map_or(0, |found| found.state.version.commit);
        taking.retain(|earlier| earlier.commit >= now);
        taking.push(Taking { writer: next.writer, commit: next.commit });
        Self { held: self.held, taking }
    }
}
