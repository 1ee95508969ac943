//! What must hold of a schedule, whoever did what: watches the manifest change by change, and keeps
//! what was acknowledged and what was given up on purpose.

use super::store::TurnStore;
use crate::bucket::{BucketState, MANIFEST_KEY, Version, decode};
use akidb_tiering::{ETag, ObjectKey, ObjectStore};
use parking_lot::Mutex;
use std::collections::{BTreeMap, BTreeSet};

/// What a schedule did, by name.
pub(super) type Tally = BTreeMap<&'static str, u64>;

#[derive(Debug, Default)]
pub(super) struct Witness(Mutex<Seen>);

#[derive(Debug, Default)]
struct Seen {
    /// Every state that the manifest ever had.
    history: Vec<Version>,
    named: BTreeSet<String>,
    etag: Option<ETag>,
    deletes: u64,
    /// Which version was acknowledged under each commit number.
    acknowledged: BTreeMap<u64, Version>,
    /// Objects of acknowledged commits that nobody meant to give up.
    promised: BTreeSet<String>,
    /// How many states there were when somebody last meant to give up an object.
    given_up: BTreeMap<String, usize>,
    tally: Tally,
}

impl Witness {
    pub(super) fn count(&self, what: &'static str, times: u64) {
        *self.0.lock().tally.entry(what).or_default() += times;
    }

    pub(super) fn tally(&self) -> Tally {
        self.0.lock().tally.clone()
    }

    /// The machine is about to give up this object.
    pub(super) fn gives_up(&self, key: &str) {
        let mut seen = self.0.lock();
        let states = seen.history.len();
        seen.promised.remove(key);
        seen.given_up.insert(key.to_owned(), states);
    }

    /// The machine tells its user that this is committed.
    pub(super) fn acknowledged(&self, state: &BucketState) -> Result<(), String> {
        let mut seen = self.0.lock();
        let version = state.version;
        let Some(at) = seen.history.iter().position(|there| *there == version) else {
            return Err(format!("acknowledged, and never in the bucket: {version:?}"));
        };
        if let Some(other) = seen.acknowledged.insert(version.commit, version) {
            return Err(format!("two acknowledgements of one number: {other:?}, {version:?}"));
        }
        // The answer may come late: what was given up since is no promise any more.
        let mut named = state.contents.named();
        named.retain(|key| seen.given_up.get(key).is_none_or(|states| *states <= at));
        seen.promised.extend(named);
        *seen.tally.entry("acknowledged").or_default() += 1;
        Ok(())
    }

    /// Looks at everything after a step, in which at most one call took effect.
    pub(super) fn look(&self, store: &TurnStore) -> Result<(), String> {
        let mut seen = self.0.lock();
        let key = ObjectKey::new(MANIFEST_KEY).map_err(|error| error.to_string())?;
        let Ok(object) = futures_lite::future::block_on(store.still().get(&key)) else {
            return if seen.etag.is_none() { Ok(()) } else { Err("no manifest".to_owned()) };
        };
        let (deletes, etag) = (store.deletes(), Some(object.head.etag));
        if (seen.deletes, &seen.etag) == (deletes, &etag) {
            return Ok(());
        }
        seen.deletes = deletes;
        if seen.etag != etag {
            seen.etag = etag;
            let state = decode(&object.body, MANIFEST_KEY).map_err(|error| error.to_string())?;
            seen.follow(&state)?;
        }
        for key in &seen.named {
            let key = ObjectKey::new(key.as_str()).map_err(|error| error.to_string())?;
            if futures_lite::future::block_on(store.still().head(&key)).is_err() {
                return Err(format!("{key} is named and is not there"));
            }
        }
        Ok(())
    }

    /// Nothing was lost, nothing is left over.
    pub(super) fn close(&self, store: &TurnStore, last: &BucketState) -> Result<(), String> {
        let seen = self.0.lock();
        let named = last.contents.named();
        if let Some(lost) = seen.promised.difference(&named).next() {
            return Err(format!("{lost} was acknowledged and is lost"));
        }
        let all = futures_lite::future::block_on(store.still().list("", None, usize::MAX));
        let there: BTreeSet<String> = all
            .map_err(|error| error.to_string())?
            .objects
            .into_iter()
            .map(|object| object.key.as_str().to_owned())
            .filter(|key| key != MANIFEST_KEY)
            .collect();
        if there != named || !last.contents.garbage.is_empty() {
            return Err(format!("garbage stays: {there:?}, named: {named:?}"));
        }
        Ok(())
    }
}

impl Seen {
    fn follow(&mut self, state: &BucketState) -> Result<(), String> {
        let version = state.version;
        if let Some(before) = self.history.last() {
            let same = before.epoch == version.epoch && before.writer == version.writer;
            let newer = before.epoch < version.epoch && before.commit < version.commit;
            let later = (before.commit, before.attempt) < (version.commit, version.attempt);
            if !(newer || (same && later)) {
                return Err(format!("the manifest goes from {before:?} to {version:?}"));
            }
        }
        let named = state.contents.named();
        let mut dropped = self.named.difference(&named);
        if let Some(lost) = dropped.find(|key| self.promised.contains(*key)) {
            return Err(format!("{lost} was acknowledged, and {version:?} does not name it"));
        }
        self.named = named;
        self.history.push(version);
        Ok(())
    }
}
