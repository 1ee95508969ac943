//! The sweep: objects that no manifest names and that nobody will come to name.
//!
//! # Why it cannot meet what is needed
//! An object is only ever named by the session that uploaded it, whose epoch is in its key, and by
//! states that follow from one that names it. So an object of an epoch before this session's that
//! the current manifest does not name is never named again. The grace is for readers that opened
//! an older state; it is measured by the store's own clock, and a store without one deletes nothing.

#![deny(clippy::indexing_slicing)]

use super::{error::BucketError, keys, session::Session};
use akidb_tiering::ListedObject;
use akidb_vfs::planted;
use std::{collections::BTreeSet, time::Duration};

/// How old an orphan is before it goes, unless told otherwise.
pub(crate) const GRACE_DEFAULT: Duration = Duration::from_secs(7 * 24 * 3600);
/// The least that can be asked for.
pub(super) const GRACE_FLOOR: Duration = Duration::from_secs(24 * 3600);
const PAGE: usize = 1_000;

/// What a sweep found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct SweepReport {
    /// Objects of this database in the bucket.
    pub(crate) listed: u64,
    /// Orphans that are gone now.
    pub(crate) deleted: Vec<String>,
    /// Orphans that are too young, or whose deletion failed.
    pub(crate) left: u64,
    /// True if the store tells no ages, so that nothing was deleted.
    pub(crate) without_ages: bool,
}

impl Session {
    /// Deletes the objects that writers before this session left behind, if they are at least
    /// `grace` old (24 h at least).
    ///
    /// # Errors
    /// Fenced, a failed call. What is gone is gone; the sweep can be repeated.
    pub(crate) async fn sweep(&mut self, grace: Duration) -> Result<SweepReport, BucketError> {
        self.check_not_fenced()?;
        let mut report = SweepReport::default();
        if !self.may_delete() {
            return Ok(report);
        }
        let grace = grace.max(GRACE_FLOOR);
        let prefix = keys::prefix(self.state().database);
        let named = self.state().contents.named();
        let mut after = None;
        loop {
            let page = self.root.store.list(&prefix, after.as_ref(), PAGE).await?;
            report.listed += page.objects.len() as u64;
            let orphans: Vec<_> =
                page.objects.into_iter().filter(|found| self.is_orphan(found, &named)).collect();
            report.without_ages |= orphans.iter().any(|object| object.age.is_none());
            let old = orphans.iter().filter(|object| object.age.is_some_and(|age| age >= grace));
            let old: Vec<String> = old.map(|object| object.key.as_str().to_owned()).collect();
            report.left += orphans.len() as u64;
            if !old.is_empty() {
                // Before every page: the listing may have taken long, and somebody taken over.
                self.confirm().await?;
                let gone = self.delete(old).await?;
                report.left -= gone.len() as u64;
                report.deleted.extend(gone);
            }
            after = page.next;
            if after.is_none() {
                return Ok(report);
            }
        }
    }

    fn is_orphan(&self, object: &ListedObject, named: &BTreeSet<String>) -> bool {
        let state = self.state();
        let key = object.key.as_str();
        let older = keys::epoch_of(state.database, key)
            .is_some_and(|epoch| epoch < state.version.epoch || planted("bucket.own-epoch-swept"));
        older && !named.contains(key) && !state.contents.garbage.contains(key)
    }
}
