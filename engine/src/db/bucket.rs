//! The database and its bucket: who may write there, what is told to it before the local manifest
//! says the same, and what is deleted from it.
//!
//! Owns the one [`Session`] of this process. Never moves rows and never decides what a change is: a
//! demotion and a snapshot do, by [`DbCore::name_objects`]. What gives objects up
//! (a promotion, a drop) is local first, and [`DbCore::collect_garbage`] tells the bucket before it
//! deletes: so both work while the store is down, and a bucket that is restored from before it was told
//! has the object still. A database whose objects lie in its own directory has no bucket: sharing is
//! then nothing.
//!
//! # Invariants
//! - The bucket names an object before the local manifest does, and gives one up after it, before the
//!   object is deleted.
//! - What was shared and not recorded, because the local edit failed or was refused, is recorded and
//!   undone by the next change, or when garbage is collected.
//! - Once another writer is seen, this database is poisoned: no write is acknowledged any more.
//! - The lock of the session comes after `moves` and `creating` and before `flushing` and `structure`.

use super::{
    DbCore,
    sharing::{Group, Sharing, Turn},
};
use crate::{
    bucket::{
        self, BucketError, Contents, GRACE_DEFAULT, Lineage, Opening, Root, Session, Version,
        open_writer,
    },
    error::{Cause, Error, ErrorKind, Result},
    manifest::Edit,
};
use akidb_tiering::{BatchSettings, ObjectKey};
use parking_lot::Mutex;
use serde::Serialize;
use std::sync::atomic::{AtomicU64, Ordering};

/// Where the objects of a database go.
#[derive(Debug)]
pub(super) struct Shipping {
    /// Whether a store was given: else objects lie in the directory.
    ships: bool,
    /// Whether there is a bucket that is ours to write.
    shared: bool,
    session: Mutex<Remote>,
    group: Group,
    /// That of the session; 0 before there is one.
    epoch: AtomicU64,
    /// The state of the bucket that this open made the directory from.
    restored_at: Option<Version>,
}

impl Shipping {
    pub(super) fn new(ships: bool, read_only: bool, restored_at: Option<Version>) -> Self {
        let shared = ships && !read_only;
        let session = Mutex::new(if shared { Remote::Waiting } else { Remote::None });
        let (group, epoch) = (Group::default(), AtomicU64::new(0));
        Self { ships, shared, session, group, epoch, restored_at }
    }
}

/// The bucket of a database.
#[derive(Debug)]
enum Remote {
    /// Objects lie in the directory, or the database is only read.
    None,
    /// It could not be reached yet: local work goes on, moves are refused.
    Waiting,
    /// Ours to write.
    Open(Box<Session>),
}

/// A change that was not shared, or maybe.
#[derive(Clone, Debug)]
pub(super) struct NotShared {
    error: Error,
    /// True if objects that only this change named may be deleted.
    objects_may_go: bool,
}

/// The bucket as `stats` shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct BucketStats {
    /// How often the bucket was opened for writing, this time included; 0 while it could not be reached.
    pub epoch: u64,
    /// Changes of the bucket's manifest, over all openings.
    pub commits: u64,
    /// Whether a second writer is always found out. Where conditional puts do not hold, that is best
    /// effort: open it by one machine at a time.
    pub fenced_safely: bool,
}

impl From<Error> for NotShared {
    fn from(error: Error) -> Self {
        Self { error, objects_may_go: true }
    }
}

impl DbCore {
    /// When collections share an object. One alone is a file of the directory that other tools can read:
    /// there, sharing would save nothing.
    pub(crate) fn packs(&self) -> BatchSettings {
        let packs = self.shared.settings.tiers.packs;
        BatchSettings { enabled: packs.enabled && self.bucket.ships, ..packs }
    }

    /// True if demoting frees disk: the objects are not in the directory itself.
    pub(crate) fn ships(&self) -> bool {
        self.bucket.ships
    }

    /// Takes the bucket at an open. If it cannot be reached, that is tried again by the worker; if its
    /// manifest is damaged, what is local is not: moves are refused, and say so.
    pub(super) fn open_bucket(&self) -> Result<()> {
        let mut slot = self.bucket.session.lock();
        match self.claimed(&mut slot).map(drop) {
            Err(error)
                if matches!(error.kind(), ErrorKind::Unavailable | ErrorKind::Corruption) =>
            {
                self.background.note(error);
                Ok(())
            }
            Err(error) => Err(match error.cause() {
                // Nobody has a database yet that could be poisoned.
                Cause::Poisoned(why) => why.clone(),
                _ => error,
            }),
            Ok(()) => Ok(()),
        }
    }

    /// The session, which is opened if that was not possible before; `None` without a bucket.
    fn claimed<'a>(&self, slot: &'a mut Remote) -> Result<Option<&'a mut Session>> {
        if matches!(slot, Remote::Waiting) {
            let opening = self.with_manifest(|manifest| Opening {
                root: Root::new(self.store.clone(), ""),
                random: self.random.clone(),
                database: manifest.state().database,
                holder: format!("process {} in {}", std::process::id(), self.paths.root.display()),
                lineage: manifest.state().lineage.clone(),
                contents: Contents::of(manifest.state()),
            });
            let mut record = |lineage: &Lineage| self.record(lineage.clone());
            let opened = self.block_on(open_writer(opening, &mut record));
            let session = opened.map_err(|error| self.if_fenced(error))?;
            self.bucket.epoch.store(session.state().version.epoch, Ordering::Relaxed);
            *slot = Remote::Open(Box::new(session));
        }
        Ok(match slot {
            Remote::Open(session) => Some(session),
            Remote::None | Remote::Waiting => None,
        })
    }

    /// Poisons a database whose bucket another writer has.
    fn if_fenced(&self, error: Error) -> Error {
        match error.cause() {
            Cause::Fenced { .. } => self.shared.poison(error),
            _ => error,
        }
    }

    fn failed(&self, error: BucketError) -> Error {
        self.if_fenced(Cause::from(error).into())
    }

    fn record(&self, lineage: Lineage) -> Result<()> {
        self.commit_manifest(Edit { lineage: Some(lineage), ..self.edit(None) })
    }

    /// Waits for what was shared and is about to be recorded, and records what nobody will, so that
    /// another commit can follow.
    fn record_pending(&self, session: &mut Session) -> Result<()> {
        let lineage = session.lineage();
        if self.bucket.group.quiet() {
            session.recorded(&lineage);
        }
        if session.is_recorded() {
            return Ok(());
        }
        self.record(lineage.clone())?;
        session.recorded(&lineage);
        Ok(())
    }

    /// Names objects: `change` in the bucket, if there is one, then `record` in the local manifest, with the
    /// lineage that it is given. `keys` are those that nothing names yet: they go if they cannot be named.
    ///
    /// # Errors
    /// Not shared, or what `record` returned; nothing names the objects then, or will in the end.
    pub(crate) fn name_objects<T>(
        &self,
        keys: &[String],
        change: impl FnOnce(&mut Contents) + Send + 'static,
        record: impl FnOnce(Option<Lineage>) -> Result<T>,
    ) -> Result<T> {
        let discard = || keys.iter().for_each(|key| self.discard_object(key));
        let sharing = self.share(change).map_err(|NotShared { error, objects_may_go }| {
            if objects_may_go {
                discard();
            }
            error
        })?;
        let lineage = sharing.lineage();
        let in_bucket = lineage.is_some();
        match record(lineage) {
            Ok(done) => {
                sharing.recorded();
                Ok(done)
            }
            Err(error) => {
                drop(sharing);
                // What the bucket names goes when the bucket has given it up.
                if in_bucket {
                    self.collect_garbage();
                } else {
                    discard();
                }
                Err(error)
            }
        }
    }

    /// Makes the bucket say what the local manifest says, with this change, which the caller then makes
    /// there too. Changes that come at once are one commit.
    fn share(
        &self,
        change: impl FnOnce(&mut Contents) + Send + 'static,
    ) -> Result<Sharing<'_>, NotShared> {
        if !self.bucket.shared {
            return Ok(Sharing::nothing());
        }
        let group = &self.bucket.group;
        let slot = group.submit(Box::new(change));
        let answer = match group.answer_or_lead(&slot) {
            Turn::Answered(answer) => answer,
            Turn::Leads(lead) => {
                self.commit_waiting(&mut self.bucket.session.lock());
                drop(lead);
                slot.take().ok_or_else(|| Error::bug("a change was not answered"))?
            }
        };
        answer.map(|lineage| Sharing::of(group, lineage))
    }

    /// Commits every change that waits, and answers all of them.
    fn commit_waiting(&self, remote: &mut Remote) {
        let group = &self.bucket.group;
        let ready = self.claimed(remote).and_then(|session| {
            let session =
                session.ok_or_else(|| Error::bug("a database without a bucket shares"))?;
            self.record_pending(session)?;
            Ok(session)
        });
        let (changes, slots): (Vec<_>, Vec<_>) = group.take().into_iter().unzip();
        let answer = ready.map_err(NotShared::from).and_then(|session| {
            let mut contents = self.with_manifest(|manifest| Contents::of(manifest.state()));
            changes.into_iter().for_each(|change| change(&mut contents));
            self.block_on(session.commit(contents)).map_err(|failure| {
                let objects_may_go = !failure.maybe_committed;
                NotShared { error: self.failed(failure.error), objects_may_go }
            })
        });
        group.answer(slots, &answer);
    }

    /// Records and undoes what was shared and did not come about, and tells the bucket what changed without
    /// it: garbage, new collections, schemas, pins.
    fn settle(&self, session: &mut Session) -> Result<()> {
        self.record_pending(session)?;
        let contents = self.with_manifest(|manifest| Contents::of(manifest.state()));
        if !contents.is_news_to(&session.state().contents) {
            return Ok(());
        }
        let committed = self.block_on(session.commit(contents));
        let lineage = committed.map_err(|failure| self.failed(failure.error))?;
        self.record(lineage.clone())?;
        session.recorded(&lineage);
        Ok(())
    }

    /// Looks whether the bucket is still ours, settles what is open, and sweeps what earlier writers
    /// left if `sweep` says so. Called by the worker.
    pub(crate) fn tend_bucket(&self, sweep: bool) -> Result<()> {
        let mut slot = self.bucket.session.lock();
        let Some(session) = self.claimed(&mut slot)? else { return Ok(()) };
        self.settle(session)?;
        self.block_on(session.confirm()).map_err(|error| self.failed(error))?;
        if sweep {
            let swept = self.block_on(session.sweep(GRACE_DEFAULT));
            swept.map_err(|error| self.failed(error))?;
        }
        Ok(())
    }

    /// Deletes the objects that nothing names any more; returns those that are gone.
    pub(super) fn delete_garbage(&self) -> Result<Vec<String>> {
        let mut slot = self.bucket.session.lock();
        match &mut *slot {
            Remote::None => Ok(self.delete_own_garbage()),
            Remote::Waiting => Ok(Vec::new()),
            Remote::Open(session) => {
                self.settle(session)?;
                self.block_on(session.delete_garbage()).map_err(|error| self.failed(error))
            }
        }
    }

    fn delete_own_garbage(&self) -> Vec<String> {
        let garbage: Vec<_> =
            self.with_manifest(|manifest| manifest.state().garbage.iter().cloned().collect());
        let mut gone = Vec::new();
        for key in garbage {
            let deleted = self
                .parse_key(&key)
                .and_then(|key| self.block_on(self.store.delete(&key)).map_err(Error::from));
            match deleted {
                Ok(()) => gone.push(key),
                Err(error) => self.background.note(error),
            }
        }
        gone
    }

    /// Deletes objects that the manifest lists as garbage, then forgets them.
    pub(crate) fn collect_garbage(&self) {
        // A read of a cold collection comes here too, and an object store has no overlay.
        if self.check_may_write().is_err() {
            return;
        }
        let done = self.delete_garbage().and_then(|removed| {
            if removed.is_empty() {
                return Ok(());
            }
            let next_file = self.next_file.load(Ordering::Relaxed);
            self.commit_manifest(Edit { remove_garbage: removed, next_file, ..Edit::default() })
        });
        if let Err(error) = done {
            self.background.note(error);
        }
    }

    /// A key for rows of a collection, never used before.
    pub(crate) fn cold_key(&self, collection: u32) -> Result<ObjectKey> {
        let random = self.random.next_u128();
        match self.epoch()? {
            0 => self.object_key(&format!("c{collection}/{random:032x}.parquet")),
            epoch => Ok(bucket::cold_key(self.database(), epoch, collection, random)?),
        }
    }

    /// A key for the files of several collections, never used before.
    pub(crate) fn pack_key(&self) -> Result<ObjectKey> {
        let random = self.random.next_u128();
        match self.epoch()? {
            0 => self.object_key(&format!("packs/{random:032x}.pack")),
            epoch => Ok(bucket::pack_key(self.database(), epoch, random)?),
        }
    }

    /// A key for a snapshot, never used before.
    pub(crate) fn snapshot_key(&self) -> Result<ObjectKey> {
        let random = self.random.next_u128();
        match self.epoch()? {
            0 => self.object_key(&format!("snapshots/{random:032x}.parquet")),
            epoch => Ok(bucket::snapshot_key(self.database(), epoch, random)?),
        }
    }

    /// The epoch under which this database writes to its bucket; 0 without one. Asks for the session
    /// only before there is one: afterwards that may be busy for as long as the store takes.
    fn epoch(&self) -> Result<u64> {
        let epoch = || self.bucket.epoch.load(Ordering::Relaxed);
        if self.bucket.shared && epoch() == 0 {
            self.claimed(&mut self.bucket.session.lock())?;
        }
        Ok(epoch())
    }

    /// The bucket, if there is one.
    pub(crate) fn bucket_stats(&self) -> Option<BucketStats> {
        // A move may hold the session for as long as the store takes; statistics do not wait.
        let slot = self.bucket.session.try_lock()?;
        match &*slot {
            Remote::None => None,
            Remote::Waiting => Some(BucketStats { epoch: 0, commits: 0, fenced_safely: false }),
            Remote::Open(session) => {
                let Version { epoch, commit: commits, .. } = session.state().version;
                Some(BucketStats { epoch, commits, fenced_safely: session.is_fenced_safely() })
            }
        }
    }

    /// Whether the bucket says something else by now than when this database was opened from it.
    pub(crate) fn is_outdated(&self) -> Result<bool> {
        let Some(opened) = self.bucket.restored_at else { return Ok(false) };
        let found = self.block_on(Root::new(self.store.clone(), "").look()).map_err(Cause::from)?;
        Ok(found.is_none_or(|found| found.state.version != opened))
    }
}
