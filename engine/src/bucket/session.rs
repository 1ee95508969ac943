//! A root that is open for writing: commits, and the deletion of what they gave up.
//!
//! # Protocol
//! `commit` -> the caller makes the lineage durable, in the same edit as what the commit was about
//! -> `recorded` -> `delete_garbage` -> the caller takes what was deleted off its own list.
//!
//! # After a failure
//! [`CommitFailure::maybe_committed`] decides about the objects that the commit was to name. If it
//! is true they stay, whatever else happens: the put may still arrive, or another writer may have
//! taken over from it. The next commit that succeeds settles it: it names them, or they are its
//! garbage and must not be named again. A fenced session leaves them to the sweep of its successor.

#![deny(clippy::indexing_slicing)]

use super::{
    error::BucketError,
    lineage::Lineage,
    root::{Found, Root},
    state::{BucketState, Contents, Version},
    swap::{SwapFailure, Swapped, swap},
};
use akidb_tiering::{ETag, ObjectKey, PutId};
use akidb_vfs::{Random, planted};
use std::{collections::BTreeSet, sync::Arc};

/// How often a commit begins again because an earlier attempt of this session has arrived.
const TRIES: usize = 4;

/// A root that is open for writing.
#[derive(Debug)]
pub(crate) struct Session {
    pub(super) root: Root,
    random: Arc<dyn Random>,
    /// The last commit that is known to have happened, and its tag or that of a later attempt.
    committed: BucketState,
    etag: ETag,
    /// The local manifest has the lineage of `committed`.
    recorded: bool,
    attempt: u32,
    /// What attempts name that may arrive yet, or have.
    in_doubt: BTreeSet<String>,
    /// Deleted, and still on some list of garbage.
    deleted: BTreeSet<String>,
    fenced: Option<(u64, String)>,
}

/// A commit that did not happen, or may have.
#[derive(Debug)]
pub(crate) struct CommitFailure {
    pub(crate) error: BucketError,
    /// True if the objects that only this commit was to name must stay (F4).
    pub(crate) maybe_committed: bool,
}

impl Session {
    pub(super) fn new(
        root: Root,
        random: Arc<dyn Random>,
        committed: BucketState,
        etag: ETag,
    ) -> Self {
        Self {
            root,
            random,
            committed,
            etag,
            recorded: false,
            attempt: 0,
            in_doubt: BTreeSet::new(),
            deleted: BTreeSet::new(),
            fenced: None,
        }
    }

    /// The last state that this session committed.
    pub(crate) fn state(&self) -> &BucketState {
        &self.committed
    }

    /// The lineage of the last commit, to be made durable by the caller.
    pub(crate) fn lineage(&self) -> Lineage {
        Lineage::holding(self.committed.version)
    }

    /// False while the caller still has to make the lineage of the last commit durable.
    pub(crate) fn is_recorded(&self) -> bool {
        self.recorded
    }

    /// The caller has made this lineage durable.
    pub(crate) fn recorded(&mut self, lineage: &Lineage) {
        self.recorded |= lineage.records(self.committed.version);
    }

    /// True where a second writer is always found out; false where that is best effort.
    pub(crate) fn is_fenced_safely(&self) -> bool {
        self.root.fences_safely()
    }

    #[cfg(any(test, feature = "testing"))]
    /// A key for rows of a collection, never used before.
    pub(crate) fn cold_key(&self, collection: u32) -> Result<ObjectKey, BucketError> {
        let BucketState { database, version, .. } = &self.committed;
        Ok(super::cold_key(*database, version.epoch, collection, self.random.next_u128())?)
    }

    #[cfg(any(test, feature = "testing"))]
    /// A key for a snapshot, never used before.
    pub(crate) fn snapshot_key(&self) -> Result<ObjectKey, BucketError> {
        let BucketState { database, version, .. } = &self.committed;
        Ok(super::snapshot_key(*database, version.epoch, self.random.next_u128())?)
    }

    /// Fails if another writer took over.
    pub(crate) fn check_not_fenced(&self) -> Result<(), BucketError> {
        let Some((epoch, holder)) = &self.fenced else { return Ok(()) };
        let (epoch, holder) = (*epoch, holder.clone());
        Err(BucketError::Fenced { file: self.root.file(), epoch, holder })
    }

    /// Makes `contents` the state of the bucket. Every object they name is there and verified.
    /// What they no longer name becomes garbage by itself. The lineage that is returned is to be
    /// made durable and reported with [`Session::recorded`] before the next commit.
    pub(crate) async fn commit(&mut self, contents: Contents) -> Result<Lineage, CommitFailure> {
        let unchanged = |error| CommitFailure { error, maybe_committed: false };
        self.check_not_fenced().map_err(unchanged)?;
        self.check_commit(&contents).map_err(unchanged)?;
        let named = contents.named();
        if planted("bucket.dropped-deleted-first") {
            let dropped: Vec<String> =
                self.committed.contents.named().difference(&named).cloned().collect();
            drop(self.delete(dropped).await);
        }
        for _ in 0..TRIES {
            let next = self.next_state(&contents, &named).map_err(unchanged)?;
            let put_id = PutId::new(self.random.next_u128());
            match swap(&self.root, &next, Some(&self.etag), put_id).await {
                Ok(Swapped::Done(etag)) => {
                    self.done(next, etag, &contents);
                    return Ok(self.lineage());
                }
                Ok(Swapped::Lost(found)) => self.lost(found)?,
                Err(SwapFailure { error, in_doubt }) => {
                    if in_doubt {
                        self.in_doubt.extend(named.iter().cloned());
                    }
                    return Err(self.failed(error, &named));
                }
            }
        }
        Err(self.failed(BucketError::Raced { file: self.root.file() }, &named))
    }

    fn check_commit(&self, contents: &Contents) -> Result<(), BucketError> {
        if !self.recorded {
            return Err(BucketError::Bug("a commit to the bucket before the last was recorded"));
        }
        let garbage = &self.committed.contents.garbage;
        if contents.objects().any(|object| garbage.contains(&object.key)) {
            return Err(BucketError::Bug("a commit to the bucket names garbage"));
        }
        Ok(())
    }

    fn next_state(
        &mut self,
        contents: &Contents,
        named: &BTreeSet<String>,
    ) -> Result<BucketState, BucketError> {
        let ran_out = || BucketError::Bug("numbers ran out");
        self.attempt = self.attempt.checked_add(1).ok_or_else(ran_out)?;
        let Version { epoch, writer, commit, .. } = self.committed.version;
        let commit = commit.checked_add(1).ok_or_else(ran_out)?;
        let before = &self.committed.contents;
        let mut contents = contents.clone();
        contents.garbage.extend(before.garbage.iter().cloned());
        contents.garbage.extend(before.named());
        contents.garbage.extend(self.in_doubt.iter().cloned());
        contents.garbage.retain(|key| !named.contains(key) && !self.deleted.contains(key));
        let version = Version { epoch, writer, commit, attempt: self.attempt };
        Ok(BucketState { version, contents, ..self.committed.clone() })
    }

    fn done(&mut self, next: BucketState, etag: ETag, asked: &Contents) {
        self.committed = next;
        self.etag = etag;
        self.recorded = false;
        self.attempt = 0;
        self.in_doubt.clear();
        // Off our list now; the caller may keep it on its own a while longer.
        self.deleted.retain(|key| asked.garbage.contains(key));
    }

    /// Somebody else's state, which ends this session, or an earlier attempt of its own, which the
    /// next attempt replaces.
    fn lost(&mut self, found: Option<Box<Found>>) -> Result<(), CommitFailure> {
        let certain = |error| CommitFailure { error, maybe_committed: true };
        let Some(found) = found else { return Err(certain(self.root.gone())) };
        let Found { state, etag } = *found;
        let (ours, theirs) = (self.committed.version, state.version);
        let late = theirs.commit.checked_sub(1) == Some(ours.commit);
        if theirs.writer != ours.writer || !(theirs == ours || late) {
            return Err(certain(self.fence(&state)));
        }
        self.in_doubt.extend(state.contents.named());
        self.etag = etag;
        Ok(())
    }

    fn fence(&mut self, by: &BucketState) -> BucketError {
        self.fenced = Some((by.version.epoch, by.holder.clone()));
        self.root.fenced(by)
    }

    fn failed(&self, error: BucketError, named: &BTreeSet<String>) -> CommitFailure {
        let before = self.committed.contents.named();
        let mut doubtful = self.in_doubt.difference(&before);
        let maybe_committed = doubtful.any(|key| named.contains(key));
        CommitFailure {
            error,
            maybe_committed: maybe_committed && !planted("bucket.unknown-is-lost"),
        }
    }

    /// Deletes what the last commit lists as garbage, after another look. Returns the keys that are
    /// gone, to be taken off the caller's list. Does nothing while an outcome is in doubt or the
    /// last commit is not recorded: the directory may come to need what it gave up.
    pub(crate) async fn delete_garbage(&mut self) -> Result<Vec<String>, BucketError> {
        self.check_not_fenced()?;
        let garbage: Vec<String> =
            self.committed.contents.garbage.difference(&self.deleted).cloned().collect();
        if garbage.is_empty() || !self.may_delete() {
            return Ok(Vec::new());
        }
        self.confirm().await?;
        let gone = self.delete(garbage).await?;
        self.deleted.extend(gone.iter().cloned());
        Ok(gone)
    }

    pub(super) fn may_delete(&self) -> bool {
        let settled = self.recorded && self.in_doubt.is_empty();
        settled || planted("bucket.garbage-unrecorded")
    }

    /// Looks whether the bucket still says what this session committed last.
    pub(crate) async fn confirm(&mut self) -> Result<(), BucketError> {
        self.check_not_fenced()?;
        match self.root.look().await? {
            Some(found) if found.state.version == self.committed.version => Ok(()),
            Some(found) if found.state.version.writer == self.committed.version.writer => {
                Err(BucketError::Raced { file: self.root.file() })
            }
            Some(found) => Err(self.fence(&found.state)),
            None => Err(self.root.gone()),
        }
    }

    /// Deletes these objects, all of them unneeded. Returns the keys that are gone.
    pub(super) async fn delete(&self, keys: Vec<String>) -> Result<Vec<String>, BucketError> {
        let parsed: Vec<ObjectKey> =
            keys.into_iter().map(ObjectKey::new).collect::<Result<_, _>>()?;
        let results = self.root.store.delete_many(&parsed).await;
        let gone = parsed.into_iter().zip(results).filter(|(_, result)| result.is_ok());
        Ok(gone.map(|(key, _)| key.as_str().to_owned()).collect())
    }
}
